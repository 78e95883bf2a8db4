"""Law 7 from outside: `kill -9` of the command line leaves the registry's champion and the deployed bundle whole."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from mlflow import MlflowClient

from features.events.store import Store
from models.bundle import open_bundle
from models.deployed import load_current
from tests.cli.conftest import Ebbtide
from tests.features.support import ROOT, folder_bytes
from tests.shop import HORIZON, LOOKBACK
from training import tracking
from training.promotion import bundle_of, champion, gate

SIGKILL = -int(signal.SIGKILL)
FIRST_TIME_S = 8.0  # an MLflow store is made, a run is tracked: about what it takes


def start(*arguments: object, env: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    """A command in a process of its own, its output to be read."""
    command = [sys.executable, "-u", "-m", "cli", *map(str, arguments)]
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    own = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    return subprocess.Popen(command, stdout=pipe, stderr=nothing, text=True, env=own, cwd=os.getcwd())


def kill_after(process: "subprocess.Popen[str]", said: str, seconds: float) -> bool:
    """Kill it so long after it said something; was it still at work?"""
    assert process.stdout is not None
    for line in process.stdout:
        if said in line:
            time.sleep(seconds)
            break
    process.kill()
    process.stdout.read()
    return process.wait(60) == SIGKILL


def train(shop: Store, recipes: Path) -> list[object]:
    common = ["--store", shop.path, "--as-of", "2024-06-01", "--horizon", HORIZON, "--lookback", LOOKBACK]
    return ["train", "churn", *common, "--recipe", recipes / "churn.toml"]


def check_registry(client: MlflowClient) -> int:
    """Every version that is registered is whole: its bundle opens and the gate can judge it. How many there are."""
    versions = client.search_model_versions(f"name='{tracking.CHURN}'")
    for version in versions:
        open_bundle(bundle_of(version))
        assert gate(client, version).reason
    return len(versions)


def killed_trainings(ebbtide: Ebbtide, shop: Store, recipes: Path, delays: list[tuple[str, float]]) -> Counter[str]:
    """A champion is there before; after each kill it is still, and the next training is registered and promoted."""
    assert ebbtide("promote", "churn").code == 0
    client = tracking.connect()
    stored = folder_bytes(shop.path)
    seen: Counter[str] = Counter()
    count = check_registry(client)
    for said, seconds in delays:
        seen["kills_made"] += kill_after(start(*train(shop, recipes)), said, seconds)
        present = champion(client, tracking.CHURN)
        assert present is not None
        assert str(present.version) == "1"
        now = check_registry(client)
        assert now in (count, count + 1)
        seen["new" if now > count else "old"] += 1
        count = now
    assert ebbtide(*train(shop, recipes)).code == 0
    assert ebbtide("promote", "churn").code == 0
    assert check_registry(client) == count + 1
    assert ebbtide("deploy", "--deployed", "deployed").code == 0
    assert load_current(Path("deployed")).name("churn") == f"ebbtide-churn/{count + 1}"
    assert folder_bytes(shop.path) == stored
    return seen


def test_killed_while_tracking_a_run(
    ebbtide: Ebbtide, shop: Store, registry: Path, recipes: Path, tell: Callable[..., None]
) -> None:
    tell(**killed_trainings(ebbtide, shop, recipes, [("tracking in MLflow", random.Random(1).uniform(0.5, 3))]))


@pytest.mark.slow
def test_killed_many_times_while_training(
    ebbtide: Ebbtide, shop: Store, registry: Path, recipes: Path, tell: Callable[..., None]
) -> None:
    rng = random.Random(2)
    delays = [("signals", rng.uniform(0, 2)) for _ in range(3)]
    delays += [("tracking in MLflow", rng.uniform(0, 7)) for _ in range(12)]
    seen = killed_trainings(ebbtide, shop, recipes, delays)
    assert seen["kills_made"] > 8
    tell(**seen)


def killed_first_trainings(
    ebbtide: Ebbtide, shop: Store, recipes: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, delays: list[float]
) -> int:
    """No tracking store is there before; half of one would be refused by MLflow for ever."""
    kills = 0
    for number, seconds in enumerate(delays):
        own = folder / f"first {number}"
        own.mkdir()
        monkeypatch.chdir(own)
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        kills += kill_after(start(*train(shop, recipes)), "tracking in MLflow", seconds)
        assert ebbtide(*train(shop, recipes)).code == 0
        assert ebbtide("promote", "churn").code == 0
        check_registry(tracking.connect())
        shutil.rmtree(own / "mlruns")
    return kills


@pytest.mark.slow
def test_killed_while_the_tracking_store_is_made(
    ebbtide: Ebbtide,
    shop: Store,
    recipes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tell: Callable[..., None],
) -> None:
    rng = random.Random(3)
    delays = [rng.uniform(0.5, FIRST_TIME_S) for _ in range(8)]
    kills = killed_first_trainings(ebbtide, shop, recipes, tmp_path, monkeypatch, delays)
    assert kills > 0
    tell(kills_made=kills)


def killed_deploys(ebbtide: Ebbtide, root: Path, seconds: list[float]) -> Counter[str]:
    """The deployed bundle is whole, old or new; then the other one is deployed."""
    for model in ("churn", "cross-sell"):
        assert ebbtide("promote", model).code == 0
        assert ebbtide("deploy", "--deployed", root).code == 0
    bundles = sorted((load_current(root).bundle.path, *(p for p in root.iterdir() if len(p.name) == 64)))
    new = load_current(root).bundle.path.name
    (old,) = {bundle.name for bundle in bundles} - {new}
    seen: Counter[str] = Counter()
    for delay in seconds:
        (root / "current").write_text(old)
        shutil.rmtree(root / new)
        process = start("deploy", "--deployed", root)
        time.sleep(delay)
        process.kill()
        seen["kills_made"] += process.wait(60) == SIGKILL
        found = load_current(root).bundle.path.name
        assert found in (old, new)
        seen["new" if found == new else "old"] += 1
        assert ebbtide("deploy", "--deployed", root).code == 0
        assert load_current(root).bundle.path.name == new
    return seen


def test_killed_while_deploying(ebbtide: Ebbtide, registry: Path, tmp_path: Path, tell: Callable[..., None]) -> None:
    tell(**killed_deploys(ebbtide, tmp_path / "deployed", [random.Random(4).uniform(1.5, 3)]))


@pytest.mark.slow
def test_killed_many_times_while_deploying(
    ebbtide: Ebbtide, registry: Path, tmp_path: Path, tell: Callable[..., None]
) -> None:
    root, begin = tmp_path / "deployed", time.monotonic()
    assert ebbtide("promote", "churn").code == 0
    start("deploy", "--deployed", tmp_path / "timed").wait(120)
    seconds = time.monotonic() - begin
    rng = random.Random(5)
    tell(**killed_deploys(ebbtide, root, [rng.uniform(seconds / 2, 1.1 * seconds) for _ in range(15)]))
