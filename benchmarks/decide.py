"""`POST /v1/decide` beside `ebbtide plan`: the same answers for 2,000 users, and how long one user takes.

    python -m benchmarks.decide                     # five runs over what `make demo` deployed

One user a request, one connection, a real server on the loopback; `churn` and `recommend` are asked too, to compare.
"""

import argparse
import http.client
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving import running
from features.errors import UserError
from features.events.store import Store
from features.instants import instant
from models.batch import each_bucket
from models.decisions import Decided, Operator
from models.deployed import load_current
from serving.schemas import iso
from serving.settings import Settings

RESULTS = Path(__file__).resolve().parent / "results" / "decide.json"
PATHS: dict[str, dict[str, Any]] = {
    "decide": {},
    "churn": {"cause": True},
    "recommend": {"k": 5},
}
COMPARED = (
    "action",
    "reason",
    "ladder",
    "step",
    "campaign_id",
    "channel",
    "offer",
    "contact_id",
    "cost",
    "expected_gain",
)


def planned(settings: Settings, users: int) -> list[Decided]:
    """The plan of the first so many users, as the command line makes it."""
    store = Store.open(settings.store)
    operator, out = Operator(store, load_current(settings.deployed)), []
    assert settings.as_of is not None
    for _, timeline in each_bucket(store):
        out += operator.decide(timeline, settings.as_of)
        if len(out) >= users:
            break
    return out[:users]


def differs(decided: Decided, answer: dict[str, Any]) -> bool:
    """Is the service's answer another than the plan's?"""
    mine: dict[str, Any] = {name: getattr(decided.decision, name) for name in COMPARED}
    theirs = {name: answer["decision"][name] for name in COMPARED}
    send_at = None if decided.decision.send_at is None else iso(decided.decision.send_at)
    items = [item.item_id for item in decided.items]
    return (
        mine != theirs
        or send_at != answer["decision"]["send_at"]
        or items != [item["item_id"] for item in answer["items"]]
        or decided.reason != answer["reason"]
        or decided.profile.probability != answer["profile"]["probability"]
        or decided.profile.stage != answer["profile"]["stage"]
    )


def timed(port: int, path: str, users: list[str], more: dict[str, Any]) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Milliseconds of each request, and its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    took, answers = [], []
    for user in users:
        body = json.dumps({"users": [{"user_id": user}], **more})
        begin = time.perf_counter()
        connection.request("POST", f"/v1/{path}", body, {"content-type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        took.append(1_000 * (time.perf_counter() - begin))
        assert response.status == 200, text
        answers.append(json.loads(text)["results"][0])
    connection.close()
    return np.array(took), answers


def measure(settings: Settings, users: int, runs: int) -> dict[str, Any]:
    """Differences between plan and service, and latencies a path, a figure a run."""
    plan = planned(settings, users)
    ids = [decided.profile.user_id for decided in plan]
    found: dict[str, Any] = {"users": len(ids), "contacts": sum(d.decision.action == "contact" for d in plan)}
    with running("ours", settings) as port:
        timed(port, "decide", ids[:50], {})
        for run in range(runs):
            for path, more in PATHS.items():
                took, answers = timed(port, path, ids, more)
                if path == "decide" and not run:
                    found["differ"] = sum(differs(d, a) for d, a in zip(plan, answers, strict=True))
                for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99)):
                    found.setdefault(path, {}).setdefault(name, []).append(round(float(np.quantile(took, share)), 2))
    return found


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--store", type=Path, default=Path("var/demo/store"))
    parser.add_argument("--deployed", type=Path, default=Path("var/demo/deployed"))
    parser.add_argument("--as-of", default="2018-01-01")
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    settings = Settings(args.store.resolve(), args.deployed.resolve(), instant(args.as_of))
    try:
        found = measure(settings, args.users, args.runs)
    except UserError as error:
        sys.exit(f"{error}\n`make demo` makes what is asked here.")
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{found['users']:,} users, {found['contacts']:,} contacts, {found['differ']} answers differ from the plan")
    for path in PATHS:
        p50, p99 = found[path]["p50_ms"], found[path]["p99_ms"]
        spread = f"({min(p50):.1f} to {max(p50):.1f}); p99 {np.median(p99):.1f} ms ({min(p99):.1f} to {max(p99):.1f})"
        print(f"{path}: p50 {np.median(p50):.1f} ms {spread}")


if __name__ == "__main__":
    main()
