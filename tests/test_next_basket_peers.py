"""The recommendation benchmarks' peers compute what their papers say: by hand, and against loops."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from benchmarks import gowalla
from benchmarks._baskets import (
    LENGTH,
    Baskets,
    Lists,
    baskets_of,
    evaluate,
    grouped,
    held_out,
    personal,
    personal_then_popular,
    popular,
    some_of,
    tifu_knn,
    tifu_weights,
    up_cf,
)
from benchmarks.next_basket import PEERS, Peer, chosen
from features.errors import UserError
from features.events.ingest import ingest
from features.events.sources import find_source

User = list[set[int]]
"""One user's baskets, oldest first."""


def made(shop: list[User], catalogue: int) -> Baskets:
    """Baskets of users, a day apart, with lines in a random sequence and every other line twice."""
    lines = [
        (user, 100 * user + number, item, number)
        for user, baskets in enumerate(shop)
        for number, basket in enumerate(baskets)
        for item in basket
    ]
    rows = np.array(lines + lines[::2], np.int64)
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    return grouped(*rows.T, users=len(shop), catalogue=catalogue)


def random_shop(seed: int, users: int = 25, catalogue: int = 40) -> list[User]:
    """Users with 0 to 9 baskets whose items are skewed to small codes."""
    rng = np.random.default_rng(seed)
    return [
        [
            set((catalogue * rng.random(rng.integers(1, 6)) ** 2).astype(int).tolist())
            for _ in range(rng.integers(0, 10))
        ]
        for _ in range(users)
    ]


def shown(lists: Lists) -> list[list[int]]:
    return [[int(item) for item in row if item >= 0] for row in lists]


# ------------------------------------------------------------------------------------------------- the obvious twins


def ranked(scores: dict[int, float], shop: list[User], catalogue: int, all_items: bool = True) -> list[int]:
    """Best first; equal (to 9 places) scores to the more popular item, then to the smaller code."""
    popularity: dict[int, int] = defaultdict(int)
    for basket in (basket for user in shop for basket in user):
        for item in basket:
            popularity[item] += 1
    items = range(catalogue) if all_items else scores
    return sorted(items, key=lambda item: (-round(scores.get(item, 0), 9), -popularity[item], item))[:LENGTH]


def naive_personal(shop: list[User], user: int) -> dict[int, float]:
    counts: dict[int, float] = defaultdict(float)
    for basket in shop[user]:
        for item in basket:
            counts[item] += 1
    return counts


def naive_tifu_vector(baskets: User, group: int, r_b: float, r_g: float) -> dict[int, float]:
    groups: list[User] = []
    rest = list(baskets)
    while rest:
        groups.insert(0, rest[-group:])
        rest = rest[:-group]
    vector: dict[int, float] = defaultdict(float)
    for g, members in enumerate(groups):
        for b, basket in enumerate(members):
            weight = r_b ** (len(members) - 1 - b) / len(members) * r_g ** (len(groups) - 1 - g) / len(groups)
            for item in basket:
                vector[item] += weight
    return vector


def naive_tifu(
    shop: list[User], user: int, group: int, r_b: float, r_g: float, k: int, alpha: float
) -> dict[int, float]:
    vectors = [naive_tifu_vector(baskets, group, r_b, r_g) for baskets in shop]

    def distance(other: int) -> float:
        items = vectors[user].keys() | vectors[other].keys()
        return sum((vectors[user].get(item, 0) - vectors[other].get(item, 0)) ** 2 for item in items)

    near = sorted((v for v in range(len(shop)) if v != user and shop[v]), key=distance)[:k]
    scores: dict[int, float] = defaultdict(float)
    for item, weight in vectors[user].items():
        scores[item] += alpha * weight
    for other in near:
        for item, weight in vectors[other].items():
            scores[item] += (1 - alpha) * weight / len(near)
    return scores


