"""What we sent, and what the user made of it."""

from features.signals import signal
from features.timeline import Array, Moment, ratio


@signal(family="messages", unit="messages", windows=(7, 30, 90))
def messages_sent(m: Moment, days: int) -> Array:
    """Messages sent to the user in the last {days} days."""
    return m.count("message_sent", days)


@signal(family="messages", unit="messages", windows=(30, 90))
def messages_opened(m: Moment, days: int) -> Array:
    """Messages opened in the last {days} days."""
    return m.count("message_opened", days)


@signal(family="messages", unit="share", windows=(90,))
def message_open_rate(m: Moment, days: int) -> Array:
    """Messages opened for each message sent in the last {days} days."""
    return ratio(m.count("message_opened", days), m.count("message_sent", days))


@signal(family="messages", unit="coupons", windows=(30, 90))
def coupons_used(m: Moment, days: int) -> Array:
    """Coupons used in the last {days} days."""
    return m.count("coupon_used", days)


@signal(family="messages", unit="days")
def days_since_message_sent(m: Moment) -> Array:
    """Days since the last message to the user."""
    return m.days_since("message_sent")


@signal(family="messages", unit="days")
def days_since_message_opened(m: Moment) -> Array:
    """Days since the user last opened a message."""
    return m.days_since("message_opened")


@signal(family="messages", unit="days")
def days_since_coupon_used(m: Moment) -> Array:
    """Days since the user last used a coupon."""
    return m.days_since("coupon_used")
