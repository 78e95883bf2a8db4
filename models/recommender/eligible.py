"""Which items each user may be shown: the request's filters, what the mode is about, and what would be out of place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.recommender.ask import Ask, aim_of
from models.recommender.history import CART, DAY_US, MESSAGE, SHOWN
from models.recommender.inputs import prices
from models.recommender.past import Past
from models.recommender.repeat import DURABLE, Repeat
from models.recommender.tastes import STEP, Upgrade, liking_by_category

if TYPE_CHECKING:
    from models.recommender.model import Recommender

Mask = NDArray[np.bool_]
CART_DAYS = 1.0  # what was put into the cart so lately is still there, unless it was bought


def eligible(model: Recommender, past: Past, ask: Ask, allowed: Mask) -> Mask:
    """bool[users, items]: what may be shown to whom.

    allowed: bool[items], what the request lets through whoever asks.
    """
    may = np.repeat(allowed[None, :], len(past), axis=0)
    repeat = model.heads["repeat"]
    assert isinstance(repeat, Repeat)
    bought = past.bought
    own = np.zeros_like(may)
    own[bought.pair_user, bought.pair_item] = True
    if ask.mode == "repeat":
        may &= own & (repeat.again >= DURABLE)
        may[repeat.too_early(past)] = False
    if aim_of(ask.mode) == "new":
        may &= ~own
    else:
        may[repeat.had_enough(past)] = False
    if ask.mode == "up_sell":
        may &= _step_up(model, past)
    if ask.mode == "discover":
        may &= _untried(model, past)
    for pairs in (past.refunded(), past.disliked):
        may[pairs.user, pairs.item] = False
    _not_in_cart(past, may)
    if ask.filter.shown_days is not None:
        for kind in (SHOWN, MESSAGE):
            shown = past.last(kind)
            lately = shown.value < ask.filter.shown_days
            may[shown.user[lately], shown.item[lately]] = False
    if ask.scene is not None:
        _in_scene(model, past, ask.scene, own, may)
    if ask.mode == "win_back":
        _new_since(model, past, may, ask)
    return may


def _step_up(model: Recommender, past: Past) -> Mask:
    upgrade = model.heads.get("upgrade")
    if not isinstance(upgrade, Upgrade):
        return np.zeros((len(past), len(model.catalogue)), np.bool_)
    step = upgrade.step(past, model.shop)
    return np.asarray((step >= STEP[0]) & (step <= STEP[1]))


def _untried(model: Recommender, past: Past) -> Mask:
    """Items of categories that the user never touched; without categories, all."""
    attributes = model.shop.attributes
    if not attributes.categories:
        return np.ones((len(past), len(model.catalogue)), np.bool_)
    tried = liking_by_category(past, model.shop) > 0
    return np.asarray((attributes.category >= 0) & ~tried[:, np.maximum(attributes.category, 0)])


def _new_since(model: Recommender, past: Past, may: Mask, ask: Ask) -> None:
    """Of what may be shown, leave only what is newer than each user's last order, where that is enough."""
    age = model.table.column("age") + (past.as_of - model.as_of) / DAY_US
    ages = np.append(past.bought.order_age, np.inf)
    last = ages[np.where(past.bought.orders > 0, past.bought.order_offsets[:-1], -1)]
    for row, since in enumerate(last.tolist()):
        fresh = may[row] & (age < since)
        # Whatever is to spare, or exploring would change what the list is about.
        if _places(model, fresh, ask.filter.per_category) >= ask.most:
            may[row] = fresh


def _places(model: Recommender, may: Mask, per_category: int | None) -> int:
    """How many of these items (bool[items]) one list may hold."""
    if per_category is None:
        return int(may.sum())
    category = model.shop.attributes.category[may]
    counts = np.bincount(category[category >= 0])
    return int(np.minimum(counts, per_category).sum() + (category < 0).sum())


def _not_in_cart(past: Past, may: Mask) -> None:
    history = past.history
    rows = np.flatnonzero((history.kind == CART) & (past.age < CART_DAYS))
    user, item = history.users[rows], history.item[rows].astype(np.int64)
    waiting = ~(past.bought.last_age(user, item) <= past.age[rows])
    may[user[waiting], item[waiting]] = False


def _in_scene(model: Recommender, past: Past, name: str, own: Mask, may: Mask) -> None:
    scene = model.scenes[name]
    price = model.shop.attributes.price
    median = float(np.nanmedian(price)) if np.isfinite(price).any() else np.nan
    usual = np.exp(prices(past).mean)
    usual = np.where(np.isfinite(usual), usual, median)[:, None]
    if scene.price_at_most is not None:
        may &= price[None, :] <= scene.price_at_most * usual
    if scene.price_at_least is not None:
        may &= price[None, :] >= scene.price_at_least * usual
    if scene.new_only:
        may &= ~own
