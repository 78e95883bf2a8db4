"""What the service answers is what a batch says, and what is sent along counts as if it had been ingested."""

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from features.events.ingest import ingest
from features.events.sources import Source
from features.events.store import Store
from models.answers import CatalogueCodes, ChurnQuestion, churn_answers, recommend_answers
from serving.schemas import ChurnResponse, RecommendResponse, iso
from tests.features.support import NOW, at, write_log
from tests.serving.conftest import Shop
from tests.serving.shop import AS_OF, Server

EVENTS: list[dict[str, Any]] = [
    {"ts": "2024-05-30T10:00:00Z", "kind": "view", "item_id": "i7", "dwell_s": 12.5},
    {"ts": "2024-05-30T10:05:00", "kind": "purchase", "item_id": "i7", "price": 7.59, "quantity": 2, "order_id": "n1"},
    {"ts": "2024-05-31T12:00:00+02:00", "kind": "cart", "item_id": "brand new"},
    {"ts": "2024-06-02T10:00:00Z", "kind": "purchase", "item_id": "i9"},  # after the moment: not known
]


def as_json(answer: Any) -> Any:
    """An answer as it looks in JSON."""
    if isinstance(answer, dict):
        return {name: as_json(value) for name, value in answer.items()}
    if isinstance(answer, list):
        return [as_json(value) for value in answer]
    return None if isinstance(answer, float) and math.isnan(answer) else answer


def batch(shop: Shop, store: Store, rows: int, mode: str | None = None) -> dict[str, Any]:
    """Answers for all users, in buckets of about so many events; churn's, or a mode's recommendations."""
    codes = CatalogueCodes(store, shop.recommender).of_store
    answers: dict[str, Any] = {}
    for timeline in store.timelines(rows):
        found: list[Any] = (
            [*churn_answers(timeline, AS_OF, shop.churn, ChurnQuestion(reasons=3))]
            if mode is None
            else [*recommend_answers(timeline, AS_OF, shop.recommender, codes, k=20, mode=mode)]
        )
        answers |= {answer.user_id: as_json(asdict(answer)) for answer in found}
    return answers


@pytest.mark.parametrize("mode", [None, "all", "cross_sell"])
def test_online_equals_batch_to_the_bit(
    mode: str | None, shop: Shop, server: Server, tell: Callable[..., None]
) -> None:
    expected = batch(shop, shop.store, rows=700, mode=mode)
    path, extra = ("churn", {"reasons": 3}) if mode is None else ("recommend", {"mode": mode})
    users = [{"user_id": user} for user in expected]
    together = server.ask(path, users=users, **extra)["results"]
    alone = {user["user_id"]: server.ask(path, users=[user], **extra)["results"][0] for user in users[::3]}
    assert len(expected) > 250
    assert [answer["user_id"] for answer in together] == list(expected)
    differences = sum(answer != expected[answer["user_id"]] for answer in together)
    differences += sum(one != expected[user] for user, one in alone.items())
    assert differences == 0
    tell(users_compared=len(expected), requests=len(alone) + 1, differences=differences)


def ingested(shop: Shop, folder: Path, rows: list[dict[str, Any]]) -> Store:
    """A store of the shop's log and of more rows."""
    ingest(Source(write_log(shop.log, folder / "log.parquet")), folder / "store", now=NOW)
    more = pd.DataFrame(rows).assign(ts=lambda frame: pd.to_datetime(frame["ts"], format="ISO8601", utc=True))
    return ingest_more(more.assign(ts=more["ts"].dt.tz_localize(None)), folder)


def ingest_more(more: pd.DataFrame, folder: Path) -> Store:
    store = ingest(Source(write_log(more, folder / "more.parquet")), folder / "store", now=NOW).store
    assert store is not None
    return store


