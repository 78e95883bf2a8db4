"""Files that survive a crash whole, old or new."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Make a file, or a folder's list of files, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace(path: Path, text: str) -> None:
    """Replace a file's text in one durable step."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text)
    sync(beside)
    beside.rename(path)
    sync(path.parent)
