"""The bundle and the store in force: newer ones are picked up while requests run, bad ones are refused."""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from features.errors import UserError
from features.events.store import Store
from models.deployed import load_current
from serving.answers import Held, churn, decide, recommend
from serving.exposures import Exposing
from serving.schemas import ChurnRequest, RecommendRequest
from serving.settings import Settings
from serving.user_schemas import DecideRequest

EVERY = 1.0  # seconds between looks

log = logging.getLogger("bentoml.ebbtide")
T = TypeVar("T")


class Live:
    """Holds what is in force in `held`, which a request reads once.

    Raises:
        UserError: there is no store or no bundle, or it is bad; at creation only.

    Args:
        exposing: where recommendations are logged; None: nowhere.
    """

    def __init__(self, settings: Settings, exposing: Exposing | None = None) -> None:
        self._bundle = _Watched(settings.deployed / "current", lambda: load_current(settings.deployed))
        self._store = _Watched(settings.store / "manifest.json", lambda: Store.open(settings.store))
        self.held = Held(self._bundle.first(), self._store.first(), settings.as_of, exposing)
        try_out(self.held)

    def watch(self) -> None:
        """Look for newer ones from now on, beside the requests."""
        threading.Thread(target=self._look_for_ever, name="ebbtide-watch", daemon=True).start()

    def _look_for_ever(self) -> None:
        pause = threading.Event()
        while not pause.wait(EVERY):
            self.look()

    def look(self) -> None:
        """Take over a newer bundle or store if there is one and it answers."""
        self._take("deployed", self._bundle)
        self._take("store", self._store)

    def _take(self, name: str, watched: "_Watched[Any]") -> None:
        try:
            newer = watched.newer()
            if newer is None:
                return
            held = replace(self.held, **{name: newer})
            try_out(held)
        except UserError as error:
            log.error("refused what is new in %s, the old stays: %s", watched.file, error)
        except Exception:
            log.exception("refused what is new in %s, the old stays", watched.file)
        else:
            self.held = held
            log.info("took over what is new in %s; bundle %s", watched.file, held.deployed.bundle.digest)


class _Watched(Generic[T]):
    """Something that a small file, replaced in one step, points to."""

    def __init__(self, file: Path, load: Callable[[], T]) -> None:
        self.file, self._load = file, load
        self._mark: object = None

    def first(self) -> T:
        self._mark = self._look()
        return self._load()

    def newer(self) -> T | None:
        """What is there now, if it was not there at the last look: a bad one is tried once, not every second."""
        mark = self._look()
        if mark == self._mark:
            return None
        self._mark = mark
        return self._load()

    def _look(self) -> object:
        try:
            stat = self.file.stat()
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size


def try_out(held: Held) -> None:
    """Ask for every answer once, of a known and of an unknown user: what fails must not get in, and the first request
    shall not wait for compiled code and tables."""
    known = [segment.user_ids[0].as_py() for segment in held.store.segments[:1] if len(segment.user_ids)]
    event = {"ts": "1970-01-02", "kind": "view"}
    users = [{"user_id": known_id} for known_id in known] + [{"device_id": "ebbtide-try-out", "events": [event]}]
    if held.deployed.churn is not None:
        churn(ChurnRequest.model_validate({"users": users, "reasons": 1}), held)
    if held.deployed.recommender is not None:
        recommend(RecommendRequest.model_validate({"users": users}), held, shown=False)
    if held.deployed.learned is not None and held.deployed.operations is not None:
        decide(DecideRequest.model_validate({"users": users}), held)
