"""What the ranker reads of a user, an item, and the two together: one named column a fact, NaN where there is none.

Each function gives columns for the candidates `user`, `item` (rows of the past, codes of the catalogue). A column
depends on its own user and item alone, so that filters and other users change no score.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.recommender.heads import Scores, Shop
from models.recommender.history import CART, FAVOURITE, VIEW
from models.recommender.past import Floats, Ints, Pairs, Past, decay
from models.recommender.tastes import liking_by_category, paid_by_category

Columns = dict[str, NDArray[np.floating]]


@dataclass(frozen=True)
class ItemTable:
    """Facts about each item at the moment of training: float32[items, names]."""

    names: tuple[str, ...]
    values: NDArray[np.float32]

    def column(self, name: str) -> NDArray[np.float32]:
        """One fact of every item."""
        return self.values[:, self.names.index(name)]


def own(past: Past, user: Ints, item: Ints, table: ItemTable) -> Columns:
    """The user's orders with the item: how many, how long ago, how regular, and beside others' intervals."""
    bought = past.bought
    place = bought.place(user, item)
    first, last, times = bought.age[bought.begin], bought.age[bought.ends], bought.times
    before = np.where(times > 1, bought.age[np.maximum(bought.ends - 1, 0)] - last, np.nan)
    gap = np.where(times > 1, (first - last) / np.maximum(times - 1, 1), np.nan)
    near_year = ((bought.age > 305) & (bought.age <= 365)).astype(np.float64)
    pairs = {
        "own_times": times,
        "own_decayed_7": bought.weights(7),
        "own_decayed_20": bought.weights(20),
        "own_decayed_60": bought.weights(60),
        "own_decayed_180": bought.weights(180),
        "own_in_3_orders": bought.sums((bought.rank < 3).astype(np.float64)),
        "own_in_10_orders": bought.sums((bought.rank < 10).astype(np.float64)),
        "own_quantity": bought.sums(bought.quantity),
        "own_spent": bought.sums(decay(bought.age, 60) * np.log1p(bought.quantity * np.nan_to_num(bought.price))),
        "own_a_year_ago": bought.sums(near_year),
    }
    known = {
        "own_days": last,
        "own_first_days": first,
        "own_gap": gap,
        "own_newest_gap": before,
        "own_overdue": last / np.maximum(gap, 1),
        "own_orders_since": bought.rank[bought.ends].astype(np.float64),
        "own_share_of_orders": times / (bought.rank[bought.begin] + 1),
        "own_newest_quantity": bought.quantity[bought.ends],
    }
    columns: Columns = {name: np.append(values, 0.0)[place] for name, values in pairs.items()}
    columns |= {name: np.append(values, np.nan)[place] for name, values in known.items()}
    columns["own_of_item_interval"] = columns["own_days"] / np.maximum(table.column("interval")[item], 1)
    return columns


def of_user(past: Past, user: Ints, popularity: Floats) -> Columns:
    """The user: orders, baskets, newness, prices."""
    bought, users = past.bought, len(past)
    orders = bought.orders
    lines = bought.by_user(np.ones(len(bought.user)))
    distinct = np.bincount(bought.pair_user, minlength=users).astype(np.float64)
    ages = np.append(bought.order_age, np.nan)
    some = orders > 0
    since = ages[np.where(some, bought.order_offsets[:-1], -1)]
    first = ages[np.where(some, bought.order_offsets[1:] - 1, -1)]
    fresh = np.zeros(len(bought.user))
    fresh[bought.begin] = 1
    newest, newest_5 = (bought.rank < 1).astype(np.float64), (bought.rank < 5).astype(np.float64)
    price = prices(past)
    per_user: dict[str, Floats] = {
        "user_orders": orders,
        "user_days": since,
        "user_first_days": first,
        "user_gap": (first - since) / np.maximum(orders - 1, 1),
        "user_items": distinct,
        "user_lines": lines,
        "user_repeat_share": 1 - distinct / np.maximum(lines, 1),
        "user_basket": lines / np.maximum(orders, 1),
        "user_newest_basket": bought.by_user(newest),
        "user_new_share": bought.by_user(newest_5 * fresh) / np.maximum(bought.by_user(newest_5), 1),
        "user_lines_30": bought.by_user((bought.age < 30).astype(np.float64)),
        "user_lines_90": bought.by_user((bought.age < 90).astype(np.float64)),
        "user_price": price.mean,
        "user_price_spread": price.spread,
        "user_taste_for_popular": bought.by_user(popularity[bought.item]) / np.maximum(lines, 1),
    }
    return {name: values[user] for name, values in per_user.items()}


@dataclass(frozen=True)
class Prices:
    """Of each user, in logarithms of currency units: decayed mean and spread of the unit prices paid; NaN without."""

    mean: Floats
    spread: Floats


def prices(past: Past) -> Prices:
    """The users' price bands."""
    bought = past.bought
    known = np.isfinite(bought.price) & (bought.price > 0)
    log = np.log(np.where(known, bought.price, 1.0))
    weight = np.where(known, decay(bought.age, 60), 0.0)
    total = bought.by_user(weight)
    some = total > 0
    mean = np.divide(bought.by_user(weight * log), total, out=np.full(len(past), np.nan), where=some)
    count = bought.by_user(known.astype(np.float64))
    whole = bought.by_user(np.where(known, log, 0.0)) / np.maximum(count, 1)
    spread = np.sqrt(np.maximum(bought.by_user(np.where(known, log**2, 0.0)) / np.maximum(count, 1) - whole**2, 0))
    return Prices(mean, np.where(some, spread, np.nan))


