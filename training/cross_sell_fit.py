"""Fit a recommender: its heads on what is known at a moment, its blends on earlier moments."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import ItemItemRecommender, bm25_weight, normalize, tfidf_weight
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from models.recommender import DAY_US, MODES, Blend, Catalogue, History, Mode, Recommender
from models.recommender.popular import Popular
from models.recommender.purchases import decay
from models.recommender.repeat import Repeat
from models.recommender.similar_als import SimilarAls
from models.recommender.similar_items import SimilarItems
from training.blend_search import candidates, search
from training.ranking import Truth, evaluate, next_purchases

WEIGHTINGS = ("bm25", "tfidf")
FALLBACK_WEIGHTING = "tfidf"
FALLBACK_BLENDS: dict[Mode, Blend] = {
    "all": Blend({"repeat": 1.0, "similar_als": 0.1, "similar_items": 0.2, "popular": 0.05}, demand=0.125),
    "cross_sell": Blend({"similar_als": 1.0, "similar_items": 0.6, "popular": 0.1}, demand=0.125),
}
"""Where the log is too short to search: near what the search finds on retail logs."""


@dataclass(frozen=True)
class CrossSellSettings:
    """What can be set. Defaults were chosen on moments before those that are reported.

    als_alpha, als_regularization: as in implicit. Half-lives in days. neighbours: kept per item.
    weightings: tried for the item-item head; the better on the earlier moments stays.
    validation_moments: how many, one horizon apart, the last one horizon before the moment of training.
    validation_users: at most so many per moment, evenly spread. validation_users_least: a moment with fewer is skipped.
    """

    horizon_days: int = 30
    repeat_half_life: float = 120.0
    als_factors: int = 64
    als_iterations: int = 15
    als_alpha: float = 3.0
    als_regularization: float = 1.0
    als_half_life: float = 60.0
    neighbours: int = 200
    neighbours_half_life: float = 60.0
    weightings: tuple[str, ...] = WEIGHTINGS
    popular_days: int = 30
    validation_moments: int = 2
    validation_users: int = 1000
    validation_users_least: int = 20


def fit_recommender(
    history: History,
    catalogue: Catalogue,
    as_of: int,
    settings: CrossSellSettings,
    seed: int,
    progress: Callable[[str], None] = lambda step: None,
) -> Recommender:
    """The recommender at a moment (µs), from nothing at or after it.

    Blends and the item-item weighting are chosen on earlier moments whose outcomes end at or before `as_of`. Same
    history, settings and seed give the same model to the byte, whatever the users are called and in whatever order
    they come. Raises ValueError when nothing was bought before the moment.
    """
    history = _canonical(history.before(as_of))
    if not len(history.item):
        raise ValueError("no purchase before the moment of training; choose a later one")
    with threadpool_limits(1, "blas"):  # implicit asks for it (its own threads run beside), and it fixes the sums
        earlier = _validations(history, catalogue, as_of, settings, seed, progress)
        weighting, weighting_facts = _chosen_weighting(earlier, settings)
        blends, blend_facts = _chosen_blends(earlier, weighting)
        progress("fitting heads on the whole past")
        heads = _heads(history, catalogue, as_of, settings, weighting, seed)
    facts = {
        "settings": {**asdict(settings), "weightings": list(settings.weightings)},
        "seed": seed,
        "validation_moments": [str(np.datetime64(validation.as_of, "us")) for validation in earlier],
        "weighting": weighting_facts,
        "blends": blend_facts,
    }
    return Recommender(catalogue, as_of, *heads, blends, facts)


Heads = tuple[Repeat, SimilarAls, SimilarItems, Popular]


@dataclass(frozen=True)
class _Validation:
    as_of: int
    past: History
    truth: dict[Mode, Truth]
    recommenders: dict[str, Recommender]


def _validations(
    history: History,
    catalogue: Catalogue,
    as_of: int,
    settings: CrossSellSettings,
    seed: int,
    progress: Callable[[str], None],
) -> list[_Validation]:
    found = []
    for step in range(1, settings.validation_moments + 1):
        moment = as_of - step * settings.horizon_days * DAY_US
        truth = {
            mode: _spread(next_purchases(history, moment, settings.horizon_days, mode), settings.validation_users)
            for mode in MODES
        }
        if min(map(len, truth.values())) < settings.validation_users_least:
            continue
        progress(f"fitting heads at {np.datetime64(moment, 'us')}")
        past = history.before(moment)
        als = fit_als(past, catalogue, moment, settings, seed)
        recommenders = {
            weighting: Recommender(
                catalogue,
                moment,
                Repeat(len(catalogue), settings.repeat_half_life),
                als,
                fit_items(past, catalogue, moment, settings, weighting),
                count_popular(past, catalogue, moment, settings.popular_days),
                FALLBACK_BLENDS,
            )
            for weighting in settings.weightings
        }
        found.append(_Validation(moment, past, truth, recommenders))
    return found


def _chosen_weighting(earlier: Sequence[_Validation], settings: CrossSellSettings) -> tuple[str, dict[str, float]]:
    """The item-item weighting whose head alone does best at finding new items, and what each reached."""
    if not earlier or len(settings.weightings) == 1:
        return (settings.weightings[0] if len(settings.weightings) == 1 else FALLBACK_WEIGHTING), {}
    reached = {
        weighting: float(np.mean([_alone(validation, weighting) for validation in earlier]))
        for weighting in settings.weightings
    }
    return max(settings.weightings, key=lambda weighting: reached[weighting]), reached


def _alone(validation: _Validation, weighting: str) -> float:
    alone = validation.recommenders[weighting].only("similar_items")

    def codes(row: int) -> list[int]:
        items, ts = validation.past.user(row)
        return [pick.item for pick in alone.recommend(items, ts, validation.as_of, mode="cross_sell")]

    truth = validation.truth["cross_sell"]
    score = evaluate(codes, list(truth), truth, resamples=1)
    return score.recall + score.ndcg


def _chosen_blends(earlier: Sequence[_Validation], weighting: str) -> tuple[dict[Mode, Blend], dict[str, Any]]:
    if not earlier:
        return dict(FALLBACK_BLENDS), {}
    blends: dict[Mode, Blend] = {}
    facts: dict[str, Any] = {}
    for mode in MODES:
        tables = [
            candidates(one.recommenders[weighting], one.past, one.as_of, one.truth[mode], mode) for one in earlier
        ]
        blends[mode], objective = search(tables, mode)
        facts[mode] = {"recall_plus_ndcg": objective, "users": [len(one.truth[mode]) for one in earlier]}
    return blends, facts


def _heads(
    past: History, catalogue: Catalogue, as_of: int, settings: CrossSellSettings, weighting: str, seed: int
) -> Heads:
    return (
        Repeat(len(catalogue), settings.repeat_half_life),
        fit_als(past, catalogue, as_of, settings, seed),
        fit_items(past, catalogue, as_of, settings, weighting),
        count_popular(past, catalogue, as_of, settings.popular_days),
    )


def fit_als(past: History, catalogue: Catalogue, as_of: int, settings: CrossSellSettings, seed: int) -> SimilarAls:
    """Item factors of implicit's ALS; its user factors are dropped, every user is folded in when asked about."""
    model = AlternatingLeastSquares(
        factors=settings.als_factors,
        regularization=settings.als_regularization,
        alpha=settings.als_alpha,
        iterations=settings.als_iterations,
        random_state=seed,
    )
    model.fit(_matrix(past, catalogue, as_of, settings.als_half_life).astype(np.float32), show_progress=False)
    factors: NDArray[np.float32] = np.asarray(model.item_factors, np.float32)
    exact = factors.astype(np.float64)
    return SimilarAls(
        np.ascontiguousarray(factors.T),
        exact.T @ exact,
        settings.als_alpha,
        settings.als_regularization,
        settings.als_half_life,
    )


