"""One user's past in the form that every head reads."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.recommender.history import DAY_US

Floats = NDArray[np.float64]


def decay(age_us: NDArray[np.int64], half_life_days: float) -> Floats:
    """Weight of an event by its age: 1 at the moment, one half after each half-life."""
    weights: Floats = np.exp2(age_us / (-DAY_US * half_life_days))
    return weights


@dataclass(frozen=True)
class Purchases:
    """One user's purchases before a moment, grouped by item.

    as_of: the moment, µs.
    items: int32[m], distinct codes, ascending.
    starts: int64[m], where each item's lines begin in `ts`.
    ts: int64[lines], sorted by (item, time). That order is fixed by the content alone, so float sums over it do not
        depend on how equal times were ordered in the log.
    """

    as_of: int
    items: NDArray[np.int32]
    starts: NDArray[np.int64]
    ts: NDArray[np.int64]

    @classmethod
    def of(cls, items: NDArray[np.int32], ts: NDArray[np.int64], as_of: int, catalogue_size: int) -> "Purchases":
        """Group lines by item, leaving out what lies at or after the moment or outside the catalogue."""
        keep = (ts < as_of) & (items >= 0) & (items < catalogue_size)
        items, ts = items[keep], ts[keep]
        order = np.lexsort((ts, items))
        items, ts = items[order], ts[order]
        first = np.ones(len(items), dtype=np.bool_)
        first[1:] = items[1:] != items[:-1]
        starts = np.flatnonzero(first).astype(np.int64)
        return cls(as_of, items[starts], starts, ts)

    def weights(self, half_life_days: float) -> Floats:
        """Decayed purchase lines per item, shape `(m,)`: Σ 2^(−age / half-life)."""
        if not len(self.items):
            return np.zeros(0)
        summed: Floats = np.add.reduceat(decay(self.as_of - self.ts, half_life_days), self.starts)
        return summed

    def lines(self, item: int) -> NDArray[np.int64]:
        """Times of one item's lines, ascending; empty if it was not bought."""
        at = int(np.searchsorted(self.items, item))
        if at == len(self.items) or self.items[at] != item:
            return self.ts[:0]
        end = self.starts[at + 1] if at + 1 < len(self.starts) else len(self.ts)
        return self.ts[self.starts[at] : end]
