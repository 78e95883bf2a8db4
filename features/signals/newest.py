"""The newest visits and orders, however long they took, and everything since ever to set them against.

A visit is a date with a view, an order here a date with a purchase. `_4v` is "since the first view of the fourth-last
visit", `_3o` "since the first purchase of the third-last order": as long for a quick user as for a slow one. Why
somebody leaves is told from these (`models.causes`).
"""

from features.events.columns import CATEGORY, DWELL, MADE, SEARCH_RESULTS
from features.signals import signal
from features.timeline import Array, Favourite, Moment, ratio, where

EMPTY = where("search", SEARCH_RESULTS, 0)
BEFORE = 16  # visits before the newest that say what the favourite was


@signal(family="newest", unit="days", windows=(1, 2, 4, 8, 16), suffix="v")
def days_since_visits(m: Moment, visits: int) -> Array:
    """Days since the first of the last {visits} visits."""
    return m.days_since_date("view", visits)


@signal(family="newest", unit="views", windows=(1, 2, 4, 8, 16), suffix="v")
def views_in(m: Moment, visits: int) -> Array:
    """Views in the last {visits} visits."""
    return m.count_since("view", "view", visits)


@signal(family="newest", unit="minutes", windows=(1, 2, 4, 8), suffix="v")
def browse_minutes_in(m: Moment, visits: int) -> Array:
    """Minutes spent on views in the last {visits} visits."""
    return m.total_since(DWELL, "view", "view", visits) / 60


@signal(family="newest", unit="share", windows=(1, 2, 4, 8), suffix="v")
def favourite_category_before(m: Moment, visits: int) -> Array:
    """Share of the category viewed most in the 16 visits before the last {visits}."""
    found = _favourite(m, visits)
    return ratio(found.before, found.all_before)


@signal(family="newest", unit="share", windows=(1, 2, 4, 8), suffix="v")
def favourite_category_in(m: Moment, visits: int) -> Array:
    """Share in the last {visits} visits of the category viewed most in the 16 visits before those."""
    found = _favourite(m, visits)
    return ratio(found.lately, found.all_lately * (found.all_before > 0))


def _favourite(m: Moment, visits: int) -> Favourite:
    return m.favourite(CATEGORY, "view", visits, BEFORE)


@signal(family="newest", unit="events", windows=(4, 16), suffix="v")
def searches_in(m: Moment, visits: int) -> Array:
    """Searches since the first of the last {visits} visits."""
    return m.count_since("search", "view", visits)


@signal(family="newest", unit="events", windows=(4, 16), suffix="v")
def empty_searches_in(m: Moment, visits: int) -> Array:
    """Searches that found nothing since the first of the last {visits} visits."""
    return m.count_since(EMPTY, "view", visits)


@signal(family="newest", unit="events", windows=(4, 16), suffix="v")
def not_interested_in(m: Moment, visits: int) -> Array:
    """Items marked as not interesting since the first of the last {visits} visits."""
    return m.count_since("not_interested", "view", visits)


@signal(family="newest", unit="events", windows=(4, 16), suffix="v")
def carts_in(m: Moment, visits: int) -> Array:
    """Items put in the cart since the first of the last {visits} visits."""
    return m.count_since("cart", "view", visits)


@signal(family="newest", unit="lines", windows=(4, 16), suffix="v")
def purchases_in(m: Moment, visits: int) -> Array:
    """Purchase lines since the first of the last {visits} visits."""
    return m.count_since("purchase", "view", visits)


@signal(family="newest", unit="messages", windows=(1, 2, 4, 8), suffix="v")
def messages_sent_in(m: Moment, visits: int) -> Array:
    """Messages sent to the user from the first of the last {visits} visits until last seen."""
    return m.count_since("message_sent", "view", visits) - m.count_since("message_sent", MADE, 1)


@signal(family="newest", unit="messages", windows=(1, 2, 4, 8), suffix="v")
def messages_opened_in(m: Moment, visits: int) -> Array:
    """Messages opened since the first of the last {visits} visits."""
    return m.count_since("message_opened", "view", visits)


@signal(family="newest", unit="events", windows=(3,), suffix="o")
def refunds_in(m: Moment, orders: int) -> Array:
    """Refunds since the first of the last {orders} orders."""
    return m.count_since("refund", "purchase", orders)


@signal(family="newest", unit="events", windows=(3,), suffix="o")
def complaints_in(m: Moment, orders: int) -> Array:
    """Complaints since the first of the last {orders} orders."""
    return m.count_since("complaint", "purchase", orders)


@signal(family="newest", unit="events", windows=(3,), suffix="o")
def failed_payments_in(m: Moment, orders: int) -> Array:
    """Failed payments since the first of the last {orders} orders."""
    return m.count_since("payment_failed", "purchase", orders)


@signal(family="newest", unit="days", windows=(3,), suffix="o")
def delivery_days_in(m: Moment, orders: int) -> Array:
    """Mean days from payment to delivery, of deliveries since the first of the last {orders} orders."""
    return m.delivery_days_since("purchase", orders)


@signal(family="newest", unit="days")
def delivery_days_ever(m: Moment) -> Array:
    """Mean days from payment to delivery, of all deliveries."""
    return m.delivery_days()


@signal(family="newest", unit="visits")
def visits_ever(m: Moment) -> Array:
    """Visits since ever."""
    return m.active_days("view")


@signal(family="newest", unit="days")
def order_days_ever(m: Moment) -> Array:
    """Dates (UTC) with a purchase since ever."""
    return m.active_days("purchase")


@signal(family="newest", unit="views")
def views_ever(m: Moment) -> Array:
    """Views since ever."""
    return m.count("view")


@signal(family="newest", unit="minutes")
def browse_minutes_ever(m: Moment) -> Array:
    """Minutes spent on views since ever."""
    return m.total(DWELL, "view") / 60


@signal(family="newest", unit="events")
def searches_ever(m: Moment) -> Array:
    """Searches since ever."""
    return m.count("search")


@signal(family="newest", unit="events")
def empty_searches_ever(m: Moment) -> Array:
    """Searches that found nothing since ever."""
    return m.count(EMPTY)


@signal(family="newest", unit="events")
def not_interested_ever(m: Moment) -> Array:
    """Items marked as not interesting since ever."""
    return m.count("not_interested")


@signal(family="newest", unit="events")
def carts_ever(m: Moment) -> Array:
    """Items put in the cart since ever."""
    return m.count("cart")


@signal(family="newest", unit="lines")
def purchases_ever(m: Moment) -> Array:
    """Purchase lines since ever."""
    return m.count("purchase")


@signal(family="newest", unit="events")
def refunds_ever(m: Moment) -> Array:
    """Refunds since ever."""
    return m.count("refund")


@signal(family="newest", unit="events")
def complaints_ever(m: Moment) -> Array:
    """Complaints since ever."""
    return m.count("complaint")


@signal(family="newest", unit="events")
def failed_payments_ever(m: Moment) -> Array:
    """Failed payments since ever."""
    return m.count("payment_failed")


@signal(family="newest", unit="messages")
def messages_sent_ever(m: Moment) -> Array:
    """Messages sent to the user since ever."""
    return m.count("message_sent")


@signal(family="newest", unit="messages")
def messages_opened_ever(m: Moment) -> Array:
    """Messages opened since ever."""
    return m.count("message_opened")
