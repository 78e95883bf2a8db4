"""Fitting the recommender: repeatable, blind to the future and to names, and good enough on real data."""

from dataclasses import replace
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest

from features.errors import UserError
from features.events.ingest import ingest
from features.events.sources import find_source
from features.events.store import Store
from models.recommender import AIMS, DAY_US, Aim, Past, Recommender, Shop
from models.recommender.model import WIDTH
from tests.features.support import NOW as CLOCK
from tests.features.support import ROOT, at
from tests.models.recommender.support import (
    HEADS_SMALL,
    NOW,
    RANKER_SMALL,
    Act,
    fitted,
    history_of,
    random_acts,
    rich_shop,
)
from training.acts import all_acts, later_in, shop_at
from training.cross_sell import lists_of, planned, recipe_of
from training.cross_sell_fit import (
    FALLBACK_BLENDS,
    Lesson,
    Rows,
    fit_ranker,
    fit_unranked,
    lesson,
    rows_of,
    searched_blends,
    spread,
    with_rankers,
)
from training.ranking import RankingScore, evaluate

USERS, ITEMS = 60, 40


@pytest.fixture(scope="module")
def shop() -> Shop:
    return rich_shop(61, ITEMS)


@pytest.fixture(scope="module")
def acts() -> list[Act]:
    return random_acts(61, USERS, ITEMS, 3_000, later=60)


@pytest.fixture(scope="module")
def taught(shop: Shop, acts: list[Act]) -> Lesson:
    history = history_of(acts, USERS)
    return lesson(fit_unranked(history.before(NOW), shop, NOW, HEADS_SMALL, {}, 1), history, 60)


