"""Mined sequences: planted ones are found, figures are as counted by hand, and what is written is a table of needs."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import sequences
from analysis.sequences import as_toml, suggest
from features.audience.needs_table import NeedsTable
from features.errors import UserError
from features.events.columns import DAY
from features.events.store import Store
from features.tables import parse_table
from tests.features.support import as_micros, at, ingest_frame, ingest_rows

AS_OF = at("2024-09-01")
PATHS = [f"shop > c{number}" for number in range(8)] + ['odd "ones" & 羽绒服', "pram"]


def log(seed: int, users: int = 150) -> pd.DataFrame:
    """Chance views, and for two users of three: a coat, then prams three days later."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, int, str]] = []
    for user in range(users):
        rows += [(f"u{user}", int(rng.integers(0, 150)), PATHS[int(rng.integers(0, 9))]) for _ in range(30)]
        if user % 3:
            begin = int(rng.integers(0, 140))
            rows += [(f"u{user}", begin, PATHS[8]), (f"u{user}", begin + 3, "pram")]
    frame = pd.DataFrame(rows, columns=["user_id", "day", "category"])
    ts = pd.Timestamp("2024-03-01") + pd.to_timedelta(frame["day"], unit="D")
    ts += pd.to_timedelta(rng.integers(0, 86_400, len(frame)), unit="s")
    return frame.assign(ts=ts, kind="view", event_id=[f"e{n}" for n in range(len(frame))])


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return log(3)


@pytest.fixture(scope="module")
def store(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Store:
    done = ingest_frame(rows.drop(columns="day"), tmp_path_factory.mktemp("mined") / "store").store
    assert done is not None
    return done


def counted(rows: pd.DataFrame, first: str, then: str, within: int) -> dict[str, float]:
    """Support, confidence and lift, day by day."""
    today = AS_OF // DAY
    days: dict[tuple[str, int], set[str]] = {}
    micros = as_micros(rows["ts"]).tolist()
    for user, ts, category in zip(rows["user_id"], micros, rows["category"], strict=True):
        days.setdefault((user, ts // DAY), set()).add(category)
    keys = [key for key in days if key[1] + within < today]
    a = [first in days[key] for key in keys]
    b = [any(then in days.get((user, day + n), set()) for n in range(1, within + 1)) for user, day in keys]
    both = [x and y for x, y in zip(a, b, strict=True)]
    confidence = sum(both) / sum(a)
    users = len({user for (user, _), yes in zip(keys, both, strict=True) if yes})
    return {
        "users": users,
        "support": sum(both) / len(keys),
        "confidence": confidence,
        "lift": confidence / (sum(b) / len(keys)),
    }


def test_a_planted_sequence_comes_first_with_the_figures_counted_by_hand(rows: pd.DataFrame, store: Store) -> None:
    mined = suggest(store, AS_OF, 5)
    best = mined.suggestions[0]
    assert (best.first, best.then) == (PATHS[8], "pram")
    assert best.lift > 3
    for one in mined.suggestions:
        expected = counted(rows, one.first, one.then, 5)
        found: dict[str, Any] = {name: getattr(one, name) for name in expected}
        assert found == pytest.approx(expected)
    assert (mined.users, mined.of_users, mined.categories, mined.of_categories) == (150, 150, 10, 10)
    assert all((s.then, s.first) != (best.first, best.then) for s in mined.suggestions)  # not the other way round


def test_chance_alone_proposes_nothing(tmp_path: Path) -> None:
    rows = log(4)
    rows = rows[~((rows["category"] == "pram") | (rows["category"] == PATHS[8]))]
    done = ingest_frame(rows.drop(columns="day"), tmp_path / "store").store
    assert done is not None
    assert suggest(done, AS_OF, 5).suggestions == []


def test_what_is_written_is_a_table_of_needs(store: Store) -> None:
    mined = suggest(store, AS_OF, 5)
    written = parse_table(as_toml(mined), NeedsTable, "proposed.toml")
    turns = [(need.in_turn[0].first.categories[0], need.in_turn[0].then.categories[0]) for need in written.needs]
    assert turns == [(one.first, one.then) for one in mined.suggestions]
    assert {need.in_turn[0].within_days for need in written.needs} == {5}


def test_nothing_at_or_after_the_moment_counts(rows: pd.DataFrame, store: Store, tmp_path: Path) -> None:
    moment = at("2024-07-01")
    past = ingest_frame(rows[rows["ts"] < "2024-07-01"].drop(columns="day"), tmp_path / "store").store
    assert past is not None
    mined = suggest(store, moment, 5)
    assert mined.suggestions == suggest(past, moment, 5).suggestions
    assert mined.suggestions


def test_work_is_limited_and_it_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequences, "MOST_USERS", 80)
    monkeypatch.setattr(sequences, "MOST_CATEGORIES", 5)
    mined = suggest(store, AS_OF, 5)
    assert 50 < mined.users < 110
    assert (mined.of_users, mined.categories, mined.of_categories) == (150, 5, 10)
    monkeypatch.setattr(sequences, "MOST_DAYS", 500)
    assert suggest(store, AS_OF, 5).days <= 500


def test_a_log_without_categories_is_refused(tmp_path: Path) -> None:
    done = ingest_rows([{"user_id": "u", "ts": "2024-05-01", "kind": "view"}], tmp_path / "store").store
    assert done is not None
    with pytest.raises(UserError, match=r"no event about a category .* ingest an items table"):
        suggest(done, AS_OF)
