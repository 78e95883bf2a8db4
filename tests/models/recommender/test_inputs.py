"""What the ranker reads of users, items and both, against plain loops over the acts."""

import math

import numpy as np
import pytest

from models.recommender import Past, Recommender
from models.recommender.inputs import as_rows, columns
from tests.models.recommender import twins
from tests.models.recommender.support import (
    NOW,
    Act,
    act,
    bits,
    fitted,
    history_of,
    past_of,
    random_acts,
    rich_shop,
)

USERS, ITEMS = 30, 24
NAN = float("nan")
Columns = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def rich() -> tuple[Recommender, list[Act]]:
    acts = random_acts(31, USERS, ITEMS)
    return fitted(rich_shop(31, ITEMS), history_of(acts, USERS)), acts


def read(model: Recommender, past: Past, user: np.ndarray, item: np.ndarray) -> Columns:
    scores = model.scores(past)
    peaks = {name: values.max(axis=1, initial=0) for name, values in scores.items()}
    return columns(past, model.shop, model.table, scores, peaks, user, item)


@pytest.fixture(scope="module")
def table(rich) -> Columns:
    model, acts = rich
    user, item = np.repeat(np.arange(USERS), ITEMS), np.tile(np.arange(ITEMS), USERS)
    return read(model, past_of(acts, USERS), user, item)


def check(table: Columns, name: str, expected: list[list[float]]) -> None:
    found = np.asarray(table[name], np.float64).reshape(USERS, ITEMS)
    assert found == pytest.approx(np.array(expected, np.float64), rel=1e-5, abs=1e-9, nan_ok=True), name
    assert len(np.unique(found[np.isfinite(found)])) > 1, name


def halved(ages: list[float], days: float) -> float:
    return sum(2 ** (-age / days) for age in ages)


def test_own_orders_with_the_item(rich, table):
    model, acts = rich
    interval = model.table.column("interval")
    expected: dict[str, list[list[float]]] = {}
    for user in range(USERS):
        mine = twins.of_user(acts, user)
        own, ranked = twins.own(mine), [order for _, order in twins.orders(mine)]
        for item in range(ITEMS):
            some = own.get(item, [])
            ages = [e.age for e in some]
            ranks = [ranked.index(e.order) for e in some]
            gap = (ages[0] - ages[-1]) / (len(ages) - 1) if len(ages) > 1 else NAN
            values = {
                "own_times": len(some),
                **{f"own_decayed_{days}": halved(ages, days) for days in (7, 20, 60, 180)},
                "own_in_3_orders": sum(rank < 3 for rank in ranks),
                "own_in_10_orders": sum(rank < 10 for rank in ranks),
                "own_quantity": sum(e.quantity for e in some),
                "own_spent": sum(2 ** (-e.age / 60) * math.log1p(e.quantity * (e.price or 0)) for e in some),
                "own_a_year_ago": sum(305 < age <= 365 for age in ages),
                "own_days": ages[-1] if ages else NAN,
                "own_first_days": ages[0] if ages else NAN,
                "own_gap": gap,
                "own_newest_gap": ages[-2] - ages[-1] if len(ages) > 1 else NAN,
                "own_overdue": ages[-1] / max(gap, 1) if len(ages) > 1 else NAN,
                "own_orders_since": ranks[-1] if ranks else NAN,
                "own_share_of_orders": len(some) / (ranks[0] + 1) if ranks else NAN,
                "own_newest_quantity": some[-1].quantity if some else NAN,
                "own_of_item_interval": ages[-1] / max(float(interval[item]), 1) if ages else NAN,
            }
            if math.isnan(float(interval[item])):
                values["own_of_item_interval"] = NAN
            for name, value in values.items():
                expected.setdefault(name, [[] for _ in range(USERS)])[user].append(value)
    for name, rows in expected.items():
        check(table, name, rows)
    assert {name for name in table if name.startswith("own_")} == set(expected)


def test_the_user(rich, table):
    _, acts = rich
    expected: dict[str, list[list[float]]] = {}
    for user in range(USERS):
        mine = twins.of_user(acts, user)
        entries, orders, own = twins.entries(mine), twins.orders(mine), twins.own(mine)
        newest = {order for _, order in orders[:1]}
        newest_5 = {order for _, order in orders[:5]}
        lines_5 = [e for e in entries if e.order in newest_5]
        first = [e for e in lines_5 if e == own[e.item][0]]
        paid = [(2 ** (-e.age / 60), math.log(e.price)) for e in entries if e.price]
        mean = sum(w * p for w, p in paid) / sum(w for w, _ in paid) if paid else NAN
        values = {
            "user_orders": len(orders),
            "user_days": orders[0][0] if orders else NAN,
            "user_first_days": orders[-1][0] if orders else NAN,
            "user_gap": (orders[-1][0] - orders[0][0]) / max(len(orders) - 1, 1) if orders else NAN,
            "user_items": len(own),
            "user_lines": len(entries),
            "user_repeat_share": 1 - len(own) / max(len(entries), 1),
            "user_basket": len(entries) / max(len(orders), 1),
            "user_newest_basket": sum(e.order in newest for e in entries),
            "user_new_share": len(first) / max(len(lines_5), 1),
            "user_lines_30": sum(e.age < 30 for e in entries),
            "user_lines_90": sum(e.age < 90 for e in entries),
            "user_price": mean,
            "user_price_spread": float(np.std([p for _, p in paid])) if paid else NAN,
        }
        for name, value in values.items():
            expected.setdefault(name, []).append([value] * ITEMS)
    for name, rows in expected.items():
        check(table, name, rows)


