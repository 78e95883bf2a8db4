"""Timeline and Moment: what can be asked of users' pasts.

A `Timeline` holds the events of a bucket of users; `timeline.as_of(moments)` gives a `Moment` each. Signals are plain
functions of a `Moment` that use its few primitives and nothing else. Behind them `_Passes` goes over the events once
for all moments and for all the windows that the signals are known to ask for.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

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
        """Last instant (µs) at which each event was still unknown: its own, or just before it arrived."""
        ts = self.columns[c.TS]
        return np.maximum(ts, self.columns[c.ARRIVED_AT] - 1) if c.ARRIVED_AT in self.columns else ts

    def known_before(self, instant: int) -> "Timeline":
        """The timeline without what had happened before an instant (µs) and was not known then; itself if all was."""
        ts, known = self.columns[c.TS], self.known
        if known is ts or not ((ts < instant) & (known >= instant)).any():
            return self
        rows = np.flatnonzero(known < instant)
        columns = {name: values[rows] for name, values in self.columns.items()}
        return Timeline(self.user_ids, np.searchsorted(rows, self.offsets), columns, self.facts)

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
            return Stream(np.arange(ts.size), self.offsets, ts)
        wanted = np.full(256, kind == c.MADE)
        for code, text in enumerate(self.facts.kinds):
            wanted[code] = text not in c.NOT_BY_USER if kind == c.MADE else text == kind
        chosen = wanted[self.columns[c.KIND]]
        if chosen.all():
            return self.stream(c.ANY)
        rows = np.flatnonzero(chosen)
        return Stream(rows, np.searchsorted(rows, self.offsets), ts[rows])

    def values(self, kind: str, column: str) -> Array:
        """A column of a stream as int64."""
        rows, values = self.stream(kind).rows, self.column(column)
        values = values if rows.size == values.size else values[rows]
        return values.view(np.int64) if values.dtype == np.uint64 else values.astype(np.int64)

    def as_of(self, moments: Sequence[int], plan: Plan | None = None) -> list["Moment"]:
        """One `Moment` for each instant (µs), in the order given; they share the passes over the events.

        A moment at which something was late is asked of a copy without what was late.
        """
        out: dict[int, Moment] = {}
        shared = []
        for moment in sorted(set(moments), reverse=True):
            known = self.known_before(moment)
            if known is self:
                shared.append(moment)
            else:
                out[moment] = Moment(_Passes(known, np.array([moment]), plan or {}), 0)
        passes = _Passes(self, np.array(shared, np.int64), plan or {})
        out.update({moment: Moment(passes, index) for index, moment in enumerate(shared)})
        return [out[moment] for moment in moments]

    def count_between(self, kind: str, starts: Sequence[int], days: int, known_before: int) -> Array:
        """Outcomes: events of a kind in `[start, start + days)`, int64[starts, users]; later arrivals are unknown."""
        known = self.known_before(known_before)
        ends = np.array(starts, np.int64) + days * c.DAY
        passes = _Passes(known, ends, {})
        return passes.get(("sum", kind, "count"), days * c.DAY)


class _Passes:
    """Answers over one timeline at several moments, each computed when first asked for.

    Everything rests on `bounds`: where in a stream each window starts and each moment stands. Counts are differences of
    places, sums are differences of running sums, and only what is neither is a loop of its own.
    """

    def __init__(self, timeline: Timeline, as_of: Array, plan: Plan) -> None:
        self.timeline, self.as_of, self.plan = timeline, as_of, plan
        self.asked: dict[Group, set[int]] = {}
        self._done: dict[Group, dict[int, Array]] = {}
        self._memory: dict[tuple[str, ...], Array] = {}

    def get(self, group: Group, width: int = 0) -> Array:
        """The answer [moments, users] of a group at one window; it is computed for all windows planned at once."""
        self.asked.setdefault(group, set()).add(width)
        done = self._done.setdefault(group, {})
        if width not in done:
            widths = sorted({width} | (self.plan.get(group, set()) - done.keys()))
            done.update(zip(widths, self._answers(group, widths), strict=True))
        return done[width]

    def _answers(self, group: Group, widths: list[int]) -> Iterable[Array]:
        name, kind, *rest = group
        match name:
            case "bound":
                return self._bounds(kind, widths)
            case "sum":
                return [self._sum(kind, rest[0], self._stop(kind), self._start(kind, width)) for width in widths]
            case "sum_to_last_seen":  # the window ends with the last event, inclusive
                ends = self.get(("last", c.MADE)) + 1
                stop = self._places(kind, ends)
                return [self._sum(kind, rest[0], stop, self._places(kind, ends - width)) for width in widths]
            case "dates" | "visits":
                return [self._changes(name, kind, self._start(kind, width)) for width in widths]
            case "distinct":
                return self._distinct(kind, rest[0], widths)
            case "last":
                stop, ts = self._stop(kind), np.append(self.timeline.stream(kind).ts, 0)
                return [np.where(stop > self._start(kind, c.NEVER), ts[stop - 1], -1)]
            case "first":
                first, ts = self._start(kind, c.NEVER), np.append(self.timeline.stream(kind).ts, 0)
                return [np.where(self._stop(kind) > first, ts[first], -1)]
            case "gaps":
                return self._gaps(kind, rest[0])[widths]
            case "decayed":
                return self._decayed(kind, rest[0], widths)
        raise AssertionError(name)

    def _stop(self, kind: str) -> Array:
        """Place in the stream of the first event at or after each moment, int64[moments, users]."""
        return self.get(("bound", kind), 0)

    def _start(self, kind: str, width: int) -> Array:
        """Place in the stream of the first event of each moment's window; the user's first where there is no limit."""
        if width == c.NEVER:
            first = self.timeline.stream(kind).offsets[:-1]
            return np.broadcast_to(first, (self.as_of.size, first.size))
        return self.get(("bound", kind), width)

    def _bounds(self, kind: str, widths: list[int]) -> Array:
        edges = (self.as_of - np.array(widths, np.int64)[:, None]).ravel()
        order = np.argsort(-edges, kind="stable")
        places = self._places(kind, np.broadcast_to(edges[order, None], (edges.size, len(self.timeline))))
        out = np.empty_like(places)
        out[order] = places
        return out.reshape(len(widths), self.as_of.size, len(self.timeline))

    def _places(self, kind: str, instants: Array) -> Array:
        """Place in the stream of each user's first event at or after an instant, int64[instants, users]."""
        stream = self.timeline.stream(kind)
        out = np.empty(instants.shape, np.int64)
        loops.places(stream.offsets, stream.ts, instants, out)
        return out

    def _remembered(self, key: tuple[str, ...], compute: Callable[[], Array]) -> Array:
        if key not in self._memory:
            self._memory[key] = compute()
        return self._memory[key]

    def _sum(self, kind: str, measure: str, stop: Array, start: Array) -> Array:
        if measure == "count":
            return stop - start
        sums = self._remembered(("sums", kind, measure), lambda: _running(self.timeline.values(kind, measure)))
        out = sums[stop] - sums[start]
        if measure == c.DWELL:
            for m, as_of in enumerate(self.as_of.tolist()):
                if not self.timeline.facts.column_observed(c.DWELL, as_of):
                    sums = _running(self._derived_dwell(kind, as_of))
                    out[m] = sums[stop[m]] - sums[start[m]]
        return out

    def _derived_dwell(self, kind: str, as_of: int) -> Array:
        """Where the log has no dwell: ms from each instant to the user's next one in the session, as known by then.

        The time after an instant with several events of the kind counts once. An event without a session, in a log
        that has them, is in no session.
        """
        made, rows = self.timeline.stream(c.MADE), self.timeline.stream(kind).rows
        session = self.timeline.values(c.MADE, c.SESSION_ID)
        if not self.timeline.facts.column_observed(c.SESSION_ID, as_of):
            session = np.ones_like(session)
        place = np.searchsorted(made.rows, rows)
        wanted = np.zeros(made.rows.size, np.uint8)
        wanted[place] = 1
        waits = loops.time_to_next(made.offsets, made.ts, session, wanted, c.SESSION_IDLE)
        return np.where((waits >= 0) & (made.ts + waits < as_of), (waits + 500) // 1_000, 0)[place]

    def _changes(self, name: str, kind: str, start: Array) -> Array:
        """Distinct dates, or visits parted by idle time, in each window: one, and one more for each new one inside."""

        def changes() -> Array:
            ts = self.timeline.stream(kind).ts
            new = np.diff(ts // c.DAY) != 0 if name == "dates" else np.diff(ts) > c.SESSION_IDLE
            return _running(np.append(np.zeros(min(ts.size, 1), bool), new))

        stop, sums = self._stop(kind), self._remembered((name, kind), changes)
        return np.where(stop > start, sums[stop] - sums[np.minimum(start + 1, stop)] + 1, 0)

    def _distinct(self, kind: str, column: str, widths: list[int]) -> Array:
        newer = self._newer_same(kind, column)
        starts = np.stack([self._start(kind, width) for width in widths])
        out = np.empty(starts.shape, np.int64)
        loops.distinct(newer, self._stop(kind), starts, out)
        return out

    def _newer_same(self, kind: str, column: str) -> Array:
        """Next event of the same order, item …; an event without an order is an order of its own."""

        def link() -> Array:
            null = 0 if column in c.HASHED else -1
            codes, offsets = self.timeline.values(kind, column), self.timeline.stream(kind).offsets
            return loops.newer_same(offsets, codes, null, column == c.ORDER_ID)

        return self._remembered(("newer", kind, column), link)

    def _gaps(self, kind: str, by: str) -> Array:
        """Statistics [statistic, moments, users] of the gaps between distinct instants, each the first of its `by`."""
        stream, newer = self.timeline.stream(kind), self._newer_same(kind, by)
        first = newer != -2
        first[newer[newer >= 0]] = False
        rows = np.flatnonzero(first)
        user = np.searchsorted(stream.offsets, rows, side="right")
        rows = rows[np.append(True, (np.diff(stream.ts[rows]) != 0) | (np.diff(user) != 0))[: rows.size]]
        offsets, ts = np.searchsorted(rows, stream.offsets), stream.ts[rows]
        stop = np.searchsorted(rows, self._stop(kind))
        out = np.full((4, *stop.shape), np.nan)
        loops.gap_statistics(offsets, ts, stop, out)
        return out

    def _decayed(self, kind: str, measure: str, half_lives: list[int]) -> Array:
        stream, stop = self.timeline.stream(kind), self._stop(kind)
        ones = measure == "count"
        values = np.ones(stream.ts.size, np.int64) if ones else np.maximum(self.timeline.values(kind, measure), 0)
        out = np.empty((len(half_lives), *stop.shape))
        loops.decayed_sums(stream.offsets, stream.ts, values, self.as_of, stop, np.array(half_lives, float), out)
        return out


def _running(values: Array) -> Array:
    """Sums of all values before each place, one longer than the values; missing ones (-1) add nothing."""
    out = np.zeros(values.size + 1, np.int64)
    np.cumsum(np.maximum(values, 0), out=out[1:])
    return out


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

    def place(self, kind: str) -> Array:
        """Place in the kind's stream of each user's first event at or after the moment, int64[users]."""
        return self._get(("bound", kind))

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
        upto: list[Any] = [0.0, *(ask(kind, 7 * (week + 1)) for week in range(weeks))]
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
