"""How well each stage of life goes: activation, retention, activity and return, against the targets of `stages.toml`.

Two views. *Newcomers* are users who came in the days before the moment (registered, or first seen where no registration
is known); their activation and retention are told for all, by the channel that brought them, and by the surface of the
shop on which they were first seen. *Return* looks at users by their stage so many days before the moment, and asks what
they did since. A figure whose events the log does not have is NaN and said in words, never 0.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from analysis.arrivals import REGISTER, Arrivals, seen_from, sees_visits
from analysis.structure import each_timeline, slim
from features.audience.stages import STAGES, Borders, Kpi, StageTable, stages_at
from features.events import columns as c
from features.events.store import Store
from features.timeline import Array, Facts, Moment, Timeline

RETURN_DAYS: Final = 30
NEWCOMER_DAYS: Final = 120  # whoever came in these days before the moment is a newcomer; the last 30 are still young
RETENTION_DAYS: Final = (1, 7, 30)
NEWCOMER_KPIS: Final = ("activation", "retention_1d", "retention_7d", "retention_30d")
UNNAMED: Final = "not named"

KPIS: Final[Mapping[Kpi, str]] = {
    "activation": f"share of newcomers who buy within {RETURN_DAYS} days of coming",
    "retention_1d": "share of newcomers with an event of their own on the next day (UTC date)",
    "retention_7d": "share of newcomers with an event of their own on the 7th day after the day they came",
    "retention_30d": "share of newcomers with an event of their own on the 30th day after the day they came",
    "active_7d": f"of those in the stage {RETURN_DAYS} days ago, share with an event of their own in the last 7 days",
    "active_30d": f"of those in the stage {RETURN_DAYS} days ago, share with an event of their own since",
    "reactivated": f"of those in the stage {RETURN_DAYS} days ago, share who bought since",
    "opened_again": f"of those in the stage {RETURN_DAYS} days ago, share with any event of their own since",
    "bought_again": f"of those in the stage {RETURN_DAYS} days ago, share who bought since",
    "kept_buying": f"of those in the stage {RETURN_DAYS} days ago, share with two or more orders since",
}


@dataclass(frozen=True)
class Newcomers:
    """Newcomers of one channel or surface, or all; shares are NaN where nobody came early enough or nothing is seen.

    Attributes:
        users: who came in the `NEWCOMER_DAYS` before the moment.
        old_enough: of them, those who came `RETURN_DAYS` before it or earlier: activation is of these.
        activation: share of those who bought within `RETURN_DAYS`.
        first_order_days: median days to the first order of those who did.
        retention: share by day of `RETENTION_DAYS`, of those for whom that day is over.
        day_users: how many those are.
    """

    name: str
    users: int
    old_enough: int
    activation: float
    first_order_days: float
    retention: tuple[float, ...]
    day_users: tuple[int, ...]

    def kpi(self, name: str) -> tuple[float, int]:
        """One of `NEWCOMER_KPIS`, and of how many users it is."""
        if name == "activation":
            return self.activation, self.old_enough
        place = [f"retention_{day}d" for day in RETENTION_DAYS].index(name)
        return self.retention[place], self.day_users[place]


class Return(NamedTuple):
    """What those of a stage did in the `RETURN_DAYS` since; shares, NaN where nobody is in it or nothing is seen."""

    users: int
    active_7d: float
    opened_again: float
    bought_again: float
    kept_buying: float


class Target(NamedTuple):
    """A measure of a stage against its target; `users`: of how many; `met` is None where it is not known."""

    stage: str
    kpi: Kpi
    reached: float
    target: float
    users: int
    met: bool | None


@dataclass(frozen=True)
class Lifecycle:
    """The figures at a moment (µs).

    Attributes:
        returns: by stage `RETURN_DAYS` before.
        by_channel, by_surface: most users first; None where the log names none.
        not_seen: sentences on what this log cannot tell.
    """

    as_of: int
    returns: Mapping[str, Return]
    newcomers: Newcomers
    by_channel: tuple[Newcomers, ...] | None
    by_surface: tuple[Newcomers, ...] | None
    not_seen: tuple[str, ...]

    def kpi(self, stage: str, name: Kpi) -> tuple[float, int]:
        """A measure of a stage, and of how many users it is; measures of newcomers are the same for every stage."""
        if name in NEWCOMER_KPIS:
            return self.newcomers.kpi(name)
        found = self.returns[stage]
        fields = {"reactivated": "bought_again", "active_30d": "opened_again"}
        return getattr(found, fields.get(name, name)), found.users

    def against(self, table: StageTable) -> list[Target]:
        """Every target of the table, in the order of stages, beside what was reached."""
        out = []
        for stage in STAGES:
            for name, target in table.text(stage).targets.items():
                reached, users = self.kpi(stage, name)
                out.append(
                    Target(stage, name, reached, target, users, None if np.isnan(reached) else reached >= target)
                )
        return out

    def to_table(self) -> pa.Table:
        """A row a stage: what those who were in it did since; null where it is not known."""
        rows = [self.returns[stage] for stage in STAGES]
        columns = {name: pa.array([getattr(row, name) for row in rows], from_pandas=True) for name in Return._fields}
        return pa.table({"stage_before": list(STAGES), **columns})

    def newcomers_table(self) -> pa.Table:
        """A row for all newcomers, and for those of each channel and surface; null where something is not known."""
        groups = [("all", self.newcomers)]
        groups += [("channel", group) for group in self.by_channel or ()]
        groups += [("surface", group) for group in self.by_surface or ()]
        kpis = {name: pa.array([group.kpi(name)[0] for _, group in groups], from_pandas=True) for name in NEWCOMER_KPIS}
        days = pa.array([group.first_order_days for _, group in groups], from_pandas=True)
        return pa.table(
            {
                "by": [by for by, _ in groups],
                "name": [group.name for _, group in groups],
                "users": [group.users for _, group in groups],
                **kpis,
                "first_order_days": days,
            }
        )


class _Users(NamedTuple):
    """What is looked at of each user, an array each."""

    before: Array  # stage code RETURN_DAYS before the moment
    did: Array  # bool[4, users]: active in 7 days, made an event, bought, two or more orders since
    came: Array  # days since the user came, NaN if no newcomer
    first_order: Array  # days from coming to the first order, NaN if none
    kept: Array  # bool[days, users]: an own event on these days after coming
    source: Array
    surface: Array


def lifecycle(store: Store, as_of: int, borders: Borders, progress: Callable[[float], None] | None = None) -> Lifecycle:
    """The figures as known at a moment (µs), in one pass over the store; `progress` is told the share done."""
    looking = LifecyclePass(store, as_of, borders)
    for timeline in each_timeline(store, progress):
        looking.add(timeline)
    return looking.result()


class LifecyclePass:
    """Looks at users timeline by timeline, so that others can look at the same timelines; see `lifecycle`."""

    def __init__(self, store: Store, as_of: int, borders: Borders) -> None:
        self._as_of, self._borders, self._facts = as_of, borders, store.facts
        self._arrivals = Arrivals.of(store)
        self._parts: list[_Users] = []

    def add(self, timeline: Timeline) -> None:
        """Look at the users of a timeline."""
        self._parts.append(_users(slim(timeline), self._as_of, self._borders, self._arrivals))

    def result(self) -> Lifecycle:
        """The figures of all that were added."""
        users = _Users(*(np.concatenate(column, axis=-1) for column in zip(*self._parts, strict=True)))
        visits = sees_visits(self._facts, self._as_of)
        new = np.isfinite(users.came)
        everybody = _newcomers("all", users, new, visits)
        by = [_by(users, new, values, visits) for values in (users.source, users.surface)]
        returns = {stage: _return(users, users.before == code, visits) for code, stage in enumerate(STAGES)}
        notes = _not_seen(self._facts, self._as_of, self._arrivals, [b is not None for b in by], everybody.users)
        return Lifecycle(self._as_of, returns, everybody, by[0], by[1], notes)


def _users(timeline: Timeline, as_of: int, borders: Borders, arrivals: Arrivals) -> _Users:
    """The users of a timeline. Newcomers came after the log began; who was only first seen, not soon after."""
    earlier, now = timeline.as_of([as_of - RETURN_DAYS * c.DAY, as_of])
    known, rows = timeline.known_before(as_of), arrivals.rows(timeline)
    came, told = arrivals.since(timeline, now, rows)
    watched = (as_of - seen_from(timeline.facts)) / c.DAY - np.where(told, 0, borders.dormant_days)
    came = np.where((came <= NEWCOMER_DAYS) & (came < watched), came, np.nan)
    nothing = np.full(len(timeline), None, object)
    source, surface = arrivals.source_of(known, as_of, rows), arrivals.surface_of(known, as_of)
    return _Users(
        before=stages_at(timeline, earlier, borders),
        did=_did(now),
        came=came,
        first_order=came - now.days_since_first("purchase"),
        kept=_kept(known, now, came),
        source=nothing if source is None else source,
        surface=nothing if surface is None else surface,
    )


def _did(now: Moment) -> Array:
    """bool[4, users]: an own event in 7 days and in all of the days since, a purchase, two orders or more."""
    counts = (
        (now.count(c.MADE, 7), 1),
        (now.count(c.MADE, RETURN_DAYS), 1),
        (now.count("purchase", RETURN_DAYS), 1),
        (now.distinct(c.ORDER_ID, "purchase", RETURN_DAYS), 2),
    )
    return np.stack([count >= least for count, least in counts])


def _kept(known: Timeline, now: Moment, came: Array) -> Array:
    """bool[days, users]: an own event on the dates so many days after the date on which a user came."""
    stream = known.stream(c.MADE)
    user = np.repeat(np.arange(len(known)), np.diff(stream.offsets))
    day = np.where(np.isnan(came), np.iinfo(np.int64).min // 2, _date(now.as_of, np.nan_to_num(came)))
    since = np.where(stream.ts < now.as_of, stream.ts // c.DAY, -1) - day[user]
    out = np.zeros((len(RETENTION_DAYS), len(known)), bool)
    for row, days in zip(out, RETENTION_DAYS, strict=True):
        row[user[since == days]] = True
    return out


def _date(as_of: int, days_ago: Array) -> Array:
    """Date (days since 1970) of an instant so many days before the moment; both are whole µs."""
    return (as_of - np.rint(days_ago * c.DAY).astype(np.int64)) // c.DAY


def _newcomers(name: str, users: _Users, chosen: Array, visits: bool) -> Newcomers:
    """Figures of the newcomers chosen; without visits in the log nothing tells who came and did not buy."""
    came, first = users.came[chosen], users.first_order[chosen]
    old = came >= RETURN_DAYS
    bought = first <= RETURN_DAYS
    activation = bought[old].mean() if old.any() and visits else np.nan
    days = np.median(np.maximum(first[old & bought], 0)) if visits and (old & bought).any() else np.nan
    shares, counts = [], []
    for row, day in zip(users.kept[:, chosen], RETENTION_DAYS, strict=True):
        # The day is over once so many days, and the rest of the first day, are past.
        over = came >= day + 1
        shares.append(float(row[over].mean()) if over.any() and visits else np.nan)
        counts.append(int(over.sum()))
    return Newcomers(name, came.size, int(old.sum()), float(activation), float(days), tuple(shares), tuple(counts))


def _by(users: _Users, new: Array, names: Array, visits: bool) -> tuple[Newcomers, ...] | None:
    """Newcomers by a text each; None where no newcomer has one."""
    named = np.array([name is not None for name in names.tolist()], bool)
    if not (named & new).any():
        return None
    found, code = np.unique(np.where(named, names, UNNAMED)[new].astype(str), return_inverse=True)
    places = np.flatnonzero(new)
    groups = []
    for number, name in enumerate(found.tolist()):
        chosen = np.zeros(new.size, bool)
        chosen[places[code == number]] = True
        groups.append(_newcomers(name, users, chosen, visits))
    return tuple(sorted(groups, key=lambda group: (-group.users, group.name)))


def _return(users: _Users, chosen: Array, visits: bool) -> Return:
    """Shares of those chosen; "opened again" without a purchase is only known where the log has visits."""
    count = int(chosen.sum())
    shares = users.did[:, chosen].mean(axis=1).tolist() if count else [np.nan] * 4
    if not visits:
        shares[:2] = [np.nan, np.nan]
    return Return(count, *shares)


def _not_seen(facts: Facts, as_of: int, arrivals: Arrivals, by: list[bool], users: int) -> tuple[str, ...]:
    said = []
    if not sees_visits(facts, as_of):
        said.append(
            "The log sees users only when they buy, so activation, retention by day, activity and opening again are "
            "not known: of those who come and do not buy it tells nothing."
        )
    if arrivals.registered_at is None and not facts.kind_observed(REGISTER, as_of):
        said.append("The log tells of no registrations: users count as having come when they were first seen.")
    if not users:
        said.append(f"Nobody came in the {NEWCOMER_DAYS} days before the moment.")
    elif not by[0]:
        said.append("Acquisition channels are not known: no users table or registration names them.")
    if users and not by[1]:
        said.append("Surfaces (app, web …) are not known: no event in the shop names a channel.")
    return tuple(said)
