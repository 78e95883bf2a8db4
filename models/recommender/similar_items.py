"""similar_items: what is bought by those who buy what this user bought lately."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.recommender.heads import Arrays, Facts
from models.recommender.history import Catalogue
from models.recommender.purchases import Floats, Purchases


@dataclass(frozen=True)
class SimilarItems:
    """The nearest neighbours of each item, without itself, in CSR form.

    offsets: int64[items + 1]; neighbours: int32[nnz], codes; similarity: float32[nnz], above 0.
    weighting: how the fitted similarity weighed users, `bm25` or `tfidf`.
    """

    offsets: NDArray[np.int64]
    neighbours: NDArray[np.int32]
    similarity: NDArray[np.float32]
    half_life_days: float
    weighting: str
    name: ClassVar[str] = "similar_items"

    def _links(self, past: Purchases) -> tuple[NDArray[np.int64], NDArray[np.int32], Floats]:
        """All links from the user's items: position in `past.items`, neighbour, weight × similarity."""
        begin, count = self.offsets[past.items], self.offsets[past.items + 1] - self.offsets[past.items]
        source = np.repeat(np.arange(len(past.items), dtype=np.int64), count)
        ends = np.cumsum(count)
        at = np.arange(len(source), dtype=np.int64) + (begin - (ends - count))[source]
        return source, self.neighbours[at], self.similarity[at] * past.weights(self.half_life_days)[source]

    def scores(self, past: Purchases) -> Floats:
        """Σ over own items of decayed lines × similarity, shape `(items,)`."""
        _, neighbour, strength = self._links(past)
        return np.asarray(np.bincount(neighbour, strength, len(self.offsets) - 1), np.float64)

    def evidence(self, past: Purchases, picks: Sequence[int], catalogue: Catalogue) -> list[str]:
        """The own item that added most to each pick."""
        source, neighbour, strength = self._links(past)
        slot = np.full(len(catalogue), -1, dtype=np.int64)
        slot[list(picks)] = np.arange(len(picks))
        linked = np.flatnonzero(slot[neighbour] >= 0)
        # Strongest link first within a pick; the item with the smaller id on a tie.
        order = linked[np.lexsort((source[linked], -strength[linked], slot[neighbour[linked]]))]
        found, first = np.unique(slot[neighbour[order]], return_index=True)
        phrases = ["bought by those who buy your items"] * len(picks)
        for pick, at in zip(found, first, strict=True):
            phrases[int(pick)] = f"often bought with {catalogue.ids[int(past.items[source[order[at]]])]}"
        return phrases

    def facts(self) -> Facts:
        """Numbers of the model."""
        return {"half_life_days": self.half_life_days, "weighting": self.weighting}

    def arrays(self) -> Arrays:
        """The neighbour lists."""
        return {"offsets": self.offsets, "neighbours": self.neighbours, "similarity": self.similarity}

    @classmethod
    def restore(cls, facts: Mapping[str, Any], arrays: Arrays) -> "SimilarItems":
        """The head that was saved."""
        return cls(
            arrays["offsets"],
            arrays["neighbours"],
            arrays["similarity"],
            float(facts["half_life_days"]),
            str(facts["weighting"]),
        )
