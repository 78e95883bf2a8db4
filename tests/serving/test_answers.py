"""What the service answers is what a batch says, and what is sent along counts as if it had been ingested."""

import math
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from features.events.ingest import ingest
from features.events.sources import Source
from features.events.store import Store
from features.timeline import Timeline
from models.answers import (
    CatalogueCodes,
    ChurnAnswer,
    ChurnQuestion,
    RecommendAnswer,
    churn_answers,
    recommend_answers,
)
from models.recommender import MODES, Ask, Filter, Mode
from models.words import Language
from serving.schemas import ChurnResponse, RecommendResponse, iso
from tests.features.support import NOW, at, write_log
from tests.serving.conftest import Shop
from tests.serving.shop import AS_OF, Server, ingested_shop, items

EVENTS: list[dict[str, Any]] = [
    {"ts": "2024-05-30T10:00:00Z", "kind": "view", "item_id": "i7", "dwell_s": 12.5},
    {"ts": "2024-05-30T10:05:00", "kind": "purchase", "item_id": "i7", "price": 7.59, "quantity": 2, "order_id": "n1"},
    {"ts": "2024-05-31T12:00:00+02:00", "kind": "cart", "item_id": "brand new"},
    {"ts": "2024-06-02T10:00:00Z", "kind": "purchase", "item_id": "i9"},  # after the moment: not known
]


def as_json(answer: Any) -> Any:
    """An answer as it looks in JSON."""
    if isinstance(answer, RecommendAnswer):
        known = asdict(answer)
        return as_json({name: known[name] for name in known if name != "draw"} | {"explored": answer.explored})
    if isinstance(answer, ChurnAnswer):
        return as_json(asdict(answer))
    if isinstance(answer, dict):
        return {name: as_json(value) for name, value in answer.items()}
    if isinstance(answer, list):
        return [as_json(value) for value in answer]
    return None if isinstance(answer, float) and math.isnan(answer) else answer


def churn_batch(shop: Shop, timeline: Timeline) -> list[Any]:
    return [*churn_answers(timeline, AS_OF, shop.churn, ChurnQuestion(reasons=3))]


def batch(store: Store, rows: int, answers: Callable[[Timeline], list[Any]]) -> dict[str, Any]:
    """Answers for all users, in buckets of about so many events."""
    return {answer.user_id: as_json(answer) for timeline in store.timelines(rows) for answer in answers(timeline)}


def compared(
    server: Server, path: str, expected: dict[str, Any], every: int, tell: Callable[..., None], **asked: Any
) -> None:
    """What is answered of all users in one request, and of some alone, is what is expected."""
    users = [{"user_id": user} for user in expected]
    together = server.ask(path, users=users, **asked)["results"]
    alone = {user["user_id"]: server.ask(path, users=[user], **asked)["results"][0] for user in users[::every]}
    assert len(expected) > 250
    assert [answer["user_id"] for answer in together] == list(expected)
    differences = sum(answer != expected[answer["user_id"]] for answer in together)
    differences += sum(one != expected[user] for user, one in alone.items())
    assert differences == 0
    tell(users_compared=len(expected), requests=len(alone) + 1, differences=differences)


def test_churn_online_equals_batch_to_the_bit(shop: Shop, server: Server, tell: Callable[..., None]) -> None:
    expected = batch(shop.store, 700, partial(churn_batch, shop))
    compared(server, "churn", expected, 3, tell, reasons=3)


def offers(shop: Shop, store: Store, ask: Ask, language: Language = "en") -> dict[str, Any]:
    """Recommendations for all users, in buckets."""
    codes = CatalogueCodes(store, shop.recommender).of_store
    return batch(store, 700, lambda t: [*recommend_answers(t, AS_OF, shop.recommender, codes, ask, language)])


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_online_equals_batch_to_the_bit(
    mode: Mode, shop: Shop, server: Server, tell: Callable[..., None]
) -> None:
    cart = ("i3", "i4") if mode == "bundle" else ()
    expected = offers(shop, shop.store, Ask(mode, 20, cart=cart, discount=0.2))
    heads = {item["head"] for answer in expected.values() for item in answer["items"]}
    assert len(heads) > 1 or mode == "welcome"
    compared(server, "recommend", expected, 12, tell, mode=mode, cart=cart, context={"discount": 0.2})


FILTERS: tuple[dict[str, Any], ...] = (
    {"in_stock": True},
    {"categories": ["food", "home > kind 1"]},
    {"not_categories": ["home"]},
    {"brands": ["brand 1", "brand 3"]},
    {"price_min": 9.5, "price_max": 20.0},
    {"shown_days": 400.0},
    {"per_category": 2},
    {"in_stock": True, "categories": ["home"], "brands": ["brand 2"], "price_max": 14.0, "per_category": 1},
)


