"""Segments by an operator's table: cuts in force, tiers, growth levels and points, newcomers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

import numpy as np
import pyarrow as pa
from pydantic import Field, PlainValidator

from features.audience.directory import registered_at
from features.audience.learn import Learned, anonymous
from features.audience.rfm import SEGMENTS as SEGMENTS
from features.audience.rfm import Cuts, Segment, deciles_at
from features.audience.stages import MOST_DAYS, Borders, Days, FromShop, whole
from features.events import columns as c
from features.tables import Place, Table, read_table
from features.timeline import Array, Moment, Timeline

Tier = Literal["new", "active", "dormant", "high_value", "occasional"]
TIERS: Final[tuple[str, ...]] = get_args(Tier)
Newcomer = Literal["bought", "ordered_not_paid", "no_action"]
NEWCOMER: Final[tuple[str, ...]] = get_args(Newcomer)
DEFAULT: Final = Path(__file__).with_name("segments.toml")

# Kinds made by the user, which the contract names; others may be mistyped.
Act = Literal[
    "register", "login", "view", "search", "favourite", "cart", "order_placed", "payment_failed", "review", "share",
    "invite", "survey_answer", "coupon_used", "message_opened", "touch",
]  # fmt: skip
Points = Annotated[float, Field(ge=0, le=1e6)]


def _ascending(count: int) -> PlainValidator:
    """So many ascending numbers, or "learned"."""

    def checked(value: object) -> object:
        if value == "learned":
            return value
        if isinstance(value, list) and len(value) == count and all(type(cut) in (int, float) for cut in value):
            cuts = tuple(float(cut) for cut in value)
            if np.isfinite(cuts).all() and all(low <= high for low, high in pairwise(cuts)):
                return cuts
        raise ValueError(f'use a list of {count} ascending numbers, or "learned"')

    return PlainValidator(checked)


FifthCuts = Annotated[tuple[float, ...] | FromShop, _ascending(4)]
TenthCuts = Annotated[tuple[float, ...] | FromShop, _ascending(9)]


class CutTable(Table):
    """Cuts of customers into fifths, and of value into tenths."""

    recency_days: FifthCuts
    orders: FifthCuts
    spend: FifthCuts
    value: TenthCuts


class RfmTable(Table):
    """What counts as high."""

    high: Annotated[int, Field(ge=2, le=5)]


class TierTable(Table):
    """Borders of tiers."""

    new_days: Days
    active_orders: Annotated[int, Field(ge=1, le=1000)]
    active_days: Annotated[int | Literal["dormant_days"], whole(MOST_DAYS, "dormant_days")]
    high_value_decile: Annotated[int, Field(ge=1, le=10)]


class NewcomerTable(Table):
    """Who is a newcomer, and which events are an order that was not paid."""

    days: Days
    ordered: tuple[Act, ...]


class PointTable(Table):
    """Points of growth: for each currency unit spent, order paid, date with a login, and event of a kind."""

    currency_unit: Points
    order: Points
    login_day: Points
    each: dict[Act, Points] = Field(default_factory=dict)


class Named(Table):
    """A name in both languages."""

    en: str
    zh: str


class Level(Named):
    """A level of growth, from so many points on."""

    name: Annotated[str, Field(min_length=1)]
    points: Annotated[int, Field(ge=0)]


class Names(Table):
    """A name for every code."""

    segments: dict[Segment, Named]
    tiers: dict[Tier, Named]
    newcomers: dict[Newcomer, Named]

    def problems(self) -> Iterator[tuple[Place, str]]:
        for table, codes in (("segments", SEGMENTS), ("tiers", TIERS), ("newcomers", NEWCOMER)):
            for code in codes:
                if code not in getattr(self, table):
                    yield (table,), f"has no name for {code}"


class SegmentTable(Table):
    """`segments.toml`."""

    cuts: CutTable
    rfm: RfmTable
    tiers: TierTable
    newcomers: NewcomerTable
    points: PointTable
    levels: Annotated[list[Level], Field(min_length=1)]
    names: Names

    def problems(self) -> Iterator[tuple[Place, str]]:
        yield from ((("names", *place), wrong) for place, wrong in self.names.problems())
        if self.levels[0].points:
            yield ("levels", 0, "points"), "is not 0: every user has a level"
        for number, (below, level) in enumerate(pairwise(self.levels), 1):
            if level.points <= below.points:
                wrong = f"is {level.points}: it must be above the {below.points} of {below.name}"
                yield ("levels", number, "points"), wrong
            if level.name in {other.name for other in self.levels[:number]}:
                yield ("levels", number, "name"), "is there twice"


def load_segments(path: Path | None = None) -> SegmentTable:
    """The operator's table, or ours.

    Raises:
        UserError: something in it is wrong; it says where, and the valid words.
    """
    return read_table(path or DEFAULT, SegmentTable)


def cuts_of(table: SegmentTable, learned: Learned) -> Cuts:
    """The cuts in force: those given, else those learned; all 0 for a shop where nobody had bought."""
    given = table.cuts
    none = (0.0,) * 4

    def in_force(cuts: tuple[float, ...] | str, found: tuple[float, ...]) -> tuple[float, ...]:
        return found if isinstance(cuts, str) else cuts

    return Cuts(
        recency_days=in_force(given.recency_days, learned.recency_days or none),
        orders=in_force(given.orders, learned.orders or none),
        spend=in_force(given.spend, learned.spend or none),
        value=in_force(given.value, learned.value or (0.0,) * 9),
    )


def tiers_at(timeline: Timeline, moment: Moment, table: SegmentTable, cuts: Cuts, borders: Borders) -> Array:
    """int8[users]: code into `TIERS` of every customer, -1 of others.

    The first that holds: new, the first purchase within `new_days`; dormant, silent for longer than the border of
    dormancy; high value, a high tenth of spend so far; active, enough orders within `active_days`; else occasional.
    Where one order within the days of dormancy makes active, nobody is occasional.
    """
    rules = table.tiers
    days = int(borders.dormant_days) if rules.active_days == "dormant_days" else rules.active_days
    first = moment.days_since_first("purchase")
    conditions = [
        np.isnan(first) | anonymous(timeline),
        first <= rules.new_days,
        moment.days_since("purchase") > borders.dormant_days,
        deciles_at(moment, cuts) >= rules.high_value_decile,
        np.nan_to_num(moment.distinct(c.ORDER_ID, "purchase", days)) >= rules.active_orders,
    ]
    codes = [-1, *map(TIERS.index, ("new", "dormant", "high_value", "active"))]
    return np.select(conditions, codes, TIERS.index("occasional")).astype(np.int8)


@dataclass(frozen=True)
class Growth:
    """How far users have grown.

    Attributes:
        points: int64[users].
        level: int8[users], number of the level in the table.
        to_next: int64[users], points until the next level; -1 at the highest.
    """

    points: Array
    level: Array
    to_next: Array


def growth_at(moment: Moment, table: SegmentTable) -> Growth:
    """Points so far by the table, each user's sum rounded down, and the level that they reach."""
    rules = table.points
    earned = rules.currency_unit * np.nan_to_num(moment.total(c.AMOUNT, "purchase"))
    earned = earned + rules.order * np.nan_to_num(moment.distinct(c.ORDER_ID, "purchase"))
    earned = earned + rules.login_day * np.nan_to_num(moment.active_days("login"))
    for kind, points in sorted(rules.each.items()):
        earned = earned + points * np.nan_to_num(moment.count(kind))
    total = np.floor(earned).astype(np.int64)
    steps = np.array([level.points for level in table.levels], np.int64)
    level = np.searchsorted(steps, total, side="right") - 1
    following = np.append(steps, 0)[level + 1]
    return Growth(total, level.astype(np.int8), np.where(level + 1 < steps.size, following - total, -1))


