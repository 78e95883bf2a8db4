"""How much."""

from features.events.columns import AMOUNT, DISCOUNT, ORDER_ID, QUANTITY
from features.signals import signal
from features.timeline import Array, Moment, ratio


@signal(family="monetary", unit="currency", windows=(7, 30, 90, 180, 365))
def spend(m: Moment, days: int) -> Array:
    """Amount paid in the last {days} days."""
    return m.total(AMOUNT, "purchase", days)


@signal(family="monetary", unit="currency")
def spend_ever(m: Moment) -> Array:
    """Amount paid since ever."""
    return m.total(AMOUNT, "purchase")


@signal(family="monetary", unit="currency a order", windows=(90, 365))
def order_value_mean(m: Moment, days: int) -> Array:
    """Mean value of an order in the last {days} days."""
    return ratio(m.total(AMOUNT, "purchase", days), m.distinct(ORDER_ID, "purchase", days))


@signal(family="monetary", unit="share", windows=(90,))
def discount_share(m: Moment, days: int) -> Array:
    """Discounts as a share of the value before discount in the last {days} days."""
    discount = m.total(DISCOUNT, "purchase", days)
    return ratio(discount, m.total(AMOUNT, "purchase", days) + discount)


@signal(family="monetary", unit="pieces", windows=(30, 90))
def units(m: Moment, days: int) -> Array:
    """Pieces bought in the last {days} days."""
    return m.total(QUANTITY, "purchase", days)


@signal(family="monetary", unit="currency a piece", windows=(90,))
def unit_price_mean(m: Moment, days: int) -> Array:
    """Mean price of a piece bought in the last {days} days."""
    return ratio(m.total(AMOUNT, "purchase", days), m.total(QUANTITY, "purchase", days))


@signal(family="monetary", unit="currency a week")
def spend_slope_12w(m: Moment) -> Array:
    """Trend of the amount paid a week over the last 12 weeks (least squares)."""
    return m.trend("purchase", 12, AMOUNT)


@signal(family="monetary", unit="currency", windows=(90,))
def spend_decayed(m: Moment, days: int) -> Array:
    """Amount paid, each payment halved in weight every {days} days."""
    return m.decayed("purchase", days, AMOUNT)


@signal(family="monetary", unit="share")
def spend_recent_share(m: Moment) -> Array:
    """Spend of the last 30 days as a share of that of the last 90."""
    return ratio(m.total(AMOUNT, "purchase", 30), m.total(AMOUNT, "purchase", 90))


@signal(family="monetary", unit="currency")
def last_order_value(m: Moment) -> Array:
    """Amount paid on the last date with a purchase."""
    return m.total_since(AMOUNT, "purchase", "purchase", 1)


@signal(family="monetary", unit="ratio")
def last_order_value_ratio(m: Moment) -> Array:
    """Amount paid on the last date with a purchase, relative to the mean of all orders."""
    return ratio(
        m.total_since(AMOUNT, "purchase", "purchase", 1) * m.distinct(ORDER_ID, "purchase"), m.total(AMOUNT, "purchase")
    )
