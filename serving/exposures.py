"""The service's exposure log: answers wait in memory for a thread that writes them, no request waits for the disk."""

import logging
import queue
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from features.errors import UserError
from models.answers import RecommendAnswer
from models.exposure import Exploration, Exposure, append, limits_of
from models.recommender import Ask

POOL = 50  # best ranked items that chance draws from, unless more are asked for
MOST_WAITING = 20_000  # answers; what does not fit is dropped and counted
EVERY = 0.2  # seconds between writes, which is what a kill -9 loses at most

log = logging.getLogger("bentoml.ebbtide")


class ExposureLog:
    """Appends answers to a log (`models.exposure`) from any number of threads.

    Raises:
        UserError: the folder cannot be made or written to; at creation only.
    """

    def __init__(self, folder: Path, most_waiting: int = MOST_WAITING) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            append(folder, [])
        except OSError as error:
            raise UserError(
                f"cannot write an exposure log to {folder} ({error.strerror}): name a folder that can be written to"
            ) from error
        self._folder = folder
        self._waiting: queue.Queue[Exposure] = queue.Queue(most_waiting)
        self._counting = threading.Lock()
        self._dropped = self._told = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write_for_ever, name="ebbtide-exposures", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Answers that were given and are not in the log: there were too many at a time, or the disk refused them."""
        return self._dropped

    def add(self, exposure: Exposure) -> None:
        """Have an answer written; returns at once, whatever the disk does."""
        if self._closing.is_set():
            self._drop(1)
            return
        try:
            self._waiting.put_nowait(exposure)
        except queue.Full:
            self._drop(1)

    def close(self) -> None:
        """Write what is waiting; what is added afterwards is dropped."""
        self._closing.set()
        self._thread.join()

    def _drop(self, answers: int) -> None:
        with self._counting:
            self._dropped += answers

    def _write_for_ever(self) -> None:
        while not self._closing.wait(EVERY):
            self._write()
        self._write()

    def _write(self) -> None:
        """Write what is waiting now: failures cost these answers, not the service and not the log."""
        taken = [self._waiting.get_nowait() for _ in range(self._waiting.qsize())]  # nobody else takes any
        if taken:
            try:
                append(self._folder, taken)
            except Exception:
                log.exception("could not write %d exposures to %s", len(taken), self._folder)
                self._drop(len(taken))
        if self._dropped > self._told:
            self._told = self._dropped
            log.error("%d exposures dropped so far: too many at a time, or the disk refused them", self._told)


@dataclass(frozen=True)
class Given:
    """What the answers of a request have in common; `as_of` in µs."""

    model: str
    bundle: str
    as_of: int
    ask: Ask
    explore: Exploration


def exposures_of(answers: Iterable[RecommendAnswer], given: Given, time: int, request_id: str) -> Iterator[Exposure]:
    """The lines of the log for the answers of a request.

    Args:
        time: when they were given, µs.
    """
    for answer in answers:
        if answer.draw is None:
            raise ValueError("an answer is logged with how it was drawn")
        items, drawn = answer.items, answer.draw
        yield Exposure(
            time=time,
            request_id=request_id,
            user_id=answer.user_id,
            as_of=given.as_of,
            model=given.model,
            bundle=given.bundle,
            mode=given.ask.mode,
            scene=given.ask.scene or "",
            k=given.ask.k,
            exploration=given.explore.share,
            pool=drawn.pool,
            explored=drawn.explored,
            item_id=[item.item_id for item in items],
            rank=drawn.ranks,
            head=[item.head for item in items],
            score=[item.score for item in items],
            propensity=drawn.propensity,
            slot_propensity=drawn.slot_propensity,
            limits=limits_of(given.ask),
        )


@dataclass(frozen=True)
class Exposing:
    """A log, and how often the service explores."""

    log: ExposureLog
    explore: Exploration

    @classmethod
    def to(cls, folder: Path, share: float) -> "Exposing":
        """A log in a folder.

        Raises:
            UserError: the share is none, or the folder cannot be written to.
        """
        explore = Exploration(share, POOL)
        return cls(ExposureLog(folder), explore)

    def add(self, answers: Iterable[RecommendAnswer], given: Given) -> None:
        """Log the answers of a request that are given now."""
        for exposure in exposures_of(answers, given, time.time_ns() // 1_000, uuid.uuid4().hex):
            self.log.add(exposure)
