"""A small seeded shop, the models trained on it, and a server of both on the loopback."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd

from features.audience.learn import Learned
from features.events.store import Store
from models import audience, churn, operations
from models.bundle import deploy, write_bundle
from models.churn import ChurnModel
from models.deployed import CROSS_SELL
from models.operations import Operations
from models.recommender import Recommender
from serving.run import command
from serving.settings import Settings
from tests.features.support import at, ingest_frame
from training.churn import train_churn
from training.cross_sell import recipe_of, train_cross_sell
from training.recipes import load_recipe

START, AS_OF = at("2023-06-01"), at("2024-06-01")
HOUR = 3_600_000_000
ITEMS = 60


def shop_log(seed: int = 5, users: int = 300, visits: int = 4_000) -> pd.DataFrame:
    """Visits of a year, some of them ended by a purchase; users fall silent one after the other."""
    rng = np.random.default_rng(seed)
    leaves = START + rng.integers(90 * 24, 500 * 24, users) * HOUR
    begins = START + np.where(np.arange(users) % 4 == 0, rng.integers(250, 330, users), 0) * 24 * HOUR
    user = rng.integers(users, size=visits)
    ts = START + rng.integers(365 * 24 * 60, size=visits) * (HOUR // 60)
    there = (ts < leaves[user]) & (ts >= begins[user])
    user, ts = user[there], ts[there]
    item = (user * 7 + rng.integers(12, size=len(user))) % ITEMS
    bought = rng.random(len(user)) < 0.5
    view = pd.DataFrame({"user_id": [f"u{code}" for code in user], "ts": ts.view("datetime64[us]"), "kind": "view"})
    view["item_id"] = [f"i{code}" for code in item]
    view["dwell_s"] = np.round(rng.gamma(2.0, 30.0, len(user)), 3)
    buy = view[bought].assign(kind="purchase", ts=view["ts"][bought] + pd.Timedelta("5min"), dwell_s=np.nan)
    buy["price"] = np.round(5 + item[bought] * 0.37, 2)
    buy["order_id"] = [f"o{number}" for number in range(len(buy))]
    beside = np.flatnonzero(rng.random(len(buy)) < 0.6)  # what goes with it, in the same order
    other = (item[bought][beside] + 1) % ITEMS
    also = buy.iloc[beside].assign(item_id=[f"i{c}" for c in other], price=np.round(5 + other * 0.37, 2))
    messages = view.iloc[::15].assign(kind="message_sent", item_id=None, dwell_s=np.nan)
    stranger = pd.DataFrame({"user_id": ["only a message"], "ts": messages["ts"].iloc[:1], "kind": ["message_sent"]})
    return pd.concat([view, buy, also, messages, stranger], ignore_index=True)


def trained_churn(store: Store, seed: int = 1) -> ChurnModel:
    """A churn model at AS_OF; small, as its skill does not matter here."""
    recipe = {**load_recipe("churn"), "seed": seed, "rounds": 30, "test_moments": 1, "stride_days": 30}
    return train_churn(store, as_of=AS_OF, horizon=30, recipe=recipe).model


def items() -> pd.DataFrame:
    """The items table: six categories of ten, five brands, and every ninth item out of stock."""
    code = np.arange(ITEMS)
    category = [f"{'home' if group < 3 else 'food'} > kind {group}" for group in (code // 10).tolist()]
    table = pd.DataFrame({"item_id": [f"i{c}" for c in code], "category": category})
    return table.assign(brand=[f"brand {c % 5}" for c in code], price=5 + code * 0.37, in_stock=code % 9 != 0)


def ingested_shop(log: pd.DataFrame, path: Path) -> Store:
    """The log and the items table as a store."""
    store = ingest_frame(log, path, items=items()).store
    assert store is not None
    return store


def trained_recommender(store: Store) -> Recommender:
    """A recommender at AS_OF; small, as its skill does not matter here."""
    settings = {"als_factors": 8, "als_iterations": 3, "neighbours": 20}
    ranker = {"moments": 2, "rounds": 10, "search_moments": 1, "search_users": 60}
    return train_cross_sell(store, as_of=AS_OF, recipe={**recipe_of(), "settings": settings, "ranker": ranker}).model


def assumed_consent() -> Operations:
    """The shipped tables, for a shop that keeps its record of consent elsewhere."""
    texts = operations.shipped_texts()
    given = texts[operations.PLAYBOOK]
    assert 'consent = "required"' in given
    return Operations.of_texts(
        {**texts, operations.PLAYBOOK: given.replace('consent = "required"', 'consent = "assumed"')}
    )


def make_bundle(
    root: Path,
    model: ChurnModel | None,
    recommender: Recommender | None,
    version: int = 1,
    learned: Learned | None = None,
    tables: Operations | None = None,
) -> Path:
    """A bundle under a deployment folder, not yet in force."""
    parts: dict[str, Any] = {}
    if model is not None:
        parts[churn.PART] = ({"model": f"ebbtide-churn/{version}", **model.description()}, model.save)
    if learned is not None:
        parts[audience.PART] = ({"model": f"ebbtide-churn/{version}"}, partial(audience.save, learned))
    if tables is not None:
        parts[operations.PART] = ({}, tables.write)
    if recommender is not None:
        parts[CROSS_SELL] = ({"model": f"ebbtide-cross-sell/{version}"}, recommender.save)
    return write_bundle(root, parts)


def deploy_bundle(
    root: Path,
    model: ChurnModel | None,
    recommender: Recommender | None,
    version: int = 1,
    learned: Learned | None = None,
    tables: Operations | None = None,
) -> Path:
    """A bundle, in force."""
    path = make_bundle(root, model, recommender, version, learned, tables)
    deploy(path, root)
    return path


class Server:
    """A server that runs: a client to ask it with, and its log."""

    def __init__(self, client: httpx.Client, log: Path) -> None:
        self.client, self._log = client, log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def ask(self, path: str, **body: Any) -> dict[str, Any]:
        """An answer that must be one."""
        response = self.client.post(f"/v1/{path}", json=body)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def digest(self) -> str:
        """The bundle that answers now."""
        return str(self.ask("churn", users=[{"user_id": "u1"}])["bundle"])

    def wait_for(self, said: str, start: int, seconds: float = 15) -> None:
        """Wait until the log, from a place on, says something."""
        end = time.monotonic() + seconds
        while said not in self.log[start:]:
            assert time.monotonic() < end, f"{said!r} is not in the log:\n{self.log[start:]}"
            time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(settings: Settings, folder: Path, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """The server of a store and a deployment folder, as `ebbtide serve` starts it."""
    port, log = free_port(), folder / "server.log"
    arguments, more = command(settings, "127.0.0.1", port)
    with log.open("w") as out:
        process = subprocess.Popen(
            arguments, env={**os.environ, **more, **(env or {})}, stdout=out, stderr=out, start_new_session=True
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            _wait_until_ready(client, process, log)
            yield Server(client, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _wait_until_ready(client: httpx.Client, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + 90
    while True:
        said = log.read_text()
        if process.poll() is not None or "startup failed" in said or time.monotonic() > end:
            raise AssertionError(said[-3_000:])
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)


class Asking(threading.Thread):
    """Asks one question again and again beside the test, until `stop`; answers are (status, body)."""

    def __init__(self, base_url: httpx.URL, path: str, body: Mapping[str, Any]) -> None:
        super().__init__(daemon=True)
        self._base_url, self._path, self._body = base_url, path, json.dumps(body)
        self._stopping = threading.Event()
        self.answers: list[tuple[int, dict[str, Any]]] = []

    def run(self) -> None:
        with httpx.Client(base_url=self._base_url, timeout=60) as client:
            while not self._stopping.is_set():
                response = client.post(self._path, content=self._body, headers={"content-type": "application/json"})
                self.answers.append((response.status_code, response.json()))

    def stop(self) -> list[tuple[int, dict[str, Any]]]:
        self._stopping.set()
        self.join()
        return self.answers
