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


@signal(family="rhythm", unit="share")
def silence_usual_share(m: Moment) -> Array:
    """Share of the user's own gaps between orders that were longer than the present silence (one of two is assumed)."""
    return (m.longer_gaps("purchase", ORDER_ID) + 1) / (m.distinct(ORDER_ID, "purchase") + 1)


@signal(family="rhythm", unit="share", windows=(7, 14, 30, 60, 90))
def silence_goes_on(m: Moment, days: int) -> Array:
    """Of the gaps between orders longer than the present silence, the share {days} days longer still (smoothed)."""
    return (m.longer_gaps("purchase", ORDER_ID, days) + 0.5) / (m.longer_gaps("purchase", ORDER_ID) + 1)


@signal(family="rhythm", unit="ratio")
def silence_of_longest_gap(m: Moment) -> Array:
    """Days since the last purchase, relative to the user's longest gap between orders."""
    return ratio(m.days_since("purchase"), m.gaps("purchase", ORDER_ID).longest)


@signal(family="rhythm", unit="spreads")
def overdue_spreads(m: Moment) -> Array:
    """Days overdue, in standard deviations (and a day) of the user's gaps between orders."""
    gaps = m.gaps("purchase", ORDER_ID)
    return (m.days_since("purchase") - gaps.mean) / (gaps.spread + 1)


@signal(family="rhythm", unit="days", windows=(2, 3, 5, 10), suffix="o")
def days_since_orders(m: Moment, orders: int) -> Array:
    """Days since the first of the last {orders} dates with an order."""
    return m.days_since_date("purchase", orders)


@signal(family="rhythm", unit="days")
def order_gap_recent_days(m: Moment) -> Array:
    """Mean days between the last four dates with an order."""
    return (m.days_since_date("purchase", 4) - m.days_since_date("purchase", 1)) / 3


@signal(family="rhythm", unit="ratio")
def overdue_recent_ratio(m: Moment) -> Array:
    """Days since the last date with an order, relative to the mean gap between the last four."""
    last = m.days_since_date("purchase", 1)
    return ratio(last * 3, m.days_since_date("purchase", 4) - last)
