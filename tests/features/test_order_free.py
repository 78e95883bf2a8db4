"""Law 3: the order and the batches in which rows come, the names of users, and how work is cut change no byte."""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.events import intake
from features.events.store import Store
from tests.features.events.anonymous import with_devices
from tests.features.support import (
    RANDOM_MOMENTS,
    at,
    cells,
    ingest_frame,
    ingest_rows,
    matrix_at,
    one_user,
    rows_by_user,
)
from tests.randomlog import random_items, random_log

Rows = list[dict[str, bytes]]
# With and without ids, sessions and dwell; each is (seed, columns left out).
LOGS: dict[str, tuple[int, dict[str, Any]]] = {
    "event ids": (21, {}),
    "no event ids": (22, {"event_id": False}),
    "derived dwell": (23, {"event_id": False, "dwell": False}),
    "anonymous devices": (24, {}),
}


def answers(store: Store | None, **options: Any) -> Rows:
    """Signals and outcomes of every user at the log's moments, as bytes."""
    assert store is not None
    return rows_by_user(store, RANDOM_MOMENTS, horizon=30, **options)


@pytest.fixture(scope="module", params=LOGS)
def log(request: pytest.FixtureRequest) -> pd.DataFrame:
    seed, options = LOGS[request.param]
    log = random_log(seed, 40, 900, **options)
    return with_devices(log, seed) if request.param == "anonymous devices" else log


