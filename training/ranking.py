"""How good a ranked list is: recall and NDCG of full rankings, as the recommendation protocol states them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.recommender import DAY_US, Aim, History

Truth = dict[int, NDArray[np.int64]]
"""User row → distinct item codes bought after the moment, ascending; only users who bought at least one."""


def recall_at_k(recommended: Sequence[int], truth: Sequence[int] | NDArray[np.int64], k: int = 20) -> float:
    """Hits among the first k ÷ number of true items (not cut at k)."""
    wanted = {int(item) for item in truth}
    return len(wanted.intersection(recommended[:k])) / len(wanted)


def ndcg_at_k(recommended: Sequence[int], truth: Sequence[int] | NDArray[np.int64], k: int = 20) -> float:
    """Σ over hits of 1 / log2(1 + rank) ÷ the same for the ideal list, which is min(k, |truth|) hits long.

    Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques (2002), with gain 1 for a hit.
    """
    wanted = {int(item) for item in truth}
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    gained = sum(float(discounts[rank]) for rank, item in enumerate(recommended[:k]) if item in wanted)
    return gained / float(discounts[: min(k, len(wanted))].sum())


@dataclass(frozen=True)
class RankingScore:
    """Means over users with their bootstrap standard errors; NaN without users."""

    users: int
    recall: float
    recall_se: float
    ndcg: float
    ndcg_se: float


def next_purchases(history: History, as_of: int, horizon_days: int, aim: Aim) -> Truth:
    """What users with a past bought in `[as_of, as_of + horizon)`, among items bought by anyone before `as_of`.

    With the aim `new` only what the user had never bought. Users who bought nothing that counts are left out.
    """
    acts = history.purchases()
    past, after = acts.before(as_of), acts.between(as_of, as_of + horizon_days * DAY_US)
    known = np.zeros(int(acts.item.max(initial=-1)) + 1, np.bool_)
    known[past.item] = True
    truth: Truth = {}
    seen = np.diff(history.before(as_of).offsets) > 0
    for row in np.flatnonzero(seen & (np.diff(after.offsets) > 0)).tolist():
        wanted = np.unique(after.item[after.offsets[row] : after.offsets[row + 1]])
        wanted = wanted[known[wanted]]
        if aim == "new":
            wanted = np.setdiff1d(wanted, past.item[past.offsets[row] : past.offsets[row + 1]])
        if len(wanted):
            truth[row] = wanted.astype(np.int64)
    return truth


def figures_by_user(
    lists: Mapping[int, Sequence[int]], truth: Mapping[int, Sequence[int] | NDArray[np.int64]], k: int = 20
) -> NDArray[np.float64]:
    """Recall@k and NDCG@k of each user of the truth, in its order; shape `(users, 2)`. No list is an empty one."""
    return np.array(
        [
            (recall_at_k(lists.get(user, ()), wanted, k), ndcg_at_k(lists.get(user, ()), wanted, k))
            for user, wanted in truth.items()
        ]
    ).reshape(-1, 2)


def evaluate(
    lists: Mapping[int, Sequence[int]],
    truth: Mapping[int, Sequence[int] | NDArray[np.int64]],
    k: int = 20,
    resamples: int = 500,
    seed: int = 0,
) -> RankingScore:
    """Mean recall@k and NDCG@k over the users of the truth.

    lists: user → item codes, best first. Standard errors are from `resamples` bootstrap samples of users.
    """
    if not truth:
        return RankingScore(0, float("nan"), float("nan"), float("nan"), float("nan"))
    values = figures_by_user(lists, truth, k)
    random = np.random.default_rng(seed)
    drawn = [values[random.integers(len(values), size=len(values))].mean(axis=0) for _ in range(resamples)]
    recall_se, ndcg_se = np.std(drawn, axis=0)
    recall, ndcg = values.mean(axis=0)
    return RankingScore(len(values), float(recall), float(recall_se), float(ndcg), float(ndcg_se))
