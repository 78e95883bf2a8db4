"""similar_als: items that shoppers with a like taste buy, from implicit-feedback matrix factorisation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.recommender.heads import Arrays, Facts
from models.recommender.history import Catalogue
from models.recommender.purchases import Floats, Purchases

_BLOCK = 64
"""Rows per matrix product. 64 × 64 × 64 is below the size from which OpenBLAS splits a product over threads, so the
sums, and with them the last bits of a score, are the same in a service with one thread and in a batch with many."""


@dataclass(frozen=True)
class SimilarAls:
    """Item factors of an ALS model, with the user's factors solved from the history at hand.

    item_factors: float32[factors, items]. Factor-major, so that scoring adds whole contiguous rows in a fixed order.
    gram: float64[factors, factors], YᵀY over all items.
    """

    item_factors: NDArray[np.float32]
    gram: Floats
    alpha: float
    regularization: float
    half_life_days: float
    name: ClassVar[str] = "similar_als"

    def fold_in(self, past: Purchases) -> Floats:
        """The user's factors, shape `(factors,)`: x = (YᵀY + Y_uᵀ (C − I) Y_u + λI)⁻¹ Y_uᵀ c.

        Hu, Koren and Volinsky, Collaborative Filtering for Implicit Feedback Datasets (2008), equation 4. As in
        implicit, the confidence is c = α · decayed lines and what was not bought has confidence 1.
        """
        factors = len(self.gram)
        confidence = self.alpha * past.weights(self.half_life_days)
        blocks = -(-len(confidence) // _BLOCK)
        rows = np.zeros((blocks * _BLOCK, factors))
        rows[: len(confidence)] = self.item_factors[:, past.items].T
        extra = np.zeros(len(rows))
        extra[: len(confidence)] = confidence - 1.0
        stacked = rows.reshape(blocks, _BLOCK, factors)
        weighted = stacked * extra.reshape(blocks, _BLOCK, 1)
        system = self.gram + np.matmul(stacked.transpose(0, 2, 1), weighted).sum(axis=0)
        system[np.diag_indices(factors)] += self.regularization
        target = np.einsum("if,i->f", rows[: len(confidence)], confidence)
        solved: Floats = np.linalg.solve(system, target)
        return solved

    def scores(self, past: Purchases) -> Floats:
        """Yx per item, shape `(items,)`; a negative preference counts as none."""
        if not len(past.items):
            return np.zeros(self.item_factors.shape[1])
        user = self.fold_in(past).astype(np.float32)
        # einsum and not a BLAS product: its order of summation does not depend on the number of threads.
        preference = np.einsum("fi,f->i", self.item_factors, user)
        return np.asarray(np.maximum(preference, 0), np.float64)

    def evidence(self, past: Purchases, picks: Sequence[int], catalogue: Catalogue) -> list[str]:
        """Factors have no names, so the phrase says what kind of evidence it is."""
        return ["bought by shoppers with similar baskets"] * len(picks)

    def facts(self) -> Facts:
        """Numbers of the model."""
        return {"alpha": self.alpha, "regularization": self.regularization, "half_life_days": self.half_life_days}

    def arrays(self) -> Arrays:
        """Factors and their Gram matrix."""
        return {"item_factors": self.item_factors, "gram": self.gram}

    @classmethod
    def restore(cls, facts: Mapping[str, Any], arrays: Arrays) -> "SimilarAls":
        """The head that was saved."""
        return cls(
            arrays["item_factors"],
            arrays["gram"],
            float(facts["alpha"]),
            float(facts["regularization"]),
            float(facts["half_life_days"]),
        )
