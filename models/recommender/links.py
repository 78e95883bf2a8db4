"""From items to items: the nearest neighbours of each, in CSR form."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.recommender import loops
from models.recommender.catalogue import Tables
from models.recommender.heads import Scores
from models.recommender.past import Ints, Pairs


@dataclass(frozen=True)
class Links:
    """offsets: int64[items + 1]. neighbours: int32[links], codes, ascending for each item. strength: float32, > 0."""

    offsets: NDArray[np.int64]
    neighbours: NDArray[np.int32]
    strength: NDArray[np.float32]

    def spread(self, asked: Pairs, into: Scores) -> Scores:
        """Adds Σ over the asked items of a user, value × strength, to every neighbour."""
        value = asked.value.astype(np.float32)
        loops.spread(asked.user, asked.item, value, self.offsets, self.neighbours, self.strength, into)
        return into

    def strongest(self, asked: Pairs, user: Ints, item: Ints) -> list[tuple[int, int]]:
        """The asked item that adds most to each user and item, and the place of their link; -1 and -1 if none."""
        begin, end = np.searchsorted(asked.user, user), np.searchsorted(asked.user, user, side="right")
        value = asked.value.astype(np.float32)
        found = loops.strongest(begin, end, value, asked.item, item, self.offsets, self.neighbours, self.strength)
        return [(source, place) for source, place in found.tolist()]

    def tables(self) -> Tables:
        """What is kept."""
        return {"offsets": self.offsets, "neighbours": self.neighbours, "strength": self.strength}

    @classmethod
    def restore(cls, tables: Tables) -> "Links":
        """The links that were saved."""
        return cls(tables["offsets"], tables["neighbours"], tables["strength"])

    @classmethod
    def none(cls, items: int) -> "Links":
        """No link at all."""
        return cls(np.zeros(items + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
