"""How much leaving there is at a time of the year, apart from who the users are.

A churn model ranks users; how many of them leave also moves with the season. At each moment of training the level is
the log-odds to be added to the model's margin so that as many leave as did. The level of a later moment is foretold
from the level a year before it and from how this year has differed from the last so far.
"""

from dataclasses import dataclass

import numpy as np

from features.events.columns import DAY
from features.timeline import Array

YEAR = 365 * DAY
NEAR = 6 * DAY  # standard deviation of the kernel that averages levels around a date
FAR = 20 * DAY  # without a moment within this of a date there is nothing to tell of it
CARRIED = 0.5  # of this year's difference from the last; chosen on Online Retail II before the test moments


@dataclass(frozen=True)
class Levels:
    """Levels in log-odds at moments of training.

    Attributes:
        as_of: int64[moments], µs.
        values: float64[moments, horizons]; NaN where the outcome was not known yet.
    """

    as_of: Array
    values: Array

    def at(self, as_of: int) -> Array:
        """The level foretold for a moment (µs), float64[horizons].

        Without a year of levels, the newest ones; without levels near the same date of the last two years from which to
        tell the difference, half way between last year's and the newest.
        """
        return np.array([self._foretold(as_of, column) for column in self.values.T])

    def _foretold(self, as_of: int, column: Array) -> float:
        known = np.isfinite(column)
        moments, levels = self.as_of[known], column[known]
        newest = int(moments.max())
        now = _near(newest, moments, levels)
        then = _near(as_of - YEAR, moments, levels)
        assert now is not None  # the newest is near itself
        if then is None:
            return now
        before = _near(newest - YEAR, moments, levels)
        return (then + now) / 2 if before is None else then + CARRIED * (now - before)


def _near(date: int, moments: Array, levels: Array) -> float | None:
    """Mean of the levels around a date, None if there are none."""
    away = np.abs(moments - date)
    if away.min() > FAR:
        return None
    weight = np.exp(-0.5 * (away / NEAR) ** 2)
    return float((weight * levels).sum() / weight.sum())
