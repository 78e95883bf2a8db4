"""Timeline and Moment: what can be asked of users' pasts.

A `Timeline` holds the events of a bucket of users; `timeline.as_of(moments)` gives a `Moment` each. Signals are plain
functions of a `Moment` that use its few primitives and nothing else. Behind them `_Passes` runs the compiled loops,
once for all moments and for all the windows that the signals are known to ask for.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from features import loops
from features.events import columns as c

Array = np.ndarray
Group = tuple[str, ...]
Plan = Mapping[Group, set[int]]  # what a set of signals asks for: pass → windows in µs


@dataclass(frozen=True)
class Facts:
    """What is true of the log as a whole; `*_known` is the last instant (µs) at which it was still unknown.

    Attributes:
        kinds: kind by code.
        item_category: category code by item code, from the items table; None without one.
    """

    kinds: tuple[str, ...]
    kinds_known: Mapping[str, int]
    columns_known: Mapping[str, int]
    category_known: Array
    item_category: Array | None = None

    @cached_property
    def items_have_categories(self) -> bool:
        return self.item_category is not None and bool((self.item_category >= 0).any())

    @cached_property
    def _categories_in_table(self) -> int:
        assert self.item_category is not None
        return int(np.unique(self.item_category[self.item_category >= 0]).size)

    def kind_observed(self, kind: str, as_of: int) -> bool:
        if kind == c.ANY:
            return True
        made = kind == c.MADE
        return any(t < as_of for k, t in self.kinds_known.items() if k == kind or (made and k not in c.NOT_BY_USER))

    def column_observed(self, column: str, as_of: int) -> bool:
        if column == c.CATEGORY and self.items_have_categories:
            return True
        return self.columns_known.get(column, c.NEVER) < as_of

    def categories(self, as_of: int) -> int:
        """Distinct categories in the items table; without one, in the log before the moment."""
        if self.items_have_categories:
            return self._categories_in_table
        return int((self.category_known < as_of).sum())


class Gaps(NamedTuple):
    """Days between successive distinct instants, a user each; NaN under two instants."""

    mean: Array
    spread: Array
    last: Array
    longest: Array


@dataclass(frozen=True)
class Stream:
    """The events of one kind (or several) in the order user, instant; `rows` are their places in the timeline."""

    rows: Array
    offsets: Array
    ts: Array
    known: Array


@dataclass(frozen=True)
class Timeline:
    """All events of a bucket of users, in the order user, instant, content.

    Attributes:
        user_ids: one text a user.
        offsets: int64[users + 1], the rows of user u are `offsets[u]:offsets[u + 1]`.
        columns: stored columns by name (`features.events.columns`), one number an event.
    """

    user_ids: pa.Array
    offsets: Array
    columns: Mapping[str, Array]
    facts: Facts
    _cache: dict[object, object] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.user_ids)

    @cached_property
    def known(self) -> Array:
        ts = self.columns[c.TS]
        return np.maximum(ts, self.columns[c.ARRIVED_AT] - 1) if c.ARRIVED_AT in self.columns else ts

    def column(self, name: str) -> Array:
        """A column, -1 (ids: 0) where there is no value; an event's category is its own, else its item's."""
        size = self.columns[c.TS].size
        if name == c.QUANTITY and name not in self.columns:
            return np.full(size, c.MONEY)
        if name != c.CATEGORY or not self.facts.items_have_categories or c.ITEM_ID not in self.columns:
            return self.columns.get(name, np.full(size, 0 if name in c.HASHED else -1))
        table = self.facts.item_category
        assert table is not None
        item = self.columns[c.ITEM_ID]
        of_item = np.append(table, np.int32(-1))[np.where(item < table.size, item, -1)]
        own = self.columns.get(c.CATEGORY)
        return of_item if own is None else np.where(own >= 0, own, of_item)

    def stream(self, kind: str) -> Stream:
        """The events of a kind, of `MADE` or of `ANY`."""
        stream = self._cache.get(kind)
        if not isinstance(stream, Stream):
            stream = self._cache[kind] = self._select(kind)
        return stream

    def _select(self, kind: str) -> Stream:
        ts = self.columns[c.TS]
        if kind == c.ANY:
            return Stream(np.arange(ts.size), self.offsets, ts, self.known)
        wanted = np.full(256, kind == c.MADE, np.uint8)
        for code, text in enumerate(self.facts.kinds):
            wanted[code] = text not in c.NOT_BY_USER if kind == c.MADE else text == kind
        rows, offsets = loops.select(self.offsets, self.columns[c.KIND], wanted)
        times = ts[rows]
        return Stream(rows, offsets, times, times if self.known is ts else self.known[rows])

    def values(self, kind: str, column: str) -> Array:
        """A column of a stream as int64."""
        key = (kind, column)
        values = self._cache.get(key)
        if not isinstance(values, np.ndarray):
            values = self.column(column)[self.stream(kind).rows]
            values = self._cache[key] = values.view(np.int64) if values.dtype == np.uint64 else values.astype(np.int64)
        return values

    def as_of(self, moments: Sequence[int], plan: Plan | None = None) -> list["Moment"]:
        """One `Moment` for each instant (µs), in the order given; they share the passes over the events."""
        order = np.argsort(-np.asarray(moments, np.int64), kind="stable")
        passes = _Passes(self, np.asarray(moments, np.int64)[order], plan or {})
        place = np.argsort(order)
        return [Moment(passes, int(place[i])) for i in range(len(moments))]

    def count_between(self, kind: str, start: Sequence[int], days: int, known_before: int) -> Array:
        """Outcomes: events of a kind in `[start, start + days)`, int64[starts, users]; later arrivals are unknown."""
        stream = self.stream(kind)
        out = np.zeros((len(start), 1, len(self)), np.int64)
        width = np.array([days * c.DAY])
        for i, first in enumerate(start):
            until = np.full((1, len(self)), first + days * c.DAY)
            args = (stream.offsets, stream.ts, stream.known, stream.ts, np.array([known_before]), until, width, True)
            loops.window_sums(*args, out[i : i + 1])
        return out[:, 0]


class _Passes:
    """The compiled passes over one timeline at several moments (newest first), each run when first asked for."""

    def __init__(self, timeline: Timeline, as_of: Array, plan: Plan) -> None:
        self.timeline, self.as_of, self.plan = timeline, as_of, plan
        self.asked: dict[Group, set[int]] = {}
        self._results: dict[Group, dict[int, Array]] = {}

    def get(self, group: Group, width: int = 0) -> Array:
        """The result [moments, users] of a pass at one window; the pass also runs for all windows planned for it."""
        self.asked.setdefault(group, set()).add(width)
        done = self._results.setdefault(group, {})
        if width not in done:
            widths = sorted({width} | (self.plan.get(group, set()) - done.keys()))
            out = self._run(group, np.array(widths))
            done.update({w: out[:, i] for i, w in enumerate(widths)})
        return done[width]

    def _run(self, group: Group, widths: Array) -> Array:
        name, kind, *rest = group
        stream = self.timeline.stream(kind)
        events = (stream.offsets, stream.ts, stream.known)
        shape = (self.as_of.size, widths.size, len(self.timeline))
        whole = np.zeros(shape, np.int64)
        match name:
            case "sum" | "sum_to_last_seen":
                until = np.broadcast_to(self.as_of[:, None], shape[::2])
                if name == "sum_to_last_seen":
                    until = self.get(("last", c.MADE)) + 1  # the window ends with the last event, inclusive
                self._sums(kind, rest[0], until, widths, whole)
            case "dates":
                loops.window_changes(*events, stream.ts, c.DAY, self.as_of, 0, widths, whole)
            case "visits":
                loops.window_changes(*events, stream.ts, 0, self.as_of, c.SESSION_IDLE, widths, whole)
            case "distinct":
                loops.window_distinct(*events, self._same(kind, rest[0], True), self.as_of, widths, whole)
            case "last" | "first":
                both = np.full((shape[0], 2, shape[2]), -1, np.int64)
                loops.last_and_first(*events, self.as_of, both)
                self._results[("last", kind)] = {0: both[:, 0]}
                self._results[("first", kind)] = {0: both[:, 1]}
                return both[:, :1] if name == "last" else both[:, 1:]
            case "gaps":
                gaps = np.full((shape[0], 4, shape[2]), np.nan)
                loops.gap_statistics(*events, self._same(kind, rest[0], False), self.as_of, gaps)
                return gaps[:, widths]
            case "decayed":
                sums = np.zeros(shape)
                values = stream.ts if rest[0] == "count" else self.timeline.values(kind, rest[0])
                loops.decayed_sums(*events, values, self.as_of, widths.astype(float), rest[0] == "count", sums)
                return sums
        return whole

    def _sums(self, kind: str, measure: str, until: Array, widths: Array, out: Array) -> None:
        stream = self.timeline.stream(kind)
        events = (stream.offsets, stream.ts, stream.known)
        if measure == "count":
            loops.window_sums(*events, stream.ts, self.as_of, until, widths, True, out)
            return
        values = self.timeline.values(kind, measure)
        loops.window_sums(*events, values, self.as_of, until, widths, False, out)
        if measure == c.DWELL:
            for m, as_of in enumerate(self.as_of.tolist()):
                if not self.timeline.facts.column_observed(c.DWELL, as_of):
                    one = slice(m, m + 1)
                    dwell = self._derived_dwell(kind, as_of)
                    loops.window_sums(*events, dwell, self.as_of[one], until[one], widths, False, out[one])

    def _derived_dwell(self, kind: str, as_of: int) -> Array:
        """Where the log has no dwell: ms from each instant to the user's next one in the session, as known by then.

        The time after an instant with several events of the kind counts once. An event without a session, in a log
        that has them, is in no session.
        """
        made = self.timeline.stream(c.MADE)
        session = self.timeline.values(c.MADE, c.SESSION_ID)
        if not self.timeline.facts.column_observed(c.SESSION_ID, as_of):
            session = np.ones_like(session)
        place = np.searchsorted(made.rows, self.timeline.stream(kind).rows)
        wanted = np.zeros(made.rows.size, np.uint8)
        wanted[place] = 1
        waits = loops.time_to_next(made.offsets, made.ts, made.known, session, wanted, as_of, c.SESSION_IDLE)
        return np.where(waits >= 0, (waits + 500) // 1_000, -1)[place]

    def _same(self, kind: str, column: str, newer: bool) -> Array:
        """Neighbouring event of the same order, item …; an event without an order is an order of its own."""
        key = ("same", kind, column, newer)
        same = self.timeline._cache.get(key)
        if not isinstance(same, np.ndarray):
            null = 0 if column in c.HASHED else -1
            codes, offsets = self.timeline.values(kind, column), self.timeline.stream(kind).offsets
            same = loops.same_before(offsets, codes, null, column == c.ORDER_ID, newer)
            self.timeline._cache[key] = same
        return same


class Moment:
    """What is known of each user of a timeline at one instant: every primitive gives float64[users].

    NaN means "not observed" (no such kind or column was known in the log before the moment) or "never" for times;
    observed and none for this user is 0. `days=None` means since ever. Windows are `[as_of - days, as_of)`.
    """

    def __init__(self, passes: _Passes, index: int) -> None:
        self._passes, self._index = passes, index
        self.as_of = int(passes.as_of[index])
        self.facts = passes.timeline.facts

    @property
    def present(self) -> Array:
        """bool[users]: has any event before the moment."""
        return self._get(("last", c.ANY)) >= 0

    @property
    def asked(self) -> Plan:
        """What was asked of this and its sister moments so far."""
        return self._passes.asked

    def _get(self, group: Group, width: int = 0) -> Array:
        return self._passes.get(group, width)[self._index]

    def _observed(self, values: Array, kind: str, *columns: str) -> Array:
        observed = self.facts.kind_observed(kind, self.as_of)
        if observed and all(self.facts.column_observed(column, self.as_of) for column in columns):
            return values.astype(np.float64)
        return np.full(values.shape, np.nan)

    def count(self, kind: str, days: int | None = None) -> Array:
        """Events of the kind."""
        return self._observed(self._get(("sum", kind, "count"), _width(days)), kind)

    def total(self, measure: str, kind: str, days: int | None = None, *, to_last_seen: bool = False) -> Array:
        """Sum of a measure over events of the kind, in its own unit (currency units, seconds, pieces).

        With `to_last_seen` the window is `(L - days, L]`, L the user's last event made by themselves.
        """
        sums = self._get(("sum_to_last_seen" if to_last_seen else "sum", kind, measure), _width(days))
        defaulted = measure in (
            c.QUANTITY,
            c.DWELL,
        )  # a missing quantity is 1; a missing dwell is told by the next event
        return self._observed(sums, kind, *([] if defaulted else [measure])) / c.NUMBERS[measure][0]

    def decayed(self, kind: str, half_life: int, measure: str = "count") -> Array:
        """Sum of a measure (or of events) x 2^(-age / half-life in days)."""
        sums = self._get(("decayed", kind, measure), half_life * c.DAY)
        if measure == "count":
            return self._observed(sums, kind)
        return self._observed(sums, kind, measure) / c.NUMBERS[measure][0]

    def days_since(self, kind: str) -> Array:
        """Days since the last event of the kind; NaN if never."""
        return self._ago(self._get(("last", kind)))

    def days_since_first(self, kind: str) -> Array:
        """Days since the first event of the kind; NaN if never."""
        return self._ago(self._get(("first", kind)))

    def _ago(self, instants: Array) -> Array:
        return np.where(instants >= 0, (self.as_of - instants) / c.DAY, np.nan)

    def active_days(self, kind: str, days: int | None = None) -> Array:
        """Distinct UTC dates with an event of the kind."""
        return self._observed(self._get(("dates", kind), _width(days)), kind)

    def sessions(self, days: int | None = None) -> Array:
        """Sessions of the user: distinct session ids; without any in the log, visits parted by 30 idle minutes."""
        if self.facts.column_observed(c.SESSION_ID, self.as_of):
            return self.distinct(c.SESSION_ID, c.MADE, days)
        return self._observed(self._get(("visits", c.MADE), _width(days)), c.MADE)

    def distinct(self, column: str, kind: str, days: int | None = None) -> Array:
        """Distinct values of a column among events of the kind; a purchase without an order is an order of its own."""
        counts = self._get(("distinct", kind, column), _width(days))
        return self._observed(counts, kind, *([] if column == c.ORDER_ID else [column]))

    def gaps(self, kind: str, by: str) -> Gaps:
        """Days between successive distinct instants; an instant is the earliest event of one value of `by`."""
        return Gaps(*(self._get(("gaps", kind, by), part) / c.DAY for part in range(4)))

    def trend(self, kind: str, weeks: int, measure: str = "count") -> Array:
        """Least-squares slope a week of the weekly totals over the last whole weeks before the moment."""
        ask = self.count if measure == "count" else lambda kind, days: self.total(measure, kind, days)
        upto = [np.float64(0), *(ask(kind, 7 * (week + 1)) for week in range(weeks))]
        centred = np.arange(weeks) - (weeks - 1) / 2
        weekly = (upto[week + 1] - upto[week] for week in range(weeks))  # newest week first
        return np.asarray(sum(-x * y for x, y in zip(centred, weekly, strict=True)) / (centred**2).sum())

    def categories(self) -> int:
        """Distinct categories of the shop."""
        return self.facts.categories(self.as_of)


def ratio(part: Array, whole: Array) -> Array:
    """part / whole, NaN where the whole is 0 or either is not observed."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole != 0)


def _width(days: int | None) -> int:
    return c.NEVER if days is None else days * c.DAY


def plan_of(questions: Iterable[Plan]) -> dict[Group, set[int]]:
    """Several plans as one."""
    out: dict[Group, set[int]] = {}
    for asked in questions:
        for group, widths in asked.items():
            out.setdefault(group, set()).update(widths)
    return out
