"""`ebbtide structure`."""

from pathlib import Path
from typing import Annotated

import typer

from analysis.structure import Structure, month_starts
from analysis.structure import structure as measured
from cli.options import DeployedOption, StoreOption, instant, moment_in, progress, say, table
from cli.tables import write_table
from features.audience.stages import STAGES, borders_of
from features.errors import UserError
from features.events.store import Store
from models.deployed import in_force


def structure(
    store: StoreOption,
    first: Annotated[str, typer.Option("--from", help="The first moment: an ISO date or time, UTC without a zone.")],
    last: Annotated[str, typer.Option("--to", help="The last moment; in between every first day of a month.")],
    out: Annotated[Path | None, typer.Option(help="Folder in which to write all tables as CSV.")] = None,
    deployed: DeployedOption = Path("var/deployed"),
) -> None:
    """Show who was where at some moments, who moved, who stayed.

    Example: ebbtide structure --store var/store --from 2017-07-01 --to 2018-01-01
    """
    opened = Store.open(store)
    begin, end = instant(first), moment_in(opened, last)
    if begin > end:
        raise UserError(f"--from {first} is after --to {last}: swap them")
    tables, learned, whose = in_force(deployed, opened, end)
    borders = borders_of(tables.stages, learned)
    moments = sorted({begin, end, *month_starts(begin, end)})
    with progress() as told:
        found = measured(opened, moments, borders, progress=lambda share: told("structure", share))
    _show(found)
    say(
        f"dormant after {borders.dormant_days:g} days without a purchase, lost after {borders.lost_days:g}; "
        f"mature from {borders.maturity_orders} orders on: {whose}"
    )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        parts = {
            "structure": found.to_table(),
            "flows": found.flows_table(),
            "cohorts": found.cohorts.to_table(),
            "penetration": found.penetration_table(),
        }
        for name, part in parts.items():
            write_table(out / f"{name}.csv", part)
        say(f"wrote {', '.join(f'{name}.csv' for name in parts)} in {out}")


def _show(found: Structure) -> None:
    rows = found.to_table().to_pylist()
    names = ("registered", "active", "paying", "new", "old", *(f"stage_{stage}" for stage in STAGES))
    shown = [name for name in names if any(row[name] for row in rows)]
    heads = ["never bought" if name == "stage_registered" else name.removeprefix("stage_") for name in shown]
    table(("as of", *heads), [(show_day(row["as_of"]), *(row[name] for name in shown)) for row in rows])
    say("")
    flows = found.flows_table().to_pylist()
    last = flows[-1]["to"] if flows else None
    moved = [row for row in flows if row["to"] == last and row["users"] and row["stage_before"] != row["stage_after"]]
    moved.sort(key=lambda row: -row["users"])
    title = None if last is None else f"who moved, {show_day(flows[-1]['from'])} to {show_day(last)}"
    table(("from", "to", "users"), [(r["stage_before"], r["stage_after"], r["users"]) for r in moved], title)
    say("")
    kept = found.cohorts.mean
    if kept.size > 1:
        say(
            f"of those who first bought in a {found.cohorts.unit}, the share that bought in the next ones: "
            + ", ".join(f"{share:.0%}" for share in kept[1:7] if share == share)
        )
    newest = [row for row in found.penetration_table().to_pylist() if row["as_of"] == rows[-1]["as_of"]][:10]
    if newest:
        table(("category", "buyers", "of all"), [(r["category"], r["buyers"], r["penetration"]) for r in newest])


def show_day(moment: object) -> str:
    """A moment as a date."""
    return str(moment)[:10]
