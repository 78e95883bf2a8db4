"""`ebbtide demo`."""

import json
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cli.options import say
from features.errors import UserError

FOLDER = Path("var/demo")
AS_OF = "2018-01-01"  # the end of Complete Journey
SOURCE = Path("sources/complete_journey")
STEPS = (
    f"ingest {SOURCE} --store {FOLDER}/store --replace",
    f"signals --store {FOLDER}/store --as-of {AS_OF} --out {FOLDER}/signals.parquet",
    f"train churn --store {FOLDER}/store --as-of {AS_OF} --horizon 14 --lookback 60",
    f"train cross-sell --store {FOLDER}/store --as-of {AS_OF}",
    "promote churn",
    "promote cross-sell",
    f"deploy --deployed {FOLDER}/deployed",
    f"score --store {FOLDER}/store --as-of {AS_OF} --out {FOLDER}/churn.parquet",
    f"audience --store {FOLDER}/store --deployed {FOLDER}/deployed --as-of {AS_OF} --out {FOLDER}/audience.csv",
    f"plan --store {FOLDER}/store --deployed {FOLDER}/deployed --as-of {AS_OF} --out {FOLDER}/contacts.parquet",
    f"report --store {FOLDER}/store --deployed {FOLDER}/deployed --as-of {AS_OF} --out {FOLDER}/audience.html",
)
SERVER_START = 90.0  # seconds that BentoML may take


def demo() -> None:
    """The whole road on Complete Journey (grocery shopping, by its makers simulated from real patterns).

    Example: ebbtide demo
    """
    if not SOURCE.is_dir():
        raise UserError(f"run the demo in the project's folder: {SOURCE} is not here")
    started = time.time()
    for step in STEPS:
        say(f"\n[bold]$ ebbtide {step}[/]")
        done = subprocess.run([sys.executable, "-m", "cli", *shlex.split(step)])
        if done.returncode and not step.startswith(
            "promote"
        ):  # a refused promotion is an answer too: the old one stays
            raise UserError(f"the demo stopped at: ebbtide {step}")
    _serve_and_ask()
    say(f"\nThe whole road took {time.time() - started:.0f} s.")
    say(f"Next: `make serve` (the same service), `make ui` (the runs), and {FOLDER}/audience.html (the user base).")


def _serve_and_ask() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"serve --store {FOLDER}/store --deployed {FOLDER}/deployed --as-of {AS_OF} --port {port}"
    say(f"\n[bold]$ ebbtide {options}[/]")
    server = subprocess.Popen([sys.executable, "-m", "cli", *shlex.split(options)], stdout=subprocess.DEVNULL)
    try:
        _wait_for(f"http://127.0.0.1:{port}/readyz", server)
        user = {"user_id": _riskiest()}
        _ask(port, "/v1/churn", {"users": [user], "reasons": 3, "cause": True})
        _ask(port, "/v1/recommend", {"users": [user], "k": 3, "mode": "cross_sell"})
        user = {"user_id": _riskiest("ascending")}
        due = _ask(port, "/v1/recommend", {"users": [user], "k": 3, "mode": "repeat"})
        cart = [item["item_id"] for item in due["results"][0]["items"][:2]]
        bundle = {"users": [user], "k": 3, "mode": "bundle", "cart": cart, "context": {"discount": 0.1}}
        _ask(port, "/v1/recommend", bundle)
        _ask(port, "/v1/recommend", {"users": [{"user_id": "a stranger"}], "k": 3})
        _ask(port, "/v1/decide", {"users": [{"user_id": _recalled()}], "explain": True})
    finally:
        server.terminate()
        server.wait(30)


def _riskiest(order: str = "descending") -> str:
    """The user most likely to leave, or by the other order to stay."""
    scored = pq.read_table(FOLDER / "churn.parquet", columns=["user_id", "churn_probability"])
    return str(scored.sort_by([("churn_probability", order)])["user_id"][0])


def _recalled() -> str:
    """A user to whom a step of a recall is due, or else any contact is."""
    contacts = pq.read_table(FOLDER / "contacts.parquet", columns=["user_id", "ladder"]).to_pylist()
    ranked = sorted(contacts, key=lambda contact: not str(contact["ladder"]).startswith("recall"))
    return str(ranked[0]["user_id"]) if ranked else _riskiest()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    until = time.time() + SERVER_START
    while time.time() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise UserError("the service did not start; run the command above by itself to see why")


def _ask(port: int, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Ask, show question and answer, and give the answer."""
    text = json.dumps(body)
    say(f"\n[bold]$ curl -s http://127.0.0.1:{port}{path} -H 'content-type: application/json' -d '{text}'[/]")
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", text.encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
    print(json.dumps(answer, indent=2, ensure_ascii=False), flush=True)
    return answer
