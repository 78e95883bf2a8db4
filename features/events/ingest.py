"""A change of the store: read a source, drop what is known already, and swap the manifest in one step."""

import fcntl
import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.durable import replace as replace_text
from features.durable import sync
from features.errors import UserError
from features.events import columns as c
from features.events import sources
from features.events.intake import Intake, Report, Words, encode
from features.events.segments import Segment, SegmentMeta, Spill, keep_rows, losers, spill_to_segment
from features.events.store import Store, empty_manifest, read_manifest

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Ingested:
    """An ingest's report, and the store it led to (None for a check)."""

    report: Report
    store: Store | None


def ingest(
    source: sources.Source,
    path: Path,
    *,
    now: int,
    replace: bool = False,
    check: bool = False,
    max_rejected: float = 0.02,
    threads: int = 2,
    progress: Progress | None = None,
) -> Ingested:
    """Read a source into the store at `path`, appending unless `replace`; with `check` nothing is changed.

    Args:
        now: the clock, µs; events more than 5 s later are rejected.
        max_rejected: share of rejected rows above which the whole run fails.
        progress: called with the number of rows read so far.

    Raises:
        UserError: the source cannot be read, lacks a required column, or too many of its rows are bad.
    """
    fresh = not path.exists()
    work = path / "tmp" / uuid.uuid4().hex
    with locked(path):
        try:
            old = Store(path, (None if replace else read_manifest(path)) or empty_manifest())
            work.mkdir(parents=True)
            change = _Change(old, work, threads)
            change.read(source, now, max_rejected, progress)
            report = change.finish()
            if check:
                return Ingested(report, None)
            change.commit()
            return Ingested(report, Store.open(path))
        finally:
            shutil.rmtree(path / "tmp", ignore_errors=True)
            if fresh and not (path / "manifest.json").exists():
                shutil.rmtree(path, ignore_errors=True)


class _Change:
    """One ingest under way: reads into `work`, then moves what is new into the store and swaps the manifest."""

    def __init__(self, old: Store, work: Path, threads: int) -> None:
        self.old, self.work, self.threads = old, work, threads
        self.words = {name: words.copy() for name, words in old.words.items()}
        self.tables: dict[str, pa.Table] = {}
        self.segments: list[tuple[Path | None, SegmentMeta]] = []

    def read(self, source: sources.Source, now: int, max_rejected: float, progress: Progress | None) -> None:
        connection = sources.connect()
        for name, file in (("items", source.items), ("users", source.users)):
            if file is not None:
                self.tables[name] = _read_table(name, file, connection)
        self.spill = Spill(self.work / "spill")
        self.ids_given = False
        path = source.events
        relation = sources.open_relation(path, connection)
        self.intake = Intake(relation, now)
        try:
            for batch in self.intake.batches():
                self.ids_given |= c.EVENT_ID in batch
                self.spill.add(*encode(batch, self.words))
                if progress:
                    progress(self.intake.report.rows)
        except (duckdb.Error, pa.ArrowException) as error:
            raise sources.unreadable(path, error) from error
        report = self.intake.report
        if report.rows == 0:
            raise UserError(f"{path} holds no rows; nothing was written")
        rejected = report.rejected.total()
        if rejected > max_rejected * report.rows:
            reasons = "\n  ".join(f"{n:,} × {why}; {report.examples[why]}" for why, n in report.rejected.most_common())
            raise UserError(
                f"{rejected:,} of {report.rows:,} rows are bad ({rejected / report.rows:.2%}; at most "
                f"{max_rejected:.2%} may be):\n  {reasons}\n  Mend the source or raise --max-rejected; "
                "nothing was written."
            )

    def finish(self) -> Report:
        """Sort, drop what is known already, and complete the report."""
        folder = self.work / uuid.uuid4().hex[:12]
        meta = spill_to_segment(self.spill, folder, self.threads)
        self.segments = [(None, segment.meta) for segment in self.old.segments]
        report = self.intake.report
        if meta.rows:
            meta, folder = self._deduplicate(Segment(folder, meta), report)
        if meta.rows:
            self.segments.append((folder, meta))
            new = Segment(folder, meta)
            report.first_ts, report.last_ts = meta.first_ts, meta.last_ts
            counts = np.bincount(new.column(c.KIND), minlength=256)
            report.kinds.update({self.words[c.KIND].texts[k]: int(counts[k]) for k in np.flatnonzero(counts)})
            if c.ITEM_ID in meta.columns:
                report.items = int((np.bincount(new.column(c.ITEM_ID) + 1)[1:] > 0).sum())
        report.kept, report.users = meta.rows, meta.users
        return report

    def _deduplicate(self, new: Segment, report: Report) -> tuple[SegmentMeta, Path]:
        lost, lost_old, report.conflicts = losers(new, self.old.segments, self.ids_given)
        report.duplicates = int(lost.sum()) + sum(int(mask.sum()) for mask in lost_old)
        for index, (segment, mask) in enumerate(zip(self.old.segments, lost_old, strict=True)):
            if mask.any():
                folder = self.work / uuid.uuid4().hex[:12]
                self.segments[index] = (folder, keep_rows(segment, ~mask, folder))
        if not lost.any():
            return new.meta, new.folder
        folder = self.work / uuid.uuid4().hex[:12]
        return keep_rows(new, ~lost, folder), folder

    def commit(self) -> None:
        path, old = self.old.path, self.old.manifest
        for name in ("segments", "words", "tables", "rejected"):
            (path / name).mkdir(exist_ok=True)
        for folder, meta in self.segments:
            if folder is not None and meta.rows:
                folder.rename(path / "segments" / meta.id)
        tag = uuid.uuid4().hex[:12]
        manifest = {
            **empty_manifest(),
            "segments": [meta.to_json() for _, meta in self.segments if meta.rows],
            "words": dict(old["words"]),
            "tables": dict(old["tables"]),
            "item_category": old["item_category"],
        }
        for name, table in self.tables.items():
            manifest["tables"][name] = f"tables/{name}-{tag}.parquet"
            pq.write_table(table, path / manifest["tables"][name])
        if "items" in self.tables:
            manifest["item_category"] = f"tables/item_category-{tag}"
            _item_categories(self.tables["items"], self.words).tofile(path / manifest["item_category"])
        for name, words in self.words.items():
            if name not in old["words"] or len(words) != len(self.old.words[name]):
                manifest["words"][name] = f"words/{name}-{tag}.json"
                (path / manifest["words"][name]).write_text(json.dumps(words.texts, ensure_ascii=False))
        if self.intake.rejects:
            row, reason, source = zip(*self.intake.rejects, strict=True)
            rejects = pa.table({"source_row": row, "reason": reason, "source": source})
            pq.write_table(rejects, path / "rejected" / f"{tag}.parquet")
        put_in_force(path, manifest)


