"""`ebbtide erase`."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import StoreOption, progress, say, table
from features.errors import UserError
from features.events.erase import erase as erase_from_store
from features.events.store import Store
from features.events.traces import counts, look, still_anonymous
from features.mentions import SHORTEST, Mentions, Name

FILES = "files that name them"
OUT_OF_REACH = """Not in reach, and for you to see to:
  the source files: ingesting them again brings the user back;
  backups and copies of the store, the log and the runs; files that score, recommend, signals, audience or plan wrote;
  what trained models learned from all users together, which includes this one: train again to be rid of it."""


def erase(
    user: Annotated[str, typer.Argument(metavar="USER", help="A user id; device:ID for an anonymous device.")],
    store: StoreOption,
    deployed: Annotated[Path | None, typer.Option(help="Folder of deployed bundles, to be searched.")] = None,
    exposures: Annotated[Path | None, typer.Option(help="Folder of the exposure log.")] = None,
) -> None:
    """Remove a person everywhere, and prove it; exit 1 if a trace is left.

    Example: ebbtide erase u000042 --store var/store --deployed var/deployed --exposures var/exposures
    """
    from training.erase import count_shown, count_tracked, erase_shown, erase_tracked, search, shown_to, tracking

    for option, folder in (("--deployed", deployed), ("--exposures", exposures)):
        if folder is not None and not folder.is_dir():
            raise UserError(
                f"{option} {folder}: there is no such folder; name the one to search, or leave the option out"
            )
    if not user:
        raise UserError("USER is empty: name the user to erase")
    name, client, found = Name(user), tracking(), look(Store.open(store), user)
    shown = shown_to(exposures, user, found.devices) if exposures else []
    folders = [folder for folder in (store, exposures, deployed) if folder is not None]

    def places() -> tuple[dict[str, int], Mentions]:
        """From scratch: nothing that was open before is asked."""
        counted = {f"store: {label}": count for label, count in counts(Store.open(store), found).items()}
        if exposures:
            counted["exposures: answers to them"] = count_shown(exposures, shown)
        if client is not None:
            counted |= {f"runs: {label}": count for label, count in count_tracked(client, name).items()}
        files = search(folders, client, name)
        return {**counted, FILES: len(files.certain)}, files

    def elsewhere() -> None:
        if exposures:
            erase_shown(exposures, shown)
        if client is not None:
            erase_tracked(client, name)

    with progress() as told:
        told("searching", 0.0)
        before, _ = places()
        told("erasing", 0.3)
        erase_from_store(store, user, elsewhere)
        told("searching again", 0.6)
        now, files = places()
    table(("place", "found", "now"), [(place, before[place], now[place]) for place in before])
    for device, events in still_anonymous(Store.open(store), found).items():
        say(f"{events:,} events of {device}, where they logged in, are nobody's: `ebbtide erase {device}` takes them")
    _close(name, before, now, files, {"--exposures": exposures, "--deployed": deployed, "runs": client})


def _close(
    name: Name, before: dict[str, int], now: dict[str, int], files: Mentions, searched: dict[str, object | None]
) -> None:
    """What the table means, and what it does not cover; exit 1 if something is left."""
    if not name.is_searched:
        say(f"Files were searched for the id's hash, and not for the id as text: under {SHORTEST} letters it would be "
            "found by chance.")  # fmt: skip
    for path in files.number:
        say(f"the number {name.user_id} stands in {path}; it may number something else there")
    missing = [option for option, given in searched.items() if given is None]
    if missing:
        say(f"Not searched, as none was named or there is none: {', '.join(missing)}.")
    say(OUT_OF_REACH)
    if any(now.values()):
        for path in files.certain:
            say(f"[red]left[/]: {path}")
        left = [f"{place} ({count})" for place, count in now.items() if count]
        say(f"[red]not erased[/]: {'; '.join(left)}")
        raise typer.Exit(1)
    say(f"{name.user_id}: nothing is left" if any(before.values()) else f"nothing was known of {name.user_id}")
