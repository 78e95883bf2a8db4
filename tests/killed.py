"""Work in a process of its own that is killed at a chosen step of its writing, or from outside."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

STEPS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}
Step = tuple[str, str]  # what is about to be done, and to which path

#: one process imports everything once and forks for each work
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["features.events.ingest", "models.bundle"])


class Killed:
    """A started work that writes to a folder. `kill_at`: the step before which it kills itself; without, it lives and
    tells its steps. The work is pickled: a function of a module, or a partial of one."""

    def __init__(self, work: Callable[[], object], folder: Path, kill_at: int | None = None) -> None:
        self._answer, theirs = _context.Pipe(duplex=False)
        self.process = _context.Process(target=_run, args=(work, folder, kill_at, theirs))
        self.process.start()
        theirs.close()

    def wait_until_it_writes(self) -> None:
        """Return when the work begins."""
        assert self._answer.poll(60)
        assert self._answer.recv() == "begins"

    def kill(self) -> None:
        """kill -9 from outside."""
        self.process.kill()

    def steps(self) -> Sequence[Step]:
        """The steps of a work that is not killed."""
        assert self._answer.poll(60)
        told: Sequence[Step] = self._answer.recv()
        return told

    def join(self) -> bool:
        """Was it killed? Any other end than that or success is an error."""
        self.process.join(60)
        assert self.process.exitcode in (0, -signal.SIGKILL)
        return self.process.exitcode != 0


def _run(work: Callable[[], object], folder: Path, kill_at: int | None, answer: Connection) -> None:
    steps: list[Step] = []

    def watch(event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(args[2], int) and bool(args[2] & os.O_ACCMODE)
        if not (writes or event in STEPS):
            return
        path = str(args[1] if event == "os.rename" else args[0])
        # A relative path is one of a folder that is being removed.
        if not path.startswith(str(folder)) and os.path.isabs(path):
            return
        if len(steps) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        steps.append((event, path.removeprefix(str(folder))))

    sys.addaudithook(watch)
    answer.send("begins")
    work()
    told = list(steps)
    answer.send(told)
