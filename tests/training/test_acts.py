"""From a store's rows to acts, catalogue and attributes at a moment."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.errors import UserError
from features.events.store import Store
from models.recommender import DAY_US
from models.recommender.history import ACTS
from tests.features.support import at, ingest_frame, stamps
from training.acts import all_acts, later_in, shop_at

AS_OF = at("2024-03-01")


def row(user: str, kind: str, item: str | None, days: float, **more: Any) -> dict[str, Any]:
    return {"user_id": user, "kind": kind, "item_id": item, "days": days, **more}


ROWS: list[dict[str, Any]] = [
    row("ann", "purchase", "pear", 9, price=4.0, quantity=3, order_id="o1"),
    row("ann", "purchase", "fig", 9, amount=6.0, quantity=4, order_id="o1"),
    row("ann", "purchase", "pear", 5, price=2.5, order_id="o2"),
    row("bob", "purchase", "pear", 5, price=3.0),
    row("bob", "view", "apple", 4),
    row("bob", "not_interested", "fig", 3),
    row("bob", "message_sent", None, 3),
    row("bob", "login", None, 3),
    row("cid", "cart", "plum", 2),
    row("ann", "purchase", "pear", 0, price=9.0),  # at the moment
    row("dan", "purchase", "kiwi", -1, price=9.0),
]


def stored(folder: Path, items: pd.DataFrame | None = None) -> Store:
    log = pd.DataFrame(ROWS)
    log["ts"] = stamps(np.array([AS_OF - round(days * DAY_US) for days in log.pop("days")]))
    store = ingest_frame(log, folder / "store", items=items).store
    assert store is not None
    return store


def told(store: Store, as_of: int = AS_OF) -> list[Mapping[str, Any]]:
    acts, texts = all_acts(store, as_of)
    return [
        {"user": acts.user_ids[user], "item": texts[item], "kind": ACTS[kind], "price": price, "quantity": quantity}
        for user, item, kind, price, quantity in zip(
            acts.users.tolist(), acts.item.tolist(), acts.kind.tolist(), acts.price.tolist(), acts.quantity, strict=True
        )
    ]


def test_acts_are_the_rows_on_items_that_tell_of_a_liking_or_not(tmp_path: Path) -> None:
    found = told(stored(tmp_path))
    assert len(found) == 7
    assert sorted((a["user"], a["kind"], a["item"]) for a in found) == sorted(
        (r["user_id"], r["kind"], r["item_id"]) for r in ROWS if r["days"] > 0 and r["item_id"]
    )
    by_price = {(a["user"], a["item"], a["price"]): a["quantity"] for a in found if a["kind"] == "purchase"}
    assert by_price == {
        ("ann", "pear", 4.0): 3,
        ("ann", "pear", 2.5): 1,
        ("ann", "fig", 1.5): 4,
        ("bob", "pear", 3.0): 1,
    }


def test_an_order_is_one_order_whatever_its_lines(tmp_path: Path) -> None:
    acts, _ = all_acts(stored(tmp_path), AS_OF)
    ann = acts.some([list(acts.user_ids).index("ann")])
    assert len(set(ann.order.tolist())) == 2


def test_the_shop_is_what_was_touched_before_the_moment(tmp_path: Path) -> None:
    store = stored(tmp_path)
    acts, texts = all_acts(store, AS_OF + 2 * DAY_US)
    shop, past = shop_at(store, acts, texts, AS_OF)
    assert shop.catalogue.ids == ("apple", "fig", "pear", "plum")
    assert shop.attributes.price.tolist() == pytest.approx(
        [np.nan, 1.5, 3.0, np.nan], nan_ok=True
    )  # the dearest of an instant
    assert past.ts.max() < AS_OF
    assert len(past.item) == 7
    early, _ = shop_at(store, acts, texts, AS_OF - 6 * DAY_US)
    assert early.catalogue.ids == ("fig", "pear")
    assert early.attributes.price.tolist() == [1.5, 4.0]
    later = later_in(acts, shop, texts)
    assert [shop.catalogue.ids[code] for code in later.only(later.ts >= AS_OF).item] == ["pear"]  # kiwi is not known


def test_the_items_table_tells_the_rest(tmp_path: Path) -> None:
    items = pd.DataFrame(
        [
            {
                "item_id": "pear",
                "category": "food > fruit",
                "brand": "acme",
                "name": "Pear",
                "price": 99.0,
                "in_stock": True,
            },
            {
                "item_id": "apple",
                "category": "food > fruit",
                "brand": None,
                "name": None,
                "price": 4.0,
                "in_stock": False,
            },
            {"item_id": "plum", "category": None, "brand": "bolt", "name": "Plum", "price": None, "in_stock": None},
            {"item_id": "nobody", "category": "air", "brand": "void", "name": "Nobody", "price": 1.0, "in_stock": True},
        ]
    )
    store = stored(tmp_path, items)
    acts, texts = all_acts(store, AS_OF)
    shop, _ = shop_at(store, acts, texts, AS_OF)
    known = shop.attributes
    assert shop.catalogue.ids == ("apple", "fig", "pear", "plum")
    assert (known.categories, known.category.tolist()) == (("food > fruit",), [0, -1, 0, -1])
    assert (known.brands, known.brand.tolist()) == (("acme", "bolt"), [-1, -1, 0, 1])
    assert known.names == ("", "", "Pear", "Plum")
    assert known.in_stock.tolist() == [False, True, True, True]
    assert known.price.tolist() == pytest.approx([4.0, 1.5, 3.0, np.nan], nan_ok=True)  # what was paid goes before
    assert [shop.called(item) for item in range(4)] == ["apple", "fig", "Pear", "Plum"]


def test_without_a_purchase_there_is_no_shop(tmp_path: Path) -> None:
    store = stored(tmp_path)
    acts, texts = all_acts(store, AS_OF)
    with pytest.raises(UserError, match="no purchase of a known item before 2024-02-01"):
        shop_at(store, acts, texts, at("2024-02-01"))
