"""What a churn model must beat: simpler scores from the same matrices, fitted on the same training moments."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from features.matrix import Matrix
from features.timeline import Array
from models.alarm import AlarmSettings, alarm_of
from training.bgnbd import fit_bgnbd, purchases_of

RFM = "rfm-logistic"


@dataclass(frozen=True)
class Baseline:
    """A score of leaving, float64[users], higher is worse; `is_probability` if it also means what it says."""

    name: str
    score: Callable[[Matrix], Array]
    is_probability: bool


def fit_baselines(train: list[Matrix], horizon: int, lookback: int, alarm: AlarmSettings) -> list[Baseline]:
    """Recency, logistic regressions on recency, frequency and money, BG/NBD and, where there is browsing, the alarm.

    Args:
        train: newest first.
        horizon, lookback: days.
    """
    days = min((d for d in (7, 30, 90, 180, 365) if d >= lookback), default=365)
    found = [
        Baseline("recency", lambda m: m.column("days_since_purchase").astype(np.float64), is_probability=False),
        _logistic(RFM, train, horizon, ["days_since_purchase", "orders_ever", "spend_ever"]),
        _logistic(f"{RFM}-recent", train, horizon, ["days_since_purchase", f"orders_{days}d", f"spend_{days}d"]),
    ]
    if (train[0].column("orders_ever") > 1).any():
        bgnbd = fit_bgnbd(purchases_of(train[0]))
        found.append(Baseline("bg-nbd", lambda m: -bgnbd.expected(purchases_of(m), horizon), is_probability=False))
    if any(alarm_of(m, alarm).known.any() for m in train):
        found.append(Baseline("operators-alarm", lambda m: alarm_of(m, alarm).rings.astype(float), False))
    return found


def _logistic(name: str, train: list[Matrix], horizon: int, columns: Sequence[str]) -> Baseline:
    """Logistic regression on logarithms of a few signals."""

    def inputs(matrix: Matrix) -> Array:
        return np.log1p(np.nan_to_num(np.stack([matrix.column(name) for name in columns], axis=1)))

    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.fit(np.concatenate([inputs(m) for m in train]), np.concatenate([m.silent(horizon) for m in train]))
    return Baseline(name, lambda m: model.predict_proba(inputs(m))[:, 1], is_probability=True)