def naive_up_cf(shop: list[User], user: int, alpha: float, q: int, r: int | None) -> dict[int, float]:
    scores: dict[int, float] = defaultdict(float)
    mine = set().union(*shop[user])
    for other in shop:
        if not other:
            continue
        theirs = set().union(*other)
        similarity = len(mine & theirs) / (len(mine) ** alpha * len(theirs) ** (1 - alpha))
        last = other[-r:] if r else other
        for basket in last:
            for item in basket:
                scores[item] += similarity**q / len(last)
    return scores


# ------------------------------------------------------------------------------------------------------------- by hand

#                item 0 in 4 baskets, 1 in 3, 2 in 2, 3 in 1, 4 in none
SHOP: list[User] = [[{0, 1}, {0}, {2}], [{0, 1}, {3}], [{1, 2}, {0}], []]


def test_baskets_are_distinct_items_in_order_of_time() -> None:
    baskets = made(SHOP, 5)
    assert baskets.users.tolist() == [0, 3, 5, 7, 7]
    assert [baskets.basket(b).tolist() for b in range(7)] == [[0, 1], [0], [2], [0, 1], [3], [1, 2], [0]]
    assert baskets.back.tolist() == [2, 1, 0, 1, 0, 1, 0]
    assert baskets.popularity.tolist() == [4, 3, 2, 1, 0]


def test_the_last_basket_is_held_out_of_users_with_three_and_without_unknown_items() -> None:
    shop: list[User] = [[{0}, {1}, {0, 2, 3}], [{2}, {4}], [{0}, {0}, {3}]]
    task = held_out(made(shop, 5))
    assert task.users.tolist() == [0]  # user 2's last basket has only item 3, which is in no known basket
    assert [wanted.tolist() for wanted in task.truth] == [[0, 2]]
    assert task.at.tolist() == [2]
    assert [task.past.basket(b).tolist() for b in range(len(task.past.ts))] == [[0], [1], [2], [4], [0], [0]]


def test_top_frequency_by_hand() -> None:
    past, users = made(SHOP, 5), np.arange(4)
    assert shown(popular(past, users)) == [[0, 1, 2, 3, 4]] * 4
    assert shown(personal(past, users)) == [[0, 1, 2], [0, 1, 3], [0, 1, 2], []]
    assert shown(personal_then_popular(past, users)) == [[0, 1, 2, 3, 4], [0, 1, 3, 2, 4], *[[0, 1, 2, 3, 4]] * 2]


def test_tifu_knn_by_hand() -> None:
    past = made(SHOP, 5)
    # Groups of two: user 0 has (oldest) and (middle, newest).
    weights = tifu_weights(past, group=2, r_b=0.5, r_g=0.1)
    np.testing.assert_allclose(weights, [0.1 / 2, 0.5 / 2 / 2, 1 / 2 / 2, 0.25, 0.5, 0.25, 0.5])
    # Vectors: u0 = (.175, .05, .25, 0), u1 = (.25, .25, 0, .5), u2 = (.5, .25, .25, 0). Nearest of u1 is u2 (.375 away,
    # u0 is .358 away): |u1 - u0|² = .005625 + .04 + .0625 + .25 = .358, |u1 - u2|² = .0625 + 0 + .0625 + .25 = .375.
    lists = tifu_knn(past, np.array([1]), group=2, r_b=0.5, r_g=0.1, k=1, alpha=0.2)
    # .2 u1 + .8 u0 = (.19, .09, .2, .1)
    assert shown(lists) == [[2, 0, 3, 1, 4]]


