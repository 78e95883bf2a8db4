"""What the tests of `features` share: writing a log in each form, ingesting it, and comparing matrices."""

import gzip
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.engines.local import matrices
from features.events.ingest import Ingested, ingest
from features.events.sources import Source
from features.events.store import Store
from features.matrix import Matrix
from features.signals import all_signals
from tests.oracle import moment_us
from tests.randomlog import MOMENTS

Array = npt.NDArray[Any]

DAY_US = 86_400_000_000
ROOT = Path(__file__).parents[2]
#: the clock of every test's ingest, after the last event of the random logs
NOW = moment_us(datetime(2025, 1, 1, tzinfo=UTC))
TIMES = ("ts", "arrived_at")
NAMES = [signal.name for signal in all_signals()]
RANDOM_MOMENTS = [moment_us(moment) for moment in MOMENTS]


def at(text: str) -> int:
    """µs of an ISO time, UTC without a zone."""
    return moment_us(datetime.fromisoformat(text))


def as_micros(times: pd.Series) -> Array:
    """Times as µs."""
    return times.to_numpy().astype("datetime64[us]").astype("int64")


def stamps(micros: Array) -> pd.Series:
    """µs as times."""
    return pd.Series(np.asarray(micros, dtype="int64").view("datetime64[us]"))


# ---------------------------------------------------------------------------------------------- writing logs


def write_log(log: pd.DataFrame, file: Path) -> Path:
    """The log as Parquet, CSV (naive times; `.gz` with times of another zone) or JSON lines (times with Z)."""
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pandas(log, preserve_index=False), file)
    elif ".csv" in file.suffixes:
        zone = "Asia/Kolkata" if file.suffix == ".gz" else None
        as_text(log, zone).to_csv(file, index=False)
    else:
        rows = as_text(log, "UTC").astype(object)
        lines = (
            json.dumps({k: v for k, v in row.items() if not pd.isna(v)})
            for row in rows.where(rows.notna(), None).to_dict("records")
        )
        text = "\n".join([json.dumps(dict.fromkeys(log.columns)), *lines][1:]) + "\n"
        file.write_bytes(gzip.compress(text.encode()) if file.suffix == ".gz" else text.encode())
    return file


def as_text(log: pd.DataFrame, zone: str | None) -> pd.DataFrame:
    """Times as ISO texts of a zone, such as 2024-03-01T05:30:00+05:30 or …Z; naive ones without a zone."""

    def text(stamp: Any) -> str | None:
        if pd.isna(stamp):
            return None
        if zone is None:
            return str(stamp.isoformat(sep=" "))
        return str(stamp.tz_localize("UTC").tz_convert(zone).isoformat()).replace("+00:00", "Z")

    return log.assign(**{name: log[name].map(text) for name in TIMES if name in log})


def ingest_frame(
    log: pd.DataFrame,
    store: Path,
    *,
    form: str = "parquet",
    items: pd.DataFrame | None = None,
    users: pd.DataFrame | None = None,
    **options: Any,
) -> Ingested:
    """Write the log, and the tables given, beside the store and ingest them."""
    folder = store.parent / f"{store.name}-source"
    folder.mkdir(exist_ok=True, parents=True)
    file = write_log(log, folder / f"events.{form}")
    tables: list[Path | None] = [None, None]
    if items is not None:
        tables[0] = folder / "items.csv"
        items.to_csv(tables[0], index=False)
    if users is not None:
        tables[1] = folder / "users.parquet"
        users.to_parquet(tables[1], index=False)
    return ingest(Source(file, *tables), store, **{"now": NOW, **options})


def ingest_rows(rows: Sequence[Mapping[str, Any]], store: Path, **options: Any) -> Ingested:
    """Ingest a tiny log written inline, as JSON lines with the values as they stand."""
    folder = store.parent / f"{store.name}-source"
    folder.mkdir(exist_ok=True, parents=True)
    file = folder / "events.jsonl"
    names = dict.fromkeys(name for row in rows for name in row)
    file.write_text("".join(json.dumps(dict.fromkeys(names) | dict(row)) + "\n" for row in rows))
    return ingest(Source(file), store, **{"now": NOW, **options})


# ---------------------------------------------------------------------------------------------- comparing


def matrix_at(store: Store, moment: int, **options: Any) -> Matrix:
    """All signals at one moment."""
    return matrices(store, [moment], **options)[0]


def by_user(matrix: Matrix) -> dict[str, bytes]:
    """Each user's row of signals and, with a horizon, outcome, as bytes."""
    values = np.ascontiguousarray(matrix.values)
    after = matrix.days_to_purchase
    outcomes = [b""] * len(matrix) if after is None else [row.tobytes() for row in after]
    users = matrix.user_ids.to_pylist()
    return {user: row.tobytes() + end for user, row, end in zip(users, values, outcomes, strict=True)}


def rows_by_user(store: Store, moments: Sequence[int], **options: Any) -> list[dict[str, bytes]]:
    """`by_user` at each moment."""
    return [by_user(matrix) for matrix in matrices(store, moments, **options)]


def one_user(store: Store, moment: int, user: str) -> dict[str, float]:
    """All signals of one user by name."""
    row = matrix_at(store, moment, users=[user]).values
    assert len(row) == 1, f"{user} has no event before the moment"
    return dict(zip(NAMES, row[0].tolist(), strict=True))


def cells(rows: Sequence[Mapping[str, bytes]]) -> int:
    """How many signal cells such rows hold."""
    return sum(len(users) for users in rows) * len(NAMES)


def folder_bytes(folder: Path) -> dict[str, bytes]:
    """Every file under a folder with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def folder_digest(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file under a folder with its size and time of change, where content would take too long."""
    return {
        str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }
