"""What a churn model promises at any horizon and moment, on the small shop and, slowly, on Online Retail II."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from features.engines.local import matrices
from features.errors import UserError
from features.events import sources
from features.events.ingest import ingest
from features.events.store import Store
from models.bundle import open_bundle
from models.churn import ChurnModel, load
from models.levels import Levels
from models.plain import SIGNALS
from tests.features.support import DAY_US, NOW, ROOT, Array, at
from tests.shop import AS_OF, HORIZON, LOOKBACK, bundle_of
from training.churn import ChurnRun, train_churn

SHARES = (0.0, 0.5, 1.0)  # of the plain score
SILENCE = (0.01, 1.0, 7.0, 60.0, 1_000.0)  # days more


@pytest.fixture(scope="module")
def values(shop: Store, churn_run: ChurnRun) -> Array:
    """The model's signals of every buyer of the shop, of former and of new ones too."""
    signals = churn_run.model.signals
    rows = np.concatenate([m.values for m in matrices(shop, [AS_OF, AS_OF - 200 * DAY_US], signals)])
    return rows[rows[:, churn_run.model.names.index("orders_ever")] > 0]


def wild(model: ChurnModel, values: Array) -> Array:
    """Rows that no log would give beside their dates and amounts: not observed, negative, huge."""
    strange = [np.nan, -1e9, -1.0, 0.0, 0.5, 1.0, 30.0, 400.0, 3e38]
    rows = np.random.default_rng(1).choice(strange, values.shape).astype(np.float32)
    kept = [model.names.index(name) for name in SIGNALS]
    rows[:, kept] = values[:, kept]
    return rows


def every_horizon(model: ChurnModel, values: Array, as_of: int) -> Array:
    """float64[users, days]: the probability for each whole number of days."""
    return np.stack([model.score(values, as_of, days) for days in range(1, model.horizons[-1] + 1)], axis=1)


def check_horizons(model: ChurnModel, values: Array, as_of: int) -> int:
    """Never rising for anybody, and as learned at the horizons of training; cells compared."""
    curve = every_horizon(model, values, as_of)
    assert ((curve >= 0) & (curve <= 1)).all()
    assert (np.diff(curve, axis=1) <= 0).all()
    learned = [days - 1 for days in model.horizons]
    np.testing.assert_allclose(curve[:, learned], model.curve(values, as_of), rtol=1e-7, atol=1e-8)
    return int(curve.size)


def check_direction(model: ChurnModel, values: Array, as_of: int) -> int:
    """Law 8: with every other signal held, churn never falls as the silence grows; cells compared."""
    place, compared = model.names.index("days_since_purchase"), 0
    before = model.curve(values, as_of)
    for more in SILENCE:
        longer = values.copy()
        longer[:, place] += more
        after = model.curve(longer, as_of)
        assert (after >= before - 1e-12).all()
        compared += after.size
    return compared


@pytest.mark.parametrize("share", SHARES)
def test_never_rises_with_the_horizon_for_anybody(
    churn_run: ChurnRun, values: Array, share: float, tell: Callable[..., None]
) -> None:
    model = replace(churn_run.model, plain_share=share)
    tell(probabilities_compared=check_horizons(model, values, AS_OF) + check_horizons(model, values, AS_OF - DAY_US))


def test_the_laws_hold_for_users_that_cannot_be(churn_run: ChurnRun, values: Array) -> None:
    model = churn_run.model
    for share in SHARES:
        check_horizons(replace(model, plain_share=share), wild(model, values), AS_OF)
        check_direction(replace(model, plain_share=share), wild(model, values), AS_OF)


def test_even_scores_that_cross_give_a_curve_that_falls(churn_run: ChurnRun, values: Array) -> None:
    """Slopes and levels as far apart as they could be."""
    slopes = np.array([0.0, 5.0, 0.2, 3.0])
    levels = Levels(np.array([AS_OF]), np.array([[-2.0, 4.0, 5.0, -9.0]]))
    check_horizons(replace(churn_run.model, slopes=slopes, levels=levels), values, AS_OF)


