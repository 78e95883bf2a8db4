"""RFM: scores of recency, frequency and money, the eight classic classes, and tenths of value.

Scores run from 1 to 5, and 5 is always the better one: a high R has bought lately.
"""

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np

from features.audience.learn import worth
from features.timeline import Array, Moment

# By money high or low, then by recency and frequency: high and high, high and low, low and high, low and low.
Segment = Literal[
    "important_value", "important_develop", "important_keep", "important_win_back",
    "general_value", "general_develop", "general_keep", "general_win_back",
]  # fmt: skip
SEGMENTS: Final[tuple[str, ...]] = get_args(Segment)


@dataclass(frozen=True)
class Cuts:
    """Ascending borders between fifths (value: tenths) of customers; orders and spend of the last year.

    A border belongs to the side below it. Where borders coincide, as where most bought once, the scores between them
    are not given.
    """

    recency_days: tuple[float, ...]
    orders: tuple[float, ...]
    spend: tuple[float, ...]
    value: tuple[float, ...]


def rfm_scores(moment: Moment, cuts: Cuts) -> Array:
    """int8[users, 3]: scores of recency, frequency and money, 1 to 5; 0 where the user never bought."""
    silent = moment.days_since("purchase")
    orders, spend, _ = worth(moment)
    scores = np.stack([5 - _above(silent, cuts.recency_days), 1 + _above(orders, cuts.orders)], axis=1)
    scores = np.column_stack([scores, 1 + _above(spend, cuts.spend)])
    return np.where(np.isnan(silent)[:, None], 0, scores).astype(np.int8)


def segments_of(scores: Array, high: int) -> Array:
    """int8[users]: code into `SEGMENTS` of scores of `rfm_scores`, -1 without; a score from `high` on is high."""
    low = scores < high
    codes = 4 * low[:, 2] + 2 * low[:, 0] + low[:, 1]
    return np.where(scores[:, 0] == 0, -1, codes).astype(np.int8)


def deciles_at(moment: Moment, cuts: Cuts) -> Array:
    """int8[users]: tenth of customers by spend so far, 1 to 10, 10 the most; 0 where the user never bought."""
    never = np.isnan(moment.days_since("purchase"))
    return np.where(never, 0, 1 + _above(worth(moment)[2], cuts.value)).astype(np.int8)


def _above(values: Array, cuts: tuple[float, ...]) -> Array:
    """How many cuts each value exceeds."""
    return np.searchsorted(np.array(cuts), values, side="left")
