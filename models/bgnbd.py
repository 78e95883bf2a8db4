"""BG/NBD: how many purchases to expect of a customer, from the dates of the past ones alone.

Fader, Hardie and Lee (2005), "Counting your customers" the easy way: an alternative to the Pareto/NBD model, Marketing
Science 24(2). A customer buys at a rate of their own, Gamma(r, alpha) over customers, and stops for good after any
purchase with a probability of their own, Beta(a, b).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import special

from features.timeline import Array

SIGNALS: Final = ("orders_ever", "days_since_first_purchase", "days_since_purchase")


@dataclass(frozen=True)
class Purchases:
    """What the model reads of each customer, float64[users] each, times in one unit (ours is days).

    Attributes:
        repeats: purchases after the first.
        last: time from the first purchase to the last.
        age: time from the first purchase to the moment.
    """

    repeats: Array
    last: Array
    age: Array

    @classmethod
    def of(cls, orders: Array, days_since_first: Array, days_since_last: Array) -> "Purchases":
        """From the three `SIGNALS` of users who have bought, float[users] each."""
        age = days_since_first.astype(np.float64)
        return cls(np.maximum(orders - 1.0, 0.0), np.maximum(age - days_since_last, 0.0), age)


@dataclass(frozen=True)
class BgNbd:
    """The four parameters; alpha is in the unit of time."""

    r: float
    alpha: float
    a: float
    b: float

    def expected(self, past: Purchases, time: float) -> Array:
        """Purchases expected in the next `time`, float64[users] (equation 10 of the paper).

        The hypergeometric function is Euler's transformation of the paper's: it takes the large powers out. What even
        that cannot tell, at parameters without a meaning, is what the user's rate alone would give.
        """
        r, alpha, a, b = self.r, self.alpha, _off(self.a, 1.0), self.b
        x, tx, age = past.repeats, past.last, past.age
        c = _off(a + b + x - 1, 0.0)
        stays = (alpha + age) / (alpha + age + time)
        with np.errstate(all="ignore"):
            grown = stays ** (a - 1) * special.hyp2f1(a - 1, a + b - 1 - r, c, time / (alpha + age + time))
            most = np.maximum(np.fmin(c / (a - 1) * (1 - grown), (r + x) / (alpha + age) * time), 0.0)
        odds = np.log(a / (b + np.maximum(x, 1) - 1)) + (r + x) * np.log((alpha + age) / (alpha + tx))
        return np.asarray(most * np.where(x > 0, special.expit(-odds), 1.0))


def _off(value: Array | float, pole: float) -> Array:
    """The value, or one beside the pole, where only the limit has a meaning."""
    return np.where(np.abs(value - pole) < 1e-6, pole + 1e-6, value)
