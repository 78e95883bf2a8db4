"""The search for a blend: it maximises what the blend then earns, and two searches find the same."""

import numpy as np
import pytest

from models.recommender import AIMS, Aim, Blend, Past, loops
from tests.models.recommender.support import HEADS_SMALL, NOW, history_of, random_acts, rich_shop
from training.blend_search import DEMANDS, WEIGHTS, heads_of, pool, search
from training.cross_sell_fit import Lesson, fit_unranked, lesson
from training.ranking import figures_by_user

USERS, ITEMS = 60, 40


@pytest.fixture(scope="module")
def taught() -> Lesson:
    acts = history_of(random_acts(51, USERS, ITEMS, 4_000, later=60), USERS)
    return lesson(fit_unranked(acts.before(NOW), rich_shop(51, ITEMS), NOW, HEADS_SMALL, {}, 1), acts, 60)


def earned(taught: Lesson, aim: Aim, blend: Blend) -> float:
    """Recall@20 + NDCG@20 of the lists that the recommender's own blend makes of what is new to the user, or of all."""
    users = list(taught.truth[aim])
    model = taught.model.with_blends({aim: blend})
    past = Past.of(taught.past.some(users), taught.as_of)
    may = np.ones((len(users), ITEMS), np.bool_)
    if aim == "new":
        may[past.bought.pair_user, past.bought.pair_item] = False
    scores = {name: values * may for name, values in model.scores(past).items()}
    top = loops.top(model.blended(scores, aim), may, 20)
    lists = {user: [code for code in codes if code >= 0] for user, codes in zip(users, top.tolist(), strict=True)}
    return float(figures_by_user(lists, taught.truth[aim]).sum(axis=1).mean())


@pytest.mark.parametrize("aim", AIMS)
def test_what_the_search_maximises_is_what_the_blend_earns(taught: Lesson, aim: Aim) -> None:
    found = pool(taught.model, taught.past, taught.as_of, taught.truth[aim], aim)
    blend, reached = search([found], aim)
    assert reached == pytest.approx(earned(taught, aim, blend), abs=1e-3)
    names = heads_of(aim)
    random = np.random.default_rng(1)
    for _ in range(20):
        weights = random.choice(WEIGHTS[1:], len(names))
        root, demand = bool(random.random() < 0.5), float(random.choice(DEMANDS))
        other = Blend(dict(zip(names, weights.tolist(), strict=True)), root, demand)
        value = found.objective(weights.astype(np.float32), root, demand)
        assert value == pytest.approx(earned(taught, aim, other), abs=1e-3)
        assert value <= reached + 0.02  # a coordinate ascent is not perfect, but no dart beats it by much


@pytest.mark.parametrize("aim", AIMS)
def test_the_blend_beats_every_head_of_its_own(taught: Lesson, aim: Aim) -> None:
    blend, reached = search([pool(taught.model, taught.past, taught.as_of, taught.truth[aim], aim)], aim)
    for name in heads_of(aim):
        assert earned(taught, aim, Blend({name: 1.0, "popular": 1e-4})) <= reached + 1e-6
    assert max(blend.weights.values()) == 1
    assert blend.weights["popular"] > 0  # or lists would run out
    assert "repeat" not in blend.weights or aim == "all"


def test_two_searches_find_the_same(taught: Lesson) -> None:
    first, second = (
        search([pool(taught.model, taught.past, taught.as_of, taught.truth["all"], "all")], "all") for _ in range(2)
    )
    assert first == second
