"""What a user did in a month or a year, and how that changed against the period before."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from features.audience.directory import Directory
from features.audience.persona_past import HOURS, Bought, Past
from features.events import columns as c
from features.timeline import Array, Facts

MOST_MONTHS = 120  # no more months than this, the newest
Unit = Literal["M", "Y"]


@dataclass(frozen=True)
class Seen:
    """What can be told at a moment, as the log had such events or columns before it; else it is None, not 0."""

    as_of: int
    begins: int  # µs: the log's first purchase, else its first event
    amount: bool
    discount: bool
    view: bool
    coupon: bool
    refund: bool
    category: bool

    @classmethod
    def of(cls, facts: Facts, as_of: int) -> "Seen":
        begins = facts.kinds_known.get("purchase", c.NEVER)
        bought = facts.kind_observed("purchase", as_of)
        return cls(
            as_of,
            begins if begins < as_of else min(facts.kinds_known.values(), default=c.NEVER),
            amount=bought and facts.column_observed(c.AMOUNT, as_of),
            discount=bought and facts.column_observed(c.DISCOUNT, as_of),
            view=facts.kind_observed("view", as_of),
            coupon=facts.kind_observed("coupon_used", as_of),
            refund=facts.kind_observed("refund", as_of),
            category=facts.column_observed(c.CATEGORY, as_of),
        )


@dataclass(frozen=True)
class Favourite:
    """An item and the number of orders that had it."""

    item_id: str
    name: str
    times: int


@dataclass(frozen=True)
class Change:
    """Difference to the period before; of a period that still goes on, to as much of the period before.

    Attributes:
        share: of spend, relative to the spend before; None where that was 0 or is not known.
    """

    orders: int
    spend: float | None
    share: float | None


@dataclass(frozen=True)
class Report:
    """A user's month or year (UTC); None where the log does not tell.

    Attributes:
        period: "2017-11" or "2017".
        complete: it ended at or before the moment.
        orders: orders that began in it.
        items: different items bought.
        spend, saved: currency units paid, and discounts on what was bought.
        categories: bought from.
        new_categories: those never bought from before, in the order of the first purchase.
        favourite_category: on which most was spent.
        busiest_hour: 0 to 23 (UTC).
        change: None in the first period of the user or of the log.
    """

    period: str
    complete: bool
    orders: int
    items: int
    spend: float | None
    saved: float | None
    coupons_used: int | None
    views: int | None
    active_days: int
    categories: int | None
    new_categories: tuple[str, ...]
    favourite_category: str | None
    most_bought: Favourite | None
    busiest_hour: int | None
    change: Change | None


def reports(past: Past, seen: Seen, directory: Directory, unit: Unit) -> tuple[Report, ...]:
    """Of each month or year from the user's first act to the moment, oldest first; no months without any act at all."""
    if not past.made.size:
        return ()
    first, last = (np.datetime64(int(ts), "us").astype(f"datetime64[{unit}]") for ts in (past.made[0], seen.as_of - 1))
    starts = np.arange(first, last + 2)[-MOST_MONTHS - 1 :]
    edges = starts.astype("datetime64[us]").astype(np.int64).tolist()
    parts = [past.between(start, min(stop, seen.as_of)) for start, stop in pairwise(edges)]
    out = []
    for place, part in enumerate(parts):
        complete, change = edges[place + 1] <= seen.as_of, None
        if place and seen.begins < edges[place - 1] + c.DAY:
            as_long = edges[place - 1] + seen.as_of - edges[place]  # a month of 31 days may have begun after one of 30
            before = past.between(edges[place - 1], edges[place] if complete else min(as_long, edges[place]))
            change = _change(part, before, seen)
        out.append(_report(str(starts[place]), complete, part, change, seen, directory))
    return tuple(out)


def _report(period: str, complete: bool, part: Past, change: Change | None, seen: Seen, directory: Directory) -> Report:
    bought, categories = part.bought, directory.texts(c.CATEGORY)
    known = bought.category[bought.category >= 0]
    favourites = ranked(bought.category, bought.amount, categories)
    return Report(
        period=period,
        complete=complete,
        orders=int(bought.begins.sum()),
        items=np.unique(bought.item[bought.item >= 0]).size,
        spend=money(bought.amount) if seen.amount else None,
        saved=money(bought.discount) if seen.discount else None,
        coupons_used=part.coupons.size if seen.coupon else None,
        views=part.viewed.size if seen.view else None,
        active_days=part.days.size,
        categories=np.unique(known).size if seen.category else None,
        new_categories=tuple(name for _, name in first_bought(bought, directory)),
        favourite_category=favourites[0][0] if favourites else None,
        most_bought=most_bought(bought, directory),
        busiest_hour=busiest_hour(part),
        change=change,
    )


def _change(part: Past, before: Past, seen: Seen) -> Change:
    orders = int(part.bought.begins.sum()) - int(before.bought.begins.sum())
    if not seen.amount:
        return Change(orders, None, None)
    now, then = int(part.bought.amount.sum()), int(before.bought.amount.sum())
    return Change(orders, (now - then) / c.MONEY, (now - then) / then if then else None)


def money(stored: Array) -> float:
    """Currency units of a sum of stored amounts; exact until here."""
    return int(stored.sum()) / c.MONEY


def ranked(codes: Array, weights: Array, texts: Sequence[str]) -> list[tuple[str, int]]:
    """Texts of codes with the sum of their weights, the largest first, equal ones by text; none of weight 0."""
    rows = codes >= 0
    found, place = np.unique(codes[rows], return_inverse=True)
    sums = np.zeros(found.size, np.int64)
    np.add.at(sums, place, weights[rows])
    named = [(texts[code], total) for code, total in zip(found.tolist(), sums.tolist(), strict=True) if total > 0]
    return sorted(named, key=lambda pair: (-pair[1], pair[0]))


def first_bought(bought: Bought, directory: Directory) -> list[tuple[int, str]]:
    """When (µs) each new category was first bought, oldest first, those of one instant by name."""
    categories = directory.texts(c.CATEGORY)
    firsts = zip(bought.ts[bought.new].tolist(), bought.category[bought.new].tolist(), strict=True)
    return sorted((ts, categories[code]) for ts, code in firsts)


def most_bought(bought: Bought, directory: Directory) -> Favourite | None:
    """The item in most orders; of equals, that with more spent on it, then the first id."""
    rows = bought.begins_item & (bought.item >= 0)
    if not rows.any():
        return None
    found, times = np.unique(bought.item[rows], return_counts=True)
    best = found[times == times.max()]
    ids = directory.texts(c.ITEM_ID)
    item = min(best.tolist(), key=lambda code: (-int(bought.amount[bought.item == code].sum()), ids[code]))
    return Favourite(ids[item], directory.item_names[item], int(times.max()))


def busiest_hour(part: Past) -> int | None:
    """The hour of the day (UTC) of most days; of equals, the earliest."""
    hours = part.hours
    return int(np.bincount(hours % HOURS, minlength=HOURS).argmax()) if hours.size else None
