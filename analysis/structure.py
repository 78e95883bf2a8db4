"""The structure of the user base at several moments: who is where, who moved, what they buy, who stays.

A period ends at each moment and begins at the moment before it (for the first, as long before as the second is after).
Who is *registered* has an account (every user that is no anonymous device); *active*: with an event of their own in the
period; *paying*: with a purchase in it; *new*: registered in it, or where no registration is known, first seen in it; a
*new buyer's* first purchase lies in it. By first sight a user is new only if the log goes back, before the period, for
at least the days of dormancy; else how many are new is not known. All is as known at the moment: what came to be known
later changes nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from analysis.arrivals import Arrivals, seen_from
from analysis.cohorts import Cohorts, Unit, cohort_counts, cohorts_of, unit_for
from features.audience.stages import STAGES, Borders, stages_at
from features.errors import UserError
from features.events import columns as c
from features.events.store import Store
from features.timeline import Array, Moment, Timeline

NOT_THERE = "not there yet"
NEW_STAGES = (NOT_THERE, *STAGES)
COLUMNS = (c.TS, c.KIND, c.ARRIVED_AT, c.ITEM_ID, c.CATEGORY, c.ORDER_ID, "channel", "tie")
ANONYMOUS = STAGES.index("anonymous")


@dataclass(frozen=True)
class Structure:
    """Counts at moments (µs, ascending); -1 in a count: not known.

    Attributes:
        begins: µs, of the period that ends at each moment.
        stages: int64[moments, STAGES], users in each stage.
        flows: int64[moments - 1, 1 + STAGES, STAGES], users from each stage (first row: not there yet) at a moment to
            each stage at the next one.
        active, paying, new, new_buyers: int64[moments], registered users in the period.
        categories: those of any purchase in any period, by buyers at the last moment, most first, then by name.
        buyers: int64[moments, categories], registered users who bought in a category in the period.
        category_buyers: int64[moments], those who bought in any category.
        in_all: int64[moments], categories of the shop as known at the moment.
    """

    moments: tuple[int, ...]
    begins: tuple[int, ...]
    borders: Borders
    stages: Array
    flows: Array
    active: Array
    paying: Array
    new: Array
    new_buyers: Array
    categories: tuple[str, ...]
    buyers: Array
    category_buyers: Array
    in_all: Array
    cohorts: Cohorts

    @property
    def registered(self) -> Array:
        """int64[moments], all accounts."""
        return self.stages.sum(axis=1) - self.stages[:, ANONYMOUS]

    @property
    def penetration(self) -> Array:
        """float64[moments, categories]: share of the paying users who bought in a category; NaN if nobody paid."""
        return _ratio(self.buyers, self.paying[:, None])

    @property
    def breadth(self) -> Array:
        """float64[moments]: mean number of categories bought in the period by those who bought in any; NaN if none."""
        return _ratio(self.buyers.sum(axis=1), self.category_buyers)

    def to_table(self) -> pa.Table:
        """A row a moment; null where something is not known."""
        numbers = {
            "registered": self.registered,
            "active": self.active,
            "paying": self.paying,
            "new": self.new,
            "old": np.where(self.new < 0, -1, self.registered - self.new),
            "new_buyers": self.new_buyers,
            "old_buyers": np.where(self.new_buyers < 0, -1, self.paying - self.new_buyers),
        }
        numbers |= {f"stage_{stage}": self.stages[:, place] for place, stage in enumerate(STAGES)}
        shares = {
            "new_per_old": _ratio(np.where(self.new < 0, np.nan, self.new), numbers["old"]),
            "new_buyers_per_old": _ratio(np.where(self.new_buyers < 0, np.nan, self.new_buyers), numbers["old_buyers"]),
            "categories_bought": self.breadth,
            "categories_in_all": np.where(self.in_all > 0, self.in_all, np.nan),
        }
        return pa.table(
            {"as_of": _stamps(self.moments), "period_begins": _stamps(self.begins)}
            | {name: pa.array(count, pa.int64(), mask=count < 0) for name, count in numbers.items()}
            | {name: pa.array(share, from_pandas=True) for name, share in shares.items()}
        )

    def flows_table(self) -> pa.Table:
        """A row for every two successive moments and two stages, also where nobody moved."""
        at, before, after = (place.ravel() for place in np.indices(self.flows.shape))
        return pa.table(
            {
                "from": _stamps(np.array(self.moments)[at]),
                "to": _stamps(np.array(self.moments)[at + 1]),
                "stage_before": np.array(NEW_STAGES)[before].tolist(),
                "stage_after": np.array(STAGES)[after].tolist(),
                "users": self.flows.ravel(),
            }
        )

    def penetration_table(self) -> pa.Table:
        """A row a moment and category."""
        at, category = (place.ravel() for place in np.indices(self.buyers.shape))
        return pa.table(
            {
                "as_of": _stamps(np.array(self.moments)[at]),
                "category": pa.array([self.categories[place] for place in category], pa.string()),
                "buyers": self.buyers.ravel(),
                "penetration": pa.array(self.penetration.ravel(), from_pandas=True),
            }
        )


class _Part(NamedTuple):
    """The counts of some users, as in `Structure`; `buyers` int64[moments, category codes]."""

    stages: Array
    flows: Array
    active: Array
    paying: Array
    new: Array
    new_buyers: Array
    buyers: Array
    category_buyers: Array
    cohorts: Array


def structure(
    store: Store,
    moments: Sequence[int],
    borders: Borders,
    *,
    unit: Unit | None = None,
    progress: Callable[[float], None] | None = None,
) -> Structure:
    """The structure at some moments (µs), in one pass over the store; cohorts are as of the last moment.

    Args:
        unit: of cohorts; months if not given, or weeks where the log has less than four months.
        progress: called with the share done.

    Raises:
        UserError: no moment, or one not after the first event.
    """
    counting = StructurePass(store, moments, borders, unit)
    for timeline in each_timeline(store, progress):
        counting.add(timeline)
    return counting.result()


class StructurePass:
    """Counts a structure timeline by timeline, so that others can look at the same timelines; see `structure`."""

    def __init__(self, store: Store, moments: Sequence[int], borders: Borders, unit: Unit | None = None) -> None:
        self._moments, self._first = tuple(sorted(set(moments))), store.span[0]
        if not self._moments or self._moments[0] <= self._first:
            since = _iso(self._first)
            raise UserError(f"the moments of a structure must lie after the first event, {since}: give such a --from")
        back = self._moments[1] - self._moments[0] if len(self._moments) > 1 else 30 * c.DAY
        self._begins = (self._moments[0] - back, *self._moments[:-1])
        self._unit = unit or unit_for(seen_from(store.facts), self._moments[-1])
        self._borders, self._facts, self._arrivals = borders, store.facts, Arrivals.of(store)
        self._words = store.words[c.CATEGORY].texts
        self._total: list[Array] = []

    def add(self, timeline: Timeline) -> None:
        """Count the users of a timeline."""
        own, last = slim(timeline), self._moments[-1]
        part = [
            *_part(own, self._moments, self._begins, self._borders, self._arrivals, len(self._words)),
            cohort_counts(own.known_before(last), self._first, last, self._unit),
        ]
        self._total = [a + b for a, b in zip(self._total, part, strict=True)] if self._total else part

    def result(self) -> Structure:
        """The structure of all that were added."""
        sums, facts, moments = _Part(*self._total), self._facts, self._moments
        seen, bought = (seen_from(facts, kind) for kind in (c.MADE, "purchase"))
        sure = [(np.array(self._begins) - began) / c.DAY >= self._borders.dormant_days for began in (seen, bought)]
        shown = np.lexsort((np.array(self._words, str), -sums.buyers[-1]))
        shown = shown[sums.buyers.sum(axis=0)[shown] > 0]
        return Structure(
            moments=moments,
            begins=self._begins,
            borders=self._borders,
            stages=sums.stages,
            flows=sums.flows,
            active=sums.active,
            paying=sums.paying,
            new=np.where(sure[0] | (self._arrivals.registered_at is not None), sums.new, -1),
            new_buyers=np.where(sure[1], sums.new_buyers, -1),
            categories=tuple(self._words[code] for code in shown),
            buyers=sums.buyers[:, shown],
            category_buyers=sums.category_buyers,
            in_all=np.array([facts.categories(m) if facts.column_observed(c.CATEGORY, m) else 0 for m in moments]),
            cohorts=cohorts_of([sums.cohorts], self._first, moments[-1], self._unit),
        )


def each_timeline(store: Store, progress: Callable[[float], None] | None = None) -> Iterator[Timeline]:
    """All timelines of a store; `progress` is told the share done after each."""
    chunks = store.chunks()
    for done, chunk in enumerate(chunks):
        yield store.timeline(chunk)
        if progress:
            progress((done + 1) / len(chunks))


def slim(timeline: Timeline) -> Timeline:
    """The timeline with only the columns that are looked at here: what was late is then cheaply taken out."""
    columns = {name: values for name, values in timeline.columns.items() if name in COLUMNS}
    return Timeline(timeline.user_ids, timeline.offsets, columns, timeline.facts)


def _part(
    timeline: Timeline,
    moments: tuple[int, ...],
    begins: tuple[int, ...],
    borders: Borders,
    arrivals: Arrivals,
    categories: int,
) -> tuple[Array, ...]:
    """All counts of `_Part` but the cohorts."""
    rows = arrivals.rows(timeline)
    people = timeline.as_of(moments)
    codes = np.stack([stages_at(timeline, moment, borders) for moment in people]).astype(np.int64)
    named = codes != ANONYMOUS
    stages = np.stack([np.bincount(code[code >= 0], minlength=len(STAGES)) for code in codes])
    flows = [_flow(before, after) for before, after in pairwise(codes)]
    recent = [
        _recent(moment, begin, arrivals.since(timeline, moment, rows)[0], there)
        for moment, begin, there in zip(people, begins, named & (codes >= 0), strict=True)
    ]
    active, paying, new, new_buyers = np.array(recent, np.int64).reshape(-1, 4).T
    bought = _bought(timeline, moments, begins, named, categories)
    buyers, any_category = np.stack([b for b, _ in bought]), np.array([n for _, n in bought])
    empty = np.empty((0, len(NEW_STAGES), len(STAGES)), np.int64)
    return (stages, np.stack(flows) if flows else empty, active, paying, new, new_buyers, buyers, any_category)


def _flow(before: Array, after: Array) -> Array:
    """int64[1 + STAGES, STAGES] of stage codes, -1 (not there yet) in the first row."""
    there = after >= 0
    pairs = (before[there] + 1) * len(STAGES) + after[there]
    return np.bincount(pairs, minlength=len(NEW_STAGES) * len(STAGES)).reshape(len(NEW_STAGES), len(STAGES))


def _recent(moment: Moment, begin: int, since: Array, there: Array) -> tuple[int, ...]:
    """Users there who were active, paid, are new, and bought for the first time, since the period began."""
    days = (moment.as_of - begin) / c.DAY
    ago = (moment.days_since(c.MADE), moment.days_since("purchase"), since, moment.days_since_first("purchase"))
    return tuple(int((there & (one <= days)).sum()) for one in ago)


def _bought(
    timeline: Timeline, moments: tuple[int, ...], begins: tuple[int, ...], named: Array, categories: int
) -> list[tuple[Array, int]]:
    """For each period the users named by category bought in, int64[categories], and who bought in any."""
    stream, code = timeline.stream("purchase"), timeline.values("purchase", c.CATEGORY)
    owner = np.repeat(np.arange(len(timeline)), np.diff(stream.offsets))
    known, width = timeline.known[stream.rows], max(categories, 1)
    out = []
    for begin, moment, chosen in zip(begins, moments, named, strict=True):
        rows = (stream.ts >= begin) & (stream.ts < moment) & (known < moment) & (code >= 0) & chosen[owner]
        pairs = np.unique(owner[rows] * width + code[rows])
        out.append((np.bincount(pairs % width, minlength=categories)[:categories], np.unique(pairs // width).size))
    return out


def steps_back(first: int, as_of: int, days: int = 30, most: int = 13) -> list[int]:
    """Instants (µs) so many days apart, the last one `as_of`, all with a whole step of log before them if any has."""
    steps = [as_of - step * days * c.DAY for step in range(most)]
    return [moment for moment in reversed(steps) if moment - days * c.DAY > first] or [as_of]


def month_starts(first: int, last: int) -> list[int]:
    """Instants (µs) of the first days of months from one instant to another, both included if they are such."""
    start = np.datetime64(first, "us").astype("datetime64[M]")
    start += int(start.astype("datetime64[us]").astype(np.int64) < first)
    stop = np.datetime64(last, "us").astype("datetime64[M]") + 1
    return np.arange(start, stop).astype("datetime64[us]").astype(np.int64).tolist()


def _ratio(part: Array, whole: Array) -> Array:
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _stamps(instants: Sequence[int] | Array) -> pa.Array:
    return pa.array(np.asarray(instants, np.int64).astype("datetime64[us]"))


def _iso(instant: int) -> str:
    return datetime.fromtimestamp(instant // 1_000_000, UTC).isoformat(sep=" ").removesuffix("+00:00")
