"""Logins and devices' events that come with a request count as if they had been ingested before it."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.events.store import Store
from models.answers import ChurnQuestion, churn_answers
from models.deployed import load_current
from serving.answers import Held, churn
from serving.schemas import ChurnRequest, User
from serving.users import timeline_of
from tests.features.events.anonymous import Known, dense_log, told, with_devices
from tests.features.support import ingest_frame, ingest_rows
from tests.randomlog import random_log
from tests.serving.conftest import Shop
from tests.serving.shop import AS_OF, START

DEVICES = ("d", "ü3", *(f"d{number}" for number in range(7)))


def requests(log: pd.DataFrame) -> list[User]:
    """Everyone of whom a log tells, users by name and devices as such, with the log's rows as events."""
    out: dict[str, dict[str, Any]] = {}
    for row in log.astype(object).where(log.notna(), None).to_dict("records"):
        name, device = row.pop("user_id"), row["device_id"]
        named = {"user_id": name} if name is not None else {"device_id": device}
        user = out.setdefault(User.model_validate(named).timeline_id, {**named, "events": []})
        if name is not None and "device_id" in user:  # someone goes by the name of a device's timeline
            user |= {"user_id": name, "device_id": None}
        times = {time: row[time].isoformat() for time in ("ts", "arrived_at") if row.get(time) is not None}
        row.update(times)
        user["events"].append(row)
    return [User.model_validate(user) for user in out.values()]


def answered(users: list[User], store: Store) -> dict[str, list[Known]]:
    return told([timeline_of(users, store)[0]], store, DEVICES)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_sent_counts_as_if_it_were_ingested(seed: int, tmp_path: Path, tell: Callable[..., None]) -> None:
    log = dense_log(seed, 90, late=seed > 0, repeated=False)
    together = ingest_frame(log, tmp_path / "whole").store
    assert together is not None
    compared = 0
    for number, share in enumerate((0.3, 0.6, 0.9)):
        stored = np.random.default_rng([seed, number]).random(len(log)) < share
        part = ingest_frame(log[stored], tmp_path / f"{number}", items=log[["item_id"]]).store
        assert part is not None
        users = requests(log[~stored])
        expected = told([together.timeline_of([user.timeline_id for user in users])], together, DEVICES)
        assert answered(users, part) == expected
        some_again = requests(log[~stored | (np.arange(len(log)) % 2 == 0)])
        expected = told([together.timeline_of([user.timeline_id for user in some_again])], together, DEVICES)
        assert answered(some_again, part) == expected
        compared += len(users) + len(some_again)
    tell(timelines_compared=compared)


def test_a_log_of_every_column(tmp_path: Path, tell: Callable[..., None]) -> None:
    log = with_devices(random_log(9, 30, 1_000), 9)
    together = ingest_frame(log, tmp_path / "whole").store
    stored = np.random.default_rng(9).random(len(log)) < 0.9
    part = ingest_frame(log[stored], tmp_path / "part", items=log[["item_id"]].dropna().drop_duplicates()).store
    assert together is not None
    assert part is not None
    columns = ["user_id", "ts", "kind", "item_id", "device_id", "arrived_at", "event_id"]
    users = requests(log[~stored][columns])
    expected = told([together.timeline_of([user.timeline_id for user in users])], together, DEVICES)
    assert answered(users, part) == expected
    tell(timelines_compared=len(users))


VIEW: dict[str, Any] = {"user_id": None, "device_id": "d", "ts": "2024-05-01", "kind": "view", "item_id": "i1"}
LOGIN: dict[str, Any] = {"ts": "2024-05-03", "kind": "login"}


def items(users: list[dict[str, Any]], store: Store) -> list[list[str | None]]:
    """Items viewed by each user of a request."""
    found = answered([User.model_validate(user) for user in users], store)
    return [[event.item for event in events if event.kind == "view"] for events in found.values()]


