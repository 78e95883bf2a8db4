"""What an offer earns, against sums done by hand and by force."""

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest

from features.errors import UserError
from tests.features.support import Array
from training import metrics
from training.money import Offer, profit_curve, profit_plot

OFFER = Offer(lifetime_value=200, offer_cost=10, contact_cost=1, alpha=6, beta=14)


def users(seed: int, size: int = 3_000) -> tuple[Array, Array]:
    """Probabilities, and outcomes drawn from them."""
    rng = np.random.default_rng(seed)
    probability = rng.beta(1, 6, size)
    return probability, rng.random(size) < probability


def test_by_hand() -> None:
    """Three in ten leavers accept: 0.3 · (200 - 10) - 1 = 56 earned on a leaver, 10 + 1 lost on a stayer."""
    assert OFFER.per_leaver == pytest.approx(56)
    assert OFFER.per_stayer == -11
    assert OFFER.threshold == pytest.approx(11 / 67)
    curve = profit_curve(np.array([0.1, 0.9, 0.5]), OFFER, np.array([False, True, False]))
    assert curve.share == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert curve.expected * 3 == pytest.approx([0, 49.3, 49.3 + 22.5, 49.3 + 22.5 - 4.3])
    assert curve.realised is not None
    assert curve.realised * 3 == pytest.approx([0, 56, 45, 34])
    assert curve.best == 2
    assert curve.best_share == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", range(5))
def test_the_best_share_earns_most_of_all_shares(seed: int) -> None:
    probability, churned = users(seed)
    curve = profit_curve(probability, OFFER, churned)
    assert curve.expected[curve.best] == curve.expected.max()
    assert np.sort(probability)[::-1][curve.best - 1] >= OFFER.threshold > np.sort(probability)[::-1][curve.best]


def test_calibrated_probabilities_foretell_the_profit(tell: Callable[..., None]) -> None:
    probability, churned = users(7, 100_000)
    curve = profit_curve(probability, OFFER, churned)
    assert curve.realised is not None
    assert np.abs(curve.realised - curve.expected).max() < 0.25
    assert curve.realised[curve.best] > curve.realised[-1]
    tell(best_share=round(curve.best_share, 3), realised=round(float(curve.realised[curve.best]), 3))


def test_the_top_of_the_curve_is_the_profit_measure_with_a_certain_share() -> None:
    """With a share of acceptance that is nearly certain, expected maximum profit is the best cut in hindsight."""
    probability, churned = users(8)
    certain = Offer(alpha=6e6, beta=14e6)
    curve = profit_curve(probability, certain, churned)
    assert curve.realised is not None
    maximum = metrics.expected_maximum_profit(churned, probability, **asdict(certain))
    assert curve.realised.max() == pytest.approx(maximum, rel=1e-3)


@pytest.mark.parametrize(
    ("offer", "share"),
    [
        (Offer(contact_cost=1_000), 0.0),  # never pays, not even a certain leaver
        (Offer(offer_cost=0, contact_cost=0), 1.0),  # costs nothing
        (Offer(lifetime_value=5, offer_cost=10), 0.0),  # dearer than the user
    ],
)
def test_extreme_offers(offer: Offer, share: float) -> None:
    probability, _ = users(9)
    curve = profit_curve(np.append(probability, 1.0), offer)
    assert curve.best_share == share
    assert curve.realised is None
    assert curve.expected[curve.best] == curve.expected.max()


def test_dearer_offers_reach_fewer() -> None:
    probability, _ = users(10)
    shares = [profit_curve(probability, Offer(offer_cost=cost)).best_share for cost in (1, 5, 10, 50)]
    assert shares == sorted(shares, reverse=True)
    assert len(set(shares)) == 4


def test_nobody_at_all() -> None:
    curve = profit_curve(np.empty(0), OFFER)
    assert (curve.share.tolist(), curve.expected.tolist(), curve.best_share) == ([0.0], [0.0], 0.0)


@pytest.mark.parametrize(
    "wrong", [{"lifetime_value": 0}, {"offer_cost": -1}, {"alpha": 0}, {"contact_cost": float("nan")}]
)
def test_an_offer_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(wrong))} of an offer is"):
        Offer(**wrong)


def test_the_picture_holds_both_curves() -> None:
    probability, churned = users(11)
    curve = profit_curve(probability, OFFER, churned)
    (axes,) = profit_plot(curve, "2024-06-01").axes
    drawn = {str(line.get_label()): line for line in axes.get_lines()}
    assert drawn["realised"].get_ydata() == pytest.approx(curve.realised)
    assert drawn["expected from the probabilities"].get_ydata() == pytest.approx(curve.expected)
    assert any("worth contacting" in label for label in drawn)
    alone = profit_plot(profit_curve(probability, OFFER), "2024-06-01")
    assert "realised" not in {str(line.get_label()) for line in alone.axes[0].get_lines()}
