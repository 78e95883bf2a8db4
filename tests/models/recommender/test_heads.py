"""Each head's scores and words against figures worked out by hand, or a slow and obvious loop over the acts."""

import math

import numpy as np
import pytest

from models.recommender import DAY_US, HEADS, Recommender
from models.recommender.alike import Alike
from models.recommender.complement import Complement
from models.recommender.heads import Head, Phrase, Shop
from models.recommender.links import Links
from models.recommender.past import Past
from models.recommender.popular import Popular, Trending, Welcome
from models.recommender.repeat import DURABLE, HOURS, JUST, Repeat
from models.recommender.session import Session
from models.recommender.similar_als import SimilarAls
from models.recommender.similar_items import SimilarItems
from models.recommender.tastes import Discover, Taste, Upgrade
from models.words import load
from tests.models.recommender import twins
from tests.models.recommender.support import (
    NOW,
    act,
    bits,
    fitted,
    history_of,
    past_of,
    plain_shop,
    random_acts,
    rich_shop,
)

USERS, ITEMS = 30, 25
MINUTE = 1 / 1440
NAN = float("nan")
# From b to c and d, from c to b, from d to a (weakly).
LINKS = Links(
    np.array([0, 0, 2, 3, 4, 4]), np.array([2, 3, 1, 0], np.int32), np.array([0.5, 0.25, 0.5, 0.1], np.float32)
)


def scores(head: Head, past: Past, shop: Shop | None = None) -> list[list[float]]:
    return head.scores(past, shop or plain_shop(5)).tolist()


def say(head: Head, past: Past, item: int, shop: Shop | None = None, user: int = 0) -> str:
    phrases: list[Phrase] = head.evidence(past, shop or plain_shop(5), np.array([user]), np.array([item]))
    (phrase,) = phrases
    return load("en").offer(*phrase)


# ------------------------------------------------------------------------------------------------- repeat


def repeat(interval: float = NAN, again: float = 0.5) -> Repeat:
    return Repeat(np.full(5, interval, np.float32), np.full(5, again, np.float32), 60.0)


def test_repeat_halves_every_half_life_and_counts_orders():
    past = past_of([act("purchase", 1, 60), act("purchase", 1, 120), act("purchase", 3, 0.5), act("view", 2, 1)])
    assert scores(repeat(), past) == [pytest.approx([0, 0.75, 0, 2 ** (-0.5 / 60), 0])]
    lines = past_of([act("purchase", 1, 60, order=9), act("purchase", 1, 60, order=9, price=2.0)])
    assert scores(repeat(), lines) == [pytest.approx([0, 0.5, 0, 0, 0])]


@pytest.mark.parametrize(
    ("days", "interval", "phrase"),
    [
        ((0.5,), NAN, "bought 1 time, last today"),
        ((1.5,), NAN, "bought 1 time, last 1 day ago"),
        ((0.5,), 9, "bought 1 time, last today; usually every 9 days"),
        ((30, 20, 12), NAN, "bought 3 times, every 9 days, due"),  # own interval of 9: 12 / 9 = 1.33
        ((30, 20, 4), NAN, "bought 3 times, last 4 days ago; usually every 13 days"),  # 4 / 13 = 0.31: not yet
        ((30, 20, 16), NAN, "bought 3 times, every 7 days, last 16 days ago: overdue"),  # 16 / 7 = 2.3
        ((30, 12), 40, "bought 2 times, last 12 days ago; usually every 40 days"),  # two orders: the item's interval
        ((30, 12), 10, "bought 2 times, every 10 days, due"),
        ((30,), 10, "bought 1 time, every 10 days, last 30 days ago: overdue"),
        ((30, 30, 30), NAN, "bought 1 time, last 30 days ago"),  # three lines of one order
    ],
)
def test_repeat_says_how_often_how_long_ago_and_whether_it_is_due(days, interval, phrase):
    past = past_of([act("purchase", 1, day) for day in days])
    assert say(repeat(interval), past, 1) == phrase


def test_repeat_is_due_between_half_and_one_and_a_half_intervals():
    for days, state in ((4.99, "own_not_yet"), (5.0, "own_due"), (15.0, "own_due"), (15.01, "own_overdue")):
        past = past_of([act("purchase", 1, days)])
        assert repeat(10).evidence(past, plain_shop(5), np.array([0]), np.array([1]))[0][0] == state


