"""Whether reasons hold: does the probability fall if the theme of the top reason is as usual?

`python -m benchmarks.reasons` trains on real logs, asks for reasons of the users at high risk, and writes
`results/reasons.json`. Stores are made from the sources; Online Retail II is found by ONLINE_RETAIL_PARQUET.

High risk is what the model calls so, of users with a purchase in the look-back. The theme of the top reason is replaced
by the norm that the reason was told with (their own, or that of customers), and, which is harder, by their own norm
whatever it was told with: then who was always at such risk has nothing that can fall.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.events.ingest import ingest
from features.events.sources import find_source
from features.events.store import Store
from features.instants import instant
from features.matrix import evaluate, moments_of
from features.timeline import Array, Timeline
from models.answers import ChurnQuestion, churn_answers
from models.churn import ChurnModel
from models.reasons import LEAST, THEMES, Reason, can_be_usual, norms
from training.churn import train_churn
from training.recipes import load_recipe

OUT = Path(__file__).parent / "results" / "reasons.json"
ASKED = 3  # reasons a user
ONE_BY_ONE = 200  # users asked for alone, for the time it takes


@dataclass(frozen=True)
class Row:
    """A log and a moment; horizon and lookback in days."""

    source: str
    as_of: str
    horizon: int
    lookback: int


ROWS = (Row("online_retail", "2011-11-09", 30, 180), Row("complete_journey", "2017-12-17", 14, 60))


@dataclass(frozen=True)
class User:
    """Somebody at high risk: signals, own norm (NaN where there is none), and the top reason, if any."""

    user_id: str
    values: Array
    own: Array
    probability: float
    top: Reason | None


def main() -> None:
    """Measure each log and print what it gave."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=[r.source for r in ROWS], default=[r.source for r in ROWS])
    given = parser.parse_args()
    kept: dict[str, Any] = json.loads(OUT.read_text()) if OUT.exists() else {}
    for row in (row for row in ROWS if row.source in given.only):
        with tempfile.TemporaryDirectory() as folder:
            store = ingest(find_source(Path("sources") / row.source), Path(folder), now=time.time_ns() // 1000).store
            assert store is not None
            kept[row.source] = _measured(store, row)
        OUT.write_text(json.dumps(kept, indent=1) + "\n")
        _print(row, kept[row.source])


def _measured(store: Store, row: Row) -> dict[str, Any]:
    as_of = instant(row.as_of)
    recipe = load_recipe("churn") | {"test_moments": 1}
    model = train_churn(store, as_of=as_of, horizon=row.horizon, lookback=row.lookback, recipe=recipe).model
    users: list[User] = []
    asked, with_reasons, without = 0, 0.0, 0.0
    for timeline in store.timelines():
        churn_answers(timeline, as_of, model, ChurnQuestion(reasons=1))  # what is read or compiled once
        started = time.perf_counter()
        churn_answers(timeline, as_of, model)
        without += time.perf_counter() - started
        started = time.perf_counter()
        answers = churn_answers(timeline, as_of, model, ChurnQuestion(reasons=ASKED))
        with_reasons += time.perf_counter() - started
        asked += sum(answer.status == "ok" for answer in answers)
        tops = {answer.user_id: next(iter(answer.reasons), None) for answer in answers if answer.risk == "high"}
        users += _high(timeline, as_of, model, tops)
    return {
        "as_of": row.as_of,
        "horizon": row.horizon,
        "plain_share": model.plain_share,
        **_shares(users, model, as_of),
        "milliseconds_a_user": {
            "batch_without": _rounded(without / asked * 1e3),
            "batch_with": _rounded(with_reasons / asked * 1e3),
            **_one_by_one(store, as_of, model, [user.user_id for user in users[:ONE_BY_ONE]]),
        },
    }


def _high(timeline: Timeline, as_of: int, model: ChurnModel, tops: dict[str, Reason | None]) -> list[User]:
    """Those of high risk (the keys of `tops`) who bought within the look-back."""
    moment = moments_of(timeline, [as_of], model.signals)[0]
    recent = moment.count("purchase", model.lookback) > 0
    values = np.ascontiguousarray(evaluate(moment, model.signals, recent).T)
    own = norms(timeline, as_of, model.signals)[recent]
    ids = np.array(timeline.user_ids.to_pylist(), object)[recent].tolist()
    probability = model.score(values, as_of)
    found = zip(ids, values, own, probability.tolist(), strict=True)
    return [User(name, v, o, p, tops[name]) for name, v, o, p in found if name in tops]


def _shares(users: list[User], model: ChurnModel, as_of: int) -> dict[str, Any]:
    told = [user for user in users if user.top is not None]
    lower = _lower(told, _told_norm(told, model), model, as_of)
    by_own = np.array([user.top is not None and user.top.norm == "own" for user in told])
    had = [user for user in told if np.isfinite(user.own).any()]
    own = np.stack([user.own for user in had])
    had_lower = _lower(had, own, model, as_of)
    each = [_falls(had, own, _theme(model) == theme, model, as_of) for theme in set(_theme(model).tolist())]
    return {
        "high_risk": len(users),
        "with_a_reason": len(told),
        "told_norm_lowers": int(lower.sum()),
        "told_by_own_norm": int(by_own.sum()),
        "told_by_own_norm_lowers": int(lower[by_own].sum()),
        "with_an_own_norm": len(had),
        "own_norm_lowers": int(had_lower.sum()),
        "own_norm_of_one_lowers": int((np.max(each, axis=0) >= LEAST).sum()),
        "top_signals": dict(Counter(user.top.signal for user in told if user.top).most_common(8)),
    }


def _told_norm(users: list[User], model: ChurnModel) -> Array:
    """The norm that each user's top reason was told with, float32[users, signals]."""
    usual = model.usual.astype(np.float32)
    return np.stack([user.own if user.top and user.top.norm == "own" else usual for user in users])


def _lower(users: list[User], norm: Array, model: ChurnModel, as_of: int) -> Array:
    """bool[users]: the probability falls if the signals of the top reason's theme are as in `norm`."""
    tops = np.array([THEMES.get(user.top.family, user.top.family) if user.top else "" for user in users])
    return _falls(users, norm, _theme(model)[None, :] == tops[:, None], model, as_of) > 0


def _falls(users: list[User], norm: Array, replaced: Array, model: ChurnModel, as_of: int) -> Array:
    """By how much the probability falls if the signals of a mask are as in `norm`, float64[users]."""
    usable = np.array([can_be_usual(signal) for signal in model.signals])
    values = np.stack([user.values for user in users])
    after = model.score(np.where(replaced & usable & np.isfinite(norm), norm, values), as_of)
    return np.array([user.probability for user in users]) - after


def _theme(model: ChurnModel) -> Array:
    """The theme of each signal."""
    return np.array([THEMES.get(signal.family, signal.family) for signal in model.signals])


def _one_by_one(store: Store, as_of: int, model: ChurnModel, names: list[str]) -> dict[str, float]:
    """Medians of users asked for alone, as the service does, their timelines at hand."""
    taken: dict[str, list[float]] = {"alone_without": [], "alone_with": []}
    for name in names:
        timeline = store.timeline_of([name])
        for which, question in (("alone_without", ChurnQuestion()), ("alone_with", ChurnQuestion(reasons=ASKED))):
            started = time.perf_counter()
            churn_answers(timeline, as_of, model, question)
            taken[which].append(time.perf_counter() - started)
    return {which: _rounded(float(np.median(times)) * 1e3) for which, times in taken.items()}


def _rounded(value: float) -> float:
    return round(value, 3)


def _print(row: Row, found: dict[str, Any]) -> None:
    print(f"\n== {row.source}, {row.horizon} days as of {row.as_of}: {found['high_risk']:,} users at high risk")
    for what, part, whole in (
        ("with a reason", "with_a_reason", "high_risk"),
        ("the norm that the top reason was told with lowers it", "told_norm_lowers", "with_a_reason"),
        ("  of those told by their own", "told_by_own_norm_lowers", "told_by_own_norm"),
        ("their own norm, told with it or not, lowers it", "own_norm_lowers", "with_an_own_norm"),
        (f"  their own norm of some theme does, by {LEAST:g} or more", "own_norm_of_one_lowers", "with_an_own_norm"),
    ):
        share = found[part] / max(1, found[whole])
        print(f"  {what:<54} {found[part]:>5,} of {found[whole]:>5,}  {share:.1%}")
    print(f"  signals that lead the top reasons: {found['top_signals']}")
    print(f"  milliseconds a user: {found['milliseconds_a_user']}", flush=True)


if __name__ == "__main__":
    main()
