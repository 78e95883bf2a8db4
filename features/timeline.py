"""Timeline and Moment: what can be asked of users' pasts.

A `Timeline` holds the events of a bucket of users; `timeline.as_of(moments)` gives a `Moment` each. Signals are plain
functions of a `Moment` that use its few primitives and nothing else. Behind them `Passes` goes over the events once
for all moments and for all the windows that the signals are known to ask for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from features.events import columns as c
from features.passes import Array as Array
from features.passes import Group, Passes
from features.passes import Plan as Plan


@dataclass(frozen=True)
class Facts:
    """What is true of the log as a whole; `*_known` is the last instant (µs) at which it was still unknown.

    Attributes:
        kinds: kind by code.
        pages: page by code.
        item_category: category code by item code, from the items table; None without one.
    """

    kinds: tuple[str, ...]
    kinds_known: Mapping[str, int]
    columns_known: Mapping[str, int]
    category_known: Array
    item_category: Array | None = None
    pages: tuple[str, ...] = ()

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
        kind, made = kind.partition("[")[0], kind == c.MADE
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


class Favourite(NamedTuple):
    """Events of the codes that were the user's most frequent before, and of all codes: before, and recently."""

    before: Array
    all_before: Array
    lately: Array
    all_lately: Array


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
        """The events of a kind, of `MADE` or of `ANY`, or those of a kind that `where` narrows."""
        stream = self._cache.get(kind)
        if not isinstance(stream, Stream):
            stream = self._cache[kind] = self._select(kind)
        return stream

    def _select(self, kind: str) -> Stream:
        ts = self.columns[c.TS]
        if kind == c.ANY:
            return Stream(np.arange(ts.size), self.offsets, ts)
        whole, narrowed, condition = kind.partition("[")
        if narrowed:
            column, _, value = condition.rstrip("]").partition("=")
            stream = self.stream(whole)
            code = list(self.facts.pages).index(value) if column == c.PAGE and value in self.facts.pages else -2
            chosen = self.values(whole, column) == (code if column == c.PAGE else int(value))
            places = np.flatnonzero(chosen)
            return Stream(stream.rows[places], np.searchsorted(places, stream.offsets), stream.ts[places])
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
                out[moment] = Moment(Passes(known, np.array([moment]), plan or {}), 0)
        passes = Passes(self, np.array(shared, np.int64), plan or {})
        out.update({moment: Moment(passes, index) for index, moment in enumerate(shared)})
        return [out[moment] for moment in moments]

    def next_after(self, kind: str, starts: Sequence[int], known_before: int) -> Array:
        """Outcomes: instant (µs) of each user's first event of a kind at or after each start, int64[starts, users].

        `NEVER` where none was known before `known_before`.
        """
        known = self.known_before(known_before)
        stream = known.stream(kind)
        passes = Passes(known, np.append(np.array(starts, np.int64), known_before), {})
        place = passes.get(("bound", kind))
        instants = np.append(stream.ts, c.NEVER)
        return np.where(place[:-1] < place[-1], instants[place[:-1]], c.NEVER)


