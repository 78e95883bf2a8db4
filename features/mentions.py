"""Which files still name a user: read byte by byte, or as a table, without asking whoever wrote them."""

import json
import mmap
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.events import columns as c
from features.events.intake import hash_text

SHORTEST = 6  # letters; what is shorter stands in files by chance
_PART_OF_A_WORD = rb"[0-9A-Za-z_.@\-\x80-\xff]"  # "anna42" is neither "anna42@x.org" nor "anna421"
_HEX = rb"[0-9a-f]"


@dataclass(frozen=True)
class Name:
    """How a user is called in files: by id, by the id's 64-bit hash, and by that hash in hexadecimal.

    A number of any length may as well be an item's or a count: where it stands as text is told, but proves nothing.
    """

    user_id: str

    @cached_property
    def hash(self) -> int:
        """Of the id; what the store, the segments' files and tracked tables call the user."""
        return hash_text(self.user_id)

    @property
    def is_searched(self) -> bool:
        """Is the id long enough to be looked for as text?"""
        return len(self.user_id) >= SHORTEST

    @property
    def is_number(self) -> bool:
        """Is the id a plain number?"""
        return self.user_id.isascii() and self.user_id.isdigit()

    @cached_property
    def _as_text(self) -> list["re.Pattern[bytes]"]:
        plain, quoted = self.user_id, json.dumps(self.user_id)[1:-1]
        unicode = json.dumps(self.user_id, ensure_ascii=False)[1:-1]
        spellings = {text.encode() for text in (plain, quoted, unicode, escape(plain))} if self.is_searched else set()
        return [_alone(spelling, _PART_OF_A_WORD) for spelling in sorted(spellings)]

    @cached_property
    def _as_hash(self) -> list["re.Pattern[bytes]"]:
        return [re.compile(re.escape(self.hash.to_bytes(8, "little"))), _alone(f"{self.hash:x}".encode(), _HEX)]

    def stands_in(self, text: str) -> bool:
        """Does a text name the user, as a word of its own?"""
        return text == self.user_id or any(spelling.search(text.encode()) for spelling in self._as_text)

    def in_bytes(self, data: "bytes | mmap.mmap", *, hashed: bool = True) -> tuple[bool, bool]:
        """Does the user's hash stand in a file's content; and the id?"""
        by_hash = hashed and any(spelling.search(data) for spelling in self._as_hash)
        return bool(by_hash), any(spelling.search(data) for spelling in self._as_text)

    def in_table(self, table: pa.Table) -> tuple[bool, bool]:
        """The same of a table; an id among user ids is the user's however short or numeric it is."""
        sure = text = False
        for name, column in zip(table.column_names, table.columns, strict=True):
            if pa.types.is_integer(column.type):
                sure |= column.type.bit_width == 64 and self._in_integers(column)
                continue
            texts = texts_of(column)
            if name == c.USER_ID:
                sure |= bool(pc.any(pc.equal(texts, self.user_id)).as_py())
            elif self.is_searched:
                held = pc.unique(texts.filter(pc.match_substring(texts, self.user_id)))
                text |= any(self.stands_in(one) for one in held.to_pylist())
        return sure, text

    def _in_integers(self, column: pa.ChunkedArray) -> bool:
        signed = pa.types.is_signed_integer(column.type)
        wanted = int(np.uint64(self.hash).astype(np.int64)) if signed else self.hash
        return bool(pc.any(pc.equal(column, pa.scalar(wanted, column.type))).as_py())


@dataclass(frozen=True)
class Mentions:
    """Files that name a user for certain, and files in which the user's number stands, whatever it numbers there."""

    certain: tuple[Path, ...]
    number: tuple[Path, ...]


def mentions(files: Iterable[Path], name: Name) -> Mentions:
    """Search files: Parquet and Arrow files as tables, all others byte by byte."""
    certain, number = [], []
    for file in files:
        by_hash, by_id = _in_file(file, name)
        if by_hash or (by_id and not name.is_number):
            certain.append(file)
        elif by_id:
            number.append(file)
    return Mentions(tuple(certain), tuple(number))


def files_of(folder: Path) -> Iterator[Path]:
    """Every file under a folder, in the order of names."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def texts_of(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as texts; lists and structs as Python writes them."""
    if pa.types.is_nested(column.type):
        return pa.chunked_array([pa.array([str(value) for value in column.to_pylist()], pa.large_string())])
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return pa.chunked_array([pa.nulls(len(column), pa.large_string())])
    return column.cast(pa.large_string())


def _alone(spelling: bytes, part: bytes) -> "re.Pattern[bytes]":
    """What finds a word that is not part of a longer one; the word comes first, as that is quick to look for."""
    word = re.escape(spelling)
    return re.compile(word + rb"(?<!" + part + word + rb")(?!" + part + rb")")


def _in_file(file: Path, name: Name) -> tuple[bool, bool]:
    try:
        if file.suffix == ".parquet":
            return name.in_table(pq.ParquetFile(file).read())
        if file.suffix == ".arrow":
            with pa.memory_map(str(file)) as source:
                return name.in_table(pa.ipc.open_file(source).read_all())
    except pa.ArrowException:
        pass  # not what its name says: then byte by byte
    if not file.stat().st_size:
        return False, False
    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        # Orders, sessions and devices are stored as hashes of their own ids, which may be spelt like a user's.
        return name.in_bytes(data, hashed=file.name not in c.HASHED)
