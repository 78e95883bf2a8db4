"""What a churn model must beat, on logs made by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.events.store import Store
from models.alarm import AlarmSettings
from tests.features.support import DAY_US, at, ingest_rows, matrix_at
from tests.shop import AS_OF, HORIZON, LOOKBACK, churn_recipe
from training.baselines import fit_baselines
from training.churn import ChurnRun

MOMENT = at("2024-06-01")
ALARM = AlarmSettings.from_dict(churn_recipe()["alarm"])
NO_BROWSING = ("recency", "rfm-logistic", "rfm-logistic-recent", "bg-nbd")


def store_of(rows: list[dict[str, Any]], path: Path) -> Store:
    store = ingest_rows(rows, path).store
    assert store is not None
    return store


def test_the_alarm_is_a_baseline_only_where_browsing_is_known(churn_run: ChurnRun, tmp_path: Path) -> None:
    assert churn_run.baselines == (*NO_BROWSING, "operators-alarm")
    rows = [
        {"user_id": f"u{i}", "ts": f"2024-0{1 + i % 5}-0{1 + i % 7}", "kind": "purchase", "price": i} for i in range(60)
    ]
    again = [{"user_id": f"u{i}", "kind": "purchase", "price": 1} for i in range(60)]
    rows += [row | {"ts": "2024-03-20"} for row in again[::3]] + [row | {"ts": "2024-04-10"} for row in again[::2]]
    store = store_of(rows, tmp_path / "store")
    train = [matrix_at(store, MOMENT - 60 * DAY_US, horizon=30)]
    assert tuple(baseline.name for baseline in fit_baselines(train, 30, 180, ALARM)) == NO_BROWSING


def test_recency_is_the_days_and_the_logistic_knows_that_they_matter(churn_run: ChurnRun) -> None:
    result = churn_run.backtest[0]
    days = result.matrix.column("days_since_purchase")
    assert (result.scores["recency"] == days).all()
    for name in ("rfm-logistic", "rfm-logistic-recent"):
        probability = result.scores[name]
        assert ((probability > 0) & (probability < 1)).all()
        assert np.corrcoef(probability, days)[0, 1] > 0.5
    assert (result.scores["bg-nbd"] <= 0).all()  # purchases expected, fewest first
    assert set(result.scores["operators-alarm"]) == {0.0, 1.0}
    assert "brier" in result.figures["rfm-logistic"]
    assert "brier" not in result.figures["recency"]


@pytest.mark.parametrize("figure", ["auc", "lift_top_tenth", "expected_maximum_profit"])
def test_every_contender_is_tested_on_the_same_users(churn_run: ChurnRun, figure: str) -> None:
    for result in churn_run.backtest:
        assert {name: figures["users"] for name, figures in result.figures.items()} == dict.fromkeys(
            ["churn-model", *churn_run.baselines], len(result.matrix)
        )
        assert all(figure in figures for figures in result.figures.values())
        best = max(result.figures[name][figure] for name in churn_run.baselines)
        assert result.figures["churn-model"][figure] >= best


def test_the_backtest_predicts_what_it_has_not_seen(churn_run: ChurnRun) -> None:
    """Each moment's users and outcomes are those of the store at that moment, and lie before the run's moment."""
    assert [result.matrix.as_of for result in churn_run.backtest] == list(churn_run.schedule.tests)
    assert churn_run.schedule.tests[0] == AS_OF - HORIZON * DAY_US
    for result in churn_run.backtest:
        assert np.nanmax(result.matrix.column("days_since_purchase")) <= LOOKBACK
        assert 0.2 < result.matrix.churned.mean() < 0.8


def test_without_repeaters_there_is_no_bg_nbd(tmp_path: Path) -> None:
    rows = [{"user_id": f"u{i}", "ts": f"2024-03-0{1 + i % 7}", "kind": "purchase", "price": i} for i in range(60)]
    rows += [row | {"ts": "2024-04-10"} for row in rows[::2]]
    train = [matrix_at(store_of(rows, tmp_path / "store"), at("2024-04-05"), horizon=30)]
    assert [baseline.name for baseline in fit_baselines(train, 30, 180, ALARM)] == list(NO_BROWSING[:3])


def test_bg_nbd_does_not_rank_one_time_buyers_backwards(churn_run: ChurnRun) -> None:
    result = churn_run.backtest[0]
    score = result.scores["bg-nbd"]
    one_time = result.matrix.column("orders_ever") == 1
    waiting = result.matrix.column("days_since_purchase")[one_time]
    assert np.corrcoef(score[one_time], waiting)[0, 1] > 0.5  # the longer ago, the fewer are expected
    assert score[one_time].mean() > score[~one_time].mean()
