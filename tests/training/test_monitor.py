"""Live users against training, and predictions against what came of them."""

from pathlib import Path

import numpy as np
import pytest

from features.errors import UserError
from features.events.store import Store
from tests.features.support import DAY_US, at, matrix_at
from tests.shop import AS_OF, HORIZON, LOOKBACK, ingested, shop_log, trained_churn
from training.churn import ChurnRun, select
from training.metrics import expected_calibration_error
from training.monitor import live_calibration, monitor

UNTIL = at("2024-04-01")


@pytest.fixture(scope="module")
def run(shop: Store) -> ChurnRun:
    """A model trained two months before the log ends."""
    return trained_churn(shop, as_of=UNTIL)


def test_the_users_of_training_are_calm(shop: Store, run: ChurnRun) -> None:
    """At the newest moment of training nothing can have moved: every index is 0."""
    found = monitor(shop, run.model, as_of=int(run.model.reference.as_of[0]))
    assert len(found.drifts) > len(run.model.signals)
    assert {d.psi for d in found.drifts} == {0.0}
    assert not found.alarm


def test_calibration_is_that_of_a_horizon_ago(shop: Store, run: ChurnRun) -> None:
    found = monitor(shop, run.model, as_of=AS_OF)
    assert found.calibration is not None
    before = AS_OF - HORIZON * DAY_US
    then = matrix_at(shop, before, lookback=LOOKBACK, horizon=HORIZON)
    probability = run.model.score(select(then, run.model))
    assert found.calibration.as_of == before
    assert found.calibration.users == len(then)
    assert found.calibration.error == expected_calibration_error(then.churned, probability)
    assert found.calibration.observed == then.churned.mean()
    assert found.calibration.predicted == probability.mean()
    assert found.users == len(matrix_at(shop, AS_OF, lookback=LOOKBACK))


def test_calibration_is_not_told_where_the_model_was_trained_on_the_outcome(shop: Store, run: ChurnRun) -> None:
    late = UNTIL + HORIZON * DAY_US
    assert monitor(shop, run.model, as_of=late).calibration is not None
    found = monitor(shop, run.model, as_of=late - DAY_US)
    assert found.calibration is None
    assert "outcomes are known up to 2024-03-31 only" in found.not_calibrated


def test_after_the_log_has_ended_silence_is_not_taken_for_leaving(shop: Store, run: ChurnRun) -> None:
    found = monitor(shop, run.model, as_of=AS_OF + 20 * DAY_US)
    assert found.calibration is not None
    assert found.calibration.as_of == AS_OF - HORIZON * DAY_US


def test_nothing_at_or_after_the_moment_is_read(shop: Store, run: ChurnRun, tmp_path: Path) -> None:
    moment = at("2024-05-10")
    log = shop_log()
    stamps = log["ts"].to_numpy().astype("datetime64[us]").astype("int64")
    cut = ingested(log[stamps < moment], tmp_path / "cut")
    assert monitor(cut, run.model, as_of=moment) == monitor(shop, run.model, as_of=moment)


def test_views_that_are_no_longer_logged_ring(shop: Store, run: ChurnRun, tmp_path: Path) -> None:
    moment = at("2024-05-10")
    log = shop_log()
    stamps = log["ts"].to_numpy().astype("datetime64[us]").astype("int64")
    broken = ingested(log[(log["kind"] != "view") | (stamps < moment - 14 * DAY_US)], tmp_path / "broken")
    rung = {d.signal for d in monitor(broken, run.model, as_of=moment).drifts if d.alarm}
    whole = {d.signal for d in monitor(shop, run.model, as_of=moment).drifts if d.alarm}
    assert {"views_7d", "days_since_view", "browse_minutes_7d"} <= rung - whole
    assert not any(name.startswith(("orders", "spend")) for name in rung - whole)


def test_nobody_to_compare_is_said(shop: Store, run: ChurnRun) -> None:
    with pytest.raises(UserError, match=r"no user of .* had a purchase in the 120 days before 2026-01-01"):
        monitor(shop, run.model, as_of=at("2026-01-01"))


@pytest.mark.parametrize(("users", "times"), [(150, 100), (3_000, 20)])
def test_right_probabilities_do_not_ring_and_wrong_ones_do(users: int, times: int) -> None:
    rng = np.random.default_rng(users)
    for _ in range(times):
        probability = rng.beta(2, 3, users)
        right = live_calibration(rng.random(users) < probability, probability, 0)
        assert not right.alarm
    for wrong in (np.clip(probability - 0.2, 0, 1), np.clip(probability + 0.2, 0, 1)):
        assert live_calibration(rng.random(users) < probability, wrong, 0).alarm


def test_a_level_that_is_right_with_a_wrong_shape_rings() -> None:
    rng = np.random.default_rng(3)
    probability = rng.beta(2, 2, 3_000)
    found = live_calibration(rng.random(3_000) < probability, 1 - probability, 0)
    assert abs(found.observed - found.predicted) < found.share_limit
    assert found.alarm
