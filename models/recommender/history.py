"""What the recommender reads: who bought which item when, as plain arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

DAY_US = 86_400_000_000
"""Microseconds in a day of 24 hours."""


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
class History:
    """All purchases of each user that are known before a moment, one row per purchase line.

    user_ids: n ids as text.
    offsets: int64[n + 1]; user `row` owns the events `offsets[row]:offsets[row + 1]`.
    item: int32[events], codes of the catalogue; a code outside it is an item the catalogue does not know.
    ts: int64[events], microseconds UTC, ascending within a user. The order of equal times never matters.
    """

    user_ids: Sequence[str]
    offsets: NDArray[np.int64]
    item: NDArray[np.int32]
    ts: NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(self.offsets) != len(self.user_ids) + 1:
            raise ValueError(f"offsets has {len(self.offsets)} entries for {len(self.user_ids)} users; one more is due")
        if len(self.item) != len(self.ts) or int(self.offsets[-1]) != len(self.item):
            raise ValueError(
                f"{len(self.item)} items, {len(self.ts)} times, last offset {self.offsets[-1]}: must agree"
            )

    @classmethod
    def of(
        cls,
        users: Sequence[str] | NDArray[np.str_],
        items: NDArray[np.int32],
        ts: NDArray[np.int64],
    ) -> "History":
        """Sort purchase lines in any order into a history; users come out in the order of their id text."""
        ids, codes = np.unique(np.asarray(users, dtype=np.str_), return_inverse=True)
        order = np.lexsort((items, ts, codes))
        offsets = np.searchsorted(codes[order], np.arange(len(ids) + 1)).astype(np.int64)
        return cls(
            [str(user) for user in ids],
            offsets,
            np.asarray(items)[order].astype(np.int32),
            np.asarray(ts)[order].astype(np.int64),
        )

    def __len__(self) -> int:
        return len(self.user_ids)

    @property
    def rows(self) -> NDArray[np.int64]:
        """The user's row of each event, shape `(events,)`."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    def user(self, row: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Items and times of one user, as views."""
        part = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        return self.item[part], self.ts[part]

    def between(self, start: int | None, end: int) -> "History":
        """The purchases in `[start, end)` µs; every user keeps their row, also when nothing is left."""
        keep = self.ts < end
        if start is not None:
            keep &= self.ts >= start
        kept = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep, dtype=np.int64)])
        return History(self.user_ids, kept[self.offsets], self.item[keep], self.ts[keep])

    def before(self, moment: int) -> "History":
        """The purchases known at a moment (µs)."""
        return self.between(None, moment)
