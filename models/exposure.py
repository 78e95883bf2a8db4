"""What is shown, with which probability, and the log of it, from which `training.off_policy` tells what another
recommender would have earned.

The log is a folder of JSON lines, a file a UTC day and a line an answer, that is only ever appended to.
"""

import fcntl
import json
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from features.durable import sync
from features.errors import UserError
from models.recommender.ask import Ask, Filter, checked_mode

WORD = 2**64
WORDS_A_BLOCK = 8  # of 64 bits in a digest
ANSWERS_AT_ONCE = 10_000  # in memory as objects while a log is read

log = logging.getLogger(__name__)

# ---------------------------------------------------------------------------------------------- what is shown


@dataclass(frozen=True)
class Exploration:
    """How often the ranking gives way to chance, and to which items.

    Attributes:
        share: of answers whose slots are filled by chance, 0 to 1.
        pool: how many of the best ranked items chance draws from; where more slots are to be filled, so many.
        salt: parts the draws of one use (a shop, a mode) from another's.
    """

    share: float
    pool: int
    salt: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise UserError(f"the exploration share is {self.share}: give a number from 0 (never) to 1 (always)")
        if self.pool < 1:
            raise UserError(f"the exploration pool is {self.pool} items: give 1 or more")


@dataclass(frozen=True)
class Draw:
    """What fills the slots of an answer; places count from 0.

    Attributes:
        ranks: the place in the ranking of the item in each slot.
        explored: did chance fill them? The propensities are those of before this was decided.
        pool: so many of the best ranked could have been drawn.
        propensity: probability that the item in each slot is shown, in whichever slot.
        slot_propensity: probability that it is shown in this slot.
    """

    ranks: list[int]
    explored: bool
    pool: int
    propensity: list[float]
    slot_propensity: list[float]


def draw(candidates: int, k: int, exploration: Exploration, user_id: str, as_of: int) -> Draw:
    """Fill k slots (fewer if there are fewer candidates) from a ranking of so many candidates, best first.

    With probability 1 - share these are the k best in their order; else a uniform draw without replacement, in random
    order, from the pool. The same user, moment (µs), salt and numbers give the same answer on every machine: chance is
    blake2b of them. A ranking that changes shifts nobody in or out of exploring.
    """
    slots = min(k, candidates)
    pool = min(candidates, max(exploration.pool, slots))
    seed = blake2b(json.dumps([exploration.salt, user_id, int(as_of)]).encode()).digest()
    words = _words(seed, slots + 1)
    explored = words[0] < exploration.share * WORD
    ranks = _without_replacement(pool, words[1:]) if explored else list(range(slots))
    return Draw(ranks, explored, pool, *propensities(ranks, pool, exploration.share))


def propensities(ranks: Sequence[int], pool: int, share: float) -> tuple[list[float], list[float]]:
    """Probabilities that the item of each rank is shown, in whichever slot and in its own.

    Each of the pool is equally likely in each slot, so they are (1 - share)·[rank < slots] + share·slots / pool and
    (1 - share)·[rank = slot] + share / pool.

    Args:
        ranks: by slot.
    """
    slots = len(ranks)
    anywhere = [(1 - share) * (rank < slots) + share * slots / pool for rank in ranks]
    here = [(1 - share) * (rank == slot) + share / pool for slot, rank in enumerate(ranks)]
    return anywhere, here


