"""BG/NBD's likelihood: the published parameters, planted ones, and logs that have none."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.errors import UserError
from models.bgnbd import BgNbd, Purchases
from tests.models.test_bgnbd import AHEAD, MODEL, played
from training.bgnbd import MOST_FITTED, fit_bgnbd, log_likelihood


@pytest.fixture
def cdnow() -> Purchases:
    """The paper's 2,357 customers of CDNOW, in weeks; read from another library's folder, which is not imported."""
    spec = importlib.util.find_spec("lifetimes")
    if spec is None or spec.origin is None:
        pytest.skip("the CDNOW sample is absent: pip install lifetimes")
    sample = pd.read_csv(Path(spec.origin).parent / "datasets" / "cdnow_customers_summary.csv")
    assert len(sample) == 2_357
    return Purchases(*(sample[name].to_numpy(float) for name in ("frequency", "recency", "T")))


def test_the_published_parameters(cdnow: Purchases) -> None:
    """Fader, Hardie and Lee (2005), table 2: also the log-likelihood of all customers, -9582.4."""
    found = fit_bgnbd(cdnow)
    assert [found.r, found.alpha, found.a, found.b] == pytest.approx([0.243, 4.414, 0.793, 2.426], abs=0.002)
    assert log_likelihood(found, cdnow) * 2_357 == pytest.approx(-9_582.4, abs=0.1)


def test_the_unit_of_time_does_not_matter(cdnow: Purchases) -> None:
    weeks, days = fit_bgnbd(cdnow), fit_bgnbd(Purchases(cdnow.repeats, 7 * cdnow.last, 7 * cdnow.age))
    assert days.alpha == pytest.approx(7 * weeks.alpha, rel=1e-3)
    assert [days.r, days.a, days.b] == pytest.approx([weeks.r, weeks.a, weeks.b], rel=1e-3)


def test_planted_parameters_are_found() -> None:
    past, ahead = played(MODEL, MOST_FITTED, 3)
    found = fit_bgnbd(past)
    assert [found.r, found.alpha] == pytest.approx([MODEL.r, MODEL.alpha], rel=0.1)
    assert found.a / (found.a + found.b) == pytest.approx(MODEL.a / (MODEL.a + MODEL.b), rel=0.1)
    assert found.expected(past, AHEAD).sum() == pytest.approx(ahead.sum(), rel=0.03)


def test_of_many_customers_a_sample_is_enough() -> None:
    past, _ = played(MODEL, 2 * MOST_FITTED, 4)
    found = fit_bgnbd(past)
    assert found == fit_bgnbd(past)
    assert [found.r, found.alpha] == pytest.approx([MODEL.r, MODEL.alpha], rel=0.1)


def test_nobody_bought_twice() -> None:
    with pytest.raises(UserError, match="second purchase"):
        fit_bgnbd(Purchases(np.zeros(50), np.zeros(50), np.linspace(1, 90, 50)))


@pytest.mark.parametrize("case", ["all at once", "all at the moment", "one buyer", "nobody leaves", "one rate"])
def test_degenerate_logs_have_finite_parameters(case: str) -> None:
    past = {
        "all at once": Purchases(np.full(50, 1.0), np.zeros(50), np.full(50, 30.0)),
        "all at the moment": Purchases(np.full(50, 1.0), np.zeros(50), np.zeros(50)),
        "one buyer": Purchases(np.array([1.0]), np.array([10.0]), np.array([30.0])),
        "nobody leaves": Purchases(np.full(50, 30.0), np.full(50, 300.0), np.full(50, 300.0)),
        "one rate": Purchases(*(np.repeat(v, 25) for v in ([10.0, 1.0], [100.0, 10.0], [101.0, 90.0]))),
    }[case]
    found = fit_bgnbd(past)
    assert isinstance(found, BgNbd)
    assert all(np.isfinite(value) and value > 0 for value in (found.r, found.alpha, found.a, found.b))
    expected = found.expected(past, 30)
    assert np.isfinite(expected).all()
    assert (expected >= 0).all()
