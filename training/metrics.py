"""How good churn probabilities are: ranking, calibration and money, each with its uncertainty."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from features.timeline import Array

CALIBRATION_BINS = 15
RESAMPLES = 200


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % bootstrap interval over users."""

    value: float
    low: float
    high: float


def auc(churned: Array, score: Array) -> float:
    """Area under the ROC curve: the chance that a leaver is scored above a stayer."""
    return float(roc_auc_score(churned, score))


def lift_top_tenth(churned: Array, score: Array) -> float:
    """Share of leavers among the tenth of users scored highest, over their share among all."""
    top = np.argsort(-score, kind="stable")[: max(1, round(len(score) / 10))]
    return float(churned[top].mean() / churned.mean())


def expected_calibration_error(churned: Array, probability: Array) -> float:
    """Mean absolute difference of predicted and observed share over 15 bins of equal mass, weighted by their size."""
    order = np.argsort(probability, kind="stable")
    bins = np.array_split(order, CALIBRATION_BINS)
    return float(sum(abs(churned[b].sum() - probability[b].sum()) for b in bins) / len(order))


def calibration_error_limit(probability: Array, seed: int = 0, draws: int = 500) -> float:
    """95th percentile of the calibration error if outcomes were drawn from the probabilities themselves."""
    rng = np.random.default_rng(seed)
    errors = [expected_calibration_error(rng.random(len(probability)) < probability, probability) for _ in range(draws)]
    return float(np.quantile(errors, 0.95))


def calibration_line(churned: Array, probability: Array) -> tuple[float, float]:
    """Slope and intercept of a logistic regression of the outcome on the predicted log-odds (Cox 1958); ideal 1, 0."""
    p = np.clip(probability, 1e-6, 1 - 1e-6)
    fit = LogisticRegression(C=np.inf).fit(special.logit(p)[:, None], churned)
    return float(fit.coef_[0, 0]), float(fit.intercept_[0])


def expected_maximum_profit(
    churned: Array,
    score: Array,
    *,
    alpha: float = 6,
    beta: float = 14,
    lifetime_value: float = 200,
    offer_cost: float = 10,
    contact_cost: float = 1,
) -> float:
    """Expected maximum profit for churn, currency units a user (Verbraken, Verbeke and Baesens 2013).

    The share of leavers who accept the offer is Beta(alpha, beta); for each share the best cut-off is taken, which lies
    on the convex hull of the ROC curve, so the integral has a closed form a hull segment.
    """
    leave = churned.mean()
    stay = 1 - leave
    delta, phi = offer_cost / lifetime_value, contact_cost / lifetime_value
    hits, alarms = _roc_hull(churned, score)
    # The share of acceptance at which moving one hull point further begins to pay.
    with np.errstate(divide="ignore"):
        turn = (stay * (delta + phi) * np.diff(alarms) + leave * phi * np.diff(hits)) / (
            leave * (1 - delta) * np.diff(hits)
        )
    edges = np.concatenate([[0.0], np.clip(turn, 0, 1), [1.0]])
    mass = np.diff(special.betainc(alpha, beta, edges))
    mean = np.diff(special.betainc(alpha + 1, beta, edges)) * alpha / (alpha + beta)
    cost = leave * phi * hits + stay * (delta + phi) * alarms
    return float(lifetime_value * ((1 - delta) * leave * hits * mean - cost * mass).sum())


def _roc_hull(churned: Array, score: Array) -> tuple[Array, Array]:
    """Upper convex hull of the ROC curve from (0, 0) to (1, 1): shares of leavers and of stayers contacted."""
    order = np.argsort(-score, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    hits = np.append(0, np.cumsum(churned[order])[last_of_tie]) / churned.sum()
    alarms = np.append(0, np.cumsum(~churned[order].astype(bool))[last_of_tie]) / (~churned.astype(bool)).sum()
    hull: list[int] = []
    for i in range(len(hits)):
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            turn = (alarms[b] - alarms[a]) * (hits[i] - hits[a]) - (hits[b] - hits[a]) * (alarms[i] - alarms[a])
            if turn < 0:
                break
            hull.pop()
        hull.append(i)
    return hits[hull], alarms[hull]


def churn_metrics(churned: Array, probability: Array) -> dict[str, float]:
    """All headline figures of one moment."""
    slope, intercept = calibration_line(churned, probability)
    return {
        "auc": auc(churned, probability),
        "average_precision": float(average_precision_score(churned, probability)),
        "brier": float(brier_score_loss(churned, probability)),
        "lift_top_tenth": lift_top_tenth(churned, probability),
        "expected_maximum_profit": expected_maximum_profit(churned, probability),
        "calibration_error": expected_calibration_error(churned, probability),
        "calibration_error_limit": calibration_error_limit(probability),
        "calibration_slope": slope,
        "calibration_intercept": intercept,
        "churned_share": float(churned.mean()),
        "predicted_share": float(probability.mean()),
        "users": float(len(churned)),
    }


def bootstrap(figure: Callable[[Array], float], users: int, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """A figure of a set of users (given as their indices) with its 95 % interval over resampled users."""
    rng = np.random.default_rng(seed)
    values = [figure(rng.integers(0, users, users)) for _ in range(resamples)]
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(figure(np.arange(users)), float(low), float(high))