@pytest.fixture(scope="module")
def expected(shop: Shop, acts: list[Act], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return saved(fitted(shop, history_of(acts, USERS)), tmp_path_factory.mktemp("expected"))


def saved(recommender: Recommender, folder: Path) -> dict[str, bytes]:
    recommender.save(folder)
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


# ---------------------------------------------------------------------------------------------------- laws


def test_same_seed_same_bytes(shop: Shop, acts: list[Act], expected: dict[str, bytes], tmp_path: Path) -> None:
    assert saved(fitted(shop, history_of(acts, USERS)), tmp_path / "same") == expected
    other = saved(fitted(shop, history_of(acts, USERS), seed=2), tmp_path / "other")
    assert other["head.similar_als.item_factors.npy"] != expected["head.similar_als.item_factors.npy"]
    assert other["head.similar_items.strength.npy"] == expected["head.similar_items.strength.npy"]


def test_names_of_users_and_the_order_of_rows_change_no_byte_of_heads_and_facts(
    shop: Shop, acts: list[Act], tmp_path: Path
) -> None:
    """Rankers learn from users spread over the rows, which follow the users' hashes in a store."""
    place = np.random.default_rng(1).permutation(USERS)
    order = np.random.default_rng(2).permutation(len(acts))
    moved = [acts[at_]._replace(user=int(place[acts[at_].user])) for at_ in order]
    names = [f"x{-row % 17}-{row}" for row in range(USERS)]
    first, second = (
        saved(fit_unranked(history.before(NOW), shop, NOW, HEADS_SMALL, {}, 1), tmp_path / str(number))
        for number, history in enumerate((history_of(acts, USERS), history_of(moved, USERS, names)))
    )
    assert first == second


def test_the_future_changes_no_byte(shop: Shop, acts: list[Act], expected: dict[str, bytes], tmp_path: Path) -> None:
    cut = [a for a in acts if a.ts < NOW]
    assert len(cut) < len(acts)
    assert saved(fitted(shop, history_of(cut, USERS)), tmp_path) == expected


# --------------------------------------------------------------------------------------------------- parts


def test_a_lesson_is_the_past_and_what_came_after(taught: Lesson, acts: list[Act]) -> None:
    assert taught.past.ts.max() < NOW
    after = {(a.user, a.item) for a in acts if a.kind == "purchase" and NOW <= a.ts < NOW + 60 * DAY_US}
    before = {(a.user, a.item) for a in acts if a.kind == "purchase" and a.ts < NOW}
    seen = {a.user for a in acts if a.ts < NOW}
    sold = {item for _, item in before}
    for aim in AIMS:
        new = aim == "new"
        found = {(user, int(item)) for user, items in taught.truth[aim].items() for item in items}
        assert found == {(u, i) for u, i in after if u in seen and i in sold and not (new and (u, i) in before)}


def test_users_are_spread_evenly_over_their_rows() -> None:
    truth = {row: np.array([row]) for row in range(0, 200, 2)}
    assert spread(truth, 100) == truth
    assert list(spread(truth, 5)) == [0, 48, 98, 148, 198]


def test_rows_are_the_candidates_with_every_hit_and_a_share_of_the_others(taught: Lesson) -> None:
    blends, _ = searched_blends([taught], RANKER_SMALL)
    every = rows_of(taught, blends, "new", replace(RANKER_SMALL, negatives=1.0), 1)
    some = rows_of(taught, blends, "new", RANKER_SMALL, 1)
    none = rows_of(taught, blends, "new", replace(RANKER_SMALL, negatives=0.0), 1)
    assert every is not None
    assert some is not None
    assert none is not None
    model, truth = taught.model.with_blends(blends), taught.truth["new"]
    past = Past.of(taught.past.some(list(truth)), NOW)
    may = np.ones((len(truth), ITEMS), np.bool_)
    may[past.bought.pair_user, past.bought.pair_item] = False
    found = model.candidates(past, "new", may, WIDTH)
    assert len(every.values) == len(found.user)
    hits = [
        item in truth[list(truth)[user]] for user, item in zip(found.user.tolist(), found.item.tolist(), strict=True)
    ]
    assert every.bought.tolist() == hits
    assert every.values.tobytes() == model.rows(found, every.names)[1].tobytes()
    assert none.bought.all()
    assert some.bought.sum() == none.bought.sum() == sum(hits) > 50
    share = (~some.bought).sum() / (~every.bought).sum()
    assert share == pytest.approx(RANKER_SMALL.negatives, abs=0.05)
    assert not {"own_times", "repeat_score"} & {
        n for n, v in zip(every.names, every.values.T, strict=True) if (v > 0).any()
    }


def test_too_few_users_teach_nothing(taught: Lesson) -> None:
    demanding = replace(RANKER_SMALL, users_least=10_000)
    assert rows_of(taught, FALLBACK_BLENDS, "all", demanding, 1) is None
    assert searched_blends([taught], demanding) == (dict(FALLBACK_BLENDS), {})
    assert searched_blends([], RANKER_SMALL) == (dict(FALLBACK_BLENDS), {})
    model = with_rankers(taught.model, FALLBACK_BLENDS, {"all": [], "new": []}, RANKER_SMALL, 1)
    assert model.rankers == {}


def test_a_ranker_is_lightgbm_on_the_columns_that_all_moments_have(taught: Lesson) -> None:
    rows = rows_of(taught, FALLBACK_BLENDS, "all", RANKER_SMALL, 1)
    assert rows is not None
    fewer = replace_names(rows, rows.names[::-1][:-3])
    ranker = fit_ranker([rows, fewer], RANKER_SMALL, 1)
    assert ranker.names == rows.names[3:]
    booster = lgb.Booster(model_str=ranker.text)
    assert booster.num_feature() == len(rows.names) - 3
    assert booster.num_trees() == RANKER_SMALL.rounds
    given = np.ascontiguousarray(rows.values[:, 3:])
    margin = np.asarray(booster.predict(given, raw_score=True))
    assert ranker.scores(given) == pytest.approx(1 / (1 + np.exp(-margin)))
    assert ranker.scores(given)[rows.bought].mean() > ranker.scores(given)[~rows.bought].mean()
    assert fit_ranker([rows, fewer], RANKER_SMALL, 1).text == ranker.text
    assert len(ranker.scores(given[:0])) == 0


def replace_names(rows: Rows, names: tuple[str, ...]) -> Rows:
    """The rows with some of their columns, in another order."""
    place = [rows.names.index(name) for name in names]
    return replace(rows, names=names, values=rows.values[:, place])


def test_recipes_say_what_may_be_set() -> None:
    plan = planned(recipe_of())
    assert set(plan.scenes) == {"commute", "home", "gift"}
    recipe = {
        **recipe_of(),
        "settings": {"als_factors": 8},
        "ranker": {"moments": 3},
        "scenes": {"sale": {"again": 2.0}},
    }
    own = planned(recipe)
    assert (own.heads.als_factors, own.ranker.moments, own.scenes["sale"].again) == (8, 3, 2.0)
    bad: list[tuple[str, dict[str, object], str]] = [
        ("settings", {"factors": 8}, r"settings.factors; \[settings\] may set repeat_half_life"),
        ("ranker", {"month": 3}, r"ranker.month; \[ranker\] may set moments"),
        ("scenes", {"sale": {"prize": 1}}, "scenes.sale sets prize; a scene may set price_at_most"),
        ("scenes", {"sale": {"weights": {"magic": 1}}}, "scenes.sale.weights names the head magic; there are repeat"),
    ]
    for table, values, message in bad:
        with pytest.raises(UserError, match=message):
            planned({**recipe_of(), table: values})


# ----------------------------------------------------------------------------------------------- real data


@pytest.fixture(scope="module")
def retail(online_retail: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONLINE_RETAIL_PARQUET", str(online_retail))
        source = find_source(ROOT / "sources" / "online_retail")
        store = ingest(source, tmp_path_factory.mktemp("retail") / "store", now=CLOCK).store
    assert store is not None
    return store


@pytest.mark.slow
def test_online_retail_next_30_days(retail: Store, tell) -> None:
    """At a moment used for choosing, 2011-10-10: the shipped settings with fewer moments to learn from."""
    moment = at("2011-10-10")
    plan = planned(recipe_of())
    settings = replace(plan.ranker, moments=4)
    acts, texts = all_acts(retail, moment + 30 * DAY_US)
    lessons = []
    for step in range(settings.moments + 1):
        as_of = moment - step * 30 * DAY_US
        shop, past = shop_at(retail, acts, texts, as_of)
        model = fit_unranked(past, shop, as_of, plan.heads, plan.scenes, plan.seed)
        lessons.append(lesson(model, later_in(acts, shop, texts), 30))
    now, *earlier = lessons
    blends, _ = searched_blends(earlier, settings)
    rows = {
        aim: [found for one in earlier if (found := rows_of(one, blends, aim, settings, 1)) is not None] for aim in AIMS
    }
    model = with_rankers(now.model, blends, rows, settings, 1)
    reached = {aim: scored(model, now, aim) for aim in AIMS}
    tell(**{f"{aim}_{name}": getattr(reached[aim], name) for aim in AIMS for name in ("users", "recall", "ndcg")})
    assert reached["all"].users > 1_000
    for aim, (recall, ndcg) in FLOORS.items():
        assert reached[aim].recall >= recall
        assert reached[aim].ndcg >= ndcg
        blend = scored(model.with_blends(blends), now, aim)
        assert reached[aim].recall + reached[aim].ndcg > blend.recall + blend.ndcg


FLOORS: dict[Aim, tuple[float, float]] = {"all": (0.247, 0.328), "new": (0.124, 0.131)}  # measured: .257 .340 .134 .142


def scored(model: Recommender, one: Lesson, aim: Aim) -> RankingScore:
    return evaluate(lists_of(model, one, aim), one.truth[aim])
