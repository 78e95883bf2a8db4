"""Serving side by side: ours, BentoML with nothing in it, and bare Starlette that scores the same booster.

    python -m benchmarks.serving                    # five runs of each, five seconds a run
    python -m benchmarks.serving --seconds 2 --runs 5

One user a request, one worker, access log off, eight connections; load from wrk (Debian), else from a plain loader in a
process of its own. All servers are up throughout and are loaded in turn, so that a busy moment of the machine falls on
all; what counts are the ratios, run by run. The shop is simulated (`benchmarks.generate`).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # run as a file
    sys.path.insert(0, str(ROOT))

from benchmarks import generate  # noqa: E402
from features.errors import UserError  # noqa: E402
from features.events.ingest import ingest  # noqa: E402
from features.events.sources import Source  # noqa: E402
from features.events.store import Store  # noqa: E402
from models import churn as churn_part  # noqa: E402
from models.bundle import deploy, write_bundle  # noqa: E402
from models.deployed import CROSS_SELL  # noqa: E402
from serving.live import Live  # noqa: E402
from serving.run import command  # noqa: E402
from serving.settings import Settings  # noqa: E402
from training.churn import train_churn  # noqa: E402
from training.cross_sell import train_cross_sell  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "serving.json"
MOMENT = int(generate.MOMENT.replace(tzinfo=UTC).timestamp()) * 1_000_000
USERS = 1_000  # that the requests are about, in turn
BARE, EMPTY = "bare Starlette, one row ready", "BentoML, empty"


@dataclass(frozen=True)
class Contender:
    """A server's command and what it is asked."""

    name: str
    server: str
    path: str = "/v1/churn"
    extra: str = ""  # of the request, after its users


CONTENDERS = (
    Contender(BARE, "bare"),
    Contender(EMPTY, "empty"),
    Contender("ours, churn", "ours"),
    Contender("ours, churn with 3 reasons", "ours", extra=', "reasons": 3'),
    Contender("ours, churn with an event sent", "ours", extra="event"),
    Contender("ours, recommend 20", "ours", "/v1/recommend"),
)


@dataclass(frozen=True)
class Run:
    """What one run of the load saw; milliseconds."""

    requests_per_second: float
    p50: float
    p99: float
    failed: int


# ------------------------------------------------------------------------------------------------- what is served


def shop(events: int, folder: Path) -> Settings:
    """A store and a bundle of a simulated shop, made if they are not there or no longer fit the code."""
    settings = Settings(folder / "store", folder / "deployed", MOMENT)
    try:
        Live(settings)
    except UserError:
        _make(events, folder, settings)
    return settings