def test_category_brand_and_price(rich, table):
    model, acts = rich
    known = model.shop.attributes
    names = ("category_liking", "category_share", "category_days", "category_items", "brand_share")
    expected: dict[str, list[list[float]]] = {
        name: [[NAN] * ITEMS for _ in range(USERS)] for name in (*names, "price_apart", "price_apart_in_category")
    }
    for user in range(USERS):
        mine = twins.of_user(acts, user)
        liking, own, entries = twins.liking(mine, 60.0), twins.own(mine), twins.entries(mine)
        paid = [(2 ** (-e.age / 60), math.log(e.price)) for e in entries if e.price]
        brands = [(2 ** (-e.age / 60), int(known.brand[e.item])) for e in entries if known.brand[e.item] >= 0]
        in_all = sum(value for i, value in liking.items() if known.category[i] >= 0)
        for item in range(ITEMS):
            category, brand, price = int(known.category[item]), int(known.brand[item]), float(known.price[item])
            alike = [i for i in range(ITEMS) if known.category[i] == category]
            if category >= 0:
                of = sum(liking.get(i, 0.0) for i in alike)
                expected["category_liking"][user][item] = of
                expected["category_share"][user][item] = of / max(in_all, 1e-9)
                expected["category_items"][user][item] = sum(i in own for i in alike)
                ages = [own[i][-1].age for i in alike if i in own]
                expected["category_days"][user][item] = min(ages) if ages else NAN
                spent = [e.price for e in entries if e.price and e.item in alike]
                if spent:
                    expected["price_apart_in_category"][user][item] = math.log(price) - math.log(
                        sum(spent) / len(spent)
                    )
            if brand >= 0:
                of = sum(w for w, one in brands if one == brand)
                expected["brand_share"][user][item] = of / max(sum(w for w, _ in brands), 1e-9)
            if paid:
                mean = sum(w * p for w, p in paid) / sum(w for w, _ in paid)
                expected["price_apart"][user][item] = math.log(price) - mean
    for name, rows in expected.items():
        check(table, name, rows)


def test_what_was_looked_at(rich, table):
    _, acts = rich
    for name, kind in (("view", "view"), ("cart", "cart"), ("favourite", "favourite")):
        newest = [twins.last(twins.of_user(acts, user), kind) for user in range(USERS)]
        check(table, f"days_since_{name}", [[one.get(item, NAN) for item in range(ITEMS)] for one in newest])
    live = [twins.now(twins.of_user(acts, user)) for user in range(USERS)]
    check(table, "looked_at_now", [[one.get(item, 0.0) for item in range(ITEMS)] for one in live])


def test_heads_and_items(rich, table):
    model, acts = rich
    scores = model.scores(past_of(acts, USERS))
    for name, values in scores.items():
        check(table, f"{name}_score", values.tolist())
        peak = np.maximum(values.max(axis=1, keepdims=True), 1e-9)
        assert np.asarray(table[f"{name}_share"]).reshape(USERS, ITEMS) == pytest.approx(values / peak)
    for name in model.table.names:
        found = np.asarray(table[f"item_{name}"]).reshape(USERS, ITEMS)
        assert np.array_equal(found, np.tile(model.table.column(name), (USERS, 1)), equal_nan=True)


def test_a_row_is_the_same_bits_whoever_and_whatever_else_is_asked_about(rich, table):
    model, acts = rich
    whole = past_of(acts, USERS)
    random = np.random.default_rng(1)
    names = tuple(table)
    expected = as_rows(table, names, USERS * ITEMS).reshape(USERS, ITEMS, len(names))
    for row in range(0, USERS, 4):
        alone = Past.of(whole.history.some([row, 3]), NOW)
        item = random.permutation(ITEMS)[:7]
        found = as_rows(read(model, alone, np.zeros(7, np.int64), item), names, 7)
        assert bits(found) == bits(expected[row, item])


def test_a_column_that_is_not_known_is_missing_and_users_without_a_past_have_rows(rich):
    model, _ = rich
    found = read(model, past_of([], 1), np.zeros(3, np.int64), np.arange(3))
    rows = as_rows(found, ("user_orders", "days_since_view", "own_days"), 3)
    assert np.array_equal(rows, np.array([[0, np.nan, np.nan]] * 3, np.float32), equal_nan=True)
    viewed = read(model, past_of([act("view", 1, 2)], 1), np.zeros(3, np.int64), np.arange(3))
    assert np.array_equal(viewed["days_since_view"], [np.nan, 2, np.nan], equal_nan=True)
