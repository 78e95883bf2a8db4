"""Leavers and stayers who were alike: pairs of users, each anchored at the day of a purchase."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from features.events import columns as c
from features.events.store import Store
from features.timeline import Array, Timeline

NEAREST = 40  # stayers looked at for each leaver
# How far a pair may be apart: days between anchors; logarithms of orders, of spend, of days since the first order and
# of the longest gap between orders.
TOLERANCES = {
    "anchor": 14.0,
    "orders": 0.3,
    "orders_before": 0.7,
    "spend": 0.7,
    "first_order": 0.5,
    "longest_gap": 0.5,
}


@dataclass(frozen=True)
class Anchors:
    """Days with a purchase that have a full span of history before them; an entry a user and day.

    Attributes:
        user_ids: texts, one a user.
        user: int64, place in `user_ids`; rising.
        day: int64, days since 1970.
        gap: int64, days to the next purchase day; to the end of what is known if there is none.
        leaves: bool, no purchase follows for the horizon.
        followed: bool, one follows within it.
        next_leave: int64, day of the user's next leaving, this day's included; huge if none is known.
        measures: what pairs are matched by, as named and scaled in `TOLERANCES`: the day; orders and spend of the span
            before it; orders before that; days since the first order; the longest gap so far.
    """

    user_ids: Array
    user: Array
    day: Array
    gap: Array
    leaves: Array
    followed: Array
    next_leave: Array
    measures: dict[str, Array]

    def leavers(self) -> Array:
        """Places of each user's latest leaving."""
        places = np.flatnonzero(self.leaves)
        return places[np.append(np.diff(self.user[places]) != 0, True)[: places.size]]

    def stayers(self, lookback: int) -> Array:
        """Places of days that are followed, of users who do not leave within so many days after either."""
        return np.flatnonzero(self.followed & (self.next_leave > self.day + lookback))


def anchors(store: Store, as_of: int, horizon: int, span: int) -> Anchors:
    """All purchase days of a store, as known before `as_of` (µs), that have `span` days of history before them."""
    ids: list[Any] = []
    parts: list[dict[str, Array]] = []
    for chunk in store.chunks() or [(0, 0)]:
        timeline = store.timeline(chunk)
        part = _purchase_days(timeline.known_before(as_of), as_of, horizon, span)
        parts.append({**part, "user": part["user"] + sum(map(len, ids))})
        ids.append(timeline.user_ids.to_numpy(zero_copy_only=False))
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    measures = {name: whole.pop(name) for name in TOLERANCES}
    return Anchors(np.concatenate(ids), measures=measures, **whole)


def _purchase_days(timeline: Timeline, as_of: int, horizon: int, span: int) -> dict[str, Array]:
    stream = timeline.stream("purchase")
    owner = np.repeat(np.arange(len(timeline)), np.diff(stream.offsets))
    before = stream.ts < as_of
    owner, when = owner[before], stream.ts[before] // c.DAY
    amount = np.maximum(timeline.values("purchase", c.AMOUNT)[before], 0) / c.MONEY
    first_line = np.append(True, (np.diff(owner) != 0) | (np.diff(when) != 0))[: owner.size]
    lines = np.flatnonzero(first_line)
    user, day = owner[lines], when[lines]
    spent = np.append(0.0, np.cumsum(amount))[lines]  # before each day, by whomever
    last_of_user = np.append(np.diff(user) != 0, True)[: user.size]
    gap = np.where(last_of_user, as_of // c.DAY - day, np.append(np.diff(day), 0)[: day.size])
    leaves = gap > horizon
    wide = np.int64(1 << 32)  # a user and day as one rising number, so that a search for a day stays within its user
    place = np.arange(day.size)
    start = np.searchsorted(user * wide + day, user * wide + day - span)
    first = np.searchsorted(user, user)
    leaving = np.append(np.flatnonzero(leaves), day.size)
    at = leaving[np.searchsorted(leaving, place)]
    found = {
        "user": user,
        "day": day,
        "gap": gap,
        "leaves": leaves,
        "followed": ~last_of_user & ~leaves,
        "next_leave": np.where(np.append(user, -1)[at] == user, np.append(day, 0)[at], wide),
        "anchor": day.astype(np.float64),
        "orders": np.log1p(place - start),
        "orders_before": np.log1p(start - first),
        "spend": np.log1p(spent - spent[start]),
        "first_order": np.log1p(day - day[first]),
        "longest_gap": np.log1p(_longest_gap(day, first)),
    }
    return {name: values[day - day[first] > span] for name, values in found.items()}


def _longest_gap(day: Array, first: Array) -> Array:
    """Longest gap between a user's purchase days up to each; 0 at the first. All in the order user, day."""
    gap = np.where(first == np.arange(day.size), 0, np.append(0, np.diff(day))[: day.size])
    # A user's gaps are lifted above all of the users before, so that one running maximum does for all.
    lift = first * (int(gap.max(initial=0)) + 1)
    return np.maximum.accumulate(gap + lift) - lift


def match(anchors: Anchors, left: Array, stayed: Array) -> Array:
    """Places of leavers and their stayers, int64[pairs, 2]: nearest first, each user in one pair at most."""
    if not left.size or not stayed.size:
        return np.empty((0, 2), np.int64)
    scaled = np.stack([anchors.measures[name] / width for name, width in TOLERANCES.items()], axis=1)
    tree = cKDTree(scaled[stayed])
    apart, near = tree.query(scaled[left], k=min(NEAREST, stayed.size), p=np.inf, distance_upper_bound=1.0)
    apart, near = apart.reshape(left.size, -1), near.reshape(left.size, -1)
    used: set[int] = set()
    pairs = []
    for flat in np.argsort(apart, axis=None, kind="stable"):
        row, column = divmod(int(flat), apart.shape[1])
        if not np.isfinite(apart[row, column]):
            break
        pair = int(left[row]), int(stayed[near[row, column]])
        users = {int(anchors.user[place]) for place in pair}
        if len(users) == 2 and not users & used:
            used |= users
            pairs.append(pair)
    return np.array(pairs, np.int64).reshape(-1, 2)
