"""Fit a recommender at a moment: heads on its past, blend and ranker on what users of earlier moments bought next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from models.recommender import AIMS, Aim, Blend, History, Past, Recommender, Shop
from models.recommender.model import BLOCK, WIDTH
from models.recommender.ranker import Ranker
from models.recommender.scenes import Scene
from training.blend_search import Pool, pool, search
from training.heads_fit import HeadSettings, count_items, fit_heads
from training.ranking import Truth, next_purchases

FALLBACK_BLENDS: Mapping[Aim, Blend] = {
    "all": Blend(
        {"repeat": 1.0, "complement": 0.1, "session": 0.3, "similar_items": 0.2, "taste": 0.1, "similar_als": 0.1}
        | {"popular": 0.05},
        demand=0.125,
    ),
    "new": Blend(
        {"complement": 0.3, "session": 0.5, "similar_items": 0.6, "taste": 0.2, "similar_als": 1.0, "popular": 0.1},
        demand=0.125,
    ),
}
"""Where the log is too short to search: near what the search finds on retail logs."""


@dataclass(frozen=True)
class RankerSettings:
    """What can be set of the ranker. Defaults were chosen on moments before those that are reported.

    moments: earlier moments learned from, at most, a horizon apart. users: of each, at most, evenly spread.
    users_least: a moment with fewer who buy again is skipped. negatives: share of the candidates not bought that are
    learned from. search_moments, search_users: on which the blend is searched. booster: LightGBM's parameters.
    """

    moments: int = 12
    users: int = 2000
    users_least: int = 20
    negatives: float = 0.4
    search_moments: int = 2
    search_users: int = 300
    rounds: int = 120
    booster: Mapping[str, Any] = field(
        default_factory=lambda: {
            "objective": "rank_xendcg",
            "num_leaves": 31,
            "learning_rate": 0.1,
            "min_data_in_leaf": 100,
            "feature_fraction": 0.4,
            "bagging_fraction": 0.7,
            "bagging_freq": 1,
            "lambda_l2": 10.0,
            "max_bin": 127,
        }
    )


@dataclass(frozen=True)
class Lesson:
    """A past moment (µs) with heads fitted on what was known then, and what its users bought within the horizon.

    past: the acts before the moment, in the codes of the model's catalogue.
    """

    as_of: int
    model: Recommender
    past: History
    truth: Mapping[Aim, Truth]


@dataclass(frozen=True)
class Rows:
    """Candidates to learn from, user after user: names of the columns, float32[rows, names], which were bought, and how
    many rows each user has."""

    names: tuple[str, ...]
    values: NDArray[np.float32]
    bought: NDArray[np.bool_]
    users: NDArray[np.int64]


def fit_unranked(
    past: History, shop: Shop, as_of: int, settings: HeadSettings, scenes: Mapping[str, Scene], seed: int
) -> Recommender:
    """Heads and facts at a moment (µs), under the stated blend."""
    heads = fit_heads(past, shop, as_of, settings, seed)
    repeat = heads["repeat"]
    table = count_items(past, shop, as_of, repeat)  # type: ignore[arg-type]
    return Recommender(shop, as_of, heads, table, FALLBACK_BLENDS, {}, scenes)


def lesson(model: Recommender, acts: History, horizon_days: int) -> Lesson:
    """What the users of a moment bought next. acts: past and to come, in the codes of the model's catalogue."""
    truth = {aim: next_purchases(acts, model.as_of, horizon_days, aim) for aim in AIMS}
    return Lesson(model.as_of, model, acts.before(model.as_of), truth)


def spread(truth: Truth, most: int) -> Truth:
    """At most so many users, evenly spread over the order of their rows."""
    if len(truth) <= most:
        return truth
    rows = list(truth)
    return {rows[place]: truth[rows[place]] for place in np.linspace(0, len(rows) - 1, most).astype(int).tolist()}


