"""How often."""

from features.events.columns import MADE, ORDER_ID
from features.signals import signal
from features.timeline import Array, Moment, ratio


@signal(family="frequency", unit="orders", windows=(7, 14, 30, 60, 90, 180, 365))
def orders(m: Moment, days: int) -> Array:
    """Distinct orders paid in the last {days} days."""
    return m.distinct(ORDER_ID, "purchase", days)


@signal(family="frequency", unit="orders")
def orders_ever(m: Moment) -> Array:
    """Distinct orders paid since ever."""
    return m.distinct(ORDER_ID, "purchase")


@signal(family="frequency", unit="share")
def orders_recent_share(m: Moment) -> Array:
    """Orders of the last 30 days as a share of those of the last 90."""
    return ratio(m.distinct(ORDER_ID, "purchase", 30), m.distinct(ORDER_ID, "purchase", 90))


@signal(family="frequency", unit="lines a week")
def orders_slope_12w(m: Moment) -> Array:
    """Trend of purchase lines a week over the last 12 weeks (least squares)."""
    return m.trend("purchase", 12)


@signal(family="frequency", unit="lines", windows=(30, 90))
def purchases(m: Moment, days: int) -> Array:
    """Purchase lines in the last {days} days."""
    return m.count("purchase", days)


@signal(family="frequency", unit="lines", windows=(30, 90))
def purchases_decayed(m: Moment, days: int) -> Array:
    """Purchase lines, each halved in weight every {days} days."""
    return m.decayed("purchase", days)


@signal(family="frequency", unit="days", windows=(7, 30, 90, 180))
def active_days(m: Moment, days: int) -> Array:
    """Dates (UTC) with an event made by the user in the last {days} days."""
    return m.active_days(MADE, days)


@signal(family="frequency", unit="sessions", windows=(7, 30))
def sessions(m: Moment, days: int) -> Array:
    """Sessions in the last {days} days."""
    return m.sessions(days)


@signal(family="frequency", unit="events", windows=(7, 30))
def carts(m: Moment, days: int) -> Array:
    """Items put in the cart in the last {days} days."""
    return m.count("cart", days)


@signal(family="frequency", unit="events", windows=(7, 30))
def searches(m: Moment, days: int) -> Array:
    """Searches in the last {days} days."""
    return m.count("search", days)


@signal(family="frequency", unit="events", windows=(7, 30))
def logins(m: Moment, days: int) -> Array:
    """Logins in the last {days} days."""
    return m.count("login", days)


@signal(family="frequency", unit="events", windows=(30,))
def favourites(m: Moment, days: int) -> Array:
    """Items marked as favourite in the last {days} days."""
    return m.count("favourite", days)