def fit_items(
    past: History, catalogue: Catalogue, as_of: int, settings: CrossSellSettings, weighting: str
) -> SimilarItems:
    """Nearest neighbours of each item by implicit's BM25 or TF-IDF weighted users, without the item itself."""
    items = _matrix(past, catalogue, as_of, settings.neighbours_half_life).T
    # The bodies of implicit's BM25Recommender.fit and TFIDFRecommender.fit, which hand on a format it warns about.
    weighted = bm25_weight(items, K1=1.2, B=0.75) if weighting == "bm25" else normalize(tfidf_weight(items))
    model = ItemItemRecommender(K=settings.neighbours + 1)  # an item is its own nearest neighbour, and goes
    model.fit(weighted.T.tocsr(), show_progress=False)
    links = model.similarity.tocoo()
    keep = (links.row != links.col) & (links.data > 0)
    similarity = csr_matrix((links.data[keep], (links.row[keep], links.col[keep])), shape=links.shape)
    similarity.sort_indices()
    return SimilarItems(
        similarity.indptr.astype(np.int64),
        similarity.indices.astype(np.int32),
        similarity.data.astype(np.float32),
        settings.neighbours_half_life,
        weighting,
    )


def count_popular(past: History, catalogue: Catalogue, as_of: int, days: int) -> Popular:
    """Distinct buyers of each item, lately and ever."""
    recent = past.between(as_of - days * DAY_US, as_of)
    return Popular(_buyers(recent, catalogue), _buyers(past, catalogue), as_of, days)


