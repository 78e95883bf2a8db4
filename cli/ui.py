"""`ebbtide ui`."""

import os
import subprocess
import sys
from typing import Annotated

import typer

from cli.options import say


def ui(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 5000,
) -> None:
    """Open MLflow on the tracked runs.

    Example: ebbtide ui
    """
    from training.tracking import connect, tracking_uri

    connect()
    say(f"MLflow on http://{host}:{port} over {tracking_uri()}; stop with Ctrl-C")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", tracking_uri()]
    raise typer.Exit(subprocess.run([*command, "--host", host, "--port", str(port)], env=os.environ).returncode)
