"""The event store: `manifest.json` names the segments, words and tables in force; all else is immutable files.

A change writes new files beside the old ones, makes them durable and then swaps the manifest by one rename. A process
killed at any point leaves the old manifest in force, and whatever it did not name is swept away by the next change.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import compress, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features import loops
from features.errors import UserError
from features.events import columns as c
from features.events.devices import Claims, Logins, Lot, add_claimed, claims_of, claims_with, first_after, logins_of
from features.events.intake import Columns, Words, hash_array
from features.events.segments import Segment, SegmentMeta
from features.events.sent import Sent
from features.instants import instant
from features.timeline import Facts, Timeline

FORMAT = 1
CHUNK_ROWS = 250_000  # events of a bucket: what it works on then stays in the processor's cache


class Store:
    """A store opened for reading: an unchanging view, whatever is ingested meanwhile."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path, self.manifest = path, manifest
        self.segments = [
            Segment(path / "segments" / meta["id"], SegmentMeta.from_json(meta)) for meta in manifest["segments"]
        ]
        files = manifest["words"]
        self.words = {name: Words(_read_texts(path / files[name]) if name in files else ()) for name in c.CODED}
        self._tables = {
            name: pa.memory_map(str(path / file)).read_buffer() for name, file in manifest["tables"].items()
        }
        file = manifest["item_category"]
        self._item_category = np.fromfile(path / file, np.int32) if file else None
        self._facts: Facts | None = None
        self._lots = [Lot.of_segment(segment) for segment in self.segments]
        self._devices: tuple[Logins, Claims] | None = None

    @classmethod
    def open(cls, path: Path | str) -> "Store":
        path = Path(path)
        for attempt in range(3):
            manifest = read_manifest(path)
            if manifest is None:
                raise UserError(f"no store at {path}: make one with `ebbtide ingest SOURCE --store {path}`")
            try:
                return cls(path, manifest)
            except FileNotFoundError:  # an ingest swept what the manifest we read still named: read it again
                if attempt == 2:
                    raise
        raise AssertionError

    @property
    def rows(self) -> int:
        return sum(segment.meta.rows for segment in self.segments)

    @property
    def span(self) -> tuple[int, int]:
        """First and last instant of the log, µs.

        Raises:
            UserError: it has no events any more.
        """
        if not self.segments:
            raise UserError(f"the store at {self.path} holds no events: ingest some")
        return min(s.meta.first_ts for s in self.segments), max(s.meta.last_ts for s in self.segments)

    @property
    def user_hashes(self) -> np.ndarray:
        """Hashes of all users, ascending."""
        if len(self.segments) == 1:
            return self.segments[0].user_hash
        return np.unique(np.concatenate([np.empty(0, np.uint64), *(s.user_hash for s in self.segments)]))

    def table(self, name: str) -> pa.Table | None:
        """The `items` or `users` table, if the source had one."""
        table = self._tables.get(name)
        return pq.read_table(pa.BufferReader(table)) if table is not None else None

    @property
    def facts(self) -> Facts:
        """What the log as a whole tells: when each kind, column and category was first known."""
        if self._facts is None:
            self._facts = self._read_facts()
        return self._facts

    def _read_facts(self) -> Facts:
        kinds: dict[str, int] = {}
        columns: dict[str, int] = {}
        categories = np.full(len(self.words[c.CATEGORY]), c.NEVER)
        for segment in self.segments:
            for code, known in segment.meta.kinds_known.items():
                text = self.words[c.KIND].texts[code]
                kinds[text] = min(kinds.get(text, c.NEVER), known)
            for name, known in segment.meta.columns_known.items():
                columns[name] = min(columns.get(name, c.NEVER), known)
            size = segment.category_known.size
            categories[:size] = np.minimum(categories[:size], segment.category_known)
        pages = tuple(self.words[c.PAGE].texts)
        return Facts(tuple(self.words[c.KIND].texts), kinds, columns, categories, self._item_category, pages)

    @property
    def devices(self) -> tuple[Logins, Claims]:
        """All logins that name a device, and what they claim of anonymous devices' rows."""
        if self._devices is None:
            log_in = {code for code, kind in enumerate(self.words[c.KIND].texts) if kind in c.LOGINS}
            metas = [segment.meta for segment in self.segments]
            may = [c.DEVICE_ID in meta.columns_known and bool(log_in & meta.kinds_known.keys()) for meta in metas]
            logins = logins_of(list(compress(self._lots, may)), self.words[c.KIND].texts)
            self._devices = logins, claims_of(logins, self._lots)
        return self._devices

    def matrix(
        self,
        as_of: str | datetime | int,
        horizon: int | None = None,
        lookback: int | None = None,
        users: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """`user_id` and every signal at a moment, a row a user; with a horizon also `days_to_purchase` and
        `churned`.

        Args:
            as_of: ISO date or time, a datetime (both UTC without a zone), or µs.
            horizon: days of the outcome window, which must lie in the log.
            lookback: only users with a purchase in that many days before the moment.
            users: only these, in the order given; strangers have no row.

        Raises:
            UserError: the moment is not a time, not after the first event, or too late for the horizon.
        """
        from features.engines.local import matrices  # it works on stores: imported here, neither needs the other first

        moment = instant(as_of)
        first, last = self.span
        if moment <= first:
            raise UserError(f"as_of must be later than the first event, {_iso(first)}; it is {_iso(moment)}")
        latest = (last // c.DAY + 1 - (horizon or 0)) * c.DAY
        if horizon and moment > latest:
            raise UserError(
                f"the log ends before {horizon} days after {_iso(moment)}: with that horizon as_of may be at most "
                f"{_iso(latest)}"
            )
        return matrices(self, [moment], lookback=lookback, horizon=horizon, users=users)[0].to_pandas()

    def digest(self, as_of: int = c.NEVER) -> str:
        """Name of the log known before `as_of`: its row count and a sum of its rows' hashes, whatever their order."""
        rows, total = 0, 0
        for segment in self.segments:
            for piece in segment.pieces():
                known = segment.known(piece) < as_of
                users = np.searchsorted(segment.offsets, np.arange(piece.start, piece.stop), side="right") - 1
                row_hash = segment.column("tie")[piece].copy()
                loops.fold(row_hash, segment.user_hash[users], np.uint64(1), np.uint64(0))
                rows += int(known.sum())
                total = (total + int(row_hash[known].sum(dtype=np.uint64))) % 2**64
        return f"{rows}-{total:016x}"

    def chunks(self, rows: int = CHUNK_ROWS) -> list[tuple[int, int]]:
        """Ranges `[low, high)` of user hashes that cover all users, each of about `rows` events."""
        if not self.segments:
            return []
        largest = max(self.segments, key=lambda s: s.meta.rows)
        parts = max(1, round(self.rows / rows))
        starts = np.searchsorted(largest.offsets, np.arange(1, parts) * largest.meta.rows // parts)
        cuts = [0, *sorted({int(h) for h in largest.user_hash[np.minimum(starts, largest.meta.users - 1)]}), 2**64]
        return list(pairwise(cuts))

    def timelines(self, rows: int = CHUNK_ROWS) -> Iterator[Timeline]:
        """All users, bucket by bucket."""
        for chunk in self.chunks(rows):
            yield self.timeline(chunk)

    def timeline(self, chunk: tuple[int, int]) -> Timeline:
        """The users whose hash lies in `[low, high)`, by ascending hash."""
        claims = self.devices[1].between(*chunk)
        parts = []
        for segment in self.segments:
            first, stop = (
                int(np.searchsorted(segment.user_hash, np.uint64(h))) if h < 2**64 else segment.meta.users
                for h in chunk
            )
            if stop > first:
                rows = slice(int(segment.offsets[first]), int(segment.offsets[stop]))
                columns = {name: segment.column(name)[rows] for name in segment.meta.columns}
                offsets = segment.offsets[first : stop + 1] - rows.start
                parts.append((segment.user_hash[first:stop], segment.user_ids[first:stop], offsets, columns))
        if len(parts) == 1:
            hashes, ids, offsets, columns = parts[0]
            timeline = Timeline(ids, offsets, columns, self.facts)
            if not claims.user.size:
                return timeline
            users, more = [np.repeat(np.arange(hashes.size), np.diff(offsets))], [columns]
            add_claimed(users, more, hashes, claims, self._lots)
            return _inserted(timeline, users[1:], more[1:])
        hashes = np.unique(np.concatenate([h for h, *_ in parts])) if parts else np.empty(0, np.uint64)
        owners = [np.searchsorted(hashes, h) for h, *_ in parts]
        ids = np.empty(hashes.size, object)
        for owner, (_, texts, *_) in zip(owners, parts, strict=True):
            ids[owner] = texts.to_numpy(zero_copy_only=False)
        users = [np.repeat(owner, np.diff(offsets)) for owner, (_, _, offsets, _) in zip(owners, parts, strict=True)]
        rows_of = [columns for *_, columns in parts]
        add_claimed(users, rows_of, hashes, claims, self._lots)
        return self._merged(pa.array(ids, pa.string()), users, rows_of)

    def timeline_of(self, user_ids: Sequence[str], sent: Sent | None = None) -> Timeline:
        """The named users (each once) in the order given, strangers without events; `sent` adds events of a request,
        but for those that are stored already."""
        hashes = hash_array(pa.array(user_ids, pa.string()))
        users, parts, found = [], [], []
        for segment in self.segments:
            at = np.minimum(np.searchsorted(segment.user_hash, hashes), max(segment.meta.users - 1, 0))
            for user in np.flatnonzero(segment.user_hash[at] == hashes) if segment.meta.users else ():
                row = int(at[user])
                if segment.user_ids[row].as_py() != user_ids[int(user)]:
                    continue
                rows = slice(int(segment.offsets[row]), int(segment.offsets[row + 1]))
                users.append(np.full(rows.stop - rows.start, user, np.int64))
                parts.append({name: segment.column(name)[rows] for name in segment.meta.columns})
                found.append(user)
        ids = pa.array(user_ids, pa.string())
        logins, claims = self.devices
        known = hashes[sorted(set(found))]
        claims = claims.of(known)
        if sent is None:
            add_claimed(users, parts, hashes, claims, self._lots)
            return self._merged(ids, users, parts)
        stored = np.concatenate([np.empty(0, np.uint64), *(part["key"] for part in parts)])
        new = np.flatnonzero(~np.isin(sent.columns["key"], stored))
        order = np.argsort(hashes)
        users.append(order[np.searchsorted(hashes[order], sent.columns["user"][new])])
        parts.append({name: values[new] for name, values in sent.columns.items() if name != "user"})
        lots = [*self._lots, Lot.of_sent(sent, new, user_ids)]
        add_claimed(users, parts, hashes, claims_with(claims, known, logins, lots, sent.kinds), lots)
        timeline = self._merged(ids, users, parts)
        return replace(timeline, facts=replace(self.facts, kinds=sent.kinds))

    def _merged(self, ids: pa.Array, users: list[np.ndarray], parts: list[Columns]) -> Timeline:
        """Rows of several segments in the order user, instant, content."""
        names = dict.fromkeys(name for part in parts for name in part if name != "key")
        user = np.concatenate([np.empty(0, np.int64), *users])
        columns = {
            name: np.concatenate([_values(part, name, rows.size) for part, rows in zip(parts, users, strict=True)])
            for name in names
        } or {c.TS: np.empty(0, np.int64), c.KIND: np.empty(0, np.uint8), "tie": np.empty(0, np.uint64)}
        order = np.lexsort((columns["tie"], columns[c.TS], user))
        offsets = np.zeros(len(ids) + 1, np.int64)
        np.cumsum(np.bincount(user, minlength=len(ids)), out=offsets[1:])
        return Timeline(ids, offsets, {name: values[order] for name, values in columns.items()}, self.facts)


def _inserted(timeline: Timeline, users: list[np.ndarray], parts: list[Columns]) -> Timeline:
    """A timeline with a few more rows of its users, each at the place where `_merged` has it."""
    if not sum(user.size for user in users):
        return timeline
    names = dict.fromkeys(name for part in parts for name in part if name != "key")
    more = {
        name: np.concatenate([_values(part, name, user.size) for part, user in zip(parts, users, strict=True)])
        for name in names
    }
    user = np.concatenate(users)
    order = np.lexsort((more["tie"], more[c.TS], user))
    user, more = user[order], {name: values[order] for name, values in more.items()}
    ts, stop = timeline.columns[c.TS], timeline.offsets[user + 1]
    first = first_after(ts, timeline.offsets[user], stop, more[c.TS] - 1)
    place = first_after(timeline.columns["tie"], first, first_after(ts, first, stop, more[c.TS]), more["tie"])
    columns = {
        name: np.insert(_values(timeline.columns, name, ts.size), place, _values(more, name, user.size))
        for name in dict.fromkeys([*timeline.columns, *names])
        if name != "key"
    }
    offsets = timeline.offsets + np.searchsorted(user, np.arange(len(timeline) + 1))
    return replace(timeline, offsets=offsets, columns=columns)


def _values(part: Mapping[str, np.ndarray], name: str, rows: int) -> np.ndarray:
    """A column of one part, or what stands for it where that part has none."""
    if name in part:
        return part[name]
    if name in c.HASHED:
        return np.zeros(rows, np.uint64)
    dtype = "int64" if name in c.TIMES else c.NUMBERS[name][1] if name in c.NUMBERS else "int32"
    return np.full(rows, c.MONEY if name == c.QUANTITY else -1, dtype)


def _iso(moment: int) -> str:
    return str(np.datetime64(moment, "us").astype("datetime64[s]"))


def empty_manifest() -> dict[str, Any]:
    """The manifest of a store without events."""
    return {"format": FORMAT, "segments": [], "words": {}, "tables": {}, "item_category": None}


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest in force at `path`, if there is one."""
    try:
        manifest: dict[str, Any] = json.loads((path / "manifest.json").read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(
            f"{path / 'manifest.json'} is not readable ({error}); restore it or ingest with --replace"
        ) from error
    if manifest.get("format") != FORMAT:
        raise UserError(
            f"the store at {path} has format {manifest.get('format')}, this version reads {FORMAT}: --replace it"
        )
    return manifest


def _read_texts(path: Path) -> list[str]:
    texts: list[str] = json.loads(path.read_text())
    return texts
