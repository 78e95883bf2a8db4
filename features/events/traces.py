"""What a store knows of one user: where it stands, and how much of it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.events import columns as c
from features.events.devices import Claims, Lot
from features.events.intake import hash_array, hash_text
from features.events.segments import Segment
from features.events.store import Store
from features.mentions import Name, texts_of

Array = np.ndarray
INVITED_BY = "invited_by"
# Texts that are a user's own if nobody else's rows have them. Kinds, channels, places, merchants, campaigns and arms
# are the shop's: one of them goes only if it also names the user.
OWN_WORDS = (c.ITEM_ID, c.CATEGORY, c.PAGE)
SHOP_WORDS = tuple(column for column in c.CODED if column not in (*OWN_WORDS, c.KIND))


@dataclass(frozen=True)
class Traces:
    """Where a user stands in a store as it is read.

    Attributes:
        own, claimed: a mask over each segment's rows: the user's own, and anonymous devices' that became the user's.
        shared: of these, those that other users claim too.
        own_keys, claimed_keys: identities of these rows.
        devices: hashes of the devices that the user logged in on.
        words: column → texts that go with the rows.
    """

    user_id: str
    own: Sequence[Array]
    claimed: Sequence[Array]
    shared: Sequence[Array]
    own_keys: Array
    claimed_keys: Array
    devices: frozenset[int]
    words: Mapping[str, tuple[str, ...]]
    listed: int
    invited: int
    rejected: int

    @property
    def gone(self) -> list[Array]:
        """A mask over each segment's rows: what is to be erased."""
        return [own | claimed for own, claimed in zip(self.own, self.claimed, strict=True)]

    @property
    def in_store(self) -> bool:
        """Does what the manifest names hold anything of the user?"""
        return bool(self.own_keys.size or self.claimed_keys.size or self.listed or self.invited)

    @cached_property
    def name(self) -> Name:
        """The user's."""
        return Name(self.user_id)


def look(store: Store, user_id: str) -> Traces:
    """Everything that a store knows of a user, or of an anonymous device by the name of its timeline (`device:…`)."""
    own = [_own(segment, user_id) for segment in store.segments]
    known = any(mask.any() for mask in own)
    claimed = _claimed(store, user_id) if known else [np.zeros_like(mask) for mask in own]
    claimed = [mask & ~mine for mask, mine in zip(claimed, own, strict=True)]
    gone = [mine | more for mine, more in zip(own, claimed, strict=True)]
    shared = _shared(store, user_id, gone)
    devices = _devices(store, user_id) if known else frozenset()
    users = store.table("users")
    rejected = sum(int(named_in(read_rejected(file), user_id, devices).sum()) for file in rejected_files(store.path))
    return Traces(
        user_id,
        own,
        claimed,
        shared,
        _keys(store, own),
        _keys(store, claimed),
        devices,
        _words(store, gone, shared, Name(user_id)) if known else {},
        _equal(users, c.USER_ID, user_id),
        _equal(users, INVITED_BY, user_id),
        rejected,
    )


def counts(store: Store, found: Traces) -> dict[str, int]:
    """How much of what was found stands in a store as it is read, place by place; rows are also looked for by their
    identities, and words by their texts."""
    now = look(store, found.user_id)
    left = {column: set(store.words[column].texts) for column in found.words}
    return {
        "their events": max(now.own_keys.size, _with_keys(store, found.own_keys)),
        "events of anonymous devices that became theirs": max(
            now.claimed_keys.size, _with_keys(store, found.claimed_keys)
        ),
        "entries in lists of users": sum(_listed(segment, found.name) for segment in store.segments),
        "rows of the users table": now.listed,
        "invitations by them": now.invited,
        "words that only they had": sum(text in left[column] for column in left for text in found.words[column]),
        "rejected rows": now.rejected,
    }


# --------------------------------------------------------------------------------------------------------- rows


def _own(segment: Segment, user_id: str) -> Array:
    mask = np.zeros(segment.meta.rows, bool)
    place = place_of(segment, hash_text(user_id))
    if place is not None and segment.user_ids[place].as_py() == user_id:
        mask[segment.offsets[place] : segment.offsets[place + 1]] = True
    return mask


def _listed(segment: Segment, name: Name) -> int:
    """A segment lists a user by id and by hash."""
    by_id = int(pc.sum(pc.equal(segment.user_ids, name.user_id)).as_py() or 0)
    return max(by_id, int((segment.user_hash == np.uint64(name.hash)).sum()))


def place_of(segment: Segment, user: int) -> int | None:
    """The place of a user (hash) among a segment's."""
    place = int(np.searchsorted(segment.user_hash, np.uint64(user)))
    return place if place < segment.meta.users and int(segment.user_hash[place]) == user else None


def _claimed(store: Store, user_id: str) -> list[Array]:
    """Masks of the anonymous rows in the user's timeline, whoever else has them in theirs."""
    everything = [np.ones(segment.meta.rows, bool) for segment in store.segments]
    return _among(store, store.devices[1].of(np.array([hash_text(user_id)], np.uint64)), everything)


def _shared(store: Store, user_id: str, gone: Sequence[Array]) -> list[Array]:
    """Masks of those of the rows that other users claim."""
    claims = store.devices[1]
    touched = np.zeros(claims.user.size, bool)
    for lot, mask in enumerate(gone):
        before = np.append(0, np.cumsum(mask))
        of_lot = np.flatnonzero(claims.lot == lot)
        touched[of_lot] = before[claims.stop[of_lot]] > before[claims.start[of_lot]]
    return _among(store, claims.some(touched & (claims.user != np.uint64(hash_text(user_id)))), gone)