@pytest.fixture(scope="module")
def expected(log: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return answers(ingest_frame(log, tmp_path_factory.mktemp("expected") / "store").store)


def parts_of(log: pd.DataFrame, count: int, seed: int) -> list[pd.DataFrame]:
    """The log in random parts; equal rows, whose identity is their number within a batch, stay together."""
    part = pd.util.hash_pandas_object(log.astype(str), index=False, hash_key=f"{seed:016d}").to_numpy() % count
    return [log[part == i] for i in range(count)]


def test_shuffled_rows(log: pd.DataFrame, expected: Rows, tmp_path: Path, tell: Callable[..., None]) -> None:
    digests = set()
    for seed in range(2):
        store = ingest_frame(log.sample(frac=1, random_state=seed), tmp_path / f"{seed}").store
        assert answers(store) == expected
        digests.add(store.digest() if store else "")
    assert len(digests) == 1
    tell(cells_compared=2 * cells(expected), rows_shuffled=2 * len(log))


def test_several_ingests_in_any_order_and_twice(
    log: pd.DataFrame, expected: Rows, tmp_path: Path, tell: Callable[..., None]
) -> None:
    parts = parts_of(log, 3, 1)
    assert min(len(part) for part in parts) > 100
    ingests = 0
    for order in list(itertools.permutations(range(3)))[::3]:
        path = tmp_path / "".join(map(str, order))
        results = [ingest_frame(parts[i].sample(frac=1, random_state=i), path) for i in order]
        assert sum(result.report.kept for result in results) == len(log)
        assert answers(results[-1].store) == expected
        again = ingest_frame(parts[order[0]], path)
        assert (again.report.kept, again.report.duplicates, again.report.conflicts) == (0, len(parts[order[0]]), 0)
        whole = ingest_frame(log, path)
        assert (whole.report.kept, whole.report.duplicates) == (0, len(log))
        assert answers(whole.store) == expected
        ingests += 5
    tell(cells_compared=4 * cells(expected), ingests=ingests)


def test_relabelled_users(log: pd.DataFrame, expected: Rows, tmp_path: Path, tell: Callable[..., None]) -> None:
    for label in ("the user of old known as {}", "{:>30}", "é{}"):
        names = {user: label.format(user[::-1]) for user in log["user_id"].dropna().unique()}
        store = ingest_frame(log.assign(user_id=log["user_id"].map(names)), tmp_path / label.format("")).store
        relabelled = [{names.get(user, user): row for user, row in rows.items()} for rows in expected]
        assert answers(store) == relabelled
    tell(cells_compared=3 * cells(expected), users_relabelled=3 * len(names))


def test_buckets_threads_and_named_users(
    log: pd.DataFrame, tmp_path: Path, expected: Rows, tell: Callable[..., None]
) -> None:
    ways: list[Mapping[str, Any]] = [
        {"chunk_rows": 1},
        {"chunk_rows": 97, "threads": 1},
        {"chunk_rows": 500, "threads": 4},
        {"users": sorted(set().union(*expected), reverse=True)},
    ]
    parts = parts_of(log, 2, 2)
    stores = [ingest_frame(log, tmp_path / "one").store, [ingest_frame(p, tmp_path / "two").store for p in parts][-1]]
    for store, way in itertools.product(stores, ways):
        assert answers(store, **way) == expected
    one_by_one: Rows = [{} for _ in RANDOM_MOMENTS]
    for user in list(expected[-1])[:25]:
        for rows, found in zip(one_by_one, answers(stores[1], users=[user]), strict=True):
            rows.update(found)
    for rows, known in zip(one_by_one, expected, strict=True):
        assert rows.items() <= known.items()
    tell(cells_compared=8 * cells(expected) + cells(one_by_one))


def test_batches_of_the_reader_and_sorting_threads(
    log: pd.DataFrame, expected: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tell: Callable[..., None]
) -> None:
    """A text's code depends on the batch that brings it first; nothing may depend on the code."""
    monkeypatch.setattr(intake, "BATCH_ROWS", 211)
    store = ingest_frame(log, tmp_path / "store", threads=4, form="csv").store
    assert answers(store) == expected
    tell(cells_compared=cells(expected), batches=-(-len(log) // 211))


@pytest.mark.parametrize("form", ["csv", "csv.gz", "jsonl", "jsonl.gz"])
def test_forms_of_the_file(form: str, tmp_path: Path, tell: Callable[..., None]) -> None:
    log, items = random_log(25, 40, 1_000), random_items(25)
    expected = answers(ingest_frame(log, tmp_path / "parquet", items=items).store)
    assert answers(ingest_frame(log, tmp_path / "text", form=form, items=items).store) == expected
    tell(cells_compared=cells(expected))


def test_items_table_before_with_or_after_the_events(tmp_path: Path) -> None:
    log, items = random_log(26, 40, 1_000, category=False), random_items(26)
    half = len(log) // 2
    expected = answers(ingest_frame(log, tmp_path / "with", items=items).store)
    first = ingest_frame(log[:half], tmp_path / "first", items=items)
    assert answers(ingest_frame(log[half:], tmp_path / "first").store) == expected
    assert first.store is not None
    ingest_frame(log[:half], tmp_path / "after")
    assert answers(ingest_frame(log[half:], tmp_path / "after", items=items).store) == expected


def test_named_users_come_in_the_order_given_and_strangers_not_at_all(small_store: Store) -> None:
    matrix = matrix_at(small_store, RANDOM_MOMENTS[2], users=["two apart", "a stranger", "one view", "u0003"])
    assert matrix.user_ids.to_pylist() == ["two apart", "one view", "u0003"]
    assert matrix_at(small_store, RANDOM_MOMENTS[2], users=[]).values.shape[0] == 0


def test_a_lookback_keeps_those_who_bought_within_it(small_store: Store, tell: Callable[..., None]) -> None:
    moment = RANDOM_MOMENTS[1]
    whole = matrix_at(small_store, moment)
    kept = matrix_at(small_store, moment, lookback=30)
    bought = np.asarray(whole.column("purchases_30d") > 0)
    assert 0 < bought.sum() < len(whole)
    assert kept.values.tobytes() == whole.values[bought].tobytes()
    tell(users_kept=int(bought.sum()), users=len(whole))


CONFLICT = {"user_id": "u", "event_id": "e", "kind": "purchase", "ts": "2024-05-01"}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_earliest_arrival_of_an_event_id_wins(order: tuple[int, ...], tmp_path: Path) -> None:
    versions = [
        {**CONFLICT, "amount": 10, "arrived_at": "2024-05-02"},
        {**CONFLICT, "amount": 20, "arrived_at": "2024-05-03"},
        {**CONFLICT, "amount": 30, "arrived_at": "2024-05-04"},
    ]
    results = [ingest_rows([versions[i]], tmp_path / "one by one") for i in order]
    together = ingest_rows([versions[i] for i in order], tmp_path / "together")
    assert sum(result.report.conflicts for result in results) == together.report.conflicts == 2
    assert sum(result.report.duplicates for result in results) == together.report.duplicates == 2
    for store in (results[-1].store, together.store):
        assert store is not None
        assert store.rows == 1
        assert one_user(store, at("2024-05-10"), "u")["spend_30d"] == 10


def test_an_event_that_is_known_keeps_its_content(tmp_path: Path) -> None:
    """Also where no arrivals are given: the version ingested first was the one known."""
    first = {**CONFLICT, "amount": 10}
    for amount in (5, 20):
        path = tmp_path / f"{amount}"
        ingest_rows([first], path)
        result = ingest_rows([{**first, "amount": amount}], path)
        assert (result.report.kept, result.report.duplicates, result.report.conflicts) == (0, 1, 1)
        assert result.store is not None
        assert one_user(result.store, at("2024-05-10"), "u")["spend_30d"] == 10
