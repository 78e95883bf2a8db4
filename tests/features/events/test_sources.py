"""A source that cannot be read says which file, column or line, and the repair, and leaves the store as it was."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from features.errors import UserError
from features.events.ingest import ingest
from features.events.sources import Source, find_source
from tests.features.support import NOW, ROOT, folder_bytes, ingest_frame, ingest_rows, write_log
from tests.randomlog import random_log

HEAD = "user_id,ts,kind\n"
LINE = "u,2024-05-01,view\n"
JSON = '{"user_id": "u", "ts": "2024-05-01", "kind": "view"}\n'


def _parquet(folder: Path) -> bytes:
    return write_log(random_log(51, 10, 300), folder / "whole.parquet").read_bytes()


# name: (file, its content, what the message must say)
BROKEN: dict[str, tuple[str, Callable[[Path], bytes], tuple[str, ...]]] = {
    "missing column": ("e.csv", lambda _: b"user,ts,kind\nu,2024-05-01,view\n", ("user_id", "user, ts, kind", ".sql")),
    "missing columns": ("e.jsonl", lambda _: b'{"user_id": "u"}\n', ("columns ts, kind", "AS user_id")),
    "sql syntax": ("e.sql", lambda _: b"SELECT *\nFORM nowhere", ("e.sql", "LINE 2", "nothing was written")),
    "sql column": (
        "e.sql",
        lambda _: b"SELECT 'u' AS user_id,\n  knd AS kind\nFROM range(1)",
        ("e.sql", "knd"),
    ),
    "sql file": ("e.sql", lambda _: b"SELECT * FROM 'absent.csv'", ("e.sql", "absent.csv")),
    "sql while running": (
        "e.sql",
        lambda _: b"SELECT 'u' AS user_id, CAST('x' || range AS TIMESTAMP) AS ts, 'view' AS kind FROM range(3)",
        ("e.sql", "x0"),
    ),
    "sql of nothing": ("e.sql", lambda _: b"-- nothing yet\n", ("e.sql", "SELECT")),
    "sql without rows": ("e.sql", lambda _: b"CREATE TABLE events AS SELECT 1", ("user_id", "SELECT")),
    "sql bytes": ("e.sql", lambda _: b"SELECT '\xff\xfe'", ("e.sql", "utf-8")),
    "no parquet": ("e.parquet", lambda _: b"user_id,ts,kind\n", ("e.parquet",)),
    "empty parquet": ("e.parquet", lambda _: b"", ("e.parquet",)),
    "cut parquet": ("e.parquet", lambda folder: _parquet(folder)[:-200], ("e.parquet",)),
    "cut csv.gz": ("e.csv.gz", lambda _: gzip.compress((HEAD + LINE * 5_000).encode())[:-30], ("e.csv.gz",)),
    "cut jsonl.gz": ("e.jsonl.gz", lambda _: gzip.compress((JSON * 5_000).encode())[:-30], ("e.jsonl.gz",)),
    "no gzip": ("e.csv.gz", lambda _: (HEAD + LINE).encode(), ("e.csv.gz",)),
    "malformed json": ("e.jsonl", lambda _: (JSON * 3 + '{"user_id": \n' + JSON).encode(), ("e.jsonl", "in line")),
    "cut json": ("e.jsonl", lambda _: (JSON * 3)[:-9].encode(), ("e.jsonl", "in line")),
    "json array": ("e.json", lambda _: f"[{JSON},{JSON}]".encode(), ("e.json",)),
    "csv bytes": ("e.csv", lambda _: (HEAD + LINE).encode() + b"\xff\xfe,2024-05-01,view\n", ("e.csv",)),
    "csv line": ("e.csv", lambda _: (HEAD + LINE * 3 + "u,2024-05-01,view,more\n").encode(), ("e.csv", "Line: 5")),
    "two csvs": (
        "e.csv",
        lambda _: (HEAD + LINE + "user_id,ts,kind,price\nu,2024-05-01,view,1\n").encode(),
        ("Line: 3",),
    ),
    "csv column twice": ("e.csv", lambda _: ("kind," + HEAD + "view," + LINE).encode(), ("e.csv", "each once")),
    "csv without a name": ("e.csv", lambda _: ("," + HEAD + "0," + LINE).encode(), ("e.csv", "each once")),
    "cut csv": ("e.csv", lambda _: (HEAD + LINE * 3)[:-8].encode(), ("e.csv", "Line: 4")),
    "empty csv": ("e.csv", lambda _: b"", ("e.csv",)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_source_is_named_and_the_store_untouched(name: str, tmp_path: Path) -> None:
    file, content, parts = BROKEN[name]
    path = tmp_path / "store"
    ingest_rows([{"user_id": "u", "ts": "2024-05-01", "kind": "view"}], path)
    before = folder_bytes(path)
    (tmp_path / file).write_bytes(content(tmp_path))
    with pytest.raises(UserError) as error:
        ingest(find_source(tmp_path / file), path, now=NOW)
    for part in parts:
        assert part.lower() in str(error.value).lower()
    assert folder_bytes(path) == before
    with pytest.raises(UserError):
        ingest(find_source(tmp_path / file), tmp_path / "fresh", now=NOW)
    assert not (tmp_path / "fresh").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "no source at .*absent"),
        ("absent.csv", "no source at .*absent.csv"),
        ("notes.txt", r"notes\.txt: its name must end in one of .*\.csv"),
        ("empty", "holds no events: add one of events.sql"),
    ],
)
def test_what_is_no_source(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text(HEAD)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        find_source(tmp_path / name)


def test_an_unset_variable_and_a_missing_package_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOP_FILE", raising=False)
    sql = tmp_path / "events.sql"
    sql.write_text("SELECT * FROM '${SHOP_FILE}'")
    with pytest.raises(UserError, match="environment variable SHOP_FILE: set it"):
        ingest(Source(sql), tmp_path / "store", now=NOW)
    sql.write_text("SELECT * FROM '${package:no_such_shop}/x.csv'")
    with pytest.raises(UserError, match="pip install no-such-shop"):
        ingest(Source(sql), tmp_path / "store", now=NOW)
    monkeypatch.setenv("SHOP_FILE", str(write_log(random_log(52, 5, 50), tmp_path / "it's here.parquet")))
    sql.write_text("SELECT * FROM '${SHOP_FILE}'")
    assert ingest(Source(sql), tmp_path / "store", now=NOW).report.kept > 50


def test_paths_in_a_query_are_relative_to_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "a shop's own"
    folder.mkdir()
    (folder / "clicks.csv").write_text("who;when\nu;2024-05-01\n")
    (folder / "events.sql").write_text(
        "-- a comment; with a semicolon\nSELECT who AS user_id, \"when\" AS ts, 'view' AS kind FROM 'clicks.csv';\n"
    )
    assert ingest(find_source(folder), tmp_path / "store", now=NOW).report.kept == 1


def test_a_json_key_that_first_comes_late_is_read(tmp_path: Path) -> None:
    late = JSON.replace("view", "purchase").replace("}", ', "amount": 5}')
    (tmp_path / "e.jsonl").write_text(JSON * 30_000 + late)
    store = ingest(Source(tmp_path / "e.jsonl"), tmp_path / "store", now=NOW).store
    assert store is not None
    assert "amount" in store.facts.columns_known


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ("sku,category\ni,c\n", "items.csv lacks the column item_id; it has sku, category"),
        ("item_id,category\ni,c\ni,d\n", "names 1 item_ids more than once"),
    ],
)
def test_a_bad_items_table_stops_the_run(items: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text(HEAD + LINE)
    (tmp_path / "items.csv").write_text(items)
    with pytest.raises(UserError, match=message):
        ingest(find_source(tmp_path), tmp_path / "store", now=NOW)
    assert not (tmp_path / "store").exists()


def test_csv_may_have_other_separators_quotes_and_line_ends(tmp_path: Path) -> None:
    text = 'user_id;ts;kind;item_id\r\n"a;b";2024-05-01;view;"say ""hi"""\r\n"c\nd";2024-05-01;view;\r\n'
    (tmp_path / "e.csv").write_bytes(text.encode())
    store = ingest(Source(tmp_path / "e.csv"), tmp_path / "store", now=NOW).store
    assert store is not None
    assert sorted(user for line in store.timelines() for user in line.user_ids.to_pylist()) == ["a;b", "c\nd"]
    assert store.words["item_id"].texts == ['say "hi"']


def test_the_published_sources_are_found() -> None:
    for name in ("online_retail", "complete_journey"):
        source = find_source(ROOT / "sources" / name)
        assert source.items is not None
        assert source.users is not None


def test_a_frame_read_from_parquet_keeps_every_row(tmp_path: Path) -> None:
    log = random_log(53, 10, 300)
    assert ingest_frame(log, tmp_path / "store").report.kept == len(log)