def test_up_cf_by_hand() -> None:
    past = made(SHOP, 5)
    # User 1 has {0, 1, 3}; both others have {0, 1, 2}: similarity 2/3 (of 3 and 3 items, whatever alpha), squared 4/9.
    # Item 0: 1/2 + 4/9 (2/3 + 1/2) = 1.02; 1: 1/2 + 4/9 (1/3 + 1/2) = .87; 3: .5; 2: 4/9 (1/3 + 1/2) = .37
    assert shown(up_cf(past, np.array([1]), alpha=0.3, q=2)) == [[0, 1, 3, 2, 4]]
    # With the last basket alone: 3: 1; 2: 4/9; 0: 4/9; of equals 0 is more popular.
    assert shown(up_cf(past, np.array([1]), alpha=0.3, q=2, r=1)) == [[3, 0, 2, 1, 4]]


def test_evaluate_by_hand() -> None:
    lists = [[5, 7, *range(100, 108), 9], [-1] * LENGTH, [1]]
    figures = evaluate(lists, [np.array([7, 9]), np.array([3]), np.array([1])])
    second_of_two = (1 / np.log2(3)) / (1 + 1 / np.log2(3))
    np.testing.assert_allclose(figures, [[0.5, 1, second_of_two], [0, 0, 0], [1, 1, 1]])


def test_evaluate_refuses_lists_of_other_users_and_items_named_twice() -> None:
    with pytest.raises(ValueError, match="one for each"):
        evaluate([[1]], [])
    with pytest.raises(ValueError, match="twice"):
        evaluate([[1, 2, 1]], [np.array([1])])


# ------------------------------------------------------------------------------------------------------- against loops


@pytest.mark.parametrize("seed", range(4))
def test_peers_agree_with_loops(seed: int) -> None:
    shop, catalogue = random_shop(seed), 40
    past = made(shop, catalogue)
    users = np.array([user for user, baskets in enumerate(shop) if baskets])

    def loops(scores: Callable[[int], dict[int, float]], all_items: bool = True) -> list[list[int]]:
        return [ranked(scores(user), shop, catalogue, all_items) for user in users.tolist()]

    assert shown(personal(past, users)) == loops(lambda u: naive_personal(shop, u), all_items=False)
    assert shown(personal_then_popular(past, users)) == loops(lambda u: naive_personal(shop, u))
    assert shown(popular(past, users)) == loops(lambda u: {})
    # The last decimals of sums depend on their order, and ties on them, so scores are compared and not items.
    for group, r_b, r_g, k, part in ((1, 0.9, 0.7, 5, 0.7), (3, 0.83, 0.61, 8, 0.4), (20, 0.77, 0.3, 900, 0.1)):
        twin = partial(naive_tifu, shop, group=group, r_b=r_b, r_g=r_g, k=k, alpha=part)
        assert_same_scores(tifu_knn(past, users, group, r_b, r_g, k, part), twin, users, catalogue)
    for alpha, q, r in ((0.5, 1, None), (0.0, 5, None), (0.25, 2, 3), (1.0, 10, 1)):
        twin = partial(naive_up_cf, shop, alpha=alpha, q=q, r=r)
        assert_same_scores(up_cf(past, users, alpha, q, r), twin, users, catalogue)


def assert_same_scores(
    lists: Lists, twin: Callable[[int], dict[int, float]], users: np.ndarray, catalogue: int
) -> None:
    """Each place of a list holds an item that scores what the loops' item of that place does."""
    for row, user in zip(shown(lists), users.tolist(), strict=True):
        of = twin(user)
        best = sorted((of.get(item, 0.0) for item in range(catalogue)), reverse=True)[:LENGTH]
        assert len(set(row)) == LENGTH
        np.testing.assert_allclose([of.get(item, 0.0) for item in row], best, rtol=0, atol=1e-9)


