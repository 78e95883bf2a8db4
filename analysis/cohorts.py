"""Cohorts: customers by the calendar month or week of their first purchase, and who of them buys in which one after.

The log's first cohort holds whoever was a customer already when the log began, and not only new ones.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from features.audience.learn import anonymous
from features.events import columns as c
from features.timeline import Array, Timeline

Unit = Literal["month", "week"]
MONDAY = 3  # days from the Monday of the week of 1970-01-01 to that day


@dataclass(frozen=True)
class Cohorts:
    """Retention by cohort, as known at a moment.

    Attributes:
        starts: datetime64[D][cohorts], first day of the month or week (from Monday) of the first purchase; UTC.
        users: int64[cohorts].
        bought: int64[cohorts, steps], customers who bought in the k-th month or week after the first one (k = 0: all).
        over: bool[cohorts, steps]: was that month or week over at the moment? What is not says nothing.
    """

    unit: Unit
    as_of: int
    starts: Array
    users: Array
    bought: Array
    over: Array

    @property
    def retention(self) -> Array:
        """float64[cohorts, steps]: share that bought; NaN where it is not over, or nobody is in the cohort."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.over & (self.users > 0)[:, None], self.bought / self.users[:, None], np.nan)

    @property
    def mean(self) -> Array:
        """float64[steps]: share over all cohorts for which the step is over; NaN where there is none."""
        users = (self.over * self.users[:, None]).sum(axis=0)
        bought = (self.over * self.bought).sum(axis=0)
        return np.divide(bought, users, out=np.full(users.size, np.nan), where=users > 0)

    def to_table(self) -> pa.Table:
        """A row a cohort and step that is over."""
        cohort, step = np.nonzero(self.over)
        return pa.table(
            {
                "cohort": pa.array(self.starts[cohort].astype("datetime64[D]")),
                "users": self.users[cohort],
                self.unit: step,
                "bought": self.bought[cohort, step],
                "retention": pa.array(self.retention[cohort, step], from_pandas=True),
            }
        )


def cohort_counts(known: Timeline, first: int, as_of: int, unit: Unit) -> Array:
    """int64[cohorts, steps]: users of a timeline by cohort and step.

    Args:
        known: `timeline.known_before(as_of)`.
        first: µs of the first event of the log, where the first cohort begins.
    """
    base = int(_period(np.array([first]), unit)[0])
    size = int(_period(np.array([max(as_of - 1, first)]), unit)[0]) - base + 1
    stream = known.stream("purchase")
    user = np.repeat(np.arange(len(known)), np.diff(stream.offsets))
    kept = (stream.ts < as_of) & ~anonymous(known)[user]
    user, period = user[kept], _period(stream.ts[kept], unit) - base
    new = np.append(True, (np.diff(user) != 0) | (np.diff(period) != 0))[: user.size]
    user, period = user[new], period[new]
    is_first = np.append(True, np.diff(user) != 0)[: user.size]
    start = period[is_first][np.cumsum(is_first) - 1] if user.size else period
    return np.bincount(start * size + period - start, minlength=size * size).reshape(size, size)


def cohorts_of(counts: Iterable[Array], first: int, as_of: int, unit: Unit) -> Cohorts:
    """The counts of all timelines (`cohort_counts`) together; cohorts without anybody at either end are left out."""
    bought = np.asarray(sum(counts))
    periods = np.arange(bought.shape[0]) + int(_period(np.array([first]), unit)[0])
    ends = _starts(periods + 1, unit).astype("datetime64[us]").astype(np.int64)
    over = np.zeros(bought.shape, bool)
    for cohort in range(bought.shape[0]):
        upto = int((ends <= as_of).sum()) - cohort
        over[cohort, : max(upto, 0)] = True
    over[:, 0] = True  # who bought first in it is known, though more may come
    users = bought[:, 0].copy()
    some = np.flatnonzero(users)
    rows = slice(some[0], some[-1] + 1) if some.size else slice(0, 0)
    steps = bought.shape[0] - (rows.start or 0)
    return Cohorts(unit, as_of, _starts(periods, unit)[rows], users[rows], bought[rows, :steps], over[rows, :steps])


def unit_for(first: int, as_of: int) -> Unit:
    """Months where there are at least four of them, else weeks."""
    return "month" if as_of - first >= 120 * c.DAY else "week"


def _period(ts: Array, unit: Unit) -> Array:
    """Number of the month or week of each instant."""
    if unit == "month":
        return ts.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
    return (ts // c.DAY + MONDAY) // 7


def _starts(periods: Array, unit: Unit) -> Array:
    if unit == "month":
        return periods.astype("datetime64[M]").astype("datetime64[D]")
    return (periods * 7 - MONDAY).astype("datetime64[D]")
