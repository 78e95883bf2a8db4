"""What the recommender reads of users' timelines: who did what with which item when, as plain arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.events import columns as c
from features.timeline import Timeline

DAY_US = c.DAY
"""Microseconds in a day of 24 hours."""

ACTS = ("purchase", "cart", "favourite", "view", "refund", "not_interested", "shown", "message_sent")
"""The kinds of events that are read, in the order of their codes."""
PURCHASE, CART, FAVOURITE, VIEW, REFUND, NOT_INTERESTED, SHOWN, MESSAGE = range(len(ACTS))


@dataclass(frozen=True)
class History:
    """Acts of some users on items of a catalogue, a row an act.

    Rows stand in the order user, item, kind, time, order, price, quantity: fixed by their content alone, so that float
    sums over them do not depend on how the log was ordered.

    user_ids: n ids as text.
    offsets: int64[n + 1]; user `row` owns the acts `offsets[row]:offsets[row + 1]`.
    item: int32[acts], codes of the catalogue, none outside it.
    kind: uint8[acts], codes of `ACTS`.
    ts: int64[acts], µs UTC.
    order: int64[acts], whatever tells orders of a user apart; acts without an order have their time.
    price: float64[acts], per unit, NaN where unknown. quantity: float64[acts], 1 where unknown.
    """

    user_ids: Sequence[str]
    offsets: NDArray[np.int64]
    item: NDArray[np.int32]
    kind: NDArray[np.uint8]
    ts: NDArray[np.int64]
    order: NDArray[np.int64]
    price: NDArray[np.float64]
    quantity: NDArray[np.float64]

    def __post_init__(self) -> None:
        if len(self.offsets) != len(self.user_ids) + 1:
            raise ValueError(f"offsets has {len(self.offsets)} entries for {len(self.user_ids)} users; one more is due")
        sizes = {name: len(getattr(self, name)) for name in _COLUMNS}
        if {int(self.offsets[-1])} != set(sizes.values()):
            raise ValueError(f"columns {sizes} and last offset {self.offsets[-1]} must agree in length")

    @classmethod
    def of(
        cls,
        user_ids: Sequence[str],
        user: NDArray[np.int64],
        item: NDArray[np.int32],
        kind: NDArray[np.uint8],
        ts: NDArray[np.int64],
        order: NDArray[np.int64] | None = None,
        price: NDArray[np.float64] | None = None,
        quantity: NDArray[np.float64] | None = None,
    ) -> "History":
        """Sort acts in any order into a history; `user` are rows of `user_ids`, negative item codes are left out."""
        columns: dict[str, NDArray[Any]] = {
            "item": np.asarray(item, np.int32),
            "kind": np.asarray(kind, np.uint8),
            "ts": np.asarray(ts, np.int64),
            "order": np.asarray(ts if order is None else np.where(order == 0, ts, order), np.int64),
            "price": np.full(len(ts), np.nan) if price is None else np.asarray(price, np.float64),
            "quantity": np.ones(len(ts)) if quantity is None else np.asarray(quantity, np.float64),
        }
        places = np.flatnonzero(np.asarray(item) >= 0)
        keys = (*(columns[name][places] for name in ("quantity", "price", "order", "ts", "kind", "item")), user[places])
        places = places[np.lexsort(keys)]
        offsets = np.searchsorted(user[places], np.arange(len(user_ids) + 1)).astype(np.int64)
        return cls(user_ids, offsets, **{name: values[places] for name, values in columns.items()})

    @classmethod
    def of_timeline(cls, timeline: Timeline, as_of: int, codes: NDArray[np.int32]) -> "History":
        """The acts of a timeline's users that are known before a moment (µs).

        codes: the catalogue's code by the timeline's item code, -1 for items it does not know.
        """
        known = timeline.known_before(as_of)
        kind_of = np.full(256, 255, np.uint8)
        for code, kind in enumerate(known.facts.kinds):
            if kind in ACTS:
                kind_of[code] = ACTS.index(kind)
        kind = kind_of[known.columns[c.KIND]]
        rows = np.flatnonzero((kind < 255) & (known.columns[c.TS] < as_of))
        user = np.searchsorted(known.offsets, rows, side="right") - 1
        item = np.append(codes, np.int32(-1))[known.column(c.ITEM_ID)[rows]]
        quantity = known.column(c.QUANTITY)[rows] / c.MONEY
        price = _unit_price(known, rows, quantity)
        order = known.column(c.ORDER_ID)[rows].view(np.int64)
        ids = known.user_ids.to_pylist()
        return cls.of(ids, user, item, kind[rows], known.columns[c.TS][rows], order, price, quantity)

    def __len__(self) -> int:
        return len(self.user_ids)

    @property
    def users(self) -> NDArray[np.int64]:
        """The user's row of each act."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    def only(self, keep: NDArray[np.bool_]) -> "History":
        """The acts where `keep` is true; every user keeps their row, also when nothing is left."""
        kept = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep, dtype=np.int64)])
        return History(self.user_ids, kept[self.offsets], **{name: getattr(self, name)[keep] for name in _COLUMNS})

    def before(self, moment: int) -> "History":
        """The acts before a moment (µs); itself if there are no others."""
        keep = self.ts < moment
        return self if keep.all() else self.only(keep)

    def between(self, start: int, end: int) -> "History":
        """The acts in `[start, end)` µs."""
        return self.only((self.ts >= start) & (self.ts < end))

    def purchases(self) -> "History":
        """What was bought."""
        keep = self.kind == PURCHASE
        return self if keep.all() else self.only(keep)

    def some(self, rows: Sequence[int] | NDArray[np.int64]) -> "History":
        """The users in these rows, in the order given."""
        chosen = np.asarray(rows, np.int64)
        counts = np.diff(self.offsets)[chosen]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        at = np.arange(int(offsets[-1])) + np.repeat(self.offsets[chosen] - offsets[:-1], counts)
        ids = [self.user_ids[row] for row in chosen.tolist()]
        return History(ids, offsets, **{name: getattr(self, name)[at] for name in _COLUMNS})


_COLUMNS = tuple(field.name for field in fields(History) if field.name not in ("user_ids", "offsets"))


def _unit_price(known: Timeline, rows: NDArray[np.int64], quantity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Currency units a piece: the price, else the amount by the quantity; NaN without either."""
    price = known.column(c.PRICE)[rows] / c.MONEY
    amount = known.column(c.AMOUNT)[rows] / c.MONEY
    by_amount = np.where((amount >= 0) & (quantity > 0), amount / np.maximum(quantity, 1e-9), np.nan)
    return np.where(price >= 0, price, by_amount)


def joined(parts: Sequence[History]) -> History:
    """The users of several histories, one after another."""
    ids = [user for part in parts for user in part.user_ids]
    sizes = [np.zeros(1, np.int64), *(np.diff(part.offsets) for part in parts)]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
    return History(ids, np.cumsum(np.concatenate(sizes)), **columns)