def _make(events: int, folder: Path, settings: Settings) -> None:
    raw = folder / "events.parquet"
    generate.generate(raw, events)
    store = ingest(Source(raw), settings.store, now=time.time_ns() // 1_000, replace=True).store
    assert store is not None
    model = train_churn(store, as_of=MOMENT, horizon=14, lookback=90).model
    recommender = train_cross_sell(store, as_of=MOMENT).model
    settings.deployed.mkdir(exist_ok=True)
    parts: dict[str, Any] = {
        churn_part.PART: ({"model": "ebbtide-churn/1", **model.description()}, model.save),
        CROSS_SELL: ({"model": "ebbtide-cross-sell/1"}, recommender.save),
    }
    deploy(write_bundle(settings.deployed, parts), settings.deployed)


def bodies(contender: Contender, users: Sequence[str]) -> list[str]:
    """Requests of one user each."""
    event = ', "events": [{"ts": "2025-06-29T12:00:00Z", "kind": "view", "item_id": 7, "dwell_s": 12.5}]'
    sent, extra = (event, "") if contender.extra == "event" else ("", contender.extra)
    return [f'{{"users": [{{"user_id": {json.dumps(user)}{sent}}}]{extra}}}' for user in users]


# ----------------------------------------------------------------------------------------------------- the servers


@contextmanager
def running(server: str, settings: Settings) -> Iterator[int]:
    """A server on a free port of the loopback."""
    port = _free_port()
    arguments, env = command(settings, "127.0.0.1", port)
    if server == "empty":
        arguments = ["benchmarks._serving_peers:Empty" if a == "serving.service:Ebbtide" else a for a in arguments]
    elif server == "bare":
        arguments = [sys.executable, "-m", "benchmarks._serving_peers", str(port)]
    process = subprocess.Popen(
        arguments, cwd=ROOT, env={**os.environ, **env}, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _wait_until_ready(process, port)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the server {process.args!r} did not start")


# -------------------------------------------------------------------------------------------------------- the load


def load(url_port: int, path: str, requests: Path, seconds: float, connections: int) -> Run:
    """A run of wrk, or of the plain loader in a process of its own."""
    if shutil.which("wrk"):
        return _wrk(url_port, path, requests, seconds, connections)
    more = ["--port", str(url_port), "--path", path, "--requests", str(requests)]
    plain = [sys.executable, "-m", "benchmarks.serving", "--load", *more]
    plain += ["--seconds", str(seconds), "--connections", str(connections)]
    done = subprocess.run(plain, cwd=ROOT, capture_output=True, text=True, check=True)
    return Run(**json.loads(done.stdout.splitlines()[-1]))


# Each thread takes the requests in turn; what fails is counted, and latencies are told in µs.
_LUA = """
local json, bodies, at = {["Content-Type"] = "application/json"}, {}, 0
init = function(args)
  for line in io.lines("%s") do bodies[#bodies + 1] = wrk.format("POST", nil, json, line) end
end
request = function() at = at %% #bodies + 1; return bodies[at] end
done = function(summary, latency)
  local e = summary.errors
  print(string.format("told %%f %%f %%f %%d", summary.requests / summary.duration * 1e6, latency:percentile(50),
    latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def _wrk(port: int, path: str, requests: Path, seconds: float, connections: int) -> Run:
    script = requests.with_suffix(".lua")
    script.write_text(_LUA % requests)
    address = f"http://127.0.0.1:{port}{path}"
    arguments = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", str(script), address]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    told = re.search(r"^told (\S+) (\S+) (\S+) (\d+)$", done.stdout, re.MULTILINE)
    assert told is not None, done.stdout
    rate, p50, p99, failed = told.groups()
    return Run(float(rate), float(p50) / 1e3, float(p99) / 1e3, int(failed))


def plain_load(port: int, path: str, requests: Path, seconds: float, connections: int) -> Run:
    """Connections on threads of this process, each asking again when it is answered."""
    payloads = [_http(path, line) for line in requests.read_text().splitlines()]
    waits: list[list[float]] = [[] for _ in range(connections)]
    failed = [0] * connections
    end = time.perf_counter() + seconds

    def ask(number: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as answers:
            place = number
            while (begin := time.perf_counter()) < end:
                connection.sendall(payloads[place % len(payloads)])
                failed[number] += _read_answer(answers) != 200
                waits[number].append(time.perf_counter() - begin)
                place += connections

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cuts = statistics.quantiles([wait * 1e3 for some in waits for wait in some], n=100)
    return Run(sum(map(len, waits)) / seconds, cuts[49], cuts[98], sum(failed))


def _http(path: str, body: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode()


def _read_answer(answers: Any) -> int:
    status, length = int(answers.readline().split()[1]), 0
    while (line := answers.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    answers.read(length)
    return status


# ------------------------------------------------------------------------------------------------------ the report


def measure(settings: Settings, folder: Path, args: argparse.Namespace) -> dict[str, list[Run]]:
    """Round-robin: a run of each, then the next; a short first round warms up and is not counted."""
    users = Store.open(settings.store).segments[0].user_ids[:USERS].to_pylist()
    runs: dict[str, list[Run]] = {contender.name: [] for contender in CONTENDERS}
    with ExitStack() as stack:
        ports = {name: stack.enter_context(running(name, settings)) for name in ("bare", "empty", "ours")}
        for number in range(args.runs + 1):
            for place, contender in enumerate(CONTENDERS):
                requests = folder / f"requests-{place}.txt"
                requests.write_text("\n".join(bodies(contender, users)) + "\n")
                seconds = args.seconds if number else 1
                run = load(ports[contender.server], contender.path, requests, seconds, args.connections)
                if number:
                    runs[contender.name].append(run)
                    print(f"run {number}: {contender.name:32} {run.requests_per_second:8.0f}/s", flush=True)
    return runs


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def report(runs: dict[str, list[Run]], facts: dict[str, Any]) -> dict[str, Any]:
    def ratio(mine: list[Run], base: str) -> dict[str, float]:
        pairs = zip(mine, runs[base], strict=True)
        return spread([one.requests_per_second / other.requests_per_second for one, other in pairs])

    rows = [
        {
            "contender": name,
            "requests_per_second": spread([run.requests_per_second for run in mine]),
            "to_bare": ratio(mine, BARE),
            "to_empty": ratio(mine, EMPTY),
            "p50_ms": spread([run.p50 for run in mine]),
            "p99_ms": spread([run.p99 for run in mine]),
            "failed": sum(run.failed for run in mine),
            "runs": [asdict(run) for run in mine],
        }
        for name, mine in runs.items()
    ]
    return {"facts": facts, "rows": rows}


def show(found: dict[str, Any]) -> None:
    def span(values: dict[str, float], digits: int) -> str:
        return "{median:.{d}f} ({least:.{d}f}-{most:.{d}f})".format(d=digits, **values)

    print(f"\n{found['facts']}\nmedian (least-most)\n")
    print(f"{'contender':32} {'requests/s':>18} {'x bare':>20} {'x empty':>20} {'p50 ms':>20} {'p99 ms':>20} failed")
    for row in found["rows"]:
        ratios = f"{span(row['to_bare'], 3):>20} {span(row['to_empty'], 3):>20}"
        waits = f"{span(row['p50_ms'], 2):>20} {span(row['p99_ms'], 2):>20}"
        print(f"{row['contender']:32} {span(row['requests_per_second'], 0):>18} {ratios} {waits} {row['failed']:>6}")


def main() -> None:
    args = _arguments()
    if args.load:
        run = plain_load(args.port, args.path, args.requests, args.seconds, args.connections)
        print(json.dumps(asdict(run)))
        return
    folder = ROOT / "build" / f"serving-{args.events}"
    runs = measure(shop(args.events, folder), folder, args)
    loader = "wrk" if shutil.which("wrk") else "plain"
    facts = {**vars(args), "loader": loader, "cpus": os.cpu_count(), "machine_load": os.getloadavg()[0]}
    wanted = ("events", "runs", "seconds", "connections", "loader", "cpus", "machine_load")
    found = report(runs, {name: facts[name] for name in wanted})
    show(found)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    if failed := sum(row["failed"] for row in found["rows"]):
        raise SystemExit(f"{failed} requests failed")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=500_000, help="of the simulated shop; a user for 51 of them")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--load", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    parser.add_argument("--requests", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
