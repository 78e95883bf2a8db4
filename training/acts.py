"""From a store to what the recommender learns from: all acts on items, and the shop as it was at a moment."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.errors import UserError
from features.events import columns as c
from features.events.store import Store
from models.recommender import Attributes, Catalogue, History, Shop
from models.recommender.history import PURCHASE, joined
from training.backtest import show


def all_acts(store: Store, as_of: int) -> tuple[History, list[str]]:
    """The acts of all users that are known before a moment (µs), in the store's item codes; and those items' ids."""
    texts = store.words[c.ITEM_ID].texts
    same = np.arange(len(texts), dtype=np.int32)
    parts = [History.of_timeline(timeline, as_of, same) for timeline in store.timelines()]
    return joined(parts), texts


def shop_at(store: Store, acts: History, texts: list[str], as_of: int) -> tuple[Shop, History]:
    """The shop's items that anyone had touched before a moment (µs), and those acts in its codes.

    Raises:
        UserError: nothing was bought.
    """
    past = acts.before(as_of)
    if not (past.kind == PURCHASE).any():
        raise UserError(f"no purchase of a known item before {show(as_of)}: do the events have an item_id?")
    touched = np.unique(past.item)
    catalogue = Catalogue.of([texts[code] for code in touched])
    codes = np.full(len(texts), -1, np.int32)
    codes[touched] = catalogue.codes([texts[code] for code in touched])
    known = attributes_of(store, catalogue)
    priced = replace(known, price=_paid(past, codes, known.price))
    return Shop(catalogue, priced), _in_codes(past, codes)


def _in_codes(acts: History, codes: NDArray[np.int32]) -> History:
    """The acts in the codes of a catalogue, which may order items otherwise."""
    user = acts.users
    return History.of(acts.user_ids, user, codes[acts.item], acts.kind, acts.ts, acts.order, acts.price, acts.quantity)


def later_in(acts: History, shop: Shop, texts: list[str]) -> History:
    """All acts, past and to come, on a shop's items, in its codes."""
    return _in_codes(acts, shop.catalogue.codes(texts))


def attributes_of(store: Store, catalogue: Catalogue) -> Attributes:
    """What the items table says of a catalogue's items."""
    table = store.table("items")
    size = len(catalogue)
    none = Attributes.unknown(size)
    if table is None:
        return none
    code = catalogue.codes(table["item_id"].cast(pa.string()).to_pylist())
    rows = np.flatnonzero(code >= 0)
    place = code[rows]
    table = table.take(pa.array(rows))
    names, in_stock, price = np.full(size, "", object), none.in_stock, none.price
    if "name" in table.column_names:
        names[place] = pc.fill_null(table["name"].cast(pa.string()), "").to_pylist()
    if "in_stock" in table.column_names:
        in_stock[place] = pc.fill_null(table["in_stock"].cast(pa.bool_()), True).to_numpy()
    if "price" in table.column_names:
        price[place] = pc.fill_null(table["price"].cast(pa.float64()), np.nan).to_numpy()
    categories, category = _coded(table, "category", place, size)
    brands, brand = _coded(table, "brand", place, size)
    return Attributes(categories, category, brands, brand, price, in_stock, tuple(names.tolist()))


def _coded(
    table: pa.Table, name: str, place: NDArray[np.int32], size: int
) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """The distinct texts of a column, sorted, and each item's code of them; -1 for none."""
    out = np.full(size, -1, np.int32)
    if name not in table.column_names:
        return (), out
    texts = table[name].cast(pa.string()).to_pylist()
    known = sorted({text for text in texts if text})
    code = {text: number for number, text in enumerate(known)}
    out[place] = [code.get(text, -1) for text in texts]
    return tuple(known), out


def _paid(past: History, codes: NDArray[np.int32], price: NDArray[np.float64]) -> NDArray[np.float64]:
    """The newest unit price paid for each item, the dearest of several at that instant; else the price given."""
    rows = np.flatnonzero((past.kind == PURCHASE) & (past.price > 0))
    order = np.lexsort((past.price[rows], past.ts[rows]))
    out = price.copy()
    out[codes[past.item[rows][order]]] = past.price[rows][order]
    return out
