"""`ebbtide needs`."""

from pathlib import Path
from typing import Annotated

import typer

from analysis.sequences import LEAST_LIFT, LEAST_USERS, as_toml, suggest
from cli.options import StoreOption, moment_in, say, table
from features.events.store import Store
from training.backtest import show


def needs(
    store: StoreOption,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="The moment: an ISO date or time; without it the end of the log.")
    ] = None,
    within_days: Annotated[
        int, typer.Option(min=1, max=366, help="The second category comes so many days later.")
    ] = 14,
    out: Annotated[Path | None, typer.Option("--out", help="TOML to write: needs to prune, name and copy.")] = None,
) -> None:
    """Propose needs: what users look at or buy first, and what then. Nothing applies them by itself.

    Example: ebbtide needs --store var/store --within-days 14 --out var/proposed.toml
    """
    opened = Store.open(store)
    moment = opened.span[1] + 1 if as_of is None else moment_in(opened, as_of)
    mined = suggest(opened, moment, within_days)
    rows = [
        (f"{one.first}, then {one.then}", one.users, f"{one.support:.4f}", f"{one.confidence:.1%}", f"{one.lift:.2f}")
        for one in mined.suggestions
    ]
    table(("proposed", "users", "support", "confidence", "lift"), rows)
    read = f"{mined.days:,} days of {mined.users:,} of {mined.of_users:,} users and devices"
    goods = f"{mined.categories} of {mined.of_categories} categories"
    say(f"\nas of {show(moment)}, within {within_days} days; read: {read}, {goods}")
    say(f"shown: at least {LEAST_USERS} users and lift {LEAST_LIFT}; lift: over what follows any day of activity")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(as_toml(mined), "utf-8")
        say(f"wrote {out}: {len(mined.suggestions)} needs proposed; none is in force")
