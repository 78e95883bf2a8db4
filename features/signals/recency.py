"""How long ago."""

from features.events.columns import MADE
from features.signals import signal
from features.timeline import Array, Moment


@signal(family="recency", unit="days")
def days_since_purchase(m: Moment) -> Array:
    """Days since the last purchase."""
    return m.days_since("purchase")


@signal(family="recency", unit="days")
def days_since_seen(m: Moment) -> Array:
    """Days since the last event made by the user."""
    return m.days_since(MADE)


@signal(family="recency", unit="days")
def days_since_view(m: Moment) -> Array:
    """Days since the last view of an item."""
    return m.days_since("view")


@signal(family="recency", unit="days")
def days_since_cart(m: Moment) -> Array:
    """Days since an item was last put in the cart."""
    return m.days_since("cart")


@signal(family="recency", unit="days")
def days_since_login(m: Moment) -> Array:
    """Days since the last login."""
    return m.days_since("login")


@signal(family="recency", unit="days")
def days_since_first_seen(m: Moment) -> Array:
    """Days since the first event made by the user."""
    return m.days_since_first(MADE)


@signal(family="recency", unit="days")
def days_since_first_purchase(m: Moment) -> Array:
    """Days since the first purchase."""
    return m.days_since_first("purchase")