@pytest.mark.parametrize("given", FILTERS, ids=lambda given: "+".join(given))
def test_every_filter_online_equals_batch_to_the_bit(
    given: dict[str, Any], shop: Shop, server: Server, tell: Callable[..., None]
) -> None:
    lists: dict[str, Any] = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    ours = Filter(**{**given, **lists})
    expected = offers(shop, shop.store, Ask("all", 10, filter=ours, scene="home"), "zh")
    assert expected != offers(shop, shop.store, Ask("all", 10, scene="home"), "zh") or "shown_days" in given
    asked: dict[str, Any] = {"k": 10, "filter": given, "context": {"scene": "home"}, "language": "zh"}
    compared(server, "recommend", expected, 60, tell, **asked)
    table = items().set_index("item_id")
    for answer in expected.values():
        shown = table.loc[[item["item_id"] for item in answer["items"]]]
        assert not answer["items"] or any("一" <= letter <= "鿿" for letter in answer["items"][0]["evidence"])
        assert len(shown) == 10 or given.keys() & {"brands", "per_category"}
        assert shown["in_stock"].all() or not given.get("in_stock")
        assert shown["brand"].isin(given.get("brands", shown["brand"])).all()
        assert shown["category"].str.startswith(tuple(given.get("categories", [""]))).all()
        assert not shown["category"].str.startswith(tuple(given.get("not_categories", ["nothing"]))).any()
        assert shown["category"].value_counts().max() <= given.get("per_category", 10)
        assert shown["price"].between(given.get("price_min", 0) - 1e-6, given.get("price_max", 99) + 1e-6).all()


def ingested(shop: Shop, folder: Path, rows: list[dict[str, Any]]) -> Store:
    """A store of the shop's log and of more rows."""
    ingested_shop(shop.log, folder / "store")
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
    assert churn == as_json([*churn_answers(timeline, AS_OF, shop.churn, ChurnQuestion(reasons=10))])
    offered = server.ask("recommend", users=asked)["results"]
    assert offered == as_json([*recommend_answers(timeline, AS_OF, shop.recommender, codes)])
    assert churn[0]["status"] == offered[0]["status"] == "ok"
    assert churn != server.ask("churn", users=[user], reasons=10)["results"]
    assert offered != server.ask("recommend", users=[user])["results"]


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
        assert nobody["items"] == device["items"] == message["items"]
        assert nobody["items"][0]["head"] == "welcome"
        for mode in MODES:
            cart = {"cart": ["not sold here"]} if mode == "bundle" else {}
            strangers = server.ask(path, users=users[:3], mode=mode, **cart)["results"]
            lists = [answer["items"] for answer in strangers]
            assert lists == [nobody["items"][: 5 if mode == "win_back" else 20]] * 3
            assert [answer["status"] for answer in strangers] == ["unknown_user", "unknown_user", "too_little_history"]


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
    first, second, *others = [item["item_id"] for item in listed(server, users[0], k=10)]
    assert [item["item_id"] for item in listed(server, users[0], k=8, exclude=[first, second, "unheard of"])] == others
    carted = [item["item_id"] for item in listed(server, users[0], k=50, cart=[first], exclude=[second])]
    assert len(carted) > 40
    assert not {first, second} & set(carted)


def test_a_bundle_is_the_cart_and_what_goes_with_it(shop: Shop, server: Server) -> None:
    asked: dict[str, Any] = {"mode": "bundle", "cart": ["i3", "i30", "i3"], "context": {"discount": 0.25}}
    (known, stranger) = server.ask("recommend", users=[{"user_id": "u1"}, {"user_id": "nobody"}], k=5, **asked)[
        "results"
    ]
    prices = items().set_index("item_id")["price"]
    for answer in (known, stranger):
        bundle = answer["bundle"]
        assert bundle["items"][:2] == ["i3", "i30"]
        added = bundle["items"][2:]
        assert 1 <= len(added) <= 3
        assert added == [item["item_id"] for item in answer["items"][: len(added)]]
        assert {item["head"] for item in answer["items"][: len(added)]} == {"complement"}
        assert bundle["price"] == pytest.approx(prices[bundle["items"]].sum(), abs=0.01)
        assert bundle["saves"] == pytest.approx(0.25 * bundle["price"], abs=0.01)
    assert {item["item_id"] for item in stranger["items"][:2]} <= {"i2", "i4", "i29", "i31"}
    assert (
        server.ask("recommend", users=[{"user_id": "u1"}], mode="bundle", cart=["unheard of"])["results"][0]["bundle"]
        is None
    )
    assert server.ask("recommend", users=[{"user_id": "u1"}], cart=["i3"])["results"][0]["bundle"] is None


# ------------------------------------------------------------------------------------- what happened a minute ago


def listed(server: Server, user: dict[str, Any], **asked: Any) -> list[dict[str, Any]]:
    """The items of one user."""
    found: list[dict[str, Any]] = server.ask("recommend", users=[user], **asked)["results"][0]["items"]
    return found


