"""taste, upgrade, discover: what a user's categories say of items they may like."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.recommender.catalogue import Tables
from models.recommender.heads import Facts, Phrase, Scores, Shop, nothing
from models.recommender.past import Floats, Ints, Past

HALF_LIFE = 60.0  # days after which a liking for a category weighs half
STEP = (1.1, 2.5)  # an upgrade costs so many times what the user pays in its category


def liking_by_category(past: Past, shop: Shop) -> Floats:
    """Decayed liking of each user for each category, shape `(users, categories)`."""
    liking, wide = past.liking(HALF_LIFE), max(len(shop.attributes.categories), 1)
    category = shop.attributes.category[liking.item]
    known = category >= 0
    place = liking.user[known] * wide + category[known]
    return np.bincount(place, liking.value[known], len(past) * wide).astype(np.float64).reshape(len(past), wide)


def paid_by_category(past: Past, shop: Shop) -> Floats:
    """Mean unit price that each user paid in each category, shape `(users, categories)`; NaN where they bought none."""
    bought, wide = past.bought, max(len(shop.attributes.categories), 1)
    category = shop.attributes.category[bought.item]
    known = (category >= 0) & np.isfinite(bought.price)
    place = bought.user[known] * wide + category[known]
    paid = np.bincount(place, bought.price[known], len(past) * wide)
    times = np.bincount(place, minlength=len(past) * wide)
    return np.divide(paid, times, out=np.full(paid.shape, np.nan), where=times > 0).reshape(len(past), wide)


def _of_items(by_category: Floats, shop: Shop) -> Scores:
    """A number a user and category as one a user and item; 0 for items without a category."""
    known = shop.attributes.category >= 0
    columns = np.where(known, shop.attributes.category, 0)
    return np.ascontiguousarray(by_category.astype(np.float32)[:, columns] * known.astype(np.float32))


@dataclass(frozen=True)
class Taste:
    """Best sellers of the user's own categories. share: float32[items], of its category's recent buyers."""

    share: NDArray[np.float32]
    name: ClassVar[str] = "taste"

    def scores(self, past: Past, shop: Shop) -> Scores:
        """Liking of the category × the item's share of it."""
        out = _of_items(liking_by_category(past, shop), shop)
        out *= self.share
        return out

    def evidence(self, past: Past, shop: Shop, user: Ints, item: Ints) -> list[Phrase]:
        """The category."""
        return [("taste", {"category": category_of(shop, code)}) for code in item.tolist()]

    def facts(self) -> Facts:
        """None."""
        return {}

    def tables(self) -> Tables:
        """The shares."""
        return {"share": self.share}

    @classmethod
    def restore(cls, facts: Mapping[str, Any], tables: Tables) -> "Taste":
        """The head that was saved."""
        return cls(tables["share"])


@dataclass(frozen=True)
class Upgrade:
    """The same need, a step dearer: items of a category that the user bought in, above what they pay there."""

    share: NDArray[np.float32]
    name: ClassVar[str] = "upgrade"

    def scores(self, past: Past, shop: Shop) -> Scores:
        """Liking of the category × the item's share of it, for prices within `STEP` times the user's own."""
        out = _of_items(liking_by_category(past, shop), shop)
        out *= self.share
        step = self.step(past, shop)
        out[~((step >= STEP[0]) & (step <= STEP[1]))] = 0
        return out

    def step(self, past: Past, shop: Shop) -> Scores:
        """Price of each item relative to what the user pays in its category; NaN where either is unknown."""
        paid = paid_by_category(past, shop).astype(np.float32)
        columns = np.where(shop.attributes.category >= 0, shop.attributes.category, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            step: Scores = shop.attributes.price.astype(np.float32) / paid[:, columns]
        step[:, shop.attributes.category < 0] = np.nan
        return step

    def evidence(self, past: Past, shop: Shop, user: Ints, item: Ints) -> list[Phrase]:
        """The category, its usual price for this user, and this item's."""
        paid = paid_by_category(past, shop)[user, np.maximum(shop.attributes.category[item], 0)]
        return [
            ("step_up", {"category": category_of(shop, i), "paid": float(p), "price": float(shop.attributes.price[i])})
            if shop.attributes.category[i] >= 0 and np.isfinite(p)
            else ("alike", {})
            for i, p in zip(item.tolist(), paid.tolist(), strict=True)
        ]

    def facts(self) -> Facts:
        """None."""
        return {}

    def tables(self) -> Tables:
        """The shares."""
        return {"share": self.share}

    @classmethod
    def restore(cls, facts: Mapping[str, Any], tables: Tables) -> "Upgrade":
        """The head that was saved."""
        return cls(tables["share"])


@dataclass(frozen=True)
class Discover:
    """Categories never tried, near to those the user likes.

    share: float32[items]. near: float32[categories, categories], cosine of the categories' buyers, diagonal 0.
    """

    share: NDArray[np.float32]
    near: NDArray[np.float32]
    name: ClassVar[str] = "discover"

    @cached_property
    def _near(self) -> Floats:
        return self.near.astype(np.float64)

    def scores(self, past: Past, shop: Shop) -> Scores:
        """Σ over liked categories of √liking × nearness, for untried ones, × the item's share of its category."""
        liking = liking_by_category(past, shop)
        if not self.near.size:
            return nothing(past, shop)
        # einsum and not a BLAS product: its order of summation does not depend on how many users are asked about.
        reached = np.stack([np.einsum("c,cd->d", row, self._near) for row in np.sqrt(liking)])
        out = _of_items(np.where(liking > 0, 0.0, reached), shop)
        out *= self.share
        return out

    def evidence(self, past: Past, shop: Shop, user: Ints, item: Ints) -> list[Phrase]:
        """The category, and the liked one that is nearest to it."""
        liking = np.sqrt(liking_by_category(past, shop))
        out: list[Phrase] = []
        for row, code in zip(user.tolist(), item.tolist(), strict=True):
            category = int(shop.attributes.category[code])
            added = liking[row] * self._near[:, category] if category >= 0 and self.near.size else np.zeros(1)
            if added.max(initial=0.0) > 0:
                nearest = shop.attributes.categories[int(np.argmax(added))]
                out.append(("untried", {"category": category_of(shop, code), "near": short(nearest)}))
            else:
                out.append(("alike", {}))
        return out

    def facts(self) -> Facts:
        """None."""
        return {}

    def tables(self) -> Tables:
        """Shares and nearness."""
        return {"share": self.share, "near": self.near}

    @classmethod
    def restore(cls, facts: Mapping[str, Any], tables: Tables) -> "Discover":
        """The head that was saved."""
        return cls(tables["share"], tables["near"])


def category_of(shop: Shop, item: int) -> str:
    """The last part of an item's category path; "" without one."""
    code = int(shop.attributes.category[item])
    return short(shop.attributes.categories[code]) if code >= 0 else ""


def short(path: str) -> str:
    """The last part of a category path."""
    return path.rsplit(" > ", 1)[-1]
