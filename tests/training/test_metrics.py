"""The figures of a churn model against hand-made cases, brute force and scikit-learn."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score

from tests.features.support import Array
from training import metrics


def example(seed: int, users: int = 400, distinct: int | None = None) -> tuple[Array, Array]:
    """Outcomes and scores that tell something of them; with few distinct scores there are ties."""
    rng = np.random.default_rng(seed)
    churned = rng.random(users) < rng.uniform(0.1, 0.7)
    score = 1 / (1 + np.exp(-(rng.normal(size=users) + rng.uniform(0, 2) * churned - 1)))
    return churned, score if distinct is None else np.floor(score * distinct) / distinct


def test_auc_counts_pairs_and_half_of_the_ties() -> None:
    churned, score = example(1, 80, distinct=6)
    pairs = [
        1.0 if leaver > stayer else 0.5 * (leaver == stayer) for leaver in score[churned] for stayer in score[~churned]
    ]
    assert metrics.auc(churned, score) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_lift_by_hand() -> None:
    churned = np.array([1, 1, 0, 1, 0, 0, 0, 0, 0, 0] * 2, bool)
    score = np.linspace(1, 0, 20)
    assert metrics.lift_top_tenth(churned, score) == pytest.approx(1.0 / 0.3)  # 2 of 20 users, both leave; 6 of 20 do
    assert metrics.lift_top_tenth(churned, -score) == 0.0
    assert metrics.lift_top_tenth(churned[:4], score[:4]) == pytest.approx(1 / 0.75)  # never fewer than one user


def test_calibration_error_by_hand() -> None:
    # 15 bins of two users each: predicted 0.5 + 0.5, observed 1 or 2 or 0.
    churned = np.array([0, 1] * 10 + [1, 1] * 3 + [0, 0] * 2, bool)
    assert metrics.expected_calibration_error(churned, np.full(30, 0.5)) == pytest.approx((3 + 2) / 30)
    assert metrics.expected_calibration_error(churned, churned.astype(float)) == 0.0
    assert metrics.expected_calibration_error(churned, np.zeros(30)) == pytest.approx(churned.mean())


def test_the_limit_is_what_perfect_probabilities_reach() -> None:
    rng = np.random.default_rng(3)
    probability = rng.beta(2, 3, 2_800)
    limit = metrics.calibration_error_limit(probability)
    errors = [metrics.expected_calibration_error(rng.random(2_800) < probability, probability) for _ in range(300)]
    assert 0.015 < np.median(errors) < 0.035  # PROTOCOLS: about .025 with 2,800 users
    assert np.mean(np.array(errors) <= limit) == pytest.approx(0.95, abs=0.04)
    assert metrics.calibration_error_limit(probability) == limit


def test_the_calibration_line_finds_slope_and_intercept() -> None:
    rng = np.random.default_rng(4)
    logit = rng.normal(size=200_000)
    churned = rng.random(logit.size) < 1 / (1 + np.exp(-(0.5 * logit - 0.7)))
    slope, intercept = metrics.calibration_line(churned, 1 / (1 + np.exp(-logit)))
    assert slope == pytest.approx(0.5, abs=0.02)
    assert intercept == pytest.approx(-0.7, abs=0.02)


# ------------------------------------------------------------------------------- expected maximum profit


def profit_by_force(churned: Array, score: Array, alpha: float, beta: float, value: float, cost: tuple[float, float]):
    """Verbraken et al.'s integral by the midpoint rule over the share of leavers who accept, trying every cut-off."""
    offer, contact = cost
    cuts = [np.inf, *np.unique(score)]
    contacted = np.stack([score >= cut for cut in cuts])
    leavers = (contacted & churned).mean(axis=1)
    stayers = (contacted & ~churned).mean(axis=1)
    shares = (np.arange(20_000) + 0.5) / 20_000
    density = stats.beta.pdf(shares, alpha, beta)
    gain = leavers[:, None] * (shares * (value - offer) - contact) - stayers[:, None] * (offer + contact)
    return float((gain.max(axis=0) * density).mean())


@pytest.mark.parametrize("distinct", [None, 7])
@pytest.mark.parametrize("seed", range(6))
def test_profit_equals_brute_force(seed: int, distinct: int | None) -> None:
    churned, score = example(seed, 250, distinct)
    for alpha, beta, value, cost in ((6, 14, 200, (10, 1)), (2, 3, 50, (10, 5)), (6, 14, 20, (10, 1))):
        options = {"lifetime_value": value, "offer_cost": cost[0], "contact_cost": cost[1]}
        found = metrics.expected_maximum_profit(churned, score, alpha=alpha, beta=beta, **options)
        forced = profit_by_force(churned, score, alpha, beta, value, cost)
        assert found == pytest.approx(forced, rel=1e-4, abs=1e-4)


def test_profit_by_hand() -> None:
    """A perfect score contacts the leavers only: half of them, 200 · 0.3 accept, less offers and contacts."""
    churned = np.array([1, 0] * 50, bool)
    by_hand = 0.5 * (0.3 * (200 - 10) - 1)
    assert metrics.expected_maximum_profit(churned, churned.astype(float)) == pytest.approx(by_hand, rel=1e-4)
    # A score that says nothing: everyone or no one.
    everyone = 0.5 * (0.3 * 190 - 1) - 0.5 * 11
    assert metrics.expected_maximum_profit(churned, np.zeros(100)) == pytest.approx(everyone, rel=1e-3)


