"""What a timeline tells of contacts: worked out by hand, against a slow twin, and never from what is not known yet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from features.audience.directory import Directory
from features.events import columns as c
from features.events.store import Store
from models.contacts import Contacts, Message, contacts_of
from models.playbook import NOT_A_RETURN
from tests.features.support import RANDOM_MOMENTS, at, ingest_frame, ingest_rows
from tests.randomlog import random_log

MARCH = at("2024-03-01")


def event(user: str, day: int, kind: str, hour: int = 12, **columns: Any) -> dict[str, Any]:
    """On a day of February 2024."""
    return {"user_id": user, "ts": f"2024-02-{day:02d}T{hour:02d}:00:00Z", "kind": kind, **columns}


def told(rows: Sequence[dict[str, Any]], folder: Path, as_of: int = MARCH) -> dict[str, Contacts]:
    """What the whole log tells of each user."""
    store = ingest_rows(rows, folder / "store").store
    assert store is not None
    return of_store(store, as_of)


def of_store(store: Store, as_of: int) -> dict[str, Contacts]:
    return {
        contact.user_id: contact
        for timeline in store.timelines()
        for contact in contacts_of(timeline, as_of, Directory(store))
    }


def february(day: int, hour: int = 12) -> int:
    return at(f"2024-02-{day:02d}T{hour:02d}:00:00")


def test_messages_and_what_was_opened(tmp_path: Path) -> None:
    rows = [
        event("a", 1, "message_sent", campaign_id="recall/1", channel="push"),
        event("a", 2, "message_sent", campaign_id="spring", channel="sms"),
        event("a", 3, "message_sent", campaign_id="recall/2", channel="push"),
        event("a", 4, "message_opened", campaign_id="recall/1"),  # its own, though two came after
        event("a", 5, "message_opened"),  # the newest that is not opened yet
        event("b", 1, "message_opened", campaign_id="recall/1"),  # nothing was sent
        event("b", 2, "message_sent"),
    ]
    contacts = told(rows, tmp_path)
    assert contacts["a"].messages == (
        Message(february(1), "recall/1", "push", opened=True),
        Message(february(2), "spring", "sms", opened=False),
        Message(february(3), "recall/2", "push", opened=True),
    )
    assert contacts["b"].messages == (Message(february(2)),)
    assert [message.rung for message in contacts["a"].messages] == [("recall", 1), None, ("recall", 2)]


@pytest.mark.parametrize(
    "campaign", ["", "recall", "recall/", "/1", "recall/x", "recall/²", "recall/0", "recall/-1", "recall/1/"]
)
def test_a_campaign_of_another_form_is_no_step(campaign: str) -> None:
    assert Message(0, campaign).rung is None


def test_opens_are_known_once_the_log_has_one(tmp_path: Path) -> None:
    rows = [event("a", 1, "message_sent"), event("b", 20, "message_opened")]
    assert told(rows, tmp_path)["a"].opens_known
    assert not told(rows, tmp_path, february(20))["a"].opens_known


def test_opt_outs_and_opt_ins_by_channel(tmp_path: Path) -> None:
    rows = [
        event("a", 1, "opt_out", channel="sms"),
        event("a", 3, "opt_out", channel="sms"),
        event("a", 2, "opt_out"),
        event("a", 4, "opt_in", channel="push"),
    ]
    contact = told(rows, tmp_path)["a"]
    assert contact.opted_out == {"sms": february(3), "all": february(2)}
    assert contact.opted_in == {"push": february(4)}


def test_coupons_are_used_by_campaign_else_the_oldest_first(tmp_path: Path) -> None:
    rows = [
        event("a", 1, "coupon_received", campaign_id="x"),
        event("a", 2, "coupon_received", campaign_id="y"),
        event("a", 3, "coupon_received", campaign_id="z"),
        event("a", 4, "coupon_used", campaign_id="y"),
        event("a", 5, "coupon_used"),
        event("b", 1, "coupon_used"),  # received before the log began
        event("b", 2, "coupon_received"),
    ]
    contacts = told(rows, tmp_path)
    assert contacts["a"].benefits == (february(3),)
    assert contacts["b"].benefits == (february(2),)


def test_an_order_is_abandoned_until_something_is_paid(tmp_path: Path) -> None:
    rows = [
        event("paid", 1, "cart"),
        event("paid", 2, "purchase"),
        event("left", 1, "purchase"),
        event("left", 2, "cart"),
        event("left", 3, "order_placed"),
        event("at once", 3, "order_placed"),
        event("at once", 3, "purchase"),
        event("looked", 3, "view"),
    ]
    contacts = told(rows, tmp_path)
    abandoned = {user: contact.abandoned_at for user, contact in contacts.items()}
    assert abandoned == {"paid": None, "left": february(3), "at once": None, "looked": None}


def test_the_newest_sign_of_being_back(tmp_path: Path) -> None:
    rows = [
        event("a", 1, "purchase"),
        event("a", 2, "view"),
        *(event("a", 3 + number, kind) for number, kind in enumerate((*NOT_A_RETURN, *c.NOT_BY_USER))),
        event("b", 1, "message_sent"),
    ]
    contacts = told(rows, tmp_path)
    assert contacts["a"].newest() == february(2)
    assert contacts["a"].newest(("purchase", "share")) == february(1)
    assert contacts["b"].newest() == contacts["a"].newest(("share",)) == -1


def test_what_is_not_known_yet_does_not_count(tmp_path: Path) -> None:
    rows = [
        event("a", 1, "message_sent", campaign_id="recall/1", event_id="1"),
        event("a", 2, "purchase", event_id="2", arrived_at="2024-02-20T00:00:00Z"),
        event("a", 3, "opt_out", event_id="3", arrived_at="2024-02-10T00:00:00Z"),
        event("a", 25, "register", event_id="4"),
    ]
    early = told(rows, tmp_path, february(4))["a"]
    assert (early.last, early.opted_out, early.registered_at) == ({"message_sent": february(1)}, {}, None)
    later = told(rows, tmp_path, february(15))["a"]
    assert (later.newest(), later.opted_out) == (-1, {"all": february(3)})
    assert told(rows, tmp_path, february(21))["a"].newest() == february(2)


@pytest.mark.parametrize("as_of", RANDOM_MOMENTS)
def test_a_slow_twin_agrees_on_a_nasty_log(as_of: int, small_store: Store, small_log: pd.DataFrame) -> None:
    contacts = of_store(small_store, as_of)
    log = small_log.assign(at=small_log["ts"].astype("datetime64[us]").astype("int64"))
    arrived = log["arrived_at"].astype("datetime64[us]").astype("int64").where(log["arrived_at"].notna(), 0)
    log = log[(log["at"] < as_of) & (arrived <= as_of)]
    for user, contact in contacts.items():
        own = log[log["user_id"].astype(str) == user]
        assert dict(contact.last) == own.groupby("kind")["at"].max().to_dict()
        sent = own[own["kind"] == "message_sent"]
        assert [message.ts for message in contact.messages] == sorted(sent["at"])
        assert sorted(message.campaign for message in contact.messages) == sorted(sent["campaign_id"].fillna(""))
        assert sum(message.opened for message in contact.messages) <= (own["kind"] == "message_opened").sum()
        register = own[own["kind"] == "register"]["at"]
        assert contact.registered_at == (None if register.empty else register.min())


@pytest.mark.parametrize("as_of", RANDOM_MOMENTS[:2])
def test_nothing_later_and_no_other_user_changes_anything(as_of: int, tmp_path: Path) -> None:
    log = random_log(11, users=12, events=800)
    known = log[(log["ts"] < pd.Timestamp(as_of, unit="us")) & ~(log["arrived_at"] > pd.Timestamp(as_of, unit="us"))]
    whole, past = (ingest_frame(rows, tmp_path / name).store for name, rows in (("whole", log), ("past", known)))
    assert whole is not None
    assert past is not None
    expected = of_store(past, as_of)
    assert {user: contact for user, contact in of_store(whole, as_of).items() if contact.last} == expected
    for user, contact in expected.items():
        assert contacts_of(whole.timeline_of([user]), as_of, Directory(whole)) == [contact]
