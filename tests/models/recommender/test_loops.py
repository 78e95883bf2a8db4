"""The compiled loops against numpy and plain Python."""

import numpy as np
import pytest

from models.recommender import loops
from tests.models.recommender.support import bits

SEEDS = (0, 1, 2)


@pytest.mark.parametrize("items", [3, 1_024, 2_500])
def test_products_are_a_matrix_product_with_negatives_as_none(items):
    random = np.random.default_rng(items)
    users, factors = (random.normal(size=size).astype(np.float32) for size in ((5, 24), (24, items)))
    out = np.full((5, items), 7, np.float32)
    loops.products(users, factors, out)
    assert out == pytest.approx(np.maximum(users.astype(np.float64) @ factors, 0), abs=1e-4)
    alone = np.empty((1, items), np.float32)
    for row in range(5):
        loops.products(np.ascontiguousarray(users[row : row + 1]), factors, alone)
        assert bits(alone[0]) == bits(out[row])


@pytest.mark.parametrize("seed", SEEDS)
def test_spread_and_strongest_are_plain_loops(seed):
    random = np.random.default_rng(seed)
    strength = np.where(random.random((12, 12)) < 0.4, random.integers(1, 4, (12, 12)), 0).astype(np.float32)
    row, column = np.nonzero(strength)
    offsets, neighbours, weight = np.searchsorted(row, np.arange(13)), column.astype(np.int32), strength[row, column]
    asked = [(user, item) for user in range(6) for item in range(12) if random.random() < 0.4]
    user, item = (np.array(values, np.int64) for values in zip(*asked, strict=True))
    value = random.integers(1, 4, len(asked)).astype(np.float32)  # small whole numbers, so that many tie
    out = np.zeros((6, 12), np.float32)
    loops.spread(user, item, value, offsets, neighbours, weight, out)
    expected = np.zeros((6, 12))
    for (u, i), v in zip(asked, value.tolist(), strict=True):
        expected[u] += v * strength[i]
    assert (out == expected).all()
    who, wanted = (a.ravel() for a in np.meshgrid(np.arange(6), np.arange(12), indexing="ij"))
    begin, end = np.searchsorted(user, who), np.searchsorted(user, who, side="right")
    found = loops.strongest(begin, end, value, item, wanted, offsets, neighbours, weight)
    for u, w, (source, place) in zip(who.tolist(), wanted.tolist(), found.tolist(), strict=True):
        added = [(v * strength[i, w], -i) for (of, i), v in zip(asked, value.tolist(), strict=True) if of == u]
        most, smallest = max(added, default=(0.0, 0))
        if most == 0:
            assert (source, place) == (-1, -1)
        else:
            assert source == -smallest
            assert (row[place], neighbours[place]) == (source, w)


@pytest.mark.parametrize("root", [False, True])
def test_add_shares_adds_the_weighed_share_of_the_highest(root):
    random = np.random.default_rng(2)
    given = random.random((4, 30)).astype(np.float32)
    given[2] = 0
    out = np.ones((4, 30), np.float32)
    loops.add_shares(given, 0.5, root, out)
    share = given / np.maximum(given.max(axis=1, keepdims=True), 1e-9)
    assert out == pytest.approx(1 + 0.5 * (np.sqrt(share) if root else share), rel=1e-6)


def best(scores: np.ndarray, eligible: np.ndarray, n: int) -> list[int]:
    """By a plain sort."""
    codes = [i for i in range(len(scores)) if eligible[i] and scores[i] > 0]
    chosen = sorted(codes, key=lambda i: (-scores[i], i))[:n]
    return chosen + [-1] * (n - len(chosen))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", [1, 2, 7, 40, 500])
def test_top_is_a_plain_sort_with_ties_to_the_smaller_code(seed, n):
    random = np.random.default_rng([seed, n])
    scores = random.integers(0, 9, (8, 300)).astype(np.float32)  # almost all tie
    scores[1] = random.random(300)
    scores[2], scores[3] = np.sort(scores[1]), 0
    eligible = random.random((8, 300)) < 0.7
    eligible[4] = False
    found = loops.top(scores, eligible, n)
    assert found.tolist() == [best(*both, n) for both in zip(scores, eligible, strict=True)]


def test_top_breaks_a_tie_at_the_cut_by_code():
    scores = np.array([[0.5, 1.0, 0.5, 0.0, 0.5, 0.5]], np.float32)
    every = np.ones((1, 6), np.bool_)
    assert loops.top(scores, every, 3).tolist() == [[1, 0, 2]]
    assert loops.top(scores, every, 8).tolist() == [[1, 0, 2, 4, 5, -1, -1, -1]]
