"""Bad input gets a 4xx with a message that names the field; never a 500, and nothing pickled is read."""

import copy
import json
import pickle
import random
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from features.events import columns as c
from serving.guard import LARGEST_BODY
from serving.schemas import Event
from tests.serving.shop import Server

JSON = {"content-type": "application/json"}
USER = {"user_id": "u1"}
EVENT = {"ts": "2024-05-30T10:00:00Z", "kind": "view"}


def with_event(**fields: Any) -> dict[str, Any]:
    """A request whose third event has these fields."""
    return {"users": [{**USER, "events": [EVENT, EVENT, {**EVENT, **fields}]}]}


def problem(response: httpx.Response) -> dict[str, Any]:
    """What an error says; it must have the one form."""
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"error"}
    error: dict[str, Any] = body["error"]
    assert error.keys() == {"code", "message", "field"}
    assert "Traceback" not in error["message"]
    assert len(error["message"]) < 300
    return error


INVALID: dict[str, tuple[str, Any, str | None]] = {
    "empty list": ("churn", {"users": []}, "users"),
    "1,001 users": ("churn", {"users": [{"user_id": i} for i in range(1_001)]}, "users"),
    "no users": ("churn", {}, "users"),
    "not an object": ("churn", [1], None),
    "null": ("churn", None, None),
    "users not a list": ("churn", {"users": "u1"}, "users"),
    "user not an object": ("churn", {"users": ["u1"]}, "users[0]"),
    "nobody": ("churn", {"users": [USER, {}]}, "users[1]"),
    "empty user": ("churn", {"users": [{"user_id": ""}]}, "users[0]"),
    "user a float": ("churn", {"users": [{"user_id": 1.5}]}, "users[0].user_id"),
    "user a bool": ("churn", {"users": [{"user_id": True}]}, "users[0].user_id"),
    "long user": ("churn", {"users": [{"user_id": "é" * 257}]}, "users[0].user_id"),
    "a user twice": ("churn", {"users": [USER, {"user_id": "u2"}, USER]}, "users[2]"),
    "number and text are one user": ("recommend", {"users": [{"user_id": 1}, {"user_id": "1"}]}, "users[1]"),
    "unknown field": ("churn", {"users": [USER], "resons": 3}, "resons"),
    "unknown field of a user": ("recommend", {"users": [{**USER, "id": 1}]}, "users[0].id"),
    "unknown field of an event": ("churn", with_event(itemid="i1"), "users[0].events[2].itemid"),
    "event of another user": ("churn", with_event(user_id="u2"), "users[0].events[2].user_id"),
    "no time": ("churn", {"users": [{**USER, "events": [{"kind": "view"}]}]}, "users[0].events[0].ts"),
    "no kind": ("churn", with_event(kind=""), "users[0].events[2].kind"),
    "time a number": ("churn", with_event(ts=1_700_000_000), "users[0].events[2].ts"),
    "time no time": ("churn", with_event(ts="yesterday"), "users[0].events[2].ts"),
    "time before 1970": ("churn", with_event(ts="1969-12-31T23:59:59Z"), "users[0].events[2].ts"),
    "time in the future": ("churn", with_event(ts="2999-01-01"), "users[0].events[2].ts"),
    "arrival no time": ("churn", with_event(arrived_at="9999-99-99"), "users[0].events[2].arrived_at"),
    "negative price": ("churn", with_event(price=-1), "users[0].events[2].price"),
    "price a text": ("churn", with_event(price="3"), "users[0].events[2].price"),
    "large amount": ("churn", with_event(amount=1e11), "users[0].events[2].amount"),
    "large product": ("churn", with_event(price=1e9, quantity=1e9), "users[0].events[2]"),
    "long dwell": ("churn", with_event(dwell_s=1e9), "users[0].events[2].dwell_s"),
    "as_of no time": ("churn", {"users": [USER], "as_of": "now"}, "as_of"),
    "a horizon never learned": ("churn", {"users": [USER], "horizon": 9_999}, "horizon"),
    "a language never learned": ("churn", {"users": [USER], "language": "fr"}, "language"),
    "cause a text": ("churn", {"users": [USER], "cause": "yes"}, "cause"),
    "horizon 0": ("churn", {"users": [USER], "horizon": 0}, "horizon"),
    "11 reasons": ("churn", {"users": [USER], "reasons": 11}, "reasons"),
    "reasons a text": ("churn", {"users": [USER], "reasons": "3"}, "reasons"),
    "k 0": ("recommend", {"users": [USER], "k": 0}, "k"),
    "k 101": ("recommend", {"users": [USER], "k": 101}, "k"),
    "k a float": ("recommend", {"users": [USER], "k": 2.5}, "k"),
    "unknown mode": ("recommend", {"users": [USER], "mode": "new"}, "mode"),
    "a bundle of nothing": ("recommend", {"users": [USER], "mode": "bundle"}, None),
    "context": ("recommend", {"users": [USER], "context": {"page": "home"}}, "context.page"),
    "unknown scene": ("recommend", {"users": [USER], "context": {"scene": "moon"}}, "context.scene"),
    "scene a number": ("recommend", {"users": [USER], "context": {"scene": 1.5}}, "context.scene"),
    "all for nothing": ("recommend", {"users": [USER], "context": {"discount": 1.0}}, "context.discount"),
    "filter": ("recommend", {"users": [USER], "filter": {"category": "a"}}, "filter.category"),
    "filter a list": ("recommend", {"users": [USER], "filter": ["a"]}, "filter"),
    "categories a text": ("recommend", {"users": [USER], "filter": {"categories": "a"}}, "filter.categories"),
    "an empty category": (
        "recommend",
        {"users": [USER], "filter": {"not_categories": ["a", ""]}},
        "filter.not_categories[1]",
    ),
    "a brand of nothing": ("recommend", {"users": [USER], "filter": {"brands": [None]}}, "filter.brands[0]"),
    "a negative price": ("recommend", {"users": [USER], "filter": {"price_min": -1}}, "filter.price_min"),
    "a price that is a text": ("recommend", {"users": [USER], "filter": {"price_max": "9"}}, "filter.price_max"),
    "prices the wrong way round": (
        "recommend",
        {"users": [USER], "filter": {"price_min": 9, "price_max": 8}},
        "filter",
    ),
    "shown in no days": ("recommend", {"users": [USER], "filter": {"shown_days": 0}}, "filter.shown_days"),
    "none of a category": ("recommend", {"users": [USER], "filter": {"per_category": 0}}, "filter.per_category"),
    "stock a text": ("recommend", {"users": [USER], "filter": {"in_stock": "yes"}}, "filter.in_stock"),
    "a tongue never learned": ("recommend", {"users": [USER], "language": "fr"}, "language"),
    "1,001 in the cart": ("recommend", {"users": [USER], "cart": ["i1"] * 1_001}, "cart"),
    "exclude a text": ("recommend", {"users": [USER], "exclude": "i1"}, "exclude"),
    "cart of nothing": ("recommend", {"users": [USER], "cart": ["i1", None]}, "cart[1]"),
}