def of_price(past: Past, shop: Shop, user: Ints, item: Ints) -> Columns:
    """The item's price beside what the user pays, in all and in its category."""
    band, price = prices(past), shop.attributes.price[item]
    log = np.log(np.where(price > 0, price, np.nan))
    apart = log - band.mean[user]
    columns: Columns = {"price_apart": apart, "price_apart_spreads": apart / np.maximum(band.spread[user], 0.1)}
    if shop.attributes.categories:
        category = shop.attributes.category[item]
        paid = paid_by_category(past, shop)[user, np.maximum(category, 0)]
        columns["price_apart_in_category"] = log - np.log(np.where((category >= 0) & (paid > 0), paid, np.nan))
    return columns


def of_category(past: Past, shop: Shop, user: Ints, item: Ints) -> Columns:
    """The user's liking for the item's category and brand, and when they last bought there."""
    if not shop.attributes.categories:
        return {}
    category = shop.attributes.category[item]
    some = category >= 0
    code = np.maximum(category, 0)
    liking = liking_by_category(past, shop)
    total = np.maximum(liking.sum(axis=1), 1e-9)
    bought = past.bought
    of_entry = shop.attributes.category[bought.item]
    columns: Columns = {
        "category_liking": np.where(some, liking[user, code], np.nan),
        "category_share": np.where(some, liking[user, code] / total[user], np.nan),
        "category_days": _last(bought.user, of_entry, bought.age, len(past), liking.shape[1], user, category),
    }
    of_pair = shop.attributes.category[bought.pair_item]
    known = of_pair >= 0
    tried = np.bincount(bought.pair_user[known] * liking.shape[1] + of_pair[known], minlength=liking.size)
    columns["category_items"] = np.where(some, tried[user * liking.shape[1] + code], np.nan)
    if shop.attributes.brands:
        wide = len(shop.attributes.brands)
        brand_of = shop.attributes.brand[bought.item]
        weight = np.where(brand_of >= 0, decay(bought.age, 60), 0.0)
        place = bought.user * wide + np.maximum(brand_of, 0)
        by_brand = np.bincount(place, weight, len(past) * wide).reshape(len(past), wide)
        share = by_brand / np.maximum(by_brand.sum(axis=1, keepdims=True), 1e-9)
        brand = shop.attributes.brand[item]
        columns["brand_share"] = np.where(brand >= 0, share[user, np.maximum(brand, 0)], np.nan)
    return columns


def _last(
    of_user: Ints, code: NDArray[np.int32], age: Floats, users: int, wide: int, user: Ints, asked: NDArray[np.int32]
) -> Floats:
    """Days since each user's newest entry with a code; NaN if never."""
    last = np.full(users * wide, np.inf)
    known = code >= 0
    np.minimum.at(last, of_user[known] * wide + code[known], age[known])
    found = last[user * wide + np.maximum(asked, 0)]
    return np.where((asked >= 0) & np.isfinite(found), found, np.nan)


def looked_at(past: Past, user: Ints, item: Ints) -> Columns:
    """Views, carts and favourites of the item: days since the last of each; the visit under way."""
    out: Columns = {}
    for name, kind in (("view", VIEW), ("cart", CART), ("favourite", FAVOURITE)):
        pairs = past.last(kind)
        if len(pairs.user):
            out[f"days_since_{name}"] = _of_pairs(pairs, user, item, np.nan)
    if out:
        out["looked_at_now"] = _of_pairs(past.now, user, item, 0.0)
    return out


def _of_pairs(pairs: Pairs, user: Ints, item: Ints, missing: float) -> Floats:
    if not len(pairs.user):
        return np.full(len(user), missing)
    wide = max(int(pairs.item.max()), int(item.max(initial=0))) + 1
    keys, asked = pairs.user * wide + pairs.item, user * wide + item
    at = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[at] == asked, pairs.value[at], missing)


def of_heads(scores: Mapping[str, Scores], peaks: Mapping[str, NDArray[np.float32]], user: Ints, item: Ints) -> Columns:
    """Each head's score, and its share of the head's highest for this user."""
    out: Columns = {}
    for name, values in scores.items():
        chosen = values[user, item]
        out[f"{name}_score"] = chosen
        out[f"{name}_share"] = chosen / np.maximum(peaks[name][user], np.float32(1e-9))
    return out


def columns(
    past: Past,
    shop: Shop,
    table: ItemTable,
    scores: Mapping[str, Scores],
    peaks: Mapping[str, NDArray[np.float32]],
    user: Ints,
    item: Ints,
) -> Columns:
    """Everything that is read of the candidates."""
    popularity = np.log1p(table.column("buyers_90").astype(np.float64))
    return {
        **own(past, user, item, table),
        **{f"item_{name}": table.values[item, place] for place, name in enumerate(table.names)},
        **of_user(past, user, popularity),
        **of_price(past, shop, user, item),
        **of_category(past, shop, user, item),
        **looked_at(past, user, item),
        **of_heads(scores, peaks, user, item),
    }


def as_rows(found: Columns, names: tuple[str, ...], rows: int) -> NDArray[np.float32]:
    """The named columns side by side, float32[rows, names]; NaN for one that is not there."""
    out = np.full((rows, len(names)), np.nan, np.float32)
    for place, name in enumerate(names):
        if name in found:
            out[:, place] = found[name]
    return out
