"""A user leaves a store: rows, devices' rows that became theirs, table row, words and refused rows.

Nobody else's timeline changes. What the log as a whole tells (when a kind, a column or a category was first known)
stays as it was, or other users' signals would change: of the user it keeps at most those instants, which name nobody.
A row of a shared device that is in several users' timelines (a login that arrived late, two at one instant) leaves the
device, and becomes a row of each of the others under their own names.
"""

import json
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.durable import sync
from features.errors import UserError
from features.events import columns as c
from features.events.devices import Lot, add_claimed, renamed
from features.events.ingest import locked, put_in_force, sweep
from features.events.intake import Columns
from features.events.segments import Segment, SegmentMeta, keep_rows, write_segment
from features.events.store import Store, read_manifest
from features.events.traces import (
    INVITED_BY,
    Traces,
    look,
    named_in,
    owners,
    place_of,
    read_rejected,
    rejected_files,
)
from features.mentions import texts_of

Array = np.ndarray
K = TypeVar("K", int, str)
Written = tuple[Path | None, SegmentMeta]  # a new segment's folder; None for one that stays as it is


def erase(path: Path, user_id: str, also: Callable[[], None] = lambda: None) -> Traces:
    """Remove a user, or an anonymous device by the name of its timeline, from the store at `path`; says what was found.

    Erasing again finds nothing, and sweeps what an erasure that was killed left.

    Args:
        also: what is to be done elsewhere, before the store changes and while nobody else may change it: the store
            alone knows the user's devices, and whoever is killed must find them again.

    Raises:
        UserError: there is no store, or another process is writing to it.
    """
    if read_manifest(path) is None:
        raise UserError(f"no store at {path}: name the folder that `ebbtide ingest … --store` wrote")
    with locked(path):
        shutil.rmtree(path / "tmp", ignore_errors=True)
        store = Store.open(path)
        found = look(store, user_id)
        try:
            also()
            _erase_rejected(path, found)
            if found.in_store:
                _rewrite(store, found)
            else:
                sweep(path, store.manifest)
        finally:
            shutil.rmtree(path / "tmp", ignore_errors=True)
    return found


def _rewrite(store: Store, found: Traces) -> None:
    path, tag = store.path, uuid.uuid4().hex[:12]
    work = path / "tmp" / uuid.uuid4().hex
    work.mkdir(parents=True)
    for name in ("segments", "words", "tables", "rejected"):
        (path / name).mkdir(exist_ok=True)
    segments = _segments(store, found, work)
    for folder, meta in segments:
        if folder is not None:
            folder.rename(path / "segments" / meta.id)
    words, tables = dict(store.manifest["words"]), dict(store.manifest["tables"])
    for column, texts in found.words.items():
        words[column] = f"words/{column}-{tag}.json"
        left = _without(store.words[column].texts, set(texts))
        (path / words[column]).write_text(json.dumps(left, ensure_ascii=False))
    if found.listed or found.invited:
        tables["users"] = f"tables/users-{tag}.parquet"
        pq.write_table(_without_user(store.table("users"), found.user_id), path / tables["users"])
    manifest = {**store.manifest, "segments": [meta.to_json() for _, meta in segments], "words": words}
    put_in_force(path, {**manifest, "tables": tables})


# ------------------------------------------------------------------------------------------------------ segments


def _segments(store: Store, found: Traces, work: Path) -> list[Written]:
    out: list[Written] = []
    emptied: list[Segment] = []
    for segment, gone in zip(store.segments, found.gone, strict=True):
        if gone.all():
            emptied.append(segment)
        elif gone.any():
            out.append(_kept(segment, gone, work, [segment]))
        else:
            out.append((None, segment.meta))
    for part, users in _of_others(store, found):
        new = work / uuid.uuid4().hex[:12]
        out.append((new, write_segment(new, [part], users)))
    if emptied and out:  # what the log knew with them must be told by another
        folder, meta = out[0]
        if folder is None:
            first = next(segment for segment in store.segments if segment.meta.id == meta.id)
            out[0] = _kept(first, np.zeros(meta.rows, bool), work, [first, *emptied])
        else:
            out[0] = (folder, _as_known(folder, meta, emptied))
    return out


def _kept(segment: Segment, gone: Array, work: Path, known: Sequence[Segment]) -> Written:
    folder = work / uuid.uuid4().hex[:12]
    return folder, _as_known(folder, keep_rows(segment, ~gone, folder), known)


