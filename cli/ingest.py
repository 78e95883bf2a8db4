"""`ebbtide ingest`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from cli.options import StoreOption, progress, say, table
from features.events.ingest import ingest as ingest_source
from features.events.intake import Report
from features.events.sources import find_source
from training.backtest import show


def ingest(
    source: Annotated[Path, typer.Argument(help="A file, a .sql file, or a folder with events.sql (+ items, users).")],
    store: StoreOption,
    replace: Annotated[bool, typer.Option("--replace", help="Build the store anew instead of appending.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Validate only; write nothing.")] = False,
    max_rejected: Annotated[float, typer.Option(help="Share of bad rows above which the run fails.")] = 0.02,
) -> None:
    """Read an event log into a store.

    Example: ebbtide ingest sources/complete_journey --store var/store
    """
    started = time.time()
    with progress() as told:
        done = ingest_source(
            find_source(source),
            store,
            now=int(started * 1e6),
            replace=replace,
            check=check,
            max_rejected=max_rejected,
            progress=lambda rows: told(f"read {rows:,} rows", 0.0),
        )
    _print(done.report)
    seconds = time.time() - started
    if done.store is None:
        say(f"\nchecked in {seconds:.1f} s; nothing was written")
    else:
        users = done.store.user_hashes.size
        say(f"\nwrote {store}, now {done.store.rows:,} events of {users:,} users, in {seconds:.1f} s")


def _print(report: Report) -> None:
    ends = [show(instant) for instant in (report.first_ts, report.last_ts) if instant is not None]
    table(
        ("rows read", f"{report.rows:,}"),
        [
            ("kept", report.kept),
            ("duplicates", report.duplicates),
            ("of these with other content", report.conflicts),
            ("rejected", report.rejected.total()),
            *((f"  {reason}", count) for reason, count in report.rejected.most_common()),
            ("users", report.users),
            ("items", report.items),
            ("span", " … ".join(ends)),
            *((f"kind {kind}", count) for kind, count in report.kinds.most_common()),
        ],
    )
    for reason, example in report.examples.items():
        say(f"example of “{reason}”: {example}")
    if report.unknown_columns:
        say(f"ignored columns that are not in the event contract: {', '.join(report.unknown_columns)}")
