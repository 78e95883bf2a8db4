"""What leavers do before they leave: which signals move first, how far, and how many days ahead.

**Who.** A leaver has a purchase after which none follows for the horizon. A stayer has a purchase that another one
follows within the horizon, and does not leave from any purchase of the next look-back either. The day of that purchase
is the anchor of both, and all is seen at 00:00 of days counted from it: from a look-back before, in weeks, until the
horizon is nearly over. Both were customers already before all that is looked at; who came later has no norm to move
from and is left out.

**"They stop buying" is no sign of itself.** Counted back from the moment at which the leaving is known, every leaver
has a long silence, by definition. Up to the last purchase nothing is true of leavers by definition, and both sides have
just as surely bought at day 0. For users who buy at a steady rate the past of a purchase tells nothing of the next gap,
so whatever does is a change of behaviour. After day 0 a pair is looked at only for as long as the stayer has not bought
again: both are silent equally long. And only signals that tell of more than purchases, over windows that lie after day
0: whether they still look around.

**Matched** (`analysis.pairs`). A leaver is paired with the nearest stayer (each user is in one pair at most) whose
anchor is at most two weeks apart and whose orders, spend, age as a customer and longest gap between orders are alike.
The orders are those of the whole span up to day 0, the norm's weeks and the look-back together: pairs alike only at its
beginning would drift apart by regression to the mean, which is no sign of leaving. Without the longest gap, users who
always bought in bursts would pass for leavers: on Online Retail II, at 90 days, 7 signals "moved" and not none.

**Moved.** Each user's own norm is the mean of the signal over the four weeks before the look-back. A pair's difference
is the leaver's change from the norm less the stayer's. A signal has moved at a day if the mean difference is beyond
what swapping leaver and stayer within pairs at random gives: the 95th percentile, over 999 swaps, of the largest |t|
over all signals and all days at once (Westfall and Young 1993, single-step maxT). So where nothing moves, nothing is
reported in 95 of 100 logs, however many signals there are and however they hang together. `day` is the first from which
on the signal stays moved, to the same side, for two weeks in a row and, if it is before the last purchase, up to it.
(Day 0 alone tells bursts of purchases apart rather than leavers: of 32 simulated logs of steady but bursty buyers, in
which nothing moves, 6 had a signal beyond at day 0 and 1 a week before too.) `days_ahead` counts from there to the day
at which the leaving is certain, the horizon after the last purchase, like the lead of an alarm (`analysis.alarm`). With
weekly days and windows of 7 days or more, a change that sets in 21 days before the last purchase is found at 14 days
before it or later.

**Which signals.** Those that look back no further than `MEMORY` days, and those made of times since the last event and
of gaps. Longer windows and counts since ever still hold what was before the change: they cannot tell when it came.
Extreme values are cut off at the 0.5th and 99.5th percentile, so that one large order is not a sign.

This says how leavers differ, not why they leave.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure

from analysis.pairs import Anchors, anchors, match
from features import signals as catalogue
from features.engines.local import THREADS, matrices
from features.errors import UserError
from features.events import columns as c
from features.events.store import Store
from features.signals import Signal
from features.timeline import Array

STEP, NORM_DAYS, MEMORY = 7, 28, 35  # days
LEAST_PAIRS = 30  # fewer tell nothing
CLIP = (0.005, 0.995)
SWAPS, LEVEL = 999, 0.95
SHOWN = 20
VISITS = ("view", "search", "login")  # kinds that tell of a user who does not buy
WINDOWED = {"sum", "sum_to_last_seen", "dates", "visits", "distinct"}
TIMES_AND_GAPS = {"last", "gaps", "bound"}


class Move(NamedTuple):
    """A signal that moves before users leave.

    Attributes:
        day: from which on it stays moved, counted from the last purchase; negative before it.
        days_ahead: days from there until the leaving is certain.
        direction: "falls" or "rises", of leavers against stayers.
        effect: largest mean difference while it stays moved, in standard deviations of a user's change.
        leavers, stayers: mean change from the own norm at the day of that, in the signal's unit.
        pairs: in which the signal is observed on both sides, at that day.
    """

    signal: str
    description: str
    unit: str
    day: int
    days_ahead: int
    direction: str
    effect: float
    leavers: float
    stayers: float
    pairs: int


@dataclass(frozen=True)
class Leavers:
    """What leavers do before they leave, against matched stayers.

    Attributes:
        leavers: users who left and have enough history to have a norm.
        pairs: leavers with a matched stayer; all below is about them.
        days: int64[days], counted from the last purchase, rising.
        signals: those looked at.
        effect: float64[signals, days], mean difference in standard deviations of a user's change; NaN where not looked
            at or known of too few.
        limit: the |t| that chance reaches somewhere in 5 of 100 logs.
        moves: the signals that moved, earliest first.
        balance: measure → means of leavers and stayers, by which to see how alike they are.
    """

    horizon: int
    leavers: int
    pairs: int
    days: Array
    signals: tuple[Signal, ...]
    effect: Array
    limit: float
    moves: tuple[Move, ...]
    balance: dict[str, tuple[float, float]]

    def records(self) -> list[dict[str, Any]]:
        """The table: a row a signal that moved, earliest first."""
        return [move._asdict() for move in self.moves]

    @property
    def said(self) -> str:
        """The result in a sentence."""
        if self.pairs < LEAST_PAIRS:
            return f"Only {self.pairs} leavers with enough history have a stayer like them: too few to tell."
        looked = f"Of {len(self.signals)} signals"
        against = f"before {self.pairs:,} users leave, against matched stayers"
        if not self.moves:
            return f"{looked} none moves {against}."
        first = self.moves[0]
        return (
            f"{looked} {len(self.moves)} move {against}; {first.signal} {first.direction} first, "
            f"{first.days_ahead} days before the leaving is certain ({_from_purchase(first.day)})."
        )

    def figure(self) -> Figure:
        """A row a signal that moved, earliest first, a column a week: how far; a dot where it sets in."""
        shown = self.moves[:SHOWN]
        figure = Figure(figsize=(8, 2.2 + 0.28 * len(shown)), layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(f"Before leaving: {self.pairs:,} leavers against matched stayers")
        axes.spines[["top", "right"]].set_visible(False)
        if not shown:
            axes.text(0.5, 0.5, self.said, ha="center", va="center", wrap=True, transform=axes.transAxes)
            axes.set(xticks=[], yticks=[])
            return figure
        place = {signal.name: i for i, signal in enumerate(self.signals)}
        values = self.effect[[place[move.signal] for move in shown]]
        bound = float(np.nanmax(np.abs(values)))
        image = axes.imshow(values, cmap="RdBu_r", vmin=-bound, vmax=bound, aspect="auto")
        ticks = np.flatnonzero(self.days % (2 * STEP) == 0)
        axes.set_xticks(ticks, [f"{day}" for day in self.days[ticks]])
        axes.set_xlabel(f"days from the last purchase; the leaving is certain at {self.horizon}")
        axes.set_yticks(range(len(shown)), [move.signal for move in shown])
        axes.axvline(np.flatnonzero(self.days == 0)[0], color="#222", lw=0.8, ls=":")
        for row, move in enumerate(shown):
            axes.plot(np.flatnonzero(self.days == move.day), row, "o", ms=5, color="#222")
        figure.colorbar(image, ax=axes, label="leavers − stayers, standard deviations")
        return figure


def leavers(
    store: Store,
    as_of: int,
    horizon: int,
    lookback: int = 84,
    *,
    signals: Sequence[Signal] | None = None,
    most: int = 2_000,
    seed: int = 0,
    threads: int = THREADS,
    progress: Callable[[float], None] | None = None,
) -> Leavers:
    """What leavers do before they leave, from the log before `as_of` (µs).

    Args:
        horizon: days without a purchase that count as having left.
        lookback: days before the last purchase to look at, in whole weeks.
        signals: all, if not given; of them those are looked at that can tell when.
        most: leavers looked at, at most, drawn at random.

    Raises:
        UserError: a look-back of less than a week.
    """
    if lookback < STEP:
        raise UserError(f"a look-back of {lookback} days is too short to see a change: give at least {STEP}")
    days = np.arange(-(lookback // STEP * STEP), horizon, STEP)
    wanted = tuple(s for s in signals or catalogue.all_signals() if tells_when(s))
    found = anchors(store, as_of, horizon, NORM_DAYS - int(days[0]))
    rng = np.random.default_rng(seed)
    left = found.leavers()
    pairs = match(found, np.sort(rng.permutation(left)[:most]), found.stayers(lookback))
    balance = {
        name: (float(measure[pairs[:, 0]].mean()), float(measure[pairs[:, 1]].mean()))
        for name, measure in found.measures.items()
        if len(pairs)
    }
    effect, limit = np.full((len(wanted), len(days)), np.nan), np.nan
    moves: tuple[Move, ...] = ()
    if len(pairs) >= LEAST_PAIRS:
        changes = _changes(_values(store, found, pairs, days, wanted, threads, progress))
        changes[~_looked_at(wanted, days, store)[:, None, None].repeat(len(pairs), 1).repeat(2, 2)] = np.nan
        bought_again = found.gap[pairs[:, 1]][:, None] < days
        changes[:, bought_again[:, None].repeat(2, 1)] = np.nan
        t, limit = moved(changes[:, :, 0] - changes[:, :, 1], rng)
        effect = _effects(changes)
        moves = _moves(wanted, days, horizon, np.where(np.abs(t) > limit, np.sign(t), 0), effect, changes)
    return Leavers(horizon, left.size, len(pairs), days, wanted, effect, limit, moves, balance)


def tells_when(signal: Signal) -> bool:
    """Does it look back no further than `MEMORY` days, or is it made of times since the last event and of gaps?

    Not the age as a customer, which pairs have in common, nor what asks nothing of a user, such as the season.
    """
    asked = catalogue.plan((signal,))
    return bool(asked) and all(
        group[0] in TIMES_AND_GAPS or (group[0] in WINDOWED and max(widths) <= MEMORY * c.DAY)
        for group, widths in asked.items()
    )


def _looked_at(signals: Sequence[Signal], days: Array, store: Store) -> Array:
    """bool[signals, days]: all up to day 0; then those that tell of more than purchases, of what came after day 0."""
    visits = any(kind in store.facts.kinds_known for kind in VISITS)
    out = np.ones((len(signals), len(days)), bool)
    for row, signal in zip(out, signals, strict=True):
        asked = catalogue.plan((signal,))
        kinds = {group[1] for group in asked} - {"purchase"}
        memory = max((max(widths) // c.DAY for group, widths in asked.items() if group[0] in WINDOWED), default=0)
        tells = bool(kinds) and (visits or not kinds & {c.MADE, c.ANY})
        row[:] = (days <= 0) | (tells & (days >= memory))
    return out


def _values(
    store: Store,
    found: Anchors,
    pairs: Array,
    days: Array,
    signals: tuple[Signal, ...],
    threads: int,
    progress: Callable[[float], None] | None,
) -> Array:
    """float32[signals, pairs, 2, the norm's days and `days`]: what was known of each user at each day.

    Users whose anchors fall on the same weekday share their moments, so the log is gone over seven times.
    """
    offsets = np.arange(days[0] - NORM_DAYS, days[-1] + 1, STEP)
    places = pairs.ravel()
    out = np.full((len(signals), places.size, offsets.size), np.nan, np.float32)
    for phase in range(STEP):
        mine = np.flatnonzero(found.day[places] % STEP == phase)
        if mine.size:
            day, ids = found.day[places[mine]], found.user_ids[found.user[places[mine]]]
            moments = np.arange(day.min() + offsets[0], day.max() + offsets[-1] + 1, STEP)
            built = matrices(store, (moments * c.DAY).tolist(), signals, users=ids.tolist(), threads=threads)
            for moment, matrix in zip(moments, built, strict=True):
                since = moment - day
                wanted = np.flatnonzero((since >= offsets[0]) & (since <= offsets[-1]))
                row = pc.index_in(pa.array(ids[wanted], pa.string()), value_set=matrix.user_ids)
                there = wanted[np.flatnonzero(row.is_valid().to_numpy(zero_copy_only=False))]
                rows = row.drop_null().to_numpy(zero_copy_only=False)
                out[:, mine[there], (since[there] - offsets[0]) // STEP] = matrix.values[rows].T
        if progress:
            progress((phase + 1) / STEP)
    return out.reshape(len(signals), len(pairs), 2, offsets.size)


def _changes(values: Array) -> Array:
    """float64[signals, pairs, 2, days]: each user's change from the own norm, without extremes."""
    weeks = NORM_DAYS // STEP
    out = np.full((*values.shape[:3], values.shape[3] - weeks), np.nan)
    for changes, of_signal in zip(out, values, strict=True):
        known = of_signal[np.isfinite(of_signal)]
        if known.size:
            clipped = np.clip(np.where(np.isfinite(of_signal), of_signal, np.nan), *np.quantile(known, CLIP))
            norm, seen = clipped[..., :weeks], np.isfinite(clipped[..., :weeks]).sum(axis=-1)
            mean = np.where(seen > 0, np.nansum(norm, axis=-1) / np.maximum(seen, 1), np.nan)
            changes[:] = clipped[..., weeks:] - mean[..., None]
    return out


def moved(differences: Array, rng: np.random.Generator) -> tuple[Array, float]:
    """t of the mean difference, float64[signals, days], and the |t| that chance reaches somewhere in 5 of 100 logs.

    The sign of a pair's differences is as good as random if leaver and stayer do not differ; all signals and days of a
    pair are swapped together. NaN where fewer than `LEAST_PAIRS` pairs are known or nothing differs.

    Args:
        differences: float64[signals, pairs, days], NaN where not known.
    """
    signals, pairs, days = differences.shape
    flat = np.moveaxis(differences, 1, 0).reshape(pairs, signals * days)
    known = np.isfinite(flat)
    filled = np.where(known, flat, 0)
    # The root of the sum of squares is the same whatever the signs.
    size = np.sqrt((filled**2).sum(axis=0))
    enough = (known.sum(axis=0) >= LEAST_PAIRS) & (size > 0)
    scaled = filled[:, enough] / size[enough]
    t = np.full(signals * days, np.nan)
    t[enough] = scaled.sum(axis=0)
    signs = rng.choice(np.array([-1.0, 1.0]), (SWAPS, pairs))
    largest = np.abs(signs @ scaled).max(axis=1, initial=0)
    limit = float(np.sort(np.append(largest, np.inf))[int(np.ceil(LEVEL * (SWAPS + 1))) - 1])
    return t.reshape(signals, days), limit


def _effects(changes: Array) -> Array:
    """float64[signals, days]: mean difference of a pair's changes in standard deviations of a user's change."""
    both = np.isfinite(changes).all(axis=2)
    paired = np.where(both[:, :, None], changes, np.nan)
    count = both.sum(axis=1)[:, None]
    some = np.maximum(count, 1)
    mean = np.nansum(paired, axis=1) / some
    spread = np.sqrt((np.nansum((paired - mean[:, None]) ** 2, axis=1) / some).mean(axis=1))
    known = (count[:, 0] >= LEAST_PAIRS) & (spread > 0)
    return np.where(known, (mean[:, 0] - mean[:, 1]) / np.where(known, spread, 1), np.nan)


def _moves(
    signals: Sequence[Signal], days: Array, horizon: int, sides: Array, effect: Array, changes: Array
) -> tuple[Move, ...]:
    """What moved, of the side to which each signal is beyond chance at each day: -1, 1, or 0 for neither."""
    found = []
    for signal, side, far, change in zip(signals, sides, effect, changes, strict=True):
        start = _sets_in(side, np.isfinite(far), days)
        if start is not None:
            stays = int(np.argmax(np.append(side[start:] != side[start], True)))
            at = start + int(np.argmax(np.abs(far[start : start + stays])))
            both = change[np.isfinite(change[:, :, at]).all(axis=1), :, at]
            leaver, stayer = both.mean(axis=0).tolist()
            day = int(days[start])
            about = (signal.name, signal.description, signal.unit, day, horizon - day)
            direction = "falls" if side[start] < 0 else "rises"
            found.append(Move(*about, direction, float(far[at]), leaver, stayer, len(both)))
    return tuple(sorted(found, key=lambda move: (-move.days_ahead, -abs(move.effect), move.signal)))


def _sets_in(side: Array, looked_at: Array, days: Array) -> int | None:
    """Place of the first day from which on a signal stays to one side for two weeks, and up to day 0 if before it."""
    for start in np.flatnonzero(side):
        upto = looked_at & (days >= days[start]) & (days <= max(0, days[start] + STEP))
        if upto.sum() > 1 and (side[upto] == side[start]).all():
            return int(start)
    return None


def _from_purchase(day: int) -> str:
    if day == 0:
        return "at the last purchase"
    return f"{abs(day)} days {'before' if day < 0 else 'after'} the last purchase"
