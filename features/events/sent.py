"""Events that come with a request: encoded as at ingest, but into words that are forgotten with the request."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from features.events import columns as c
from features.events.intake import Columns, MoreWords, Words, encode
from features.events.segments import sorted_partition


@dataclass(frozen=True)
class Sent:
    """Encoded events of a request, with the hash of their `user` and their identity `key`.

    Attributes:
        kinds: kind by code, the store's and then what is new.
        new: texts of each coded column that the store does not know, by code from the size of its words on.
    """

    columns: Columns
    kinds: tuple[str, ...]
    new: Mapping[str, tuple[str, ...]]

    @property
    def new_items(self) -> tuple[str, ...]:
        """Item ids that the store does not know."""
        return self.new[c.ITEM_ID]


def encode_sent(rows: Sequence[Mapping[str, Any]], words: Mapping[str, Words]) -> Sent:
    """Encode valid events, each a mapping of contract columns; times in µs, numbers in the contract's units."""
    own = {name: MoreWords(known) for name, known in words.items()}
    given = [name for name in c.COLUMNS if any(row.get(name) is not None for row in rows)]
    batch = {name: _typed(name, [row.get(name) for row in rows]) for name in given}
    columns = sorted_partition(encode(batch, own)[0])
    kinds = (*words[c.KIND].texts, *own[c.KIND].texts)
    return Sent(columns, kinds, {name: tuple(more.texts) for name, more in own.items()})


def _typed(name: str, values: Sequence[Any]) -> pa.Array:
    if name in c.NUMBERS:
        units = c.NUMBERS[name][0]
        # Half up, as intake rounds; Python's own round would take the even neighbour.
        return pa.array([-1 if v is None else math.floor(v * units + 0.5) for v in values], pa.int64())
    if name in c.TIMES:
        return pa.array([-1 if v is None else v for v in values], pa.int64())
    return pa.array(values, pa.string())
