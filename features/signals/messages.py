"""What we sent, and what the user made of it."""

from features.events.columns import PAGE
from features.signals import signal
from features.timeline import Array, Moment, ratio, where


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


@signal(family="messages", unit="days")
def days_since_opt_out(m: Moment) -> Array:
    """Days since the user last refused further messages."""
    return m.days_since("opt_out")


@signal(family="messages", unit="days")
def days_since_answer_natural(m: Moment) -> Array:
    """Days since the user last answered that there is no need any more."""
    return m.days_since(where("survey_answer", PAGE, "natural"))


@signal(family="messages", unit="days")
def days_since_answer_soft(m: Moment) -> Array:
    """Days since the user last answered that they forgot or had no time."""
    return m.days_since(where("survey_answer", PAGE, "soft"))


@signal(family="messages", unit="days")
def days_since_answer_experience(m: Moment) -> Array:
    """Days since the user last answered that they were not satisfied."""
    return m.days_since(where("survey_answer", PAGE, "experience"))


@signal(family="messages", unit="days")
def days_since_answer_other(m: Moment) -> Array:
    """Days since the user last answered that it was for none of the reasons asked about."""
    return m.days_since(where("survey_answer", PAGE, "other"))