@pytest.mark.parametrize(
    ("days", "interval", "early"),
    [
        ((4.9,), 10, True),  # under half of its interval
        ((5.1,), 10, False),
        ((0.01,), NAN, False),  # nobody's interval is known
        ((30, 20, 5.9), NAN, True),  # half of the own interval of 12.05
        ((30, 20, 7), NAN, False),
        ((30, 20, 7), 100, False),  # which counts and not the item's, from three orders on
        ((30, 7), 20, True),
    ],
)
def test_too_early_is_before_half_the_interval(days, interval, early):
    user, item = repeat(interval).too_early(past_of([act("purchase", 1, day) for day in days]))
    assert (user.tolist(), item.tolist()) == (([0], [1]) if early else ([], []))


@pytest.mark.parametrize(
    ("days", "again", "enough"),
    [
        ((JUST - 0.1,), 0.01, True),
        ((JUST + 0.1,), 0.01, False),
        ((JUST - 0.1,), DURABLE, False),
        ((900, 1), 0.01, True),
        ((HOURS * 0.9,), 0.5, True),
        ((HOURS * 1.1,), 0.5, False),
    ],
)
def test_who_has_just_bought_has_had_enough_of_a_durable_for_longer(days, again, enough):
    user, item = repeat(again=again).had_enough(past_of([act("purchase", 1, day) for day in days]))
    assert (user.tolist(), item.tolist()) == (([0], [1]) if enough else ([], []))


# --------------------------------------------------------------------------------------- links of all kinds


def complement() -> Complement:
    # b was in 20 of 100 orders, c in 5: half of √(20 · 5) = 5 orders had both, 5 · 100 / (20 · 5) = 5 times by chance.
    return Complement(LINKS, np.array([4, 20, 5, 5, 1], np.int32), 100)


def test_complement_asks_with_the_cart_or_without_one_with_the_newest_order():
    bought = [act("purchase", 1, 3, order=1), act("purchase", 3, 9, order=2)]
    assert scores(complement(), past_of(bought)) == [pytest.approx([0, 0, 0.5, 0.25, 0])]
    cart = [act("cart", 2, 0.5), act("cart", 2, 0.6), act("cart", 3, 1.5)]  # the last is too old
    assert scores(complement(), past_of(bought + cart)) == [pytest.approx([0, 0.5, 0, 0, 0])]
    assert scores(complement(), past_of([act("view", 1, 1)])) == [[0] * 5]


def test_complement_tells_orders_and_lift_exactly():
    past = past_of([act("purchase", 1, 3)])
    assert complement().evidence(past, plain_shop(5), np.array([0, 0]), np.array([2, 3])) == [
        ("together", {"item": "i001", "orders": 3.0, "lift": 3.0}),  # ½ · √20 · 5^¼ = 3.3, and orders are whole
        ("together", {"item": "i001", "orders": 2.0, "lift": 2.0}),
    ]
    assert say(complement(), past, 2) == "bought together with i001 in 3 orders, 3 times as often as by chance"
    assert say(complement(), past, 0) == "bought by shoppers with similar baskets"


def test_session_follows_the_visit_under_way_the_newest_weighing_most():
    live = [act("view", 1, 15 * MINUTE), act("view", 3, 30 * MINUTE)]
    expected = [0.1 / 3, 0, 0.5 / 2, 0.25 / 2, 0]  # 1 / (1 + minutes / 15)
    assert scores(Session(LINKS), past_of(live)) == [pytest.approx(expected)]
    assert say(Session(LINKS), past_of(live), 2) == "others went on to it from i001"
    over = [act("view", 1, 31 * MINUTE), act("view", 3, 40 * MINUTE)]
    assert scores(Session(LINKS), past_of(over)) == [[0] * 5]


