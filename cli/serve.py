"""`ebbtide serve`."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DeployedOption, StoreOption, instant


def serve(
    store: StoreOption,
    deployed: DeployedOption = Path("var/deployed"),
    as_of: Annotated[str | None, typer.Option(help="The moment of every answer; without it the clock.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 3000,
) -> None:
    """Answer over HTTP from a store and the deployed bundle.

    Example: ebbtide serve --store var/store
    """
    from serving.run import serve as become_server

    become_server(store, deployed, None if as_of is None else instant(as_of), host, port)
