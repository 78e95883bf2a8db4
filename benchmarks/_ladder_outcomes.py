"""What became of users after a contact: seen again, bought, bought twice; what they spent; and how sure that is."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks._ladder_log import Log, Shop
from features.events import columns as c
from features.timeline import Array, Timeline
from models.playbook import RETURNS
from training.metrics import Interval

WITHIN = 30  # days, and a shorter time in which less comes back by itself:
SOON = 7
OUTCOMES = ("opened", "bought", "two or more orders")
COST_SHARE = 0.6  # of an item's price, as the simulated shop's items have it
RESAMPLES = 2_000


def _timelines(shop: Shop, log: Log | None) -> Iterator[tuple[Array, Timeline]]:
    """Places of users and their timelines; whom a log changed comes last."""
    for timeline in shop.base:
        yield np.array([shop.place[user] for user in timeline.user_ids.to_pylist()], np.int64), timeline
    if log is not None and log.touched:
        yield np.array(log.touched), log.timeline()


def _owner(timeline: Timeline, chosen: Array) -> Array:
    return np.repeat(np.arange(len(timeline)), np.diff(timeline.offsets))[chosen]


def outcomes(shop: Shop, log: Log | None, since: Array, within: int = WITHIN) -> Array:
    """bool[users, OUTCOMES]: within so many days from an instant (µs) a user; nothing where it is `c.NEVER`."""
    out = np.zeros((len(shop.ids), len(OUTCOMES)), bool)
    until = np.where(since == c.NEVER, since, since + within * c.DAY)
    for place, timeline in _timelines(shop, log):
        ts, kind = timeline.columns[c.TS], timeline.columns[c.KIND]
        owner = np.repeat(place, np.diff(timeline.offsets))
        rows = np.flatnonzero((ts >= since[owner]) & (ts < until[owner]))
        kinds = np.array([text in RETURNS for text in timeline.facts.kinds])
        seen = np.bincount(owner[rows][kinds[kind[rows]]], minlength=len(out))
        paid = rows[kind[rows] == timeline.facts.kinds.index("purchase")]
        orders = np.unique(np.stack([owner[paid].astype(np.uint64), timeline.columns[c.ORDER_ID][paid]]), axis=1)
        bought = np.bincount(orders[0].astype(np.int64), minlength=len(out))
        out[place] = np.stack([seen > 0, bought > 0, bought > 1], axis=1)[place]
    return out


def profits(shop: Shop, log: Log | None) -> Array:
    """Currency units a user from the policies' first moment to the end of the log: what was paid, less what the goods
    cost and what the contacts did. Refunds are left out."""
    out, begin = np.zeros(len(shop.ids)), shop.at(0)
    for place, timeline in _timelines(shop, log):
        rows = np.flatnonzero(
            (timeline.columns[c.KIND] == timeline.facts.kinds.index("purchase")) & (timeline.columns[c.TS] >= begin)
        )
        amount, price, quantity = (timeline.column(name)[rows] for name in (c.AMOUNT, c.PRICE, c.QUANTITY))
        earned = amount / c.MONEY - COST_SHARE * price / c.MONEY * quantity / c.MONEY
        out[place] = np.bincount(_owner(timeline, rows), earned, minlength=len(timeline))
    for contact in log.contacts if log is not None else ():
        out[contact.user] -= contact.cost
    return out


@dataclass(frozen=True)
class Share:
    """Of so many users, so many."""

    hits: int
    users: int

    @classmethod
    def of(cls, values: Array) -> "Share":
        return cls(int(values.sum()), int(values.size))

    def __add__(self, other: "Share") -> "Share":
        return Share(self.hits + other.hits, self.users + other.users)

    @property
    def value(self) -> float:
        return self.hits / self.users if self.users else float("nan")


def ratio(treated: Share, control: Share, seed: int = 0) -> Interval:
    """Rate of the treated over the control's, with the bootstrap's interval over users of either group."""
    rng = np.random.default_rng(seed)
    drawn = [
        rng.binomial(max(s.users, 1), np.nan_to_num(s.value), RESAMPLES) / max(s.users, 1) for s in (treated, control)
    ]
    return _interval(treated.value, control.value, *drawn)


def paired_ratio(both: Array, seed: int = 0) -> Interval:
    """The same of users who live twice. `both`: users by what they did [with contacts, without], int64[2, 2]."""
    total = both.sum()
    if not total:
        return Interval(*[float("nan")] * 3)
    drawn = np.random.default_rng(seed).multinomial(total, both.ravel() / total, RESAMPLES) / total
    return _interval(
        both[1].sum() / total, both[:, 1].sum() / total, drawn[:, 2] + drawn[:, 3], drawn[:, 1] + drawn[:, 3]
    )


def _interval(one: float, other: float, ones: Array, others: Array) -> Interval:
    if not other > 0:
        return Interval(*[float("nan")] * 3)
    kept = others > 0
    low, high = np.quantile(ones[kept] / others[kept], [0.025, 0.975])
    return Interval(one / other, float(low), float(high))


def mean(values: Array, seed: int = 0) -> Interval:
    """A mean over users with its bootstrap interval."""
    rng = np.random.default_rng(seed)
    drawn = [values[rng.integers(0, values.size, values.size)].mean() for _ in range(RESAMPLES // 2)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def pooled(shares: Iterable[Share]) -> Share:
    """Of several shops together."""
    return sum(shares, Share(0, 0))
