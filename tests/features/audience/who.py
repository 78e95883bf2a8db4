"""Who every user of a store is at a moment, as the functions of `features.audience` say, by user."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from features.audience.learn import Learned
from features.audience.rfm import SEGMENTS, deciles_at, rfm_scores, segments_of
from features.audience.segments import (
    NEWCOMER,
    TIERS,
    SegmentTable,
    cuts_of,
    growth_at,
    load_segments,
    newcomers_at,
    registrations,
    tiers_at,
)
from features.audience.stages import STAGES, StageTable, borders_of, load_stages, stages_at
from features.events.store import Store
from features.timeline import Timeline


class Who(NamedTuple):
    """One user; None where a code is -1."""

    stage: str
    scores: tuple[int, ...]
    segment: str | None
    decile: int
    tier: str | None
    newcomer: str | None
    points: int
    level: str
    to_next: int


def who(
    store: Store,
    learned: Learned,
    moment: int,
    *,
    users: Sequence[str] | None = None,
    rows: int = 250_000,
    stages: StageTable | None = None,
    segments: SegmentTable | None = None,
) -> dict[str, Who]:
    """Every user with an event before the moment."""
    out: dict[str, Who] = {}
    timelines = store.timelines(rows) if users is None else [store.timeline_of(users)]
    registered = registrations(store.table("users"))
    for timeline in timelines:
        out |= _of(timeline, learned, moment, registered, stages or load_stages(), segments or load_segments())
    return out


def _of(
    timeline: Timeline,
    learned: Learned,
    as_of: int,
    registered: dict[str, int],
    stages: StageTable,
    segments: SegmentTable,
) -> dict[str, Who]:
    moment = timeline.as_of([as_of])[0]
    borders, cuts = borders_of(stages, learned), cuts_of(segments, learned)
    scores = rfm_scores(moment, cuts)
    growth = growth_at(moment, segments)
    columns: tuple[Any, ...] = (
        timeline.user_ids.to_pylist(),
        stages_at(timeline, moment, borders),
        scores.tolist(),
        segments_of(scores, segments.rfm.high),
        deciles_at(moment, cuts).tolist(),
        tiers_at(timeline, moment, segments, cuts, borders),
        newcomers_at(timeline, moment, segments, registered),
        growth.points.tolist(),
        growth.level,
        growth.to_next.tolist(),
    )
    return {
        user: Who(
            STAGES[stage],
            tuple(score),
            SEGMENTS[segment] if segment >= 0 else None,
            decile,
            TIERS[tier] if tier >= 0 else None,
            NEWCOMER[newcomer] if newcomer >= 0 else None,
            points,
            segments.levels[level].name,
            to_next,
        )
        for user, stage, score, segment, decile, tier, newcomer, points, level, to_next in zip(*columns, strict=True)
        if stage >= 0
    }
