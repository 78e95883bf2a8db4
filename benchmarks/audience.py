"""How long the audience report takes, and where the time goes: a log of any size, from replicas of a simulated shop.

    python -m benchmarks.audience                       # 100,000 users, some minutes, most of them to make the log
    python -m benchmarks.audience --users 20000 --out report.html

A shop of some thousand users is simulated for a year and its log repeated under new names of users, devices, orders
and sessions, until there are enough users; then it is ingested. Churn probabilities are drawn at random: what a model
says takes its own time. One process.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from analysis.audience_report import audience_material, audience_report
from analysis.lifecycle import lifecycle
from analysis.people import Rules, people
from analysis.structure import steps_back, structure
from features.audience.learn import learn
from features.audience.segments import cuts_of, load_segments
from features.audience.stages import borders_of, load_stages
from features.events import columns as c
from features.events.ingest import ingest
from features.events.sources import Source
from features.events.store import Store
from training.simulation import simulate
from training.simulation.parameters import load

SIMULATED = 5_000  # users of the shop that is repeated
NAMED = (c.USER_ID, c.DEVICE_ID, c.ORDER_ID, c.SESSION_ID, c.EVENT_ID)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long something took, and for how long the processor worked on it."""
    start, worked = time.perf_counter(), time.process_time()
    yield
    wall, worked = time.perf_counter() - start, time.process_time() - worked
    print(f"{what:<46} {wall:7.1f} s, processor {worked:7.1f} s", flush=True)


def repeated(shop: Path, copies: int, out: Path) -> None:
    """A simulated shop's events and users so many times over, each time under other names."""
    con = duckdb.connect(config={"threads": 1})
    for table in ("events", "users"):
        columns = con.sql(f"SELECT * FROM read_parquet('{shop / table}.parquet') LIMIT 0").columns
        new = ", ".join(f"{name} || '.' || copy AS {name}" if name in NAMED else name for name in columns)
        con.execute(
            f"COPY (SELECT {new} FROM read_parquet('{shop / table}.parquet'), range({copies}) AS copies(copy)) "
            f"TO '{out / table}.parquet'"
        )


def big_store(folder: Path, users: int, seed: int) -> Store:
    """The store of a log of about so many users, anonymous devices aside."""
    shop, big = folder / "shop", folder / "big"
    big.mkdir()
    simulate(load(None), shop, users=min(users, SIMULATED), days=365, seed=seed)
    repeated(shop, -(-users // SIMULATED), big)
    source = Source(big / "events.parquet", shop / "items.parquet", big / "users.parquet")
    store = ingest(source, folder / "store", now=time.time_ns() // 1000).store
    assert store is not None
    return store


def measure(store: Store, out: Path | None, seed: int) -> None:
    """Print where the time goes, and then the whole."""
    stages, segments = load_stages(), load_segments()
    as_of = (store.span[1] // c.DAY + 1) * c.DAY
    with timed("learning borders and cuts"):
        learned = learn(store, as_of)
    rules = Rules(borders_of(stages, learned), cuts_of(segments, learned), segments)
    moments = steps_back(store.span[0], as_of)
    with timed(f"structure, flows, cohorts: {len(moments)} moments"):
        structure(store, moments, rules.borders)
    with timed("activation, retention, return"):
        lifecycle(store, as_of, rules.borders)
    with timed("segments, tiers, alarm of every user"):
        who = people(store, as_of, rules)
    chance = np.random.default_rng(seed).random(len(who.user_ids))
    scores = pa.table({c.USER_ID: who.user_ids, "churn_probability": chance})
    with timed("the whole: learning, material, plots, page"):
        material = audience_material(store, as_of, stages, segments, learn(store, as_of), scores)
        with timed("  of this plots and page"):
            html = audience_report(material)
    registered = int(material.structure.registered[-1])
    print(f"{registered:,} registered users, {len(who.user_ids) - registered:,} devices, {store.rows:,} events")
    if out:
        out.write_text(html, "utf-8")
        print(f"wrote {out}")


def main() -> None:
    """Make the log and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--store", type=Path, help="measure on this store instead of making one")
    parser.add_argument("--out", type=Path, help="also write the page")
    options = parser.parse_args()
    if options.store:
        measure(Store.open(options.store), options.out, options.seed)
        return
    with tempfile.TemporaryDirectory() as folder:
        with timed("making and ingesting the log"):
            store = big_store(Path(folder), options.users, options.seed)
        measure(store, options.out, options.seed)


if __name__ == "__main__":
    main()
