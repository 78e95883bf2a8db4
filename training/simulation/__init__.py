"""A simulated shop: its event log, and the truth behind it that no log tells.

A user's life depends on the seed, the parameters, the length of the log and her number, and on nothing else: of a
larger shop the first users are the same.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import UserError
from training.simulation.catalogue import make_catalogue
from training.simulation.parameters import Parameters
from training.simulation.people import make_people
from training.simulation.shop import make_events, start_of
from training.simulation.truth import needs_table, states_table, truth_table, users_table

CELLS = 400_000  # users x days worked on at once: bounds the memory
MOST_DAYS = 3_660

Progress = Callable[[float], None]


@dataclass
class Simulated:
    """What was written: events of each kind, and users by the cause of their leaving."""

    users: int
    items: int
    kinds: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)


def simulate(
    p: Parameters,
    out: Path,
    *,
    users: int,
    days: int,
    seed: int,
    chunk: int | None = None,
    progress: Progress | None = None,
) -> Simulated:
    """Write a shop's `events`, `items` and `users` as Parquet into the folder `out`, and the truth into `out/truth`.

    Args:
        chunk: users worked on at once; it changes the row groups of the files, not their rows.
        progress: called with the share that is done.

    Raises:
        UserError: no users, no days, or a folder that holds other events.
    """
    if users < 1:
        raise UserError(f"--users {users}: a simulated shop has at least 1 user")
    if not 1 <= days <= MOST_DAYS:
        raise UserError(f"--days {days}: the log of a simulated shop spans 1 to {MOST_DAYS:,} days")
    if any(out.glob("events.*")) and not (out / "truth" / "users.parquet").exists():
        raise UserError(f"{out} holds events that were not simulated; name another folder with --out")
    catalogue = make_catalogue(p, seed, days)
    start = start_of(p.shop.start)
    size = chunk or max(1, CELLS // days)
    done = Simulated(users, catalogue.group.size)
    (out / "truth").mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        files = _Files(out, stack)
        files.write("items", catalogue.items(start))
        files.write("truth/items", catalogue.truth())
        for first in range(0, users, size):
            people = make_people(p, catalogue, seed, days, np.arange(first, min(first + size, users)))
            events = make_events(p, catalogue, people, days)
            truth = truth_table(p, catalogue, people, start, days)
            files.write("events", events)
            files.write("users", users_table(people, start))
            files.write("truth/users", truth)
            files.write("truth/states", states_table(people, start, days))
            if p.needs.share:
                files.write("truth/needs", needs_table(p, people, start, days))
            _count(done.kinds, events["kind"])
            _count(done.causes, truth["cause"])
            if progress:
                progress(min(first + size, users) / users)
    files.show()
    return done


class _Files:
    """Parquet files that appear under their names when all of them are whole."""

    def __init__(self, out: Path, stack: ExitStack) -> None:
        self.out, self.stack = out, stack
        self.writers: dict[str, pq.ParquetWriter] = {}

    def write(self, name: str, table: pa.Table) -> None:
        if name not in self.writers:
            writer = pq.ParquetWriter(self._beside(name), table.schema, compression="zstd", compression_level=1)
            self.writers[name] = self.stack.enter_context(writer)
        self.writers[name].write_table(table, row_group_size=2**30)

    def show(self) -> None:
        for name in self.writers:
            self._beside(name).rename(self.out / f"{name}.parquet")

    def _beside(self, name: str) -> Path:
        path = self.out / f"{name}.parquet"
        return path.with_name(f".{path.name}.unfinished")


def _count(counter: Counter[str], texts: pa.ChunkedArray) -> None:
    for row in texts.value_counts().to_pylist():
        counter[row["values"]] += row["counts"]
