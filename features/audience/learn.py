"""What is learned from a shop about its customers' rhythm and worth, once, and then frozen.

Stages and segments take their borders from here, so that who a user is never depends on who else is asked about.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc

from features.events import columns as c
from features.events.store import CHUNK_ROWS, Store
from features.timeline import Array, Moment, Timeline

WINDOW_DAYS: Final = 365  # of orders and spend in RFM: a whole year of seasons; older glory does not count
MOST_ORDERS: Final = 12  # orders up to which it is learned who comes again
LEAST_REPEATERS: Final = 50  # customers with purchases on two days, and
LEAST_DAYS: Final = 60  # days of log, from which on gaps are learned
PERCENTS: Final = tuple(range(1, 100))
WITHIN_DAYS: Final = (7, 14, 21, 30, 45, 60, 75, 90, 120, 150, 180, 240, 300, 365, 545, 730)


@dataclass(frozen=True)
class Learned:
    """Facts about a shop's customers at a moment. An order is a distinct order id; days are UTC dates.

    Attributes:
        as_of: µs; nothing at or after it was read.
        days: from the first event to the moment.
        users: with an event, anonymous devices aside.
        customers: those of them who bought.
        repeaters: customers with purchases on at least two days.
        gap_days: days between purchases of those who buy again: the 1st to the 99th percentile, each customer's gaps
            weighing 1 together; empty where nobody bought again.
        reached: customers with at least 1, 2 … `MOST_ORDERS` orders.
        again: for each of these, the share that buys on a later day within `WITHIN_DAYS`.
        recency_days, orders, spend: cuts of customers into fifths; orders and spend of the last `WINDOW_DAYS`.
        value: cuts of customers into tenths by spend so far; all cuts are empty where nobody bought.
    """

    as_of: int
    days: float
    users: int
    customers: int
    repeaters: int
    gap_days: tuple[float, ...]
    reached: tuple[int, ...]
    again: tuple[tuple[float, ...], ...]
    recency_days: tuple[float, ...]
    orders: tuple[float, ...]
    spend: tuple[float, ...]
    value: tuple[float, ...]

    @property
    def wanting(self) -> str | None:
        """Why gaps tell too little to draw borders from, None where they tell enough."""
        if self.days < LEAST_DAYS:
            return f"the log has {self.days:.0f} days before the moment, {LEAST_DAYS} are needed"
        if self.repeaters < LEAST_REPEATERS:
            return f"{self.repeaters} customers bought on two days, {LEAST_REPEATERS} are needed"
        return None

    def gap_quantile(self, share: float) -> float:
        """Days within which this share (0.01 to 0.99) of those who buy again have done so."""
        return float(np.interp(100 * share, PERCENTS, self.gap_days))

    def again_within(self, orders: int, days: float) -> float:
        """Share of customers with so many orders who buy again within so many days (linear between those kept)."""
        return float(np.interp(days, (0, *WITHIN_DAYS), (0.0, *self.again[orders - 1])))

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Learned":
        """What `to_json` wrote.

        Raises:
            ValueError, TypeError: it is something else.
        """
        given = json.loads(text)
        lists = {name: _tuples(value) for name, value in given.items() if isinstance(value, list)}
        return cls(**{**given, **lists})

    @classmethod
    def of(cls, as_of: int, pasts: "list[Pasts]") -> "Learned":
        """The facts of all users' pasts, in whatever order and parts they come."""
        gaps, weights, ended = (_joined([getattr(p, name) for p in pasts]) for name in ("gaps", "weights", "ended"))
        waits, waited, reached = (_joined([getattr(p, n) for p in pasts]) for n in ("waits", "waited", "reached"))
        orders = range(1, MOST_ORDERS + 1)
        recency, bought, spend, value = (_joined([p.customers[row] for p in pasts]) for row in range(4))
        again = [_share_within(waits[reached == n], waited[reached == n]) for n in orders]
        return cls(
            as_of=as_of,
            days=(as_of - min([as_of, *(past.first for past in pasts)])) / c.DAY,
            users=sum(past.users for past in pasts),
            customers=recency.size,
            repeaters=sum(past.repeaters for past in pasts),
            gap_days=_gap_percentiles(gaps, weights, ended),
            reached=tuple(int((reached == n).sum()) for n in orders),
            again=tuple(again),
            recency_days=_cuts(recency, 5),
            orders=_cuts(bought, 5),
            spend=_cuts(spend, 5),
            value=_cuts(value, 10),
        )


