"""What a timeline tells of contacts: messages and whether they were opened, opt-outs, newest acts, unused coupons."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from features.audience.directory import ALL_CHANNELS, Directory
from features.events import columns as c
from features.events.sent import Sent
from features.timeline import Array, Timeline
from models.playbook import NOT_A_RETURN, OPT_IN

_NO_RETURN = frozenset((*NOT_A_RETURN, *c.NOT_BY_USER))
_STEP = re.compile("[1-9][0-9]{0,3}")
NO_TIME = -1  # instant of what has not happened
_ORDERED = ("order_placed", "cart")
_TOLD = ("message_sent", "message_opened", "opt_out", OPT_IN, "coupon_received", "coupon_used")


@dataclass(frozen=True)
class Message:
    """A message sent: instant (µs), campaign and channel ("" where not given), and whether it was opened."""

    ts: int
    campaign: str = ""
    channel: str = ""
    opened: bool = False

    @property
    def rung(self) -> tuple[str, int] | None:
        """Ladder and step of a message whose campaign is `<ladder>/<step>`; None of any other."""
        ladder, _, step = self.campaign.rpartition("/")
        return (ladder, int(step)) if ladder and _STEP.fullmatch(step) else None


@dataclass(frozen=True)
class Contacts:
    """Of one user, as known before a moment; instants in µs.

    Attributes:
        messages: oldest first.
        opted_out: newest instant by channel, `ALL_CHANNELS` where the event names none; `opted_in` likewise.
        last: newest instant by kind of event.
        registered_at: of the first `register` event.
        benefits: instants at which coupons were received that are unused, ascending.
        opens_known: does the log tell of opened messages at all?
    """

    user_id: str
    messages: tuple[Message, ...] = ()
    opted_out: Mapping[str, int] = field(default_factory=dict)
    opted_in: Mapping[str, int] = field(default_factory=dict)
    last: Mapping[str, int] = field(default_factory=dict)
    registered_at: int | None = None
    benefits: tuple[int, ...] = ()
    opens_known: bool = False

    def newest(self, kinds: Collection[str] = ()) -> int:
        """Instant of the newest event of these kinds, by default of any by which users return, or `NO_TIME`."""
        if kinds:
            return max((self.last.get(kind, NO_TIME) for kind in kinds), default=NO_TIME)
        return max((ts for kind, ts in self.last.items() if kind not in _NO_RETURN), default=NO_TIME)

    @property
    def abandoned_at(self) -> int | None:
        """The newest order placed or item put in the cart, if nothing was paid then or since."""
        newest = self.newest(_ORDERED)
        return newest if newest > self.last.get("purchase", NO_TIME) else None


def contacts_of(timeline: Timeline, as_of: int, directory: Directory, sent: Sent | None = None) -> list[Contacts]:
    """One a user of the timeline, of events that happened and were known before `as_of` (µs).

    `sent` came with a request and is in the timeline.

    A message counts as opened by the next `message_opened` of its campaign after it; one that names no such campaign
    opens the newest message before it. A coupon is used by a `coupon_used` of its campaign; one that names no such
    campaign uses the oldest coupon.
    """
    rows = np.flatnonzero(timeline.known < as_of)
    offsets = np.searchsorted(rows, timeline.offsets)
    ts, kind = timeline.columns[c.TS][rows], timeline.columns[c.KIND][rows].astype(np.int64)
    owner = np.repeat(np.arange(len(timeline)), np.diff(offsets))
    kinds = timeline.facts.kinds
    last = _last(len(timeline), len(kinds), owner, kind, ts)
    told = _Told(
        timeline, rows, owner, kind, ts, (directory.texts("campaign_id", sent), directory.texts("channel", sent))
    )
    opens_known = timeline.facts.kind_observed("message_opened", as_of)
    register = kinds.index("register") if "register" in kinds else -1
    registered = _first(len(timeline), owner, kind == register, ts)
    out = []
    for user, user_id in enumerate(timeline.user_ids.to_pylist()):
        newest = {kinds[code]: int(last[user, code]) for code in np.flatnonzero(last[user] >= 0).tolist()}
        parts = _parts(told.of(user))
        first = int(registered[user])
        out.append(Contacts(user_id, *parts[:3], newest, first if first >= 0 else None, parts[3], opens_known))
    return out


@dataclass(frozen=True)
class _Row:
    ts: int
    kind: str
    campaign: str
    channel: str


class _Told:
    """The rows that must be read one by one: messages, opt-outs, coupons; few of a log's rows."""

    def __init__(
        self,
        timeline: Timeline,
        rows: Array,
        owner: Array,
        kind: Array,
        ts: Array,
        texts: tuple[list[str], list[str]],
    ) -> None:
        kinds = timeline.facts.kinds
        wanted = np.array([text in _TOLD for text in kinds], bool)
        chosen = np.flatnonzero(wanted[kind]) if wanted.size else np.empty(0, np.int64)
        self._ends = np.searchsorted(owner[chosen], np.arange(len(timeline) + 1)).tolist()
        place = rows[chosen]
        campaigns, channels = texts
        self._rows = [
            _Row(at, kinds[code], _text(campaigns, campaign), _text(channels, channel))
            for at, code, campaign, channel in zip(
                ts[chosen].tolist(),
                kind[chosen].tolist(),
                timeline.column("campaign_id")[place].tolist(),
                timeline.column("channel")[place].tolist(),
                strict=True,
            )
        ]

    def of(self, user: int) -> list[_Row]:
        return self._rows[self._ends[user] : self._ends[user + 1]]


