"""Find a blend's weights on past moments: a coordinate ascent over a small grid, without chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.recommender import HEADS, Aim, Blend, History, Past, Recommender, loops
from models.recommender.model import BLOCK, SPECIAL
from models.recommender.popular import Popular
from training.ranking import Truth

K = 20
WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.6, 1.0, 1.7, 3.0)
POPULAR_WEIGHTS = (0.01, *WEIGHTS[1:])  # never 0: every user gets k items, and the last of them are popular ones
DEMANDS = (0.0, 0.06, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0)
PASSES = 3
PER_HEAD = 60
_DISCOUNTS = 1.0 / np.log2(np.arange(2, K + 2))
_IDEAL = np.concatenate([np.zeros(1), np.cumsum(_DISCOUNTS)])


def heads_of(aim: Aim) -> tuple[str, ...]:
    """The heads that can say something for an aim; what was bought before is not new."""
    return tuple(name for name in HEADS if name not in SPECIAL and (aim == "all" or name != "repeat"))


@dataclass(frozen=True)
class Pool:
    """What the heads said to users at one past moment, cut to items that some head ranks high (padded with zeros).

    shares: float32[heads, users, width]; demand: float64[users, width], at exponent 1; hit: bool[users, width];
    wanted: int64[users], the number of true items.
    """

    shares: NDArray[np.float32]
    demand: NDArray[np.float64]
    hit: NDArray[np.bool_]
    wanted: NDArray[np.int64]

    @cached_property
    def _rooted(self) -> NDArray[np.float32]:
        return np.sqrt(self.shares)

    @cached_property
    def _demands(self) -> dict[float, NDArray[np.float32]]:
        return {exponent: (self.demand**exponent).astype(np.float32) for exponent in DEMANDS}

    def objective(self, weights: NDArray[np.float32], root: bool, demand: float) -> float:
        """Recall@20 + NDCG@20 of a blend, mean over users; `demand` is one of `DEMANDS`."""
        used = np.flatnonzero(weights)
        shares = self._rooted if root else self.shares
        scores = np.einsum("huc,h->uc", shares[used], weights[used])
        scores *= self._demands[demand]
        picks = np.argpartition(-scores, K, axis=1)[:, :K]
        order = np.argsort(-np.take_along_axis(scores, picks, axis=1), axis=1, kind="stable")
        hits = np.take_along_axis(self.hit, np.take_along_axis(picks, order, axis=1), axis=1)
        recall = hits.sum(axis=1) / self.wanted
        ndcg = (hits * _DISCOUNTS).sum(axis=1) / _IDEAL[np.minimum(K, self.wanted)]
        return float((recall + ndcg).mean())


def pool(model: Recommender, past: History, as_of: int, truth: Truth, aim: Aim) -> Pool:
    """Ask every head about the users of `truth`."""
    names = heads_of(aim)
    popular = model.heads["popular"]
    assert isinstance(popular, Popular)
    demand = popular.demand(1.0)
    rows = list(truth)
    width = PER_HEAD * len(names) + K
    shape = (len(rows), width)
    found = Pool(
        np.zeros((len(names), *shape), np.float32),
        np.ones(shape),
        np.zeros(shape, np.bool_),
        np.array([len(truth[user]) for user in rows]),
    )
    for begin in range(0, len(rows), BLOCK):
        chosen = rows[begin : begin + BLOCK]
        asked = Past.of(past.some(chosen), as_of)
        scores = model.scores(asked, names)
        may = np.ones((len(chosen), len(model.catalogue)), np.bool_)
        if aim == "new":
            may[asked.bought.pair_user, asked.bought.pair_item] = False
        tops = np.concatenate([loops.top(given, may, PER_HEAD) for given in scores.values()], axis=1)
        peaks = np.stack([np.maximum((given * may).max(axis=1), np.float32(1e-9)) for given in scores.values()])
        for row, user in enumerate(chosen):
            codes = np.unique(tops[row])
            codes = codes[codes >= 0]
            place, used = begin + row, slice(0, len(codes))
            for number, given in enumerate(scores.values()):
                found.shares[number, place, used] = given[row, codes] / peaks[number, row]
            found.demand[place, used] = demand[codes]
            found.hit[place, used] = np.isin(codes, truth[user])
    return found


def search(pools: Sequence[Pool], aim: Aim) -> tuple[Blend, float]:
    """The best blend found, and its Recall@20 + NDCG@20, mean over moments.

    From equal weights (0 for heads that say nothing, which no grid could tell), one coordinate at a time to the best
    point of its grid, until a whole pass gains nothing; once per root. The first of equals stays, so the result depends
    on the tables alone.
    """
    names = heads_of(aim)
    spoken = {name for place, name in enumerate(names) if any(one.shares[place].any() for one in pools)} | {"popular"}
    found: list[tuple[float, Blend]] = []
    for root in (False, True):
        point = [*(0.35 if name in spoken else 0.0 for name in names), 0.125]
        best = _objective(pools, point, root)
        for _ in range(PASSES):
            before = best
            for place in range(len(point)):
                for value in _grid(names, place):
                    trial = [*point[:place], value, *point[place + 1 :]]
                    gained = _objective(pools, trial, root)
                    if gained > best:
                        best, point = gained, trial
            if best == before:
                break
        largest = max(point[:-1])
        weights = {name: weight / largest for name, weight in zip(names, point[:-1], strict=True)}
        found.append((best, Blend(weights, root, point[-1])))
    objective, blend = max(found, key=lambda entry: entry[0])
    return blend, objective


def _grid(names: Sequence[str], place: int) -> tuple[float, ...]:
    if place == len(names):
        return DEMANDS
    return POPULAR_WEIGHTS if names[place] == "popular" else WEIGHTS


def _objective(pools: Sequence[Pool], point: Sequence[float], root: bool) -> float:
    return float(np.mean([one.objective(np.array(point[:-1], np.float32), root, point[-1]) for one in pools]))
