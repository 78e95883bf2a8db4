"""Slope and level: planted ones are found, and a moment without leavers, or without stayers, stays finite."""

import numpy as np
import pytest
from scipy import special

from tests.features.support import Array
from training.calibration import fit_levels, fit_slope


def planted(slope: float, levels: list[float], users: int = 20_000, seed: int = 1) -> tuple[Array, Array, Array]:
    """Margins, outcomes and moments; margins are higher at some moments, which must not be taken for slope."""
    rng = np.random.default_rng(seed)
    moment = np.repeat(np.arange(len(levels)), users)
    margin = rng.normal(size=moment.size) + moment
    silent = rng.random(moment.size) < special.expit(slope * margin + np.array(levels)[moment])
    return margin, silent, moment


@pytest.mark.parametrize("slope", [0.4, 0.8, 1.0, 1.7])
def test_a_planted_slope_is_found_whatever_the_levels(slope: float) -> None:
    assert fit_slope(*planted(slope, [-1.0, 0.5, -2.5])) == pytest.approx(slope, abs=0.04)


def test_planted_levels_are_found() -> None:
    levels = [-1.0, 0.5, -2.5]
    margin, silent, moment = planted(0.8, levels)
    found = fit_levels(0.8 * margin, silent, moment)
    assert found == pytest.approx(levels, abs=0.07)
    mean = np.bincount(moment, special.expit(0.8 * margin + found[moment])) / 20_000
    assert mean == pytest.approx(np.bincount(moment, silent) / 20_000, abs=1e-4)  # as many leave as did


def test_a_margin_that_ranks_backwards_has_no_slope() -> None:
    margin, silent, moment = planted(1.0, [0.0])
    assert fit_slope(-margin, silent, moment) == 0.0
    assert abs(fit_slope(np.random.default_rng(2).normal(size=margin.size), silent, moment)) < 0.03


@pytest.mark.parametrize("users", [1, 30, 5_000])
@pytest.mark.parametrize("left", [False, True])
def test_moments_where_none_or_all_left_are_finite(users: int, left: bool) -> None:
    rng = np.random.default_rng(3)
    moment = np.repeat([0, 1], users)
    margin = rng.normal(size=2 * users) * 4
    silent = np.where(moment == 0, left, rng.random(2 * users) < 0.5)
    slope, levels = fit_slope(margin, silent, moment), fit_levels(margin, silent, moment)
    assert 0 <= slope <= 5
    assert np.isfinite(levels).all()
    assert (levels[0] > 0) == left
    everywhere = fit_levels(margin, np.full(2 * users, left), moment)
    assert np.isfinite(everywhere).all()
    assert np.isfinite(fit_slope(margin, np.full(2 * users, left), moment))


def test_margins_that_separate_all_are_finite() -> None:
    margin = np.concatenate([np.full(50, -8.0), np.full(50, 8.0)])
    moment = np.zeros(100, int)
    assert 0 < fit_slope(margin, margin > 0, moment) <= 5
    assert np.isfinite(fit_levels(margin, margin > 0, moment)).all()


def test_equal_margins_leave_only_the_level() -> None:
    silent = np.arange(100) < 30
    slope, moment = fit_slope(np.full(100, 2.0), silent, np.zeros(100, int)), np.zeros(100, int)
    (level,) = fit_levels(np.full(100, slope * 2.0), silent, moment)
    assert special.expit(slope * 2.0 + level) == pytest.approx(0.3, abs=0.01)
