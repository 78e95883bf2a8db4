"""What heads and ranker ask of some users' pasts: items bought, orders, prices, and what was looked at."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.recommender.history import (
    CART,
    DAY_US,
    FAVOURITE,
    NOT_INTERESTED,
    PURCHASE,
    REFUND,
    VIEW,
    History,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SESSION_DAYS = 30 / 1440  # a visit is over after half an hour without an act
INTEREST = {PURCHASE: 1.0, CART: 0.5, FAVOURITE: 0.5, VIEW: 0.15}
"""What an act tells of a liking, relative to a purchase."""


def decay(age_days: Floats, half_life: float) -> Floats:
    """Weight of an act by its age: 1 at the moment, one half after each half-life (days)."""
    weights: Floats = np.exp2(age_days / -half_life)
    return weights


@dataclass(frozen=True)
class Pairs:
    """Users and items with a number each, ascending by user, then item."""

    user: Ints
    item: Ints
    value: Floats


@dataclass(frozen=True)
class Past:
    """A history before a moment (µs), and what follows from it. All arrays stand in the order user, item, time."""

    history: History
    as_of: int

    @classmethod
    def of(cls, history: History, as_of: int) -> "Past":
        """Nothing at or after the moment gets in."""
        return cls(history.before(as_of), as_of)

    def __len__(self) -> int:
        return len(self.history)

    @cached_property
    def age(self) -> Floats:
        """Days since each act."""
        ages: Floats = (self.as_of - self.history.ts) / DAY_US
        return ages

    # ------------------------------------------------------------------------------------------------ purchases

    @cached_property
    def bought(self) -> "Bought":
        """The purchases, one entry an order and item."""
        return Bought.of(self)

    # ------------------------------------------------------------------------------------------------ liking

    @cached_property
    def _likes(self) -> tuple[Ints, Ints]:
        """Acts that tell of a liking, and where a new user or item begins among them."""
        history = self.history
        rows = np.flatnonzero(np.isin(history.kind, list(INTEREST)))
        return rows, starts(history.users[rows], history.item[rows])

    @cached_property
    def _likings(self) -> dict[float, Pairs]:
        return {}

    def liking(self, half_life: float) -> Pairs:
        """Σ interest × 2^(−age / half-life) over all acts of a user on an item that tell of a liking."""
        if half_life not in self._likings:
            rows, begin = self._likes
            weight = _INTEREST[self.history.kind[rows]] * decay(self.age[rows], half_life)
            user, item = self.history.users[rows][begin], self.history.item[rows][begin]
            self._likings[half_life] = Pairs(user, item.astype(np.int64), _sums(weight, begin))
        return self._likings[half_life]

    @cached_property
    def now(self) -> Pairs:
        """What is looked at at present: items of the user's visit that has not yet ended, 1 for the newest act's."""
        history = self.history
        rows = np.flatnonzero(np.isin(history.kind, (VIEW, CART, FAVOURITE)))
        user, age = history.users[rows], self.age[rows]
        order = np.lexsort((age, user))
        user, age, item = user[order], age[order], history.item[rows][order]
        begin = starts(user)
        gap = np.diff(age, prepend=0.0)
        gap[begin] = age[begin]
        ended = np.cumsum(gap > SESSION_DAYS)
        live = ended == np.repeat((ended - (gap > SESSION_DAYS))[begin], np.diff(np.append(begin, len(user))))
        user, item, age = user[live], item[live], age[live]
        order = np.lexsort((age, item, user))
        user, item, age = user[order], item[order], age[order]
        begin = starts(user, item)
        return Pairs(user[begin], item[begin].astype(np.int64), 1.0 / (1.0 + age[begin] * 96))

    def last(self, kind: int) -> Pairs:
        """Days since each user's last act of a kind on an item."""
        rows = np.flatnonzero(self.history.kind == kind)
        user, item = self.history.users[rows], self.history.item[rows]
        begin = starts(user, item)
        ends = np.append(begin[1:], len(rows)) - 1
        return Pairs(user[begin], item[begin].astype(np.int64), self.age[rows[ends]] if len(rows) else np.zeros(0))

    def refunded(self) -> Pairs:
        """Items of which as much was given back, since the newest order with them, as that had held; how much."""
        history, bought = self.history, self.bought
        rows = np.flatnonzero(history.kind == REFUND)
        place = bought.place(history.users[rows], history.item[rows].astype(np.int64))
        newest = np.append(bought.age[bought.ends], np.inf)[place]
        rows = rows[self.age[rows] <= newest]
        user, item = history.users[rows], history.item[rows].astype(np.int64)
        begin = starts(user, item)
        user, item, back = user[begin], item[begin], _sums(history.quantity[rows], begin)
        held = np.append(bought.quantity[bought.ends], 0.0)[bought.place(user, item)]
        return Pairs(user[back >= held], item[back >= held], back[back >= held])

    @cached_property
    def disliked(self) -> Pairs:
        """Items marked `not_interested`; days since."""
        return self.last(NOT_INTERESTED)


@dataclass(frozen=True)
class Bought:
    """Purchases, one entry a user, item and order, in the order user, item, time; and pairs of user and item over them.

    users: how many there are. user, item, age (days), price (mean a unit), quantity, rank: of each entry; rank 0 is the
    user's newest order. begin: where each pair starts. orders: of each user; their ages newest first in `order_age`,
    cut by `order_offsets`.
    """

    users: int
    user: Ints
    item: Ints
    age: Floats
    price: Floats
    quantity: Floats
    rank: Ints
    begin: Ints
    order_age: Floats
    order_offsets: Ints

    @classmethod
    def of(cls, past: Past) -> "Bought":
        history = past.history
        rows = np.flatnonzero(history.kind == PURCHASE)
        user, item, order, age = history.users[rows], history.item[rows], history.order[rows], past.age[rows]
        by_order = np.lexsort((np.arange(len(rows)), order, item, user))
        begin = starts(user[by_order], item[by_order], order[by_order])
        price, quantity = history.price[rows][by_order], history.quantity[rows][by_order]
        known = np.isfinite(price)
        priced = _sums(known.astype(np.float64), begin)
        paid = _sums(np.where(known, price, 0.0), begin)
        mean_price = np.divide(paid, priced, out=np.full(len(begin), np.nan), where=priced > 0)
        entry = by_order[begin]
        oldest = np.maximum.reduceat(age[by_order], begin) if len(begin) else np.zeros(0)
        by_age = np.lexsort((order[entry], -oldest, item[entry], user[entry]))
        entry, oldest = entry[by_age], oldest[by_age]
        rank, order_age, order_offsets = _orders(len(history), user[entry], order[entry], oldest)
        return cls(
            users=len(history),
            user=user[entry],
            item=item[entry].astype(np.int64),
            age=oldest,
            price=mean_price[by_age],
            quantity=_sums(quantity, begin)[by_age],
            rank=rank,
            begin=starts(user[entry], item[entry]),
            order_age=order_age,
            order_offsets=order_offsets,
        )

    @cached_property
    def ends(self) -> Ints:
        """The last entry of each pair."""
        return np.append(self.begin[1:], len(self.user)) - 1 if len(self.begin) else self.begin

    @cached_property
    def pair_user(self) -> Ints:
        return self.user[self.begin]

    @cached_property
    def pair_item(self) -> Ints:
        return self.item[self.begin]

    @cached_property
    def times(self) -> Floats:
        """Orders with the item, of each pair."""
        return (self.ends - self.begin + 1).astype(np.float64)

    def sums(self, values: Floats) -> Floats:
        """Σ of a value an entry over each pair."""
        return _sums(values, self.begin)

    def weights(self, half_life: float) -> Floats:
        """Decayed orders with the item, of each pair."""
        return self.sums(decay(self.age, half_life))

    def by_user(self, values: Floats) -> Floats:
        """Σ of a value an entry over each user."""
        return np.bincount(self.user, values, self.users).astype(np.float64)

    @cached_property
    def orders(self) -> Floats:
        """Orders of each user."""
        return np.diff(self.order_offsets).astype(np.float64)

    def place(self, user: Ints, item: Ints) -> Ints:
        """The pair of each user and item; -1 where they never bought it."""
        if not len(self.begin):
            return np.full(len(user), -1)
        width = max(int(self.pair_item.max()), int(item.max(initial=0))) + 1
        keys, asked = self.pair_user * width + self.pair_item, user * width + item
        at = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
        return np.where(keys[at] == asked, at, -1)

    def last_age(self, user: Ints, item: Ints) -> Floats:
        """Days since each user last bought an item; NaN if never."""
        return np.append(self.age[self.ends], np.nan)[self.place(user, item)]


def starts(*keys: NDArray[np.integer]) -> Ints:
    """Where runs of equal keys begin, in keys that are sorted together."""
    first = np.zeros(len(keys[0]), np.bool_)
    first[:1] = True
    for key in keys:
        first[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(first)


def _sums(values: Floats, begin: Ints) -> Floats:
    return np.add.reduceat(values, begin) if len(begin) else np.zeros(0)


def _orders(users: int, user: Ints, order: Ints, age: Floats) -> tuple[Ints, Floats, Ints]:
    """Rank of each entry's order (0: the user's newest), ages of all orders, newest first, and where users begin."""
    by_order = np.lexsort((order, user))
    begin = starts(user[by_order], order[by_order])
    of_entry = np.empty(len(user), np.int64)
    of_entry[by_order] = np.repeat(np.arange(len(begin)), np.diff(np.append(begin, len(user))))
    owner = user[by_order][begin]
    oldest = np.maximum.reduceat(age[by_order], begin) if len(begin) else np.zeros(0)
    newest_first = np.lexsort((order[by_order][begin], oldest, owner))
    offsets = np.searchsorted(owner[newest_first], np.arange(users + 1))
    rank = np.empty(len(begin), np.int64)
    rank[newest_first] = np.arange(len(begin)) - offsets[owner[newest_first]]
    return rank[of_entry], oldest[newest_first], offsets


_INTEREST = np.array([INTEREST.get(kind, 0.0) for kind in range(256)])