@dataclass(frozen=True)
class Pasts:
    """What some users' pasts add to what is learned; days.

    Attributes:
        first: µs of the first event known.
        gaps, weights, ended: gaps between purchase days, for `survival`.
        waits, waited, reached: from the day on which a number of orders was reached to the next purchase day (waited
            for until it came) or to the moment; one row for every customer and number.
        customers: float64[4, customers]: days since the last purchase, orders and spend of the window, spend so far.
    """

    first: int
    users: int
    repeaters: int
    gaps: Array
    weights: Array
    ended: Array
    waits: Array
    waited: Array
    reached: Array
    customers: Array

    @classmethod
    def of(cls, timeline: Timeline, as_of: int) -> "Pasts":
        """Of all users of a timeline; anonymous devices are left out, whose purchases a login gives to a user."""
        moment = timeline.as_of([as_of])[0]
        known, named = timeline.known_before(as_of), ~anonymous(timeline)
        user, day, orders = purchase_days(known, as_of)
        chosen = named[user]
        user, day, orders = user[chosen], day[chosen], orders[chosen]
        days = np.bincount(user, minlength=len(timeline))
        last = np.append(np.diff(user) != 0, True)[: user.size]
        following = np.append(day[1:], 0)
        wait = np.where(last, as_of / c.DAY - day, following - day)
        # Wang and Chang's weights: a customer's last, open gap counts only where there is no other.
        counted = ~last | (days[user] == 1)
        weights = 1.0 / np.maximum(days[user] - 1, 1)
        at, number = _reaching(user, orders)
        bought = named & (np.nan_to_num(moment.count("purchase")) > 0)
        return cls(
            first=int(known.columns[c.TS].min(initial=as_of)),
            users=int((named & moment.present).sum()),
            repeaters=int((days > 1).sum()),
            gaps=wait[counted],
            weights=weights[counted],
            ended=~last[counted],
            waits=wait[at],
            waited=~last[at],
            reached=number,
            customers=np.stack([row[bought] for row in (moment.days_since("purchase"), *worth(moment))]),
        )


def learn(store: Store, as_of: int, progress: Callable[[float], None] | None = None) -> Learned:
    """The facts of a store as known at a moment (µs), bucket by bucket; `progress` is told the share done."""
    chunks = store.chunks(CHUNK_ROWS)
    pasts = []
    for done, chunk in enumerate(chunks):
        pasts.append(Pasts.of(store.timeline(chunk), as_of))
        if progress:
            progress((done + 1) / len(chunks))
    return Learned.of(as_of, pasts)


def anonymous(timeline: Timeline) -> Array:
    """bool[users]: a device whose user is not known."""
    out: Array = pc.starts_with(timeline.user_ids, c.ANONYMOUS).to_numpy(zero_copy_only=False)
    return out.astype(bool)


def worth(moment: Moment) -> tuple[Array, Array, Array]:
    """Orders and spend of the last `WINDOW_DAYS`, and spend so far; 0 where nothing is known."""
    window = moment.distinct(c.ORDER_ID, "purchase", WINDOW_DAYS), moment.total(c.AMOUNT, "purchase", WINDOW_DAYS)
    return np.nan_to_num(window[0]), np.nan_to_num(window[1]), np.nan_to_num(moment.total(c.AMOUNT, "purchase"))


