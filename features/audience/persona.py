"""Persona: what a user likes, pays, and when they come, with a report of each month and year.

Everything is of events known before the moment. An order counts where its first line lies, so that months add up to
years and to the whole. Hours and days are UTC.
"""

from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from features.audience.directory import Directory
from features.audience.persona_past import HOURS, WEEKDAYS, Bought, Past, pasts, weekday
from features.audience.persona_reports import Report, Seen, first_bought, money, ranked, reports
from features.errors import UserError
from features.events import columns as c
from features.timeline import Array, Timeline

TOP = 5  # favourites listed
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANTS = {"as_of", "first_seen", "last_seen", "last_order", "next_expected", "since"}


@dataclass(frozen=True)
class Share:
    """A favourite with its share of all that has such a name."""

    name: str
    share: float


@dataclass(frozen=True)
class PriceBand:
    """Prices paid a piece, currency units: a tenth of the lines were cheaper than `low`, a tenth dearer than `high`."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Rhythm:
    """Mean days between orders, as the signal `order_gap_mean_days` has it, and when the next is due (µs).

    None with orders on fewer than two days.
    """

    last_order: int
    usual_days: float | None
    next_expected: int | None


@dataclass(frozen=True)
class FirstBuy:
    """When (µs) a category was first bought."""

    category: str
    since: int


@dataclass(frozen=True)
class Breadth:
    """Categories bought from, out of all of the shop; when each was first bought, oldest first."""

    bought: int
    of: int
    grew_by: tuple[FirstBuy, ...]


@dataclass(frozen=True)
class Persona:
    """A user at a moment; None where the log does not tell.

    Attributes:
        anonymous: a device without an account.
        first_seen, last_seen: first and last act of the user, µs; None where there are only messages to them.
        items: different items bought.
        spend, saved, refunded: currency units paid, discounts on what was bought, and amounts given back.
        by_spend, by_views, brands: up to five, the largest first; brands by spend.
        weekdays: days with an act, Monday to Sunday.
        hours: int[7][24], the same by hour: each hour of each day counts once.
        months, years: oldest first, with those in which nothing happened.
    """

    user_id: str
    as_of: int
    anonymous: bool
    first_seen: int | None
    last_seen: int | None
    orders: int
    items: int
    spend: float | None
    saved: float | None
    refunded: float | None
    coupons_used: int | None
    views: int | None
    price_band: PriceBand | None
    rhythm: Rhythm | None
    by_spend: tuple[Share, ...]
    by_views: tuple[Share, ...]
    brands: tuple[Share, ...]
    breadth: Breadth | None
    weekdays: tuple[int, ...]
    hours: tuple[tuple[int, ...], ...]
    months: tuple[Report, ...]
    years: tuple[Report, ...]

    def report(self, period: str) -> Report:
        """The report of "2017-11" or "2017".

        Raises:
            UserError: the user has none.
        """
        of = {report.period: report for report in (*self.months, *self.years)}
        if period not in of:
            there = f"there are {self.months[0].period} to {self.months[-1].period}" if self.months else "there is none"
            raise UserError(f"user {self.user_id} has no report of {period!r}: write 2017-11 or 2017; {there}")
        return of[period]

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON; instants as ISO texts."""
        plain: dict[str, Any] = _plain(self)
        return plain


def personas(timeline: Timeline, as_of: int, directory: Directory) -> list[Persona | None]:
    """One a user of the timeline, in its order; None where no event is known before the moment (µs)."""
    known = timeline.known_before(as_of)
    seen = Seen.of(known.facts, as_of)
    all_categories = known.facts.categories(as_of)
    return [
        None if past is None else _persona(str(user), past, seen, all_categories, directory)
        for user, past in zip(known.user_ids.to_pylist(), pasts(known, as_of, directory), strict=True)
    ]


