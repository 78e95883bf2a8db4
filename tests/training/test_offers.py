"""The figures of a recommender's lists: against naive recounts, and the model against itself without a head."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import log2

import numpy as np
import pyarrow as pa
import pytest

from features.events.intake import hash_text
from features.events.store import Store
from models.recommender import AIMS, Aim, Ask, Past
from models.recommender.history import PURCHASE
from tests.shop import trained_cross_sell
from training import offers
from training.cross_sell import BLEND, MODE_OF, MODEL, CrossSellRun, K, MomentResult, ranker_gains, without_rankers
from training.offers import AIM, GROUPS, ORDERS, WANTED, Offers, compare, judged, summarised
from training.paired import MOMENT, USER
from training.ranking import ndcg_at_k, recall_at_k
from training.withheld import RULES, lists_without

Tell = Callable[..., None]


@pytest.fixture(scope="module")
def found(cross_sell_run: CrossSellRun) -> Offers:
    return judged(cross_sell_run)


@pytest.fixture
def newest(cross_sell_run: CrossSellRun) -> MomentResult:
    return cross_sell_run.backtest[0]


# ------------------------------------------------------------------------------------------------ figures by user


def test_each_users_figures_are_those_of_their_list(found: Offers, newest: MomentResult, tell: Tell) -> None:
    rows = {(row[AIM], row[USER]): row for row in found.table.to_pylist()}
    past, cells = newest.taught.past, 0
    for aim in AIMS:
        for user, wanted in newest.taught.truth[aim].items():
            row = rows[aim, hash_text(str(past.user_ids[user]))]
            mine = past.some([user])
            orders = {order for order, kind in zip(mine.order, mine.kind, strict=True) if kind == PURCHASE}
            assert (row[ORDERS], row[WANTED], row[MOMENT]) == (len(orders), len(wanted), newest.as_of)
            for name, lists in newest.lists[aim].items():
                items = lists.get(user, [])
                assert row[f"recall: {name}"] == recall_at_k(items, wanted, K)
                assert row[f"ndcg: {name}"] == ndcg_at_k(items, wanted, K)
                cells += 1
    assert len(rows) == sum(len(truth) for truth in newest.taught.truth.values())
    tell(users_and_contenders=cells)


def test_the_table_names_nobody(found: Offers) -> None:
    kinds = {str(found.table.schema.field(name).type) for name in found.table.column_names if name != AIM}
    assert kinds <= {"int64", "uint64", "double"}
    assert set(found.table[AIM].to_pylist()) == set(AIMS)


def test_means_are_those_of_the_backtest_and_lie_in_their_intervals(found: Offers, newest: MomentResult) -> None:
    for aim in AIMS:
        figures = found.figures[aim]
        assert set(figures.figures) == set(newest.scores[aim])
        for name, score in newest.scores[aim].items():
            for figure in offers.FIGURES:
                interval = figures.figures[name][figure]
                assert interval.value == pytest.approx(getattr(score, figure))
                assert interval.low <= interval.value <= interval.high
                wide = getattr(score, f"{figure}_se")  # from other resamples
                assert interval.high - interval.low == pytest.approx(3.92 * wide, rel=0.25, abs=1e-9)
                if name != MODEL:
                    ours = figures.figures[MODEL][figure].value
                    assert figures.margins[name][figure].value == pytest.approx(ours - interval.value)


def table(
    recall: Mapping[str, list[float]], *, aim: Aim = "all", moment: int = 0, wanted: list[int] | None = None
) -> pa.Table:
    """Figures by user, made up; NDCG half of the recall. Users are 1, 2, 3 …"""
    users = len(next(iter(recall.values())))
    both = {f"{f}: {name}": np.array(v) * s for f, s in (("recall", 1), ("ndcg", 0.5)) for name, v in recall.items()}
    return pa.table(
        {
            MOMENT: np.full(users, moment, np.int64),
            AIM: [aim] * users,
            USER: np.arange(1, users + 1).astype(np.uint64),
            ORDERS: np.full(users, 5, np.int64),
            WANTED: np.array(wanted or [1] * users, np.int64),
            **both,
        }
    )


def both_aims(recall: Mapping[str, list[float]], wanted: list[int] | None = None) -> pa.Table:
    recall = {f"without {RULES}": recall[MODEL], **recall}
    return pa.concat_tables([table(recall, aim=aim, wanted=wanted) for aim in AIMS])


def test_margins_are_paired_by_user() -> None:
    """Users differ widely, the model is ahead by the same with each: the margin is certain, the figures are not."""
    base = np.linspace(0, 0.8, 60).tolist()
    figures = summarised(both_aims({MODEL: [one + 0.1 for one in base], BLEND: base, "repeat": base}))["all"]
    margin = figures.margins[BLEND]["recall"]
    assert (margin.low, margin.value, margin.high) == pytest.approx((0.1, 0.1, 0.1))
    assert figures.figures[MODEL]["recall"].high - figures.figures[MODEL]["recall"].low > 0.08


def test_what_a_head_is_worth_counts_only_users_who_were_asked() -> None:
    nan = float("nan")
    recall = {MODEL: [0.5, 0.5, 1.0, 0.0], BLEND: [0.0] * 4, "repeat": [0.0] * 4, "popular": [0.0] * 4}
    recall |= {"without repeat": [0.0, 0.5, nan, nan], "without popular": [nan] * 4}
    figures = summarised(both_aims(recall, wanted=[4, 2, 1, 1]))["new"]
    assert figures.worth["repeat"]["recall"].value == pytest.approx(0.25)
    assert figures.worth["repeat"]["ndcg"].value == pytest.approx(0.125)
    assert figures.hits_lost["repeat"] == pytest.approx(2 / 3)  # 2 of the 3 hits of the two users
    assert set(figures.worth) == {"repeat"}


def test_groups_part_the_users(found: Offers) -> None:
    for aim in AIMS:
        figures = found.figures[aim]
        sizes = {name: group.users for name, group in figures.groups.items()}
        assert sum(sizes.values()) == figures.users
        for name in (MODEL, BLEND):
            parts = [sizes[group] * of.figures[name]["recall"].value for group, of in figures.groups.items()]
            assert sum(parts) / figures.users == pytest.approx(figures.figures[name]["recall"].value)
    assert [offers.group_of(orders) for orders in (0, 1, 2, 3, 9, 10, 500)] == [
        "no order", "cold", "cold", "warm", "warm", "heavy", "heavy",
    ]  # fmt: skip
    assert list(GROUPS) == ["no order", "cold", "warm", "heavy"]


def test_only_users_and_moments_that_both_were_asked_at_are_compared() -> None:
    ours = pa.concat_tables([table({"a": [0.9, 0.9]}, moment=1), table({"a": [0.5, 0.2]}, moment=2)])
    theirs = pa.concat_tables([table({"b": [0.0]}, moment=3), table({"b": [0.4]}, moment=2)])
    found = compare(ours, "a", theirs, "b", "all")
    assert found is not None
    assert (found.ours, found.theirs, found.users, found.moments) == (0.5, 0.4, 1, 1)
    assert found.difference.value == pytest.approx(0.1)
    assert compare(ours, "a", theirs, "b", "new") is None


# --------------------------------------------------------------------------------------------- without a head


@pytest.mark.parametrize("ranked", [True, False])
@pytest.mark.parametrize("aim", AIMS)
def test_without_a_head_is_what_the_model_answers_with_that_weight_at_0(
    newest: MomentResult, aim: Aim, ranked: bool
) -> None:
    users = list(newest.taught.truth[aim])[:25]
    past, blend = newest.taught.past.some(users), newest.model.blends[aim]
    model = newest.model if ranked else newest.model.with_blends(newest.model.blends)
    whole = [[pick.item for pick in picks] for picks in model.recommend(past, newest.as_of, Ask(MODE_OF[aim], K))]
    found = lists_without(model, newest.taught, aim, users)
    assert set(found) == {*blend.heads, RULES}
    moved = 0
    for head in blend.heads:
        reduced = replace(blend, weights={**blend.weights, head: 0.0})
        if not reduced.heads:
            continue
        other = model.with_blends({**model.blends, aim: reduced}, model.rankers)
        answers = other.recommend(past, newest.as_of, Ask(MODE_OF[aim], K))
        for user, picks, before in zip(users, answers, whole, strict=True):
            served = [pick.item for pick in picks]
            assert served[: len(found[head][user])] == found[head][user]
            moved += found[head][user] != before
    assert moved or ranked  # a ranker sees all of so small a shop, whoever puts it forward


def test_without_rules_new_items_are_still_new(newest: MomentResult) -> None:
    users = list(newest.taught.truth["new"])[:25]
    found = lists_without(newest.model, newest.taught, "new", users)[RULES]
    for user in users:
        bought = Past.of(newest.taught.past.some([user]), newest.as_of).bought
        assert not set(found[user]) & set(bought.pair_item.tolist())


# --------------------------------------------------------------------------------------------- beyond accuracy


def test_beyond_accuracy_is_as_counted_one_by_one(newest: MomentResult) -> None:
    past = newest.taught.past
    lines = [
        (user, item, (newest.as_of - ts) / 86_400e6)
        for user, item, ts, kind in zip(
            past.users.tolist(), past.item.tolist(), past.ts.tolist(), past.kind, strict=True
        )
        if kind == PURCHASE
    ]
    shoppers = len({user for user, _, _ in lines})
    items = range(len(newest.model.catalogue))
    buyers = {item: len({user for user, one, _ in lines if one == item}) for item in items}
    lately = {item: len({user for user, one, age in lines if one == item and age < 90}) for item in items}
    rank = {
        item: (sum(n < lately[item] for n in lately.values()) + sum(n <= lately[item] for n in lately.values())) / 2
        for item in items
    }
    for aim in AIMS:
        wanted = [np.mean([rank[item] for item in items]) for items in newest.taught.truth[aim].values()]
        for name, of in offers.beyond(newest, aim).items():
            lists = [list(shown) for shown in newest.lists[aim][name].values() if len(shown)]
            everything = {item for shown in lists for item in shown}
            sold = {item for item, n in lately.items() if n}
            assert of["coverage_catalogue"] == pytest.approx(len(everything) / len(items))
            assert of["coverage_sold"] == pytest.approx(len(everything & sold) / len(sold))
            assert of["popularity_bought"] == pytest.approx(np.mean(wanted) / len(items))
            if lists:
                surprise = [np.mean([-log2(max(buyers[item], 1) / shoppers) for item in shown]) for shown in lists]
                assert of["novelty"] == pytest.approx(np.mean(surprise))
                popular = [np.mean([rank[item] for item in shown]) for shown in lists]
                assert of["popularity_offered"] == pytest.approx(np.mean(popular) / len(items))


def test_categories_that_hits_open_are_counted_against_what_was_bought(newest: MomentResult) -> None:
    """Ten items a category; nobody's list can open what they had, nor more than it shows."""
    attributes = newest.model.shop.attributes
    code = (np.arange(len(newest.model.catalogue)) // 10).astype(np.int32)
    named = replace(attributes, categories=tuple(f"c{n}" for n in range(code.max() + 1)), category=code)
    model = replace(newest.model, shop=replace(newest.model.shop, attributes=named))
    found = offers.beyond(replace(newest, model=model), "new")[MODEL]
    truth, gained, offered, had = newest.taught.truth["new"], [], [], []
    for user, wanted in truth.items():
        mine = newest.taught.past.some([user]).purchases().item
        known = {int(item) // 10 for item in mine}
        shown = set(newest.lists["new"][MODEL][user])
        had.append(len(known))
        offered.append(len({item // 10 for item in shown} - known))
        gained.append(len({item // 10 for item in shown & set(wanted.tolist())} - known))
    assert found["categories_before"] == pytest.approx(np.mean(had))
    assert found["categories_offered"] == pytest.approx(np.mean(offered))
    assert found["categories_gained"] == pytest.approx(np.mean(gained))
    assert 0 < np.mean(gained) < np.mean(offered)
    assert "categories_gained" not in offers.beyond(newest, "new")[MODEL]


def test_the_modes_say_which_head_speaks(found: Offers) -> None:
    assert found.modes["repeat"].share_of_shown == {"repeat": 1.0}
    assert "repeat" not in found.modes["cross_sell"].share_of_shown
    for spoken in found.modes.values():
        if spoken.shown:
            assert sum(spoken.share_of_shown.values()) == pytest.approx(1)
        assert spoken.hits <= spoken.shown <= spoken.users * K


# ------------------------------------------------------------------------------------------- does the ranker ship


def test_a_ranker_ships_only_if_it_beat_the_blend(cross_sell_run: CrossSellRun) -> None:
    facts = cross_sell_run.model.facts
    for aim in AIMS:
        gain = facts["ranker_gains"].get(aim, 0.0)
        assert (aim in cross_sell_run.model.rankers) == (gain > 0) == (aim not in facts["rankers_dropped"])


def test_a_ranker_that_knows_nothing_is_dropped_and_the_blend_is_judged(shop: Store) -> None:
    """One split of one tree ties nearly all candidates: their order is then that of their ids."""
    ranker = {"moments": 2, "rounds": 1, "search_moments": 1, "search_users": 60, "booster": {"num_leaves": 2}}
    run = trained_cross_sell(shop, ranker=ranker)
    assert run.model.facts["rankers_dropped"] == list(AIMS)
    assert all(gain < 0 for gain in run.model.facts["ranker_gains"].values())
    assert run.model.rankers == {}
    for result in run.backtest:
        assert result.model.rankers == {}
        for aim in AIMS:
            assert result.lists[aim][MODEL] == result.lists[aim][BLEND]
            assert result.scores[aim][MODEL] == result.scores[aim][BLEND]


def test_gains_are_those_of_ranked_over_blended_lists(newest: MomentResult) -> None:
    assert ranker_gains([without_rankers(newest, AIMS)]) == {}
    assert without_rankers(newest, []) is newest
    if not newest.model.rankers:
        pytest.skip("no ranker ships for the test shop")
    for aim, gain in ranker_gains([newest, newest]).items():
        ours, blend = newest.scores[aim][MODEL], newest.scores[aim][BLEND]
        assert gain == pytest.approx(ours.recall + ours.ndcg - blend.recall - blend.ndcg)
