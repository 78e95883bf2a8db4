"""`ebbtide score`."""

from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from cli.options import (
    AsOfOption,
    LanguageOption,
    ModelOption,
    OutOption,
    StoreOption,
    UsersOption,
    moment_in,
    progress,
    say,
    user_list,
)
from features.events.store import Store
from models.answers import ChurnAnswer, ChurnQuestion, churn_answers
from models.batch import each_bucket
from models.bundle import open_bundle
from models.churn import load
from training.backtest import show


def score(
    store: StoreOption,
    as_of: AsOfOption,
    out: OutOption,
    model: ModelOption = None,
    users: UsersOption = None,
    horizon: Annotated[
        int | None, typer.Option(help="Days without a purchase that count as leaving; as in training if left out.")
    ] = None,
    reasons: Annotated[int, typer.Option(help="Reasons for each user.", min=0, max=10)] = 3,
    cause: Annotated[bool, typer.Option(help="Also why each user would leave.")] = True,
    language: LanguageOption = "en",
) -> None:
    """Write every user's churn probability.

    Example: ebbtide score --store var/store --as-of 2018-01-01 --out c.parquet
    """
    from training.promotion import bundle_of, resolve
    from training.tracking import CHURN

    opened = Store.open(store)
    version, chosen = resolve(CHURN, model)
    churn = load(open_bundle(bundle_of(version)))
    days = churn.horizon if horizon is None else int(churn.checked(horizon))
    moment = moment_in(opened, as_of, days)
    question = ChurnQuestion(days, reasons, cause, language)
    named = user_list(users)
    answers: list[ChurnAnswer] = []
    with progress() as told:
        for share, timeline in each_bucket(opened, named):
            answers += churn_answers(timeline, moment, churn, question)
            told("scoring", share)
    if named is None:
        answers = [answer for answer in answers if answer.status != "unknown_user"]
    out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(_table(answers), out)
    what = f"{len(answers):,} users as of {show(moment)}, {days} days ahead"
    say(f"wrote {out}: {what}, {version.name}/{version.version} ({chosen})")


def _table(answers: list[ChurnAnswer]) -> pa.Table:
    return pa.table(
        {
            "user_id": pa.array([a.user_id for a in answers], pa.string()),
            "churn_probability": pa.array([a.probability for a in answers], pa.float64()),
            "risk": pa.array([a.risk for a in answers], pa.string()),
            "status": pa.array([a.status for a in answers], pa.string()),
            "expected_days": pa.array([a.expected_days for a in answers], pa.float64()),
            "lateness": pa.array([a.lateness for a in answers], pa.float64()),
            "alarm": pa.array([a.alarm for a in answers], pa.bool_()),
            "cause": pa.array([a.cause.cause if a.cause else None for a in answers], pa.string()),
            "cause_confidence": pa.array([a.cause.confidence if a.cause else None for a in answers], pa.float64()),
            "evidence": pa.array([a.cause.evidence if a.cause else [] for a in answers], pa.list_(pa.string())),
            "reasons": pa.array([[r.text for r in a.reasons] for a in answers], pa.list_(pa.string())),
        }
    )
