"""Find a blend's weights on past moments: a coordinate ascent over a small grid, without chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.recommender import HEADS, Blend, History, Mode, Recommender
from models.recommender.blend import share
from training.ranking import Truth

K = 20
WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.6, 1.0, 1.7, 3.0)
POPULAR_WEIGHTS = (0.01, *WEIGHTS[1:])  # never 0: every user gets k items, and the last of them are popular ones
DEMANDS = (0.0, 0.06, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0)
PASSES = 4
_PER_HEAD = 80
_DISCOUNTS = 1.0 / np.log2(np.arange(2, K + 2))
_IDEAL = np.concatenate([np.zeros(1), np.cumsum(_DISCOUNTS)])


def heads_of(mode: Mode) -> tuple[str, ...]:
    """The heads that can say something in a mode; what was bought before is no cross-sell."""
    return tuple(name for name in HEADS if mode == "all" or name != "repeat")


@dataclass(frozen=True)
class Candidates:
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
        scores = np.einsum("huc,h->uc", self._rooted if root else self.shares, weights)
        scores *= self._demands[demand]
        picks = np.argpartition(-scores, K, axis=1)[:, :K]
        order = np.argsort(-np.take_along_axis(scores, picks, axis=1), axis=1, kind="stable")
        hits = np.take_along_axis(self.hit, np.take_along_axis(picks, order, axis=1), axis=1)
        recall = hits.sum(axis=1) / self.wanted
        ndcg = (hits * _DISCOUNTS).sum(axis=1) / _IDEAL[np.minimum(K, self.wanted)]
        return float((recall + ndcg).mean())


def candidates(recommender: Recommender, past: History, as_of: int, truth: Truth, mode: Mode) -> Candidates:
    """Ask every head about the users of `truth`."""
    names = heads_of(mode)
    demand = recommender.popular.demand(1.0)
    weight = np.sqrt(demand)
    width = min(2 * _PER_HEAD * len(names) + K, max(len(recommender.catalogue), K + 1))
    shape = (len(truth), width)
    found = Candidates(
        np.zeros((len(names), *shape), np.float32), np.ones(shape), np.zeros(shape, np.bool_), np.zeros(shape[0], int)
    )
    depth = min(_PER_HEAD, len(recommender.catalogue) - 1)
    for place, (row, wanted) in enumerate(truth.items()):
        items, ts = past.user(row)
        scores = recommender.head_scores(recommender.purchases(items, ts, as_of), mode)
        rows = [share(scores[name], root=False) for name in names]
        tops = [np.argpartition(-values, depth)[:depth] for row in rows for values in (row, row * weight)]
        codes = np.unique(np.concatenate(tops))[:width]
        used = slice(0, len(codes))
        for number, values in enumerate(rows):
            found.shares[number, place, used] = values[codes]
        found.demand[place, used] = demand[codes]
        found.hit[place, used] = np.isin(codes, wanted)
        found.wanted[place] = len(wanted)
    return found


def search(tables: Sequence[Candidates], mode: Mode) -> tuple[Blend, float]:
    """The best blend found, and its Recall@20 + NDCG@20, mean over moments.

    From equal weights, one coordinate at a time to the best point of its grid, until a whole pass gains nothing; once
    per root. The first of equals stays, so the result depends on the tables alone.
    """
    names = heads_of(mode)
    found: list[tuple[float, Blend]] = []
    for root in (False, True):
        point = [*(1.0 for _ in names), 0.25]
        best = _objective(tables, point, root)
        for _ in range(PASSES):
            before = best
            for place in range(len(point)):
                for value in _grid(names, place):
                    trial = [*point[:place], value, *point[place + 1 :]]
                    gained = _objective(tables, trial, root)
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


def _objective(tables: Sequence[Candidates], point: Sequence[float], root: bool) -> float:
    return float(np.mean([table.objective(np.array(point[:-1], np.float32), root, point[-1]) for table in tables]))