def test_similar_items_adds_liking_times_strength_and_names_the_strongest_source():
    head = SimilarItems(LINKS, 60.0)
    past = past_of([act("purchase", 1, 60), act("view", 2, 0.001), act("favourite", 3, 60)])
    b, c, d = 0.5, 0.15 * 2 ** (-0.001 / 60), 0.25
    assert scores(head, past) == [pytest.approx([0.1 * d, 0.5 * c, 0.5 * b, 0.25 * b, 0])]
    shop = plain_shop(5, names=("", "Bread", "", "", ""))
    assert say(head, past, 3, shop) == "bought by those who buy Bread"
    assert say(head, past, 1, shop) == "bought by those who buy i002"
    assert say(head, past, 4, shop) == "bought by shoppers with similar baskets"


@pytest.mark.parametrize("seed", [1, 2])
def test_links_are_what_plain_loops_add_up(seed):
    acts, random = random_acts(seed, USERS, ITEMS), np.random.default_rng(seed)
    strength = np.where(random.random((ITEMS, ITEMS)) < 0.3, random.random((ITEMS, ITEMS)), 0).astype(np.float32)
    np.fill_diagonal(strength, 0)
    row, column = np.nonzero(strength)
    offsets = np.searchsorted(row, np.arange(ITEMS + 1))
    links, past, shop = (
        Links(offsets, column.astype(np.int32), strength[row, column]),
        past_of(acts, USERS),
        plain_shop(ITEMS),
    )
    head, session = SimilarItems(links, 60.0), Session(links)
    found, now = head.scores(past, shop), session.scores(past, shop)
    for user in range(USERS):
        mine = twins.of_user(acts, user)
        for given, asked in ((found, twins.liking(mine, 60.0)), (now, twins.now(mine))):
            expected = [sum(v * float(strength[i, j]) for i, v in asked.items()) for j in range(ITEMS)]
            assert given[user] == pytest.approx(expected, rel=1e-5)
        for item in range(ITEMS):
            added = {i: v * float(strength[i, item]) for i, v in sorted(twins.liking(mine, 60.0).items())}
            best = max(added, key=added.__getitem__) if added else -1
            said = head.evidence(past, shop, np.array([user]), np.array([item]))[0]
            assert said == (("same_buyers", {"item": f"i{best:03d}"}) if added and added[best] else ("alike", {}))


# ---------------------------------------------------------------------------------------------------- alike


def alike() -> tuple[Alike, Shop]:
    shop = plain_shop(4, names=("RED LAMP", "RED BREAD", "BREAD", ""))
    # Words BREAD, LAMP, RED; the rows below have length 1.
    weights = np.array([0.8, 0.6, 0.6, 0.8, 1.0], np.float32)
    words = np.array([1, 2, 0, 2, 0], np.int32)
    by_word = Links(
        np.array([0, 2, 3, 5]), np.array([1, 2, 0, 0, 1], np.int32), np.array([0.6, 1, 0.8, 0.6, 0.8], np.float32)
    )
    return Alike(by_word, np.array([0, 2, 4, 5, 5]), words, weights, 60.0), shop


def test_alike_is_the_cosine_of_names_by_liking():
    head, shop = alike()
    past = past_of([act("purchase", 0, 60), act("purchase", 2, 120)])
    lamp, bread = 0.5, 0.25
    expected = [lamp * 1, lamp * 0.6 * 0.8 + bread * 0.6, bread * 1, 0]
    assert scores(head, past, shop) == [pytest.approx(expected)]
    assert say(head, past, 1, shop) == "like RED LAMP"  # ½ · .48 against ¼ · .6
    assert say(head, past_of([act("purchase", 0, 300), act("purchase", 2, 1)]), 1, shop) == "like BREAD"
    assert say(head, past, 3, shop) == "bought by shoppers with similar baskets"


def test_alike_does_not_say_that_an_item_is_like_itself():
    head, shop = alike()
    past = past_of([act("purchase", 1, 1), act("view", 2, 1)])
    assert say(head, past, 1, shop) == "like BREAD"
    assert say(head, past_of([act("view", 2, 1)]), 2, shop) == "bought by shoppers with similar baskets"


# --------------------------------------------------------------------------------------------------- tastes


SHARE = np.array([0.5, 0.3, 0.2, 1.0, 0.0, 1.0], np.float32)
TASTES = plain_shop(
    6,
    categories=("food > bread", "food > fruit", "home"),
    category=np.array([0, 0, 0, 1, -1, 2], np.int32),
    price=np.array([2.0, 3.0, 6.0, 1.0, 1.0, NAN]),
)


