"""The operators' alarm beside a model: whom each finds, and how many days ahead.

**At a moment** (`beside`) both flag users, and the truth is the model's own: no purchase within the horizon after the
moment. The model flags its highest scores: as many users as the rule (`same number`), or as many as it can while being
right as often as the rule (`same precision`).

**Day by day** (`watch`, `lead_times`). A user is *watched* on the days on which the last purchase is less than a
horizon ago. A leaving becomes *certain* when the horizon has passed since the last purchase: then everybody knows,
without rule or model. The alarm of a leaver *stands* if it is on at the last watched moment, and it stands since the
first moment from which on it was never off. The lead is the time from there to certainty. So an alarm that was taken
back does not count, one that stood before the last purchase counts in full, and a leaver without a standing alarm has
a lead of 0. Rule and model are treated alike, over the same users and moments, with the model's one threshold chosen
over all watched user-days: as many flagged as by the rule, or right as often. A lead may also be measured to other
instants, such as the true instants of a simulated shop; it is negative where the alarm came later.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from features import signals as catalogue
from features.engines.local import THREADS, matrices
from features.errors import UserError
from features.events.columns import DAY
from features.events.intake import hash_array
from features.events.store import Store
from features.matrix import Matrix
from features.signals import Signal
from features.timeline import Array
from models.alarm import SIGNALS, USUAL, AlarmSettings, alarm_of

CELLS_AT_ONCE = 50_000_000  # signals x users x moments in memory, 4 bytes each
RULE, SAME_NUMBER, SAME_PRECISION = "rule", "model, same number", "model, same precision"


@dataclass(frozen=True)
class Flagged:
    """How many were flagged, how many of them left, and how many left in all; shares are NaN where there are none."""

    flagged: int
    right: int
    left: int

    @property
    def precision(self) -> float:
        return _share(self.right, self.flagged)

    @property
    def recall(self) -> float:
        return _share(self.right, self.left)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return _share(2 * self.right, self.flagged + self.left)


@dataclass(frozen=True)
class Part:
    """Users of a part, and how many of them left."""

    users: int
    left: int

    @property
    def share_left(self) -> float:
        return _share(self.left, self.users)


@dataclass(frozen=True)
class Beside:
    """Rule and model over the users of one or several moments.

    Attributes:
        known: users for whom the alarm is known, that is who have browsed.
        flagged: by contender: the rule, and the model at the same number and at the same precision.
        parts: "both", "only the rule", "only the model", "neither", the model at the same number.
    """

    users: int
    known: int
    flagged: Mapping[str, Flagged]
    parts: Mapping[str, Part]


def beside(matrix: Matrix, score: Array, settings: AlarmSettings = USUAL) -> Beside:
    """Rule and model at one moment.

    Args:
        matrix: with the alarm's signals and with outcomes.
        score: float[users], higher is likelier to leave.
    """
    found, left = alarm_of(matrix, settings), matrix.churned
    rule = found.rings
    number = np.zeros(len(matrix), bool)
    number[np.argsort(-score, kind="stable")[: rule.sum()]] = True
    sets = {
        RULE: rule,
        SAME_NUMBER: number,
        SAME_PRECISION: score >= cut_at_precision(score, left, _share(int(left[rule].sum()), int(rule.sum()))),
    }
    parts = {
        "both": rule & number,
        "only the rule": rule & ~number,
        "only the model": number & ~rule,
        "neither": ~rule & ~number,
    }
    return Beside(
        len(matrix),
        int(found.known.sum()),
        {name: _flagged(chosen, left) for name, chosen in sets.items()},
        {name: Part(int(chosen.sum()), int(left[chosen].sum())) for name, chosen in parts.items()},
    )


def pooled(moments: Sequence[Beside]) -> Beside:
    """Several moments as one, each user of each moment counted; the model's thresholds stay each moment's own."""
    flagged = {
        name: Flagged(
            sum(m.flagged[name].flagged for m in moments),
            sum(m.flagged[name].right for m in moments),
            sum(m.flagged[name].left for m in moments),
        )
        for name in moments[0].flagged
    }
    parts = {
        name: Part(sum(m.parts[name].users for m in moments), sum(m.parts[name].left for m in moments))
        for name in moments[0].parts
    }
    return Beside(sum(m.users for m in moments), sum(m.known for m in moments), flagged, parts)


def cut_at_precision(score: Array, left: Array, precision: float) -> float:
    """The lowest score such that of those with it or more at least that share left; infinite if there is none.

    Args:
        score: float[n]. Equal scores are flagged together.
        left: bool[n].
        precision: NaN (nobody was flagged) gives infinity.
    """
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)[: ranked.size]
    enough = np.cumsum(left[order]) >= precision * np.arange(1, ranked.size + 1) - 1e-9
    reached = np.flatnonzero(last_of_tie & enough)
    return float(ranked[reached[-1]]) if reached.size else np.inf


def cut_at_number(score: Array, number: int) -> float:
    """The score such that so many of float[n] have it or more (and those equal to it); infinite for none."""
    return float(np.partition(score, score.size - number)[score.size - number]) if number else np.inf


@dataclass(frozen=True)
class Watch:
    """What rule and model said of each user, day by day; arrays are [moments, users].

    Attributes:
        as_of: int64[moments], µs, rising.
        watched: bool, the last purchase is less than a horizon ago.
        rings: bool, the rule.
        score: float32, the model; NaN where not watched.
        left: bool, no purchase within the horizon after the moment.
        certain: int64[users], µs, when the user's latest leaving became certain; -1 for users without one.
        last_watched: int64[users], the moment's place before that; -1 likewise.
        horizon: days.
    """

    as_of: Array
    user_ids: pa.Array
    watched: Array
    rings: Array
    score: Array
    left: Array
    certain: Array
    last_watched: Array
    horizon: int

    def flags(self) -> dict[str, Array]:
        """bool[moments, users] by contender, over the watched user-days."""
        rule = self.rings & self.watched
        score, left = self.score[self.watched], self.left[self.watched]
        flagged = int(rule.sum())
        number = cut_at_number(score, flagged)
        precision = cut_at_precision(score, left, _share(int(self.left[rule].sum()), flagged))
        return {RULE: rule, SAME_NUMBER: self.score >= number, SAME_PRECISION: self.score >= precision}


def watch(
    store: Store,
    signals: Sequence[Signal],
    score: Callable[[Matrix], Array],
    *,
    as_of: int,
    horizon: int,
    days: int = 90,
    step: int = 1,
    settings: AlarmSettings = USUAL,
    threads: int = THREADS,
    progress: Callable[[float], None] | None = None,
) -> Watch:
    """Rule and model at every `step`-th of the `days` days that end one horizon before `as_of` (µs).

    Nothing at or after `as_of` is read. A leaving counts if the last purchase lies within these days, so that it could
    be watched for a whole horizon.

    Args:
        signals: what `score` needs; the alarm's own are added.
        score: float[users] of a matrix, higher is likelier to leave; it should have seen none of these days.

    Raises:
        UserError: fewer days than a horizon, within which no leaving becomes certain.
    """
    if days <= horizon:
        raise UserError(
            f"{days} days are too few to watch users leave by a horizon of {horizon} days: watch at least {horizon + 1}"
        )
    last = as_of - horizon * DAY
    moments = np.arange(last - days // step * step * DAY, last + 1, step * DAY)
    names = dict.fromkeys([*SIGNALS, "days_since_purchase", *(signal.name for signal in signals)])
    wanted = catalogue.by_name(list(names))
    hashes = store.user_hashes
    shape = (moments.size, hashes.size)
    ids = np.full(hashes.size, None, object)
    silent_days = np.full(shape, np.nan, np.float32)
    scores, rings, left = np.full(shape, np.nan, np.float32), np.zeros(shape, bool), np.zeros(shape, bool)
    at_once = max(1, CELLS_AT_ONCE // max(1, hashes.size * len(wanted)))
    for start in range(0, moments.size, at_once):
        chosen = moments[start : start + at_once].tolist()
        built = matrices(
            store, chosen, wanted, lookback=horizon + step, horizon=horizon, known_before=as_of, threads=threads
        )
        for row, matrix in enumerate(built, start):
            users = np.searchsorted(hashes, hash_array(matrix.user_ids))
            ids[users] = matrix.user_ids.to_numpy(zero_copy_only=False)
            silent_days[row, users] = matrix.column("days_since_purchase")
            rings[row, users], left[row, users] = alarm_of(matrix, settings).rings, matrix.churned
            scores[row, users] = score(matrix) if len(matrix) else []
        if progress:
            progress(min(1.0, (start + at_once) / moments.size))
    seen = np.flatnonzero(np.isfinite(silent_days).any(axis=0))
    silent_days, scores = silent_days[:, seen], scores[:, seen]
    watched = silent_days < horizon
    scores[~watched] = np.nan
    certain, before = _leavings(moments, silent_days, watched, horizon)
    return Watch(
        moments,
        pa.array(ids[seen], pa.string()),
        watched,
        rings[:, seen],
        scores,
        left[:, seen],
        certain,
        before,
        horizon,
    )


def _leavings(moments: Array, silent_days: Array, watched: Array, horizon: int) -> tuple[Array, Array]:
    """When each user's latest leaving became certain and the place of the last watched moment before, int64[users]."""
    turned = watched[:-1] & (silent_days[1:] >= horizon)
    place = np.where(turned.any(axis=0), len(turned) - 1 - np.argmax(turned[::-1], axis=0), -1)
    bought = moments[place] - (silent_days[place, np.arange(place.size)].astype(np.float64) * DAY)
    counts = (place >= 0) & (bought >= moments[0])
    certain = np.where(counts, np.nan_to_num(bought) + horizon * DAY, -1).astype(np.int64)
    return certain, np.where(counts, place, -1)


