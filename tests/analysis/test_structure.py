"""The structure of the user base, against plain counting; flows add up; nothing of the future."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.arrivals import Arrivals
from analysis.structure import NEW_STAGES, Structure, month_starts, steps_back, structure
from features.audience.learn import learn
from features.audience.segments import registered_since, registrations
from features.audience.stages import STAGES, Borders, borders_of, load_stages
from features.errors import UserError
from features.events.ingest import ingest
from features.events.sources import Source
from features.events.store import Store
from features.instants import instant
from tests.analysis import known as slow
from tests.features.events.anonymous import with_devices
from tests.features.support import DAY_US, RANDOM_MOMENTS, at, ingest_frame, ingest_rows
from tests.features.test_no_future import corrections, future_rows, split
from tests.randomlog import random_log

BORDERS = Borders(dormant_days=30, lost_days=90, maturity_orders=4)
MOMENTS = [at(day) for day in ("2023-09-01", "2023-12-01", "2024-01-15", "2024-03-01", "2024-07-09")]


def columns(found: Structure) -> dict[str, list[object]]:
    return {
        **found.to_table().to_pydict(),
        **{f"flow {name}": values for name, values in found.flows_table().to_pydict().items()},
        **{f"category {name}": values for name, values in found.penetration_table().to_pydict().items()},
        **{f"cohort {name}": values for name, values in found.cohorts.to_table().to_pydict().items()},
    }


@pytest.fixture(scope="module")
def found(small_store: Store) -> Structure:
    return structure(small_store, MOMENTS, BORDERS)


def test_stages_and_flows_are_those_counted_user_by_user(found: Structure, small_log: pd.DataFrame) -> None:
    told = [slow.stages(small_log, moment, BORDERS) for moment in MOMENTS]
    for row, stages in zip(found.stages, told, strict=True):
        assert dict(zip(STAGES, row.tolist(), strict=True)) == {s: int((stages == s).sum()) for s in STAGES}
    for flow, before, after in zip(found.flows, told[:-1], told[1:], strict=True):
        was = before.reindex(after.index).fillna(NEW_STAGES[0])
        expected = pd.crosstab(was, after).reindex(index=NEW_STAGES, columns=STAGES, fill_value=0)
        assert (flow == expected.to_numpy()).all()


def test_flows_add_up_to_the_stages_on_either_side(found: Structure) -> None:
    assert (found.flows[:, 1:].sum(axis=2) == found.stages[:-1]).all()
    assert (found.flows.sum(axis=1) == found.stages[1:]).all()
    assert (found.flows[:, 0].sum(axis=1) == np.diff(found.stages.sum(axis=1))).all()


def test_active_paying_and_new_are_those_counted_in_the_period(found: Structure, small_log: pd.DataFrame) -> None:
    for place, (begin, moment) in enumerate(zip(found.begins, found.moments, strict=True)):
        rows = slow.known(small_log, moment)
        period = rows[rows["at"] >= begin]
        assert found.registered[place] == rows["user_id"].nunique()
        assert found.active[place] == slow.made(period)["user_id"].nunique()
        paying = period[period["kind"] == "purchase"]["user_id"].unique()
        assert found.paying[place] == len(paying)
        first = rows[rows["kind"] == "purchase"].groupby("user_id")["at"].min()
        if found.new[place] >= 0:
            assert found.new[place] == (slow.came(small_log, moment) >= begin).sum()
            assert found.new_buyers[place] == (first >= begin).sum()
    assert found.new[-1] >= 0


def test_categories_are_those_bought_in_the_period(found: Structure, small_log: pd.DataFrame) -> None:
    assert found.categories
    for place, (begin, moment) in enumerate(zip(found.begins, found.moments, strict=True)):
        rows = slow.known(small_log, moment)
        bought = rows[(rows["kind"] == "purchase") & (rows["at"] >= begin)].dropna(subset="category")
        buyers = bought.groupby("category")["user_id"].nunique().reindex(found.categories, fill_value=0)
        assert found.buyers[place].tolist() == buyers.tolist()
        pairs = bought[["user_id", "category"]].drop_duplicates()
        assert found.breadth[place] == pytest.approx(pairs.groupby("user_id").size().mean())
        assert found.in_all[place] == rows["category"].nunique()
    assert found.buyers[-1].tolist() == sorted(found.buyers[-1].tolist(), reverse=True)


def test_each_row_of_the_table_adds_up(found: Structure) -> None:
    table = found.to_table().to_pandas()
    stages = table[[f"stage_{stage}" for stage in STAGES if stage != "anonymous"]].sum(axis=1)
    assert (stages == table["registered"]).all()
    assert ((table["new"] + table["old"]).dropna() == table["registered"][table["new"].notna()]).all()
    assert ((table["new_buyers"] + table["old_buyers"]).dropna() == table["paying"][table["new_buyers"].notna()]).all()
    assert found.flows_table()["users"].to_numpy().sum() == found.flows.sum()
    assert len(found.penetration_table()) == len(MOMENTS) * len(found.categories)


def test_who_is_new_is_not_known_where_the_log_begins(found: Structure, small_store: Store) -> None:
    first = structure(small_store, [small_store.span[0] + 20 * DAY_US], BORDERS)
    row = first.to_table().to_pylist()[0]
    assert [row[name] for name in ("new", "old", "new_per_old", "new_buyers", "old_buyers")] == [None] * 5
    assert row["registered"] > 0
    assert first.flows.shape[0] == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_no_row_of_the_future_changes_anything(seed: int, tmp_path: Path) -> None:
    moment = RANDOM_MOMENTS[seed % 2]
    log = split(with_devices(random_log(seed, 40, 1_500), seed), moment)
    future = pd.concat([future_rows(seed, moment, log), corrections(log, moment)])
    past = ingest_frame(log, tmp_path / "past", max_rejected=1.0).store
    shuffled = pd.concat([future, log]).sample(frac=1, random_state=seed)
    both = ingest_frame(shuffled, tmp_path / "both", max_rejected=1.0).store
    assert past is not None
    assert both is not None
    asked = [moment - 60 * DAY_US, moment - 30 * DAY_US, moment]
    told = columns(structure(past, asked, BORDERS))
    assert str(told) == str(columns(structure(both, asked, BORDERS)))
    assert sum(told["stage_anonymous"]) > 0  # type: ignore[arg-type]


def test_buckets_change_nothing(small_store: Store, found: Structure, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = small_store.chunks(150)
    assert len(cut) > 5
    monkeypatch.setattr(small_store, "chunks", lambda: cut)
    told: list[float] = []
    again = structure(small_store, MOMENTS, BORDERS, progress=told.append)
    assert str(columns(again)) == str(columns(found))
    assert told == sorted(told)
    assert told[-1] == 1


def test_new_and_old_by_hand(tmp_path: Path) -> None:
    days = {"old": ["2024-01-05", "2024-03-05"], "fresh": ["2024-03-20", "2024-03-28"], "gone": ["2024-01-06"]}
    rows = [{"user_id": user, "ts": day, "kind": "purchase"} for user, dates in days.items() for day in dates]
    rows += [{"user_id": "looks", "ts": "2024-03-30", "kind": "view"}]
    store = ingest_rows(rows, tmp_path / "store").store
    assert store is not None
    table = structure(store, [at("2024-03-01"), at("2024-04-01")], BORDERS).to_table().to_pylist()
    last = {name: value for name, value in table[1].items() if value not in (0, None)}
    assert {name: last[name] for name in ("registered", "active", "paying", "new", "old")} == {
        "registered": 4,
        "active": 3,
        "paying": 2,
        "new": 2,
        "old": 2,
    }
    assert (last["new_buyers"], last["old_buyers"], last["new_buyers_per_old"]) == (1, 1, 1)
    assert [last[f"stage_{stage}"] for stage in ("growth", "dormancy", "registered")] == [2, 1, 1]
    assert table[1]["categories_bought"] is None


def test_a_users_table_tells_who_is_new(tmp_path: Path) -> None:
    events, users = tmp_path / "events.csv", tmp_path / "users.csv"
    events.write_text(
        "user_id,ts,kind\n" + "".join(f"{u},2024-03-{d},view\n" for u, d in (("a", 2), ("b", 3), ("c", 4)))
    )
    users.write_text("user_id,registered_at,acquisition_channel\na,2020-01-01,ads\nb,2024-03-02T12:00:00,friends\n")
    store = ingest(Source(events, users=users), tmp_path / "store", now=at("2024-05-01")).store
    assert store is not None
    found = structure(store, [at("2024-03-20")], BORDERS)
    assert found.new.tolist() == [2]  # b by the table, c by the first event
    timeline = next(iter(store.timelines()))
    (moment,) = timeline.as_of([at("2024-03-20")])
    arrivals = Arrivals.of(store)
    since, told = arrivals.since(timeline, moment, arrivals.rows(timeline))
    assert since.tolist() == registered_since(timeline, moment, registrations(store.table("users"))).tolist()
    assert told.tolist() == [user in ("a", "b") for user in timeline.user_ids.to_pylist()]


def test_when_users_came_is_what_segments_say(small_store: Store) -> None:
    arrivals = Arrivals.of(small_store)
    for timeline in small_store.timelines():
        for moment in timeline.as_of(MOMENTS):
            since, _ = arrivals.since(timeline, moment, arrivals.rows(timeline))
            assert np.array_equal(since, registered_since(timeline, moment, {}), equal_nan=True)


def test_moments() -> None:
    months = month_starts(at("2024-01-31"), at("2024-04-01"))
    assert months == [at("2024-02-01"), at("2024-03-01"), at("2024-04-01")]
    assert month_starts(at("2024-01-01"), at("2024-01-01")) == [at("2024-01-01")]
    steps = steps_back(at("2024-01-01"), at("2024-04-01"))
    assert steps == [
        at("2024-02-01"),
        at("2024-03-02"),
        at("2024-04-01"),
    ]  # a fourth would have its period begin with the log
    assert steps_back(at("2024-03-31"), at("2024-04-01")) == [at("2024-04-01")]


def test_a_moment_before_the_log_is_told(small_store: Store) -> None:
    with pytest.raises(UserError, match="after the first event"):
        structure(small_store, [instant("2001-01-01")], BORDERS)


@pytest.mark.slow
def test_two_years_of_online_retail_add_up(
    online_retail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONLINE_RETAIL_PARQUET", str(online_retail))
    root = Path(__file__).parents[2] / "sources" / "online_retail"
    store = ingest(Source(root / "events.sql", root / "items.sql"), tmp_path / "store", now=at("2025-01-01")).store
    assert store is not None
    months = month_starts(store.span[0], at("2012-01-01"))
    assert len(months) == 25
    found = structure(store, months, borders_of(load_stages(), learn(store, months[-1])))
    assert (found.flows[:, 1:].sum(axis=2) == found.stages[:-1]).all()
    assert (found.flows.sum(axis=1) == found.stages[1:]).all()
    assert found.stages[-1].sum() == found.registered[-1] == 5_939
    assert found.cohorts.users.sum() == 5_878  # the others have returned goods only
    assert (found.cohorts.bought.sum(axis=0)[0]) == 5_878
