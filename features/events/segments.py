"""A segment: one batch of events on disk, sorted by user, each column one memory-mappable file of plain numbers."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from features import loops
from features.durable import sync
from features.errors import UserError
from features.events import columns as c
from features.events.intake import Columns

PARTITIONS = 64  # by the top bits of the user's hash; what is sorted in memory at once


@dataclass(frozen=True)
class SegmentMeta:
    """What the manifest says of a segment. `first_known`: when each kind and column was first known, µs."""

    id: str
    rows: int
    users: int
    columns: dict[str, str]
    first_ts: int
    last_ts: int
    kinds_known: dict[int, int] = field(default_factory=dict)
    columns_known: dict[str, int] = field(default_factory=dict)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "SegmentMeta":
        return cls(**{**values, "kinds_known": {int(k): v for k, v in values["kinds_known"].items()}})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Segment:
    """A segment opened for reading: its files are mapped at once, so that it outlives their removal."""

    def __init__(self, folder: Path, meta: SegmentMeta) -> None:
        self.folder, self.meta = folder, meta
        self.user_hash = _map(folder / "users.hash", np.uint64, meta.users)
        self.offsets = _map(folder / "users.offsets", np.int64, meta.users + 1)
        self.category_known = _map(folder / "category.known", np.int64, None)
        with pa.memory_map(str(folder / "users.arrow")) as source:
            self.user_ids: pa.Array = pa.ipc.open_file(source).read_all().column(0).combine_chunks()
        self._columns = {name: _map(folder / name, dtype, meta.rows) for name, dtype in meta.columns.items()}

    def column(self, name: str) -> np.ndarray:
        return self._columns[name]

    def known(self, rows: slice) -> np.ndarray:
        """Last instant at which each event was still unknown; the instants themselves where arrivals are not given."""
        ts = self.column(c.TS)[rows]
        return np.maximum(ts, self.column(c.ARRIVED_AT)[rows] - 1) if c.ARRIVED_AT in self.meta.columns else ts

    def pieces(self, rows: int = 1 << 20) -> Iterator[slice]:
        """Slices of rows that end between users."""
        start = 0
        while start < self.meta.rows:
            stop = int(self.offsets[np.searchsorted(self.offsets, min(start + rows, self.meta.rows))])
            yield slice(start, stop)
            start = stop


def _map(path: Path, dtype: Any, size: int | None) -> np.ndarray:
    """The numbers in a file, mapped; its size is checked so that a cut file is refused and never read past its end."""
    dtype = np.dtype(dtype)
    actual = path.stat().st_size
    if actual % dtype.itemsize or (size is not None and actual != size * dtype.itemsize):
        raise UserError(
            f"{path} has {actual} bytes, not the {size} numbers its manifest says: restore or --replace the store"
        )
    if actual == 0:
        return np.empty(0, dtype)
    return np.memmap(path, dtype, "r").view(np.ndarray)


class Spill:
    """Encoded batches on their way into a segment, parted by the top bits of the user's hash."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bounds: list[np.ndarray] = []
        self.dtypes: dict[str, np.dtype[Any]] = {}
        self.users: list[tuple[np.ndarray, pa.Array]] = []
        folder.mkdir(parents=True)

    def add(self, columns: Columns, users: pa.Array, hashes: np.ndarray) -> None:
        part = (columns["user"] >> np.uint64(58)).astype(np.uint8)
        order = np.argsort(part, kind="stable")
        bounds = np.zeros(PARTITIONS + 1, np.int64)
        np.cumsum(np.bincount(part, minlength=PARTITIONS), out=bounds[1:])
        for name, values in columns.items():
            values[order].tofile(self.folder / f"{len(self.bounds)}.{name}")
            self.dtypes[name] = values.dtype
        self.bounds.append(bounds)
        self.users.append((hashes, users))

    def partition(self, part: int) -> Columns:
        """All rows of one partition, in the order they came."""
        return {name: np.concatenate(list(self._pieces(name, part))) for name in self.dtypes}

    def _pieces(self, name: str, part: int) -> Iterator[np.ndarray]:
        dtype = self.dtypes[name]
        for batch, bounds in enumerate(self.bounds):
            count = int(bounds[part + 1] - bounds[part])
            yield np.fromfile(self.folder / f"{batch}.{name}", dtype, count, offset=int(bounds[part]) * dtype.itemsize)

    def user_table(self) -> tuple[np.ndarray, pa.Array]:
        """Distinct users, sorted by hash."""
        hashes = np.concatenate([h for h, _ in self.users])
        texts = pa.chunked_array([t.cast(pa.string()) for _, t in self.users], pa.string()).combine_chunks()
        distinct, first = np.unique(hashes, return_index=True)
        # One text a hash: if two texts shared one, there would be more distinct texts than hashes.
        if len(texts.unique()) != distinct.size:
            raise UserError("two user ids share one 64-bit hash; rename one of them (add a prefix) and ingest again")
        return distinct, texts.take(pa.array(first))