def test_taste_is_liking_of_the_category_times_share_of_it():
    past = past_of([act("purchase", 0, 60), act("view", 1, 60), act("purchase", 4, 1)])
    bread = 0.5 + 0.075
    assert scores(Taste(SHARE), past, TASTES) == [pytest.approx([bread * 0.5, bread * 0.3, bread * 0.2, 0, 0, 0])]
    assert say(Taste(SHARE), past, 1, TASTES) == "many buy it in bread, where this shopper buys"


def test_upgrade_is_a_step_above_what_the_user_pays_in_the_category():
    past = past_of([act("purchase", 0, 60, price=2.0), act("purchase", 0, 90, price=3.0)])
    head = Upgrade(SHARE)
    assert head.step(past, TASTES)[0].tolist() == pytest.approx([0.8, 1.2, 2.4, NAN, NAN, NAN], nan_ok=True)
    liking = 2**-1 + 2**-1.5
    assert scores(head, past, TASTES) == [pytest.approx([0, liking * 0.3, liking * 0.2, 0, 0, 0])]
    assert say(head, past, 2, TASTES) == "a step up in bread: 6 instead of about 2.5"
    assert say(head, past, 3, TASTES) == "bought by shoppers with similar baskets"
    dearest = past_of([act("purchase", 2, 1, price=2.39)])  # 6 is 2.51 times that
    assert scores(head, dearest, TASTES)[0][2] == 0


def test_discover_reaches_untried_categories_by_nearness():
    near = np.array([[0, 0.5, 0.1], [0.5, 0, 0], [0.1, 0, 0]], np.float32)
    head = Discover(SHARE, near)
    past = past_of([act("purchase", 0, 60)])
    root = math.sqrt(0.5)
    assert scores(head, past, TASTES) == [pytest.approx([0, 0, 0, root * 0.5, 0, root * 0.1])]
    assert say(head, past, 3, TASTES) == "fruit: not tried yet, near to bread"
    assert say(head, past, 4, TASTES) == "bought by shoppers with similar baskets"
    tried = past_of([act("purchase", 0, 60), act("view", 3, 400)])
    assert scores(head, tried, TASTES)[0][3] == 0


def test_without_categories_the_heads_of_tastes_say_nothing():
    past = past_of([act("purchase", 0, 1, price=1.0)])
    for head in (
        Taste(np.zeros(5, np.float32)),
        Upgrade(np.zeros(5, np.float32)),
        Discover(np.zeros(5, np.float32), np.zeros((0, 0), np.float32)),
    ):
        assert scores(head, past) == [[0] * 5]
        assert head.evidence(past, plain_shop(5), np.array([0]), np.array([1]))


# ------------------------------------------------------------------------------------------------------ als


@pytest.mark.parametrize("touched", [1, 3, 64, 150])
def test_als_folds_in_as_the_plain_formula(touched):
    """Hu, Koren and Volinsky (2008), equation 4; also for more items than one block of the product holds."""
    random = np.random.default_rng(touched)
    factors = random.normal(size=(8, 200)).astype(np.float32)
    exact = factors.astype(np.float64)
    als = SimilarAls(factors, exact @ exact.T, 3.0, 1.0, 60.0)
    items = random.permutation(200)[:touched]
    acts = [
        act("purchase", int(item), float(days))
        for item, days in zip(items, random.uniform(1, 200, touched), strict=True)
    ]
    confidence = np.diag([3.0 * 2 ** (-a.age / 60) for a in acts])
    rows = exact[:, items].T
    system = exact @ exact.T + rows.T @ (confidence - np.eye(touched)) @ rows + np.eye(8)
    (user,) = als.fold_in(past_of(acts))
    assert user == pytest.approx(np.linalg.solve(system, rows.T @ confidence.sum(axis=1)))
    (found,) = als.scores(past_of(acts), plain_shop(200))
    assert found == pytest.approx(np.maximum(exact.T @ user, 0), rel=1e-4, abs=1e-5)


def test_als_says_nothing_without_a_past():
    als = SimilarAls(np.ones((8, 5), np.float32), np.eye(8), 3.0, 1.0, 60.0)
    assert scores(als, past_of([])) == [[0] * 5]
    assert say(als, past_of([]), 1) == "bought by shoppers with similar baskets"


