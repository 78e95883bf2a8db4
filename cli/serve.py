"""`ebbtide serve`."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DeployedOption, StoreOption, instant
from features.errors import UserError


def serve(
    store: StoreOption,
    deployed: DeployedOption = Path("var/deployed"),
    as_of: Annotated[str | None, typer.Option(help="The moment of every answer; without it the clock.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 3000,
    exposures: Annotated[Path | None, typer.Option(help="Folder in which to log every list that is given.")] = None,
    explore: Annotated[
        float, typer.Option(help="Share of the lists that chance fills, so that `off-policy` can learn; needs a log.")
    ] = 0.0,
) -> None:
    """Answer over HTTP from a store and the deployed bundle.

    Example: ebbtide serve --store var/store
    """
    from serving.run import serve as become_server
    from serving.settings import Settings

    if explore and exposures is None:
        raise UserError(f"--explore {explore} would be forgotten: name a folder with --exposures, or leave it out")
    moment = None if as_of is None else instant(as_of)
    log = None if exposures is None else exposures.resolve()
    become_server(Settings(store.resolve(), deployed.resolve(), moment, log, explore), host, port)
