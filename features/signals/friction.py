"""What went wrong."""

from features.events.columns import AMOUNT, SEARCH_RESULTS
from features.signals import signal
from features.timeline import Array, Moment, ratio, where


@signal(family="friction", unit="events", windows=(30, 90))
def refunds(m: Moment, days: int) -> Array:
    """Refunds in the last {days} days."""
    return m.count("refund", days)


@signal(family="friction", unit="share", windows=(90,))
def refund_share(m: Moment, days: int) -> Array:
    """Refunds as a share of refunds and purchase lines in the last {days} days."""
    refunded = m.count("refund", days)
    return ratio(refunded, refunded + m.count("purchase", days))


@signal(family="friction", unit="share", windows=(365,))
def refund_amount_share(m: Moment, days: int) -> Array:
    """Amount refunded as a share of amounts refunded and paid in the last {days} days."""
    refunded = m.total(AMOUNT, "refund", days)
    return ratio(refunded, refunded + m.total(AMOUNT, "purchase", days))


@signal(family="friction", unit="days")
def days_since_refund(m: Moment) -> Array:
    """Days since the last refund."""
    return m.days_since("refund")


@signal(family="friction", unit="events", windows=(30, 90))
def complaints(m: Moment, days: int) -> Array:
    """Complaints in the last {days} days."""
    return m.count("complaint", days)


@signal(family="friction", unit="days")
def days_since_complaint(m: Moment) -> Array:
    """Days since the last complaint."""
    return m.days_since("complaint")


@signal(family="friction", unit="events", windows=(30, 90))
def failed_payments(m: Moment, days: int) -> Array:
    """Failed payments in the last {days} days."""
    return m.count("payment_failed", days)


@signal(family="friction", unit="days")
def days_since_failed_payment(m: Moment) -> Array:
    """Days since the last failed payment."""
    return m.days_since("payment_failed")


@signal(family="friction", unit="events", windows=(90,))
def not_interested(m: Moment, days: int) -> Array:
    """Items marked as not interesting in the last {days} days."""
    return m.count("not_interested", days)


@signal(family="friction", unit="events", windows=(30, 90))
def empty_searches(m: Moment, days: int) -> Array:
    """Searches that found nothing in the last {days} days."""
    return m.count(where("search", SEARCH_RESULTS, 0), days)
