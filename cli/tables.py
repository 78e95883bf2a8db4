"""Tables on their way into files."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from features.errors import UserError

WITHIN = " | "  # between the elements of a list in a CSV


@dataclass(frozen=True)
class Column:
    """A column's name and type, and its value of one row's source."""

    name: str
    kind: pa.DataType
    value: Any  # a function of a row's source


def table_of(columns: Sequence[Column], rows: Sequence[Any]) -> pa.Table:
    """A row a source."""
    return pa.table({one.name: pa.array([one.value(row) for row in rows], one.kind) for one in columns})


def checked_out(out: Path) -> Path:
    """A file that can be written as a table.

    Raises:
        UserError: it is neither CSV nor Parquet; said before the work, not after it.
    """
    if out.suffix not in (".csv", ".parquet"):
        raise UserError(f"--out {out} is neither .csv nor .parquet: end its name with one of these")
    return out


def write_table(out: Path, table: pa.Table) -> None:
    """Write a CSV or Parquet file in one step: who reads it meanwhile sees the old one whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        if out.suffix == ".csv":
            pa_csv.write_csv(_flat(table), beside)
        else:
            pq.write_table(table, beside)
        beside.rename(out)
    finally:
        beside.unlink(missing_ok=True)


def _flat(table: pa.Table) -> pa.Table:
    """With texts in place of lists, and ISO times."""
    columns = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_list(column.type):
            column = pc.binary_join(column.cast(pa.list_(pa.string())), WITHIN)
        elif pa.types.is_timestamp(column.type):
            whole = column.cast(pa.timestamp("s"), safe=False)  # parts of a second would be refused
            column = pc.strftime(whole, "%Y-%m-%dT%H:%M:%SZ").cast(pa.string())
        columns[name] = column
    return pa.table(columns)
