"""How often."""

from itertools import pairwise

import numpy as np

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


@signal(family="frequency", unit="orders", windows=(7, 14, 30, 60, 120, 365))
def orders_decayed(m: Moment, days: int) -> Array:
    """Orders, each halved in weight every {days} days."""
    return m.decayed("purchase", days, by=ORDER_ID)


@signal(family="frequency", unit="orders a day")
def order_rate(m: Moment) -> Array:
    """Orders a day since the first, as if that had been 30 days earlier, so that newcomers' rates are not extreme."""
    return m.distinct(ORDER_ID, "purchase") / (m.days_since_first("purchase") + 30)


@signal(family="frequency", unit="ratio", windows=(30, 90))
def order_rate_ratio(m: Moment, days: int) -> Array:
    """Orders a day of the last {days} days, relative to the rate since the first order (30 days earlier)."""
    usual = m.distinct(ORDER_ID, "purchase") / (m.days_since_first("purchase") + 30)
    return ratio(m.distinct(ORDER_ID, "purchase", days) / days, usual)


@signal(family="frequency", unit="weeks")
def weeks_with_orders_8w(m: Moment) -> Array:
    """Weeks with a purchase among the last 8."""
    return _windows_with_purchase(m, 7, 8)


@signal(family="frequency", unit="months")
def months_with_orders_12m(m: Moment) -> Array:
    """Months (of 30 days) with a purchase among the last 12."""
    return _windows_with_purchase(m, 30, 12)


def _windows_with_purchase(m: Moment, days: int, windows: int) -> Array:
    upto = [m.count("purchase", days * window) for window in range(1, windows + 1)]
    return np.asarray(np.sign(upto[0]) + sum(np.sign(b - a) for a, b in pairwise(upto)))


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


@signal(family="frequency", unit="lines")
def last_order_lines(m: Moment) -> Array:
    """Purchase lines on the last date with a purchase."""
    return m.count_since("purchase", "purchase", 1)


@signal(family="frequency", unit="ratio")
def last_order_lines_ratio(m: Moment) -> Array:
    """Purchase lines on the last date with a purchase, relative to the mean order."""
    last = m.count_since("purchase", "purchase", 1)
    return ratio(last * m.distinct(ORDER_ID, "purchase"), m.count("purchase"))
