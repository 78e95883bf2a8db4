"""The user's own interval between orders."""

from features.events.columns import ORDER_ID
from features.signals import signal
from features.timeline import Array, Moment, ratio


@signal(family="rhythm", unit="days")
def order_gap_mean_days(m: Moment) -> Array:
    """Mean days between successive orders."""
    return m.gaps("purchase", ORDER_ID).mean


@signal(family="rhythm", unit="days")
def order_gap_spread_days(m: Moment) -> Array:
    """Standard deviation of the days between successive orders."""
    return m.gaps("purchase", ORDER_ID).spread


@signal(family="rhythm", unit="days")
def order_gap_last_days(m: Moment) -> Array:
    """Days between the last two orders."""
    return m.gaps("purchase", ORDER_ID).last


@signal(family="rhythm", unit="days")
def order_gap_longest_days(m: Moment) -> Array:
    """Longest time between successive orders."""
    return m.gaps("purchase", ORDER_ID).longest


@signal(family="rhythm", unit="ratio")
def order_gap_last_ratio(m: Moment) -> Array:
    """Last gap between orders, relative to the user's mean gap."""
    gaps = m.gaps("purchase", ORDER_ID)
    return ratio(gaps.last, gaps.mean)


@signal(family="rhythm", unit="ratio")
def overdue_ratio(m: Moment) -> Array:
    """Days since the last purchase, relative to the user's mean gap between orders."""
    return ratio(m.days_since("purchase"), m.gaps("purchase", ORDER_ID).mean)


@signal(family="rhythm", unit="days")
def overdue_days(m: Moment) -> Array:
    """Days since the last purchase beyond the user's mean gap between orders."""
    return m.days_since("purchase") - m.gaps("purchase", ORDER_ID).mean
