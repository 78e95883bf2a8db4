"""The one artifact that is deployed: a folder of plain files, verified before anything in it is parsed.

`manifest.json` lists the digest of every file; the folder is named by the digest of the manifest. A part is a
sub-folder (`churn`, `cross_sell`) that a model writes and reads; no pickle anywhere.
"""

import hashlib
import json
import platform
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from features.durable import replace, sync
from features.errors import UserError

FORMAT = 1
LIBRARIES = ("lightgbm", "numpy", "implicit", "scikit-learn")
WritePart = Callable[[Path], None]


class BundleError(UserError):
    """A bundle that must not be served: damaged, incomplete, or made for other signal definitions."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes:
        digest: "sha256:…" of the manifest.
        parts: part name → its description (model name and version, as_of, data digest, signals …).
    """

    path: Path
    digest: str
    parts: Mapping[str, Mapping[str, Any]]


def write_bundle(parent: Path, parts: Mapping[str, tuple[Mapping[str, Any], WritePart]]) -> Path:
    """Write a bundle beside, make it durable, then give it its name; an equal bundle that exists is kept if whole.

    Args:
        parts: part name → (description, function that writes the part's files into a folder).

    Returns:
        `parent/<digest of the manifest>`.
    """
    work = parent / f".{uuid.uuid4().hex}"
    try:
        for name, (_, write) in parts.items():
            (work / name).mkdir(parents=True)
            write(work / name)
        files = sorted(p for p in work.rglob("*") if p.is_file())
        manifest = {
            "format": FORMAT,
            "parts": {name: description for name, (description, _) in parts.items()},
            "versions": {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
            "files": {str(p.relative_to(work)): _digest(p.read_bytes()) for p in files},
        }
        text = json.dumps(manifest, indent=1, sort_keys=True).encode()
        (work / "manifest.json").write_bytes(text)
        final = parent / _digest(text)
        for path in (*files, work / "manifest.json", *(work / name for name in parts), work):
            sync(path)
        if not _whole(final):
            shutil.rmtree(final, ignore_errors=True)
            work.rename(final)
        sync(parent)
        return final
    finally:
        shutil.rmtree(work, ignore_errors=True)


def open_bundle(path: Path) -> Bundle:
    """Check every digest of the bundle at `path`.

    Raises:
        BundleError: a file is missing, added or changed, or the folder's name is not the manifest's digest.
    """
    try:
        text = (path / "manifest.json").read_bytes()
    except OSError as error:
        raise BundleError(f"no bundle at {path}: make one with `ebbtide deploy`") from error
    digest = _digest(text)
    if path.name != digest:
        raise BundleError(f"the manifest of {path} was changed: its digest is {digest[:12]}…; deploy again")
    manifest = json.loads(text)
    if manifest["format"] != FORMAT:
        raise BundleError(
            f"{path} has format {manifest['format']}, this version reads {FORMAT}; train and deploy again"
        )
    present = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()} - {"manifest.json"}
    for name in sorted(present ^ manifest["files"].keys()):
        raise BundleError(f"{path / name} is {'not in the manifest' if name in present else 'missing'}; deploy again")
    for name, expected in manifest["files"].items():
        if _digest((path / name).read_bytes()) != expected:
            raise BundleError(f"{path / name} was changed after the bundle was written; deploy again")
    return Bundle(path, f"sha256:{digest}", manifest["parts"])


def combine(
    parent: Path,
    sources: Mapping[str, tuple[Bundle, Mapping[str, Any]]],
    more: Mapping[str, tuple[Mapping[str, Any], WritePart]] = MappingProxyType({}),
) -> Path:
    """One bundle of parts taken from several; each part's description is extended by the mapping given with it.

    Args:
        more: parts that are written anew, as in `write_bundle`.
    """

    def copy(bundle: Bundle, name: str) -> WritePart:
        def write(folder: Path) -> None:
            shutil.copytree(bundle.path / name, folder, dirs_exist_ok=True)

        return write

    taken = {name: ({**bundle.parts[name], **about}, copy(bundle, name)) for name, (bundle, about) in sources.items()}
    return write_bundle(parent, {**taken, **more})


def deploy(bundle: Path, root: Path) -> None:
    """Make `bundle`, a folder under `root`, the current one, in one durable step."""
    replace(root / "current", bundle.name)


def deployed(root: Path) -> Path:
    """The bundle in force under `root`."""
    try:
        return root / (root / "current").read_text().strip()
    except OSError as error:
        raise BundleError(f"nothing is deployed in {root}: run `ebbtide deploy` first") from error


def _whole(path: Path) -> bool:
    try:
        open_bundle(path)
    except BundleError:
        return False
    return True


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