def lead_days(watch: Watch, flags: Array, instants: Array | None = None) -> tuple[Array, Array]:
    """How many days ahead of each leaving the alarm stood, and whether it stood at all: float64 and bool[users].

    NaN for users who did not leave. An alarm that never stood is known no earlier than certainty.

    Args:
        flags: bool[moments, users].
        instants: µs[users] to measure to, -1 for users not to count; when leaving became certain, if not given.
    """
    # Up to the last watched moment: on at it and ever since the first of the unbroken run that ends there.
    upto = np.arange(len(flags))[:, None] <= watch.last_watched
    last_off = np.where(upto & ~flags, np.arange(len(flags))[:, None], -1).max(axis=0)
    stood = (watch.last_watched >= 0) & (last_off < watch.last_watched)
    since = np.where(stood, watch.as_of[np.minimum(last_off + 1, len(flags) - 1)], watch.certain)
    to = watch.certain if instants is None else np.asarray(instants)
    counted = (watch.certain >= 0) & (to >= 0)
    return np.where(counted, (to - since) / DAY, np.nan), stood & counted


@dataclass(frozen=True)
class LeadTime:
    """One contender, day by day.

    Attributes:
        user_days: flagged user-days of the watched, how many were right, and all that would have been.
        leavers, caught: users whose leaving became certain; those of them with an alarm that stood.
        quartiles: lower quartile, median, upper quartile of the lead in days, of the caught.
        quartiles_of_all: the same of all leavers.
    """

    user_days: Flagged
    leavers: int
    caught: int
    quartiles: tuple[float, float, float]
    quartiles_of_all: tuple[float, float, float]


