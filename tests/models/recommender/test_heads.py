"""Each head against figures worked out by hand."""

import numpy as np
import pytest

from models.recommender import DAY_US
from models.recommender.purchases import Purchases
from models.recommender.similar_als import SimilarAls
from tests.models.recommender.support import NOBODY, NOW, days_ago, tiny


def past(items: list[int], ts: np.ndarray, as_of: int = NOW) -> Purchases:
    return Purchases.of(np.array(items, np.int32), ts, as_of, 5)


def test_purchases_leave_out_the_future_and_unknown_items():
    found = past([1, 3, 1, -1, 5], np.concatenate([days_ago(10, 0, 70), days_ago(1, 1)]))
    assert found.items.tolist() == [1]
    assert found.lines(1).tolist() == days_ago(70, 10).tolist()
    assert found.lines(0).tolist() == found.lines(4).tolist() == []


def test_repeat_halves_every_sixty_days():
    scores = tiny().repeat.scores(past([1, 1, 3], days_ago(60, 120, 0.5)))
    assert scores.tolist() == pytest.approx([0, 0.75, 0, 2 ** (-0.5 / 60), 0])


@pytest.mark.parametrize(
    ("days", "phrase"),
    [
        ((0.5,), "bought once, today"),
        ((1.5,), "bought once, 1 day ago"),
        ((30, 20, 12), "bought 3 times, last 12 days ago"),
        ((12, 12), "bought once, 12 days ago"),  # two lines of one order
    ],
)
def test_repeat_evidence(days, phrase):
    head = tiny()
    assert head.repeat.evidence(past([1] * len(days), days_ago(*days)), [1], head.catalogue) == [phrase]


def test_als_folds_in_exactly():
    als = tiny().similar_als
    user = als.fold_in(past([1, 0], days_ago(60, 0.0001)))
    confidence = np.array([2.0 * 2 ** (-0.0001 / 60), 1.0])  # a, b
    bought = np.array([[1.0, 0.0], [0.0, 1.0]])
    system = np.diag([1.0, 5.0]) + bought.T @ np.diag(confidence - 1) @ bought + 0.5 * np.eye(2)
    assert user == pytest.approx(np.linalg.solve(system, bought.T @ confidence))


def test_als_scores_are_not_negative_and_none_without_a_past():
    als = tiny().similar_als
    assert als.scores(past([], NOBODY[1])).tolist() == [0] * 5
    scores = als.scores(past([1], days_ago(1)))
    assert scores.min() == 0
    assert scores[2] == pytest.approx(2 * scores[1])


def test_als_folds_in_many_items_as_few():
    """More items than one block of the product holds: the blocks add up to the plain formula."""
    random = np.random.default_rng(1)
    factors = random.normal(size=(8, 200)).astype(np.float32)
    exact = factors.astype(np.float64)
    als = SimilarAls(factors, exact @ exact.T, 3.0, 1.0, 60.0)
    items = random.permutation(200)[:150].astype(np.int32)
    bought = Purchases.of(items, days_ago(*random.uniform(1, 200, 150)), NOW, 200)
    confidence = 3.0 * bought.weights(60.0)
    rows = exact[:, bought.items].T
    system = exact @ exact.T + rows.T @ np.diag(confidence - 1) @ rows + np.eye(8)
    assert als.fold_in(bought) == pytest.approx(np.linalg.solve(system, rows.T @ confidence))


def test_similar_items_adds_weight_times_similarity_and_names_the_strongest_source():
    head = tiny()
    bought = past([1, 1, 2], days_ago(60, 60, 60))
    assert head.similar_items.scores(bought).tolist() == pytest.approx([0, 0.25, 0.5, 0.25, 0])
    assert head.similar_items.evidence(bought, [3, 1, 0], head.catalogue) == [
        "often bought with b",
        "often bought with c",
        "bought by those who buy your items",
    ]


def test_popular_orders_by_recent_buyers_then_by_all_time_buyers():
    head = tiny()
    scores = head.popular.scores(past([], NOBODY[1]))
    assert np.argsort(-scores, kind="stable").tolist() == [0, 2, 1, 3, 4]
    phrases = head.popular.evidence(past([], NOBODY[1]), [0, 3, 4], head.catalogue)
    until = np.datetime64(NOW // DAY_US, "D")
    assert phrases == [
        f"popular: bought by 4 shoppers in the 30 days before {until}",
        f"popular: bought by 1 shopper in the 30 days before {until}",
        f"popular: bought by 2 shoppers before {until}",
    ]


def test_demand_is_one_for_the_best_seller_and_off_at_zero():
    popular = tiny().popular
    assert popular.demand(0.0).tolist() == [1] * 5
    assert popular.demand(1.0).tolist() == pytest.approx([1, 2.5 / 4.5, 2.5 / 4.5, 1.5 / 4.5, 0.5 / 4.5])
