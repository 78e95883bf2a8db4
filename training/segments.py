"""Four plain groups of users, so that a reviewer sees for whom a model works; every user is in exactly one."""

import numpy as np

from features.matrix import Matrix
from features.timeline import Array
from models.reference import Reference
from training import metrics
from training.churn import ChurnRun

NEW_DAYS = 60
OVERDUE = 2.0  # times the own mean gap between orders
TOP = 0.8  # quantile of spend in training
LEAST = 10  # users of a segment who left, and who stayed, at a moment; and users a bin of calibration
SPEND_DAYS = (7, 30, 90, 180, 365)  # windows that there is a signal of spend for

# In the order in which they are asked: a user belongs to the first whose rule holds.
RULES = {
    "new": f"the first purchase was less than {NEW_DAYS} days ago",
    "dormant": f"silent for more than {OVERDUE:g} times the own mean gap between orders, or than half the look-back",
    "high-value": "spend in the look-back above that of four fifths of the users of training",
    "active": "everyone else",
}


def segments(matrix: Matrix, reference: Reference, lookback: int) -> Array:
    """The segment of every user, texts[users].

    Args:
        reference: the users of training, by whom it is known what high spend is.
        lookback: days.
    """
    spend = spend_signal(lookback)
    with np.errstate(invalid="ignore"):  # what is not observed holds for nobody
        silent = matrix.column("days_since_purchase")
        held = [
            matrix.column("days_since_first_purchase") < NEW_DAYS,
            (matrix.column("overdue_ratio") > OVERDUE) | (silent > lookback / 2),
            matrix.column(spend) > high_spend(reference, spend),
        ]
    names = list(RULES)
    return np.select(held, names[:-1], names[-1])


def spend_signal(lookback: int) -> str:
    """Spend in the shortest window that holds the look-back (days), or in a year."""
    return f"spend_{next((days for days in SPEND_DAYS if days >= lookback), SPEND_DAYS[-1])}d"


def high_spend(reference: Reference, signal: str) -> float:
    """What at least four fifths of the users at the newest moment of training did not spend more than.

    Infinite where the signal was not trained on, or nobody had it.
    """
    if signal not in reference.names:
        return np.inf
    place = reference.names.index(signal)
    counts, cuts = reference.counts[place][0, :-1], reference.cuts[place]
    if not counts.sum() or not len(cuts):
        return np.inf
    reached = np.cumsum(counts) >= TOP * counts.sum()
    return float(np.append(cuts, np.inf)[np.argmax(reached)])


def segment_figures(run: ChurnRun) -> dict[str, dict[str, dict[str, float]]]:
    """Contender → segment → figure, over the moments of the backtest.

    Users are counted once a moment. AUC is the mean over moments at which enough of the segment left and stayed, and
    calibration is that of all moments together; a figure that has no value is absent.
    """
    of_moment = [segments(r.matrix, r.model.reference, run.model.lookback) for r in run.backtest]
    return {
        name: {
            segment: _figures(run, name, [found == segment for found in of_moment])
            for segment in RULES
            if any((found == segment).any() for found in of_moment)
        }
        for name in run.backtest[0].scores
    }


def _figures(run: ChurnRun, name: str, chosen: list[Array]) -> dict[str, float]:
    parts = [(r.matrix.churned[m], r.scores[name][m]) for r, m in zip(run.backtest, chosen, strict=True)]
    churned, score = (np.concatenate(column) for column in zip(*parts, strict=True))
    out = {"users": float(len(churned)), "churned_share": float(churned.mean())}
    aucs = [metrics.auc(left, s) for left, s in parts if LEAST <= left.sum() <= len(left) - LEAST]
    if aucs:
        out["auc"] = float(np.mean(aucs))
    if "brier" in run.backtest[0].figures[name]:
        out["predicted_share"] = float(score.mean())
        if len(churned) >= metrics.CALIBRATION_BINS * LEAST:
            out["calibration_error"] = metrics.expected_calibration_error(churned, score)
            out["calibration_error_limit"] = metrics.calibration_error_limit(score)
    return out
