"""What a head is: one source of recommendations with one meaning."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.recommender.catalogue import Attributes, Catalogue, Tables
from models.recommender.past import Ints, Past

Scores = NDArray[np.float32]
"""A score a user and item, at least 0, 0 meaning nothing to say; shape `(users, items)`, C order."""

Facts = dict[str, int | float | str]
"""A head's few numbers, kept as JSON; floats survive it exactly."""


@dataclass(frozen=True)
class Shop:
    """What the heads know of the shop beside their own tables."""

    catalogue: Catalogue
    attributes: Attributes

    def called(self, item: int) -> str:
        """What people call an item."""
        return self.attributes.called(item, self.catalogue)


Phrase = tuple[str, Mapping[str, float | str]]
"""A text of `words.toml` by name, and what fills it."""


class Head(Protocol):
    """One source of recommendations. A head scores every item and says why it offered one."""

    @property
    def name(self) -> str:
        """The name that an answer shows."""
        ...

    def scores(self, past: Past, shop: Shop) -> Scores:
        """A score for each user and item; the caller may not write on it. A user's row depends on nobody else's."""
        ...

    def evidence(self, past: Past, shop: Shop, user: Ints, item: Ints) -> list[Phrase]:
        """For each of these users and items, something that a shopper or a reviewer can check."""
        ...

    def facts(self) -> Facts:
        """The numbers to save."""
        ...

    def tables(self) -> Tables:
        """The arrays to save."""
        ...

    @classmethod
    def restore(cls, facts: Mapping[str, Any], tables: Tables) -> "Head":
        """The head that was saved."""
        ...


def nothing(past: Past, shop: Shop) -> Scores:
    """Scores to write on, all 0."""
    return np.zeros((len(past), len(shop.catalogue)), np.float32)


def same_for_all(past: Past, score: NDArray[np.float32]) -> Scores:
    """One row of scores for every user."""
    return np.ascontiguousarray(np.broadcast_to(score, (len(past), len(score))))
