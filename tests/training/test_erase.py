"""Who is erased is gone from the tracked runs and the exposure log; all else there stays as it was."""

import itertools
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.events.intake import hash_text
from features.events.store import Store
from features.mentions import Name, files_of
from models.bundle import open_bundle
from models.exposure import Exposure, append, read_exposures
from tests.features.support import at
from training import offers, paired
from training.erase import (
    artifacts,
    count_shown,
    count_tracked,
    erase_shown,
    erase_tracked,
    search,
    shown_to,
    tracking,
)
from training.promotion import bundle_of, gate, newest
from training.tracking import CHURN, CROSS_SELL, connect


@pytest.fixture
def own_runs(tracked_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tracked runs with their artifacts, copied; in force by MLFLOW_TRACKING_URI."""
    own = tmp_path / "mlruns"
    shutil.copytree(tracked_runs.parent, own)
    places = {
        "experiments": ["artifact_location"],
        "runs": ["artifact_uri"],
        "logged_models": ["artifact_location"],
        "model_versions": ["source", "storage_location"],
    }
    with sqlite3.connect(own / "mlflow.db") as database:
        for table, columns in places.items():
            for column in columns:
                both = (str(tracked_runs.parent), str(own))
                database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", both)
        tracked = {run for (run,) in database.execute("SELECT run_uuid FROM runs")}
    for folder in own.glob("artifacts/*/*"):  # other tests leave those of runs that are not in it
        if folder.name not in (*tracked, "models"):
            shutil.rmtree(folder)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{own / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    return own


def on_page(runs: Path, shop: Store) -> str:
    """A user who is an example on the recommender's page."""
    (page,) = [p for p in runs.rglob("report.html") if CROSS_SELL in str(p)]
    text = page.read_text()
    users = [user for line in shop.timelines() for user in line.user_ids.to_pylist()]
    return next(user for user in users if f"({hash_text(user):x});" in text)


def test_rows_and_examples_go_and_nothing_else(own_runs: Path, shop: Store, tell: Callable[..., None]) -> None:
    client = tracking()
    assert client is not None
    user = on_page(own_runs, shop)
    name = Name(user)
    found = count_tracked(client, name)
    assert found["examples on tracked pages"] == 1
    assert found["rows of tracked tables"] > 3
    before = {path: path.read_bytes() for path in files_of(own_runs)}
    tables = {path: pq.read_table(path) for path in before if path.name in (offers.FILE, paired.FILE)}
    named = search([], client, name).certain
    assert {path.name for path in named} == {offers.FILE, paired.FILE, "report.html"}
    erase_tracked(client, name)
    assert not any(count_tracked(client, name).values())
    assert search([], client, name).certain == ()
    after = {path: path.read_bytes() for path in files_of(own_runs)}
    assert {path for path in before if after.get(path) != before[path]} == set(named)
    assert after.keys() == before.keys()
    for path, table in tables.items():
        assert pq.read_table(path).equals(table.filter(table["user"].to_numpy() != np.uint64(name.hash)))
    (page,) = [path for path in named if path.suffix == ".html"]
    old, new = before[page].decode(), after[page].decode()
    assert new.count("<h3>") == old.count("<h3>")
    assert new.count("<section") == new.count("</section>") == old.count("</section>")
    assert new.count('class="beside"') == old.count('class="beside"') - 1
    tell(files_changed=len(named), files=len(after))


def test_the_gate_and_the_bundles_work_on(own_runs: Path, shop: Store) -> None:
    client = tracking()
    assert client is not None
    erase_tracked(client, Name(on_page(own_runs, shop)))
    for model in (CHURN, CROSS_SELL):
        version = newest(client, model)
        open_bundle(bundle_of(version))
        assert gate(client, version).passed


def test_a_deleted_run_is_erased_too(own_runs: Path, shop: Store) -> None:
    client = connect()
    name = Name(on_page(own_runs, shop))
    for version in (newest(client, model) for model in (CHURN, CROSS_SELL)):
        client.delete_run(str(version.run_id))
    client.delete_experiment(client.get_experiment_by_name(CHURN).experiment_id)  # type: ignore[union-attr]
    assert count_tracked(client, name)["rows of tracked tables"] > 3
    erase_tracked(client, name)
    assert not any(count_tracked(client, name).values())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A tracking server that keeps the artifacts to itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    keeps = f"--backend-store-uri sqlite:///{tmp_path / 'far.db'} --artifacts-destination {tmp_path / 'far'}"
    command = [sys.executable, "-m", "mlflow", "server", *keeps.split(), "--port", str(port), "--workers", "1"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            with suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=1):
                break
            assert process.poll() is None
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.slow
def test_artifacts_on_another_machine(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are fetched, rewritten and sent back."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    client, name = connect(), Name("anna42")
    experiment = client.create_experiment(CHURN)
    table = pa.table({"moment": [1, 1, 2], "user": np.array([name.hash, 7, name.hash], np.uint64)})
    heading = "<h3>{}. Cold, 2 orders ({:x}); new: 1 of 3 items found</h3><p>{}</p>"
    page = "".join(heading.format(i, user, f"of {user}") for i, user in enumerate((7, name.hash, 8), start=1))
    pq.write_table(table, tmp_path / paired.FILE)
    (tmp_path / "report.html").write_text(f"<section>{page}</section>")
    (tmp_path / "other.txt").write_text("other")
    runs = [client.create_run(experiment).info.run_id for _ in range(2)]
    for run, file in itertools.product(runs, (paired.FILE, "report.html", "other.txt")):
        client.log_artifact(run, str(tmp_path / file))
    assert count_tracked(client, name) == {"rows of tracked tables": 4, "examples on tracked pages": 2}
    assert len(search([], client, name).certain) == 4
    erase_tracked(client, name)
    assert not any(count_tracked(client, name).values())
    assert search([], client, name).certain == ()
    for run in runs:
        left = Path(client.download_artifacts(run, paired.FILE))
        assert pq.ParquetFile(left).read().to_pydict() == {"moment": [1], "user": [7]}
        text = Path(client.download_artifacts(run, "report.html")).read_text()
        assert (text.count("<h3>"), "of 7" in text, "of 8" in text) == (3, True, True)


def test_other_peoples_experiments_are_left_alone(own_runs: Path, shop: Store) -> None:
    client = connect()
    client.create_experiment("hers", artifact_location=(own_runs / "hers").as_uri())
    (own_runs / "hers").mkdir()
    (own_runs / "hers" / "page.html").write_text("<h3>1. (1f)</h3>")
    assert not any(str(own_runs / "hers") in str(artifact.path) for artifact in artifacts(client))


def test_without_a_tracking_store_none_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert tracking() is None
    assert list(tmp_path.iterdir()) == []
    mlflow.set_tracking_uri("")


SHOWN = Exposure(
    time=at("2024-05-01"),
    request_id="r",
    user_id="anna42",
    as_of=at("2024-05-01"),
    model="m",
    bundle="b",
    mode="all",
    scene="",
    k=1,
    exploration=0.0,
    pool=1,
    explored=False,
    item_id=["i"],
    rank=[0],
    head=["popular"],
    score=[1.0],
    propensity=[1.0],
    slot_propensity=[1.0],
)


def test_answers_to_the_user_and_to_their_devices(tmp_path: Path) -> None:
    folder = tmp_path / "exposures"
    folder.mkdir()
    devices = frozenset([hash_text("d")])
    assert shown_to(folder, "anna42", devices) == ["anna42"]
    assert count_shown(folder, ["anna42"]) == 0
    append(folder, [replace(SHOWN, user_id=user) for user in ("anna42", "bob", "device:d", "device:e", "anna42")])
    names = shown_to(folder, "anna42", devices)
    assert names == ["anna42", "device:d"]
    assert count_shown(folder, names) == 3
    erase_shown(folder, names)
    assert count_shown(folder, names) == 0
    assert read_exposures(folder)["user_id"].to_pylist() == ["bob", "device:e"]
    assert search([folder], None, Name("anna42")).certain == ()
