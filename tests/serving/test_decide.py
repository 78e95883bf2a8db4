"""What to do with each user, asked over HTTP: as the nightly plan has it, current to the last event sent along."""

from pathlib import Path
from typing import Any

import pytest

from models.decisions import Decided, Operator
from models.deployed import load_current
from serving.schemas import iso
from tests.features.support import DAY_US
from tests.serving.conftest import Shop
from tests.serving.shop import AS_OF, Server


@pytest.fixture(scope="module")
def planned(shop: Shop) -> list[Decided]:
    """All users, in one go."""
    operator = Operator(shop.store, load_current(shop.settings.deployed))
    return [d for timeline in shop.store.timelines() for d in operator.decide(timeline, AS_OF)]


def told(decided: Decided) -> dict[str, Any]:
    """A decision as the endpoint tells it."""
    decision = decided.decision
    names = ("action", "reason", "ladder", "step", "campaign_id", "channel", "offer", "contact_id", "cost")
    about = {name: getattr(decision, name) for name in names}
    about["expected_gain"] = decision.expected_gain
    about["send_at"] = None if decision.send_at is None else iso(decision.send_at)
    return about


def test_every_user_gets_what_the_plan_has(server: Server, planned: list[Decided]) -> None:
    ids = [decided.profile.user_id for decided in planned]
    answer = server.ask("decide", users=[{"user_id": user} for user in ids])
    assert answer["model"] == "ebbtide-churn/1"
    assert {decided.decision.action for decided in planned} == {"contact", "none"}
    for decided, result in zip(planned, answer["results"], strict=True):
        assert {name: result["decision"][name] for name in told(decided)} == told(decided)
        assert result["profile"]["stage"] == decided.profile.stage
        assert result["profile"]["probability"] == decided.profile.probability
        assert [item["item_id"] for item in result["items"]] == [item.item_id for item in decided.items]
        assert result["reason"] == decided.reason
        assert result["decision"]["why"] == []


def contacted(planned: list[Decided]) -> Decided:
    """Someone whom the plan sends the first of several messages."""
    return next(d for d in planned if d.decision.action == "contact" and d.decision.ladder == "recall")


def test_a_message_sent_along_counts_and_is_not_sent_again(server: Server, planned: list[Decided]) -> None:
    first = contacted(planned)
    message = {
        "ts": iso(AS_OF - 2 * DAY_US),
        "kind": "message_sent",
        "campaign_id": first.decision.campaign_id,
        "channel": first.decision.channel,
        "event_id": first.decision.contact_id,
    }
    user = {"user_id": first.profile.user_id, "events": [message]}
    second = server.ask("decide", users=[user], explain=True)["results"][0]
    assert (second["decision"]["ladder"], second["decision"]["step"]) == ("recall", 2)
    assert second["decision"]["contact_id"] != first.decision.contact_id
    assert any("recall: step due" in line for line in second["decision"]["why"])
    back = {"ts": iso(AS_OF - DAY_US), "kind": "view", "item_id": "i1"}
    after = server.ask("decide", users=[{"user_id": first.profile.user_id, "events": [message, back]}])["results"][0]
    assert after["decision"]["ladder"] != "recall"


def test_who_opts_out_is_left_alone(server: Server, planned: list[Decided]) -> None:
    user = contacted(planned).profile.user_id
    out = {"ts": iso(AS_OF - 60_000_000), "kind": "opt_out"}
    answer = server.ask("decide", users=[{"user_id": user, "events": [out]}])["results"][0]
    assert (answer["decision"]["action"], answer["decision"]["reason"]) == ("none", "opted out")
    assert answer["items"] == []
    assert answer["reason"] is None


def test_strangers_and_devices_get_an_answer(server: Server) -> None:
    click = {"ts": iso(AS_OF - 60_000_000), "kind": "view", "item_id": "i3"}
    users = [{"user_id": "a stranger"}, {"device_id": "d9", "events": [click]}]
    stranger, device = server.ask("decide", users=users)["results"]
    assert (stranger["profile"]["stage"], stranger["decision"]["action"]) == ("unknown", "none")
    assert (device["profile"]["stage"], device["profile"]["user_id"]) == ("anonymous", "device:d9")


def test_who_a_user_is(server: Server, planned: list[Decided]) -> None:
    profile = contacted(planned).profile
    response = server.client.get(f"/v1/users/{profile.user_id}")
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["profile"]["stage"] == profile.stage
    assert answer["profile"]["rfm"] == list(profile.rfm or ())
    assert answer["persona"]["orders"] == profile.orders
    assert profile.user_id in answer["text"]
    chinese = server.client.get(f"/v1/users/{profile.user_id}", params={"language": "zh", "as_of": "2024-01-01"}).json()
    assert chinese["as_of"] == "2024-01-01T00:00:00Z"
    assert any("\u4e00" <= letter <= "\u9fff" for letter in chinese["text"])


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/users/nobody", 404, "unknown_user"),
        ("/v1/users", 404, "not_found"),
        ("/v1/users/", 404, "not_found"),
        ("/v1/users/u1?as_of=tomorrow", 422, "invalid"),
        ("/v1/users/u1?colour=red", 422, "invalid"),
        ("/v1/users/u1?as_of=2024-01-01&as_of=2024-01-02", 422, "invalid"),
        ("/v1/users/u1?id=u2", 422, "invalid"),
        ("/v1/users/u1?language=en&id=u2", 422, "invalid"),
        ("/v1/users/u1?language=fr", 422, "invalid"),
    ],
)
def test_a_user_who_cannot_be_told(server: Server, path: str, status: int, code: str) -> None:
    response = server.client.get(path)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


def test_what_is_asked_twice_is_named(server: Server) -> None:
    for query, field in (("language=en&id=u2", "id"), ("as_of=2024-01-01&language=en&language=zh", "language")):
        error = server.client.get(f"/v1/users/u1?{query}").json()["error"]
        assert error["field"] == field
        assert error["message"].startswith(field)


def test_users_are_read_and_not_posted(server: Server) -> None:
    response = server.client.post("/v1/users/u1", json={})
    assert response.status_code == 405
    assert response.headers["allow"] == "GET"


def test_an_id_may_hold_any_letters(server: Server) -> None:
    response = server.client.get("/v1/users/only%20a%20message")
    assert response.status_code == 200, response.text
    assert response.json()["profile"]["user_id"] == "only a message"


def test_a_bundle_without_a_playbook_says_so(shop: Shop, tmp_path: Path) -> None:
    from serving.answers import Held, decide
    from serving.guard import Refused
    from serving.user_schemas import DecideRequest
    from tests.serving.shop import deploy_bundle

    deploy_bundle(tmp_path, shop.churn, None)
    held = Held(load_current(tmp_path), shop.store)
    with pytest.raises(Refused, match="no audience model but churn"):
        decide(DecideRequest.model_validate({"users": [{"user_id": "u1"}]}), held)