# ------------------------------------------------------------------------------------- the same for everyone


def test_popular_orders_by_recent_then_by_all_time_buyers():
    head = Popular(np.array([4, 2, 2, 1, 0], np.int32), np.array([4, 3, 4, 1, 2], np.int32), NOW, 30)
    assert scores(head, past_of([], users=2)) == [pytest.approx([4.8, 2.6, 2.8, 1.2, 0.4])] * 2
    until = np.datetime64(NOW // DAY_US, "D")
    assert say(head, past_of([]), 0) == f"popular: bought by 4 shoppers in the 30 days before {until}"
    assert say(head, past_of([]), 3) == f"popular: bought by 1 shopper in the 30 days before {until}"
    assert say(head, past_of([]), 4) == f"bought by 2 shoppers before {until}"
    assert head.demand(0.0).tolist() == [1] * 5
    assert head.demand(2.0).tolist() == pytest.approx([1, (2.5 / 4.5) ** 2, (2.5 / 4.5) ** 2, (1.5 / 4.5) ** 2, 1 / 81])


def test_trending_and_welcome():
    rising = Trending(np.array([3, 0, 1, 0, 0], np.float32), np.array([0.5, 0, 2, 0, 0], np.float32))
    assert scores(rising, past_of([], users=2)) == [[3, 0, 1, 0, 0]] * 2
    assert say(rising, past_of([]), 0) == "rising: 3 new buyers in a week, usually 0.5"
    recent, first, started = np.array([12, 11, 3, 20, 4]), np.array([2, 0, 0, 8, 0]), np.array([10, 10, 0, 20, 0])
    counts = (recent, first, started, np.array([8, 0, 0, 8, 0]))
    began = Welcome(*(count.astype(np.int32) for count in counts))
    usual = 16 / 40
    stays = [(8 + 200 * usual) / 210, 200 * usual / 210, usual, (8 + 200 * usual) / 220, usual]
    expected = (recent / 50 + first / 10) * stays
    assert scores(began, past_of([])) == [pytest.approx(expected)]
    assert say(began, past_of([]), 0) == "10 newcomers began with it, 8 of them ordered again"
    assert say(began, past_of([]), 2) == "bought by 3 shoppers lately"


# ------------------------------------------------------------------------------------------------- all heads


@pytest.fixture(scope="module")
def rich() -> tuple[Recommender, Past]:
    shop = rich_shop(1, ITEMS)
    acts = random_acts(1, USERS, ITEMS)
    return fitted(shop, history_of(acts, USERS)), past_of(acts, USERS)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_scores_every_item_from_0_up_and_can_say_why(rich, name):
    model, past = rich
    head = model.heads[name]
    found = head.scores(past, model.shop)
    assert (found.shape, found.dtype, found.flags.c_contiguous) == ((USERS, ITEMS), np.float32, True)
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() > 0
    user, item = (np.ascontiguousarray(places) for places in np.nonzero(found > 0))
    for language in ("en", "zh"):
        for phrase in head.evidence(past, model.shop, user, item):
            text = load(language).offer(*phrase)
            assert text
            assert not any(mark in text for mark in ("{", "}", "nan", "inf"))
    anyone = head.evidence(past, model.shop, np.repeat(np.arange(USERS), ITEMS), np.tile(np.arange(ITEMS), USERS))
    assert len(anyone) == USERS * ITEMS


@pytest.mark.parametrize("name", HEADS)
def test_a_heads_scores_of_a_user_are_the_same_bits_in_any_company(rich, name):
    model, past = rich
    found = model.heads[name].scores(past, model.shop)
    for row in range(0, USERS, 3):
        alone = Past.of(past.history.some([row]), NOW)
        assert bits(model.heads[name].scores(alone, model.shop)[0]) == bits(found[row])
        mixed = Past.of(past.history.some([4, 19, row, 8, row]), NOW)
        assert bits(model.heads[name].scores(mixed, model.shop)[4]) == bits(found[row])


@pytest.mark.parametrize("name", HEADS)
def test_a_restored_head_scores_alike(rich, name):
    model, past = rich
    head = model.heads[name]
    again = type(head).restore(head.facts(), head.tables())
    assert bits(again.scores(past, model.shop)) == bits(head.scores(past, model.shop))
