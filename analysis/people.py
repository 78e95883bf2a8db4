"""Every user at one moment, a column each: stage, segment, tier, level, value, and who is about to leave."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.structure import each_timeline
from features.audience.learn import worth
from features.audience.rfm import Cuts, rfm_scores, segments_of
from features.audience.segments import SegmentTable, growth_at, newcomers_at, registrations, tiers_at
from features.audience.stages import STAGES, Borders, stages_at
from features.events import columns as c
from features.events.store import Store
from features.timeline import Array, Timeline
from models import audience
from models.alarm import alarm_at

LEFT = tuple(STAGES.index(stage) for stage in audience.GONE)
CUSTOMERS = tuple(STAGES.index(stage) for stage in audience.CUSTOMERS)


@dataclass(frozen=True)
class Rules:
    """What is in force: borders of stages, cuts of RFM, and the table of segments."""

    borders: Borders
    cuts: Cuts
    table: SegmentTable


class People(NamedTuple):
    """All users with an event before the moment, an array of as many places each; codes are -1 where there is none.

    Attributes:
        stage: code into `STAGES`; `segment` into `SEGMENTS`, `tier` into `TIERS`, `level` into the table's levels,
            `newcomer` into `NEWCOMER`.
        rfm: int8[3, users], scores of recency, frequency and money; 0 where the user never bought.
        value: spend so far; `spend` is that of the last year; currency units.
        rings, alarm_known: the operators' alarm.
        probability: of leaving, from the churn model; NaN where it was not asked of the user.
        risky: does the model call the risk high?
    """

    user_ids: Array
    stage: Array
    rfm: Array
    segment: Array
    tier: Array
    level: Array
    newcomer: Array
    value: Array
    spend: Array
    rings: Array
    alarm_known: Array
    probability: Array
    risky: Array

    @property
    def customers(self) -> Array:
        """bool[users]: bought, and no anonymous device."""
        return np.isin(self.stage, (*CUSTOMERS, *LEFT))

    @property
    def left(self) -> Array:
        """bool[users]: dormant or lost."""
        return np.isin(self.stage, LEFT)

    @property
    def about_to_leave(self) -> Array:
        """bool[users]: a customer who has not left, with a high risk or for whom the alarm rings."""
        return np.isin(self.stage, CUSTOMERS) & (self.risky | self.rings)

    @property
    def warned(self) -> bool:
        """Is there a model or an alarm to tell who is about to leave?"""
        return bool(np.isfinite(self.probability).any() or self.alarm_known.any())


def people(
    store: Store,
    as_of: int,
    rules: Rules,
    scores: pa.Table | None = None,
    progress: Callable[[float], None] | None = None,
) -> People:
    """All users of a store as known at a moment (µs), bucket by bucket.

    Args:
        scores: what `ebbtide score` wrote: `user_id`, `churn_probability`, and `risk` ("high" …) if it is there.
        progress: called with the share done.
    """
    looking = PeoplePass(store, as_of, rules)
    for timeline in each_timeline(store, progress):
        looking.add(timeline)
    return looking.result(scores)


class PeoplePass:
    """Looks at users timeline by timeline, so that others can look at the same timelines; see `people`."""

    def __init__(self, store: Store, as_of: int, rules: Rules) -> None:
        self._as_of, self._rules, self._registered = as_of, rules, registrations(store.table("users"))
        self._parts: list[list[Array]] = []

    def add(self, timeline: Timeline) -> None:
        """Look at the users of a timeline."""
        self._parts.append(_part(timeline, self._as_of, self._rules, self._registered))

    def result(self, scores: pa.Table | None = None) -> People:
        """All that were added, with their scores."""
        columns = [np.concatenate(column, axis=-1) for column in zip(*self._parts, strict=True)]
        return People(*[*columns, *_scored(columns[0], scores)])


def _part(timeline: Timeline, as_of: int, rules: Rules, registered: Mapping[str, int]) -> list[Array]:
    """The columns of `People` up to the alarm, of those with an event before the moment."""
    (moment,) = timeline.as_of([as_of])
    scores = rfm_scores(moment, rules.cuts)
    alarm = alarm_at(moment)
    _, spend, value = worth(moment)
    columns = [
        timeline.user_ids.cast(pa.string()).to_numpy(zero_copy_only=False),
        stages_at(timeline, moment, rules.borders),
        scores.T,
        segments_of(scores, rules.table.rfm.high),
        tiers_at(timeline, moment, rules.table, rules.cuts, rules.borders),
        growth_at(moment, rules.table).level,
        newcomers_at(timeline, moment, rules.table, registered),
        value,
        spend,
        alarm.rings,
        alarm.known,
    ]
    there = moment.present
    return [column[..., there] for column in columns]


def _scored(user_ids: Array, scores: pa.Table | None) -> tuple[Array, Array]:
    """Probability and high risk of each user; NaN and False of those not asked about."""
    probability, risky = np.full(user_ids.size, np.nan), np.zeros(user_ids.size, bool)
    if scores is None or not scores.num_rows:
        return probability, risky
    ids = scores[c.USER_ID].cast(pa.string()).combine_chunks()
    found: pa.Array = pc.index_in(pa.array(user_ids, pa.string()), value_set=ids)
    row = found.fill_null(-1).to_numpy(zero_copy_only=False)
    given = scores["churn_probability"].cast(pa.float64()).to_numpy()
    probability = np.append(given, np.nan)[row]
    if "risk" in scores.column_names:
        high = pc.equal(scores["risk"], "high").fill_null(False).to_numpy()
        risky = np.append(high.astype(bool), False)[row]
    return probability, risky