def test_settings_are_chosen_stage_by_stage() -> None:
    task = held_out(made([[{0}, {1}, {1}], [{0}, {0}, {0}]], 40))

    def lists(past: Baskets, users: np.ndarray, item: int, other: int) -> Lists:
        out = np.full((len(users), LENGTH), -1)
        out[:, 0] = item if other == 2 else 3
        return out

    # Item 5 hits nobody, so the first stage sees no difference and keeps its first value, under which none hits.
    stages = ({"other": (1, 2)}, {"item": (5, 0)})
    best, tried = chosen(Peer(lists, {"item": 5, "other": 2}, stages), task)
    assert best == {"item": 5, "other": 1}
    assert [found["recall@10"] for found in tried] == [0, 0, 0, 0]
    # Beginning with item 0, the first stage sees that user 1's basket is hit.
    best, tried = chosen(Peer(lists, {"item": 0, "other": 1}, stages), task)
    assert best == {"item": 0, "other": 2}
    assert [found["recall@10"] for found in tried] == [0, 0.5, 0, 0.5]


def test_peers_on_real_orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Online Retail II every peer is well above popularity, and the task is what we say it is."""
    near = Path(__file__).resolve().parents[2] / "shared" / "data" / "online_retail_II.parquet"
    file = Path(os.environ.get("ONLINE_RETAIL_PARQUET", near))
    if not file.exists():
        pytest.skip("needs Online Retail II: set ONLINE_RETAIL_PARQUET")
    monkeypatch.setenv("ONLINE_RETAIL_PARQUET", str(file))
    store = ingest(find_source(Path("sources/online_retail")), tmp_path / "store", now=1_600_000_000_000_000).store
    assert store is not None
    task = some_of(held_out(baskets_of(store)), 300)
    recall = {
        name: evaluate(peer.lists(task.past, task.users, **peer.start), task.truth)[:, 0].mean()
        for name, peer in PEERS.items()
    }
    assert all(value > 2 * recall["popular"] for name, value in recall.items() if name != "popular"), recall


# ------------------------------------------------------------------------------------------------------------- Gowalla


def pairs(seed: int = 0, users: int = 60, items: int = 50) -> sparse.csr_matrix:
    """Users who have items of their group rather than others'."""
    rng = np.random.default_rng(seed)
    same = (np.arange(users)[:, None] % 3) == (np.arange(items) % 3)
    return sparse.csr_matrix((rng.random((users, items)) < np.where(same, 0.4, 0.05)).astype(np.float32))


def test_ridge_scores_are_those_of_the_inverse_in_its_docstring() -> None:
    x = pairs()
    dense, user, item, strength = x.toarray().astype(np.float64), 1.0, 0.3, 0.3
    n_u, n_i = np.maximum(dense.sum(1), 1), np.maximum(dense.sum(0), 1)
    gram = dense.T @ np.diag(n_u**-user) @ dense
    shape = np.diag(n_i**-item)
    penalty = strength * np.linalg.eigvalsh(shape @ gram @ shape)[-1] * n_i ** (2 * item)
    inverse = np.linalg.inv(gram + np.diag(penalty))
    expected = -(dense @ inverse) * penalty
    found = gowalla.ridge(x, user, item, strength)(np.arange(x.shape[0]))
    # Conjugate gradients stop when half a percent of the target is left.
    left = np.abs(found - expected)[dense == 0].mean()
    assert left < 0.02 * np.abs(expected)[dense == 0].mean()


def test_conjugate_gradients_solve_each_column() -> None:
    r = pairs(5) / 10
    target = np.random.default_rng(0).standard_normal((r.shape[1], 7)).astype(np.float32)
    target[:, 3] = 0
    found = gowalla.solve(r, r.T.tocsr(), target, strength=0.2, tolerance=1e-5)
    expected = np.linalg.solve((r.T @ r).toarray() + 0.2 * np.eye(r.shape[1]), target)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert not found[:, 3].any()


