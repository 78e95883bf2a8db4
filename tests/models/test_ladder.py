"""Ladders over 60 days: no step twice, none after a return, no cap and no refusal ever broken, whenever it is run."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from features.audience.directory import Directory
from features.events.ingest import ingest
from features.events.sources import Source
from models.contacts import contacts_of
from models.policy import decide, in_control
from tests.conftest import Tell
from tests.features.support import NOW
from tests.models.ladderinspector import events_of, violations
from tests.models.ladderworld import (
    BOOK,
    DAY,
    DAYS,
    HOUR,
    START,
    Sending,
    World,
    ingested,
    lives,
    profiles_of,
    sendings,
    words,
)

# Moments of runs; 02:00 here is 10:00 where the shop is, 14:00 and 22:00 lie in its quiet hours.
RUNS = {
    "daily": [START + day * DAY + 2 * HOUR for day in range(DAYS)],
    "twice a day": [START + day * DAY + hour * HOUR for day in range(DAYS) for hour in (2, 9)],
    "twice a night": [START + day * DAY + hour * HOUR for day in range(DAYS) for hour in (14, 22)],
    "days missed": [START + day * DAY + 2 * HOUR for day in range(DAYS) if day not in (9, 20, 21, 37)],
}


def lived(users: int, runs: Sequence[int], folder: Path) -> tuple[World, pd.DataFrame]:
    """A world after all its runs, and the log of what users did by themselves."""
    log = lives(users)
    world = World(ingested(pd.concat([log, words()]), folder))
    for moment in runs:
        world.run(moment)
    return world, log


def inspect(users: int, runs: Sequence[int], folder: Path, tell: Tell) -> None:
    world, log = lived(users, runs, folder)
    events = events_of(log, world)
    steps = Counter(message.campaign for message in world.sent)
    tell(users=users, runs=len(runs), messages=len(world.sent), violations=violations(world.sent, events).total())
    assert violations(world.sent, events) == {}
    # There was something to break: long ladders, returns in the middle, every trigger but the registered ones' own.
    assert steps["recall/1"] > steps["recall/2"] > steps["recall/3"] > users / 200
    assert {"birthday", "member_day", "welcome", "abandoned_order", "benefit_ends", "niche"} <= {
        campaign.split("/")[0] for campaign in steps
    }
    assert any(in_control(user, BOOK.control.share, BOOK.control.salt) for user in world.users)
    assert len({message.user for message in world.sent}) > users / 2


@pytest.mark.parametrize("runs", RUNS)
def test_no_rule_is_broken(runs: str, tmp_path: Path, tell: Tell) -> None:
    inspect(120, RUNS[runs], tmp_path, tell)


@pytest.mark.slow
@pytest.mark.parametrize("runs", RUNS)
def test_no_rule_is_broken_with_ten_thousand_users(runs: str, tmp_path: Path, tell: Tell) -> None:
    inspect(10_000, RUNS[runs], tmp_path, tell)


def test_killed_and_run_again_the_plan_is_the_same(tmp_path: Path) -> None:
    world, _ = lived(250, RUNS["daily"][:3], tmp_path)
    moment = RUNS["daily"][3]
    half = slice(0, len(world.users) // 2)
    killed = world.plan(moment, half)
    whole = world.plan(moment)
    assert whole[half] == killed
    assert world.plan(moment) == whole
    planned = sendings(whole, moment)
    assert len(planned) >= 5
    world.send(planned[::2])  # so far the sender came before it was killed too
    again = sendings(world.plan(moment + 1), moment + 1)
    assert [message.contact_id for message in again] == [message.contact_id for message in planned[1::2]]
    world.send(again)
    assert sendings(world.plan(moment + 2), moment + 2) == []


def test_the_same_through_the_store_and_ingesting_twice_changes_nothing(tmp_path: Path) -> None:
    world = World(ingested(pd.concat([lives(40), words()]), tmp_path), answering=False)
    for moment in RUNS["daily"][:5]:
        expected = world.run(moment)
        store = type(world.store).open(world.store.path)
        decided = {}
        for timeline in store.timelines():
            contacts = contacts_of(timeline, moment, Directory(store))
            entries = [world.entries[world.users.index(contact.user_id)] for contact in contacts]
            for decision in decide(profiles_of(timeline, moment), contacts, entries, moment, BOOK):
                decided[decision.user_id] = decision
        assert [decided[decision.user_id] for decision in expected] == expected
        new = [message for message in world.sent if message.planned_at == moment]
        for _ in range(2):
            ingested_again = ingest(Source(_file(new, tmp_path)), store.path, now=NOW)
        assert ingested_again.store is not None
    assert len(world.sent) > 20


def _file(messages: Sequence[Sending], folder: Path) -> Path:
    """What the sender gives back: the messages as events."""
    rows = [
        {"user_id": m.user, "ts": pd.Timestamp(m.ts, unit="us"), "kind": "message_sent", "campaign_id": m.campaign,
         "channel": m.channel, "event_id": m.contact_id}
        for m in messages
    ]  # fmt: skip
    file = folder / "sent.parquet"
    pd.DataFrame(rows).to_parquet(file, index=False)
    return file


# ------------------------------------------------------------------------------------ the inspector sees what is wrong


def test_the_inspector_finds_each_kind_of_breach(tmp_path: Path) -> None:
    world, log = lived(120, RUNS["daily"][:20], tmp_path)
    events, sent = events_of(log, world), world.sent
    assert violations(sent, events) == {}
    second = next(message for message in sent if message.campaign == "recall/2")
    control = next(user for user in world.users if in_control(user, BOOK.control.share, BOOK.control.salt))
    out = next(
        user for user in world.users if user != "somebody" and world.entries[world.users.index(user)].consent is None
    )

    def with_one(message: Sending, **changes: Any) -> Counter[str]:
        return violations([*sent, message._replace(contact_id="new", **changes)], events)

    later = second.ts + 12 * DAY
    assert with_one(second, ts=later, planned_at=later)["step twice"]
    assert violations([*sent, second], events)["contact_id twice"]
    assert with_one(second, ts=second.ts + HOUR)["two a day"]
    assert with_one(second, user=control)["control group"]
    assert with_one(second, user=out, campaign="recall/1")["no consent"]
    assert with_one(second, campaign="recall/3")["step too early"]
    assert with_one(second, campaign="win_back/2")["step out of turn"]
    assert with_one(second, ts=second.ts - 6 * HOUR)["quiet hours"]
    crowd = [second._replace(ts=second.ts + day * DAY, campaign="niche/1", contact_id=str(day)) for day in (1, 2, 3)]
    assert violations([*sent, *crowd], events)["week cap"]
    texts = [one._replace(channel="sms") for one in crowd]
    assert violations([*sent, *texts], events)["channel cap"]
    refused = {**events, second.user: [*events[second.user], (second.ts - DAY, "opt_out", "", "")]}
    assert violations(sent, refused)["opted out"]
    back = {**events, second.user: [*events[second.user], (second.planned_at - HOUR, "view", "", "web")]}
    assert violations(sent, back)["after return"]
