"""What an anonymous device did becomes its user's: not before the login, and from then on.

A login or registration that names user and device claims the device's anonymous rows that are no later than itself and
later than the login before it, by whomever. The rows stay where they are; who reads the user's timeline gets copies,
known from when both row and login are. So claims follow from the rows in force, and nothing is stored that could
disagree with them.

Which login came before is told as it was known when the login itself became known. One that turns up later takes
nothing back, or the future would change what was known: such rows are then in both users' timelines, each from the
instant of its own claim. So are those that two users who log in at one instant claim.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features import loops
from features.events import columns as c
from features.events.intake import Columns, hash_array
from features.events.segments import Segment
from features.events.sent import Sent

Array = np.ndarray


@dataclass(frozen=True)
class Lot:
    """Rows in the order user, instant: a segment's, or those of a request.

    Attributes:
        user: uint64[users], hashes, ascending; `ids` their texts.
        offsets: int64[users + 1], the rows of user u are `offsets[u]:offsets[u + 1]`.
    """

    user: Array
    ids: pa.Array
    offsets: Array
    columns: Columns

    @classmethod
    def of_segment(cls, segment: Segment) -> "Lot":
        columns = {name: segment.column(name) for name in segment.meta.columns}
        return cls(segment.user_hash, segment.user_ids, segment.offsets, columns)

    @classmethod
    def of_sent(cls, sent: Sent, rows: Array, user_ids: Sequence[str]) -> "Lot":
        """Some rows, in their order, of what was sent for these users."""
        user, first = np.unique(sent.columns["user"][rows], return_index=True)
        texts = dict(zip(hash_array(pa.array(user_ids, pa.string())).tolist(), user_ids, strict=True))
        columns = {name: values[rows] for name, values in sent.columns.items() if name != "user"}
        ids = pa.array([texts[hash_] for hash_ in user.tolist()], pa.string())
        return cls(user, ids, np.append(first, rows.size), columns)

    @cached_property
    def anonymous(self) -> tuple[Array, Array]:
        """Each anonymous device's hash, ascending, and the place of its timeline among the users."""
        if c.DEVICE_ID not in self.columns:
            return np.empty(0, np.uint64), np.empty(0, np.int64)
        places = np.flatnonzero(pc.starts_with(self.ids, c.ANONYMOUS).to_numpy(zero_copy_only=False))
        named = pc.utf8_slice_codeunits(self.ids.take(pa.array(places)), len(c.ANONYMOUS))
        devices = hash_array(named)
        order = np.argsort(devices)
        return devices[order], places[order]

    def known(self, rows: Array) -> Array:
        """Last instant at which each event was still unknown."""
        ts = self.columns[c.TS][rows]
        return np.maximum(ts, self.columns[c.ARRIVED_AT][rows] - 1) if c.ARRIVED_AT in self.columns else ts

    def owner(self, rows: Array) -> Array:
        """Place of each row's user."""
        return np.searchsorted(self.offsets, rows, side="right") - 1


class Logins(NamedTuple):
    """Logins that name a user and a device (hashes), in the order device, instant, latest known first."""

    device: Array
    ts: Array
    known: Array
    user: Array

    def on(self, devices: Array) -> "Logins":
        """Those on these devices, each named once."""
        devices = np.sort(devices)
        rows = _ranges(*(np.searchsorted(self.device, devices, side=side) for side in ("left", "right")))
        return Logins(*(values[rows] for values in self))


class Claims(NamedTuple):
    """Rows `start:stop` of a lot that become a user's at a login, by ascending hash of the user.

    `known` is the last instant at which the login was unknown.
    """

    user: Array
    device: Array
    known: Array
    lot: Array
    start: Array
    stop: Array

    def some(self, which: Array | slice) -> "Claims":
        return Claims(*(values[which] for values in self))

    def between(self, low: int, high: int) -> "Claims":
        """Those of users whose hash lies in `[low, high)`."""
        first, stop = (
            int(np.searchsorted(self.user, np.uint64(h))) if h < 2**64 else self.user.size for h in (low, high)
        )
        return self.some(slice(first, stop))

    def of(self, users: Array) -> "Claims":
        """Those of these users (hashes, each once)."""
        if not self.user.size:
            return self
        users = np.sort(users)
        return self.some(_ranges(*(np.searchsorted(self.user, users, side=side) for side in ("left", "right"))))


