"""How good churn probabilities are: ranking, calibration and money, each with its uncertainty."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import special
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from features.timeline import Array
from training.money import Offer

CALIBRATION_BINS = 15
RESAMPLES = 200
PAIRED_RESAMPLES = 1_000
MOST_DRAWN = 50_000_000  # rows over all resamples: a large log has fewer resamples, and needs fewer
CELLS_AT_ONCE = 2_000_000  # of users × resamples in memory


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


def calibration_error_limit(probability: Array, seed: int = 0, draws: int = 500, level: float = 0.95) -> float:
    """Quantile (`level`) of the calibration error if outcomes were drawn from the probabilities themselves."""
    rng = np.random.default_rng(seed)
    order = np.argsort(probability, kind="stable")
    starts = [int(b[0]) for b in np.array_split(np.arange(len(order)), CALIBRATION_BINS) if len(b)]
    predicted = np.add.reduceat(probability[order], starts)
    errors: list[float] = []
    while len(errors) < draws:
        some = min(draws - len(errors), max(1, CELLS_AT_ONCE // len(order)))
        churned = (rng.random((some, len(order))) < probability)[:, order]
        errors += list(np.abs(np.add.reduceat(churned, starts, axis=1, dtype=np.int64) - predicted).sum(axis=1))
    return float(np.quantile(errors, level)) / len(order)


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


def churn_metrics(churned: Array, probability: Array, offer: Offer | None = None) -> dict[str, float]:
    """All headline figures of one moment."""
    slope, intercept = calibration_line(churned, probability)
    return ranking_metrics(churned, probability, offer) | {
        "brier": float(brier_score_loss(churned, probability)),
        "calibration_error": expected_calibration_error(churned, probability),
        "calibration_error_limit": calibration_error_limit(probability),
        "calibration_slope": slope,
        "calibration_intercept": intercept,
        "churned_share": float(churned.mean()),
        "predicted_share": float(probability.mean()),
    }


def ranking_metrics(churned: Array, score: Array, offer: Offer | None = None) -> dict[str, float]:
    """The figures of one moment that need an order of users and no probabilities."""
    return {
        "auc": auc(churned, score),
        "average_precision": float(average_precision_score(churned, score)),
        "lift_top_tenth": lift_top_tenth(churned, score),
        "expected_maximum_profit": expected_maximum_profit(churned, score, **asdict(offer or Offer())),
        "users": float(len(churned)),
    }


def horizon_metrics(churned: Array, probability: Array, days: int) -> dict[str, float]:
    """Ranking and calibration at one of several horizons, named by it; nothing where all leave or all stay."""
    if not 0 < churned.mean() < 1:
        return {}
    slope, _ = calibration_line(churned, probability)
    return {
        f"h{days:03d}_auc": auc(churned, probability),
        f"h{days:03d}_calibration_error": expected_calibration_error(churned, probability),
        f"h{days:03d}_calibration_error_limit": calibration_error_limit(probability),
        f"h{days:03d}_calibration_slope": slope,
        f"h{days:03d}_churned_share": float(churned.mean()),
        f"h{days:03d}_predicted_share": float(probability.mean()),
    }


def bootstrap(figure: Callable[[Array], float], users: int, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """A figure of a set of users (given as their indices) with its 95 % interval over resampled users."""
    rng = np.random.default_rng(seed)
    values = [figure(rng.integers(0, users, users)) for _ in range(resamples)]
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(figure(np.arange(users)), float(low), float(high))


@dataclass(frozen=True)
class Pair:
    """Two scores of the same users at one moment.

    Attributes:
        users: int64[users], a number a user, the same at every moment: whoever is drawn is drawn at all of them.
        churned: bool[users].
        ours, theirs: float64[users], higher is worse.
    """

    users: Array
    churned: Array
    ours: Array
    theirs: Array


Weighted = Callable[[Array, Array, Array], Array]  # (churned, score, times drawn[resamples, users]) → [resamples]


def paired_bootstrap(
    figure: Weighted, moments: Sequence[Pair], *, seed: int = 0, resamples: int | None = None
) -> Interval:
    """How much better ours is than theirs, as the mean over moments of the difference of a figure, with its 95 %
    interval over resampled users (percentiles; Efron and Tibshirani 1993). Both scores see the same resamples.

    Resamples in which a figure has no value (no one left) are left out.
    """
    known, rows = np.unique(np.concatenate([pair.users for pair in moments]), return_inverse=True)
    if resamples is None:
        resamples = int(np.clip(MOST_DRAWN // len(rows), 100, PAIRED_RESAMPLES))
    places = np.split(rows, np.cumsum([len(pair.users) for pair in moments])[:-1])

    def differences(drawn: Array) -> Array:
        by_moment = [
            figure(pair.churned, pair.ours, drawn[:, place]) - figure(pair.churned, pair.theirs, drawn[:, place])
            for pair, place in zip(moments, places, strict=True)
        ]
        return np.mean(by_moment, axis=0)

    rng = np.random.default_rng(seed)
    at_once = max(1, CELLS_AT_ONCE // max(1, len(known)))
    values = np.concatenate(
        [
            differences(_times_drawn(rng, min(at_once, resamples - start), len(known)))
            for start in range(0, resamples, at_once)
        ]
    )
    low, high = np.nanquantile(values, [0.025, 0.975])
    return Interval(float(differences(np.ones((1, len(known)), np.int64))[0]), float(low), float(high))


def _times_drawn(rng: np.random.Generator, resamples: int, users: int) -> Array:
    """How often each user is in each resample, int64[resamples, users]."""
    drawn = rng.integers(0, users, (resamples, users)) + np.arange(resamples)[:, None] * users
    return np.bincount(drawn.ravel(), minlength=resamples * users).reshape(resamples, users)


def auc_of_resamples(churned: Array, score: Array, drawn: Array) -> Array:
    """Area under the ROC curve of each resample, float64[resamples]; NaN where no one left or no one stayed.

    Args:
        drawn: int64[resamples, users], how often each user is in each.
    """
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=np.nan) != 0)  # of users with the same score
    drawn, left = drawn[:, order], churned[order].astype(bool)
    leavers = np.add.reduceat(np.where(left, drawn, 0), starts, axis=1)
    stayers = np.add.reduceat(np.where(left, 0, drawn), starts, axis=1)
    below = np.cumsum(stayers, axis=1) - stayers
    pairs = leavers.sum(axis=1) * stayers.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return (leavers * (below + stayers / 2)).sum(axis=1) / pairs


# ---------------------------------------------------------------------------------------------- other policies
# A row is a logged decision: what was chosen there earned `reward`, and was chosen with probability `logged`. Another
# policy would choose the same with probability `target`. The value estimated is the other's mean reward a row.


def importance_weights(logged: Array, target: Array) -> Array:
    """How often the other policy makes each logged choice for each time that the log's does, float64[rows].

    Raises:
        ValueError: a probability in the log is not in (0, 1]: what was chosen can have been chosen.
    """
    if not ((logged > 0) & (logged <= 1)).all():
        raise ValueError("logged propensities must lie in (0, 1]")
    return np.asarray(target / logged, np.float64)


def inverse_propensity(reward: Array, logged: Array, target: Array) -> float:
    """Mean of reward × weight (Horvitz and Thompson 1952): unbiased if the log's policy makes, now and then, every
    choice that the other makes; what it never makes counts as earning nothing."""
    return float((reward * importance_weights(logged, target)).mean())


def self_normalised(reward: Array, logged: Array, target: Array) -> float:
    """Weighted mean of the reward (Swaminathan and Joachims 2015): a little bias for less variance, and within the
    range of the rewards; what the log's policy never chooses counts as the rest. NaN if nothing has weight."""
    weight = importance_weights(logged, target)
    total = weight.sum()
    return float((reward * weight).sum() / total) if total > 0 else float("nan")


