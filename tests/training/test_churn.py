"""A whole training run: which share of the plain score it chooses, what it refuses, and what it keeps as evidence."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.errors import UserError
from features.events.store import Store
from tests.features.support import DAY_US, Array, stamps
from tests.shop import AS_OF, HORIZON, LOOKBACK, ingested, shop_log, trained_churn
from training import metrics
from training.churn import MODEL, ChurnRun, Margins, chosen_share

SHARES = [0.0, 0.25, 0.5, 0.75, 1.0]


def margins(boosted: float, plain: float, seed: int = 1, users: int = 4_000) -> Margins:
    """Two scores that each know so much of who leaves."""
    rng = np.random.default_rng(seed)
    churned = rng.random(users) < 0.4

    def score(knows: float) -> Array:
        return knows * churned + rng.normal(size=users)

    return Margins(score(boosted), score(plain), churned)


def test_the_better_score_is_chosen_and_a_blend_where_both_know() -> None:
    assert chosen_share([margins(2, 0)], SHARES) == 0.0
    assert chosen_share([margins(0, 2)], SHARES) == 1.0
    assert chosen_share([margins(1, 1)], SHARES) == 0.5


def test_the_mean_over_moments_decides() -> None:
    mostly = [margins(2, 0, 1), margins(2, 0, 2), margins(0, 0.5, 3)]
    assert chosen_share(mostly, [0.0, 1.0]) == 0.0


def test_without_evidence_the_plain_score_is_safest() -> None:
    assert chosen_share([], SHARES) == 1.0
    assert chosen_share([], [0.0, 0.25]) == 0.25


def test_only_offered_shares_are_chosen(shop: Store) -> None:
    run = trained_churn(shop, plain_shares=[0.5])
    assert {result.model.plain_share for result in run.backtest} == {run.model.plain_share} == {0.5}


def test_the_evidence_is_of_the_models_own_moments(churn_run: ChurnRun) -> None:
    for result in churn_run.backtest:
        assert result.model.as_of == result.matrix.as_of  # fitted on what was known there, and no more
        assert (result.model.levels.as_of + 7 * DAY_US <= result.matrix.as_of).all()
        figures = result.figures[MODEL]
        assert figures["auc"] == metrics.auc(result.matrix.churned, result.scores[MODEL])
    assert churn_run.mean(MODEL, "auc") == np.mean([r.figures[MODEL]["auc"] for r in churn_run.backtest])
    assert churn_run.model.as_of == AS_OF
    assert (churn_run.model.levels.as_of + 7 * DAY_US <= AS_OF).all()


def test_a_level_is_known_only_where_its_outcome_is(churn_run: ChurnRun) -> None:
    model = churn_run.model
    for days, column in zip(model.horizons, model.levels.values.T, strict=True):
        assert (np.isfinite(column) == (model.levels.as_of + days * DAY_US <= AS_OF)).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"as_of": AS_OF - 290 * DAY_US}, "not enough log before --as-of"),
        ({"as_of": AS_OF - 200 * DAY_US}, "cannot train"),
    ],
)
def test_too_short_a_log_is_refused(shop: Store, change: dict[str, int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        trained_churn(shop, **change)


def test_too_few_users_are_refused(tmp_path: Path) -> None:
    store = ingested(shop_log(users=40), tmp_path / "store")
    with pytest.raises(UserError, match=r"At least 100 users and 10 of each are needed"):
        trained_churn(store)


def test_a_log_without_purchases_is_refused(tmp_path: Path) -> None:
    log = shop_log(users=40)
    store = ingested(log[log["kind"] != "purchase"], tmp_path / "store")
    with pytest.raises(UserError, match="no event of kind purchase"):
        trained_churn(store)


def test_everybody_stays_is_refused(tmp_path: Path) -> None:
    """Nobody to tell apart: each of 150 users buys every week until the end."""
    weeks = AS_OF - np.arange(1, 40) * 7 * DAY_US
    ts = (weeks[None, :] + np.arange(150)[:, None] * 3_600_000_000).ravel()
    names = np.repeat([f"u{i}" for i in range(150)], len(weeks))
    log = pd.DataFrame({"user_id": names, "ts": stamps(ts - 7 * DAY_US + 1), "kind": "purchase", "price": 1.0})
    with pytest.raises(UserError, match=r"0 times one left"):
        trained_churn(ingested(log, tmp_path / "store"))


def test_the_moments_of_the_backtest_are_as_many_as_asked(churn_run: ChurnRun) -> None:
    assert [result.matrix.as_of for result in churn_run.backtest] == [
        AS_OF - HORIZON * DAY_US,
        AS_OF - 2 * HORIZON * DAY_US,
    ]
    assert churn_run.model.lookback == LOOKBACK


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"folds": 1}, "folds"),
        ({"horizons": [0]}, "horizons"),
        ({"plain_shares": []}, "plain_shares"),
        ({"monotone": {"rises_with": ["days_since_purchas"], "falls_with": []}}, "no such signal"),
    ],
)
def test_a_recipe_that_cannot_be_worked_with_is_refused(shop: Store, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        trained_churn(shop, **settings)


def test_views_that_begin_late_and_moments_without_users(tmp_path: Path) -> None:
    log = shop_log()
    log = log[(log["kind"] != "view") | (log["ts"] >= pd.Timestamp("2024-04-10"))]
    first = pd.DataFrame({"user_id": ["first"], "ts": [pd.Timestamp("2023-03-01")], "kind": ["purchase"]})
    log = pd.concat([log, first.astype({"ts": log["ts"].dtype})])  # long before the second
    run = trained_churn(ingested(log, tmp_path / "store"), rounds=8)
    assert len(run.backtest) == 2
    assert "operators-alarm" not in run.baselines  # the older moment of the backtest knows no browsing
    assert all(set(result.scores) == set(result.figures) == {MODEL, *run.baselines} for result in run.backtest)
