"""A seeded shop of any size: views, carts and purchases over 180 days, in unsorted Parquet.

    python -m benchmarks.generate build/bench-20M.parquet --events 20000000

Visitors come in sessions of a few events; some come often and most rarely; items are skewed, a category is a function
of its item, and the purchases of one session are one order. Written in chunks, each over the whole span and all
users, so the file is in no order and memory does not grow with it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

Array = npt.NDArray[Any]

DAYS = 180
START = datetime(2025, 1, 1)  # UTC
MOMENT = datetime(2025, 6, 30)  # START + 180 days: the whole log is known
KINDS = ("view", "cart", "purchase")
SHARES = (0.85, 0.10, 0.05)
ITEMS, CATEGORIES = 50_000, 200
CHUNK = 1_000_000
SESSION_EVENTS = 5  # mean events of a session


@dataclass(frozen=True)
class Shop:
    """What every chunk shares."""

    activity: Array  # users' cumulative share of sessions
    category: Array  # of each item
    price: Array  # of each item


def generate(path: Path, events: int = 20_000_000, seed: int = 7, users: int | None = None) -> None:
    """Write ``events`` rows; ``users`` defaults to one for 51 events (392 thousand for 20 million)."""
    rng = np.random.default_rng(seed)
    shop = _shop(rng, users or max(1, events // 51))
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        for table in _chunks(rng, shop, events):
            writer.write_table(table, row_group_size=CHUNK // 8)


_SCHEMA = pa.schema(
    [
        ("user_id", pa.int64()),
        ("ts", pa.timestamp("us")),
        ("kind", pa.dictionary(pa.int32(), pa.string())),
        ("item_id", pa.int32()),
        ("category", pa.int16()),
        ("price", pa.float64()),
        ("order_id", pa.int64()),
        ("session_id", pa.int64()),
        ("dwell_s", pa.float64()),
    ]
)


def _shop(rng: np.random.Generator, users: int) -> Shop:
    activity = rng.lognormal(0.0, 0.8, users)
    return Shop(
        activity=np.cumsum(activity) / activity.sum(),
        category=rng.integers(0, CATEGORIES, ITEMS, dtype=np.int16),
        price=np.round(rng.lognormal(3.0, 0.9, ITEMS), 2),
    )


def _chunks(rng: np.random.Generator, shop: Shop, events: int) -> Iterator[pa.Table]:
    first_session = 1
    for begin in range(0, events, CHUNK):
        size = min(CHUNK, events - begin)
        sessions = max(1, size // SESSION_EVENTS)
        yield _chunk(rng, shop, size, sessions, first_session)
        first_session += sessions


def _chunk(rng: np.random.Generator, shop: Shop, size: int, sessions: int, first_session: int) -> pa.Table:
    """Rows of some sessions, shuffled: each row falls on a session, within half an hour of its beginning."""
    user = np.searchsorted(shop.activity, rng.random(sessions)).clip(max=len(shop.activity) - 1)
    origin = np.datetime64(START, "us").astype(np.int64)
    begin = origin + rng.integers(0, DAYS * 86_400_000 - 1_800_000, sessions) * 1_000
    session = rng.integers(0, sessions, size)
    ts = begin[session] + rng.integers(0, 1_800_000, size) * 1_000  # whole milliseconds, as shops log them
    kind = rng.choice(len(KINDS), size, p=SHARES).astype(np.int32)
    item = (ITEMS * rng.random(size) ** 3).astype(np.int32)
    dwell = np.round(rng.exponential(40.0, size), 3)
    columns = [
        pa.array(user[session]),
        pa.array(ts).cast(pa.timestamp("us")),
        pa.DictionaryArray.from_arrays(pa.array(kind), pa.array(KINDS)),
        pa.array(item),
        pa.array(shop.category[item]),
        pa.array(shop.price[item]),
        pa.array(first_session + session, mask=kind != KINDS.index("purchase")),
        pa.array(first_session + session),
        pa.array(dwell, mask=kind != KINDS.index("view")),
    ]
    return pa.Table.from_arrays(columns, schema=_SCHEMA)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--users", type=int, default=None)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    generate(args.path, args.events, args.seed, args.users)


if __name__ == "__main__":
    main()