@pytest.mark.parametrize(("path", "body", "field"), INVALID.values(), ids=INVALID.keys())
def test_a_wrong_field_is_named(path: str, body: Any, field: str | None, server: Server) -> None:
    response = server.client.post(f"/v1/{path}", content=json.dumps(body), headers=JSON)
    error = problem(response)
    assert (response.status_code, error["code"], error["field"]) == (422, "invalid", field)
    assert error["message"].startswith(field or "the request")


NUMBERS = {
    "users[0].user_id": '{"users": [{"user_id": %s}]}',
    "users[0].events[0].price": '{"users": [{"user_id": 1, "events": [{"ts": "20240530", "kind": "a", "price": %s}]}]}',
    "reasons": '{"users": [{"user_id": 1}], "reasons": %s}',
}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5_000])
def test_numbers_that_are_none(number: str, server: Server) -> None:
    for field, body in NUMBERS.items():
        response = server.client.post("/v1/churn", content=body % number, headers=JSON)
        assert (response.status_code, problem(response)["field"]) in ((422, field), (400, None))
        assert response.status_code == 422 or len(number) == 5_000


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"users": [', b"u1", b"\xff\xfe", b'{"users": ["\\ud800"]}', b"\x00", b"[" * 100_000, b'"' * 9_999],
    ids=["empty", "open", "cut", "bare", "bytes", "surrogate", "nul", "deep", "quotes"],
)
def test_what_is_not_json(body: bytes, server: Server) -> None:
    response = server.client.post("/v1/churn", content=body, headers=JSON)
    assert (response.status_code, problem(response)["code"]) == (400, "bad_json")


def test_a_large_body_is_refused_at_once(server: Server) -> None:
    start = time.monotonic()
    response = server.client.post("/v1/churn", content=b" " * 5_000_000, headers=JSON)
    assert (response.status_code, problem(response)["code"]) == (413, "too_large")
    # Only the head is sent, and of a chunked body only so much: the answer does not wait for the rest.
    head = b"POST /v1/churn HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    for sent in (
        head + b"Content-Length: 5000000\r\n\r\n",
        head + b"Transfer-Encoding: chunked\r\n\r\n" + b"f4241\r\n" + b" " * (LARGEST_BODY + 1),
    ):
        assert b" 413 " in raw(server, sent).splitlines()[0]
    assert time.monotonic() - start < 5
    assert server.ask("churn", users=[USER])["results"][0]["status"] == "ok"


