"""What the audience report is made of, gathered from a store."""

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from analysis.lifecycle import RETURN_DAYS, Lifecycle, LifecyclePass
from analysis.people import People, PeoplePass, Rules
from analysis.structure import Structure, StructurePass, each_timeline, steps_back
from features.audience.learn import Learned
from features.audience.segments import SegmentTable, cuts_of
from features.audience.stages import StageTable, borders_of
from features.events.store import Store


@dataclass(frozen=True)
class Material:
    """What the page is made of.

    Attributes:
        name: of the store.
        stages: the operator's table.
        rules: borders and cuts in force.
        learned: the facts they come from.
    """

    name: str
    as_of: int
    stages: StageTable
    rules: Rules
    learned: Learned
    structure: Structure
    lifecycle: Lifecycle
    people: People


def audience_material(
    store: Store,
    as_of: int,
    stages: StageTable,
    segments: SegmentTable,
    learned: Learned,
    scores: pa.Table | None = None,
    progress: Callable[[float], None] | None = None,
) -> Material:
    """All that the page says, as known at a moment (µs), in one pass over the store.

    Args:
        learned: facts of the shop at training, or of now; the borders and cuts in force follow from them.
        scores: what `ebbtide score` or `ebbtide audience` wrote; without it nothing is said of risks.
        progress: called with the share done.

    Raises:
        UserError: the moment is not after the first event.
    """

    rules = Rules(borders_of(stages, learned), cuts_of(segments, learned), segments)
    moments = steps_back(store.span[0], as_of, RETURN_DAYS)
    counted = StructurePass(store, moments, rules.borders)
    lived, seen = LifecyclePass(store, as_of, rules.borders), PeoplePass(store, as_of, rules)
    for timeline in each_timeline(store, progress):
        counted.add(timeline)
        lived.add(timeline)
        seen.add(timeline)
    structure, who = counted.result(), seen.result(scores)
    return Material(store.path.name, as_of, stages, rules, learned, structure, lived.result(), who)
