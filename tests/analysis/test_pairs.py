"""Pairs of leavers and stayers, worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from analysis.pairs import Anchors, anchors, match
from tests.features.support import DAY_US, at, ingest_rows

START = at("2024-01-01")
# Days with a purchase. The log is known up to day 200, the horizon is 30 days, the span 50.
BOUGHT = {
    "leaver": [0, 20, 40, 60, 80],
    "like her": [0, 21, 41, 61, 82, 100, 120, 140, 160, 180],
    "buys less": [1, 81, 101],
    "came back": [0, 20, 60, 80, 170, 190],
    "too new": [150, 160, 165],
}


@pytest.fixture
def found(tmp_path: Path) -> Anchors:
    rows = [
        {"user_id": user, "ts": str(np.datetime64(START + round((day + 0.5) * DAY_US), "us")), "price": 10}
        for user, days in BOUGHT.items()
        for day in days
    ]
    store = ingest_rows([{**row, "kind": "purchase"} for row in rows], tmp_path / "store").store
    assert store is not None
    return anchors(store, START + 200 * DAY_US, horizon=30, span=50)


def days(found: Anchors, places: np.ndarray) -> set[tuple[str, int]]:
    """User and day, counted from the first of the log."""
    ids = found.user_ids[found.user[places]]
    return set(zip(ids.tolist(), (found.day[places] - START // DAY_US).tolist(), strict=True))


def test_only_days_with_a_span_of_history_are_anchors(found: Anchors) -> None:
    everyone = days(found, np.arange(found.day.size))
    assert everyone == {(user, day) for user, bought in BOUGHT.items() for day in bought if day - bought[0] > 50}


def test_a_leaver_is_followed_by_nothing_and_a_stayer_by_something_soon(found: Anchors) -> None:
    assert days(found, found.leavers()) == {("leaver", 80), ("came back", 80), ("buys less", 101)}
    stayed = days(found, found.stayers(lookback=25))
    # Day 60 of the two who leave on day 80 is too near to that; the last days are not known to be followed.
    assert stayed == {("like her", day) for day in BOUGHT["like her"][3:-1]} | {("came back", 170)}


def test_measures_are_of_what_came_before(found: Anchors) -> None:
    place = int(found.leavers()[which_leaver(found, "leaver")])
    measured = {name: float(values[place]) for name, values in found.measures.items()}
    assert measured["anchor"] == START // DAY_US + 80
    assert measured["orders"] == pytest.approx(np.log1p(2))  # days 40 and 60
    assert measured["orders_before"] == pytest.approx(np.log1p(2))  # days 0 and 20
    assert measured["spend"] == pytest.approx(np.log1p(20))
    assert measured["first_order"] == pytest.approx(np.log1p(80))
    assert measured["longest_gap"] == pytest.approx(np.log1p(20))
    assert found.gap[place] == 120  # to the end of what is known


def which_leaver(found: Anchors, user: str) -> int:
    """Which of the leavers a user is."""
    return int(np.flatnonzero(found.user_ids[found.user[found.leavers()]] == user)[0])


def test_the_nearest_is_taken_and_nobody_twice(found: Anchors) -> None:
    pairs = match(found, found.leavers(), found.stayers(lookback=25))
    # The one stayer who is like any leaver; "came back" stays at a day too far away.
    assert [days(found, pair) for pair in pairs] == [{("leaver", 80), ("like her", 82)}]
    assert found.user_ids[found.user[pairs[0]]].tolist() == ["leaver", "like her"]
    assert match(found, np.empty(0, np.int64), found.stayers(25)).shape == (0, 2)
