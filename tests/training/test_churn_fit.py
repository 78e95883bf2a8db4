"""What a churn model is fitted on: outcomes that were known, every user, and nothing of the days to come."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from features.engines.local import matrices
from features.events.store import Store
from features.matrix import Matrix
from features.signals import Signal, all_signals
from features.timeline import Array as Column
from features.timeline import Moment
from models.alarm import AlarmSettings
from models.churn import ChurnModel
from tests.features.support import DAY_US, at
from tests.shop import AS_OF, HORIZON, LOOKBACK, churn_recipe
from training import metrics
from training.churn import select
from training.churn_fit import Fitting, fit, sample_rows

UNTIL = at("2024-01-01")
HORIZONS = (7, 14, 30, 60)
DAY = np.array([0])  # the only column of the matrices made here: the day of the moment


def matrix(days_before: int, users: int = 200) -> Matrix:
    rng = np.random.default_rng(days_before)
    values = np.full((users, 1), days_before, np.float32)
    ids = pa.array([f"u{i}" for i in range(users)])
    after = np.where(rng.random(users) < 0.3, np.inf, rng.exponential(20, users))
    return Matrix(ids, UNTIL - days_before * DAY_US, all_signals()[:1], values, after, 30)


@pytest.fixture
def fitting() -> Fitting:
    return Fitting([matrix(days) for days in (7, 13, 14, 29, 30, 45, 60, 75)], UNTIL, HORIZONS, 30, 180)


def test_no_row_whose_outcome_is_not_known(fitting: Fitting) -> None:
    rows = sample_rows(fitting, DAY, 1, 3)
    before, horizon = rows.values[:, 0], rows.values[:, 1]
    assert (horizon <= before).all()
    assert set(horizon[before == 29]) == {7, 14}
    assert set(horizon[before == 75]) == set(HORIZONS)


def test_each_user_once_for_the_horizon_asked_for_and_once_for_another(fitting: Fitting) -> None:
    rows = sample_rows(fitting, DAY, 1, 3)
    for days in (7, 13, 14, 29, 30, 45, 60, 75):
        horizon = rows.values[rows.values[:, 0] == days, 1]
        assert (horizon == 30).sum() == 200 * (days >= 30)
        assert (horizon != 30).sum() == 200
    at_75 = [int((rows.values[rows.values[:, 0] == 75, 1] == other).sum()) for other in (7, 14, 60)]
    assert sum(at_75) == 200
    assert min(at_75) > 30  # all others, about evenly


def test_the_outcomes_are_those_of_the_horizon(fitting: Fitting) -> None:
    rows = sample_rows(fitting, DAY, 1, 3)
    for one in fitting.train:
        for days in fitting.told(one):
            chosen = (rows.values[:, 0] == one.values[0, 0]) & (rows.values[:, 1] == days)
            if days == 30:
                assert (rows.silent[chosen] == one.silent(30)).all()
            assert rows.silent[chosen].mean() == pytest.approx(one.silent(days).mean(), abs=0.15)


def test_a_group_is_a_moment_and_a_horizon_and_its_start_the_share_of_leavers(fitting: Fitting) -> None:
    rows = sample_rows(fitting, DAY, 1, 3)
    pairs = rows.values[:, 0] * 1_000 + rows.values[:, 1]
    assert len(np.unique(pairs)) == len(np.unique(rows.group)) == len(np.unique(pairs * 1_000 + rows.group))
    chosen = rows.group == rows.group[0]
    share = (rows.silent[chosen].sum() + 0.5) / (chosen.sum() + 1)
    assert rows.start[0] == pytest.approx(np.log(share / (1 - share)))


def test_a_user_is_always_in_the_same_fold(fitting: Fitting) -> None:
    """So that slopes are measured on users that a booster has never seen, at no moment."""
    rows = sample_rows(fitting, DAY, 1, 3)
    folds = rows.fold[rows.values[:, 0] == 7]
    assert (np.bincount(folds, minlength=3) > 30).all()
    for days in (13, 14, 29):
        assert (rows.fold[rows.values[:, 0] == days] == folds).all()


def test_the_same_seed_gives_the_same_rows(fitting: Fitting) -> None:
    one, same, other = (sample_rows(fitting, DAY, seed, 3) for seed in (1, 1, 2))
    assert (one.values == same.values).all()
    assert (one.values != other.values).any()


# ------------------------------------------------------------------------------------------- leakage canary


def tomorrow(moment: Moment) -> Column:
    """What a careless signal does: it looks a day ahead."""
    later = moment._passes.timeline.as_of([moment.as_of + DAY_US])[0]
    return later.days_since("purchase")


CANARY = Signal("canary", "recency", "days", "Days since the last purchase, tomorrow.", tomorrow, "canary")


def bought_today_or_tomorrow(model: ChurnModel, tests: list[Matrix]) -> float:
    """AUC of the score between users who bought on the first day after a moment and those who did on the second.

    It is near a half for a model that cannot see the first day.
    """
    ranked, second = [], []
    for one in tests:
        assert one.days_to_purchase is not None
        score = model.score(select(one, model), one.as_of)
        ranked.append(np.argsort(np.argsort(score)) / len(one))
        second.append(np.where(one.days_to_purchase < 2, np.floor(one.days_to_purchase), np.nan))
    score, day = np.concatenate(ranked), np.concatenate(second)
    return float(metrics.auc(day[~np.isnan(day)] == 1, score[~np.isnan(day)]))


def test_a_model_that_looks_a_day_ahead_is_told_from_one_that_does_not(shop: Store, tell: Callable[..., None]) -> None:
    moments = [AS_OF - days * DAY_US for days in (30, 37, 44, 51, 58, 65, 95, 110, 125, 140, 155)]
    found = {}
    for name, chosen in (("blind", all_signals()), ("looks ahead", (*all_signals(), CANARY))):
        made = matrices(shop, moments, chosen, lookback=LOOKBACK, horizon=HORIZON)
        recipe = churn_recipe()
        data = Fitting(made[6:], AS_OF - 65 * DAY_US, (7, 14, 30), HORIZON, LOOKBACK)
        model = fit(data, recipe, plain_share=0.0, alarm=AlarmSettings.from_dict(recipe["alarm"]), threads=1)
        found[name] = bought_today_or_tomorrow(model, made[:6])
    assert found["blind"] < 0.75
    assert found["looks ahead"] > found["blind"] + 0.1
    tell(**found)
