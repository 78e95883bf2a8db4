"""One machine: buckets of users on threads. The compiled passes release the interpreter lock, so threads suffice, and
each bucket reads the mapped store in place."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
import pyarrow as pa

from features.events import columns as c
from features.events.store import CHUNK_ROWS, Store
from features.matrix import Matrix, evaluate, moments_of
from features.outcomes import days_to_purchase
from features.signals import Signal, all_signals
from features.timeline import Array, Timeline

T = TypeVar("T")
R = TypeVar("R")

THREADS = 2
USERS_AT_ONCE = 10_000  # where users are named one by one


@dataclass
class _Rows:
    """The rows of one moment, filled bucket by bucket; memory for the most there can be, touched only as filled."""

    values: Array
    outcomes: Array
    users: list[pa.Array]
    size: int = 0

    def add(self, users: pa.Array, values: Array, outcomes: Array | None) -> None:
        stop = self.size + len(users)
        self.values[:, self.size : stop] = values
        if outcomes is not None:
            self.outcomes[self.size : stop] = outcomes
        self.users.append(users)
        self.size = stop


def matrices(
    store: Store,
    as_of: Sequence[int],
    signals: tuple[Signal, ...] | None = None,
    *,
    lookback: int | None = None,
    horizon: int | None = None,
    known_before: int = c.NEVER,
    users: Sequence[str] | None = None,
    threads: int = THREADS,
    chunk_rows: int = CHUNK_ROWS,
    progress: Callable[[float], None] | None = None,
) -> list[Matrix]:
    """One matrix a moment, in the order asked, over all users with an event before it.

    Args:
        as_of: moments, µs.
        lookback: keep only users with a purchase in that many days before the moment.
        horizon: also outcomes, as known before `known_before` (µs); so many days without a purchase count as churn.
        users: only these, in the order given.
        progress: called with the share done.
    """
    signals = all_signals() if signals is None else signals
    moments = list(as_of)
    most = len(users) if users is not None else store.user_hashes.size
    filled = [_Rows(np.empty((len(signals), most), np.float32), np.empty(most), []) for _ in moments]

    def work(load: Callable[[], Timeline]) -> list[tuple[pa.Array, Array, Array | None]]:
        timeline = load()
        outcomes = days_to_purchase(timeline, moments, known_before) if horizon else None
        out = []
        for index, moment in enumerate(moments_of(timeline, moments, signals)):
            chosen = moment.present
            if lookback is not None:
                chosen = chosen & (moment.count("purchase", lookback) > 0)
            after = outcomes[index][chosen] if outcomes is not None else None
            rows = timeline.user_ids.filter(pa.array(chosen)).cast(pa.string())
            out.append((rows, evaluate(moment, signals, chosen), after))
        return out

    loads = list(_loads(store, users, chunk_rows))
    with ThreadPoolExecutor(threads) as pool:
        for done, parts in enumerate(_in_order(pool, work, loads, threads + 1)):
            for rows, part in zip(filled, parts, strict=True):
                rows.add(*part)
            if progress:
                progress((done + 1) / len(loads))
    return [
        Matrix(
            pa.chunked_array(rows.users, pa.string()).combine_chunks(),
            moment,
            signals,
            rows.values[:, : rows.size].T,
            rows.outcomes[: rows.size] if horizon else None,
            horizon,
        )
        for moment, rows in zip(moments, filled, strict=True)
    ]


def _loads(store: Store, users: Sequence[str] | None, chunk_rows: int) -> Iterator[Callable[[], Timeline]]:
    if users is None:
        for chunk in store.chunks(chunk_rows):
            yield partial(store.timeline, chunk)
    else:
        for start in range(0, len(users), USERS_AT_ONCE):
            yield partial(store.timeline_of, users[start : start + USERS_AT_ONCE])


def _in_order(pool: ThreadPoolExecutor, work: Callable[[T], R], tasks: Sequence[T], ahead: int) -> Iterator[R]:
    """Results in the order of the tasks, with at most `ahead` of them in memory."""
    waiting = iter(tasks)
    running = [pool.submit(work, task) for task in islice(waiting, ahead)]
    while running:
        yield running.pop(0).result()
        running += [pool.submit(work, task) for task in islice(waiting, 1)]
