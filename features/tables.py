"""Settings that people edit: a TOML file checked against a model, each mistake told with its file and line.

A `Table` says by its fields what a file may hold; `problems` says what its fields alone cannot, such as a name that
another part of the file must have.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from features.errors import UserError

Place = tuple[str | int, ...]  # keys, and numbers of the elements of lists from 0
T = TypeVar("T", bound="Table")
Also = Callable[[T], Iterable[tuple[Place, str]]]

_HEADER = re.compile(r"\s*(\[\[?)([^\[\]]+)\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_OPEN = re.compile(r"=\s*\[\s*(#.*)?$")  # a list whose elements stand on the lines below
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


class Table(BaseModel):
    """A table of a file; what it does not have must not be set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def problems(self) -> Iterator[tuple[Place, str]]:
        """Places, from this table on, and what is wrong there and how to mend it."""
        yield from ()


def read_table(path: Path, model: type[T], also: Also[T] | None = None) -> T:
    """What the file says.

    Args:
        also: further problems of the table, such as names that another file must have.

    Raises:
        UserError: it cannot be read, or something in it is wrong: `file:line: what is wrong; the valid words`.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    return parse_table(text, model, path, also)


def parse_table(text: str, model: type[T], path: Path | str, also: Also[T] | None = None) -> T:
    """The same of a text; `path` is what errors call it."""
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML: {error}") from error
    try:
        table = model.model_validate(given)
    except ValidationError as error:
        first = min(error.errors(), key=lambda e: e["type"] == "missing")  # what is mistyped is missing too
        place: Place = tuple(p for p in first["loc"] if p != "[key]" and not str(p).startswith("function-"))
        raise UserError(f"{path}:{_line(text, place)}: {_said(given, place)} {_wrong(model, place, first)}") from None
    for place, wrong in chain(table.problems(), also(table) if also else ()):
        raise UserError(f"{path}:{_line(text, place)}: {_said(given, place)} {wrong}")
    return table


def _said(given: Any, place: Place) -> str:
    """A place as people read it: elements of lists by their names, if they have any, else counted from 1."""
    out: list[str] = []
    for part in place:
        if isinstance(part, int):
            try:
                given = given[part]
            except (IndexError, KeyError, TypeError):
                given = None
            name = given.get("name") if isinstance(given, dict) else None
            out[-1] = f"{out[-1] if out else ''} {name if isinstance(name, str) else part + 1}"
            continue
        given = given.get(part) if isinstance(given, dict) else None
        out.append(str(part))
    return ", ".join(out)


def _wrong(model: type[BaseModel], place: Place, error: Any) -> str:
    kind, ctx = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        parent = _model_at(model, place[:-1])
        known = f"; there are {', '.join(parent.model_fields)}" if parent else ""
        return f"is not a setting{known}"
    if kind == "missing":
        return "is missing"
    given = error["input"]
    shown = f"is {given!r}" if isinstance(given, str | int | float | bool) else "is wrong"
    if kind in ("literal_error", "enum"):
        return f"{shown}; use {ctx['expected']}"
    return f"{shown}: {str(error['msg']).removeprefix('Value error, ')}"


def _model_at(model: type[BaseModel], place: Place) -> type[BaseModel] | None:
    """The model of the table at a place."""
    at: Any = model
    for part in place:
        if isinstance(part, int):
            continue
        field = at.model_fields.get(part) if isinstance(at, type) and issubclass(at, BaseModel) else None
        at = _inner(field.annotation) if field else None
    return at if isinstance(at, type) and issubclass(at, BaseModel) else None


def _inner(annotation: Any) -> Any:
    """The model in `list[Model]`, `Model | None` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((inner for part in get_args(annotation) if (inner := _inner(part)) is not None), None)


def _line(text: str, place: Place) -> int:
    """The line of a place, or of the closest table around it; 1 where nothing is found."""
    lines = _lines(text)
    return next((lines[place[:size]] for size in range(len(place), 0, -1) if place[:size] in lines), 1)


def _lines(text: str) -> dict[Place, int]:
    """Line by place, of what stands at the beginning of lines; also tables in braces in a list, one a line."""
    out: dict[Place, int] = {}
    counts: dict[Place, int] = {}
    table: Place = ()
    within: Place = ()  # the list in brackets that has begun on an earlier line
    for number, line in enumerate(text.splitlines(), 1):
        if within:
            if line.lstrip().startswith("{"):
                counts[within] = counts.get(within, -1) + 1
                out[(*within, counts[within])] = number
            within = () if line.lstrip().startswith("]") else within
        elif header := _HEADER.match(line):
            *parents, last = _parts(header.group(2))
            table = (*_resolved(parents, counts), last)
            if header.group(1) == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            out.setdefault(table, number)
        elif key := _KEY.match(line):
            place = (*table, *_parts(key.group(1)))
            out.setdefault(place, number)
            within = place if _OPEN.search(line) else ()
    return out


def _resolved(parts: Sequence[str], counts: dict[Place, int]) -> Place:
    """A dotted name with the number of the element of each list on the way."""
    at: Place = ()
    for part in parts:
        at = (*at, part)
        if at in counts:
            at = (*at, counts[at])
    return at


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in _PART.findall(dotted)]