def logins_of(lots: Sequence[Lot], kinds: Sequence[str]) -> Logins:
    """All logins of the lots; `kinds` are kinds by code."""
    wanted = np.zeros(256, bool)
    wanted[[code for code, kind in enumerate(kinds) if kind in c.LOGINS]] = True
    parts = [Logins(*(np.empty(0, dtype) for dtype in (np.uint64, np.int64, np.int64, np.uint64)))]
    if wanted.any():
        parts += [_logins(lot, wanted) for lot in lots if c.DEVICE_ID in lot.columns]
    return _sorted(parts)


def _logins(lot: Lot, wanted: Array) -> Logins:
    rows = np.flatnonzero(wanted[lot.columns[c.KIND]])
    rows = rows[lot.columns[c.DEVICE_ID][rows] > 0]
    device, owner = lot.columns[c.DEVICE_ID][rows], lot.owner(rows)
    itself = np.zeros(lot.user.size, np.uint64)  # a device that is not known to be anyone's logs nobody in
    devices, places = lot.anonymous
    itself[places] = devices
    chosen = itself[owner] != device
    rows, owner = rows[chosen], owner[chosen]
    return Logins(device[chosen], lot.columns[c.TS][rows], lot.known(rows), lot.user[owner])


def _sorted(parts: Sequence[Logins]) -> Logins:
    device, ts, known, user = (np.concatenate(values) for values in zip(*parts, strict=True))
    order = np.lexsort((-known, ts, device))
    return Logins(device[order], ts[order], known[order], user[order])


def claims_of(logins: Logins, lots: Sequence[Lot]) -> Claims:
    """What the logins claim of the lots' rows; the logins are all that there are on their devices."""
    before = _before(logins)
    after = np.where(before >= 0, logins.ts[before], -1)
    parts = [Claims(*(np.empty(0, dtype) for dtype in (np.uint64, np.uint64, *(np.int64,) * 4)))]
    for number, lot in enumerate(lots if logins.ts.size else ()):
        devices, places = lot.anonymous
        if not devices.size:
            continue
        at = np.minimum(np.searchsorted(devices, logins.device), devices.size - 1)
        login = np.flatnonzero(devices[at] == logins.device)
        first, stop = lot.offsets[places[at[login]]], lot.offsets[places[at[login]] + 1]
        start = first_after(lot.columns[c.TS], first, stop, after[login])
        stop = first_after(lot.columns[c.TS], start, stop, logins.ts[login])
        some = stop > start
        login, start, stop = login[some], start[some], stop[some]
        user, device, known = logins.user[login], logins.device[login], logins.known[login]
        parts.append(Claims(user, device, known, np.full(login.size, number), start, stop))
    claims = Claims(*(np.concatenate(values) for values in zip(*parts, strict=True)))
    return claims.some(np.argsort(claims.user, kind="stable"))


def claims_with(claims: Claims, users: Array, stored: Logins, lots: Sequence[Lot], kinds: Sequence[str]) -> Claims:
    """The claims of some users, and of those in the last lot, as they are with that lot's logins and anonymous rows.

    Args:
        claims: what the users (hashes) claim without it.
        stored: the logins of the other lots.
    """
    sent = lots[-1]
    logins = logins_of([sent], kinds)
    devices = np.unique(np.concatenate([logins.device, sent.anonymous[0]]))
    if not devices.size:
        return claims
    afresh = claims_of(_sorted([stored.on(devices), logins]), lots)
    afresh = afresh.of(np.union1d(users, sent.user))
    kept = claims.some(~np.isin(claims.device, devices))
    return Claims(*(np.concatenate(values) for values in zip(kept, afresh, strict=True)))


