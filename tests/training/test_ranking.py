"""Ranking metrics against figures worked out by hand."""

import math

import numpy as np
import pytest

from models.recommender import DAY_US, History
from training.ranking import evaluate, ndcg_at_k, next_purchases, recall_at_k


def test_recall_counts_hits_against_all_true_items():
    assert recall_at_k([5, 1, 9], [1, 2, 9, 7]) == 0.5
    assert recall_at_k([5, 1, 9], [1, 2, 9, 7], k=2) == 0.25
    assert recall_at_k([], [1]) == 0.0


def test_recall_is_not_cut_at_k_but_the_ideal_of_ndcg_is():
    truth = list(range(40))
    perfect = list(range(20))
    assert recall_at_k(perfect, truth) == 0.5
    assert ndcg_at_k(perfect, truth) == pytest.approx(1.0)


def test_ndcg_by_hand():
    gained = 1 / math.log2(3) + 1 / math.log2(5)  # hits at ranks 2 and 4
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)  # three true items
    assert ndcg_at_k([8, 1, 7, 2], [1, 2, 3]) == pytest.approx(gained / ideal)


def test_evaluate_leaves_users_without_truth_out_and_repeats():
    truth = {0: [1], 1: [2], 3: []}
    lists = {0: [1], 1: [1]}
    score = evaluate(lambda user: lists[user], [0, 1, 2, 3], truth)
    assert (score.users, score.recall, score.ndcg) == (2, 0.5, 0.5)
    assert score.recall_se == pytest.approx(0.5 / math.sqrt(2), rel=0.1)
    assert score == evaluate(lambda user: lists[user], [0, 1, 2, 3], truth)


def test_evaluate_without_anyone_is_nan():
    score = evaluate(lambda user: [], [0], {})
    assert score.users == 0
    assert math.isnan(score.recall)


def test_truth_holds_items_known_before_the_moment_and_users_with_a_past():
    moment = 100 * DAY_US
    lines = [
        ("ann", 0, -5),
        ("ann", 0, 1),  # again
        ("ann", 1, 2),  # new to her, known through bob
        ("ann", 2, 3),  # nobody had bought it before
        ("ann", 1, 30),  # at the end of the window: outside
        ("bob", 1, -1),
        ("bob", 1, 0),  # at the moment: inside
        ("cid", 0, 4),  # no past
    ]
    users, items, days = zip(*lines, strict=True)
    history = History.of(users, np.array(items, np.int32), moment + np.array(days, np.int64) * DAY_US)

    everything = next_purchases(history, moment, 30, "all")
    assert {row: found.tolist() for row, found in everything.items()} == {0: [0, 1], 1: [1]}
    new = next_purchases(history, moment, 30, "cross_sell")
    assert {row: found.tolist() for row, found in new.items()} == {0: [1]}
