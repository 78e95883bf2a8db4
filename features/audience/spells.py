"""When rules of needs are fulfilled, and the spell of a need in which a moment falls, for many users at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from features.events.columns import DAY
from features.timeline import Array


@dataclass(frozen=True)
class Seen:
    """The events of a timeline that are about any goods of any need, in the order user, instant.

    Attributes:
        user, ts: whose, and when (µs).
        kind, item, category: codes; no code at all (the number of codes) for none.
        fits: bool[events, goods].
    """

    user: Array
    ts: Array
    kind: Array
    item: Array
    category: Array
    fits: Array

    @cached_property
    def instant(self) -> Array:
        """Place of the first event of the same user and instant: what comes at one instant has no order."""
        return _first_of_run(_changes(self.user, self.ts))

    @cached_property
    def last_of_user(self) -> Array:
        """Place of the user's last event."""
        return np.searchsorted(self.user, self.user, side="right") - 1

    def rows_of(self, user: int) -> Array:
        """Places of a user's events."""
        begin, end = np.searchsorted(self.user, [user, user + 1])
        return np.arange(begin, end)

    def epoch(self, ended: Array) -> Array:
        """A number that grows with each event of `ended` before; what came at its instant still counts as before."""
        return np.append(0, np.cumsum(ended))[self.instant]


@dataclass(frozen=True)
class Spell:
    """A need that is alive at the moment asked about; times in µs.

    Attributes:
        stage: number of the need in its chain.
        begin: when the first need of the chain was told.
        since: when this one was, by a rule or by moving on.
        last: newest evidence.
        after: only events after this one count: the last that ended it, or a stage before it; -1 for none.
    """

    user: int
    stage: int
    begin: int
    since: int
    last: int
    after: int


def fires_on_days(seen: Seen, epoch: Array, fits: Array, days: int, within: int) -> Array:
    """bool[events]: fits, and the dates of such events among the last `within` dates are at least `days` by then."""
    rows = np.flatnonzero(fits)
    user, era, date = seen.user[rows], epoch[rows], seen.ts[rows] // DAY
    begins = _changes(user, era, date)
    first = np.flatnonzero(begins)
    user, era, date = user[first], era[first], date[first]
    enough = np.zeros(first.size, bool)
    if first.size >= days:
        then, now = slice(0, first.size - days + 1), slice(days - 1, None)
        same = (user[then] == user[now]) & (era[then] == era[now])
        enough[now] = same & (date[now] - date[then] < within)
    fires = np.zeros(fits.size, bool)
    fires[rows] = enough[np.cumsum(begins) - 1]
    return fires


def fires_in_turn(seen: Seen, epoch: Array, first: Array, then: Array, within: int) -> Array:
    """bool[events]: fits `then`, and one that fits `first` came before it, at most `within` µs."""
    place = np.arange(seen.ts.size)
    before = np.maximum.accumulate(np.where(first, place, -1))
    earlier = np.append(before, -1)[seen.instant - 1]  # the last of `first` before the event's own instant
    same = (earlier >= 0) & (seen.user[earlier] == seen.user) & (epoch[earlier] == epoch)
    return then & same & (seen.ts - seen.ts[earlier] <= within)


def spells_of_one(seen: Seen, evidence: Array, fires: Array, ended: Array, keeps: int, as_of: int) -> Iterator[Spell]:
    """Spells that are alive at the moment, of a need that does not move on.

    Args:
        evidence, fires, ended: bool[events].
        keeps: µs that a need lives without new evidence.
    """
    epoch = seen.epoch(ended)
    of_now = epoch == np.append(0, np.cumsum(ended))[seen.last_of_user + 1]  # nothing that ends it came after
    rows = np.flatnonzero(evidence & of_now)
    user, ts = seen.user[rows], seen.ts[rows]
    begins = _changes(user)
    begins[1:] |= np.diff(ts) >= keeps
    first = np.flatnonzero(begins)
    if not first.size:
        return
    run, last = np.cumsum(begins) - 1, np.append(first[1:], rows.size) - 1
    alive = (np.append(user[first[1:]], -1) != user[first]) & (ts[last] + keeps > as_of)
    told = np.flatnonzero(fires[rows])
    runs, place = np.unique(run[told], return_index=True)
    for number, at in zip(runs.tolist(), told[place].tolist(), strict=True):
        if alive[number]:
            whose, since = int(user[at]), int(ts[at])
            yield Spell(whose, 0, since, since, int(ts[last[number]]), _last_of(seen, ended, whose, since))


