"""An anonymous device's history is its user's from the login on, and not before."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.events.store import Store
from tests.features.events.anonymous import START, Known, dense_log, oracle, told, with_devices
from tests.features.support import at, ingest_frame, ingest_rows, one_user
from tests.randomlog import random_log

DEVICES = ("d", "e", "ü3", *(f"d{number}" for number in range(7)))
LOGS: dict[str, pd.DataFrame] = {
    "nothing late": dense_log(1, 60, late=False, repeated=False),
    "late rows and logins": dense_log(2, 90, late=True, repeated=False),
    "equal rows": dense_log(3, 90, late=False, repeated=True),
    "equal and late rows": dense_log(4, 120, late=True, repeated=True),
}


def opened(store: Store | None) -> Store:
    assert store is not None
    return store


def whole(store: Store, rows: int = 250_000) -> dict[str, list[Known]]:
    """All timelines of a store, read bucket by bucket."""
    return told(store.timelines(rows), store, DEVICES)


def named(store: Store, users: list[str]) -> dict[str, list[Known]]:
    """The timelines of named users."""
    return told([store.timeline_of(users)], store, DEVICES)


@pytest.mark.parametrize("name", LOGS)
def test_timelines_are_as_the_contract_says(name: str, tmp_path: Path, tell: Callable[..., None]) -> None:
    log = LOGS[name]
    expected = oracle(log)
    store = opened(ingest_frame(log, tmp_path / "store").store)
    assert whole(store) == whole(store, 7) == named(store, list(expected)) == expected
    assert named(store, ["u"]) == {"u": expected["u"]}
    came = sum(map(len, expected.values())) - len(log)
    assert came > 10
    tell(rows=len(log), rows_that_came_with_logins=came)


@pytest.mark.parametrize("name", LOGS)
def test_in_whatever_order_and_batches_the_rows_come(name: str, tmp_path: Path, tell: Callable[..., None]) -> None:
    log = LOGS[name]
    expected = oracle(log)
    is_login = log["kind"].isin(["login", "register"])
    whose = log.assign(user_id=log["user_id"].fillna("device:" + log["device_id"]))
    by_content = pd.util.hash_pandas_object(whose.astype(str), index=False).to_numpy() % 3  # equal rows: one batch
    for number, part in enumerate((np.where(is_login, 0, 1), np.where(is_login, 1, 0), by_content)):
        path = tmp_path / f"{number}"
        for i in range(3):
            if (part == i).any():
                ingest_frame(log[part == i].sample(frac=1, random_state=number), path)
        store = Store.open(path)
        assert len(store.segments) > 1
        assert whole(store) == whole(store, 9) == named(store, list(expected)) == expected
        digest = store.digest()
        again = opened(ingest_frame(log.sample(frac=1, random_state=9), path).store)
        assert whole(again) == expected
        assert again.digest() == digest
    tell(timelines_compared=12 * len(expected))


def test_logins_of_the_future_change_no_timeline_of_the_past(tmp_path: Path, tell: Callable[..., None]) -> None:
    """What was known before any moment is the same with and without the rows that became known since."""
    log = LOGS["equal and late rows"]
    expected = oracle(log)
    arrived = log["arrived_at"].fillna(log["ts"])
    moments = [START + seconds * 1_000_000 for seconds in (2, 5, 8, 11, 14)]
    for moment in moments:
        time = pd.Timestamp(moment, unit="us")
        known = log[(log["ts"] < time) & (arrived <= time)]
        past = whole(opened(ingest_frame(known, tmp_path / f"{moment}").store))
        then = {user: [e for e in events if e.known < moment] for user, events in expected.items()}
        assert {user: [e for e in events if e.known < moment] for user, events in past.items()} == {
            user: events for user, events in then.items() if events
        }
    tell(moments=len(moments))


def test_a_large_log(tmp_path: Path, tell: Callable[..., None]) -> None:
    log = with_devices(random_log(8, 30, 1_500), 8)
    expected = oracle(log)
    store = opened(ingest_frame(log, tmp_path / "store").store)
    assert whole(store) == whole(store, 400) == named(store, list(expected)) == expected
    tell(rows=len(log), rows_that_came_with_logins=sum(map(len, expected.values())) - len(log))


def views(*days: int) -> list[dict[str, Any]]:
    """What device d did, nobody knows for whom."""
    row = {"user_id": None, "device_id": "d", "kind": "view"}
    return [{**row, "ts": f"2024-05-{day:02d}", "item_id": f"i{day}"} for day in days]


def login(user: str, day: int, **more: Any) -> dict[str, Any]:
    return {"user_id": user, "device_id": "d", "ts": f"2024-05-{day:02d}", "kind": "login", **more}


def seen(store: Store | None, user: str) -> list[tuple[str | None, int]]:
    """Items viewed by a user, and the first whole day in May on which that is known."""
    events = named(opened(store), [user])[user]
    return [(e.item, -(-(e.known + 1 - at("2024-05-01")) // 86_400_000_000) + 1) for e in events if e.kind == "view"]


def test_signals_know_of_it_from_the_login_on(tmp_path: Path) -> None:
    rows = [*views(1, 2), {"user_id": "u", "ts": "2024-05-02 12:00", "kind": "purchase"}, login("u", 3)]
    store = opened(ingest_rows(rows, tmp_path / "store").store)
    before, after = (one_user(store, at(moment), "u") for moment in ("2024-05-03", "2024-05-03 00:00:00.000001"))
    assert (before["views_7d"], after["views_7d"]) == (0, 2)
    assert (before["active_days_30d"], after["active_days_30d"]) == (1, 3)
    assert one_user(store, at("2024-05-03"), "device:d")["views_7d"] == 2
    assert one_user(store, at("2024-05-09"), "device:d")["views_7d"] == 1


def test_a_shared_device_gives_to_the_next_who_logs_in(tmp_path: Path) -> None:
    rows = [*views(1, 3, 5, 7), login("u", 2), login("v", 4), login("u", 6)]
    store = ingest_rows(rows, tmp_path / "store").store
    assert seen(store, "u") == [("i1", 3), ("i5", 7)]
    assert seen(store, "v") == [("i3", 5)]
    assert [item for item, _ in seen(store, "device:d")] == ["i1", "i3", "i5", "i7"]


def test_a_login_that_arrives_late_is_not_known_before(tmp_path: Path) -> None:
    store = ingest_rows([*views(1), login("u", 2, arrived_at="2024-05-09")], tmp_path / "store").store
    assert seen(store, "u") == [("i1", 9)]


def test_what_another_login_was_given_is_not_taken_back(tmp_path: Path) -> None:
    """u logs in on the 4th and gets all; on the 9th it turns out that v had logged in on the 2nd."""
    rows = [*views(1, 3), login("u", 4), login("v", 2, arrived_at="2024-05-09")]
    store = ingest_rows(rows, tmp_path / "store").store
    assert seen(store, "u") == [("i1", 5), ("i3", 5)]
    assert seen(store, "v") == [("i1", 9)]


@pytest.mark.parametrize("kind", ["login", "register"])
def test_which_events_are_logins(kind: str, tmp_path: Path) -> None:
    """Naming a user and a device is not enough, and a login must name both."""
    others = [login("u", 2, kind="purchase"), login("u", 2, device_id=None), login("", 2), login("u", 2, device_id="e")]
    store = ingest_rows([*views(1), *others], tmp_path / "store").store
    assert seen(store, "u") == []
    assert len(seen(store, "device:d")) == 1
    assert seen(ingest_rows([login("u", 3, kind=kind)], tmp_path / "store").store, "u") == [("i1", 4)]


def test_an_event_told_of_the_device_and_of_the_user_counts_once(tmp_path: Path) -> None:
    """A shop may send its rows again once it knows whose they were."""
    known = [{**row, "user_id": "u"} for row in views(1, 2)]
    for number, batches in enumerate(itertools.permutations([[*views(1, 2, 3)], known, [login("u", 4)]])):
        for batch in batches:
            store = ingest_rows(batch, tmp_path / f"{number}").store
        assert seen(store, "u") == [("i1", 2), ("i2", 3), ("i3", 5)]
    rows = [{**row, "event_id": row["item_id"]} for row in (*views(1, 2), *known)]
    ingested = ingest_rows([*rows, login("u", 4)], tmp_path / "with ids")
    assert ingested.report.duplicates == 2
    assert sorted(item or "" for item, _ in seen(ingested.store, "u")) == ["i1", "i2"]


def test_without_logins_nothing_is_copied(tmp_path: Path) -> None:
    """The columns of a store of one segment stay mapped."""
    store = opened(ingest_rows([*views(1, 2), login("u", 3, kind="view")], tmp_path / "store").store)
    (timeline,) = store.timelines()
    assert np.shares_memory(timeline.columns["ts"], store.segments[0].column("ts"))
    assert "arrived_at" not in timeline.columns