def test_between_horizons_the_hazard_is_a_power_of_time(churn_run: ChurnRun, values: Array) -> None:
    """So the logarithm of the cumulative hazard is a straight line of the logarithm of time; before the first horizon
    the hazard is constant."""
    model = churn_run.model
    first, second = model.horizons[:2]
    middle = np.sqrt(first * second)
    hazard = {days: -np.log(model.score(values, AS_OF, days)) for days in (1.0, first / 2, first, middle, second)}
    sure = (model.curve(values, AS_OF)[:, 1] > 1e-6) & (model.curve(values, AS_OF)[:, 0] < 1 - 1e-6)
    assert sure.mean() > 0.9
    np.testing.assert_allclose(hazard[middle][sure] ** 2, (hazard[first] * hazard[second])[sure], rtol=1e-6)
    np.testing.assert_allclose(hazard[first / 2][sure] * 2, hazard[first][sure], rtol=1e-6)
    np.testing.assert_allclose(hazard[1.0][sure] * first, hazard[first][sure], rtol=1e-6)


def test_one_horizon_alone_is_enough(churn_run: ChurnRun, values: Array) -> None:
    model = churn_run.model
    alone = replace(
        model,
        horizons=(30,),
        slopes=model.slopes[2:3],
        levels=Levels(model.levels.as_of, model.levels.values[:, 2:3]),
        base_rates=model.base_rates[2:3],
    )
    check_horizons(alone, values, AS_OF)
    assert 0 < alone.base_rate(5) <= 1


@pytest.mark.parametrize("share", SHARES)
def test_churn_never_falls_as_the_silence_grows(
    churn_run: ChurnRun, values: Array, share: float, tell: Callable[..., None]
) -> None:
    model = replace(churn_run.model, plain_share=share)
    tell(probabilities_compared=check_direction(model, values, AS_OF))
    place = model.names.index("days_since_purchase")
    longer = values.copy()
    longer[:, place] += 90
    assert (model.score(longer, AS_OF) > model.score(values, AS_OF)).mean() > 0.3  # it is not for want of an effect


def test_the_expected_days(churn_run: ChurnRun, values: Array) -> None:
    model = churn_run.model
    days = model.expected_days(model.curve(values, AS_OF))
    assert (days > 0).all()
    assert (days <= model.horizons[-1]).all()
    assert np.corrcoef(days, model.score(values, AS_OF))[0, 1] > 0.8
    likelier = replace(model, levels=replace(model.levels, values=model.levels.values - 0.3))
    assert (likelier.curve(values, AS_OF) <= model.curve(values, AS_OF)).all()
    assert (likelier.expected_days(likelier.curve(values, AS_OF)) < days).all()


def test_the_expected_days_are_the_area_under_the_curve(churn_run: ChurnRun, values: Array) -> None:
    """By hand, a day at a time."""
    model = churn_run.model
    curve = np.column_stack([np.ones(len(values)), every_horizon(model, values, AS_OF)])
    by_hand = (curve[:, 1:] + curve[:, :-1]).sum(axis=1) / 2
    np.testing.assert_allclose(model.expected_days(model.curve(values, AS_OF)), by_hand, atol=0.3)


@pytest.mark.parametrize("horizon", [0, 0.99, -5, 60.5, 61, 10_000, float("nan"), float("inf")])
def test_a_horizon_beyond_those_of_training_is_refused(churn_run: ChurnRun, values: Array, horizon: float) -> None:
    with pytest.raises(UserError, match=r"tells of 1 to 60: ask for one of those, or train on a longer log"):
        churn_run.model.score(values, AS_OF, horizon)


def test_without_a_horizon_it_is_that_of_training(churn_run: ChurnRun, values: Array) -> None:
    model = churn_run.model
    assert (model.score(values, AS_OF) == model.score(values, AS_OF, HORIZON)).all()
    assert (model.score(values) == model.score(values, model.as_of, HORIZON)).all()