def with_events(user: dict[str, Any], *events: dict[str, Any]) -> dict[str, Any]:
    """The user with events of the last minutes before the server's moment."""
    return {**user, "events": [{"ts": f"2024-05-31T23:5{n}:00Z", **event} for n, event in enumerate(events)]}


U1 = {"user_id": "u1"}


def test_a_view_changes_the_list_at_once(server: Server) -> None:
    before = listed(server, U1, k=60, mode="cross_sell")
    rank = {item["item_id"]: place for place, item in enumerate(before)}
    viewed = with_events(U1, {"kind": "view", "item_id": "i33"}, {"kind": "view", "item_id": "i34"})
    after = {item["item_id"]: place for place, item in enumerate(listed(server, viewed, k=60, mode="cross_sell"))}
    near = [f"i{code}" for code in (31, 32, 35, 36)]
    assert sum(after[item] for item in near) < sum(rank[item] for item in near) - 20


def test_a_purchase_changes_the_list_at_once(server: Server) -> None:
    new = listed(server, U1, k=20, mode="cross_sell")[0]["item_id"]
    bought = with_events(U1, {"kind": "purchase", "item_id": new, "order_id": "now", "price": 7.0})
    assert new not in [item["item_id"] for item in listed(server, bought, k=60, mode="cross_sell")]
    due = listed(server, U1, k=1, mode="repeat")[0]
    assert due["head"] == "repeat"
    again = with_events(U1, {"kind": "purchase", "item_id": due["item_id"], "order_id": "now", "price": 7.0})
    assert due["item_id"] not in [item["item_id"] for item in listed(server, again, k=60, mode="repeat")]


def test_a_dislike_changes_the_list_at_once(server: Server) -> None:
    category = items().set_index("item_id")["category"]
    before = listed(server, U1, k=60)
    first = before[0]["item_id"]
    after = listed(server, with_events(U1, {"kind": "not_interested", "item_id": first}), k=60)
    assert first not in [item["item_id"] for item in after]
    score = {item["item_id"]: item["score"] for item in before}
    same = [item for item in after if category[item["item_id"]] == category[first] and score[item["item_id"]]]
    assert same
    assert all(item["score"] == pytest.approx(score[item["item_id"]] / 2, rel=1e-3) for item in same)


def test_what_was_shown_lately_may_be_left_out(server: Server) -> None:
    first = listed(server, U1)[0]["item_id"]
    shown = with_events(U1, {"kind": "shown", "item_id": first})
    assert listed(server, shown)[0]["item_id"] == first
    for days, there in ((7, False), (0.001, True)):
        found = [item["item_id"] for item in listed(server, shown, filter={"shown_days": days})]
        assert (first in found) == there


def test_an_anonymous_device_is_known_by_what_it_does(server: Server) -> None:
    views = [{"kind": "view", "item_id": f"i{code}"} for code in (40, 42)]
    device = with_events({"device_id": "never seen"}, *views)
    answer = server.ask("recommend", users=[device], k=6)["results"][0]
    assert (answer["user_id"], answer["status"]) == ("device:never seen", "ok")
    assert answer["items"] != listed(server, {"device_id": "never seen"}, k=6)
    kind = items().set_index("item_id")["category"]
    assert sum(kind[item["item_id"]] == "food > kind 4" for item in answer["items"]) >= 3


def test_a_login_sent_along_brings_what_the_device_did(shop: Shop, server: Server, tmp_path: Path) -> None:
    start = len(server.log)
    rows = [
        {"device_id": "phone", "ts": at("2024-05-31T20:00:00") + n, "kind": "view", "item_id": f"i{40 + n}"}
        for n in range(4)
    ]
    more = pd.DataFrame(rows).assign(
        user_id=None, ts=lambda frame: frame["ts"].to_numpy("int64").view("datetime64[us]")
    )
    ingest(Source(write_log(more, tmp_path / "more.parquet")), shop.settings.store, now=NOW)
    server.wait_for("took over", start)
    newcomer = {"user_id": "just arrived", "device_id": "phone"}
    assert server.ask("recommend", users=[newcomer])["results"][0]["status"] == "unknown_user"
    merged = server.ask("recommend", users=[with_events(newcomer, {"kind": "login"})], k=8)["results"][0]
    assert merged["status"] == "ok"
    assert merged["items"] == listed(server, {"device_id": "phone"}, k=8)


def test_the_answer_says_whose_it_is(shop: Shop, server: Server) -> None:
    churn = ChurnResponse.model_validate(server.ask("churn", users=[{"user_id": "u1"}], horizon=30, reasons=2))
    assert (churn.model, churn.bundle) == ("ebbtide-churn/1", f"sha256:{shop.bundle.name}")
    assert 1 <= len(churn.results[0].reasons) <= 2
    offers = RecommendResponse.model_validate(server.ask("recommend", users=[{"user_id": "u1"}], k=3))
    assert (offers.model, offers.bundle, len(offers.results[0].items)) == ("ebbtide-cross-sell/1", churn.bundle, 3)