def searched_blends(lessons: Sequence[Lesson], settings: RankerSettings) -> tuple[dict[Aim, Blend], dict[str, Any]]:
    """The blend of each aim that did best on past moments, and how well; the stated ones without a moment."""
    blends, facts = dict(FALLBACK_BLENDS), dict[str, Any]()
    for aim in AIMS:
        taught = [one for one in lessons if len(one.truth[aim]) >= settings.users_least]
        if taught:
            pools = [_pool(one, aim, settings) for one in taught[: settings.search_moments]]
            blends[aim], reached = search(pools, aim)
            facts[aim] = {"recall_plus_ndcg": reached, "users": [len(one.wanted) for one in pools]}
    return blends, facts


def _pool(one: Lesson, aim: Aim, settings: RankerSettings) -> Pool:
    return pool(one.model, one.past, one.as_of, spread(one.truth[aim], settings.search_users), aim)


def rows_of(one: Lesson, blends: Mapping[Aim, Blend], aim: Aim, settings: RankerSettings, seed: int) -> Rows | None:
    """Candidates of a moment's users with what the ranker reads of them; None where too few users bought."""
    truth = spread(one.truth[aim], settings.users)
    if len(truth) < settings.users_least:
        return None
    model = one.model.with_blends(blends)
    users, random = list(truth), np.random.default_rng([seed, AIMS.index(aim)])
    names: tuple[str, ...] | None = None
    values, bought, sizes = [], [], []
    for begin in range(0, len(users), BLOCK):
        chosen = users[begin : begin + BLOCK]
        past = Past.of(one.past.some(chosen), one.as_of)
        may = np.ones((len(chosen), len(model.catalogue)), np.bool_)
        if aim == "new":
            may[past.bought.pair_user, past.bought.pair_item] = False
        found = model.candidates(past, aim, may, WIDTH)
        hit = np.zeros(len(found.user), np.bool_)
        for row, user in enumerate(chosen):
            mine = found.user == row
            hit[mine] = np.isin(found.item[mine], truth[user])
        names, rows = model.rows(found, names)
        kept = hit | (random.random(len(hit)) < settings.negatives)
        values.append(rows[kept])
        bought.append(hit[kept])
        sizes.append(np.bincount(found.user[kept], minlength=len(chosen)))
    assert names is not None
    return Rows(names, *(np.concatenate(parts) for parts in (values, bought, sizes)))


def fit_ranker(taught: Sequence[Rows], settings: RankerSettings, seed: int) -> Ranker:
    """A booster that puts bought candidates before others in each user's list, over all moments.

    Bruch, An Alternative Cross Entropy Loss for Learning-to-Rank (2021). On moments used for choosing it was a little
    ahead of telling bought from not bought row by row, and as good as LambdaMART in half the time.
    """
    names = tuple(name for name in taught[0].names if all(name in rows.names for rows in taught))
    places = [[rows.names.index(name) for name in names] for rows in taught]
    values = np.concatenate([rows.values[:, place] for rows, place in zip(taught, places, strict=True)])
    bought = np.concatenate([rows.bought for rows in taught])
    fixed = {"num_threads": 1, "deterministic": True, "seed": seed, "verbose": -1}
    parameters = {**settings.booster, **fixed}
    users = np.concatenate([rows.users for rows in taught])
    data = lgb.Dataset(values, bought.astype(np.int8), group=users[users > 0], params=parameters)
    booster = lgb.train(parameters, data, settings.rounds)
    return Ranker(names, booster.model_to_string())


def with_rankers(
    model: Recommender,
    blends: Mapping[Aim, Blend],
    rows: Mapping[Aim, Sequence[Rows]],
    settings: RankerSettings,
    seed: int,
) -> Recommender:
    """The model with blends, and with a ranker for each aim that some moment has taught."""
    rankers = {aim: fit_ranker(taught, settings, seed) for aim, taught in rows.items() if taught}
    return replace(model, blends=blends, rankers=rankers)