class Moment:
    """What is known of each user of a timeline at one instant: every primitive gives float64[users].

    NaN means "not observed" (no such kind or column was known in the log before the moment) or "never" for times;
    observed and none for this user is 0. `days=None` means since ever. Windows are `[as_of - days, as_of)`.
    """

    def __init__(self, passes: Passes, index: int) -> None:
        self._passes, self._index = passes, index
        self.as_of = int(passes.as_of[index])
        self.facts = passes.timeline.facts
        self._answers: dict[tuple[Group, int], Array] = {}
        self._observed: dict[tuple[str, ...], bool] = {}

    @cached_property
    def present(self) -> Array:
        """bool[users]: has any event before the moment."""
        return self._get(("last", c.ANY)) >= 0

    @property
    def asked(self) -> Plan:
        """What was asked of this and its sister moments so far."""
        return self._passes.asked

    def _get(self, group: Group, width: int = 0) -> Array:
        return self._passes.get(group, width)[self._index]

    def _answer(self, group: Group, width: int, columns: tuple[str, ...] = (), unit: int = 1) -> Array:
        """float64[users] of a pass in units; NaN, without a pass, where its kind or a column is not observed."""
        key = (group, width)
        answer = self._answers.get(key)
        if answer is None:
            clock = group[3] if group[0] == "sum_since" else c.ANY
            observed = self._is_observed(group[1], columns) and self._is_observed(clock)
            values = self._get(group, width) if observed else self._nothing
            answer = self._answers[key] = values / unit if unit != 1 else values.astype(np.float64, copy=False)
        return answer

    def _is_observed(self, kind: str, columns: tuple[str, ...] = ()) -> bool:
        key = (kind, *columns)
        if key not in self._observed:
            narrowed = kind.partition("[")[2].partition("=")[0]
            needed = (*columns, narrowed) if narrowed else columns
            columns_observed = all(self.facts.column_observed(column, self.as_of) for column in needed)
            self._observed[key] = columns_observed and self.facts.kind_observed(kind, self.as_of)
        return self._observed[key]

    @cached_property
    def _nothing(self) -> Array:
        nothing = np.full(len(self._passes.timeline), np.nan)
        nothing.flags.writeable = False
        return nothing

    def place(self, kind: str) -> Array:
        """Place in the kind's stream of each user's first event at or after the moment, int64[users]."""
        return self._get(("bound", kind))

    def count(self, kind: str, days: int | None = None) -> Array:
        """Events of the kind."""
        return self._answer(("sum", kind, "count"), _width(days))

    def total(self, measure: str, kind: str, days: int | None = None, *, to_last_seen: bool = False) -> Array:
        """Sum of a measure over events of the kind, in its own unit (currency units, seconds, pieces).

        With `to_last_seen` the window is `(L - days, L]`, L the user's last event made by themselves.
        """
        # A missing quantity is 1, and a missing dwell is told by the next event: neither needs its column.
        needed = () if measure in (c.QUANTITY, c.DWELL) else (measure,)
        group = ("sum_to_last_seen" if to_last_seen else "sum", kind, measure)
        return self._answer(group, _width(days), needed, c.NUMBERS[measure][0])

    def count_since(self, kind: str, clock: str, dates: int) -> Array:
        """Events of the kind since the user's n-th newest UTC date with an event of `clock`: from that date's first on.

        So a window is as long as the user takes for so many visits or orders; with fewer of them, all their time.
        """
        return self._answer(("sum_since", kind, "count", clock), dates)

    def total_since(self, measure: str, kind: str, clock: str, dates: int) -> Array:
        """Sum of a measure over events of the kind since the n-th newest date of `clock`."""
        needed = () if measure in (c.QUANTITY, c.DWELL) else (measure,)
        return self._answer(("sum_since", kind, measure, clock), dates, needed, c.NUMBERS[measure][0])

    def days_since_date(self, kind: str, dates: int) -> Array:
        """Days since the user's n-th newest UTC date with an event of the kind: that date's first; NaN if fewer."""
        if not self._is_observed(kind):
            return self._nothing
        instants = self._get(("nth_date", kind), dates)
        return np.where(instants >= 0, (self.as_of - instants) / c.DAY, np.nan)

    def delivery_days(self, days: int | None = None) -> Array:
        """Mean days from an order's first purchase to its delivery, over deliveries in the window; NaN without any."""
        return self._delivery("sum", _width(days))

    def delivery_days_since(self, clock: str, dates: int) -> Array:
        """The same over deliveries since the n-th newest date of `clock`."""
        return self._delivery("sum_since", dates, clock)

    def _delivery(self, name: str, width: int, *clock: str) -> Array:
        if not self._is_observed("purchase", (c.ORDER_ID,)):
            return self._nothing
        waited = self._answer((name, "delivered", "waited", *clock), width)
        return ratio(self._answer((name, "delivered", "wait", *clock), width, unit=c.DAY), waited)

    def favourite(self, column: str, kind: str, dates: int, before: int) -> Favourite:
        """Is the value of a column that was most frequent before still frequent?

        `lately` is since the n-th newest date of the kind, `before` is so many dates before that. Of values equally
        frequent before, each is a favourite.
        """
        group = ("favourite", kind, column, str(dates), str(before))
        return Favourite(*(self._answer(group, part, (column,)) for part in range(4)))

    def decayed(self, kind: str, half_life: int, measure: str = "count", by: str | None = None) -> Array:
        """Sum of a measure (or of events) x 2^(-age / half-life in days); with `by`, of one event a value of it."""
        if by is not None:
            return self._answer(("decayed_instants", kind, by), half_life * c.DAY)
        group = ("decayed", kind, measure)
        if measure == "count":
            return self._answer(group, half_life * c.DAY)
        return self._answer(group, half_life * c.DAY, (measure,), c.NUMBERS[measure][0])

    def days_since(self, kind: str) -> Array:
        """Days since the last event of the kind; NaN if never."""
        return self._ago("last", kind)

    def days_since_first(self, kind: str) -> Array:
        """Days since the first event of the kind; NaN if never."""
        return self._ago("first", kind)

    def _ago(self, which: str, kind: str) -> Array:
        if not self._is_observed(kind):
            return self._nothing
        instants = self._get((which, kind))
        return np.where(instants >= 0, (self.as_of - instants) / c.DAY, np.nan)

    def active_days(self, kind: str, days: int | None = None) -> Array:
        """Distinct UTC dates with an event of the kind."""
        return self._answer(("dates", kind), _width(days))

    def sessions(self, days: int | None = None) -> Array:
        """Sessions of the user: distinct session ids; without any in the log, visits parted by 30 idle minutes."""
        if self._is_observed(c.MADE, (c.SESSION_ID,)):
            return self.distinct(c.SESSION_ID, c.MADE, days)
        return self._answer(("visits", c.MADE), _width(days))

    def distinct(self, column: str, kind: str, days: int | None = None) -> Array:
        """Distinct values of a column among events of the kind; a purchase without an order is an order of its own."""
        return self._answer(("distinct", kind, column), _width(days), () if column == c.ORDER_ID else (column,))

    def gaps(self, kind: str, by: str) -> Gaps:
        """Days between successive distinct instants; an instant is the earliest event of one value of `by`."""
        return Gaps(*(self._answer(("gaps", kind, by), part, unit=c.DAY) for part in range(4)))

    def longer_gaps(self, kind: str, by: str, beyond: int = 0) -> Array:
        """Gaps between distinct instants that were longer than the present silence and so many days beyond it."""
        return self._answer(("longer_gaps", kind, by), beyond * c.DAY)

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


def where(kind: str, column: str, value: str | int) -> str:
    """The kind, narrowed to events whose page or number is this; a `Moment` takes it wherever it takes a kind."""
    return f"{kind}[{column}={value}]"


def _width(days: int | None) -> int:
    return c.NEVER if days is None else days * c.DAY
