"""Law 7 for the store: killed at any point it is whole, old or new, and the next ingest works and leaves no litter."""

import json
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from features.errors import UserError
from features.events.ingest import ingest
from features.events.sources import Source
from features.events.store import Store
from tests.features.support import NOW, RANDOM_MOMENTS, rows_by_user, write_log
from tests.killed import Killed, Step
from tests.randomlog import random_items, random_log

#: the options of each kind of change, and whether a store is there before it
CHANGES: dict[str, tuple[dict[str, Any], bool]] = {
    "append": ({}, True),
    "replace": ({"replace": True}, True),
    "first": ({}, False),
}


def answer(path: Path) -> Any:
    """What a store says; None where there is none."""
    try:
        store = Store.open(path)
    except UserError:
        return None
    items = store.table("items")
    return rows_by_user(store, RANDOM_MOMENTS[1:], horizon=30), items.num_rows if items else 0, store.digest()


def litter(path: Path) -> set[str]:
    """Files and folders of a store that its manifest does not name; rejected rows and the lock may stay."""
    manifest = json.loads((path / "manifest.json").read_text())
    named = {f"segments/{meta['id']}" for meta in manifest["segments"]}
    named |= {*manifest["words"].values(), *manifest["tables"].values(), manifest["item_category"]}
    named |= {"manifest.json", "lock", "segments", "words", "tables", "rejected"}
    entries = {*path.iterdir(), *(e for name in ("segments", "words", "tables") for e in (path / name).iterdir())}
    return {str(entry.relative_to(path)) for entry in entries} - named


@dataclass
class Scene:
    """A store, a change to it, and what it says before and after."""

    folder: Path
    change: Source
    options: dict[str, Any]
    before: Path | None
    old: Any
    new: Any
    steps: list[Step]
    seconds: float
    seen: dict[str, int] = field(default_factory=lambda: {"old": 0, "new": 0})

    def start(self, path: Path, kill_at: int | None = None) -> Killed:
        if self.before is not None:
            shutil.copytree(self.before, path)
        return Killed(partial(ingest, self.change, path, threads=1, **self.options), path, kill_at)

    def check(self, path: Path) -> None:
        """Whole, old or new; then the change is made and nothing is left lying about."""
        found = answer(path)
        assert found in (self.old, self.new)
        self.seen["new" if found == self.new else "old"] += 1
        ingest(self.change, path, **self.options)
        assert answer(path) == self.new
        assert litter(path) == set()
        shutil.rmtree(path)


@pytest.fixture(params=CHANGES)
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    """A change with new rows, rows known already, a row that replaces an older one, bad rows, new words and items."""
    options, has_old = CHANGES[request.param]
    options = {"now": NOW, **options}
    log = random_log(31, 30, 1_000)
    half = len(log) // 2
    earlier = log[:half].tail(20).assign(arrived_at=pd.Timestamp("2023-01-01"), ts=pd.Timestamp("2022-12-31"))
    bad = log.tail(5).assign(event_id=[f"bad {i}" for i in range(5)], price=-1.0)
    change = pd.concat([log[half - 100 :].drop(columns="page"), earlier, bad])
    source = Source(write_log(change, tmp_path / "change.parquet"), tmp_path / "items.csv")
    random_items(31).to_csv(tmp_path / "items.csv", index=False)
    before = tmp_path / "before" if has_old else None
    if before is not None:
        ingest(Source(write_log(log[:half], tmp_path / "old.parquet")), before, now=NOW)
    old = answer(before) if before else None
    made = Scene(tmp_path, source, options, before, old, None, [], 0.0)
    whole = made.start(tmp_path / "whole")
    whole.wait_until_it_writes()
    begin = time.monotonic()
    made.steps = list(whole.steps())
    made.seconds = time.monotonic() - begin
    assert not whole.join()
    made.new = answer(tmp_path / "whole")
    assert made.new not in (made.old, None)
    return made


def _swap(steps: list[Step]) -> int:
    """The step that puts the new manifest in force."""
    return next(i for i, (what, path) in enumerate(steps) if what == "os.rename" and path == "/manifest.json")


def _kill_at(scene: Scene, points: list[int]) -> int:
    for point in points:
        path = scene.folder / f"at {point}"
        assert scene.start(path, point).join()
        scene.check(path)
    return len(points)


def _kill_at_random_times(scene: Scene, count: int, seed: int) -> int:
    rng = random.Random(seed)
    kills = 0
    while kills < count:
        path = scene.folder / f"after {kills}"
        process = scene.start(path)
        process.wait_until_it_writes()
        time.sleep(rng.uniform(0, scene.seconds))
        process.kill()
        kills += process.join()
        if answer(path) is None and scene.before is None and not path.exists():
            continue
        scene.check(path)
    return kills


def test_killed_at_the_swap_and_elsewhere(scene: Scene, tell: Callable[..., None]) -> None:
    swap = _swap(scene.steps)
    kills = _kill_at(scene, [swap // 2, swap, swap + 1])
    assert scene.seen["old"] > 0
    assert scene.seen["new"] > 0
    kills += _kill_at_random_times(scene, 1, 1)
    tell(kills_made=kills, steps=len(scene.steps), **scene.seen)


@pytest.mark.slow
def test_killed_at_every_step_of_the_commit_and_many_times(scene: Scene, tell: Callable[..., None]) -> None:
    commit = next(i for i, (what, path) in enumerate(scene.steps) if what == "os.rename" and "/segments/" in path)
    kills = _kill_at(scene, [*range(0, commit, commit // 10), *range(commit, len(scene.steps))])
    kills += _kill_at_random_times(scene, 20, 2)
    tell(kills_made=kills, steps=len(scene.steps), steps_of_the_commit=len(scene.steps) - commit, **scene.seen)