def _before(logins: Logins) -> Array:
    """Place of the login before each on the same device, of those known no later; -1 where there is none."""
    place = np.arange(logins.ts.size)
    new_device = np.diff(logins.device, prepend=np.uint64(0)) != 0
    new = new_device | (np.diff(logins.ts, prepend=-1) != 0)
    first_of_instant = np.maximum.accumulate(np.where(new, place, 0))
    first_of_device = np.maximum.accumulate(np.where(new_device, place, 0))
    # The last login of the instant before is that instant's first known.
    before = np.where(first_of_instant > first_of_device, first_of_instant - 1, -1)
    while True:
        late = np.flatnonzero((before >= 0) & (logins.known[before] > logins.known))
        if not late.size:
            return before
        # Between a login and its `before`, all became known later than it, so later than whom it is passed over for.
        before[late] = before[before[late]]


def first_after(values: Array, first: Array, stop: Array, limit: Array) -> Array:
    """First place of each range `first:stop`, ascending, whose value is above a limit, else its stop."""
    low, high = first.copy(), stop.copy()
    while (active := np.flatnonzero(low < high)).size:
        middle = (low[active] + high[active]) // 2
        early = values[middle] <= limit[active]
        low[active[early]] = middle[early] + 1
        high[active[~early]] = middle[~early]
    return low


def add_claimed(users: list[Array], parts: list[Columns], hashes: Array, claims: Claims, lots: Sequence[Lot]) -> None:
    """Add what the users claim to their own rows, as parts of their own.

    Args:
        users: for each part the place of each row's user.
        hashes: of the users, by place.
    """
    if not claims.user.size:
        return
    order = np.argsort(hashes)
    claimant = np.isin(hashes, claims.user)
    chosen = [np.flatnonzero(claimant[user]) for user in users]
    key = np.concatenate([part["key"][rows] for part, rows in zip(parts, chosen, strict=True)])
    own = _of_user(key, hashes[np.concatenate([user[rows] for user, rows in zip(users, chosen, strict=True)])])
    for user, columns in _claimed_rows(claims, lots, own):
        users.append(order[np.searchsorted(hashes[order], user)])
        parts.append(columns)


def _claimed_rows(claims: Claims, lots: Sequence[Lot], own: Array) -> Iterator[tuple[Array, Columns]]:
    """Claimed rows with the hash of the user who claims each, `arrived_at` being when both row and login are known.

    A row comes once however often its user claims it, and not at all if the user has it already under the user's own
    name: `own` are `_of_user` the keys of the users' own rows.
    """
    for number, lot in enumerate(lots):
        mine = claims.some(np.flatnonzero(claims.lot == number))
        if not mine.user.size:
            continue
        claim = np.repeat(np.arange(mine.user.size), mine.stop - mine.start)
        rows = _ranges(mine.start, mine.stop)
        user, device = mine.user[claim], lot.user[lot.owner(mine.start)][claim]
        known = np.maximum(lot.known(rows), mine.known[claim])
        key = lot.columns["key"][rows]
        order = np.lexsort((known, rows, user))
        again = np.zeros(rows.size, bool)
        again[order[1:]] = (np.diff(rows[order]) == 0) & (np.diff(user[order]) == 0)
        names = [_of_user(key, user), _of_user(renamed(key, device, user), user)]
        has = np.isin(np.concatenate(names), own).reshape(2, -1).any(axis=0)
        # Someone may go by the name of a device's timeline, and be on another device.
        kept = np.flatnonzero(~again & ~has & (lot.columns[c.DEVICE_ID][rows] == mine.device[claim]))
        taken = rows[kept]
        columns = {name: values[taken] for name, values in lot.columns.items()}
        yield user[kept], columns | {c.ARRIVED_AT: known[kept] + 1}


def renamed(key: Array, device: Array, user: Array) -> Array:
    """Identities, as `segments.sorted_partition` makes them of whole rows, as if the rows had been the user's."""
    key = key.copy()
    for owner in (device, user):  # folding in what is in already takes it out
        loops.fold(key, owner, np.uint64(1), np.uint64(0))
    return key


def _of_user(key: Array, user: Array) -> Array:
    """One number for a row's identity and a user."""
    both = key.copy()
    loops.fold(both, user, np.uint64(3), np.uint64(0))
    return both


def _ranges(starts: Array, stops: Array) -> Array:
    """All places of `starts[i]:stops[i]`, range after range."""
    lengths = stops - starts
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if ends.size else 0) + np.repeat(starts - (ends - lengths), lengths)
