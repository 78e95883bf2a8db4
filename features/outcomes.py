"""What happened after a moment."""

from collections.abc import Sequence

import numpy as np

from features.events import columns as c
from features.timeline import Array, Timeline


def days_to_purchase(timeline: Timeline, as_of: Sequence[int], known_before: int) -> Array:
    """Days from each moment to the user's next purchase, float64[moments, users]; infinite if none is known.

    Args:
        known_before: instant (µs) before which the log may be read. Up to it, and no further, infinite means that there
            was none.
    """
    instants = timeline.next_after("purchase", as_of, known_before)
    days = (instants - np.array(as_of, np.int64)[:, None]) / c.DAY
    return np.where(instants < c.NEVER, days, np.inf)
