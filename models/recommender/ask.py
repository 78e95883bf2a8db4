"""What is asked of the recommender: for which purpose, how many items, and which may be shown."""

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from models.recommender.catalogue import Attributes

Mode = Literal["all", "repeat", "cross_sell", "up_sell", "discover", "bundle", "win_back", "welcome"]
MODES: tuple[Mode, ...] = get_args(Mode)
Aim = Literal["all", "new"]
"""What a list is measured by: every purchase to come, or only items that the user never bought."""
AIMS: tuple[Aim, ...] = get_args(Aim)
MOST_TO_WIN_BACK = 5  # a user who left is shown three to five items


def checked_mode(mode: str) -> Mode:
    """The mode, or a ValueError that names the modes there are."""
    for known in MODES:
        if mode == known:
            return known
    raise ValueError(f"unknown mode {mode!r}; use one of: {', '.join(MODES)}")


def aim_of(mode: Mode) -> Aim:
    """Whether a mode may show what was bought before."""
    return "all" if mode in ("all", "repeat") else "new"


@dataclass(frozen=True)
class Filter:
    """Which items may be shown; what is left out limits nothing.

    categories, brands: any of these; a category is a path or the beginning of one. not_categories: none of these.
    price_min, price_max: currency units a piece; an item without a price is then left out.
    shown_days: not if shown (or sent in a message) within so many days. per_category: at most so many of one category.
    """

    in_stock: bool = False
    categories: tuple[str, ...] = ()
    not_categories: tuple[str, ...] = ()
    brands: tuple[str, ...] = ()
    price_min: float | None = None
    price_max: float | None = None
    shown_days: float | None = None
    per_category: int | None = None

    def allowed(self, attributes: Attributes) -> NDArray[np.bool_]:
        """bool[items]: which items pass, whoever asks."""
        passes = np.ones(len(attributes.price), np.bool_)
        if self.in_stock:
            passes &= attributes.in_stock
        if self.categories:
            passes &= _within(attributes.categories, self.categories)[attributes.category]
        if self.not_categories:
            passes &= ~_within(attributes.categories, self.not_categories)[attributes.category]
        if self.brands:
            named = np.array([*(brand in self.brands for brand in attributes.brands), False])
            passes &= named[attributes.brand]
        if self.price_min is not None:
            passes &= attributes.price >= self.price_min
        if self.price_max is not None:
            passes &= attributes.price <= self.price_max
        return passes


def _within(paths: tuple[str, ...], asked: tuple[str, ...]) -> NDArray[np.bool_]:
    """Whether each category lies in one of those asked for; false for none, which has the code -1."""
    inside = [any(path == one or path.startswith(f"{one} > ") for one in asked) for path in paths]
    return np.array([*inside, False])


@dataclass(frozen=True)
class Ask:
    """A question to the recommender.

    cart: items in the cart: never shown, and what complements go with. exclude: never shown.
    scene: a name of the scenes, or none. discount: share of a bundle's price that its buyer saves.
    spare: so many more items after the k, for whoever explores.
    """

    mode: Mode = "all"
    k: int = 20
    cart: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    filter: Filter = field(default_factory=Filter)
    scene: str | None = None
    discount: float = 0.0
    spare: int = 0

    @property
    def most(self) -> int:
        """Items to show."""
        return min(self.k, MOST_TO_WIN_BACK) if self.mode == "win_back" else self.k