def sorted_partition(columns: Columns) -> Columns:
    """Rows in the order user, instant, content; each with its identity `key`.

    The key is the hash of the event's id, else of the whole row and its occurrence number among equal rows.
    """
    order = np.lexsort((columns["tie"], columns[c.TS], columns["user"]))
    out = {name: values[order] for name, values in columns.items()}
    rows = np.arange(order.size)
    starts = np.ones(order.size, bool)
    if order.size:
        starts[1:] = np.any([out[name][1:] != out[name][:-1] for name in ("user", c.TS, "tie")], axis=0)
    occurrence = rows - np.maximum.accumulate(np.where(starts, rows, 0))
    key = out["tie"].copy()
    loops.fold(key, out["user"], np.uint64(1), np.uint64(0))
    loops.fold(key, occurrence.astype(np.uint64), np.uint64(2), np.uint64(0))
    given = out.pop("event", None)
    out["key"] = key if given is None else np.where(given > 0, given, key)
    return out


def write_segment(folder: Path, parts: Iterable[Columns], users: tuple[np.ndarray, pa.Array]) -> SegmentMeta:
    """Write sorted partitions, in order, as one segment; users without rows are left out."""
    folder.mkdir(parents=True)
    files: dict[str, Any] = {}
    dtypes: dict[str, str] = {}
    present: list[np.ndarray] = []
    counts: list[np.ndarray] = []
    try:
        for part in parts:
            hashes, user_counts = np.unique(part.pop("user"), return_counts=True)
            present.append(hashes)
            counts.append(user_counts)
            for name, values in part.items():
                if name not in files:
                    files[name] = (folder / name).open("wb")
                    dtypes[name] = str(values.dtype)
                values.tofile(files[name])
    finally:
        for file in files.values():
            file.close()
    user_hash = np.concatenate(present) if present else np.empty(0, np.uint64)
    offsets = np.zeros(user_hash.size + 1, np.int64)
    np.cumsum(np.concatenate(counts) if counts else np.empty(0, np.int64), out=offsets[1:])
    texts = users[1].take(pa.array(np.searchsorted(users[0], user_hash)))
    user_hash.tofile(folder / "users.hash")
    offsets.tofile(folder / "users.offsets")
    with pa.OSFile(str(folder / "users.arrow"), "wb") as sink:
        table = pa.table({c.USER_ID: texts})
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    np.empty(0, np.int64).tofile(folder / "category.known")
    meta = SegmentMeta(folder.name, int(offsets[-1]), int(user_hash.size), dtypes, 0, 0)
    return _describe(folder, meta) if meta.rows else meta