def _buyers(history: History, catalogue: Catalogue) -> NDArray[np.int32]:
    matrix = csr_matrix(
        (np.ones(len(history.item)), (history.rows, history.item)), shape=(len(history), len(catalogue))
    )
    return np.bincount(matrix.indices, minlength=len(catalogue)).astype(np.int32)


def _matrix(past: History, catalogue: Catalogue, as_of: int, half_life_days: float) -> csr_matrix:
    """Decayed purchase lines, float64 (users, items), summed within a cell in order of time."""
    order = np.lexsort((past.ts, past.item, past.rows))
    rows, items = past.rows[order], past.item[order]
    first = np.ones(len(rows), dtype=np.bool_)
    first[1:] = (rows[1:] != rows[:-1]) | (items[1:] != items[:-1])
    starts = np.flatnonzero(first)
    weights = np.add.reduceat(decay(as_of - past.ts[order], half_life_days), starts)
    return csr_matrix((weights, (rows[starts], items[starts])), shape=(len(past), len(catalogue)))


def _spread(truth: Truth, most: int) -> Truth:
    """At most so many users, evenly spread over the (canonical) order."""
    if len(truth) <= most:
        return truth
    rows = list(truth)
    return {rows[place]: truth[rows[place]] for place in np.linspace(0, len(rows) - 1, most).astype(int).tolist()}


def _canonical(history: History) -> History:
    """Users who bought, ordered by what and when, not by what they are called.

    ALS starts from random user factors by row, and float sums run over rows: with this order neither renaming users
    nor how the store is cut into buckets changes a model. Within a user, equal times are ordered by item.
    """
    order = np.lexsort((history.item, history.ts, history.rows))
    item, ts = history.item[order], history.ts[order]
    bounds = history.offsets.tolist()
    digests = [
        blake2b(ts[start:end].tobytes() + item[start:end].tobytes(), digest_size=16).digest()
        for start, end in pairwise(bounds)
    ]
    bought = np.flatnonzero(np.diff(history.offsets)).tolist()
    users = np.array(sorted(bought, key=digests.__getitem__), dtype=np.int64)
    counts = np.diff(history.offsets)[users]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
    at = np.arange(int(offsets[-1])) + np.repeat(history.offsets[users] - offsets[:-1], counts)
    return History([history.user_ids[user] for user in users.tolist()], offsets, item[at], ts[at])
