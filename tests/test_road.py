"""The whole road on published data, as a user walks it: the command line, then the service, which must say the same."""

import json
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

ROOT = Path(__file__).resolve().parent.parent
AS_OF = "2018-01-01"
USERS = 2_000
pytestmark = pytest.mark.slow


def ebbtide(command: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli", *shlex.split(command)], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which Complete Journey went from its log to a deployed bundle and scored users."""
    folder = tmp_path_factory.mktemp("road")
    (folder / "fast.toml").write_text("test_moments = 1\nrounds = 60\n")
    (folder / "few.toml").write_text(
        "[settings]\nneighbours = 50\nals_iterations = 5\n[ranker]\nmoments = 3\nrounds = 40\n"
    )
    for command in (
        f"ingest {ROOT / 'sources' / 'complete_journey'} --store store",
        f"train churn --store store --as-of {AS_OF} --horizon 14 --lookback 60 --recipe fast.toml",
        f"train cross-sell --store store --as-of {AS_OF} --recipe few.toml",
        f"score --store store --as-of {AS_OF} --out churn.parquet",
        f"recommend --store store --as-of {AS_OF} -k 20 --mode cross_sell --out items.parquet",
    ):
        ebbtide(command, folder)
    for model in ("churn", "cross-sell"):  # whether the quick recipes pass the gate is not the question here
        subprocess.run([sys.executable, "-m", "cli", "promote", model], cwd=folder, check=False)
    ebbtide("deploy --deployed deployed", folder)
    ebbtide(f"plan --store store --deployed deployed --as-of {AS_OF} --out contacts.parquet", folder)
    return folder


@pytest.fixture(scope="module")
def ask(road: Path) -> Iterator[Callable[[str, dict[str, Any]], Any]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"serve --store store --deployed deployed --as-of {AS_OF} --port {port}"
    server = subprocess.Popen([sys.executable, "-m", "cli", *shlex.split(options)], cwd=road, stdout=subprocess.DEVNULL)

    def post(path: str, body: dict[str, Any]) -> Any:
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.load(response)

    try:
        for _ in range(180):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2).close()
                break
            except OSError:
                time.sleep(0.5)
        yield post
    finally:
        server.terminate()
        server.wait(60)


def test_the_service_says_what_the_batch_says(
    road: Path, ask: Callable[[str, dict[str, Any]], Any], record_property: Callable[[str, object], None]
) -> None:
    scored = duckdb.execute(
        f"SELECT user_id, churn_probability, risk, status, reasons FROM '{road}/churn.parquet' "
        f"ORDER BY user_id LIMIT {USERS}"
    ).fetchall()
    listed: dict[str, list[tuple[Any, ...]]] = {}
    for user, *item in duckdb.execute(
        f"SELECT user_id, item_id, score, head, evidence FROM '{road}/items.parquet' ORDER BY user_id, rank"
    ).fetchall():
        listed.setdefault(user, []).append(tuple(item))
    differ = 0
    for size, some in ((1, scored[:100]), (500, scored)):
        for start in range(0, len(some), size):
            part = some[start : start + size]
            users = [{"user_id": user} for user, *_ in part]
            answers = ask("/v1/churn", {"users": users, "reasons": 3})["results"]
            for (user, probability, risk, status, reasons), answer in zip(part, answers, strict=True):
                texts = [reason["text"] for reason in answer["reasons"]]
                said = (answer["user_id"], answer["probability"], answer["risk"], answer["status"], texts)
                differ += said != (user, probability, risk, status, reasons)
            answers = ask("/v1/recommend", {"users": users, "k": 20, "mode": "cross_sell"})["results"]
            for (user, *_), answer in zip(part, answers, strict=True):
                items = [(i["item_id"], i["score"], i["head"], i["evidence"]) for i in answer["items"]]
                differ += items != listed.get(user, [])
    record_property("users compared", len(scored))
    print(f"\n{len(scored)} users compared over HTTP with score and recommend: {differ} differences")
    assert len(scored) == USERS
    assert differ == 0


def test_the_service_decides_what_is_planned(road: Path, ask: Callable[[str, dict[str, Any]], Any]) -> None:
    names = ("contact_id", "campaign_id", "channel", "offer", "cost", "expected_gain")
    found = duckdb.execute(
        f"SELECT user_id, {', '.join(names)}, reason, items FROM '{road}/contacts.parquet'"
    ).fetchall()
    planned = {user: rest for user, *rest in found}
    ids = duckdb.execute(f"SELECT user_id FROM '{road}/churn.parquet' ORDER BY user_id LIMIT {USERS}").fetchall()
    users, differ = [{"user_id": user} for (user,) in ids], 0
    for start in range(0, len(users), 500):
        for answer in ask("/v1/decide", {"users": users[start : start + 500]})["results"]:
            decision = answer["decision"]
            said = [*(decision[name] for name in names), answer["reason"], [i["item_id"] for i in answer["items"]]]
            expected = planned.get(answer["profile"]["user_id"])
            differ += (decision["action"] == "contact") != (expected is not None) or expected not in (None, said)
    print(f"\n{len(users)} users compared over HTTP with the plan of {len(planned)} contacts: {differ} differences")
    assert len(users) == USERS
    assert planned
    assert differ == 0
