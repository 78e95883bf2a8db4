"""What the verbs share: options, times, tables and progress."""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import duckdb
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from features.errors import UserError
from features.events.columns import DAY, USER_ID
from features.events.store import Store
from features.instants import instant as instant
from training.backtest import show

console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 160)

StoreOption = Annotated[Path, typer.Option("--store", help="Folder of the event store.")]
AsOfOption = Annotated[str, typer.Option("--as-of", help="The moment: an ISO date or time, UTC without a zone.")]
OutOption = Annotated[Path, typer.Option("--out", help="Parquet file to write.")]
TableOutOption = Annotated[Path, typer.Option("--out", help="CSV or Parquet file to write.")]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="models:/NAME/VERSION or models:/NAME@ALIAS; without it the champion.")
]
UsersOption = Annotated[Path | None, typer.Option("--users", help="CSV or Parquet with user_id: only these.")]
LanguageOption = Annotated[Literal["en", "zh"], typer.Option(help="Of reasons and evidence.")]
RecipeOption = Annotated[Path | None, typer.Option("--recipe", help="TOML that overrides the shipped recipe.")]
DeployedOption = Annotated[Path, typer.Option("--deployed", help="Folder of deployed bundles.")]


def moment_in(store: Store, text: str, horizon: int | None = None) -> int:
    """`--as-of` on a store: later than its first event; a warning where it lies more than a horizon after the last."""
    first, last = store.span
    as_of = instant(text)
    if as_of <= first:
        raise UserError(f"--as-of {show(as_of)} is not after the first event; it must be later than {show(first)}")
    if as_of > last + (horizon or 30) * DAY:
        after = f"{(as_of - last) // DAY} days after the last event, {show(last)}"
        say(f"[yellow]warning[/]: --as-of {show(as_of)} is {after}")
    return as_of


def end_of(store: Store) -> int:
    """The last midnight (UTC) of the log: what training takes for its moment by default."""
    return store.span[1] // DAY * DAY


def user_list(path: Path | None) -> list[str] | None:
    """The distinct user ids of a file, in its order."""
    if path is None:
        return None
    try:
        read = duckdb.read_parquet if path.suffix == ".parquet" else duckdb.read_csv
        relation = read(str(path)) if path.suffix == ".parquet" else duckdb.read_csv(str(path), all_varchar=True)
        rows = relation.project(f"CAST({USER_ID} AS VARCHAR)").fetchall()
    except duckdb.Error as error:
        raise UserError(f"cannot read user_id from {path}: {str(error).splitlines()[0]}") from error
    return list(dict.fromkeys(user for (user,) in rows if user))


def say(text: str) -> None:
    """A line for people."""
    console.print(text, highlight=False)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
    """Rows as a table; every column but the first is aligned right."""
    out = Table(*(), title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        out.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        out.add_row(*(_cell(value) for value in row))
    console.print(out)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


@contextmanager
def progress() -> Iterator[Callable[[str, float], None]]:
    """Tell what is being done and which share of it: a bar on a terminal, a line a step elsewhere."""
    if not sys.stdout.isatty():
        told: set[str] = set()

        def line(what: str, share: float) -> None:
            step = re.sub(r"[\d,]+", "", what)
            if step not in told:
                told.add(step)
                print(f"{what} …", flush=True)

        yield line
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        tasks = {}

        def update(what: str, share: float) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=1.0)
            bar.update(tasks[what], completed=share)

        yield update
