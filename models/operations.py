"""What operators decide, in four files: borders of stages, segments, needs, and the playbook. A deployed bundle carries
them, checked against each other, so that a mistake is told when they are deployed and not at midnight."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from features.audience.needs_table import NeedsTable
from features.audience.segments import SegmentTable
from features.audience.stages import StageTable
from features.errors import UserError
from features.tables import parse_table
from models.bundle import Bundle
from models.playbook import Playbook

PART: Final = "operations"
STAGES, SEGMENTS, NEEDS, PLAYBOOK = NAMES = ("stages.toml", "segments.toml", "needs.toml", "playbook.toml")


@dataclass(frozen=True)
class Operations:
    """The four tables, and the texts that they were read from by file name."""

    stages: StageTable
    segments: SegmentTable
    needs: NeedsTable
    playbook: Playbook
    texts: Mapping[str, str]

    @classmethod
    def of_texts(cls, texts: Mapping[str, str], called: Mapping[str, str] | None = None) -> "Operations":
        """The tables of four texts.

        Args:
            called: what errors call a file; its name, if it is not there.

        Raises:
            UserError: something in them is wrong, with file, line and the valid words.
        """
        names = {name: (called or {}).get(name, name) for name in NAMES}
        needs = parse_table(texts[NEEDS], NeedsTable, names[NEEDS])
        known = [need.name for need in needs.needs]
        playbook = parse_table(texts[PLAYBOOK], Playbook, names[PLAYBOOK], lambda book: book.unknown_needs(known))
        return cls(
            parse_table(texts[STAGES], StageTable, names[STAGES]),
            parse_table(texts[SEGMENTS], SegmentTable, names[SEGMENTS]),
            needs,
            playbook,
            {name: texts[name] for name in NAMES},
        )

    def write(self, folder: Path) -> None:
        """The four files, as they were given."""
        for name, text in self.texts.items():
            (folder / name).write_text(text, "utf-8")


def shipped_texts() -> dict[str, str]:
    """The files that come with Ebbtide, by name."""
    audience, playbooks = files("features.audience"), files("models") / "playbooks"
    places: dict[str, Any] = {name: audience / name for name in (STAGES, SEGMENTS, NEEDS)}
    places[PLAYBOOK] = playbooks / "default.toml"
    return {name: place.read_text("utf-8") for name, place in places.items()}


def shipped() -> Operations:
    """What comes with Ebbtide."""
    return Operations.of_texts(shipped_texts())


def changed(base: Mapping[str, str], folder: Path) -> tuple[Operations, list[str]]:
    """The texts of `base` with those that a folder has in their place, and the names of these.

    Raises:
        UserError: the folder has none of the four files, or something in one is wrong.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: name one that has any of {', '.join(NAMES)}")
    given = [name for name in NAMES if (folder / name).is_file()]
    strange = sorted(path.name for path in folder.glob("*.toml") if path.name not in NAMES)
    if strange or not given:
        has = f"has {', '.join(strange)}" if strange else "has none of the files"
        raise UserError(f"{folder} {has}; the files that are read there are {', '.join(NAMES)}")
    texts = dict(base) | {name: _text(folder / name) for name in given}
    return Operations.of_texts(texts, {name: str(folder / name) for name in given}), given


def texts_of(bundle: Bundle) -> dict[str, str] | None:
    """The texts that a verified bundle carries; None if it has no such part."""
    if PART not in bundle.parts:
        return None
    return {name: _text(bundle.path / PART / name) for name in NAMES}


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
