"""What is counted when heads are fitted, against counting by hand or in plain loops."""

import math
from collections import defaultdict
from itertools import pairwise, permutations

import numpy as np
import pytest

from models.recommender import DAY_US, Recommender, Shop
from models.recommender.alike import Alike
from models.recommender.complement import Complement
from models.recommender.links import Links
from models.recommender.popular import Popular, Trending, Welcome
from models.recommender.repeat import Repeat
from models.recommender.scenes import shipped
from models.recommender.session import Session
from models.recommender.similar_als import SimilarAls
from models.recommender.similar_items import SimilarItems
from models.recommender.tastes import Discover, Taste
from tests.models.recommender import twins
from tests.models.recommender.support import NOW, Act, act, history_of, past_of, plain_shop, random_acts, rich_shop
from training.cross_sell_fit import fit_unranked
from training.heads_fit import DRAWN, HeadSettings, canonical, fit_heads

USERS, ITEMS = 40, 24
SETTINGS = HeadSettings(als_factors=8, als_iterations=3, neighbours=ITEMS, least_together=2)


@pytest.fixture(scope="module")
def acts() -> list[Act]:
    return random_acts(41, USERS, ITEMS, 1_800)


@pytest.fixture(scope="module")
def shop() -> Shop:
    return rich_shop(41, ITEMS)


@pytest.fixture(scope="module")
def model(acts: list[Act], shop: Shop) -> Recommender:
    return fit_unranked(history_of(acts, USERS), shop, NOW, SETTINGS, shipped(), 1)


@pytest.fixture(scope="module")
def mine(acts: list[Act]) -> list[list[Act]]:
    return [twins.of_user(acts, user) for user in range(USERS)]


def dense(links: Links) -> np.ndarray:
    out = np.zeros((ITEMS, ITEMS))
    for item, (low, high) in enumerate(pairwise(links.offsets.tolist())):
        out[item, links.neighbours[low:high]] = links.strength[low:high]
        assert (np.diff(links.neighbours[low:high]) > 0).all()
    return out


def baskets(mine: list[list[Act]]) -> list[set[int]]:
    """Items of each order of the last year."""
    found: dict[tuple[int, int], set[int]] = defaultdict(set)
    for user, one in enumerate(mine):
        for entry in twins.entries(one):
            if entry.age < 365:
                found[user, entry.order].add(entry.item)
    return list(found.values())


def test_complement_is_damped_with_exact_support_and_lift(model: Recommender, mine: list[list[Act]]) -> None:
    head = model.heads["complement"]
    assert isinstance(head, Complement)
    orders = baskets(mine)
    count = [sum(item in order for order in orders) for item in range(ITEMS)]
    both = {pair: sum({*pair} <= order for order in orders) for pair in permutations(range(ITEMS), 2)}
    assert (head.total, head.orders.tolist()) == (len(orders), count)
    expected = np.zeros((ITEMS, ITEMS))
    for (one, other), n in both.items():
        if n >= SETTINGS.least_together:
            expected[one, other] = n / (math.sqrt(count[one]) * count[other] ** 0.25)
    assert dense(head.links) == pytest.approx(expected)
    assert (expected > 0).sum() > 20
    for item, (low, high) in enumerate(pairwise(head.links.offsets.tolist())):
        for place in range(low, high):
            other = int(head.links.neighbours[place])
            together, lift = head.support(item, place)
            assert together == both[item, other]
            assert lift == pytest.approx(
                both[item, other] / len(orders) / (count[item] * count[other] / len(orders) ** 2)
            )


def test_session_is_cosine_over_visits(model: Recommender, mine: list[list[Act]]) -> None:
    head = model.heads["session"]
    assert isinstance(head, Session)
    visits: list[set[int]] = []
    for one in mine:
        before = -math.inf
        for a in sorted((a for a in one if a.kind in ("purchase", *twins.LOOKED)), key=lambda a: a.ts):
            if a.ts - before > 30 * 60_000_000:
                visits.append(set())
            visits[-1].add(a.item)
            before = a.ts
    count = [sum(item in visit for visit in visits) for item in range(ITEMS)]
    expected = np.zeros((ITEMS, ITEMS))
    for i, j in permutations(range(ITEMS), 2):
        together = sum({i, j} <= visit for visit in visits)
        expected[i, j] = together / math.sqrt(count[i] * count[j]) if together else 0
    assert dense(head.links) == pytest.approx(expected)