def _read_table(name: str, file: Path, connection: duckdb.DuckDBPyConnection) -> pa.Table:
    key = {"items": c.ITEM_ID, "users": c.USER_ID}[name]
    relation = sources.open_relation(file, connection)
    if key not in relation.columns:
        raise UserError(f"{file} lacks the column {key}; it has {', '.join(relation.columns)}. Rename it in {name}.sql")
    texts = {key, c.CATEGORY} & set(relation.columns)
    casts = ", ".join(f"nullif(CAST({x} AS VARCHAR), '') AS {x}" for x in sorted(texts))
    try:
        query = f"SELECT * REPLACE ({casts}) FROM source WHERE {key} IS NOT NULL"
        table: pa.Table = sources.query(relation, query).to_arrow_table()
    except duckdb.Error as error:
        raise sources.unreadable(file, error) from error
    repeated = len(table) - len(table.column(key).unique())
    if repeated:
        raise UserError(
            f"{file} names {repeated:,} {key}s more than once; keep one row each, for instance with DISTINCT ON"
        )
    return table.sort_by(key)


def _item_categories(items: pa.Table, words: dict[str, Words]) -> np.ndarray:
    """Category code by item code, -1 where an item has none."""
    codes = words[c.ITEM_ID].encode(items.column(c.ITEM_ID).to_pylist())
    out = np.full(len(words[c.ITEM_ID]), -1, np.int32)
    if c.CATEGORY in items.column_names:
        texts = items.column(c.CATEGORY).to_pylist()
        known = np.array([text is not None for text in texts], bool)
        out[codes[known]] = words[c.CATEGORY].encode([text for text in texts if text is not None])
    return out


def put_in_force(path: Path, manifest: dict[str, Any]) -> None:
    """Make the files that a manifest names durable, swap the manifest, and remove what it does not name."""
    for file in (*manifest["words"].values(), *manifest["tables"].values(), manifest["item_category"]):
        if file:
            sync(path / file)
    for name in ("segments", "words", "tables", "rejected"):
        sync(path / name)
    replace_text(path / "manifest.json", json.dumps(manifest, indent=1, sort_keys=True))
    sweep(path, manifest)


def sweep(path: Path, manifest: dict[str, Any]) -> None:
    """Remove what the manifest does not name; readers that still map it keep their view."""
    named = {f"segments/{meta['id']}" for meta in manifest["segments"]}
    named |= {*manifest["words"].values(), *manifest["tables"].values(), manifest["item_category"]}
    for folder in ("segments", "words", "tables"):
        for entry in (path / folder).iterdir():
            if f"{folder}/{entry.name}" not in named:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for beside in path.glob(".manifest.json.*"):
        beside.unlink()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One writer a store: a second one is told so at once."""
    path.mkdir(parents=True, exist_ok=True)
    with (path / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is writing to {path}; wait for it to end") from None
        yield
