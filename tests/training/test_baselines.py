"""What a churn model must beat, on logs made by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.events.store import Store
from tests.features.support import DAY_US, at, ingest_rows, matrix_at
from tests.shop import AS_OF, HORIZON, LOOKBACK
from training.baselines import fit_baselines, operators_alarm
from training.churn import ChurnRun

MOMENT = at("2024-06-01")
HOUR_US = DAY_US // 24


def views(user: str, minutes_by_day: dict[float, float]) -> list[dict[str, Any]]:
    """A view of so many minutes so many days before the moment."""
    return [
        {
            "user_id": user,
            "ts": f"{np.datetime64(MOMENT - round(day * DAY_US), 'us')}",
            "kind": "view",
            "dwell_s": 60 * m,
        }
        for day, m in minutes_by_day.items()
    ]


def store_of(rows: list[dict[str, Any]], path: Path) -> Store:
    store = ingest_rows(rows, path).store
    assert store is not None
    return store


# The last event is L; (L - 7 d, L] is compared with (L - 35 d, L - 7 d] per day: 4 minutes there are 1 here.
STORIES: dict[str, tuple[dict[float, float], list[dict[str, Any]], bool]] = {
    "fell to a quarter and went": ({10: 1, 20: 16}, [], True),
    "fell to just under a half": ({10: 1.99, 20: 16}, [], True),
    "fell to exactly a half": ({10: 2, 20: 16}, [], False),
    "grew and went": ({10: 9, 20: 16}, [], False),
    "fell but was here six days ago": ({6: 1, 20: 16}, [], False),
    "fell and was here exactly a week ago": ({7: 1, 20: 16}, [], True),
    "fell long before": ({100: 1, 120: 16}, [], True),
    "browsed only at the end": ({10: 5}, [], False),  # nothing to compare with
    "fell, and a message came since": ({10: 1, 20: 16}, [{"kind": "message_sent", "day": 1}], True),
    "fell, and came back to complain": ({10: 1, 20: 16}, [{"kind": "complaint", "day": 1}], False),
    "never browsed": ({}, [{"kind": "purchase", "day": 40, "price": 5}], False),
}


def test_the_alarm_rings_for_whom_it_should(tmp_path: Path) -> None:
    rows = []
    for user, (minutes, others, _) in STORIES.items():
        rows += views(user, minutes)
        rows += [
            {**{k: v for k, v in row.items() if k != "day"}, "user_id": user}
            | {"ts": f"{np.datetime64(MOMENT - row['day'] * DAY_US, 'us')}"}
            for row in others
        ]
    matrix = matrix_at(store_of(rows, tmp_path / "store"), MOMENT)
    rings = dict(zip(matrix.user_ids.to_pylist(), operators_alarm(matrix), strict=True))
    assert rings == {user: float(expected) for user, (*_, expected) in STORIES.items()}


def test_the_alarm_is_a_baseline_only_where_browsing_is_known(churn_run: ChurnRun, tmp_path: Path) -> None:
    assert churn_run.baselines == ("recency", "rfm-logistic", "operators-alarm")
    rows = [
        {"user_id": f"u{i}", "ts": f"2024-0{1 + i % 5}-0{1 + i % 7}", "kind": "purchase", "price": i} for i in range(60)
    ]
    rows += [{"user_id": f"u{i}", "ts": "2024-04-10", "kind": "purchase", "price": 1} for i in range(0, 60, 2)]
    store = store_of(rows, tmp_path / "store")
    train = [matrix_at(store, MOMENT - 60 * DAY_US, horizon=30)]
    assert [baseline.name for baseline in fit_baselines(train, 180)] == ["recency", "rfm-logistic"]


def test_recency_is_the_days_and_the_logistic_knows_that_they_matter(churn_run: ChurnRun) -> None:
    result = churn_run.backtest[0]
    days = result.matrix.column("days_since_purchase")
    assert (result.scores["recency"] == days).all()
    probability = result.scores["rfm-logistic"]
    assert ((probability > 0) & (probability < 1)).all()
    assert np.corrcoef(probability, days)[0, 1] > 0.5
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
