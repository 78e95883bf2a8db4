"""What a head is: one source of recommendations with one meaning."""

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from models.recommender.history import Catalogue
from models.recommender.purchases import Floats, Purchases

Facts = dict[str, int | float | str]
"""A head's few numbers, kept as JSON; floats survive it exactly."""

Arrays = dict[str, NDArray[Any]]
"""A head's tables, kept as one .npy file each."""


class Head(Protocol):
    """One source of recommendations. A head scores every item and says in words why it offered one."""

    @property
    def name(self) -> str:
        """The name that an answer shows."""
        ...

    def scores(self, past: Purchases) -> Floats:
        """A score for each item of the catalogue, at least 0, 0 meaning nothing to say; the caller may write on it."""
        ...

    def evidence(self, past: Purchases, picks: Sequence[int], catalogue: Catalogue) -> list[str]:
        """For each picked item a short phrase a shopper or a reviewer can check."""
        ...

    def facts(self) -> Facts:
        """The numbers to save."""
        ...

    def arrays(self) -> Arrays:
        """The tables to save."""
        ...
