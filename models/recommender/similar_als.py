"""similar_als: taste by matrix factorisation. A user's factors are folded in from what is known when they are asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.recommender import loops
from models.recommender.catalogue import Tables
from models.recommender.heads import Facts, Phrase, Scores, Shop
from models.recommender.past import Floats, Ints, Pairs, Past

_BLOCK = 64
"""Rows per matrix product. 64 × 64 × 64 is below the size from which OpenBLAS splits a product over threads, so the
sums, and with them the last bits of a score, are the same in a service with one thread and in a batch with many."""


@dataclass(frozen=True)
class SimilarAls:
    """Item factors of an ALS model, with the users' factors solved from the history at hand.

    item_factors: float32[factors, items], the number of factors a multiple of 8.
    gram: float64[factors, factors], YᵀY over all items.
    """

    item_factors: NDArray[np.float32]
    gram: Floats
    alpha: float
    regularization: float
    half_life: float
    name: ClassVar[str] = "similar_als"

    def fold_in(self, past: Past) -> Floats:
        """The users' factors, shape `(users, factors)`: x = (YᵀY + Y_uᵀ (C − I) Y_u + λI)⁻¹ Y_uᵀ c; 0 without a past.

        Hu, Koren and Volinsky, Collaborative Filtering for Implicit Feedback Datasets (2008), equation 4. As in
        implicit, the confidence is c = α · decayed liking and what was not touched has confidence 1.
        """
        liking = past.liking(self.half_life)
        bounds = np.searchsorted(liking.user, np.arange(len(past) + 1))
        out = np.zeros((len(past), len(self.gram)))
        for row in np.flatnonzero(np.diff(bounds)).tolist():
            out[row] = self._solved(liking, slice(int(bounds[row]), int(bounds[row + 1])))
        return out

    def _solved(self, liking: Pairs, rows: slice) -> Floats:
        factors = len(self.gram)
        confidence = self.alpha * liking.value[rows]
        blocks = -(-len(confidence) // _BLOCK)
        own = np.zeros((blocks * _BLOCK, factors))
        own[: len(confidence)] = self.item_factors[:, liking.item[rows]].T
        extra = np.zeros(len(own))
        extra[: len(confidence)] = confidence - 1.0
        stacked = own.reshape(blocks, _BLOCK, factors)
        weighted = stacked * extra.reshape(blocks, _BLOCK, 1)
        system = self.gram + np.matmul(stacked.transpose(0, 2, 1), weighted).sum(axis=0)
        system[np.diag_indices(factors)] += self.regularization
        target = np.einsum("if,i->f", own[: len(confidence)], confidence)
        solved: Floats = np.linalg.solve(system, target)
        return solved

    def scores(self, past: Past, shop: Shop) -> Scores:
        """Yx per item; a negative preference counts as none."""
        out = np.empty((len(past), len(shop.catalogue)), np.float32)
        loops.products(self.fold_in(past).astype(np.float32), self.item_factors, out)
        return out

    def evidence(self, past: Past, shop: Shop, user: Ints, item: Ints) -> list[Phrase]:
        """Factors have no names, so the phrase says what kind of evidence it is."""
        return [("alike", {})] * len(item)

    def facts(self) -> Facts:
        """Numbers of the model."""
        return {"alpha": self.alpha, "regularization": self.regularization, "half_life": self.half_life}

    def tables(self) -> Tables:
        """Factors and their Gram matrix."""
        return {"item_factors": self.item_factors, "gram": self.gram}

    @classmethod
    def restore(cls, facts: Mapping[str, Any], tables: Tables) -> "SimilarAls":
        """The head that was saved."""
        numbers = (float(facts[name]) for name in ("alpha", "regularization", "half_life"))
        return cls(tables["item_factors"], tables["gram"], *numbers)


class LastingAls(SimilarAls):
    """lasting_als: the same of fewer factors, fitted and asked with a longer memory."""

    name: ClassVar[str] = "lasting_als"
