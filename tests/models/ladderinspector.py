"""The inspector of ladders: it reads the log and the playbook's text, and knows nothing of the code that decides."""

import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any

import pandas as pd

from tests.models.ladderworld import DAY, HOUR, TEXT, Sending, World, entry_of

EAST = 8 * HOUR  # Shanghai, all year round
BACK = {"view", "cart", "purchase", "register", "login"}  # the kinds of that world by which users return
Events = dict[str, list[tuple[int, str, str, str]]]  # by user: ts, kind, campaign, channel


def events_of(log: pd.DataFrame, world: World) -> Events:
    """Everything but the plans' own messages, in time order."""
    out: Events = defaultdict(list)
    for user, ts, kind, campaign, channel in zip(
        *(log[name].tolist() for name in ("user_id", "ts", "kind", "campaign_id", "channel")), strict=True
    ):
        out[user].append((ts, kind, campaign, channel))
    for user, ts, kind, campaign in world.answers:
        out[user].append((ts, kind, campaign, "web"))
    return {user: sorted(rows) for user, rows in out.items()}


def violations(sent: Sequence[Sending], events: Events) -> Counter[str]:
    """How often each rule was broken, told by the log and the text of the playbook alone."""
    book = tomllib.loads(TEXT)
    ladders = {ladder["name"]: ladder for ladder in book["ladder"]}
    broken: Counter[str] = Counter()
    by_user: dict[str, list[Sending]] = defaultdict(list)
    for message in sorted(sent, key=lambda message: message.ts):
        by_user[message.user].append(message)
    if len({message.contact_id for message in sent}) < len(sent):
        broken["contact_id twice"] += 1
    for user, messages in by_user.items():
        for place, message in enumerate(messages):
            before = messages[:place]
            known = [event for event in events.get(user, []) if event[0] < message.planned_at]
            for rule in (_control, _quiet, _caps, _refused):
                broken.update(rule(message, before, known, book))
            broken.update(_steps(message, before, known, ladders[message.campaign.split("/")[0]]))
    return broken


Known = Sequence[tuple[int, str, str, str]]


def _on(ts: int) -> int:
    return (ts + EAST) // DAY


def _control(message: Sending, before: Sequence[Sending], known: Known, book: dict[str, Any]) -> Iterable[str]:
    hashed = blake2b(f"{book['control']['salt']}\0{message.user}".encode(), digest_size=8).hexdigest()
    if int(hashed, 16) / 16**16 < book["control"]["share"]:
        yield "control group"


def _quiet(message: Sending, before: Sequence[Sending], known: Known, book: dict[str, Any]) -> Iterable[str]:
    hour = (message.ts + EAST) % DAY / HOUR
    if not book["quiet"]["to_hour"] <= hour < book["quiet"]["from_hour"]:
        yield "quiet hours"


def _caps(message: Sending, before: Sequence[Sending], known: Known, book: dict[str, Any]) -> Iterable[str]:
    earlier = [(m.ts, m.channel) for m in before] + [(e[0], e[3]) for e in known if e[1] == "message_sent"]
    week = [channel for ts, channel in earlier if _on(ts) > _on(message.ts) - 7]
    if any(_on(ts) == _on(message.ts) for ts, _ in earlier):
        yield "two a day"
    if len(week) + 1 > book["caps"]["week"]:
        yield "week cap"
    if week.count(message.channel) + 1 > book["caps"]["channels"].get(message.channel, 99):
        yield "channel cap"


def _refused(message: Sending, before: Sequence[Sending], known: Known, book: dict[str, Any]) -> Iterable[str]:
    consent = entry_of(message.user).consent or ()
    agreed, refused = "all" in consent or message.channel in consent, False
    for _, kind, _, channel in known:
        if kind in ("opt_in", "opt_out") and channel in ("", message.channel):
            agreed, refused = (True, False) if kind == "opt_in" else (agreed, True)
    if refused:
        yield "opted out"
    if not agreed:
        yield "no consent"


def _steps(message: Sending, before: Sequence[Sending], known: Known, ladder: dict[str, Any]) -> Iterable[str]:
    name, step = message.campaign.split("/")
    number = int(step)
    same = [(m.ts, int(m.campaign.split("/")[1])) for m in before if m.campaign.split("/")[0] == name]
    if number == 1:
        if same and not _may_begin_again(same[-1][0], message, known, ladder):
            yield "step twice"
        return
    if not same or same[-1][1] != number - 1:
        yield "step twice" if any(n == number for _, n in same) else "step out of turn"
        return
    days = [one["day"] for one in ladder["step"]]
    if _on(message.ts) - _on(same[-1][0]) < days[number - 1] - days[number - 2]:
        yield "step too early"
    begun = max(ts for ts, n in same if n == 1)
    kinds = set(ladder.get("returned_by", BACK))
    if any(ts > begun and kind in kinds for ts, kind, *_ in known):
        yield "after return"


def _may_begin_again(last: int, message: Sending, known: Known, ladder: dict[str, Any]) -> bool:
    """Is the pause over, and for occasions: is there a new one?"""
    waited = _on(message.ts) - _on(last)
    occasion = ladder.get("trigger", {}).get("on", "state")
    if waited < ladder.get("again_after_days", 30 if occasion == "state" else 0):
        return False
    new: dict[str, Callable[[], bool]] = {
        "state": lambda: True,
        "registered": lambda: False,
        "birthday": lambda: waited > 300,
        "day": lambda: waited > 20,
        "abandoned_order": lambda: any(ts > last and kind in ("cart", "order_placed") for ts, kind, *_ in known),
        "benefit": lambda: any(
            last < ts + 27 * DAY <= message.ts for ts, kind, *_ in known if kind == "coupon_received"
        ),
    }
    return new[occasion]()
