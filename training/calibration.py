"""From a booster's margin to a probability that means what it says."""

import numpy as np
from scipy import special
from sklearn.linear_model import LogisticRegression

from features.timeline import Array

KNOTS = 201
REACH = 8.0  # log-odds; beyond it the table is flat


def fit_table(margin: Array, churned: Array) -> Array:
    """Monotone table float64[2, knots] from margins that the booster gave to users it was not fitted on.

    Platt's scaling (Platt 1999): a logistic curve in the margin, two parameters, so that small logs do not overfit. A
    falling curve (a model worse than chance) becomes flat at the mean.
    """
    fit = LogisticRegression(C=np.inf).fit(margin[:, None], churned)
    slope = max(float(fit.coef_[0, 0]), 0.0)
    intercept = float(fit.intercept_[0]) if slope else float(special.logit(churned.mean()))
    knots = np.linspace(-REACH, REACH, KNOTS)
    return np.stack([knots, special.expit(slope * knots + intercept)])
