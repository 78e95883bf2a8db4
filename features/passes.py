"""How a timeline is gone over: once for all moments, and for all the windows that are known to be asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from features import loops
from features.events import columns as c

if TYPE_CHECKING:
    from features.timeline import Timeline

Array = np.ndarray
T = TypeVar("T")
Group = tuple[str, ...]
Plan = Mapping[Group, set[int]]  # what a set of signals asks for: pass → windows in µs


class Passes:
    """Answers over one timeline at several moments, each computed when first asked for.

    Everything rests on `bounds`: where in a stream each window starts and each moment stands. Counts are differences of
    places, sums are differences of running sums, and only what is neither is a loop of its own.
    """

    def __init__(self, timeline: Timeline, as_of: Array, plan: Plan) -> None:
        self.timeline, self.as_of, self.plan = timeline, as_of, plan
        self._done: dict[tuple[Group, int], Array] = {}
        self._memory: dict[tuple[str, ...], Any] = {}

    @property
    def asked(self) -> dict[Group, set[int]]:
        """Every group and window that was answered."""
        return plan_of({group: {width}} for group, width in self._done)

    def get(self, group: Group, width: int = 0) -> Array:
        """The answer [moments, users] of a group at one window; it is computed for all windows planned at once."""
        done = self._done.get((group, width))
        if done is None:
            planned = {w for w in self.plan.get(group, ()) if (group, w) not in self._done}
            widths = sorted({width} | planned)
            self._done.update(zip(((group, w) for w in widths), self._answers(group, widths), strict=True))
            done = self._done[group, width]
        return done

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
            case "sum_since":  # the window begins with the first event of the n-th newest date of another kind
                begins = [self._nth_date(rest[1], dates)[0] for dates in widths]
                starts = [self._places(kind, begin) for begin in begins]
                return [self._sum(kind, rest[0], self._stop(kind), start) for start in starts]
            case "nth_date":
                return [np.where(enough, begin, -1) for begin, enough in (self._nth_date(kind, n) for n in widths)]
            case "favourite":
                return self._favourite(kind, rest[0], int(rest[1]), int(rest[2]))[widths]
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
            case "longer_gaps":
                return self._longer_gaps(kind, rest[0], widths)
            case "decayed":
                return self._decayed(kind, rest[0], widths)
            case "decayed_instants":
                offsets, ts, stop = self._instants(kind, rest[0])
                return self._decayed_sums(offsets, ts, np.ones(ts.size, np.int64), stop, widths)
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

    def _remembered(self, key: tuple[str, ...], compute: Callable[[], T]) -> T:
        if key not in self._memory:
            self._memory[key] = compute()
        value: T = self._memory[key]
        return value

    def _sum(self, kind: str, measure: str, stop: Array, start: Array) -> Array:
        if measure == "count":
            return stop - start
        sums = self._remembered(("sums", kind, measure), lambda: _running(self._measured(kind, measure)))
        out = sums[stop] - sums[start]
        if measure == c.DWELL:
            for m, as_of in enumerate(self.as_of.tolist()):
                if not self.timeline.facts.column_observed(c.DWELL, as_of):
                    sums = _running(self._derived_dwell(kind, as_of))
                    out[m] = sums[stop[m]] - sums[start[m]]
        return out

    def _measured(self, kind: str, measure: str) -> Array:
        """A measure of each event of a stream, -1 where it has none."""
        if measure not in ("wait", "waited"):
            return self.timeline.values(kind, measure)
        waits = self._remembered(("waits", kind), lambda: self._waits(kind))
        return waits if measure == "wait" else waits >= 0

    def _waits(self, kind: str) -> Array:
        """µs from the first purchase of the same order to each event of the kind; -1 where there was none before."""
        streams = [self.timeline.stream(name) for name in ("purchase", kind)]
        bought, size = streams[0].rows.size, streams[1].rows.size
        order = np.concatenate([self.timeline.values(name, c.ORDER_ID) for name in ("purchase", kind)])
        user = np.concatenate([np.repeat(np.arange(len(self.timeline)), np.diff(s.offsets)) for s in streams])
        ts = np.concatenate([s.ts for s in streams])
        sorted_ = np.lexsort((order, user))
        new = (np.diff(order[sorted_], prepend=0) != 0) | (np.diff(user[sorted_], prepend=-1) != 0)
        if not size:
            return np.empty(0, np.int64)
        paid = np.where(sorted_ < bought, ts[sorted_], c.NEVER)
        first = np.empty(ts.size, np.int64)
        first[sorted_] = np.minimum.reduceat(paid, np.flatnonzero(new))[np.cumsum(new) - 1]
        first, ts = first[bought:], ts[bought:]
        return np.where((order[bought:] != 0) & (first <= ts), ts - first, -1)

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

    def _nth_date(self, kind: str, dates: int) -> tuple[Array, Array]:
        """Instant of the first event of each user's n-th newest date, or of the oldest; and whether there are n.

        Without any event it is the moment itself.
        """
        stream, stop, first = self.timeline.stream(kind), self._stop(kind), self._start(kind, c.NEVER)

        def new_dates() -> Array:
            new = np.append(np.diff(stream.ts // c.DAY, prepend=-1) != 0, False)
            new[stream.offsets] = True
            return new[:-1]

        new = self._remembered(("new dates", kind), new_dates)
        begins = np.append(np.flatnonzero(new), 0)
        number = np.append(np.cumsum(new) - 1, -1)
        some = stop > first
        oldest, wanted = number[first], number[stop - 1] - dates + 1
        instant = np.append(stream.ts, 0)[begins[np.where(some, np.maximum(wanted, oldest), 0)]]
        return np.where(some, instant, self.as_of[:, None]), some & (wanted >= oldest)

    def _favourite(self, kind: str, column: str, dates: int, before: int) -> Array:
        """Counts [statistic, moments, users] of a code before and lately; see `Moment.favourite`."""
        first, middle = (self._places(kind, self._nth_date(kind, n)[0]) for n in (dates + before, dates))
        stop = self._stop(kind)
        out = np.zeros((4, *stop.shape), np.int64)
        loops.favourite(self.timeline.values(kind, column), first, middle, stop, out)
        return out

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

    def _instants(self, kind: str, by: str) -> tuple[Array, Array, Array]:
        """Distinct instants of a stream, each the first of one value of `by`: offsets, times, and moments' places."""

        def first_of_each() -> tuple[Array, Array, Array]:
            stream, newer = self.timeline.stream(kind), self._newer_same(kind, by)
            first = newer >= 0
            first[newer[first & (newer < c.NEVER)]] = False
            rows = np.flatnonzero(first)
            user = np.searchsorted(stream.offsets, rows, side="right")
            rows = rows[np.append(True, (np.diff(stream.ts[rows]) != 0) | (np.diff(user) != 0))[: rows.size]]
            return np.searchsorted(rows, stream.offsets), stream.ts[rows], np.searchsorted(rows, self._stop(kind))

        return self._remembered(("instants", kind, by), first_of_each)

    def _gaps(self, kind: str, by: str) -> Array:
        """Statistics [statistic, moments, users] of the gaps between distinct instants."""
        offsets, ts, stop = self._instants(kind, by)
        out = np.full((4, *stop.shape), np.nan)
        loops.gap_statistics(offsets, ts, stop, out)
        return out

    def _longer_gaps(self, kind: str, by: str, beyond: list[int]) -> Array:
        offsets, ts, stop = self._instants(kind, by)
        out = np.zeros((len(beyond), *stop.shape), np.int64)
        loops.longer_gaps(offsets, ts, stop, self.as_of, np.array(beyond, np.int64), out)
        return out

    def _decayed(self, kind: str, measure: str, half_lives: list[int]) -> Array:
        stream, ones = self.timeline.stream(kind), measure == "count"
        values = np.ones(stream.ts.size, np.int64) if ones else np.maximum(self.timeline.values(kind, measure), 0)
        return self._decayed_sums(stream.offsets, stream.ts, values, self._stop(kind), half_lives)

    def _decayed_sums(self, offsets: Array, ts: Array, values: Array, stop: Array, half_lives: list[int]) -> Array:
        out = np.empty((len(half_lives), *stop.shape))
        loops.decayed_sums(offsets, ts, values, self.as_of, stop, np.array(half_lives, float), out)
        return out


def _running(values: Array) -> Array:
    """Sums of all values before each place, one longer than the values; missing ones (-1) add nothing."""
    out = np.zeros(values.size + 1, np.int64)
    np.cumsum(np.maximum(values, 0), out=out[1:])
    return out


def plan_of(questions: Iterable[Plan]) -> dict[Group, set[int]]:
    """Several plans as one."""
    out: dict[Group, set[int]] = {}
    for asked in questions:
        for group, widths in asked.items():
            out.setdefault(group, set()).update(widths)
    return out
