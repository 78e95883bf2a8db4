"""The ranker walks LightGBM's trees by itself: to the same bits as LightGBM."""

import lightgbm as lgb
import numpy as np
import pytest

from models.recommender.ranker import Ranker

NAMES = tuple(f"c{number}" for number in range(12))


def trained(seed: int, rounds: int, **parameters: object) -> tuple[lgb.Booster, np.ndarray]:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(3_000, len(NAMES))).astype(np.float32)
    rows[random.random(rows.shape) < 0.2] = np.nan
    rows[random.random(rows.shape) < 0.2] = 0
    rows[:, -1] = np.abs(np.nan_to_num(rows[:, -1]))  # a column that is never missing
    bought = np.nan_to_num(rows[:, 0]) + rows[:, -1] + random.normal(size=len(rows)) > 1.5
    given = {"objective": "binary", "verbose": -1, "num_threads": 1, "min_data_in_leaf": 5, **parameters}
    return lgb.train(given, lgb.Dataset(rows, bought, params=given), rounds), rows


@pytest.mark.parametrize("parameters", [{}, {"zero_as_missing": True}, {"use_missing": False}, {"num_leaves": 2}])
def test_margins_are_lightgbms_to_the_bit(parameters: dict[str, object]) -> None:
    booster, rows = trained(1, 40, **parameters)
    asked = np.concatenate([rows, rows + np.float32(1e-3), np.full((1, len(NAMES)), np.nan, np.float32)])
    found = Ranker(NAMES, booster.model_to_string()).margins(asked)
    assert np.array_equal(found, booster.predict(asked, raw_score=True, num_threads=1))


def test_trees_without_a_split_are_constants() -> None:
    booster, rows = trained(2, 3, min_gain_to_split=1e9)
    ranker = Ranker(NAMES, booster.model_to_string())
    assert np.array_equal(ranker.margins(rows), booster.predict(rows, raw_score=True, num_threads=1))


def test_scores_rise_with_margins_within_0_and_1() -> None:
    booster, rows = trained(3, 20)
    ranker = Ranker(NAMES, booster.model_to_string())
    margins, scores = ranker.margins(rows), ranker.scores(rows)
    assert ((scores > 0) & (scores < 1)).all()
    assert (np.diff(scores[np.argsort(margins)]) >= 0).all()
    assert ranker.scores(rows[:0]).shape == (0,)
    assert ranker.trees == 20


def test_splits_by_category_are_refused() -> None:
    random = np.random.default_rng(4)
    rows = random.integers(0, 6, size=(2_000, 2)).astype(np.float64)
    given = {"objective": "binary", "verbose": -1, "num_threads": 1, "min_data_per_group": 1, "max_cat_to_onehot": 1}
    data = lgb.Dataset(rows, rows[:, 0] % 2 == 0, categorical_feature=[0], params=given)
    booster = lgb.train(given, data, 3)
    with pytest.raises(ValueError, match="splits by categories"):
        Ranker(("a", "b"), booster.model_to_string()).scores(np.zeros((1, 2), np.float32))