def test_a_sent_login_brings_what_the_device_did(tmp_path: Path) -> None:
    more = {**VIEW, "item_id": "i2", "ts": "2024-05-02"}
    store = ingest_rows([VIEW, {**more, "device_id": "e"}], tmp_path / "store").store
    assert store is not None
    sent = {name: value for name, value in more.items() if name not in ("user_id", "device_id")}
    user, device = {"user_id": "u", "device_id": "d"}, {"device_id": "d", "events": [sent]}
    assert items([{**user, "events": [LOGIN]}], store) == [["i1"]]
    assert items([{"user_id": "u", "events": [{**LOGIN, "device_id": "d"}]}], store) == [["i1"]]
    assert items([{**user, "events": [LOGIN]}, device], store) == [["i1", "i2"], ["i1", "i2"]]
    assert items([device, {**user, "events": [LOGIN]}], store) == [["i1", "i2"], ["i1", "i2"]]
    v = {"user_id": "v", "device_id": "d", "events": [{**LOGIN, "ts": "2024-05-01T12:00"}]}
    assert items([{**user, "events": [LOGIN]}, device, v], store) == [["i2"], ["i1", "i2"], ["i1"]]


def test_without_a_login_a_device_is_not_its_users(tmp_path: Path) -> None:
    store = ingest_rows([VIEW], tmp_path / "store").store
    assert store is not None
    asked: list[dict[str, Any]] = [{"user_id": "u", "device_id": "d"}, {"device_id": "d"}]
    assert items(asked, store) == [[], ["i1"]]
    assert items([{**asked[0], "events": [{**LOGIN, "kind": "cart"}]}, asked[1]], store) == [[], ["i1"]]
    assert items([{"user_id": "u", "events": [LOGIN]}, asked[1]], store) == [[], ["i1"]]


def test_a_device_that_is_asked_about_with_new_events_gives_them_to_who_has_logged_in_since(tmp_path: Path) -> None:
    store = ingest_rows([{**LOGIN, "user_id": "u", "device_id": "d", "item_id": "i1"}], tmp_path / "store").store
    assert store is not None
    device = {"device_id": "d", "events": [{"ts": "2024-05-02", "kind": "view", "item_id": "i1"}]}
    assert items([{"user_id": "u"}, device], store) == [["i1"], ["i1"]]
    assert items([{"user_id": "u"}], store) == [[]]


def test_answers_know_of_it_from_the_login_on(shop: Shop, tmp_path: Path) -> None:
    days = pd.to_datetime(START + np.arange(200, 300, 10) * 86_400_000_000, unit="us")
    guest = pd.DataFrame({"user_id": None, "device_id": "d", "ts": days, "kind": "purchase", "item_id": "i7"})
    guest = guest.assign(price=9.5, order_id=[f"guest {number}" for number in range(len(guest))])
    store = ingest_frame(pd.concat([shop.log, guest]), tmp_path / "store").store
    login = {"ts": pd.Timestamp("2024-05-20"), "kind": "login", "device_id": "d", "user_id": "u1"}
    with_login = ingest_frame(pd.concat([shop.log, guest, pd.DataFrame([login])]), tmp_path / "with login").store
    assert store is not None
    assert with_login is not None
    deployed = load_current(shop.settings.deployed)
    user = {"user_id": "u1", "device_id": "d"}
    sent = {**user, "events": [{"ts": "2024-05-20", "kind": "login"}]}

    def probability(user: dict[str, Any], as_of: str) -> float:
        request = ChurnRequest.model_validate({"users": [user], "as_of": as_of, "reasons": 5})
        return churn(request, Held(deployed, store)).results[0].probability

    [expected] = churn_answers(with_login.timeline_of(["u1"]), AS_OF, shop.churn, ChurnQuestion(reasons=5))
    assert probability(sent, "2024-06-01") == asdict(expected)["probability"]
    assert probability(sent, "2024-06-01") != probability(user, "2024-06-01")
    assert (
        probability(sent, "2024-05-20")
        == probability(user, "2024-05-20")
        == probability({"user_id": "u1"}, "2024-05-20")
    )
