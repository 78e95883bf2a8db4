"""Histories and pasts against plain loops over the same acts, and what must not change them."""

from collections.abc import Callable

import numpy as np
import pytest

from models.recommender import DAY_US, History, Past
from models.recommender.history import ACTS, CART, REFUND, SHOWN, joined
from models.recommender.past import Pairs
from tests.models.recommender import twins
from tests.models.recommender.support import NOW, Act, act, ago, bits, history_of, past_of, random_acts

USERS, ITEMS = 30, 25
SEEDS = (1, 2, 3)


def by_user(pairs: Pairs, users: int = USERS) -> list[dict[int, float]]:
    out: list[dict[int, float]] = [{} for _ in range(users)]
    for user, item, value in zip(pairs.user.tolist(), pairs.item.tolist(), pairs.value.tolist(), strict=True):
        assert item not in out[user]
        out[user][item] = value
    return out


@pytest.mark.parametrize("seed", SEEDS)
def test_pasts_are_what_plain_loops_find(seed):
    acts = random_acts(seed, USERS, ITEMS, later=30)
    past = past_of(acts, USERS)
    mine = [twins.of_user(acts, user) for user in range(USERS)]
    twin_of: dict[str, tuple[Pairs, Callable[[list[Act]], dict[int, float]]]] = {
        "liking": (past.liking(45.0), lambda one: twins.liking(one, 45.0)),
        "now": (past.now, twins.now),
        "refunded": (past.refunded(), twins.refunded),
        "disliked": (past.disliked, lambda one: twins.last(one, "not_interested")),
        "shown": (past.last(SHOWN), lambda one: twins.last(one, "shown")),
        "cart": (past.last(CART), lambda one: twins.last(one, "cart")),
    }
    for name, (found, twin) in twin_of.items():
        expected = [twin(one) for one in mine]
        assert any(expected), name
        assert by_user(found) == [pytest.approx(one, rel=1e-12) for one in expected], name


@pytest.mark.parametrize("seed", SEEDS)
def test_purchases_are_what_plain_loops_find(seed):
    acts = random_acts(seed, USERS, ITEMS, later=30)
    bought = past_of(acts, USERS).bought
    found = list(zip(bought.user, bought.item, bought.age, bought.price, bought.quantity, bought.rank, strict=True))
    expected = []
    for user in range(USERS):
        mine = twins.of_user(acts, user)
        rank = {order: place for place, (_, order) in enumerate(twins.orders(mine))}
        ages = [age for age, _ in twins.orders(mine)]
        assert bought.order_age[bought.order_offsets[user] : bought.order_offsets[user + 1]].tolist() == ages
        expected += [
            (user, e.item, e.age, np.nan if e.price is None else e.price, e.quantity, rank[e.order])
            for e in twins.entries(mine)
        ]
    assert np.array(found, np.float64) == pytest.approx(np.array(expected), nan_ok=True, rel=1e-12)
    of_pairs = dict(
        zip(zip(bought.pair_user.tolist(), bought.pair_item.tolist(), strict=True), bought.times, strict=True)
    )
    assert of_pairs == {
        (user, item): len(some) for user in range(USERS) for item, some in twins.own(twins.of_user(acts, user)).items()
    }
    weights = dict.fromkeys(of_pairs, 0.0)
    for user, item, age, *_ in expected:
        weights[user, item] += 2 ** (-age / 60)
    assert dict(zip(of_pairs, bought.weights(60), strict=True)) == pytest.approx(weights)
    every, each = np.repeat(np.arange(USERS), ITEMS), np.tile(np.arange(ITEMS), USERS)
    newest = [twins.bought_last(twins.of_user(acts, one)) for one in range(USERS)]
    ages = [newest[one].get(code, np.nan) for one in range(USERS) for code in range(ITEMS)]
    assert bought.last_age(every, each) == pytest.approx(np.array(ages), nan_ok=True)


def test_two_lines_of_an_order_are_one_order_and_two_orders_of_an_instant_are_two():
    lines = [act("purchase", 1, 5, order=7, price=2.0), act("purchase", 1, 5, order=7, price=4.0, quantity=3)]
    one = past_of(lines).bought
    assert (one.times.tolist(), one.price.tolist(), one.quantity.tolist()) == ([1], [3.0], [4.0])
    two = past_of([lines[0], act("purchase", 1, 5, order=8)]).bought
    assert (two.times.tolist(), two.rank.tolist(), two.order_age.tolist()) == ([2], [0, 1], [5, 5])
    without = past_of([act("purchase", 1, 5), act("purchase", 2, 5), act("purchase", 1, 4)]).bought
    assert (without.orders.tolist(), without.rank.tolist()) == ([2], [1, 0, 1])  # an instant is an order


def test_a_user_without_purchases_has_no_orders():
    bought = past_of([act("view", 1, 2), act("purchase", 0, 3, user=2)], users=3).bought
    assert bought.orders.tolist() == [0, 0, 1]
    none = past_of([], users=2)
    assert none.bought.place(np.array([0, 1]), np.array([3, 4])).tolist() == [-1, -1]
    assert np.isnan(none.bought.last_age(np.array([0]), np.array([3]))).all()
    assert len(none.now.user) == len(none.refunded().user) == len(none.last(REFUND).value) == 0