def _describe(folder: Path, meta: SegmentMeta) -> SegmentMeta:
    """Span, and when each kind, column and category was first known; makes the files durable."""
    segment = Segment(folder, meta)
    kinds = np.full(256, c.NEVER)
    codes = segment.column(c.CATEGORY) if c.CATEGORY in meta.columns else np.empty(0, np.int32)
    categories = np.full(int(codes.max(initial=-1)) + 1, c.NEVER)
    columns: dict[str, int] = {}
    first, last = c.NEVER, 0
    for rows in segment.pieces():
        ts, known = segment.column(c.TS)[rows], segment.known(rows)
        first, last = min(first, int(ts.min())), max(last, int(ts.max()))
        loops.first_by_code(segment.column(c.KIND)[rows].astype(np.int64), known, kinds)
        if codes.size:
            loops.first_by_code(codes[rows].astype(np.int64), known, categories)
        for name in meta.columns.keys() - {"tie", "key", c.KIND}:
            values = segment.column(name)[rows]
            present = known[values > 0 if values.dtype == np.uint64 else values >= 0]
            if present.size:
                columns[name] = min(columns.get(name, c.NEVER), int(present.min()))
    categories.tofile(folder / "category.known")
    for path in (*folder.iterdir(), folder):
        sync(path)
    seen = {int(code): int(kinds[code]) for code in np.flatnonzero(kinds < c.NEVER)}
    return SegmentMeta(meta.id, meta.rows, meta.users, meta.columns, first, last, seen, dict(sorted(columns.items())))


def spill_to_segment(spill: Spill, folder: Path, threads: int) -> SegmentMeta:
    """Sort the spilled partitions on threads and write them in order."""
    with ThreadPoolExecutor(threads) as pool:
        parts = pool.map(lambda part: sorted_partition(spill.partition(part)), range(PARTITIONS))
        meta = write_segment(folder, parts, spill.user_table())
    shutil.rmtree(spill.folder)
    return meta


def keep_rows(segment: Segment, keep: np.ndarray, folder: Path) -> SegmentMeta:
    """A copy of the segment with only the rows where `keep` is true."""

    def parts() -> Iterator[Columns]:
        for rows in segment.pieces():
            chosen = keep[rows]
            users = np.searchsorted(segment.offsets, np.arange(rows.start, rows.stop), side="right") - 1
            part = {name: segment.column(name)[rows][chosen] for name in segment.meta.columns}
            yield part | {"user": segment.user_hash[users[chosen]]}

    return write_segment(folder, parts(), (segment.user_hash, segment.user_ids))


def losers(new: Segment, old: Sequence[Segment], ids_given: bool) -> tuple[np.ndarray, list[np.ndarray], int]:
    """Which rows give way to another row of the same identity.

    Of two rows with one key the one that was known earlier stays, so that no later row changes what was known before;
    of two known at once the one ingested earlier, and within one batch the earlier instant, then the smaller content
    hash, so that the order of rows does not matter.

    Returns:
        mask over the new segment's rows, masks over each old segment's rows, and how many of the losing rows had
        other content than the row that stays.
    """
    lost = np.zeros(new.meta.rows, bool)
    lost_old = [np.zeros(segment.meta.rows, bool) for segment in old]
    key, tie = new.column("key"), new.column("tie")
    known = new.known(slice(None))
    conflicts = 0
    order = np.argsort(key, kind="stable")
    if ids_given:
        order = np.lexsort((tie, new.column(c.TS), known, key))
        again = np.flatnonzero(key[order[1:]] == key[order[:-1]]) + 1
        lost[order[again]] = True
        conflicts += int((tie[order[again]] != tie[order[again - 1]]).sum())
        order = order[~lost[order]]
    ranked = key[order]
    for segment, lost_theirs in zip(old, lost_old, strict=True):
        for rows in segment.pieces():
            theirs = segment.column("key")[rows]
            at = np.minimum(np.searchsorted(ranked, theirs), ranked.size - 1)
            match = np.flatnonzero(ranked[at] == theirs)
            mine = order[at[match]]
            differs = segment.column("tie")[rows][match] != tie[mine]
            new_wins = differs & (known[mine] < segment.known(rows)[match])
            conflicts += int(differs.sum())
            lost[mine[~new_wins]] = True
            lost_theirs[rows.start + match[new_wins]] = True
    return lost, lost_old, conflicts