def _persona(user_id: str, past: Past, seen: Seen, all_categories: int, directory: Directory) -> Persona:
    bought, categories = past.bought, directory.texts(c.CATEGORY)
    ones = np.ones(past.viewed.size, np.int64)
    return Persona(
        user_id=user_id,
        as_of=seen.as_of,
        anonymous=user_id.startswith(c.ANONYMOUS),
        first_seen=int(past.made[0]) if past.made.size else None,
        last_seen=int(past.made[-1]) if past.made.size else None,
        orders=int(bought.begins.sum()),
        items=np.unique(bought.item[bought.item >= 0]).size,
        spend=money(bought.amount) if seen.amount else None,
        saved=money(bought.discount) if seen.discount else None,
        refunded=money(past.refunded) if seen.refund else None,
        coupons_used=past.coupons.size if seen.coupon else None,
        views=past.viewed.size if seen.view else None,
        price_band=_price_band(bought),
        rhythm=_rhythm(bought),
        by_spend=_shares(ranked(bought.category, bought.amount, categories)),
        by_views=_shares(ranked(past.viewed_category, ones, categories)),
        brands=_brands(bought, directory),
        breadth=_breadth(bought, all_categories, directory) if seen.category else None,
        weekdays=tuple(np.bincount(weekday(past.days), minlength=WEEKDAYS).tolist()),
        hours=_heat(past.hours),
        months=reports(past, seen, directory, "M"),
        years=reports(past, seen, directory, "Y"),
    )


def _price_band(bought: Bought) -> PriceBand | None:
    """Of lines for which something was paid; prices that occurred, none in between (Hyndman and Fan 1996, type 1)."""
    paid = (bought.amount > 0) & (bought.quantity > 0)
    if not paid.any():
        return None
    prices = bought.amount[paid] / bought.quantity[paid]  # both in units of 1/10,000
    return PriceBand(*np.quantile(prices, (0.1, 0.5, 0.9), method="inverted_cdf").tolist())


def _rhythm(bought: Bought) -> Rhythm | None:
    instants = np.unique(bought.ts[bought.begins])
    if not instants.size:
        return None
    first, last = int(instants[0]), int(instants[-1])
    if first // c.DAY == last // c.DAY:
        return Rhythm(last, None, None)
    usual = (last - first) / (instants.size - 1)
    return Rhythm(last, usual / c.DAY, last + round(usual))


def _shares(named: list[tuple[str, int]]) -> tuple[Share, ...]:
    total = sum(weight for _, weight in named)
    return tuple(Share(name, weight / total) for name, weight in named[:TOP])


def _brands(bought: Bought, directory: Directory) -> tuple[Share, ...]:
    brands: dict[str, int] = {}
    for item, amount in zip(bought.item.tolist(), bought.amount.tolist(), strict=True):
        if item >= 0 and amount > 0 and (brand := directory.item_brand[item]):
            brands[brand] = brands.get(brand, 0) + amount
    return _shares(sorted(brands.items(), key=lambda pair: (-pair[1], pair[0])))


def _breadth(bought: Bought, all_categories: int, directory: Directory) -> Breadth:
    grew_by = tuple(FirstBuy(name, ts) for ts, name in first_bought(bought, directory))
    return Breadth(len(grew_by), all_categories, grew_by)


def _heat(hours: Array) -> tuple[tuple[int, ...], ...]:
    place = weekday(hours // HOURS) * HOURS + hours % HOURS
    counts = np.bincount(place, minlength=WEEKDAYS * HOURS).reshape(WEEKDAYS, HOURS)
    return tuple(tuple(row) for row in counts.tolist())


def time_of(instant: int) -> datetime:
    """µs since 1970 as a time, UTC."""
    return _EPOCH + timedelta(microseconds=instant)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _iso(inner) if field.name in _INSTANTS and inner is not None else _plain(inner)
            for field in fields(value)
            for inner in (getattr(value, field.name),)
        }
    return [_plain(inner) for inner in value] if isinstance(value, tuple) else value


def _iso(instant: int) -> str:
    return time_of(instant).isoformat().replace("+00:00", "Z")