def test_the_moment_matters_only_through_the_level(churn_run: ChurnRun, values: Array) -> None:
    model = churn_run.model
    moments = [AS_OF - 300 * DAY_US, AS_OF, AS_OF + 250 * DAY_US, AS_OF + 365 * DAY_US]
    first = [special.logit(model.curve(values, m)[:, 0]) - model.levels.at(m)[0] for m in moments]
    for other in first[1:]:
        np.testing.assert_allclose(other, first[0], rtol=1e-6, atol=1e-6)
    assert len({tuple(model.levels.at(m)) for m in moments}) > 1
    constant = replace(model, levels=Levels(np.zeros(1, np.int64), np.zeros((1, len(model.horizons)))))
    assert all((constant.score(values, m) == constant.score(values, moments[0])).all() for m in moments)


def test_who_is_asked_about_along_with_a_user_does_not_matter(churn_run: ChurnRun, values: Array) -> None:
    model = churn_run.model
    together = model.curve(values, AS_OF)
    for row in (0, 17, len(values) - 1):
        assert (model.curve(values[row : row + 1], AS_OF)[0] == together[row]).all()
    assert model.curve(values[:0], AS_OF).shape == (0, len(model.horizons))


def test_a_loaded_model_scores_alike_at_every_horizon(
    churn_run: ChurnRun, values: Array, tmp_path: Path, tell: Callable[..., None]
) -> None:
    for share in SHARES:
        model = replace(churn_run.model, plain_share=share)
        loaded = load(open_bundle(bundle_of(tmp_path / str(share), model, None)))
        curve = every_horizon(model, values, AS_OF)
        assert (every_horizon(loaded, values, AS_OF) == curve).all()
        assert (
            loaded.expected_days(loaded.curve(values, AS_OF)) == model.expected_days(model.curve(values, AS_OF))
        ).all()
        assert [loaded.base_rate(days) for days in (1, 30, 60)] == [model.base_rate(days) for days in (1, 30, 60)]
        assert loaded.risk_cuts == model.risk_cuts
    tell(probabilities_compared=len(SHARES) * curve.size)


def test_base_rates_fall_with_the_horizon_and_risk_with_the_cuts(churn_run: ChurnRun) -> None:
    model = churn_run.model
    rates = [model.base_rate(days) for days in range(1, model.horizons[-1] + 1)]
    assert np.all(np.diff(rates) <= 0)
    assert 0 < rates[-1] < rates[0] <= 1
    assert model.base_rate() == model.base_rate(HORIZON)
    medium, high = model.risk_cuts
    assert model.risk(np.array([0.0, medium - 1e-9, medium, high - 1e-9, high, 1.0])) == [
        *("low", "low", "medium", "medium", "high", "high")
    ]


@pytest.mark.slow
def test_the_laws_hold_on_online_retail(
    online_retail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tell: Callable[..., None]
) -> None:
    """Horizons to half a year, every user with a purchase in the look-back, and users long gone."""
    monkeypatch.setenv("ONLINE_RETAIL_PARQUET", str(online_retail))
    store = ingest(sources.find_source(ROOT / "sources" / "online_retail"), tmp_path / "store", now=NOW).store
    assert store is not None
    moment = at("2011-11-09")
    run = train_churn(store, as_of=moment, horizon=HORIZON, lookback=LOOKBACK)
    matrix = matrices(store, [moment], run.model.signals)[0]
    buyers = matrix.values[matrix.column("orders_ever") > 0]
    assert run.model.horizons[-1] == 180
    assert len(buyers) > 5_000
    compared = check_horizons(run.model, buyers, moment)
    for share in SHARES:
        compared += check_direction(replace(run.model, plain_share=share), buyers, moment)
    tell(users=len(buyers), probabilities_compared=compared)