def _as_known(folder: Path, meta: SegmentMeta, others: Sequence[Segment]) -> SegmentMeta:
    """A new segment that says of kinds, columns and categories that they were known when others knew them."""
    tables = [np.fromfile(folder / "category.known", np.int64), *(other.category_known for other in others)]
    categories = np.full(max(table.size for table in tables), c.NEVER)
    for table in tables:
        categories[: table.size] = np.minimum(categories[: table.size], table)
    categories.tofile(folder / "category.known")
    sync(folder / "category.known")
    metas = [meta, *(other.meta for other in others)]
    kinds, columns = [m.kinds_known for m in metas], [m.columns_known for m in metas]
    return replace(meta, kinds_known=_earliest(kinds), columns_known=_earliest(columns))


def _earliest(known: Sequence[Mapping[K, int]]) -> dict[K, int]:
    keys = sorted({key for one in known for key in one})
    return {key: min(one[key] for one in known if key in one) for key in keys}


def _of_others(store: Store, found: Traces) -> list[tuple[Columns, tuple[Array, pa.Array]]]:
    """The anonymous rows that go and are in other users' timelines too, as rows of their own, with these users."""
    if not any(mask.any() for mask in found.shared):
        return []
    whose = np.array(sorted(_claimants(store, found)), np.uint64)
    places: list[Array] = []
    parts: list[Columns] = []
    for place, user in enumerate(whose.tolist()):
        for segment in store.segments:
            if (at := place_of(segment, user)) is not None:
                rows = slice(int(segment.offsets[at]), int(segment.offsets[at + 1]))
                places.append(np.full(rows.stop - rows.start, place))
                parts.append({"key": segment.column("key")[rows]})
    own = len(parts)
    lots = [Lot.of_segment(segment) for segment in store.segments]
    add_claimed(places, parts, whose, store.devices[1].of(whose), lots)
    keys, owner = owners(store, found.shared)
    users = (whose, pa.array([_text(store, user) for user in whose.tolist()], pa.string()))
    log_in = [code for code, kind in enumerate(store.words[c.KIND].texts) if kind in c.LOGINS]
    out = []
    for place_, part in zip(places[own:], parts[own:], strict=True):
        chosen = np.isin(part["key"], keys)
        user, columns = whose[place_[chosen]], {name: values[chosen] for name, values in part.items()}
        columns["key"] = renamed(columns["key"], owner[np.searchsorted(keys, columns["key"])], user)
        # A login without a name must not become one with a name, which would claim rows.
        columns[c.DEVICE_ID] = np.where(np.isin(columns[c.KIND], log_in), np.uint64(0), columns[c.DEVICE_ID])
        order = np.lexsort((columns["tie"], columns[c.TS], user))
        if order.size:
            out.append(({name: values[order] for name, values in columns.items()} | {"user": user[order]}, users))
    return out


def _claimants(store: Store, found: Traces) -> set[int]:
    """Hashes of the other users who claim shared rows."""
    claims, out = store.devices[1], set()
    for lot, shared in enumerate(found.shared):
        before = np.append(0, np.cumsum(shared))
        of_lot = claims.some(claims.lot == lot)
        touched = before[of_lot.stop] > before[of_lot.start]
        out |= set(of_lot.user[touched].tolist())
    return out - {found.name.hash}


def _text(store: Store, user: int) -> str:
    at = next((s, place) for s in store.segments if (place := place_of(s, user)) is not None)
    return str(at[0].user_ids[at[1]])


# ------------------------------------------------------------------------------------- words, tables, refused rows


def _without(texts: Sequence[str], erased: set[str]) -> list[str]:
    """The words with others in place of the erased ones: rows name words by their places."""
    taken, out = set(texts), []
    for code, text in enumerate(texts):
        if text in erased:
            text = f"erased {code}"
            while text in taken:
                text += "'"
            taken.add(text)
        out.append(text)
    return out


def _without_user(users: pa.Table | None, user_id: str) -> pa.Table:
    assert users is not None
    users = users.filter(pc.fill_null(pc.not_equal(texts_of(users[c.USER_ID]), user_id), True))
    if INVITED_BY in users.column_names:
        column = users[INVITED_BY]
        theirs = pc.fill_null(pc.equal(texts_of(column), user_id), False)
        left = pc.if_else(theirs, pa.scalar(None, column.type), column)
        users = users.set_column(users.column_names.index(INVITED_BY), users.schema.field(INVITED_BY), left)
    return users


def _erase_rejected(path: Path, found: Traces) -> None:
    """Each file in one durable step."""
    for beside in (path / "rejected").glob(".*"):  # of an erasure that was killed
        beside.unlink()
    for file in rejected_files(path):
        rows = read_rejected(file)
        gone = named_in(rows, found.user_id, found.devices)
        if gone.all():
            file.unlink()
        elif gone.any():
            rewrite_table(file, rows.filter(pa.array(~gone)))


def rewrite_table(file: Path, table: pa.Table) -> None:
    """Replace a Parquet file in one durable step."""
    beside = file.with_name(f".{file.name}")
    pq.write_table(table, beside)
    sync(beside)
    beside.rename(file)
    sync(file.parent)
