"""Law 1: a slow, obvious SQL over the raw events agrees with the kernel on every cell of every signal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.events import sources
from features.events.ingest import ingest
from features.events.sources import Source
from features.events.store import Store
from features.signals import Signal, all_signals
from tests import oracle as sql
from tests.features.support import NOW, RANDOM_MOMENTS, ROOT, as_micros, at, ingest_frame, matrix_at
from tests.oracle import oracle
from tests.randomlog import random_items, random_log

COUNTED = {"orders", "lines", "sessions", "events", "views", "items", "categories", "messages", "coupons"}
DROPPED = {"repeat_line_share_365d"}  # a signal that only the oracle still has
NO_BROWSING = [
    *("purchase", "refund", "login", "delivered", "message_sent", "message_opened", "coupon_used", "coupon_received"),
    "a_kind_of_its_own",
]

# name: (seed, options of the log, file form, with an items table)
CASES: dict[str, tuple[int, dict[str, Any], str, bool]] = {
    "every column": (1, {}, "parquet", False),
    "every column, items table, csv": (2, {}, "csv", True),
    "dwell derived in sessions, gz csv": (3, {"dwell": False}, "csv.gz", False),
    "dwell derived, no sessions, json lines": (4, {"dwell": False, "session": False}, "jsonl", True),
    "dwell derived, no arrivals": (5, {"dwell": False, "session": False, "arrived_at": False}, "csv", False),
    "no sessions, gz json lines": (6, {"session": False}, "jsonl.gz", False),
    "no arrivals, no orders": (7, {"arrived_at": False, "order_id": False}, "csv.gz", True),
    "no categories": (8, {"category": False, "event_id": False}, "jsonl", False),
    "categories of the items table only": (9, {"category": False}, "parquet", True),
    "no items": (10, {"item_id": False, "discount": False}, "parquet", True),
    "no money": (11, {"amount": False, "price": False}, "csv", False),
    "amounts only": (12, {"price": False, "event_id": False}, "parquet", False),
    "prices only": (13, {"amount": False}, "csv", False),
    "purchases only": (14, {"purchase_only": True}, "parquet", True),
    "bare purchases": (
        15,
        {
            **dict.fromkeys(("dwell", "session", "arrived_at", "order_id", "category", "item_id"), False),
            **dict.fromkeys(("discount", "amount", "price", "event_id"), False),
            "purchase_only": True,
        },
        "csv",
        False,
    ),
    "no browsing": (16, {"kinds": NO_BROWSING}, "parquet", False),
    "nothing made by the user": (17, {"kinds": ["message_sent", "delivered", "coupon_received"]}, "parquet", False),
}


@pytest.fixture(autouse=True)
def _dwell_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """DESIGN §3: dwell is a whole number of milliseconds, also where it is derived."""
    monkeypatch.setattr(sql, "DERIVED_DWELL_UNIT_US", 1_000)


def _counted(signal: Signal) -> bool:
    return signal.unit in COUNTED or signal.name.startswith("active_days")


def compare(store: Store, log: pd.DataFrame | pa.Table, items: pd.DataFrame | pa.Table | None, moment: int) -> int:
    """Cells compared; fails with the signals that differ and a user each."""
    ours = matrix_at(store, moment).to_pandas().sort_values("user_id")
    theirs = oracle(log, items, moment).sort_values("user_id")
    assert ours["user_id"].tolist() == theirs["user_id"].tolist()
    assert set(theirs.columns) - set(ours.columns) <= DROPPED
    wrong = {}
    for signal in all_signals():
        got = ours[signal.name].to_numpy(np.float32)
        expected = theirs[signal.name].to_numpy(np.float32)
        tolerance = 0.0 if _counted(signal) else 1e-5
        agree = np.isclose(got, expected, rtol=tolerance, atol=0, equal_nan=True)
        if not agree.all():
            row = int(np.flatnonzero(~agree)[0])
            wrong[signal.name] = (int((~agree).sum()), ours["user_id"].iloc[row], got[row], expected[row])
    assert not wrong, f"signal: (cells that differ, a user, ours, the oracle's) {wrong}"
    return len(ours) * len(all_signals())


def _moments(log: pd.DataFrame, seed: int) -> list[int]:
    """One of the log's own hard moments, and one exactly at an event or at an arrival."""
    column = "arrived_at" if "arrived_at" in log and seed % 2 else "ts"
    micros = np.sort(as_micros(log[column].dropna()))
    return [RANDOM_MOMENTS[seed % 3], int(micros[len(micros) // 2])]


@pytest.mark.parametrize("name", CASES)
def test_agrees_on_a_random_log(name: str, tmp_path: Path, tell: Callable[..., None]) -> None:
    seed, options, form, with_items = CASES[name]
    log = random_log(seed, 40, 2_500, **options)
    items = random_items(seed) if with_items else None
    result = ingest_frame(log, tmp_path / "store", form=form, items=items)
    assert result.report.kept == len(log)
    assert result.store is not None
    moments = _moments(log, seed)
    compared = sum(compare(result.store, log, items, moment) for moment in moments)
    tell(cells_compared=compared, moments=len(moments), rows=len(log))


def test_agrees_around_the_first_event(tmp_path: Path, tell: Callable[..., None]) -> None:
    log = random_log(18, 40, 2_500, arrived_at=False)
    store = ingest_frame(log, tmp_path / "store").store
    assert store is not None
    first = store.span[0]
    assert len(matrix_at(store, first)) == 0
    tell(cells_compared=sum(compare(store, log, None, first + step) for step in (1, 60_000_000, 10**12)))


def test_agrees_after_several_ingests(tmp_path: Path, tell: Callable[..., None]) -> None:
    """Segments whose columns differ are one log: the oracle sees it as one table."""
    log = random_log(19, 40, 2_500)
    thirds = [log.iloc[i::3] for i in range(3)]
    thirds[0] = thirds[0].drop(columns=["dwell_s", "order_id", "quantity", "arrived_at", "category"])
    thirds[1] = thirds[1].drop(columns=["session_id", "price", "item_id"])
    store = [ingest_frame(third, tmp_path / "store", threads=1).store for third in thirds][-1]
    assert store is not None
    tell(cells_compared=sum(compare(store, pd.concat(thirds), None, moment) for moment in RANDOM_MOMENTS))


# ---------------------------------------------------------------------------------------------- published data


def _published(name: str, users: int, tmp_path: Path) -> tuple[Store, pa.Table, pa.Table]:
    """A shop's log of every n-th user as the source's own SQL gives it, and its store."""
    source = sources.find_source(ROOT / "sources" / name)
    assert source.items is not None
    con = sources.connect()
    sources.open_relation(source.events, con).create_view("source")
    step = f"(SELECT greatest(1, count(DISTINCT user_id) // {users}) FROM source)"
    sample = f"SELECT * FROM source WHERE hash(user_id) % {step} = 0"
    table = con.sql(sample).to_arrow_table()
    items = sources.open_relation(source.items, con).to_arrow_table()
    pq.write_table(table, tmp_path / "events.parquet")
    pq.write_table(items, tmp_path / "items.parquet")
    made = ingest(Source(tmp_path / "events.parquet", tmp_path / "items.parquet"), tmp_path / "store", now=NOW)
    assert made.store is not None
    assert made.report.kept == len(table)
    return made.store, table, items


def test_agrees_on_online_retail(
    online_retail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tell: Callable[..., None]
) -> None:
    monkeypatch.setenv("ONLINE_RETAIL_PARQUET", str(online_retail))
    store, log, items = _published("online_retail", 500, tmp_path)
    moments = [at("2011-09-10T00:00:00"), at("2010-12-01T12:26:00")]
    tell(cells_compared=sum(compare(store, log, items, moment) for moment in moments), rows=len(log))


def test_agrees_on_complete_journey(complete_journey: Path, tmp_path: Path, tell: Callable[..., None]) -> None:
    store, log, items = _published("complete_journey", 250, tmp_path)
    moments = [at("2017-12-01T00:00:00"), at("2017-06-11T15:00:00")]
    tell(cells_compared=sum(compare(store, log, items, moment) for moment in moments), rows=len(log))
