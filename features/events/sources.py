"""A source, whatever its form, as a DuckDB relation: a `.sql` query, or a CSV, Parquet or JSON-lines file."""

import csv
import gzip
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path

import duckdb

from features.errors import UserError

TABLES = ("events", "items", "users")
SUFFIXES = (".sql", ".parquet", ".csv", ".csv.gz", ".jsonl", ".ndjson", ".jsonl.gz", ".json")


@dataclass(frozen=True)
class Source:
    """Where the tables of a shop come from; `items` and `users` are optional."""

    events: Path
    items: Path | None = None
    users: Path | None = None


def find_source(path: Path) -> Source:
    """The tables at `path`: one file of events, or a folder with `events.*` and maybe `items.*` and `users.*`."""
    if path.is_file():
        return Source(_known(path))
    if not path.is_dir():
        raise UserError(f"no source at {path}: name a file, a .sql file or a folder with events.sql")
    found = {table: next((p for s in SUFFIXES if (p := path / f"{table}{s}").is_file()), None) for table in TABLES}
    if found["events"] is None:
        names = ", ".join(f"events{s}" for s in SUFFIXES)
        raise UserError(f"{path} holds no events: add one of {names}")
    return Source(found["events"], found["items"], found["users"])


def _known(path: Path) -> Path:
    if not path.name.endswith(SUFFIXES):
        raise UserError(f"cannot read {path}: its name must end in one of {', '.join(SUFFIXES)}")
    return path


def connect() -> duckdb.DuckDBPyConnection:
    """A private in-memory DuckDB that reads naive times as UTC and keeps the order of rows."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = true")
    return connection


def open_relation(path: Path, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyRelation:
    """The rows of `path` as a lazy relation; text files yield text columns, so that a bad cell is a bad row, not a
    failed run.

    Raises:
        UserError: the file or its query cannot be read.
    """
    try:
        if path.suffix == ".sql":
            folder = str(path.resolve().parent).replace("'", "''")
            connection.execute(f"SET file_search_path = '{folder}'")
            relation = connection.sql(_fill_in(path.read_text(), path).strip().rstrip(";"))
            if relation is None:
                raise UserError(f"{path} holds no query: it must be one SELECT that yields the columns of the contract")
            return relation
        if path.name.endswith(".parquet"):
            return connection.read_parquet(str(path))
        if ".csv" in path.name:
            return _open_csv(path, connection)
        described = connection.execute(
            "DESCRIBE SELECT * FROM read_json(?, format = 'newline_delimited', sample_size = -1)", [str(path)]
        ).fetchall()
        columns = ", ".join(f"{_quoted(name, chr(39))}: 'VARCHAR'" for name, *_ in described)
        query = f"SELECT * FROM read_json(?, format = 'newline_delimited', columns = {{{columns}}})"
        return connection.sql(query, params=[str(path)])
    except (duckdb.Error, UnicodeDecodeError, OSError, EOFError, csv.Error) as error:
        raise unreadable(path, error) from error


def _open_csv(path: Path, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyRelation:
    """Columns and separator are those of the first line. DuckDB is not to guess them: where a later line has more or
    fewer fields it would skip lines until they fit."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        head = file.readline().decode("utf-8-sig")
    separator = max(",;\t|", key=head.count)
    names = next(csv.reader([head], delimiter=separator), [])
    if not all(names) or len(set(names)) < len(names) or not names:
        raise UserError(f"{path}: its first line must name the columns, each once; it is {head.strip()[:200]!r}")
    columns = ", ".join(f"{_quoted(name, chr(39))}: 'VARCHAR'" for name in names)
    query = f"""
        SELECT * FROM read_csv(?, auto_detect = false, header = true, delim = '{separator}', quote = '"', escape = '"',
                               columns = {{{columns}}})"""
    return connection.sql(query, params=[str(path)])


def query(relation: duckdb.DuckDBPyRelation, sql: str) -> duckdb.DuckDBPyRelation:
    """A query over a relation, which it calls `source`."""
    result = relation.query("source", sql)
    assert result is not None
    return result


def unreadable(path: Path, error: Exception) -> UserError:
    """What DuckDB says of a source, as one message with the line it names."""
    lines = [line for line in str(error).split("\n") if line.strip()]
    return UserError(
        f"cannot read {path}: " + "\n  ".join(lines[:8]) + "\n  Mend the file or the query; nothing was written."
    )


def _quoted(name: str, mark: str) -> str:
    return mark + name.replace(mark, mark * 2) + mark


def _fill_in(sql: str, path: Path) -> str:
    """Replace `${NAME}` by an environment variable and `${package:NAME}` by an installed package's folder."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name.startswith("package:"):
            package = name.removeprefix("package:")
            spec = importlib.util.find_spec(package)
            if spec is None or spec.origin is None:
                raise UserError(f"{path} reads the Python package {package}: pip install {package.replace('_', '-')}")
            text = str(Path(spec.origin).parent)
        elif name in os.environ:
            text = os.environ[name]
        else:
            raise UserError(f"{path} reads the environment variable {name}: set it, for instance {name}=/data/file")
        return text.replace("'", "''")

    return re.sub(r"\$\{([A-Za-z0-9_:]+)\}", value, sql)