def spells_of_chain(
    seen: Seen,
    evidence: Sequence[Array],
    fires: Sequence[Array],
    ended: Sequence[Array],
    keeps: Sequence[int],
    stays: Sequence[int],
    as_of: int,
) -> Iterator[Spell]:
    """Spells that are alive at the moment, of needs that move on to one another; each argument by stage.

    Args:
        stays: µs from being told to moving on.
    """
    stages = range(len(evidence))
    # One number each that says which stages: of evidence the earliest one, of rules fulfilled the latest.
    speaks = np.full(seen.ts.size, len(evidence))
    tells = np.full(seen.ts.size, -1)
    for stage in reversed(stages):
        speaks[evidence[stage]] = stage
        tells[fires[stage] & (tells < 0)] = stage
    stop = np.logical_or.reduce(ended)
    for user in np.unique(seen.user[tells >= 0]).tolist():
        rows = seen.rows_of(user)
        rows = rows[(speaks[rows] < len(evidence)) | stop[rows]]
        life = _Life(keeps, stays)
        for group in np.split(rows, np.flatnonzero(np.diff(seen.instant[rows])) + 1):
            ends = [bool(ended[stage][group].any()) for stage in stages] if stop[group].any() else []
            life.comes(int(seen.ts[group[0]]), int(speaks[group].min()), int(tells[group].max()), ends)
        life.passes(as_of)
        if life.stage >= 0:
            after = max(_last_of(seen, one, user, life.begin) for one in ended[: life.stage + 1])
            yield Spell(user, life.stage, life.begin, life.since, life.last, after)


class _Life:
    """One user's way through the stages of a chain; `stage` is -1 while there is none."""

    def __init__(self, keeps: Sequence[int], stays: Sequence[int]) -> None:
        self.keeps, self.stays = keeps, stays
        self.stage, self.begin, self.since, self.last = -1, 0, 0, 0
        self.ahead: list[int] = []  # newest events, by stage, that speak for stages still to come

    def passes(self, until: int) -> None:
        """Time goes by: the need moves on, or ends for want of evidence."""
        while self.stage >= 0:
            ends, moves = self.last + self.keeps[self.stage], self.since + self.stays[self.stage]
            if moves < ends and moves <= until:
                self.stage, self.since = self.stage + 1, moves
                self.last = max(self.last, self.ahead[self.stage])
                continue
            if ends <= until:
                self.stage = -1
            return

    def comes(self, ts: int, speaks: int, tells: int, ends: Sequence[bool]) -> None:
        """Events of an instant: the earliest stage they speak for, the latest they tell, and which stages they end."""
        self.passes(ts)
        if self.stage < 0 <= tells:
            self.begin, self.ahead = ts, [0] * len(self.keeps)
        if tells > self.stage:
            self.stage, self.since = tells, ts
        if 0 <= self.stage >= speaks:
            self.last = ts
        elif 0 <= self.stage < speaks < len(self.keeps):
            self.ahead[speaks] = ts
        if ends and self.stage >= 0 and ends[self.stage]:
            self.stage = -1


def _last_of(seen: Seen, chosen: Array, user: int, before: int) -> int:
    """When the user's last event of those chosen before an instant was; -1 for none."""
    rows = seen.rows_of(user)
    rows = rows[chosen[rows] & (seen.ts[rows] < before)]
    return int(seen.ts[rows[-1]]) if rows.size else -1


def _changes(*columns: Array) -> Array:
    """bool: differs from the one before in any column; true for the first."""
    changes = np.zeros(columns[0].size, bool)
    changes[:1] = True
    for column in columns:
        changes[1:] |= column[1:] != column[:-1]
    return changes


def _first_of_run(begins: Array) -> Array:
    return np.flatnonzero(begins)[np.cumsum(begins) - 1] if begins.size else np.empty(0, np.int64)
