"""The user's own season: what they did at this time of the year, a year ago."""

from features.signals import signal
from features.timeline import Array, Moment

YEAR = 365


@signal(family="season", unit="days", windows=(14, 30, 60, 90))
def order_days_a_year_ago(m: Moment, days: int) -> Array:
    """Dates with a purchase in the {days} days that began a year ago."""
    return m.active_days("purchase", YEAR) - m.active_days("purchase", YEAR - days)


@signal(family="season", unit="days", windows=(30,))
def order_days_before_a_year_ago(m: Moment, days: int) -> Array:
    """Dates with a purchase in the {days} days that ended a year ago."""
    return m.active_days("purchase", YEAR + days) - m.active_days("purchase", YEAR)
