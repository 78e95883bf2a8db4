"""Our side of ``benchmarks/signals.py``: the store and the kernel."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.peers import Answer
from features.engines.local import matrices
from features.events.ingest import ingest
from features.events.sources import Source
from features.events.store import Store
from features.signals import by_name


def prepare(path: Path, store: Path) -> None:
    """Ingest the raw Parquet file into a store (its time is told apart)."""
    ingest(Source(path), store, now=int(time.time() * 1e6), replace=True)


def signals(store: Path, moments: Sequence[datetime], columns: Sequence[str]) -> list[Answer]:
    """The columns at each moment, from the ingested store: rows, and the sum of the first and the last column."""
    instants = [int(moment.replace(tzinfo=UTC).timestamp()) * 1_000_000 for moment in moments]
    built = matrices(Store.open(store), instants, by_name(columns))
    return [Answer(len(m), float(np.nansum(m.values[:, [0, -1]], dtype=np.float64))) for m in built]
