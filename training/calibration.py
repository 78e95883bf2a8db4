"""From a model's margin to a probability that means what it says: one slope a horizon, one level a moment."""

import numpy as np
from scipy import special

from features.timeline import Array

ROUNDS = 25  # of Newton's method; it converges in about five
FEW = 1.0  # the weight, in users, of a level's prior: without leavers, or without stayers, it stays finite


def fit_slope(margin: Array, silent: Array, moment: Array) -> float:
    """Slope of a logistic curve in margins that the model gave to users it was not fitted on (Platt 1999).

    Every moment has a level of its own beside it, so that the slope says how users of one moment differ. A falling
    curve (a model worse than chance) has slope 0.

    Args:
        margin, silent: float64[rows], bool[rows].
        moment: int64[rows], the number of each row's moment.
    """
    slope = 1.0
    for _ in range(ROUNDS):
        level = fit_levels(slope * margin, silent, moment)
        p = special.expit(slope * margin + level[moment])
        gap, weight = silent - p, p * (1 - p)
        mean = np.bincount(moment, weight * margin) / np.maximum(np.bincount(moment, weight), 1e-12)
        centred = margin - mean[moment]  # the levels move along with the slope
        step = (gap * centred).sum() / max((weight * centred**2).sum(), 1e-12)
        slope = float(np.clip(slope + np.clip(step, -0.5, 0.5), 0.0, 5.0))
        if abs(step) < 1e-6:
            break
    return slope


def fit_levels(margin: Array, silent: Array, moment: Array) -> Array:
    """The number to add to all margins of a moment so that as many are silent as were, float64[moments], log-odds."""
    level = special.logit((np.bincount(moment, silent) + FEW / 2) / (np.bincount(moment) + FEW))
    level -= np.bincount(moment, margin) / np.bincount(moment)
    for _ in range(ROUNDS):
        p = special.expit(margin + level[moment])
        gap = np.bincount(moment, silent - p) + FEW * (0.5 - special.expit(level))
        step = gap / (np.bincount(moment, p * (1 - p)) + FEW / 4)
        level += np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-9:
            break
    return level