def _among(store: Store, claims: Claims, rows: Sequence[Array]) -> list[Array]:
    """Masks of what is claimed of some rows."""
    masks = [np.zeros(segment.meta.rows, bool) for segment in store.segments]
    for device, lot, start, stop in zip(claims.device, claims.lot, claims.start, claims.stop, strict=True):
        # Someone may go by the name of a device's timeline, and be on another device.
        on_it = store.segments[lot].column(c.DEVICE_ID)[start:stop] == device
        masks[lot][start:stop] |= on_it & rows[lot][start:stop]
    return masks


def _devices(store: Store, user_id: str) -> frozenset[int]:
    logins = store.devices[0]
    on = logins.device[logins.user == np.uint64(hash_text(user_id))].tolist()
    itself = user_id.removeprefix(c.ANONYMOUS)
    return frozenset([*on, hash_text(itself)] if itself != user_id else on)


def still_anonymous(store: Store, found: Traces) -> dict[str, int]:
    """Name and events of the timelines that the user's devices have under their own names: what they did there while
    nobody was known, and no login of theirs claims, may be somebody else's."""
    out: dict[str, int] = {}
    for segment in store.segments if found.devices else ():
        devices, places = Lot.of_segment(segment).anonymous
        for place in places[np.isin(devices, np.array(sorted(found.devices), np.uint64))].tolist():
            name = str(segment.user_ids[place])
            out[name] = out.get(name, 0) + int(segment.offsets[place + 1] - segment.offsets[place])
    return out


def _keys(store: Store, masks: Sequence[Array]) -> Array:
    parts = [segment.column("key")[mask] for segment, mask in zip(store.segments, masks, strict=True)]
    return np.concatenate([np.empty(0, np.uint64), *parts])


def _with_keys(store: Store, keys: Array) -> int:
    pieces = ((segment, rows) for segment in store.segments for rows in segment.pieces()) if keys.size else ()
    return sum(int(np.isin(segment.column("key")[rows], keys).sum()) for segment, rows in pieces)


def owners(store: Store, masks: Sequence[Array]) -> tuple[Array, Array]:
    """Identity of each chosen row, ascending, and the hash of whose row it is."""
    whose = [np.empty(0, np.uint64)]
    for segment, mask in zip(store.segments, masks, strict=True):
        whose.append(segment.user_hash[Lot.of_segment(segment).owner(np.flatnonzero(mask))])
    keys, users = _keys(store, masks), np.concatenate(whose)
    order = np.argsort(keys)
    return keys[order], users[order]


# -------------------------------------------------------------------------------------------------------- words


def _words(store: Store, gone: Sequence[Array], shared: Sequence[Array], name: Name) -> dict[str, tuple[str, ...]]:
    """Column → texts that no row has but those that go (and are nobody else's), and that the items table does not
    name."""
    out = {}
    for column in (*OWN_WORDS, *SHOP_WORDS):
        texts = store.words[column].texts
        theirs, others = np.zeros(len(texts), bool), _of_items(store, column)
        has = [s for s in zip(store.segments, gone, shared, strict=True) if column in s[0].meta.columns]
        for segment, mask, _ in has:
            _mark(theirs, segment.column(column)[mask])
        for segment, mask, also in has if theirs.any() else ():
            for rows in segment.pieces():
                _mark(others, segment.column(column)[rows][~mask[rows] | also[rows]])
        only = [texts[code] for code in np.flatnonzero(theirs & ~others)]
        chosen = tuple(text for text in only if column in OWN_WORDS or name.stands_in(text))
        if chosen:
            out[column] = chosen
    return out


def _mark(marks: Array, codes: Array) -> None:
    marks[codes[codes >= 0]] = True


def _of_items(store: Store, column: str) -> Array:
    """Which words of a column the items table names."""
    texts = store.words[column].texts
    table = store.table("items") if column in (c.ITEM_ID, c.CATEGORY) else None
    if table is None or column not in table.column_names:
        return np.zeros(len(texts), bool)
    named = set(table[column].to_pylist())
    return np.array([text in named for text in texts], bool)


# ------------------------------------------------------------------------------------------------------- tables


def _equal(table: pa.Table | None, column: str, text: str) -> int:
    if table is None or column not in table.column_names:
        return 0
    return int(pc.sum(pc.equal(texts_of(table[column]), text)).as_py() or 0)


def rejected_files(path: Path) -> list[Path]:
    """Where intake keeps the rows that it refused."""
    return sorted(file for file in (path / "rejected").glob("*.parquet") if not file.name.startswith("."))


def read_rejected(file: Path) -> pa.Table:
    """The refused rows of one ingest."""
    return pq.ParquetFile(file).read()


def named_in(rejected: pa.Table, user_id: str, devices: frozenset[int]) -> Array:
    """Which refused rows may be the user's: they name the user, or nobody and one of these devices (hashes), or were
    cut before it could be told whom they name."""
    name = Name(user_id)
    return np.array([_names(source, name, devices) for source in rejected["source"].to_pylist()], bool)


def _names(source: str | None, name: Name, devices: frozenset[int]) -> bool:
    try:
        row = json.loads(source or "{}")
    except ValueError:  # intake keeps the first 2,000 letters
        return source is not None and (f'"{c.USER_ID}"' not in source or name.user_id in source)
    values = dict(_flat(row))
    user, device = values.get(c.USER_ID), values.get(c.DEVICE_ID)
    if user is None and device is not None and int(hash_array(pa.array([device]))[0]) in devices:
        return True
    texts = () if name.is_number else values.values()
    return user == name.user_id or any(name.stands_in(text) for text in texts)


def _flat(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The values of a row as the texts that intake would make of them; what is empty is left out."""
    for column, value in row.items():
        if value is None or value == "":
            continue
        whole = isinstance(value, float) and value.is_integer()
        yield column, str(int(value)) if whole else value if isinstance(value, str) else json.dumps(value)