def _text(texts: list[str], code: int) -> str:
    """Of a code; "" for none."""
    return texts[code] if code >= 0 else ""


def _last(users: int, kinds: int, owner: Array, kind: Array, ts: Array) -> Array:
    """Newest instant of each kind, int64[users, kinds]; `NO_TIME` where there is none."""
    last = np.full(users * kinds, NO_TIME)
    last[owner * kinds + kind] = ts  # rows ascend in time, and of several for one place the last is kept
    return last.reshape(users, kinds)


def _first(users: int, owner: Array, chosen: Array, ts: Array) -> Array:
    """Oldest instant among chosen rows, int64[users]; `NO_TIME` where there is none."""
    first = np.full(users, NO_TIME)
    rows = np.flatnonzero(chosen)[::-1]
    first[owner[rows]] = ts[rows]
    return first


def _parts(rows: list[_Row]) -> tuple[tuple[Message, ...], dict[str, int], dict[str, int], tuple[int, ...]]:
    """Messages, opt-outs, opt-ins and unused coupons of one user's rows."""
    if not rows:
        return (), {}, {}, ()
    opted: dict[str, dict[str, int]] = {"opt_out": {}, OPT_IN: {}}
    for row in rows:
        if row.kind in opted:
            opted[row.kind][row.channel or ALL_CHANNELS] = row.ts
    sent = [row for row in rows if row.kind == "message_sent"]
    opened = _opened(sent, (row for row in rows if row.kind == "message_opened"))
    messages = tuple(Message(row.ts, row.campaign, row.channel, at in opened) for at, row in enumerate(sent))
    return messages, opted["opt_out"], opted[OPT_IN], _unused(rows)


def _opened(sent: list[_Row], opens: Iterator[_Row]) -> set[int]:
    """Places of the messages that were opened."""
    out: set[int] = set()
    for row in opens:
        before = [at for at, message in enumerate(sent) if message.ts <= row.ts and at not in out]
        same = [at for at in before if row.campaign and sent[at].campaign == row.campaign]
        if same or before:
            out.add((same or before)[-1])
    return out


def _unused(rows: list[_Row]) -> tuple[int, ...]:
    """Instants at which coupons were received that have not been used since."""
    left: list[_Row] = []
    for row in rows:
        if row.kind == "coupon_received":
            left.append(row)
        elif row.kind == "coupon_used" and left:
            same = [coupon for coupon in left if row.campaign and coupon.campaign == row.campaign]
            left.remove((same or left)[0])
    return tuple(coupon.ts for coupon in left)