@pytest.mark.parametrize(
    ("user", "row"),
    [
        ({"user_id": "u1"}, {"user_id": "u1"}),
        ({"user_id": "someone new"}, {"user_id": "someone new"}),
        ({"device_id": "d9"}, {"device_id": "d9", "user_id": None}),
    ],
    ids=["known", "new", "device"],
)
def test_events_sent_along_count_as_if_they_were_ingested(
    user: dict[str, str], row: dict[str, Any], shop: Shop, server: Server, tmp_path: Path
) -> None:
    store = ingested(shop, tmp_path, [{**event, **row} for event in EVENTS])
    timeline_id = user.get("user_id", f"device:{user.get('device_id')}")
    timeline = store.timeline_of([timeline_id])
    codes = CatalogueCodes(store, shop.recommender).of_store
    asked = [{**user, "events": EVENTS}]
    churn = server.ask("churn", users=asked, reasons=10)["results"]
    assert churn == as_json([asdict(a) for a in churn_answers(timeline, AS_OF, shop.churn, ChurnQuestion(reasons=10))])
    items = server.ask("recommend", users=asked)["results"]
    assert items == as_json([asdict(a) for a in recommend_answers(timeline, AS_OF, shop.recommender, codes)])
    assert churn[0]["status"] == items[0]["status"] == "ok"
    assert churn != server.ask("churn", users=[user], reasons=10)["results"]
    assert items != server.ask("recommend", users=[user])["results"]


def test_an_event_that_is_stored_already_counts_once(shop: Shop, server: Server) -> None:
    own = shop.log[shop.log["user_id"] == "u1"]
    again = [
        {name: value for name, value in row.items() if name not in ("user_id", "ts") and pd.notna(value)}
        | {"ts": row["ts"].isoformat()}
        for row in own.to_dict("records")
    ]
    assert len(again) > 5
    with_events = server.ask("churn", users=[{"user_id": "u1", "events": again}], reasons=10)
    assert with_events == server.ask("churn", users=[{"user_id": "u1"}], reasons=10)


@pytest.mark.parametrize("path", ["churn", "recommend"])
def test_who_is_not_known_gets_a_labelled_fallback(path: str, shop: Shop, server: Server) -> None:
    users = [{"user_id": "nobody"}, {"device_id": "d9"}, {"user_id": "only a message"}, {"user_id": "u1"}]
    nobody, device, message, known = server.ask(path, users=users)["results"]
    assert [a["status"] for a in (nobody, device, message, known)] == [
        *("unknown_user", "unknown_user"),
        *("too_little_history", "ok"),
    ]
    assert device["user_id"] == "device:d9"
    if path == "churn":
        assert nobody["probability"] == message["probability"] == shop.churn.base_rate()
    else:
        assert {item["head"] for item in nobody["items"]} == {"popular"}
        assert nobody["items"] == device["items"] == message["items"]


def test_a_user_id_may_be_a_number(server: Server) -> None:
    assert server.ask("churn", users=[{"user_id": 12347}])["results"][0]["user_id"] == "12347"


def test_a_thousand_users_in_one_request(server: Server) -> None:
    users = [{"user_id": f"u{number}"} for number in range(1_000)]
    for path in ("churn", "recommend"):
        results = server.ask(path, users=users)["results"]
        assert [answer["user_id"] for answer in results] == [user["user_id"] for user in users]


def test_the_moment_is_the_requests_else_the_servers(shop: Shop, server: Server) -> None:
    users = [{"user_id": "u1"}]
    own = server.ask("churn", users=users)
    assert own["as_of"] == iso(AS_OF) == "2024-06-01T00:00:00Z"
    assert own == server.ask("churn", users=users, as_of="2024-06-01")
    assert own == server.ask("churn", users=users, as_of="2024-06-01T02:00:00+02:00")
    earlier = server.ask("churn", users=users, as_of="2024-03-01T00:00:00.000001")
    assert earlier["as_of"] == "2024-03-01T00:00:00.000001Z"
    [expected] = churn_answers(shop.store.timeline_of(["u1"]), at("2024-03-01") + 1, shop.churn)
    assert earlier["results"][0]["probability"] == expected.probability


def test_cart_and_exclude_are_never_recommended(server: Server) -> None:
    users = [{"user_id": "u1"}]
    first, second, *others = server.ask("recommend", users=users, k=10)["results"][0]["items"]
    left = server.ask("recommend", users=users, k=8, cart=[first["item_id"]], exclude=[second["item_id"], "unheard of"])
    assert left["results"][0]["items"] == others


def test_the_answer_says_whose_it_is(shop: Shop, server: Server) -> None:
    churn = ChurnResponse.model_validate(server.ask("churn", users=[{"user_id": "u1"}], horizon=30, reasons=2))
    assert (churn.model, churn.bundle) == ("ebbtide-churn/1", f"sha256:{shop.bundle.name}")
    assert 1 <= len(churn.results[0].reasons) <= 2
    items = RecommendResponse.model_validate(server.ask("recommend", users=[{"user_id": "u1"}], k=3))
    assert (items.model, items.bundle, len(items.results[0].items)) == ("ebbtide-cross-sell/1", churn.bundle, 3)
