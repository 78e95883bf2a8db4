"""The store as readers and writers meet it: one writer at a time, and a view that does not change."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from features.errors import UserError
from features.events import ingest as writing
from features.events.store import Store
from tests.features.support import RANDOM_MOMENTS, folder_bytes, ingest_frame, ingest_rows, rows_by_user
from tests.randomlog import random_items, random_log

ROW: dict[str, Any] = {"user_id": "u", "ts": "2024-05-01", "kind": "view"}


def test_a_second_writer_is_told_and_the_first_is_not_disturbed(tmp_path: Path) -> None:
    path = tmp_path / "store"
    refused: list[object] = []

    def meanwhile(_: int) -> None:
        with pytest.raises(UserError, match=r"another process is writing to .*wait") as error:
            ingest_rows([{**ROW, "user_id": "second"}], path, replace=bool(refused))
        refused.append(error)

    log = random_log(41, 20, 500)
    first = ingest_frame(log, path, progress=meanwhile).store
    assert refused
    assert first is not None
    assert first.rows == len(log)
    assert ingest_rows([{**ROW, "user_id": "second"}], path).report.kept == 1


def test_a_writer_that_waited_outside_builds_on_what_the_other_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest that an ingest builds on is the one in force once it alone may write."""
    path = tmp_path / "store"
    lock: Callable[[Path], AbstractContextManager[None]] = writing.locked
    ingest_rows([ROW], path)

    @contextmanager
    def after_another(which: Path) -> Iterator[None]:
        monkeypatch.setattr(writing, "locked", lock)
        ingest_frame(pd.DataFrame([{**ROW, "user_id": "the other"}]), path)
        with lock(which):
            yield

    monkeypatch.setattr(writing, "locked", after_another)
    ingest_rows([{**ROW, "user_id": "the one"}], path)
    users = [user for line in Store.open(path).timelines() for user in line.user_ids.to_pylist()]
    assert sorted(users) == ["the one", "the other", "u"]


@pytest.mark.parametrize("asked_before", [False, True])
def test_a_reader_keeps_its_view_while_the_store_is_replaced(
    asked_before: bool, tmp_path: Path, tell: Callable[..., None]
) -> None:
    path, log = tmp_path / "store", random_log(42, 30, 1_000)
    ingest_frame(log, path, items=random_items(42))
    expected = rows_by_user(Store.open(path), RANDOM_MOMENTS, horizon=30)
    items = Store.open(path).table("items")
    reader = Store.open(path)
    if asked_before:
        rows_by_user(reader, RANDOM_MOMENTS[:1])
    ingest_frame(random_log(43, 30, 1_000), path, items=random_items(43), replace=True)
    assert rows_by_user(reader, RANDOM_MOMENTS, horizon=30) == expected
    assert reader.table("items") == items
    assert rows_by_user(Store.open(path), RANDOM_MOMENTS, horizon=30) != expected
    tell(users=sum(len(rows) for rows in expected))


def test_replace_forgets_and_append_keeps(tmp_path: Path) -> None:
    first, second = random_log(44, 20, 300), random_log(45, 20, 300).assign(event_id=lambda log: "b" + log.event_id)
    ingest_frame(first, tmp_path / "a")
    assert _rows(ingest_frame(second, tmp_path / "a").store) == len(first) + len(second)
    replaced = ingest_frame(second, tmp_path / "a", replace=True).store
    assert _rows(replaced) == len(second)
    alone = ingest_frame(second, tmp_path / "alone").store
    assert alone is not None
    assert replaced is not None
    assert rows_by_user(replaced, RANDOM_MOMENTS) == rows_by_user(alone, RANDOM_MOMENTS)


def _rows(store: Store | None) -> int:
    assert store is not None
    return store.rows


def test_no_store_is_named_with_the_way_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no store at .*ebbtide ingest SOURCE --store"):
        Store.open(tmp_path / "nowhere")


def test_a_store_that_was_opened_is_not_written_to(small_store: Store) -> None:
    before = folder_bytes(small_store.path)
    rows_by_user(small_store, RANDOM_MOMENTS, horizon=30)
    assert folder_bytes(small_store.path) == before


@pytest.mark.parametrize("file", ["users.hash", "users.offsets", "ts", "kind"])
def test_a_cut_column_is_refused(file: str, tmp_path: Path) -> None:
    path = tmp_path / "store"
    ingest_rows([ROW, {**ROW, "ts": "2024-05-02"}], path)
    (column,) = path.glob(f"segments/*/{file}")
    column.write_bytes(column.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{file} has .* bytes"):
        Store.open(path)


@pytest.mark.parametrize("text", ["", "{", '{"format": 99}'])
def test_a_damaged_manifest_is_refused_and_replace_mends_it(text: str, tmp_path: Path) -> None:
    path = tmp_path / "store"
    ingest_rows([ROW], path)
    (path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match="--replace"):
        Store.open(path)
    with pytest.raises(UserError, match="--replace"):
        ingest_rows([ROW], path)
    assert _rows(ingest_rows([ROW], path, replace=True).store) == 1
    assert _rows(Store.open(path)) == 1


def test_check_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store"
    checked = ingest_rows([ROW], path, check=True)
    assert (checked.report.kept, checked.store) == (1, None)
    assert not path.exists()
    ingest_rows([ROW], path)
    before = folder_bytes(path)
    again = ingest_rows([ROW, {**ROW, "user_id": "v"}], path, check=True)
    assert (again.report.kept, again.report.duplicates) == (1, 1)
    assert folder_bytes(path) == before


def test_a_log_whose_every_row_is_known_leaves_the_answers_alone(tmp_path: Path) -> None:
    path, log = tmp_path / "store", random_log(46, 20, 300)
    before = ingest_frame(log, path).store
    again = ingest_frame(log, path)
    assert (again.report.kept, again.report.users, again.report.duplicates) == (0, 0, len(log))
    assert before is not None
    assert again.store is not None
    assert again.store.digest() == before.digest()
    assert len(again.store.segments) == 1


def test_a_store_of_rejected_rows_only_is_empty(tmp_path: Path) -> None:
    made = ingest_rows([{**ROW, "ts": "never"}], tmp_path / "store", max_rejected=1.0).store
    assert made is not None
    assert made.rows == 0
    assert made.user_hashes.size == 0
    assert rows_by_user(made, RANDOM_MOMENTS, horizon=30) == [{}, {}, {}]
    assert rows_by_user(made, RANDOM_MOMENTS, users=["u"]) == [{}, {}, {}]
