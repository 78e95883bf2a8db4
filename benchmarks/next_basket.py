"""The next basket: each user's last order from everything before it, ours beside peers, on two published logs.

`python -m benchmarks.next_basket` writes `results/next_basket.json` and prints tables. Stores are made from the sources
(Online Retail II is found by ONLINE_RETAIL_PARQUET), or given as `--store online_retail=FOLDER`. Asked are the users
with at least three orders; known are all their orders but the last, and all orders of the others. All items in a known
order are ranked. Recall@10, Recall@20 and NDCG@10 are means over users, with 95 % bootstrap intervals over users.

Peers' settings are chosen by Recall@10 on the second-to-last order, with the last one removed, stage by stage: each
stage tries all of its settings with the best so far of the others. Then each peer is tested once.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks._baskets import (
    FIGURES,
    Floats,
    Lists,
    Task,
    baskets_of,
    evaluate,
    held_out,
    personal,
    personal_then_popular,
    popular,
    some_of,
    tifu_knn,
    up_cf,
)
from benchmarks._baskets_ours import lists_of_ours
from features.events.ingest import ingest
from features.events.sources import find_source
from features.events.store import Store
from training.metrics import bootstrap

OUT = Path(__file__).parent / "results" / "next_basket.json"
SOURCES = ("online_retail", "complete_journey")
VALIDATION_USERS = 600

Stage = Mapping[str, Sequence[Any]]
"""Settings that are tried together: name → values."""


@dataclass(frozen=True)
class Peer:
    """A way to make lists, where its settings begin, and the stages that choose them."""

    lists: Callable[..., Lists]
    start: Mapping[str, Any]
    stages: Sequence[Stage] = ()


SIMILARITY: Stage = {"alpha": (0.0, 0.25, 0.5, 0.75, 1.0), "q": (1, 5, 10, 50, 100)}
PEERS = {
    "popular": Peer(popular, {}),
    "personal": Peer(personal, {}),
    "personal, then popular": Peer(personal_then_popular, {}),
    "TIFU-KNN": Peer(
        tifu_knn,
        {"group": 7, "r_b": 0.9, "r_g": 0.7, "k": 300, "alpha": 0.7},
        (
            {"group": (1, 3, 7, 15), "r_b": (0.8, 0.9, 1.0), "r_g": (0.3, 0.5, 0.7, 0.9)},
            {"k": (25, 50, 100, 300, 900), "alpha": (0.1, 0.3, 0.5, 0.7, 0.9)},
        ),
    ),
    "UP-CF": Peer(up_cf, {"alpha": 0.5, "q": 10}, (SIMILARITY,)),
    "UP-CF@r": Peer(up_cf, {"alpha": 0.5, "q": 10, "r": 25}, (SIMILARITY, {"r": (1, 3, 5, 10, 25, 100)}, SIMILARITY)),
}


def chosen(peer: Peer, task: Task) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The settings with the best Recall@10 on a task, and all that were tried."""
    best: dict[str, Any] = dict(peer.start)
    tried: list[dict[str, Any]] = []
    for stage in peer.stages:
        begin = len(tried)
        for values in product(*stage.values()):
            settings = best | dict(zip(stage, values, strict=True))
            figures = evaluate(peer.lists(task.past, task.users, **settings), task.truth).mean(axis=0)
            tried.append(settings | {"recall@10": round(float(figures[0]), 4)})
        winner = max(tried[begin:], key=lambda settings: settings["recall@10"])
        best = {name: winner[name] for name in best}
    return best, tried


def intervals(each: Floats) -> dict[str, list[float]]:
    """Mean of each figure over users with its 95 % interval."""
    out = {}
    for place, name in enumerate(FIGURES):
        found = bootstrap(lambda rows, place=place: float(each[rows, place].mean()), len(each))  # type: ignore[misc]
        out[name] = [round(value, 4) for value in (found.value, found.low, found.high)]
    return out


def measured(name: str, store: Store, test: Task, validation: Task) -> dict[str, Any]:
    """One contender's figures on the last order; a peer's settings are chosen on the one before."""
    settings: dict[str, Any] = {}
    tried: list[dict[str, Any]] = []
    if name in PEERS:
        settings, tried = chosen(PEERS[name], validation)
    began = time.perf_counter()
    if name in PEERS:
        lists = PEERS[name].lists(test.past, test.users, **settings)
    else:
        lists = lists_of_ours(store, test.past, test.users, test.at)
    seconds = round(time.perf_counter() - began, 1)
    return {"settings": settings, **intervals(evaluate(lists, test.truth)), "seconds": seconds, "tried": tried}


def bounds(test: Task) -> dict[str, float]:
    """What the task is like, and the recall of a list of 20 that knew the answer."""
    sizes = np.array([len(items) for items in test.truth])
    own = test.past.profiles(np.ones(len(test.past.ts)))
    known = [
        np.isin(w, own.indices[own.indptr[u] : own.indptr[u + 1]]).mean()
        for u, w in zip(test.users, test.truth, strict=True)
    ]
    return {
        "users": len(test.users),
        "items": int((test.past.popularity > 0).sum()),
        "items_a_basket": round(float(sizes.mean()), 1),
        "share_bought_before": round(float(np.mean(known)), 3),
        "best_possible_recall@20": round(float(np.minimum(1, 20 / sizes).mean()), 3),
    }


def _store(source: str, folder: Path) -> Store:
    done = ingest(find_source(Path("sources") / source), folder / source, now=int(time.time() * 1e6))
    assert done.store is not None
    return done.store


def _print(source: str, found: Mapping[str, Any]) -> None:
    print(f"\n== {source}: {found['task']}")
    for name, at in sorted(found["contenders"].items(), key=lambda pair: -pair[1]["recall@10"][0]):
        cells = "  ".join(f"{at[f][0]:.4f} ({at[f][1]:.4f} to {at[f][2]:.4f})" for f in FIGURES)
        print(f"  {name:<24}{cells}  {at['seconds']:>6.1f} s  {at['settings'] or ''}")


def main() -> None:
    """Run what is asked for and print all that was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--only", nargs="*", choices=[*PEERS, "ours"], default=[*PEERS, "ours"])
    parser.add_argument("--store", nargs="*", default=[], metavar="NAME=FOLDER", help="stores that are ready")
    given = parser.parse_args()
    ready = dict(pair.split("=", 1) for pair in given.store)
    kept: dict[str, Any] = json.loads(OUT.read_text()) if OUT.exists() else {}
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        for source in given.data:
            store = Store.open(ready[source]) if source in ready else _store(source, Path(folder))
            test = held_out(baskets_of(store))
            validation = some_of(held_out(test.past), VALIDATION_USERS)
            found = kept.setdefault(source, {"contenders": {}})
            found["task"] = bounds(test)
            for name in given.only:
                found["contenders"][name] = measured(name, store, test, validation)
                OUT.write_text(json.dumps(kept, indent=1) + "\n")
                print(source, name, found["contenders"][name]["recall@10"], flush=True)
            _print(source, found)


if __name__ == "__main__":
    main()
