"""Who may be shown what: each mode and filter by hand, then ten thousand combinations against an obvious checker."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import numpy as np
import pytest

from features.errors import UserError
from models.recommender import MODES, Ask, Catalogue, Filter, Recommender
from models.recommender.ask import MOST_TO_WIN_BACK
from models.recommender.repeat import DURABLE, HOURS, JUST, NOT_YET
from models.recommender.tastes import STEP
from tests.models.recommender import twins
from tests.models.recommender.support import (
    BRANDS,
    CATEGORIES,
    NOW,
    Act,
    act,
    fitted,
    history_of,
    ids,
    past_of,
    random_acts,
    rich_shop,
)

USERS, ITEMS = 50, 40
ASKS = 220  # of every user: 11,000 lists
EVERYTHING = 1_000


@pytest.fixture(scope="module")
def acts() -> list[Act]:
    return random_acts(11, USERS, ITEMS, 2_000)


@pytest.fixture(scope="module")
def model(acts: list[Act]) -> Recommender:
    return fitted(rich_shop(11, ITEMS), history_of(acts, USERS))


def shown(model: Recommender, mine: list[Act], ask: Ask) -> list[int]:
    """Codes offered to one user."""
    (found,) = model.recommend(history_of([a._replace(user=0) for a in mine]), NOW, ask)
    return [pick.item for pick in found]


def everything(model: Recommender, mine: list[Act], **asked: object) -> set[int]:
    """All that may be shown."""
    return set(shown(model, mine, Ask(k=EVERYTHING, **asked)))  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------- one by one


BUYER = [act("purchase", 3, 90, price=4.0), act("purchase", 3, 60, price=4.0), act("purchase", 7, 40, price=9.0)]


def test_cross_sell_never_shows_what_was_bought_and_repeat_nothing_else(model: Recommender) -> None:
    assert everything(model, BUYER, mode="cross_sell") == set(range(ITEMS)) - {3, 7}
    assert everything(model, BUYER, mode="repeat") <= {3, 7}
    assert {3, 7} <= everything(model, BUYER, mode="all")


def test_a_staple_just_bought_is_not_offered_again_until_half_its_interval_is_over(model: Recommender) -> None:
    every = [act("purchase", 3, 40 - 10 * n) for n in range(4)]  # 40, 30, 20, 10 days ago: every 10 days
    today = [*every, act("purchase", 3, 0.1)]
    assert 3 in everything(model, every, mode="repeat")
    assert 3 not in everything(model, today, mode="repeat")
    assert 3 not in everything(model, today, mode="all")  # nor anything within hours


def test_a_durable_just_bought_is_not_offered_at_once(model: Recommender) -> None:
    again = model.heads["repeat"].tables()["again"].copy()
    again[5] = DURABLE / 2
    heads = {**model.heads, "repeat": replace(model.heads["repeat"], again=again)}  # type: ignore[type-var]
    durable = replace(model, heads=heads)
    bought = [act("purchase", 5, JUST - 1)]
    assert 5 not in everything(durable, bought)
    assert 5 in everything(durable, [act("purchase", 5, JUST + 1)])
    assert 5 not in everything(durable, [act("purchase", 5, 400)], mode="repeat")
    assert 5 in everything(model, bought)


def test_up_sell_is_the_same_need_a_step_dearer(model: Recommender) -> None:
    attributes = model.shop.attributes
    own = next(i for i in range(ITEMS) if attributes.category[i] == 0)
    found = everything(model, [act("purchase", own, 20, price=3.0)], mode="up_sell")
    assert found == {
        i
        for i in range(ITEMS)
        if i != own and attributes.category[i] == 0 and 3 * STEP[0] <= attributes.price[i] <= 3 * STEP[1]
    }
    assert found
    assert everything(model, [act("view", own, 20)], mode="up_sell") == set()


def test_discover_is_of_categories_never_touched(model: Recommender) -> None:
    category = model.shop.attributes.category.tolist()
    mine = [act("purchase", category.index(0), 20), act("view", category.index(2), 300)]
    found = everything(model, mine, mode="discover")
    assert {category[i] for i in found} == {1, 3, 4}


def test_win_back_shows_up_to_five_items_that_came_after_the_last_order(model: Recommender) -> None:
    age = model.table.column("age")
    since = float(np.sort(age)[7])  # eight items are newer, or as old
    mine = [act("purchase", int(np.argmax(age)), since + 0.01)]
    found = shown(model, mine, Ask("win_back", k=20))
    assert len(found) == MOST_TO_WIN_BACK
    assert (age[found] < since + 0.01).all()
    assert len(shown(model, mine, Ask("win_back", k=3))) == 3
    lately = [act("purchase", int(np.argmax(age)), 0.5)]  # nothing is so new: then anything
    assert len(shown(model, lately, Ask("win_back", k=20))) == MOST_TO_WIN_BACK


def test_win_back_takes_older_items_where_the_new_ones_cannot_fill_a_list(model: Recommender) -> None:
    age, category = model.table.column("age"), model.shop.attributes.category
    bread, fruit = (np.flatnonzero(category == code) for code in (0, 1))
    since = float(np.sort(age[bread])[1]) + 0.01  # two new breads, of which one may be shown
    newer = tuple(ids(ITEMS)[code] for code in fruit[age[fruit] < since])
    mine = [act("purchase", int(np.flatnonzero(category == 2)[0]), since)]
    ask = Ask("win_back", k=2, exclude=newer, filter=Filter(categories=("food",), per_category=1))
    assert sorted(category[shown(model, mine, ask)]) == [0, 1]


def test_bundle_goes_with_the_cart_which_is_not_shown(model: Recommender) -> None:
    names = ids(ITEMS)
    found = next(model.recommend(history_of([]), NOW, Ask("bundle", k=ITEMS, cart=(names[1],))))
    complement = model.heads["complement"]
    expected = complement.scores(past_of([act("cart", 1, 0.0001)]), model.shop)[0]
    assert 1 not in [pick.item for pick in found]
    leading = [pick.item for pick in found if expected[pick.item] > 0]
    assert leading
    assert leading == [pick.item for pick in found[: len(leading)]]
    assert (np.diff(expected[leading]) <= 0).all()
    assert {pick.head for pick in found[: len(leading)]} == {"complement"}


def test_welcome_is_what_good_newcomers_began_with(model: Recommender) -> None:
    found = next(model.recommend(history_of([]), NOW, Ask("welcome", k=8)))
    scores = model.heads["welcome"].scores(past_of([]), model.shop)[0]
    leading = min(8, int((scores > 0).sum()))
    assert leading > 3
    assert scores[[pick.item for pick in found[:leading]]].tolist() == np.sort(scores)[::-1][:leading].tolist()
    assert {pick.head for pick in found[:leading]} == {"welcome"}


def test_what_was_given_back_is_not_offered_until_it_is_bought_again(model: Recommender) -> None:
    assert 3 not in everything(model, [*BUYER, act("refund", 3, 30)])
    assert 3 in everything(model, [*BUYER, act("refund", 3, 70)])


def test_not_interested_removes_the_item_and_lowers_its_category_for_a_while(model: Recommender) -> None:
    category = model.shop.attributes.category
    code = next(int(k) for k, n in Counter(category[category >= 0].tolist()).most_common())
    disliked, *others = np.flatnonzero(category == code).tolist()

    def scores(days: float | None) -> dict[int, float]:
        mine = BUYER if days is None else [*BUYER, act("not_interested", disliked, days)]
        (found,) = model.recommend(history_of(mine), NOW, Ask(k=EVERYTHING))
        return {pick.item: pick.score for pick in found}

    plain, now, month, long_ago = scores(None), scores(0.0001), scores(30), scores(3_000)
    for item in others:
        assert now[item] == pytest.approx(plain[item] * 0.5, rel=1e-4)
        assert month[item] == pytest.approx(plain[item] * 0.75, rel=1e-4)
        assert long_ago[item] == pytest.approx(plain[item])
    for item in set(plain) - set(others) - {disliked}:
        assert now[item] == plain[item]
    assert all(disliked not in one for one in (now, month, long_ago))


def test_what_lies_in_the_cart_is_not_offered_until_it_is_bought_or_a_day_has_passed(model: Recommender) -> None:
    assert 4 not in everything(model, [act("cart", 4, 0.9)])
    assert 4 in everything(model, [act("cart", 4, 1.1)])
    assert 4 in everything(model, [act("cart", 4, 0.9), act("purchase", 4, 0.8)])
    assert 4 not in everything(model, [act("cart", 4, 0.8), act("purchase", 4, 0.9)])
    assert 4 not in everything(model, [], cart=(ids(ITEMS)[4],))


def test_what_was_shown_lately_can_be_left_out(model: Recommender) -> None:
    mine = [act("shown", 2, 3), act("message_sent", 6, 3), act("shown", 8, 9), act("view", 9, 1)]
    assert everything(model, mine) == set(range(ITEMS))
    assert everything(model, mine, filter=Filter(shown_days=7)) == set(range(ITEMS)) - {2, 6}


def test_excluded_items_are_left_out_and_change_no_other_score(model: Recommender) -> None:
    names = ids(ITEMS)
    whole, fewer = (
        next(model.recommend(history_of(BUYER), NOW, Ask(k=EVERYTHING, exclude=exclude)))
        for exclude in ((), (names[3], names[8], "no such item"))
    )
    assert fewer == [pick for pick in whole if pick.item not in (3, 8)]


ATTRIBUTES: list[tuple[Filter, Callable[..., bool]]] = [
    (Filter(in_stock=True), lambda category, brand, price, stock: stock),
    (Filter(categories=("home",)), lambda category, brand, price, stock: category.split(" > ")[0] == "home"),
    (Filter(categories=("food > bread",)), lambda category, brand, price, stock: category == "food > bread"),
    (Filter(categories=("hom", "food > br")), lambda category, brand, price, stock: False),
    (Filter(not_categories=("food",)), lambda category, brand, price, stock: not category.startswith("food")),
    (Filter(brands=("acme", "calm")), lambda category, brand, price, stock: brand in ("acme", "calm")),
    (Filter(price_min=5.0), lambda category, brand, price, stock: price >= 5),
    (Filter(price_max=5.0), lambda category, brand, price, stock: price <= 5),
    (Filter(price_min=5.0, brands=("bolt",)), lambda category, brand, price, stock: price >= 5 and brand == "bolt"),
]


def described(model: Recommender, item: int) -> tuple[str, str, float, bool]:
    known = model.shop.attributes
    category, brand = int(known.category[item]), int(known.brand[item])
    return (
        CATEGORIES[category] if category >= 0 else "",
        BRANDS[brand] if brand >= 0 else "",
        float(known.price[item]),
        bool(known.in_stock[item]),
    )


@pytest.mark.parametrize(("asked", "passes"), ATTRIBUTES)
def test_filters_by_attribute(model: Recommender, asked: Filter, passes: Callable[..., bool]) -> None:
    assert everything(model, [], filter=asked) == {i for i in range(ITEMS) if passes(*described(model, i))}


def test_at_most_so_many_of_a_category_and_still_the_best(model: Recommender) -> None:
    category = model.shop.attributes.category.tolist()
    best, capped = (shown(model, BUYER, Ask(k=EVERYTHING, filter=Filter(per_category=most))) for most in (None, 2))
    counts: Counter[int] = Counter()
    expected = []
    for item in best:
        if category[item] < 0 or counts[category[item]] < 2:
            counts[category[item]] += 1
            expected.append(item)
    assert capped == expected


def test_scenes_limit_prices_and_weigh_heads(model: Recommender) -> None:
    price, median = model.shop.attributes.price, float(np.nanmedian(model.shop.attributes.price))
    assert everything(model, [], scene="commute") == {i for i in range(ITEMS) if price[i] <= median}
    mine = [act("purchase", 3, 5, price=4.0), act("purchase", 9, 8, price=9.0)]
    weights = 2 ** (-5 / 60), 2 ** (-8 / 60)
    usual = np.exp((weights[0] * np.log(4) + weights[1] * np.log(9)) / sum(weights))
    assert everything(model, mine, scene="gift") == {i for i in range(ITEMS) if price[i] >= usual} - {3, 9}
    (plain,), (home,) = (
        list(model.recommend(history_of(mine), NOW, Ask(k=EVERYTHING, scene=s))) for s in (None, "home")
    )
    links = model.heads["complement"].scores(past_of(mine), model.shop)[0]
    before = {pick.item: pick.score for pick in plain}
    for pick in home:
        assert pick.score == pytest.approx(before[pick.item] * (1 + 2 * links[pick.item] / links.max()), rel=1e-5)


def test_a_scene_or_mode_that_is_not_there_is_named(model: Recommender) -> None:
    with pytest.raises(UserError, match="no scene 'moon'; there are commute, home, gift"):
        list(model.recommend(history_of([]), NOW, Ask(scene="moon")))
    with pytest.raises(ValueError, match="unknown mode 'magic'; use one of: all, repeat"):
        list(model.recommend(history_of([]), NOW, Ask("magic")))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'b' comes before 'a'"):
        Catalogue(("b", "a"))


# --------------------------------------------------------------------------------------------- all together


class Checker:
    """What may be shown to a user, by plain conditions an item."""

    def __init__(self, model: Recommender, mine: list[Act]) -> None:
        self.model, self.mine = model, mine
        self.facts = [described(model, item) for item in range(ITEMS)]

    @cached_property
    def own(self) -> dict[int, list[twins.Entry]]:
        return twins.own(self.mine)

    @cached_property
    def never(self) -> set[int]:
        return {*twins.refunded(self.mine), *twins.last(self.mine, "not_interested"), *twins.in_cart(self.mine)}

    @cached_property
    def tried(self) -> set[str]:
        return {self.facts[a.item][0] for a in self.mine if a.kind in twins.WEIGHT} - {""}

    @cached_property
    def usual(self) -> float:
        paid = [(2 ** (-e.age / 60), np.log(e.price)) for some in self.own.values() for e in some if e.price]
        if not paid:
            return float(np.nanmedian(self.model.shop.attributes.price))
        return float(np.exp(sum(w * p for w, p in paid) / sum(w for w, _ in paid)))

    @cached_property
    def enough(self) -> set[int]:
        again = self.model.heads["repeat"].tables()["again"]
        newest = {i: some[-1].age for i, some in self.own.items()}
        return {i for i, age in newest.items() if age < HOURS or (again[i] < DURABLE and age < JUST)}

    def due(self, item: int) -> bool:
        """May it be bought again by now?"""
        some, tables = self.own[item], self.model.heads["repeat"].tables()
        every = float(tables["interval"][item])
        if len(some) >= 3 and some[0].age > some[-1].age:
            every = (some[0].age - some[-1].age) / (len(some) - 1)
        return bool(tables["again"][item] >= DURABLE and not some[-1].age < NOT_YET * every)

    def step(self, item: int) -> float:
        """Times what the user pays in its category."""
        category, _, price, _ = self.facts[item]
        paid = [e.price for i, some in self.own.items() for e in some if e.price and self.facts[i][0] == category]
        return price / (sum(paid) / len(paid)) if category and paid else float("nan")

    def may(self, ask: Ask) -> set[int]:
        names, wanted = ids(ITEMS), ask.filter
        out = set(range(ITEMS)) - self.never - {i for i in range(ITEMS) if names[i] in (*ask.cart, *ask.exclude)}
        if ask.mode == "all":
            out -= self.enough
        elif ask.mode == "repeat":
            out &= {i for i in self.own if self.due(i)}
        else:
            out -= set(self.own)
        if ask.mode == "up_sell":
            out = {i for i in out if STEP[0] <= self.step(i) <= STEP[1]}
        if ask.mode == "discover":
            tried = {*self.tried, *(self.facts[names.index(one)][0] for one in ask.cart)}
            out = {i for i in out if self.facts[i][0] and self.facts[i][0] not in tried}
        if wanted.shown_days is not None:
            out -= {i for i, age in twins.last(self.mine, "shown", "message_sent").items() if age < wanted.shown_days}
        out = {i for i in out if self.passes(wanted, i) and self.in_scene(ask.scene, i)}
        if ask.mode == "win_back" and self.own:
            since = min(age for age, _ in twins.orders(self.mine))
            fresh = {i for i in out if self.model.table.column("age")[i] < since}
            return fresh if self.places(fresh, wanted.per_category) >= ask.most else out
        return out

    def passes(self, wanted: Filter, item: int) -> bool:
        category, brand, price, stock = self.facts[item]

        def within(paths: tuple[str, ...]) -> bool:
            return any(category == path or category.startswith(path + " > ") for path in paths)

        return (
            (stock or not wanted.in_stock)
            and (not wanted.categories or within(wanted.categories))
            and not within(wanted.not_categories)
            and (not wanted.brands or brand in wanted.brands)
            and (wanted.price_min is None or price >= wanted.price_min)
            and (wanted.price_max is None or price <= wanted.price_max)
        )

    def in_scene(self, scene: str | None, item: int) -> bool:
        price = self.facts[item][2]
        if scene == "commute":
            return price <= self.usual
        return scene != "gift" or (price >= self.usual and item not in self.own)

    def places(self, items: set[int], most: int | None) -> int:
        """How many of these one list may hold."""
        counts = Counter(self.facts[i][0] for i in items)
        return sum(n if most is None or not category else min(n, most) for category, n in counts.items())


def random_ask(random: np.random.Generator) -> Ask:
    def maybe(value: object, chance: float = 0.3) -> object:
        return value if random.random() < chance else None

    def some(names: tuple[str, ...], most: int) -> tuple[str, ...]:
        return tuple(random.choice(names, int(random.integers(1, most)), replace=False).tolist())

    names = ids(ITEMS)
    paths = ("food", "home", *CATEGORIES)
    given = {
        "in_stock": bool(random.random() < 0.3),
        "categories": maybe(some(paths, 4)) or (),
        "not_categories": maybe(some(paths, 3), 0.2) or (),
        "brands": maybe(some(BRANDS, 3)) or (),
        "price_min": maybe(float(random.uniform(0, 8)), 0.2),
        "price_max": maybe(float(random.uniform(5, 20)), 0.2),
        "shown_days": maybe(float(random.choice([1, 30, 300]))),
        "per_category": maybe(int(random.integers(1, 4))),
    }
    return Ask(
        mode=MODES[int(random.integers(len(MODES)))],
        k=int(random.choice([1, 5, 20, 60])),
        cart=maybe(some(names, 4)) or (),  # type: ignore[arg-type]
        exclude=maybe((*some(names, 9), "no such item")) or (),  # type: ignore[arg-type]
        filter=Filter(**given),  # type: ignore[arg-type]
        scene=maybe(str(random.choice(["commute", "home", "gift"])), 0.2),  # type: ignore[arg-type]
    )


def test_ten_thousand_combinations_of_filters_hold_without_exception(
    model: Recommender, acts: list[Act], tell: Callable[..., None]
) -> None:
    """Everything shown may be shown, nothing comes twice, and k items come whenever k may be shown."""
    random = np.random.default_rng(5)
    history = history_of(acts, USERS)
    checkers = [Checker(model, twins.of_user(acts, user)) for user in range(USERS)]
    lists, full, offered, modes = 0, 0, 0, Counter[str]()
    for _ in range(ASKS):
        ask = random_ask(random)
        for checker, found in zip(checkers, model.recommend(history, NOW, ask), strict=True):
            items = [pick.item for pick in found]
            may = checker.may(ask)
            places = min(ask.most, checker.places(may, ask.filter.per_category))
            assert set(items) <= may, ask
            assert len(items) == len(set(items)) == places, ask
            assert checker.places(set(items), ask.filter.per_category) == len(items), ask
            lists, full, offered = lists + 1, full + (len(items) == ask.most), offered + len(items)
            modes[ask.mode] += bool(items)
    tell(combinations=lists, full_lists=full, items=offered, violations=0)
    assert lists >= 10_000
    assert full > lists / 4
    assert set(modes) == set(MODES)
    assert min(modes.values()) > 100
