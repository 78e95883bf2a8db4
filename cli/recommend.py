"""`ebbtide recommend`."""

from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
import typer
from pydantic import ValidationError

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
from features.errors import UserError
from features.events.store import Store
from models.answers import CatalogueCodes, RecommendAnswer, recommend_answers
from models.batch import each_bucket
from models.bundle import open_bundle
from models.deployed import load_recommender
from models.recommender import MODES, Ask, Filter
from models.recommender.ask import checked_mode
from serving.guard import refusal
from serving.schemas import filter_of_json
from training.backtest import show


def recommend(
    store: StoreOption,
    as_of: AsOfOption,
    out: OutOption,
    k: Annotated[int, typer.Option("-k", help="Items for each user.", min=1, max=1000)] = 20,
    mode: Annotated[str, typer.Option(help=f"One of {', '.join(MODES)}; cross_sell: never bought before.")] = "all",
    scene: Annotated[str | None, typer.Option(help="Where the list is shown: a name of the model's scenes.")] = None,
    filter_file: Annotated[
        Path | None, typer.Option("--filter", help="A JSON file of filters, as the service takes them.")
    ] = None,
    language: LanguageOption = "en",
    model: ModelOption = None,
    users: UsersOption = None,
) -> None:
    """Write every user's recommendations.

    Example: ebbtide recommend --store var/store --as-of 2018-01-01 --mode cross_sell --out r.parquet
    """
    from training.promotion import bundle_of, resolve
    from training.tracking import CROSS_SELL

    if mode not in MODES or mode == "bundle":
        offered = ", ".join(one for one in MODES if one != "bundle")
        raise UserError(f"--mode {mode} is not one for all users; use one of: {offered}")
    ask = Ask(mode=checked_mode(mode), k=k, scene=scene, filter=_filter(filter_file))
    opened = Store.open(store)
    moment = moment_in(opened, as_of)
    version, chosen = resolve(CROSS_SELL, model)
    recommender = load_recommender(open_bundle(bundle_of(version)))
    codes = CatalogueCodes(opened, recommender).of_store
    named = user_list(users)
    answers: list[RecommendAnswer] = []
    with progress() as told:
        for share, timeline in each_bucket(opened, named):
            answers += recommend_answers(timeline, moment, recommender, codes, ask, language)
            told("recommending", share)
    if named is None:
        answers = [answer for answer in answers if answer.status != "unknown_user"]
    out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(_table(answers), out)
    say(f"wrote {out}: {len(answers):,} users as of {show(moment)}, {version.name}/{version.version} ({chosen})")


def _filter(path: Path | None) -> Filter:
    if path is None:
        return Filter()
    try:
        return filter_of_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read the filter {path}: {error.strerror}") from error
    except ValidationError as error:
        raise UserError(f"the filter {path} does not hold: {refusal(error)}") from error


def _table(answers: list[RecommendAnswer]) -> pa.Table:
    rows = [
        (a.user_id, rank + 1, item.item_id, item.score, item.head, item.evidence, a.status)
        for a in answers
        for rank, item in enumerate(a.items)
    ]
    names = ("user_id", "rank", "item_id", "score", "head", "evidence", "status")
    kinds = (pa.string(), pa.int32(), pa.string(), pa.float64(), pa.string(), pa.string(), pa.string())
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    return pa.table({name: pa.array(c, kind) for name, kind, c in zip(names, kinds, columns, strict=True)})
