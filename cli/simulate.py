"""`ebbtide simulate`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from cli.options import progress, say, table
from features.events.columns import KINDS
from training.simulation import simulate as simulate_shop
from training.simulation.parameters import CAUSES, load


def simulate(
    out: Annotated[Path, typer.Option("--out", help="Folder to write: a source for `ebbtide ingest`.")],
    users: Annotated[int, typer.Option(help="Users of the shop.")] = 10_000,
    days: Annotated[int, typer.Option(help="Days that the log spans.")] = 365,
    seed: Annotated[int, typer.Option(help="The same seed and parameters give the same files.")] = 1,
    parameters: Annotated[
        Path | None, typer.Option(help="TOML that overrides the shipped parameters; or a shipped one: sparse, noisy.")
    ] = None,
) -> None:
    """Write the log of a simulated shop, and the truth behind it.

    Example: ebbtide simulate --out var/simulated --users 5000 --parameters noisy
    """
    started = time.time()
    with progress() as told:
        done = simulate_shop(
            load(parameters),
            out,
            users=users,
            days=days,
            seed=seed,
            progress=lambda share: told("simulating users", share),
        )
    rows = [(f"kind {kind}", done.kinds[kind]) for kind in sorted(KINDS, key=lambda kind: -done.kinds[kind])]
    rows += [(f"truth: leaving, {cause}", done.causes[cause]) for cause in CAUSES]
    table(("simulated events", f"{done.kinds.total():,}"), rows)
    shop = f"a simulated shop of {users:,} users, {done.items:,} items and {days:,} days"
    say(f"\nwrote {out}: {shop}, in {time.time() - started:.1f} s")
    say(f"its truth, for evaluation only: {out / 'truth'}")
