"""Cohort retention, against plain counting and by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.cohorts import Cohorts, Unit, cohort_counts, cohorts_of, unit_for
from features.events.store import Store
from tests.analysis.known import known
from tests.features.support import DAY_US, at, ingest_rows


def cohorts(store: Store, as_of: int, unit: Unit, rows: int = 250_000) -> Cohorts:
    first = store.span[0]
    counts = [cohort_counts(t.known_before(as_of), first, as_of, unit) for t in store.timelines(rows)]
    return cohorts_of(counts, first, as_of, unit)


@pytest.mark.parametrize("unit", ["month", "week"])
@pytest.mark.parametrize("day", ["2024-03-01", "2024-05-17T13:00"])
def test_cohorts_are_those_counted_user_by_user(
    small_store: Store, small_log: pd.DataFrame, unit: Unit, day: str
) -> None:
    as_of = at(day)
    rows = known(small_log, as_of)
    bought = rows[rows["kind"] == "purchase"]
    period = bought["ts"].dt.to_period("M" if unit == "month" else "W-SUN")
    first = period.groupby(bought["user_id"]).transform("min")
    step = (period.astype("int64") - first.astype("int64")).rename("step")
    expected = bought["user_id"].groupby([first.rename("first"), step]).nunique()
    found = cohorts(small_store, as_of, unit, rows=300)
    assert len(expected) > 10
    there = {
        (str(start), place): int(count)
        for start, row in zip(found.starts, found.bought, strict=True)
        for place, count in enumerate(row)
        if count
    }
    assert there == {
        (str(start.start_time.date()), place): count
        for (start, place), count in zip(expected.index.to_list(), expected, strict=True)
    }
    for start, row in zip(found.starts, found.over, strict=True):
        begin = pd.Period(start, "M" if unit == "month" else "W-SUN")
        ends = [(begin + place).end_time.ceil("D") for place in range(1, len(row))]
        assert row.tolist() == [True, *(end <= pd.Timestamp(day) for end in ends)]


def test_by_hand(tmp_path: Path) -> None:
    days = {"a": ["2024-01-03", "2024-02-28", "2024-02-29"], "b": ["2024-01-31", "2024-03-01"], "c": ["2024-03-05"]}
    rows = [{"user_id": user, "ts": day, "kind": "purchase"} for user, dates in days.items() for day in dates]
    rows.append({"user_id": "looks only", "ts": "2024-01-01", "kind": "view"})
    store = ingest_rows(rows, tmp_path / "store").store
    assert store is not None
    found = cohorts(store, at("2024-03-20"), "month")
    assert [str(start) for start in found.starts] == ["2024-01-01", "2024-02-01", "2024-03-01"]
    assert found.users.tolist() == [2, 0, 1]
    np.testing.assert_array_equal(found.retention, [[1, 0.5, np.nan], [np.nan, np.nan, np.nan], [1, np.nan, np.nan]])
    np.testing.assert_array_equal(found.mean, [1, 0.5, np.nan])
    assert cohorts(store, at("2024-04-01"), "month").retention[0].tolist() == [1, 0.5, 0.5]
    assert found.to_table().to_pylist()[1]["retention"] == 0.5


def test_nobody_bought(tmp_path: Path) -> None:
    store = ingest_rows([{"user_id": "a", "ts": "2024-01-03", "kind": "view"}], tmp_path / "store").store
    assert store is not None
    found = cohorts(store, at("2024-03-20"), "month")
    assert found.users.size == 0
    assert len(found.to_table()) == 0


def test_months_need_four_of_them() -> None:
    assert unit_for(at("2024-01-01"), at("2024-01-01") + 120 * DAY_US) == "month"
    assert unit_for(at("2024-01-01"), at("2024-04-01")) == "week"
