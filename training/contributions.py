"""What a churn model's scores rest on: gain by signal and family, and what leads among users at high risk."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from features.matrix import Matrix
from features.signals import Signal
from features.timeline import Array
from models.churn import ChurnModel
from training.churn import select

SAMPLE = 2_000  # users whose contributions are computed
LEAST = 3  # observed values, for a direction


class Weight(NamedTuple):
    """A signal's weight in the booster.

    Attributes:
        share: of the gain of all signals.
        direction: Spearman's correlation of value and score, among users who have the value; NaN if it has none.
    """

    signal: Signal
    share: float
    direction: float


class Leading(NamedTuple):
    """What speaks most for leaving among users at high risk.

    Attributes:
        users: at high risk, of those looked at.
        families: family → how many of them it leads for.
    """

    users: int
    families: Mapping[str, int]


def gain_shares(model: ChurnModel) -> Array:
    """Each signal's share of the booster's gain, float64[signals]; the horizon, its last input, is left out."""
    gain = model.booster.feature_importance("gain")[:-1]
    return np.asarray(gain / max(gain.sum(), 1e-12))


def by_family(signals: Sequence[Signal], shares: Array) -> dict[str, float]:
    """Sums by family, largest first."""
    sums: dict[str, float] = {}
    for signal, share in zip(signals, shares, strict=True):
        sums[signal.family] = sums.get(signal.family, 0.0) + float(share)
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def heaviest(model: ChurnModel, matrix: Matrix, count: int) -> list[Weight]:
    """The signals with the largest gain, and which way each points among the users of a matrix."""
    values, shares = select(matrix, model), gain_shares(model)
    score = model.margins(values, [model.horizon])[:, 0]
    return [
        Weight(model.signals[i], float(shares[i]), _direction(values[:, i], score))
        for i in np.argsort(-shares, kind="stable")[:count]
    ]


def _direction(values: Array, score: Array) -> float:
    seen = np.isfinite(values)
    if seen.sum() < LEAST or np.ptp(values[seen]) == 0 or np.ptp(score[seen]) == 0:
        return float("nan")
    return float(stats.spearmanr(values[seen], score[seen]).statistic)


def leading_families(model: ChurnModel, matrix: Matrix, seed: int = 0) -> Leading:
    """For how many users at high risk each family raises the booster's score most (its path contributions, summed)."""
    values = select(matrix, model)
    high = np.flatnonzero(model.score(values, matrix.as_of) >= model.risk_cuts[1])
    if not high.size:
        return Leading(0, {})
    some = np.sort(np.random.default_rng(seed).permutation(high)[:SAMPLE])
    rows = np.column_stack([values[some], np.full(some.size, model.horizon, np.float32)])
    parts = np.asarray(model.booster.predict(rows, pred_contrib=True, num_threads=1, validate_features=False))
    families = list(by_family(model.signals, gain_shares(model)))
    sums = np.stack(
        [parts[:, np.flatnonzero([s.family == family for s in model.signals])].sum(axis=1) for family in families],
        axis=1,
    )
    first, raised = np.argmax(sums, axis=1), sums.max(axis=1) > 0
    counts = {family: int((raised & (first == i)).sum()) for i, family in enumerate(families)}
    return Leading(some.size, dict(sorted(counts.items(), key=lambda item: -item[1])))