def purchase_days(known: Timeline, as_of: int) -> tuple[Array, Array, Array]:
    """Every user's dates with a purchase before a moment: user, days since 1970, orders begun up to its end.

    Orders of one date are one occasion: invoices are split, carts paid twice. A purchase without an order id is an
    order.
    """
    stream, order = known.stream("purchase"), known.values("purchase", c.ORDER_ID)
    user = np.repeat(np.arange(len(known)), np.diff(stream.offsets))
    before = stream.ts < as_of
    user, ts, order = user[before], stream.ts[before], order[before]
    by_order = np.lexsort((order, user))  # stable: of an order's rows the earliest comes first
    again = (np.diff(order[by_order]) == 0) & (np.diff(user[by_order]) == 0) & (order[by_order][1:] != 0)
    begins = np.ones(user.size, bool)
    begins[by_order[1:][again]] = False
    begun = np.append(0, np.cumsum(begins))
    new = np.append(True, (np.diff(ts // c.DAY) != 0) | (np.diff(user) != 0))[: user.size]
    first = np.flatnonzero(new)
    stop = np.append(first, user.size)[1:]
    base = begun[np.searchsorted(user, user[first])]
    return user[first], (ts // c.DAY)[first], begun[stop] - base


def survival(times: Array, weights: Array, ended: Array) -> tuple[Array, Array]:
    """Kaplan and Meier's product limit with weights: distinct times of ends, ascending, and the share outlasting each.

    With a customer's complete gaps weighted to 1, and an open one only where there is no complete one, this is Wang
    and Chang's estimator for recurrent events (JASA 94, 1999). The order of rows changes no bit of the answer.
    """
    order = np.lexsort((weights, ended, times))
    times, weights, ended = times[order], weights[order], ended[order]
    at_risk = np.cumsum(weights[::-1])[::-1]
    points, first = np.unique(times, return_index=True)
    ends = np.add.reduceat(np.where(ended, weights, 0.0), first) if times.size else np.empty(0)
    left = np.cumprod(1.0 - np.minimum(ends / at_risk[first], 1.0))
    some = ends > 0
    return points[some], left[some]


def _reaching(user: Array, orders: Array) -> tuple[Array, Array]:
    """Rows of `purchase_days` at which a number of orders was reached, and the number; a row for each that it was."""
    before = np.where(np.append(True, np.diff(user) != 0)[: user.size], 0, np.append(0, orders[:-1])[: user.size])
    upto = np.minimum(orders, MOST_ORDERS)
    times = np.maximum(upto - before, 0)
    at = np.repeat(np.arange(user.size), times)
    within = np.arange(at.size) - np.repeat(np.cumsum(times) - times, times)
    return at, before[at] + within + 1


def _gap_percentiles(gaps: Array, weights: Array, ended: Array) -> tuple[float, ...]:
    points, left = survival(gaps, weights, ended)
    if not points.size:
        return ()
    done = (1.0 - left) / (1.0 - left[-1])  # of those who buy again within the longest gap seen
    return tuple(float(points[np.searchsorted(done, percent / 100)]) for percent in PERCENTS)


def _share_within(waits: Array, ended: Array) -> tuple[float, ...]:
    points, left = survival(waits, np.ones(waits.size), ended)
    share = np.append(0.0, 1.0 - left)
    return tuple(float(share[np.searchsorted(points, days, side="right")]) for days in WITHIN_DAYS)


def _cuts(values: Array, parts: int) -> tuple[float, ...]:
    """Values below or at which 1/parts, 2/parts … of all lie."""
    if not values.size:
        return ()
    shares = np.arange(1, parts) / parts
    return tuple(float(cut) for cut in np.quantile(values, shares, method="inverted_cdf"))


def _joined(parts: list[Array]) -> Array:
    return np.concatenate(parts) if parts else np.empty(0)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