def test_without_browsing_there_are_no_visits(acts: list[Act], shop: Shop) -> None:
    bought = [a for a in acts if a.kind == "purchase"]
    head = fit_heads(history_of(bought, USERS), shop, NOW, SETTINGS, 1)["session"]
    assert isinstance(head, Session)
    assert len(head.links.neighbours) == 0


def test_similar_items_follow_the_stated_formula(model: Recommender, mine: list[list[Act]]) -> None:
    """strength = Σ_u x_ui x_uj / (m_u √n_i √n_j), x the root of decayed liking."""
    head = model.heads["similar_items"]
    assert isinstance(head, SimilarItems)
    root = np.zeros((USERS, ITEMS))
    for user, one in enumerate(mine):
        for item, value in twins.liking(one, SETTINGS.links_half_life).items():
            root[user, item] = math.sqrt(value)
    by_user, by_item = np.maximum(root.sum(axis=1), 1e-9), root.sum(axis=0)
    expected = np.zeros((ITEMS, ITEMS))
    for i, j in permutations(range(ITEMS), 2):
        common = sum(root[u, i] * root[u, j] / by_user[u] for u in range(USERS))
        expected[i, j] = common / math.sqrt(by_item[i] * by_item[j])
    assert dense(head.links) == pytest.approx(expected, rel=1e-5)


def test_only_the_nearest_neighbours_are_kept(acts: list[Act], shop: Shop, model: Recommender) -> None:
    few = HeadSettings(als_factors=8, als_iterations=2, neighbours=4, least_together=2)
    found, whole = (
        dense(fit["similar_items"].links)  # type: ignore[attr-defined]
        for fit in (fit_heads(history_of(acts, USERS), shop, NOW, few, 1), model.heads)
    )
    for kept, every in zip(found, whole, strict=True):
        count = int((kept > 0).sum())
        assert 4 <= count <= 5  # an item that is not among its own nearest leaves a place
        assert sorted(kept[kept > 0]) == pytest.approx(sorted(every)[-count:])


