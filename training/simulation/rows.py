"""Events as columns, gathered part by part into one Arrow table."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.events import columns as c

Array = npt.NDArray[Any]

CHANNELS = ("app", "web", "mini program", "email", "push", "sms", "search ad", "social", "note")
ADVERTS = 3  # the last so many channels lie outside the shop
PAGES = ("home", "list", "detail", "search", "natural", "soft", "experience", "other")
KIND_CODES = {kind: code for code, kind in enumerate(c.KINDS)}
_TEXT, _WHOLE, _NUMBER = pa.string(), pa.int64(), pa.float64()
# The columns of the log. While they are gathered, -1 stands for none.
COLUMNS: dict[str, pa.DataType] = {
    c.USER_ID: _TEXT,
    c.TS: pa.timestamp("us"),
    c.KIND: _TEXT,
    c.ITEM_ID: _TEXT,
    c.CATEGORY: _TEXT,
    c.PRICE: _NUMBER,
    c.QUANTITY: _WHOLE,
    c.AMOUNT: _NUMBER,
    c.DISCOUNT: _NUMBER,
    c.ORDER_ID: _WHOLE,
    c.SESSION_ID: _WHOLE,
    c.DWELL: _NUMBER,
    "channel": _TEXT,
    c.DEVICE_ID: _TEXT,
    "page": _TEXT,
    c.SEARCH_RESULTS: _WHOLE,
    "campaign_id": _TEXT,
    "arm": _TEXT,
    c.ARRIVED_AT: pa.timestamp("us"),
}
SCHEMA = pa.schema(list(COLUMNS.items()))


class Rows:
    """Parts of a table of events: `owner` is whose life a row belongs to, be she logged in or not; times in µs since
    the log began, texts as codes, -1 for none."""

    def __init__(self) -> None:
        self.parts: list[dict[str, Any]] = []

    def add(self, kind: str, owner: Array, ts: Array, **columns: Any) -> None:
        """Events of one kind."""
        self.parts.append({"owner": owner, c.TS: ts, c.KIND: KIND_CODES[kind], c.USER_ID: owner, **columns})

    def column(self, name: str) -> Array:
        """A column over all parts."""
        dtype = np.float64 if COLUMNS.get(name) == _NUMBER else np.int64
        return np.concatenate([np.broadcast_to(_cast(p.get(name, -1), dtype), p["owner"].shape) for p in self.parts])


def _cast(values: Any, dtype: Any) -> Array:
    return np.asarray(values).astype(dtype, copy=False)


def to_table(columns: dict[str, Array], start: int, texts: dict[str, pa.Array]) -> pa.Table:
    """Columns of the log as a table.

    Args:
        start: µs at which the log begins.
        texts: column → what its codes stand for.
    """
    arrays = []
    for name, kind in COLUMNS.items():
        values = columns[name]
        mask = values == -1
        if name in texts:
            codes = pa.array(values.astype(np.int32), mask=mask)
            arrays.append(pa.DictionaryArray.from_arrays(codes, texts[name]).dictionary_decode())
        else:
            arrays.append(pa.array(values + start if name in c.TIMES else values, kind, mask=mask))
    return pa.Table.from_arrays(arrays, schema=SCHEMA)
