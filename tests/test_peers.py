"""The benchmark's peers compute what they claim: each agrees with the oracle on every cell of a small shop."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import generate, peers
from tests.oracle import oracle

pytest.importorskip("polars")

MOMENTS = (generate.MOMENT, generate.MOMENT - timedelta(days=90))
Peer = Callable[[Path, datetime], Any]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shop") / "events.parquet"
    generate.generate(path, events=20_000, seed=3)
    return path


@pytest.fixture(scope="module")
def prepared(shop: Path) -> Path:
    database = shop.with_suffix(".duckdb")
    peers.duckdb_prepare(shop, database)
    return database


def differences(answer: pa.Table, shop: Path, as_of: datetime) -> dict[str, int]:
    """Cells that differ from the oracle by more than a float32 can say, column by column."""
    truth = oracle(shop, None, as_of).set_index("user_id")
    given = answer.to_pandas()
    given = given.assign(user_id=given["user_id"].astype(str)).set_index("user_id")
    assert sorted(given.index) == sorted(truth.index)
    given = given.loc[truth.index]
    counts = {
        name: int((~np.isclose(truth[name], given[name], rtol=1e-5, atol=1e-6, equal_nan=True)).sum())
        for name in peers.COLUMNS
    }
    return {name: count for name, count in counts.items() if count}


@pytest.mark.parametrize("as_of", MOMENTS)
@pytest.mark.parametrize("peer", [peers.duckdb_table, peers.polars_table, peers.pandas_table])
def test_peer_agrees_with_the_oracle(peer: Peer, as_of: datetime, shop: Path) -> None:
    assert differences(peer(shop, as_of), shop, as_of) == {}


def test_duckdb_on_its_own_sorted_table(prepared: Path, shop: Path) -> None:
    assert differences(peers.duckdb_table(prepared, MOMENTS[0]), shop, MOMENTS[0]) == {}


@pytest.mark.parametrize("which", ["raw", "sorted"])
def test_duckdb_for_several_moments(which: str, prepared: Path, shop: Path) -> None:
    tables = peers.duckdb_many_tables(prepared if which == "sorted" else shop, MOMENTS)
    for as_of, table in zip(MOMENTS, tables, strict=True):
        assert differences(table, shop, as_of) == {}


def test_all_hand_back_the_same_answer(shop: Path) -> None:
    answers = [peer(shop, MOMENTS[0]) for peer in (peers.duckdb_signals, peers.polars_signals, peers.pandas_signals)]
    assert len({found.rows for found in answers}) == 1
    assert np.allclose([found.checksum for found in answers], answers[0].checksum, rtol=1e-5)


def test_bare_scan_reads_every_row(shop: Path) -> None:
    assert peers.bare_scan(shop).rows == 20_000


def test_same_seed_same_shop(tmp_path: Path) -> None:
    for name in ("one", "two"):
        generate.generate(tmp_path / name, events=2_000, seed=5)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
