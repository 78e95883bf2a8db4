"""What a killed process does; a module of its own, so that the process imports no more than that."""

import os
from pathlib import Path

from models.bundle import combine, deploy, open_bundle


def deploy_again(root: Path, sources: list[Path]) -> None:
    """What `ebbtide deploy` does once it knows the champions; a killed process leaves the disk's cache as it is."""
    os.fsync = lambda fd: None
    opened = [open_bundle(source) for source in sources]
    deploy(combine(root, {part: (one, {"model": "m/2"}) for one in opened for part in one.parts}), root)