def doubly_robust(reward: Array, logged: Array, target: Array, predicted: Array, expected: Array) -> float:
    """Mean of what a model expects of the other policy, corrected by the model's weighted errors on the log (Dudík,
    Langford and Li 2011): unbiased if either the propensities or the model are right.

    Args:
        predicted: float64[rows], the model's reward of the logged choice; it must not have seen this row's reward.
        expected: float64[rows], its mean reward over the other policy's choices there.
    """
    return float((expected + importance_weights(logged, target) * (reward - predicted)).mean())


def effective_sample_size(weight: Array) -> float:
    """How many equally weighted rows are worth as much: (Σw)² / Σw² (Kish 1965); 0 if nothing has weight."""
    squares = float((weight**2).sum())
    return float(weight.sum()) ** 2 / squares if squares else 0.0


def resampled_sums(sums: Array, *, seed: int = 0, resamples: int | None = None) -> Array:
    """Sums over resampled users, float64[resamples, columns]: figures of sums get their bootstrap intervals without
    going over the users' rows again.

    Args:
        sums: float64[users, columns], of each user's rows.
    """
    if resamples is None:
        resamples = int(np.clip(MOST_DRAWN // max(1, len(sums)), 100, PAIRED_RESAMPLES))
    rng = np.random.default_rng(seed)
    at_once = max(1, CELLS_AT_ONCE // max(1, len(sums)))
    parts = [
        _times_drawn(rng, min(at_once, resamples - start), len(sums)) @ sums for start in range(0, resamples, at_once)
    ]
    return np.concatenate(parts)


def percentiles(value: float, resampled: Array) -> Interval:
    """A figure with its 95 % interval, given what it is in each resample; those without a value (NaN) are left out."""
    known = resampled[~np.isnan(resampled)]
    low, high = np.quantile(known, [0.025, 0.975]) if known.size else (np.nan, np.nan)
    return Interval(float(value), float(low), float(high))
