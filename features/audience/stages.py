"""Where a user is in their life with the shop: exactly one stage each, by borders that are learned or set in a file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import Field, PlainValidator

from features.audience.learn import MOST_ORDERS, Learned, anonymous
from features.events import columns as c
from features.tables import Place, Table, read_table
from features.timeline import Array, Moment, Timeline

STAGES: Final = ("anonymous", "registered", "introduction", "growth", "maturity", "dormancy", "lost")
DEFAULT: Final = Path(__file__).with_name("stages.toml")

Kpi = Literal[
    "activation", "retention_1d", "retention_7d", "retention_30d", "active_7d", "active_30d", "reactivated",
    "opened_again", "bought_again", "kept_buying",
]  # fmt: skip
FromShop = Literal["learned"]


def whole(most: int, word: str) -> PlainValidator:
    """A whole number from 1 to `most`, or a word; a union of both would tell of each what is wrong."""

    def checked(value: object) -> object:
        if value == word or (type(value) is int and 1 <= value <= most):
            return value
        raise ValueError(f'use a whole number from 1 to {most}, or "{word}"')

    return PlainValidator(checked)


MOST_DAYS: Final = 3650
Days = Annotated[int, Field(ge=1, le=MOST_DAYS)]
LearnedDays = Annotated[int | FromShop, whole(MOST_DAYS, "learned")]
Orders = Annotated[int, Field(ge=1, le=1000)]
LearnedOrders = Annotated[int | FromShop, whole(1000, "learned")]
Quantile = Annotated[float, Field(ge=0.01, le=0.99)]
Share = Annotated[float, Field(ge=0, le=1)]


class BorderTable(Table):
    """Borders as an operator sets them; "learned" ones come from the shop's own log."""

    introduction_orders: Orders
    maturity_orders: LearnedOrders
    dormant_days: LearnedDays
    lost_days: LearnedDays


class LearningTable(Table):
    """How borders are learned."""

    dormant_quantile: Quantile
    lost_quantile: Quantile
    least_dormant_days: Days
    again_share: Share


class FallbackTable(Table):
    """Borders for a shop whose log tells too little."""

    maturity_orders: Orders
    dormant_days: Days
    lost_days: Days


class StageText(Table):
    """A stage as people read of it, its goal, and the shares that its measures are to reach."""

    en: str
    zh: str
    goal_en: str
    goal_zh: str
    targets: dict[Kpi, Share] = Field(default_factory=dict)


class StageTexts(Table):
    """A text for every stage."""

    anonymous: StageText
    registered: StageText
    introduction: StageText
    growth: StageText
    maturity: StageText
    dormancy: StageText
    lost: StageText


class StageTable(Table):
    """`stages.toml`."""

    borders: BorderTable
    learning: LearningTable
    fallback: FallbackTable
    stages: StageTexts

    def text(self, stage: str) -> StageText:
        """Names, goal and targets of one of `STAGES`."""
        found: StageText = getattr(self.stages, stage)
        return found

    def problems(self) -> Iterator[tuple[Place, str]]:
        given, learning, fallback = self.borders, self.learning, self.fallback
        for name, table in (("borders", given), ("fallback", fallback)):
            dormant, lost, mature = table.dormant_days, table.lost_days, table.maturity_orders
            if isinstance(dormant, int) and isinstance(lost, int) and dormant >= lost:
                yield (name, "dormant_days"), f"is {dormant}: it must be below lost_days, {lost}"
            if isinstance(mature, int) and mature <= given.introduction_orders:
                least = given.introduction_orders
                yield (name, "maturity_orders"), f"is {mature}: it must be above introduction_orders, {least}"
        if learning.dormant_quantile >= learning.lost_quantile:
            wrong = f"is {learning.dormant_quantile}: it must be below lost_quantile, {learning.lost_quantile}"
            yield ("learning", "dormant_quantile"), wrong


@dataclass(frozen=True)
class Borders:
    """Borders in force. Longer than so many days without a purchase, a customer is dormant, then lost."""

    dormant_days: float
    lost_days: float
    maturity_orders: int
    introduction_orders: int = 1


def load_stages(path: Path | None = None) -> StageTable:
    """The operator's table, or ours.

    Raises:
        UserError: something in it is wrong; it says where, and the valid words.
    """
    return read_table(path or DEFAULT, StageTable)


def borders_of(table: StageTable, learned: Learned) -> Borders:
    """The borders in force: those given, and for the others what the shop's log tells, or else the fallback.

    A learned border gives way to a given one that it would contradict.
    """
    given = table.borders
    dormant, lost = _silences(table, learned)
    if isinstance(given.dormant_days, int):
        dormant = given.dormant_days
        lost = max(lost, dormant + 1)
    if isinstance(given.lost_days, int):
        lost = given.lost_days
        dormant = min(dormant, lost - 1)
    if isinstance(given.maturity_orders, int):
        mature = given.maturity_orders
    else:
        mature = table.fallback.maturity_orders if learned.wanting else _maturity(table, learned, dormant)
    return Borders(float(dormant), float(lost), mature, given.introduction_orders)


def _silences(table: StageTable, learned: Learned) -> tuple[int, int]:
    """Dormancy and loss in whole days, as learned."""
    if learned.wanting:
        return table.fallback.dormant_days, table.fallback.lost_days
    shares = table.learning.dormant_quantile, table.learning.lost_quantile
    dormant, lost = (int(np.ceil(learned.gap_quantile(share))) for share in shares)
    dormant = max(dormant, table.learning.least_dormant_days)
    return dormant, max(lost, 2 * dormant)


def _maturity(table: StageTable, learned: Learned, dormant_days: float) -> int:
    """The fewest orders after which enough customers buy again before they are dormant."""
    least = table.borders.introduction_orders + 2  # so that growth lies between
    for orders in range(least, MOST_ORDERS):
        if learned.again_within(orders, dormant_days) >= table.learning.again_share:
            return orders
    return max(least, MOST_ORDERS)


def stages_at(timeline: Timeline, moment: Moment, borders: Borders) -> Array:
    """int8[users]: code into `STAGES` of each user of a timeline at one of its moments; -1 without an event before it.

    A device whose user is not known is anonymous, whatever it did. Without a purchase a user stays registered. Silence
    outweighs the number of orders: a mature customer may be dormant, and is mature again with the next purchase.
    """
    orders = np.nan_to_num(moment.distinct(c.ORDER_ID, "purchase"))
    silent = moment.days_since("purchase")  # NaN, in no comparison true, where nothing was bought
    conditions = [
        ~moment.present,
        anonymous(timeline),
        orders == 0,
        silent > borders.lost_days,
        silent > borders.dormant_days,
        orders >= borders.maturity_orders,
        orders > borders.introduction_orders,
    ]
    codes = [-1, *map(STAGES.index, ("anonymous", "registered", "lost", "dormancy", "maturity", "growth"))]
    return np.select(conditions, codes, STAGES.index("introduction")).astype(np.int8)
