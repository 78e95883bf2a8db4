"""What there is to buy: groups of items of one need, from cheap to dear, and what goes with what."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.simulation import dice
from training.simulation.parameters import Parameters

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Catalogue:
    """Items in the order of their groups, within a group from cheap to dear (`tier`)."""

    categories: list[str]  # a group's name: "department > group"
    first: Array  # int64[groups]: a group's first item
    size: Array  # int64[groups]
    durable: Array  # bool[groups]
    popularity: Array  # float64[groups]: cumulative shares
    hit: Array  # int64[groups]: the best seller
    group: Array  # int64[items]
    price: Array  # float64[items], whole cents
    cycle: Array  # float64[items]: days that a unit lasts; inf for durables
    complement: Array  # int64[items]: what goes with it; -1 for nothing
    launched: Array  # float64[items]: day of the log; -inf for long ago
    brand: Array  # int64[items]

    def items(self, start: int) -> pa.Table:
        """The shop's own table of its items; `start` is the first day, µs."""
        numbers = np.arange(self.group.size)
        launched = np.where(np.isfinite(self.launched), self.launched, 0)
        return pa.table(
            {
                "item_id": names("i", numbers.size),
                "category": pa.array(self.categories).take(pa.array(self.group)),
                "brand": [f"brand {code}" for code in self.brand],
                "price": self.price,
                "cost": np.round(self.price * 0.6, 2),
                "name": [f"{self.categories[g].split(' > ')[1]} no. {i}" for i, g in enumerate(self.group)],
                "launched_at": pa.array(
                    start + (launched * 86_400).astype(np.int64) * 1_000_000,
                    pa.timestamp("us"),
                    mask=~np.isfinite(self.launched),
                ),
                "in_stock": np.full(numbers.size, True),
            }
        )

    def truth(self) -> pa.Table:
        """How the items hang together, for evaluation only."""
        durable = self.durable[self.group]
        ids = names("i", self.group.size)
        return pa.table(
            {
                "item_id": ids,
                "group": pa.array(self.categories).take(pa.array(self.group)),
                "tier": np.arange(self.group.size) - self.first[self.group],
                "durable": durable,
                "cycle_days": pa.array(np.where(durable, 0, self.cycle), mask=durable),
                "complement": ids.take(pa.array(self.complement, mask=self.complement < 0)),
            }
        )

    def available(self, item: Array, day: Array) -> Array:
        """The item, or before its launch the cheapest of its group."""
        return np.where(self.launched[item] > day, self.first[self.group[item]], item)

    def in_group(self, group: Array, place: Array) -> Array:
        """The item at a place (0 to 1) of each group's price range."""
        last = self.size[group] - 1
        return self.first[group] + np.clip(np.floor(place * (last + 1)), 0, last).astype(np.int64)

    def any_group(self, draw: Array) -> Array:
        """A group for each draw (0 to 1), by popularity."""
        return np.minimum(np.searchsorted(self.popularity, draw, side="right"), self.size.size - 1)


def names(letter: str, count: int, first: int = 0) -> pa.Array:
    """Texts such as i00012, of numbers that follow one another."""
    return named(letter, range(first, first + count))


def named(letter: str, numbers: Iterable[int]) -> pa.Array:
    """Texts such as i00012."""
    return pa.array([f"{letter}{number:05d}" for number in numbers], pa.string())


def make_catalogue(p: Parameters, seed: int, days: int) -> Catalogue:
    """The catalogue of a shop whose log has so many days."""
    c = p.catalogue
    count = c.departments * c.groups
    keys = dice.child(dice.root(seed, "group"), np.arange(count))
    weights = dice.exponential(keys, "size") + 0.2
    spare = c.items - count
    ends = np.floor(np.cumsum(weights) / weights.sum() * spare + 1e-9).astype(np.int64)
    ends[-1] = spare
    size = np.diff(ends, prepend=0) + 1
    first = np.cumsum(size) - size
    group = np.repeat(np.arange(count), size)
    tier = np.arange(c.items) - first[group]
    item = dice.child(dice.root(seed, "item"), np.arange(c.items))
    # Tiers climb by `tier_step` up to a factor of about twenty, however many items a group has.
    step = np.minimum(c.tier_step, 3.0 / np.maximum(size - 1, 1))[group]
    base = np.log(c.price) + c.price_spread * dice.normal(keys, "price")
    price = np.exp(base[group] + step * (tier - (size[group] - 1) / 2) + step / 4 * dice.uniform(item, "price"))
    durable = dice.uniform(keys, "durable") < c.durable
    low, high = np.log(c.cycle_days)
    cycle = np.exp(low + (high - low) * dice.uniform(keys, "cycle"))[group]
    # What goes with an item is of one other group of its department, in its own part of the price range.
    partner = _partner(keys, c.departments, c.groups)[group]
    place = (tier + 0.5) / size[group]
    complement = first[partner] + (place * size[partner]).astype(np.int64)
    has = (dice.uniform(item, "complement") < c.complements) & (partner != group)
    # Never a group's cheapest, which is sold in its stead, and no durable, so that upgrade chains stand.
    fresh = (dice.uniform(item, "launched") < c.launched) & (tier > 0) & ~durable[group]
    launched = np.where(fresh, np.floor(dice.uniform(item, "day") * days), -np.inf)
    popularity = np.cumsum(dice.exponential(keys, "popularity") ** 1.5 + 0.02)
    return Catalogue(
        categories=[f"department {g // c.groups + 1:02d} > group {g % c.groups + 1:02d}" for g in range(count)],
        first=first,
        size=size,
        durable=durable,
        popularity=popularity / popularity[-1],
        hit=first + (dice.uniform(keys, "hit") * size).astype(np.int64),
        group=group,
        price=np.maximum(np.round(price, 2), 0.01),
        cycle=np.where(durable[group], np.inf, cycle),
        complement=np.where(has, complement, -1),
        launched=launched,
        brand=(dice.uniform(item, "brand") * max(2, c.items // 30)).astype(np.int64),
    )


def _partner(keys: Array, departments: int, groups: int) -> Array:
    """For each group another of its department, or itself where there is none."""
    number = np.arange(departments * groups)
    shift = 1 + (dice.uniform(keys, "partner") * (groups - 1)).astype(np.int64)
    return number // groups * groups + (number % groups + shift) % groups
