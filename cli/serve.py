"""`ebbtide serve`."""

from typing import Annotated

import typer


def serve() -> None:
    """x"""