def test_a_client_that_hangs_up_harms_nobody(server: Server) -> None:
    start = len(server.log)
    head = b"POST /v1/churn HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    with socket.create_connection((server.client.base_url.host, server.client.base_url.port or 80)) as connection:
        connection.sendall(head)
    assert server.ask("churn", users=[USER])["results"][0]["status"] == "ok"
    assert "ERROR" not in server.log[start:]
    in_progress = [line for line in server.client.get("/metrics").text.splitlines() if "request_in_progress{" in line]
    assert [line for line in in_progress if '"/v1/churn"' in line and not line.endswith(" 0.0")] == []


def raw(server: Server, sent: bytes) -> bytes:
    """The beginning of the answer to some bytes."""
    address = (server.client.base_url.host, server.client.base_url.port or 80)
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(sent)
        return connection.recv(4_096)


def test_what_is_not_said_to_be_json(server: Server) -> None:
    body = json.dumps({"users": [USER]}).encode()
    for headers in (
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {**JSON, "content-encoding": "gzip"},
    ):
        assert problem(server.client.post("/v1/churn", content=body, headers=headers))["code"] in (
            "media_type",
            "content_encoding",
        )
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert server.client.post("/v1/churn", content=body, headers=headers).status_code == 200


def test_no_such_path_or_method(server: Server) -> None:
    assert problem(server.client.post("/v1/nothing", json={}))["code"] == "not_found"
    response = server.client.get("/v1/churn")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    problem(response)


class Opened:
    """Opens a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


def test_pickles_are_refused(server: Server, tmp_path: Path) -> None:
    body = pickle.dumps(Opened(tmp_path / "unpickled"))
    kinds = ("application/vnd.bentoml+pickle", "application/octet-stream", "application/json")
    statuses = [
        server.client.post(path, content=body, headers={"content-type": kind}).status_code
        for path in ("/v1/churn", "/v1/recommend", "/", "/docs.json", "/schema.json")
        for kind in kinds
    ]
    assert statuses[:6] == [415, 415, 400] * 2
    assert all(400 <= status < 500 for status in statuses)
    assert list(tmp_path.iterdir()) == []


NASTY: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1e308,
    10**600,
    "",
    "\x00",
    "💥" * 200,
    [],
    {},
    [[]],
    {"a": {}},
    "NaN",
    "2024-13-01",
)


OFFERS: dict[str, Any] = {
    "k": 5,
    "mode": "all",
    "cart": ["i1"],
    "exclude": ["i2"],
    "language": "en",
    "context": {"scene": "gift", "discount": 0.1},
    "filter": {"categories": ["home"], "brands": ["brand 1"], "price_min": 1.0, "shown_days": 3.0, "per_category": 2},
}


def test_whatever_is_changed_in_a_request_is_never_a_500(server: Server, tell: Callable[..., None]) -> None:
    rng = random.Random(1)
    counts: dict[int, int] = {}
    for _ in range(400):
        body: Any = copy.deepcopy(with_event(item_id="i1", price=1.5, quantity=2, order_id="o", event_id="e"))
        path = rng.choice(("churn", "recommend"))
        body |= {"as_of": "2024-06-01"} | ({"reasons": 1} if path == "churn" else copy.deepcopy(OFFERS))
        where: Any = body
        while True:
            key = rng.choice(list(where) if isinstance(where, dict) else range(len(where)))
            if isinstance(where[key], dict | list) and where[key] and rng.random() < 0.9:
                where = where[key]
                continue
            where[key] = copy.deepcopy(rng.choice(NASTY))
            break
        content = json.dumps(body)
        response = server.client.post(f"/v1/{path}", content=content, headers=JSON)
        counts[response.status_code] = counts.get(response.status_code, 0) + 1
        assert response.status_code < 500, (content, response.text)
        if response.status_code != 200:
            problem(response)
    assert counts[200] > 20
    assert counts[422] > 20
    tell(requests=sum(counts.values()), answered=counts[200], refused=counts[422])


def test_more_kinds_than_a_store_can_hold(server: Server) -> None:
    events = [{**EVENT, "kind": f"kind {number}"} for number in range(300)]
    response = server.client.post("/v1/churn", json={"users": [{**USER, "events": events}]})
    assert (response.status_code, problem(response)["code"]) == (422, "invalid")


def test_an_event_has_the_columns_of_the_contract() -> None:
    assert set(Event.model_fields) == set(c.COLUMNS) - {c.USER_ID}