def test_co_occurrence_agrees_with_loops() -> None:
    x = pairs(1, users=20, items=15)
    dense = x.toarray()
    n_u, n_i = np.maximum(dense.sum(1), 1), np.maximum(dense.sum(0), 1)
    expected = np.zeros_like(dense)
    for u, j in np.ndindex(*dense.shape):
        for i in np.flatnonzero(dense[u]):
            if i != j:
                shared = sum(n_u[v] ** -0.5 for v in range(20) if dense[v, i] and dense[v, j])
                expected[u, j] += shared / (n_i[i] ** 0.7 * n_i[j] ** 0.3)
    np.testing.assert_allclose(gowalla.co_occurrence(x, 0.5, 0.7, 0.3)(np.arange(20)), expected, rtol=1e-4, atol=1e-6)


def test_user_user_agrees_with_loops() -> None:
    x = pairs(1, users=20, items=15)
    dense = x.toarray()
    weighted = dense * np.maximum(dense.sum(0), 1) ** -0.25
    expected = np.zeros_like(dense)
    for u, v in np.ndindex(20, 20):
        if u != v:
            length = max(np.linalg.norm(weighted[u]) * np.linalg.norm(weighted[v]), 1e-9)
            expected[u] += (weighted[u] @ weighted[v] / length) ** 1.5 * dense[v]
    expected /= np.maximum(dense.sum(0), 1) ** 0.3
    np.testing.assert_allclose(gowalla.user_user(x, 0.25, 1.5, 0.3)(np.arange(20)), expected, rtol=1e-4, atol=1e-6)


def test_top_directions_span_the_largest_singular_vectors() -> None:
    x = pairs(2)
    found = gowalla.top_directions(x, 3, spare=20)
    exact = np.linalg.svd(x.toarray())[2][:3]
    np.testing.assert_allclose(np.abs(np.sum(found.T * exact, axis=1)), 1, atol=1e-3)


def test_gowalla_figures_by_hand() -> None:
    scores = np.linspace(1, 0, 30, dtype=np.float32)[None]
    owned = sparse.csr_matrix(np.eye(1, 30, 0, dtype=np.float32))
    truth = sparse.csr_matrix(np.eye(1, 30, 2, dtype=np.float32) + np.eye(1, 30, 29, dtype=np.float32))
    lists = gowalla.top_items(scores, owned)
    assert lists[0].tolist() == list(range(1, 21))
    hit = 1 / np.log2(3)
    np.testing.assert_allclose(gowalla.recall_and_ndcg(lists, truth), [[0.5, hit / (1 + hit)]])


def test_held_out_pairs_are_a_tenth_of_each_user_and_the_rest_is_known() -> None:
    x = pairs(3, items=200)
    rest, part = gowalla.held_out(x, 0.1)
    assert (rest + part != x).nnz == 0
    assert rest.multiply(part).nnz == 0
    owned = np.diff(x.indptr)
    np.testing.assert_array_equal(np.diff(part.indptr), np.maximum(1, np.round(owned * 0.1)))


def test_personal_models_beat_popularity_where_users_have_groups() -> None:
    x = pairs(4)
    rest, part = gowalla.held_out(x, 0.2)
    users = np.flatnonzero(np.diff(part.indptr))

    def recall(scorer: gowalla.Scorer) -> float:
        return float(gowalla.measured(scorer, rest, part, users)[:, 0].mean())

    least = recall(gowalla.popular(rest)) + 0.05
    assert recall(gowalla.ridge(rest, 1.0, 0.3, 0.3)) > least
    assert recall(gowalla.co_occurrence(rest, 0.5, 0.6, 0.35)) > least
    assert recall(gowalla.user_user(rest, 0.25, 1.5, 0.3)) > least
    assert (
        recall(gowalla.FAMILIES["ridge + user-user"].fit(rest, **gowalla.FAMILIES["ridge + user-user"].grid[0])) > least
    )
    assert recall(gowalla.gf_cf(rest, 3, 0.3)) > least
    assert recall(gowalla.als(rest, 8, 0.1, 10)) > least
    assert recall(gowalla.neighbours(rest, "cosine", 20)) > least


def test_a_missing_file_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="GOWALLA_DIR"):
        gowalla.read(tmp_path)
