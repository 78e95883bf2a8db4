"""What happened after a moment."""

from features.timeline import Array, Timeline


def purchases_after(timeline: Timeline, as_of: list[int], horizon: int, known_before: int) -> Array:
    """Purchases in `[moment, moment + horizon days)`, int64[moments, users].

    Args:
        known_before: instant (µs) up to which the log may be read; a window must end at or before it.
    """
    return timeline.count_between("purchase", as_of, horizon, known_before)