def registrations(users: pa.Table | None) -> dict[str, int]:
    """µs at which users registered, as far as a users table tells."""
    if users is None:
        return {}
    at = registered_at(users).tolist()
    return {user: ts for user, ts in zip(users[c.USER_ID].to_pylist(), at, strict=True) if ts != c.NEVER}


def registered_since(timeline: Timeline, moment: Moment, registered: Mapping[str, int]) -> Array:
    """float64[users]: days since the user registered; NaN of anonymous devices and without any event.

    That is the first `register` event; without one, what the users table tells of the past; else the first event.
    """
    at = [registered.get(user, c.NEVER) for user in timeline.user_ids.to_pylist()] if registered else []
    table = np.array(at, np.int64) if at else np.full(len(timeline), c.NEVER)
    told = np.where(table < moment.as_of, (moment.as_of - np.minimum(table, moment.as_of)) / c.DAY, np.nan)
    event = moment.days_since_first("register")
    since = np.where(np.isnan(event), np.where(np.isnan(told), moment.days_since_first(c.ANY), told), event)
    return np.where(anonymous(timeline) | ~moment.present, np.nan, since)


def newcomers_at(timeline: Timeline, moment: Moment, table: SegmentTable, registered: Mapping[str, int]) -> Array:
    """int8[users]: code into `NEWCOMER` of users who registered within the table's days, -1 of others.

    `registered` is what `registrations` of the users table gave. Ordered and not paid: an event of the table's kinds,
    and no purchase yet.
    """
    new = registered_since(timeline, moment, registered) <= table.newcomers.days
    bought = np.nan_to_num(moment.count("purchase")) > 0
    ordered = np.zeros(len(timeline), bool)
    for kind in table.newcomers.ordered:
        ordered |= np.nan_to_num(moment.count(kind)) > 0
    return np.select([~new, bought, ordered], [-1, 0, 1], 2).astype(np.int8)