@pytest.mark.parametrize(
    ("acts", "given_back"),
    [
        ([act("purchase", 1, 5), act("refund", 1, 4)], True),
        ([act("purchase", 1, 5), act("refund", 1, 6)], False),  # bought again after it was given back
        ([act("purchase", 1, 5), act("refund", 1, 5)], True),  # at one instant: nothing says it was kept
        ([act("refund", 1, 5)], True),
        ([act("purchase", 1, 9), act("refund", 1, 7), act("purchase", 1, 3)], False),
        ([act("purchase", 1, 9), act("purchase", 1, 7), act("refund", 1, 3)], True),
        ([act("purchase", 1, 9), act("refund", 2, 3)], False),  # another item
        ([act("purchase", 1, 9, quantity=3), act("refund", 1, 3, quantity=2)], False),  # one is kept
        ([act("purchase", 1, 9, quantity=3), act("refund", 1, 3, quantity=2), act("refund", 1, 2)], True),
        ([act("purchase", 1, 9), act("refund", 1, 8), act("purchase", 1, 7, quantity=2), act("refund", 1, 6)], False),
    ],
)
def test_a_refund_counts_until_the_item_is_bought_again(acts, given_back):
    found = past_of(acts).refunded()
    assert (1 in found.item.tolist()) is given_back


def test_the_visit_under_way_ends_after_half_an_idle_hour():
    minutes = 1 / 1440
    visit = [act("view", 1, 10 * minutes), act("cart", 2, 35 * minutes), act("view", 1, 36 * minutes)]
    before = [act("view", 3, 67 * minutes), act("favourite", 4, 400 * minutes)]
    assert by_user(past_of([*visit, *before]).now, 1) == [pytest.approx({1: 1 / (1 + 10 / 15), 2: 1 / (1 + 35 / 15)})]
    assert by_user(past_of(before).now, 1) == [{}]  # over
    assert by_user(past_of([*visit, act("purchase", 5, minutes)]).now, 1)[0].keys() == {1, 2}  # buying is not looking


def test_acts_at_or_after_the_moment_are_not_there():
    acts = random_acts(4, USERS, ITEMS)
    later = [a._replace(ts=2 * NOW - a.ts) for a in acts]
    at = [a._replace(ts=NOW) for a in acts]
    expected, found = past_of(acts, USERS), past_of([*later, *acts, *at], USERS)
    for name in ("user", "item", "age", "price", "quantity", "rank", "order_age"):
        assert bits(getattr(found.bought, name)) == bits(getattr(expected.bought, name))
    assert bits(found.liking(60).value) == bits(expected.liking(60).value)
    just = Past.of(history_of([Act(0, "purchase", 1, NOW - 1)]), NOW)
    assert just.bought.orders.tolist() == [1]


def test_the_order_of_rows_changes_no_bit():
    acts = random_acts(5, USERS, ITEMS)
    expected = past_of(acts, USERS)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(acts))
        found = past_of([acts[place] for place in order], USERS)
        assert bits(found.liking(60).value) == bits(expected.liking(60).value)
        assert bits(found.bought.price) == bits(expected.bought.price)
        assert bits(found.now.value) == bits(expected.now.value)


def test_some_users_are_as_in_the_whole():
    acts = random_acts(6, USERS, ITEMS)
    whole, rows = past_of(acts, USERS), [7, 3, 19, 9, 3]
    some = Past.of(whole.history.some(rows), NOW)
    for place, row in enumerate(rows):
        for one, of in ((some.liking(60), whole.liking(60)), (some.now, whole.now)):
            mine, theirs = one.user == place, of.user == row
            assert bits(one.value[mine]) == bits(of.value[theirs])
            assert one.item[mine].tolist() == of.item[theirs].tolist()
    assert some.history.user_ids == ["u007", "u003", "u019", "u009", "u003"]


def test_histories_are_cut_and_joined():
    history = history_of(random_acts(7, USERS, ITEMS), USERS)
    halves = [history.some(range(12)), history.some(range(12, USERS))]
    assert vars(joined(halves)).keys() == vars(history).keys()
    for name in ("offsets", "item", "kind", "ts", "order", "price", "quantity"):
        assert np.array_equal(getattr(joined(halves), name), getattr(history, name), equal_nan=name == "price")
    first = history.between(NOW - 100 * DAY_US, NOW - 50 * DAY_US)
    assert (first.ts.min() >= NOW - 100 * DAY_US, first.ts.max() < NOW - 50 * DAY_US) == (True, True)
    assert set(history.purchases().kind) == {ACTS.index("purchase")}


def test_unknown_items_are_left_out_and_wrong_lengths_refused():
    assert len(history_of([act("view", -1, 1), act("view", 2, 1)]).item) == 1
    whole = history_of([act("view", 2, 1)])
    with pytest.raises(ValueError, match="one more is due"):
        History(["a", "b"], whole.offsets, whole.item, whole.kind, whole.ts, whole.order, whole.price, whole.quantity)
    with pytest.raises(ValueError, match="must agree in length"):
        History(
            ["a"], np.array([0, 2]), *(getattr(whole, n) for n in ("item", "kind", "ts", "order", "price", "quantity"))
        )


def test_ages_are_days_before_the_moment():
    assert past_of([act("view", 1, 1.5)]).age.tolist() == [1.5]
    assert (NOW - ago(2)) == 2 * DAY_US
