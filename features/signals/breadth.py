"""How much of the shop the user knows."""

import numpy as np

from features.events.columns import CATEGORY, ITEM_ID
from features.signals import signal
from features.timeline import Array, Moment, ratio


@signal(family="breadth", unit="categories", windows=(30, 90, 365))
def categories(m: Moment, days: int) -> Array:
    """Distinct categories bought in the last {days} days."""
    return m.distinct(CATEGORY, "purchase", days)


@signal(family="breadth", unit="share")
def category_penetration(m: Moment) -> Array:
    """Distinct categories ever bought, as a share of the shop's categories."""
    return m.distinct(CATEGORY, "purchase") / np.float64(m.categories() or np.nan)


@signal(family="breadth", unit="categories", windows=(30,))
def categories_viewed(m: Moment, days: int) -> Array:
    """Distinct categories viewed in the last {days} days."""
    return m.distinct(CATEGORY, "view", days)


@signal(family="breadth", unit="items", windows=(30, 90, 365))
def items_bought(m: Moment, days: int) -> Array:
    """Distinct items bought in the last {days} days."""
    return m.distinct(ITEM_ID, "purchase", days)


@signal(family="breadth", unit="items")
def items_bought_ever(m: Moment) -> Array:
    """Distinct items ever bought."""
    return m.distinct(ITEM_ID, "purchase")


@signal(family="breadth", unit="share")
def repeat_share(m: Moment) -> Array:
    """Share of all purchase lines that are not the first of an item (a line without an item is not)."""
    return 1 - ratio(m.distinct(ITEM_ID, "purchase"), m.count("purchase"))


@signal(family="breadth", unit="share", windows=(90,))
def repeat_share_within(m: Moment, days: int) -> Array:
    """Share of the purchase lines of the last {days} days that are not the first of an item in them."""
    return 1 - ratio(m.distinct(ITEM_ID, "purchase", days), m.count("purchase", days))