def _words(seed: bytes, count: int) -> list[int]:
    """Numbers uniform in [0, 2^64), as many as asked for."""
    blocks = (blake2b(block.to_bytes(8, "big"), key=seed).digest() for block in range(-(-count // WORDS_A_BLOCK)))
    words: list[int] = np.frombuffer(b"".join(blocks), ">u8")[:count].tolist()
    return words


def _without_replacement(pool: int, words: Sequence[int]) -> list[int]:
    """As many of `range(pool)` as there are words, each order equally likely: the first steps of a Fisher-Yates shuffle
    (Durstenfeld 1964). A remainder of 64 bits is uniform to within pool / 2^64."""
    places = list(range(pool))
    for step, word in enumerate(words):
        other = step + word % (pool - step)
        places[step], places[other] = places[other], places[step]
    return places[: len(words)]


# ---------------------------------------------------------------------------------------------- the log's format


@dataclass(frozen=True)
class Exposure:
    """One user's answer as it was given; `item_id` to `slot_propensity` hold a value a slot, by slot.

    Attributes:
        time: when it was given, µs.
        as_of: the moment that it was about, µs.
        scene: where it is shown, as the request says; empty if it does not.
        k: how many items were asked for.
        exploration: the stated share; see `Exploration`.
        rank, explored, pool, propensity, slot_propensity: see `Draw`.
        limits: cart, excluded items and filter of the request; see `limits_of`.
    """

    time: int
    request_id: str
    user_id: str
    as_of: int
    model: str
    bundle: str
    mode: str
    scene: str
    k: int
    exploration: float
    pool: int
    explored: bool
    item_id: Sequence[str]
    rank: Sequence[int]
    head: Sequence[str]
    score: Sequence[float]
    propensity: Sequence[float]
    slot_propensity: Sequence[float]
    limits: str = ""


def limits_of(ask: Ask) -> str:
    """What a request says of the items that may be shown, as JSON; empty if it says nothing."""
    usual, given = asdict(Filter()), asdict(ask.filter)
    limits: dict[str, object] = {name: given[name] for name in given if given[name] != usual[name]}
    limits |= {name: items for name in ("cart", "exclude") if (items := getattr(ask, name))}
    return json.dumps(limits, sort_keys=True) if limits else ""


def ask_again(mode: str, k: int, scene: str, limits: str) -> Ask:
    """The question of a logged answer."""
    read: dict[str, Any] = json.loads(limits or "{}")
    given: dict[str, Any] = {name: tuple(said) if isinstance(said, list) else said for name, said in read.items()}
    cart, exclude = given.pop("cart", ()), given.pop("exclude", ())
    return Ask(checked_mode(mode), k, cart=cart, exclude=exclude, filter=Filter(**given), scene=scene or None)


_OF_ANSWER = pa.schema(
    [
        *(("time", pa.int64()), ("request_id", pa.string()), ("user_id", pa.string()), ("as_of", pa.int64())),
        *(("model", pa.string()), ("bundle", pa.string()), ("mode", pa.string()), ("scene", pa.string())),
        *(("limits", pa.string()), ("k", pa.int32()), ("exploration", pa.float64())),
        *(("pool", pa.int32()), ("explored", pa.bool_())),
    ]
)
_OF_SLOT = pa.schema(
    [
        *(("item_id", pa.string()), ("rank", pa.int32()), ("head", pa.string()), ("score", pa.float64())),
        *(("propensity", pa.float64()), ("slot_propensity", pa.float64())),
    ]
)
# Of `read_exposures`: `answer` numbers the lines, `slot` the items of each.
COLUMNS = pa.schema([("answer", pa.int64()), *_OF_ANSWER, ("slot", pa.int32()), *_OF_SLOT])


def encode(exposure: Exposure) -> bytes:
    """A line of the log."""
    return json.dumps(vars(exposure), separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Exposure | None:
    """The answer of a line; None if it is not whole."""
    try:
        exposure = Exposure(**json.loads(line))
        sizes = {len(getattr(exposure, name)) for name in _OF_SLOT.names}
    except (ValueError, TypeError):
        return None
    return exposure if len(sizes) == 1 else None


# ---------------------------------------------------------------------------------------------- the folder


def append(folder: Path, exposures: Iterable[Exposure]) -> None:
    """Write answers to the files of their days; the folder must exist.

    Raises:
        OSError: the disk is full or the like; some may have been written.
    """
    by_day: dict[str, list[bytes]] = defaultdict(list)
    for exposure in exposures:
        by_day[f"{datetime.fromtimestamp(exposure.time // 1_000_000, UTC):%Y-%m-%d}"].append(encode(exposure))
    with _locked(folder):
        for day, lines in by_day.items():
            with (folder / f"{day}.jsonl").open("a+b") as file:
                # Whoever was killed while writing left half a line: it must not spoil ours.
                file.write(b"".join([b"\n" if _is_torn(file.fileno()) else b"", *lines]))


def read_exposures(folder: Path) -> pa.Table:
    """A row an item shown (`COLUMNS`), by day, in the order written, then by slot; the service may go on writing.

    Half a line, which a killed service leaves, is skipped with a warning.

    Raises:
        UserError: there is no log.
    """
    files = _files(folder)
    if not files:
        raise UserError(f"no exposures in {folder}: start the service with an exposure log there and let it answer")
    tables, answers = [COLUMNS.empty_table()], 0
    exposures = chain.from_iterable(_readable(file) for file in files)
    while some := list(islice(exposures, ANSWERS_AT_ONCE)):
        tables.append(_long(some, answers))
        answers += len(some)
    return pa.concat_tables(tables)


def erase_user(folder: Path, user_id: str) -> int:
    """Rewrite the files without a user's answers, each in one durable step; says how many answers there were.

    Unreadable lines go too: they might be the user's. What a running service has yet to write is not erased.
    """
    erased = 0
    with _locked(folder):
        for left in folder.glob(".*.jsonl"):  # by an erasure that was killed
            left.unlink()
        for file in _files(folder):
            beside = file.with_name(f".{file.name}")
            kept, gone, unreadable = _copy_without(user_id, file, beside)
            if gone or unreadable:
                sync(beside)
                beside.rename(file)
                sync(folder)
            else:
                beside.unlink()
            if not kept:
                file.unlink()
            erased += gone
    return erased


def _copy_without(user_id: str, file: Path, copy: Path) -> tuple[int, int, int]:
    """How many lines were kept, were the user's, and were unreadable."""
    kept = gone = unreadable = 0
    with file.open("rb") as old, copy.open("wb") as new:
        for line in old:
            exposure = decode(line)
            unreadable += exposure is None
            if exposure is not None and exposure.user_id == user_id:
                gone += 1
            elif exposure is not None:
                new.write(line.rstrip(b"\n") + b"\n")
                kept += 1
    return kept, gone, unreadable


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.jsonl") if not file.name.startswith("."))


def _is_torn(file: int) -> bool:
    size = os.fstat(file).st_size
    return size > 0 and os.pread(file, 1, size - 1) != b"\n"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone in changing the folder, among processes and threads: whoever rewrites a file must not lose a line."""
    with (folder / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _readable(file: Path) -> Iterator[Exposure]:
    unreadable = 0
    with file.open("rb") as lines:
        for line in lines:
            exposure = decode(line)
            if exposure is not None:
                yield exposure
            elif line.strip():
                unreadable += 1
    if unreadable:
        log.warning("%s: skipped %d unreadable lines; a service killed while writing leaves one", file, unreadable)


def _long(exposures: Sequence[Exposure], answers: int) -> pa.Table:
    """A row an item shown; answers are numbered from `answers` on."""
    sizes = np.array([len(exposure.item_id) for exposure in exposures])
    starts = np.cumsum(sizes) - sizes
    owner = np.repeat(np.arange(len(exposures)), sizes)
    columns = {"answer": owner + answers, "slot": (np.arange(len(owner)) - starts[owner]).astype(np.int32)}
    for name in _OF_ANSWER.names:
        columns[name] = pa.array([getattr(e, name) for e in exposures], _OF_ANSWER.field(name).type).take(owner)
    for name in _OF_SLOT.names:
        values = chain.from_iterable(getattr(e, name) for e in exposures)
        columns[name] = pa.array(list(values), _OF_SLOT.field(name).type)
    return pa.table({name: columns[name] for name in COLUMNS.names}, COLUMNS)
