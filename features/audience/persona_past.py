"""One user's known past as arrays in time order, whole or cut to a period: what personas and reports are made of."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from features.audience.directory import Directory
from features.events import columns as c
from features.timeline import Array, Timeline

HOUR = 3_600_000_000  # µs
HOURS, WEEKDAYS = 24, 7
_THURSDAY = 3  # 1970-01-01, counted from Monday


@dataclass(frozen=True)
class Bought:
    """Purchase lines in time order; money and pieces in stored units, 0 where unknown; codes -1 where unknown.

    Attributes:
        begins: bool, the first line of its order; a line without an order is an order of its own.
        begins_item: bool, the first line of its item within its order.
        new: bool, the first line of its category ever.
    """

    ts: Array
    item: Array
    category: Array
    amount: Array
    discount: Array
    quantity: Array
    begins: Array
    begins_item: Array
    new: Array

    def __getitem__(self, rows: slice) -> "Bought":
        return Bought(**{name: values[rows] for name, values in vars(self).items()})


@dataclass(frozen=True)
class Past:
    """What a user did before a moment, as known then; all times in µs, ascending.

    Attributes:
        made: times of everything made by the user.
        viewed, viewed_category: times and category codes of views.
        coupons: times at which a coupon was used.
        refunded: times and amounts of refunds, in stored units.
    """

    bought: Bought
    made: Array
    viewed: Array
    viewed_category: Array
    coupons: Array
    refunded_at: Array
    refunded: Array

    def between(self, start: int, stop: int) -> "Past":
        """The part in `[start, stop)` (µs)."""

        def part(ts: Array) -> slice:
            first, end = np.searchsorted(ts, (start, stop))
            return slice(int(first), int(end))

        views, refunds = part(self.viewed), part(self.refunded_at)
        return Past(
            self.bought[part(self.bought.ts)],
            self.made[part(self.made)],
            self.viewed[views],
            self.viewed_category[views],
            self.coupons[part(self.coupons)],
            self.refunded_at[refunds],
            self.refunded[refunds],
        )

    @property
    def hours(self) -> Array:
        """Hours (since 1970) in which the user did anything, each once.

        What stands exactly at midnight is left out: a log that knows only the day of an event puts it there.
        """
        return np.unique(self.made[self.made % c.DAY != 0] // HOUR)

    @property
    def days(self) -> Array:
        """UTC days (since 1970) on which the user did anything, each once."""
        return np.unique(self.made // c.DAY)


def weekday(days: Array) -> Array:
    """Weekday of days since 1970: 0 Monday … 6 Sunday."""
    return (days + _THURSDAY) % WEEKDAYS


def pasts(known: Timeline, as_of: int, directory: Directory) -> Iterator[Past | None]:
    """Each user's past before a moment; None where nothing is known before it.

    Args:
        known: a timeline without what was late at the moment (`Timeline.known_before`).
    """
    ts, columns = known.columns[c.TS], _columns(known, directory)
    is_kind = _kind_masks(known)
    for start, end in zip(known.offsets[:-1].tolist(), known.offsets[1:].tolist(), strict=True):
        end = start + int(np.searchsorted(ts[start:end], as_of))
        if end == start:
            yield None
            continue
        kind = known.columns[c.KIND][start:end]

        def at(name: str, start: int = start, kind: Array = kind) -> Array:
            return start + np.flatnonzero(is_kind[name][kind])

        bought, views, refunds = at("purchase"), at("view"), at("refund")
        yield Past(
            _bought(bought, ts, columns),
            ts[at(c.MADE)],
            ts[views],
            columns[c.CATEGORY](views),
            ts[at("coupon_used")],
            ts[refunds],
            columns[c.AMOUNT](refunds),
        )


Column = Callable[[Array], Array]  # values at rows


def _columns(known: Timeline, directory: Directory) -> dict[str, Column]:
    """The columns that a past reads; codes without a text, such as a request's new items, count as none."""

    def column(name: str, code_limit: int | None = None) -> Column:
        values = known.column(name)
        if code_limit is None:
            return lambda rows: np.maximum(values[rows].astype(np.int64), 0)
        return lambda rows: np.where(values[rows] < code_limit, values[rows], -1)

    order = known.column(c.ORDER_ID)
    return {
        c.ORDER_ID: lambda rows: order[rows],
        **{name: column(name, len(directory.texts(name))) for name in (c.ITEM_ID, c.CATEGORY)},
        **{name: column(name) for name in (c.AMOUNT, c.DISCOUNT, c.QUANTITY)},
    }


def _kind_masks(known: Timeline) -> dict[str, Array]:
    """Of each kind of interest, bool by kind code."""
    kinds = known.facts.kinds
    masks = {name: np.array([kind == name for kind in kinds]) for name in ("purchase", "view", "refund", "coupon_used")}
    return {**masks, c.MADE: np.array([kind not in c.NOT_BY_USER for kind in kinds])}


def _bought(rows: Array, ts: Array, columns: dict[str, Column]) -> Bought:
    item, category, order = (columns[name](rows) for name in (c.ITEM_ID, c.CATEGORY, c.ORDER_ID))
    alone = order == 0
    return Bought(
        ts[rows],
        item,
        category,
        columns[c.AMOUNT](rows),
        columns[c.DISCOUNT](rows),
        columns[c.QUANTITY](rows),
        begins=first_of(order) | alone,
        begins_item=first_of(order, item) | alone,
        new=first_of(category) & (category >= 0),
    )


def first_of(*keys: Array) -> Array:
    """bool[rows]: the first row of its keys."""
    out = np.zeros(keys[0].size, bool)
    if not out.size:
        return out
    order = np.lexsort(keys)  # stable: within equal keys the rows stay as they are
    changed = [np.diff(key[order].view(np.int64) if key.dtype == np.uint64 else key[order]) != 0 for key in keys]
    out[order[np.append(True, np.logical_or.reduce(changed))]] = True
    return out