@pytest.mark.parametrize("distinct", [None, 5])
def test_the_hull_lies_over_the_curve_and_falls_in_slope(distinct: int | None) -> None:
    churned, score = example(9, 300, distinct)
    hits, alarms = metrics._roc_hull(churned, score)
    assert (hits[0], alarms[0], hits[-1], alarms[-1]) == (0, 0, 1, 1)
    slopes = np.diff(hits) / np.maximum(np.diff(alarms), 1e-12)
    assert (np.diff(slopes) < 0).all()
    for cut in np.unique(score):
        chosen = score >= cut
        assert (
            np.interp((chosen & ~churned).sum() / (~churned).sum(), alarms, hits)
            >= (chosen & churned).sum() / (churned.sum()) - 1e-12
        )
    area = np.trapezoid(hits, alarms)
    fitted = IsotonicRegression().fit_transform(score, churned)  # the hull is the curve of the isotonic fit
    assert area == pytest.approx(roc_auc_score(churned, fitted), abs=1e-9)


# -------------------------------------------------------------------------------------------------- intervals


def test_bootstrap_interval_of_a_mean(tell: Callable[..., None]) -> None:
    values = np.random.default_rng(6).normal(3.0, 2.0, 1_000)
    found = metrics.bootstrap(lambda users: float(values[users].mean()), 1_000, resamples=500)
    half = 1.96 * values.std() / np.sqrt(1_000)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)
    assert found == metrics.bootstrap(lambda users: float(values[users].mean()), 1_000, resamples=500)


def test_all_figures_of_a_moment_are_there_and_finite() -> None:
    churned, probability = example(11, 500)
    found = metrics.churn_metrics(churned, probability)
    assert np.isfinite(list(found.values())).all()
    assert found["brier"] == pytest.approx(((probability - churned) ** 2).mean())
    assert found["churned_share"] == churned.mean()
    assert found["users"] == 500


@pytest.mark.parametrize("distinct", [None, 6])
def test_auc_of_resamples_is_the_auc_of_each(distinct: int | None) -> None:
    churned, score = example(12, 300, distinct)
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 300, (20, 300))
    drawn = np.stack([np.bincount(row, minlength=300) for row in rows])
    found = metrics.auc_of_resamples(churned, score, drawn)
    assert found == pytest.approx([roc_auc_score(churned[row], score[row]) for row in rows], abs=1e-12)
    nobody_left = np.where(churned, 0, drawn[:1])
    assert np.isnan(metrics.auc_of_resamples(churned, score, nobody_left)).all()


def pair(seed: int, users: int, noise: float) -> metrics.Pair:
    """Our score, and theirs with noise on top."""
    churned, ours = example(seed, users)
    theirs = ours + np.random.default_rng(seed).normal(0, noise, users)
    return metrics.Pair(np.arange(users), churned, ours, theirs)


def test_paired_bootstrap_is_that_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    one = pair(13, 500, 0.3)
    found = metrics.paired_bootstrap(metrics.auc_of_resamples, [one], seed=3, resamples=200)
    slow = metrics.bootstrap(
        lambda rows: (
            roc_auc_score(one.churned[rows], one.ours[rows]) - roc_auc_score(one.churned[rows], one.theirs[rows])
        ),
        500,
        seed=3,
        resamples=200,
    )
    assert [found.value, found.low, found.high] == pytest.approx([slow.value, slow.low, slow.high], abs=1e-12)
    monkeypatch.setattr(metrics, "CELLS_AT_ONCE", 7 * 500)  # fewer at once: the same
    assert metrics.paired_bootstrap(metrics.auc_of_resamples, [one], seed=3, resamples=200) == found


def test_a_score_does_not_differ_from_itself() -> None:
    same = pair(14, 200, 0.0)
    assert metrics.paired_bootstrap(metrics.auc_of_resamples, [same]) == metrics.Interval(0.0, 0.0, 0.0)


def test_the_order_of_scores_turns_the_sign() -> None:
    one = pair(15, 400, 0.5)
    there = metrics.paired_bootstrap(metrics.auc_of_resamples, [one])
    turned = metrics.Pair(one.users, one.churned, one.theirs, one.ours)
    back = metrics.paired_bootstrap(metrics.auc_of_resamples, [turned])
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))
    assert there.low > 0


def test_a_user_is_drawn_at_all_moments_or_at_none() -> None:
    """The same users twice tell no more than once; other users do, though nothing else is different."""
    one = pair(16, 300, 0.4)
    once = metrics.paired_bootstrap(metrics.auc_of_resamples, [one])
    again = metrics.paired_bootstrap(metrics.auc_of_resamples, [one, one])
    assert again.high - again.low == pytest.approx(once.high - once.low, rel=1e-9)
    others = metrics.Pair(one.users + 300, one.churned, one.ours, one.theirs)
    more = metrics.paired_bootstrap(metrics.auc_of_resamples, [one, others])
    assert more.high - more.low == pytest.approx((once.high - once.low) / np.sqrt(2), rel=0.15)
    assert more.value == pytest.approx(once.value)


def test_a_paired_interval_is_narrower_than_those_of_each() -> None:
    one = pair(17, 500, 0.02)
    found = metrics.paired_bootstrap(metrics.auc_of_resamples, [one])
    alone = metrics.bootstrap(lambda rows: metrics.auc(one.churned[rows], one.ours[rows]), 500)
    assert found.high - found.low < (alone.high - alone.low) / 3


def test_a_stricter_limit_of_calibration_is_wider() -> None:
    probability = np.random.default_rng(18).beta(2, 3, 900)
    usual = metrics.calibration_error_limit(probability)
    assert usual < metrics.calibration_error_limit(probability, level=0.999) < 3 * usual