def test_intervals_and_returns(model: Recommender, mine: list[list[Act]], shop: Shop) -> None:
    head = model.heads["repeat"]
    assert isinstance(head, Repeat)
    gaps: list[list[float]] = [[] for _ in range(ITEMS)]
    buyers, back = np.zeros(ITEMS), np.zeros(ITEMS)
    for one in mine:
        for item, some in twins.own(one).items():
            gaps[item] += [first.age - second.age for first, second in pairwise(some)]
            if some[0].age >= 30:
                buyers[item] += 1
                back[item] += len(some) > 1
    middle = [sorted(found)[len(found) // 2] if found else math.nan for found in gaps]
    assert head.interval == pytest.approx(middle, nan_ok=True)
    usual = back.sum() / buyers.sum()
    category = shop.attributes.category
    for item in range(ITEMS):
        alike = category == category[item]
        prior = (back[alike].sum() + DRAWN * usual) / (buyers[alike].sum() + DRAWN)
        assert head.again[item] == pytest.approx((back[item] + DRAWN * prior) / (buyers[item] + DRAWN))


def buyers_between(mine: list[list[Act]], newest: float, oldest: float) -> list[int]:
    return [
        sum(any(newest <= e.age < oldest for e in twins.own(one).get(item, [])) for one in mine)
        for item in range(ITEMS)
    ]


def new_between(mine: list[list[Act]], newest: float, oldest: float) -> list[int]:
    return [
        sum(newest <= twins.own(one)[item][0].age < oldest for one in mine if item in twins.own(one))
        for item in range(ITEMS)
    ]


def test_popular_trending_and_welcome(model: Recommender, mine: list[list[Act]]) -> None:
    popular, trending, welcome = (model.heads[name] for name in ("popular", "trending", "welcome"))
    assert isinstance(popular, Popular)
    assert isinstance(trending, Trending)
    assert isinstance(welcome, Welcome)
    assert popular.recent.tolist() == buyers_between(mine, 0, 30)
    assert popular.ever.tolist() == buyers_between(mine, 0, math.inf)
    assert trending.week.tolist() == new_between(mine, 0, 7)
    assert trending.usual.tolist() == [n / 4 for n in new_between(mine, 7, 35)]
    first, began, stayed = [0] * ITEMS, [0] * ITEMS, [0] * ITEMS
    for one in mine:
        orders = twins.orders(one)
        for entry in twins.entries(one):
            if entry.order == orders[-1][1] and entry.age < SETTINGS.welcome_days:
                began[entry.item] += 1
                stayed[entry.item] += len(orders) > 1
                first[entry.item] += entry.age < SETTINGS.popular_days
    assert (welcome.began.tolist(), welcome.stayed.tolist()) == (began, stayed)
    assert (welcome.recent.tolist(), welcome.first.tolist()) == (popular.recent.tolist(), first)
    assert sum(began) > 3


def test_shares_of_categories_and_what_is_near_to_them(model: Recommender, mine: list[list[Act]], shop: Shop) -> None:
    taste, discover = model.heads["taste"], model.heads["discover"]
    assert isinstance(taste, Taste)
    assert isinstance(discover, Discover)
    category = shop.attributes.category.tolist()
    weight = np.array(buyers_between(mine, 0, 30)) + 0.1 * np.array(buyers_between(mine, 0, 90))
    for item, code in enumerate(category):
        of = sum(weight[i] for i in range(ITEMS) if category[i] == code)
        assert taste.share[item] == pytest.approx(weight[item] / of if code >= 0 else 0)
    assert (discover.share == taste.share).all()
    tried = [{category[item] for item in twins.own(one)} - {-1} for one in mine]
    count = len(shop.attributes.categories)
    for one in range(count):
        for other in range(count):
            both = sum({one, other} <= some for some in tried)
            n, m = (sum(code in some for some in tried) for code in (one, other))
            assert discover.near[one, other] == pytest.approx(both / math.sqrt(n * m) if one != other else 0)


def test_words_are_weighed_by_how_rare_they_are() -> None:
    names = ("RED LAMP", "red bread", "BREAD", "", "LONELY LAMP RED")
    shop = plain_shop(5, names=names)
    head = fit_heads(history_of([act("purchase", 0, 1)]), shop, NOW, SETTINGS, 1)["alike"]
    assert isinstance(head, Alike)
    rare = {"BREAD": math.log(5 / 2), "LAMP": math.log(5 / 2), "RED": math.log(5 / 3)}  # LONELY is of one item only
    vectors = [{word: rare[word] for word in set(name.upper().split()) & set(rare)} for name in names]

    def cosine(a: dict[str, float], b: dict[str, float]) -> float:
        long = math.sqrt(sum(v * v for v in a.values()) * sum(v * v for v in b.values()))
        return sum(a[word] * b[word] for word in a.keys() & b.keys()) / long if long else 0.0

    found = head.scores(past_of([act("purchase", 0, 60.0)]), shop)
    expected = [2 ** (-60 / head.half_life) * cosine(vectors[0], other) for other in vectors]
    assert found[0] == pytest.approx(expected, abs=1e-6)


def test_als_keeps_to_what_users_buy_together() -> None:
    """Two groups that share no item: what is folded in for one of a group lies in its half."""
    random = np.random.default_rng(2)
    bought = [
        act("purchase", int(random.integers(12)) + 12 * (user % 2), float(random.uniform(1, 90)), user)
        for user in range(40)
        for _ in range(12)
    ]
    model = fit_unranked(history_of(bought, 40), plain_shop(24), NOW, SETTINGS, {}, 1)
    head = model.heads["similar_als"]
    assert isinstance(head, SimilarAls)
    assert head.gram == pytest.approx(head.item_factors.astype(np.float64) @ head.item_factors.T.astype(np.float64))
    for name in ("similar_als", "lasting_als", "similar_items"):
        for half in (0, 1):
            scores = model.heads[name].scores(past_of([act("purchase", 12 * half + 3, 1)]), model.shop)[0]
            assert set(np.argsort(-scores)[:6] // 12) == {half}, name


def test_facts_about_items(model: Recommender, mine: list[list[Act]], shop: Shop) -> None:
    expected: dict[str, list[float]] = {f"buyers_{d}": buyers_between(mine, 0, d) for d in (7, 14, 30, 90, 365)}  # type: ignore[misc]
    expected["buyers"] = buyers_between(mine, 0, math.inf)  # type: ignore[assignment]
    expected["new_buyers_7"], expected["new_buyers_30"] = new_between(mine, 0, 7), new_between(mine, 0, 30)  # type: ignore[assignment]
    expected["buyers_a_year_ago"] = buyers_between(mine, 335, 365)  # type: ignore[assignment]
    expected["price"] = shop.attributes.price.tolist()
    entries = [(user, e) for user, one in enumerate(mine) for e in twins.entries(one)]
    size: dict[tuple[int, int], int] = defaultdict(int)
    for user, e in entries:
        size[user, e.order] += 1
    for name in ("age", "idle", "basket", "orders_a_buyer", "again_30", "price_change"):
        expected[name] = []
    for item in range(ITEMS):
        of = [(user, e) for user, e in entries if e.item == item]
        expected["age"].append(max(e.age for _, e in of))
        expected["idle"].append(min(e.age for _, e in of))
        expected["basket"].append(sum(size[user, e.order] for user, e in of) / len(of))
        expected["orders_a_buyer"].append(len(of) / len({user for user, _ in of}))
        paid = [e.price for _, e in of if e.price is not None]
        expected["price_change"].append(shop.attributes.price[item] / (sum(paid) / len(paid)))
        old = back = 0
        for one in mine:
            ages = [e.age for e in twins.own(one).get(item, [])]
            for place, age in enumerate(ages):
                old += age >= 30
                back += age >= 30 and place + 1 < len(ages) and age - ages[place + 1] <= 30
        expected["again_30"].append((back + 0.1) / (old + 2))
    for name, values in expected.items():
        assert model.table.column(name) == pytest.approx(values, nan_ok=True), name
    assert (model.table.column("again") == model.heads["repeat"].tables()["again"]).all()


def test_users_stand_in_an_order_of_what_they_did_and_idle_ones_are_left_out(acts: list[Act]) -> None:
    history = history_of(acts, USERS)
    names = [f"n{row * 7 % USERS}" for row in range(USERS)]
    back = np.random.default_rng(3).permutation(USERS)
    renamed = canonical(history_of([a._replace(user=int(back[a.user])) for a in acts], USERS, names))
    plain = canonical(history)
    assert len(plain) == len({a.user for a in acts}) < USERS
    for name in ("offsets", "item", "ts", "kind", "order", "price", "quantity"):
        assert np.array_equal(getattr(renamed, name), getattr(plain, name), equal_nan=name == "price")


def test_users_who_differ_in_price_alone_stand_in_one_order() -> None:
    """Means over users are float sums: an order that hangs on names would change their last bits."""
    lines = [act("purchase", 0, 5, user, order=1, price=price) for user, price in enumerate((0.1, 0.7, 0.3))]
    prices = {
        tuple(canonical(history_of([a._replace(user=place[a.user]) for a in lines], 3)).price.tolist())
        for place in permutations(range(3))
    }
    assert len(prices) == 1


def test_the_moment_is_where_the_past_ends(acts: list[Act], shop: Shop) -> None:
    later = [act("purchase", 1, -1.0, user) for user in range(USERS)]
    history = history_of(acts + later, USERS)
    found, plain = (fit_heads(one, shop, NOW, SETTINGS, 1) for one in (history.before(NOW), history_of(acts, USERS)))
    for name, head in found.items():
        for table, values in head.tables().items():
            assert values.tobytes() == plain[name].tables()[table].tobytes()
    assert NOW % DAY_US == 0
