"""Law 2 has teeth: a signal computed one day into the future is told from all that are not."""

from pathlib import Path

import numpy as np
import pandas as pd

from features.events.store import Store
from features.signals import Signal, all_signals
from features.timeline import Array, Moment
from tests.features.support import DAY_US, RANDOM_MOMENTS, as_micros, ingest_frame, matrix_at, stamps
from tests.randomlog import random_log


def tomorrow(moment: Moment) -> Array:
    """What a careless signal does: it looks a day ahead."""
    later = moment._passes.timeline.as_of([moment.as_of + DAY_US])[0]
    return later.count("purchase", 31)


CANARY = Signal("canary", "frequency", "lines", "Purchase lines, a day ahead.", tomorrow, "canary")


def told_by_the_future(past: Store, more: Store, moment: int, signals: tuple[Signal, ...]) -> set[str]:
    """Names of the signals that change, in any byte, with rows that were unknown at the moment."""
    one, other = (matrix_at(store, moment, signals=signals) for store in (past, more))
    assert one.user_ids.equals(other.user_ids)
    return {s.name for i, s in enumerate(signals) if one.values[:, i].tobytes() != other.values[:, i].tobytes()}


def test_a_signal_of_tomorrow_is_caught_and_no_other_is(tmp_path: Path) -> None:
    moment = RANDOM_MOMENTS[1]
    log = random_log(1, 40, 4_000, arrived_at=False)
    before = as_micros(log["ts"]) < moment
    users = log["user_id"][before].unique()
    soon = pd.DataFrame({"user_id": users, "ts": stamps(np.full(len(users), moment)), "kind": "purchase"})
    soon["event_id"] = [f"soon {i}" for i in range(len(users))]
    past = ingest_frame(log[before], tmp_path / "past").store
    more = ingest_frame(pd.concat([log, soon]), tmp_path / "more").store
    assert past is not None
    assert more is not None
    assert told_by_the_future(past, more, moment, (*all_signals(), CANARY)) == {"canary"}
