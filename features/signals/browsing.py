"""Looking around, and looking around less."""

from features.events.columns import DWELL, ITEM_ID
from features.signals import signal
from features.timeline import Array, Moment, ratio


@signal(family="browsing", unit="views", windows=(1, 7, 30, 90))
def views(m: Moment, days: int) -> Array:
    """Views in the last {days} days."""
    return m.count("view", days)


@signal(family="browsing", unit="minutes", windows=(7, 30))
def browse_minutes(m: Moment, days: int) -> Array:
    """Minutes spent on views in the last {days} days."""
    return m.total(DWELL, "view", days) / 60


@signal(family="browsing", unit="ratio")
def browse_minutes_ratio(m: Moment) -> Array:
    """Minutes browsed a day over the last 7 days, relative to the 28 days before those."""
    last = m.total(DWELL, "view", 7)
    return ratio(last / 7, (m.total(DWELL, "view", 35) - last) / 28)


@signal(family="browsing", unit="ratio")
def browse_minutes_ratio_at_last_seen(m: Moment) -> Array:
    """The same ratio over the days that end with the user's last event, so that silence is no decline."""
    last = m.total(DWELL, "view", 7, to_last_seen=True)
    return ratio(last / 7, (m.total(DWELL, "view", 35, to_last_seen=True) - last) / 28)


@signal(family="browsing", unit="ratio")
def views_ratio(m: Moment) -> Array:
    """Views a day over the last 7 days, relative to the 28 days before those."""
    last = m.count("view", 7)
    return ratio(last / 7, (m.count("view", 35) - last) / 28)


@signal(family="browsing", unit="minutes a view", windows=(30,))
def minutes_per_view(m: Moment, days: int) -> Array:
    """Mean minutes a view in the last {days} days."""
    return ratio(m.total(DWELL, "view", days) / 60, m.count("view", days))


@signal(family="browsing", unit="items", windows=(7, 30))
def items_viewed(m: Moment, days: int) -> Array:
    """Distinct items viewed in the last {days} days."""
    return m.distinct(ITEM_ID, "view", days)


@signal(family="browsing", unit="lines a view", windows=(30,))
def purchases_per_view(m: Moment, days: int) -> Array:
    """Purchase lines for each view in the last {days} days."""
    return ratio(m.count("purchase", days), m.count("view", days))


@signal(family="browsing", unit="carts a view", windows=(30,))
def carts_per_view(m: Moment, days: int) -> Array:
    """Items put in the cart for each view in the last {days} days."""
    return ratio(m.count("cart", days), m.count("view", days))
