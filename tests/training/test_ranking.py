"""Ranking metrics against figures worked out by hand."""

import math

import pytest

from tests.models.recommender.support import NOW, Act, act, history_of
from training.ranking import evaluate, figures_by_user, ndcg_at_k, next_purchases, recall_at_k


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


def test_evaluate_means_over_the_users_of_the_truth_and_repeats():
    truth = {0: [1], 1: [2], 3: [4]}
    lists = {0: [1], 1: [1], 2: [1]}  # user 3 has no list: an empty one; user 2 bought nothing
    score = evaluate(lists, truth)
    assert score.users == 3
    assert [score.recall, score.ndcg] == pytest.approx([1 / 3, 1 / 3])
    assert score.recall_se == pytest.approx(math.sqrt(2 / 9 / 3), rel=0.1)
    assert score == evaluate(lists, truth)
    assert figures_by_user(lists, truth).tolist() == [[1, 1], [0, 0], [0, 0]]


def test_evaluate_without_anyone_is_nan():
    score = evaluate({0: [1]}, {})
    assert score.users == 0
    assert math.isnan(score.recall)


def test_truth_holds_items_known_before_the_moment_and_users_with_a_past():
    def bought(user: int, item: int, days: float) -> Act:
        return act("purchase", item, -days, user)

    ann, bob, cid, eve = range(4)
    history = history_of(
        [
            bought(ann, 0, -5),
            bought(ann, 0, 1),  # again
            bought(ann, 1, 2),  # new to her, known through bob
            bought(ann, 2, 3),  # nobody had bought it before
            bought(ann, 1, 30),  # at the end of the window: outside
            bought(bob, 1, -1),
            bought(bob, 1, 0),  # at the moment: inside
            bought(cid, 0, 4),  # no past
            act("view", 2, 1, eve),  # a past without a purchase; and a view makes no item known
            bought(eve, 1, 4),
            act("cart", 0, -1, bob),  # not bought
        ],
        4,
    )
    everything = next_purchases(history, NOW, 30, "all")
    assert {row: found.tolist() for row, found in everything.items()} == {ann: [0, 1], bob: [1], eve: [1]}
    new = next_purchases(history, NOW, 30, "new")
    assert {row: found.tolist() for row, found in new.items()} == {ann: [1], eve: [1]}