@dataclass(frozen=True)
class LeadTimes:
    """Rule and model, day by day.

    Attributes:
        contenders: the rule, and the model at the same number of flagged user-days and at the same precision.
        parts: leavers caught by "both", "only the rule", "only the model", "neither", the model at the same precision.
        earlier: median days by which the model was ahead of the rule, of those both caught; NaN if none.
    """

    contenders: Mapping[str, LeadTime]
    parts: Mapping[str, int]
    earlier: float


def lead_times(watch: Watch, instants: Array | None = None) -> LeadTimes:
    """Rule and model over the same leavers; `instants` as in `lead_days`."""
    flags = watch.flags()
    leads = {name: lead_days(watch, chosen, instants) for name, chosen in flags.items()}
    contenders = {
        name: LeadTime(
            _flagged(flags[name][watch.watched], watch.left[watch.watched]),
            int(np.isfinite(days).sum()),
            int(caught.sum()),
            _quartiles(days[caught]),
            _quartiles(days[np.isfinite(days)]),
        )
        for name, (days, caught) in leads.items()
    }
    (rule_days, by_rule), (model_days, by_model) = leads[RULE], leads[SAME_PRECISION]
    both, leavers = by_rule & by_model, np.isfinite(rule_days)
    parts = {
        "both": int(both.sum()),
        "only the rule": int((by_rule & ~by_model).sum()),
        "only the model": int((by_model & ~by_rule).sum()),
        "neither": int((leavers & ~by_rule & ~by_model).sum()),
    }
    return LeadTimes(contenders, parts, _quartiles((model_days - rule_days)[both])[1])


def _flagged(chosen: Array, left: Array) -> Flagged:
    return Flagged(int(chosen.sum()), int(left[chosen].sum()), int(left.sum()))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else np.nan


def _quartiles(days: Array) -> tuple[float, float, float]:
    low, middle, high = np.quantile(days, [0.25, 0.5, 0.75]) if days.size else (np.nan,) * 3
    return float(low), float(middle), float(high)
