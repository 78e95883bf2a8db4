"""What a churn model must beat: simpler scores from the same matrices, fitted on the same training moments."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from features.matrix import Matrix
from features.timeline import Array

UNSEEN_DAYS = 7.0  # the operators' alarm: no event made by the user for so long …
BROWSING_FALL = 0.5  # … and minutes browsed a day, in the 7 days that end at the last one, under this share of before


@dataclass(frozen=True)
class Baseline:
    """A score of leaving, float64[users], higher is worse; `is_probability` if it also means what it says."""

    name: str
    score: Callable[[Matrix], Array]
    is_probability: bool


def fit_baselines(train: list[Matrix], lookback: int) -> list[Baseline]:
    """Recency, a logistic regression on recency, frequency and money, and, where browsing exists, the alarm."""
    found = [
        Baseline("recency", lambda m: m.column("days_since_purchase").astype(np.float64), is_probability=False),
        _rfm_logistic(train, lookback),
    ]
    if any(np.isfinite(m.column("browse_minutes_ratio_at_last_seen")).any() for m in train):
        found.append(Baseline("operators-alarm", operators_alarm, is_probability=False))
    return found


def operators_alarm(matrix: Matrix) -> Array:
    """1 where the alarm rings: unseen for 7 days, and browsing had halved by then."""
    fallen = matrix.column("browse_minutes_ratio_at_last_seen") < BROWSING_FALL
    return (fallen & (matrix.column("days_since_seen") >= UNSEEN_DAYS)).astype(np.float64)


def _rfm_logistic(train: list[Matrix], lookback: int) -> Baseline:
    days = min((d for d in (7, 30, 90, 180, 365) if d >= lookback), default=365)
    columns = ["days_since_purchase", f"orders_{days}d", f"spend_{days}d"]

    def inputs(matrix: Matrix) -> Array:
        return np.log1p(np.nan_to_num(np.stack([matrix.column(name) for name in columns], axis=1)))

    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.fit(np.concatenate([inputs(m) for m in train]), np.concatenate([m.churned for m in train]))
    return Baseline("rfm-logistic", lambda m: model.predict_proba(inputs(m))[:, 1], is_probability=True)
