"""The level of a moment: last year's, moved by how this year has differed, and never nothing."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events.columns import DAY
from models.levels import CARRIED, FAR, YEAR, Levels
from tests.features.support import at

NEWEST = at("2023-11-01")


def every_15_days(days: int, level: Callable[[int], float]) -> Levels:
    """Moments back from the newest, with the level that a function of the day (0: the newest) gives."""
    ago = range(0, days, 15)
    return Levels(NEWEST - np.array(ago) * DAY, np.array([[level(-day)] for day in ago], float))


def wave(day: int) -> float:
    return float(np.sin(2 * np.pi * day / 365))


def test_a_constant_level_stays() -> None:
    levels = every_15_days(700, lambda day: 0.7)
    for ahead in (0, 15, 60, 200, 400, 2_000):
        assert levels.at(NEWEST + ahead * DAY) == pytest.approx([0.7])


def test_the_level_of_a_year_ago_comes_again() -> None:
    levels = every_15_days(760, wave)
    for ahead in (0, 30, 60, 90):
        assert levels.at(NEWEST + ahead * DAY) == pytest.approx([wave(ahead)], abs=0.05)


def test_this_years_difference_is_carried_in_part() -> None:
    higher = every_15_days(760, lambda day: wave(day) + 0.4 * (day > -200))
    for ahead in (30, 60, 90):
        assert higher.at(NEWEST + ahead * DAY) == pytest.approx([wave(ahead) + CARRIED * 0.4], abs=0.05)


def test_without_a_year_the_newest_is_kept() -> None:
    levels = every_15_days(200, lambda day: 0.01 * day)
    newest = levels.at(NEWEST)
    assert newest == pytest.approx([-0.05], abs=0.05)  # the newest few, weighted
    assert levels.at(NEWEST + 60 * DAY) == newest
    assert levels.at(NEWEST + 2_000 * DAY) == newest


def test_without_the_same_date_of_two_years_half_way() -> None:
    """The newest moment has none a year before it; the one asked for has."""
    levels = Levels(np.array([NEWEST, NEWEST - YEAR + 60 * DAY]), np.array([[1.0], [0.0]]))
    assert levels.at(NEWEST + 60 * DAY) == pytest.approx([0.5])


def test_horizons_have_levels_of_their_own() -> None:
    """A long horizon's newest moments are not known yet."""
    values = np.array([[1.0, np.nan], [1.0, np.nan], [1.0, -2.0]])
    levels = Levels(NEWEST - np.array([0, 30, 60]) * DAY, values)
    assert levels.at(NEWEST) == pytest.approx([1.0, -2.0])


moments = st.lists(st.tuples(st.integers(0, 1_000), st.floats(-8, 8)), min_size=1, max_size=30)


@given(moments, st.integers(-800, 2_000))
def test_a_level_is_never_nothing_and_never_wild(known: list[tuple[int, float]], ahead: int) -> None:
    ago, values = (np.array(column) for column in zip(*known, strict=True))
    (level,) = Levels(NEWEST - ago * DAY, values[:, None].astype(float)).at(NEWEST + ahead * DAY)
    low, high = values.min(), values.max()
    assert low - CARRIED * (high - low) - 1e-9 <= level <= high + CARRIED * (high - low) + 1e-9


def test_far_is_farther_than_training_moments_lie_apart() -> None:
    """With moments 15 days apart there is always one near enough a year before."""
    levels = every_15_days(760, wave)
    assert FAR > 15 * DAY
    assert all(abs(levels.at(NEWEST + ahead * DAY)[0] - wave(ahead)) < 0.1 for ahead in range(120))
