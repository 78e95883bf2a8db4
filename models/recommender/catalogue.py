"""The items of a shop: their ids, and what the items table and the log tell of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tables = dict[str, NDArray[Any]]
"""Arrays by name, kept as one .npy file each."""


@dataclass(frozen=True)
class Catalogue:
    """Item ids as text, strictly ascending, so that an item's code is its rank and ties by code are ties by id text."""

    ids: tuple[str, ...]

    def __post_init__(self) -> None:
        for left, right in pairwise(self.ids):
            if left >= right:
                raise ValueError(f"item ids must be distinct and sorted as text: {left!r} comes before {right!r}")

    @classmethod
    def of(cls, ids: Sequence[str]) -> "Catalogue":
        """The catalogue of any ids, repeated or unsorted."""
        return cls(tuple(sorted(set(ids))))

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _codes(self) -> dict[str, int]:
        return {item: code for code, item in enumerate(self.ids)}

    def codes(self, ids: Sequence[str]) -> NDArray[np.int32]:
        """The code of each id, shape `(len(ids),)`; -1 for an id that is not in the catalogue."""
        return np.fromiter((self._codes.get(item, -1) for item in ids), np.int32, len(ids))


@dataclass(frozen=True)
class Attributes:
    """What is known of each item, one entry an item of the catalogue; -1 or NaN where it is not.

    category: int32, codes of `categories`, which are paths such as "DRUG GM > SOFT DRINKS".
    brand: int32, codes of `brands`.
    price: float64, the newest unit price paid before training, else the items table's.
    in_stock: bool, true where the items table does not say.
    names: for texts; "" where there is none.
    """

    categories: tuple[str, ...]
    category: NDArray[np.int32]
    brands: tuple[str, ...]
    brand: NDArray[np.int32]
    price: NDArray[np.float64]
    in_stock: NDArray[np.bool_]
    names: tuple[str, ...]

    @classmethod
    def unknown(cls, items: int) -> "Attributes":
        """Nothing is known of any item."""
        none = np.full(items, -1, np.int32)
        return cls((), none, (), none, np.full(items, np.nan), np.ones(items, np.bool_), ("",) * items)

    def tables(self) -> Tables:
        """What is kept as arrays; the texts are kept as JSON."""
        return {"category": self.category, "brand": self.brand, "price": self.price, "in_stock": self.in_stock}

    def texts(self) -> dict[str, list[str]]:
        """What is kept as JSON."""
        return {"categories": list(self.categories), "brands": list(self.brands), "names": list(self.names)}

    @classmethod
    def restore(cls, texts: dict[str, list[str]], tables: Tables) -> "Attributes":
        """The attributes that were saved."""
        fields: dict[str, Any] = {name: tuple(values) for name, values in texts.items()}
        return cls(**fields | dict[str, Any](tables))

    def called(self, item: int, catalogue: Catalogue) -> str:
        """What people call an item: its name, else its id."""
        return self.names[item] or catalogue.ids[item]
