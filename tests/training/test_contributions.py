"""What scores rest on: shares of gain, directions, and what leads among users at high risk."""

from dataclasses import replace

import numpy as np
import pytest

from training.churn import ChurnRun, select
from training.contributions import by_family, gain_shares, heaviest, leading_families


def test_shares_are_of_the_signals_and_add_up(churn_run: ChurnRun) -> None:
    model = churn_run.model
    shares = gain_shares(model)
    assert shares.shape == (len(model.signals),)
    assert shares.sum() == pytest.approx(1)
    families = by_family(model.signals, shares)
    assert list(families.values()) == sorted(families.values(), reverse=True)
    rhythm = [share for signal, share in zip(model.signals, shares, strict=True) if signal.family == "rhythm"]
    assert families["rhythm"] == pytest.approx(sum(rhythm))


def test_the_heaviest_come_first_and_point_where_the_score_goes(churn_run: ChurnRun) -> None:
    matrix = churn_run.backtest[0].matrix
    found = heaviest(churn_run.model, matrix, 1_000)
    assert len(found) == len(churn_run.model.signals)
    assert [w.share for w in found] == sorted((w.share for w in found), reverse=True)
    direction = {w.signal.name: w.direction for w in found}
    assert direction["days_since_purchase"] > 0.3
    assert direction["orders_30d"] < -0.3


def test_a_signal_without_values_has_no_direction(churn_run: ChurnRun) -> None:
    matrix = churn_run.backtest[0].matrix
    values = matrix.values.copy()
    values[:, matrix.names.index("orders_30d")] = np.nan
    found = {w.signal.name: w.direction for w in heaviest(churn_run.model, replace(matrix, values=values), 1_000)}
    assert np.isnan(found["orders_30d"])


def test_each_user_at_high_risk_is_led_by_one_family_at_most(churn_run: ChurnRun) -> None:
    model, matrix = churn_run.model, churn_run.backtest[0].matrix
    found = leading_families(model, matrix)
    high = (model.score(select(matrix, model), matrix.as_of) >= model.risk_cuts[1]).sum()
    assert found.users == high > 0
    assert 0 < sum(found.families.values()) <= found.users
    assert leading_families(replace(model, risk_cuts=(0.0, 2.0)), matrix) == (0, {})
