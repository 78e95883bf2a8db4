"""Collaborative models that a shop would run, on Gowalla in the split of LightGCN: Recall@20 and NDCG@20.

`python -m benchmarks.gowalla` writes `results/gowalla.json` and prints a table. The two files (columns `user` and
`item`) are found in GOWALLA_DIR, else in ../shared/data. Each family's parameters are chosen by NDCG@20 on a tenth of
each user's training pairs, over a sample of users; then it is fitted on all training pairs and tested once on all
users. All items are ranked but those of the user's training; the ideal list is cut at min(20, items of the test).

Read with care: this test is no random sample of the pairs. Items with at least 200 of them have 25 % of theirs in the
test, all others 21 %, which validation on training pairs cannot know.
EASE is left out: the inverse of its 40,981² matrix needs 6.7 GB in single precision and half an hour on one thread.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from features.errors import UserError

OUT = Path(__file__).parent / "results" / "gowalla.json"
K = 20
VALIDATION_SHARE, VALIDATION_USERS = 0.1, 1_500
BLOCK = 250  # users scored at once: 250 rows of all items are 40 MB
PUBLISHED = {"LightGCN, its PyTorch code": (0.1824, 0.1547), "UltraGCN (Mao et al. 2021)": (0.1862, 0.1580)}

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Matrix = Any
"""A scipy CSR matrix of float32, users × items, 1 where the user has the item."""
Scorer = Callable[[Ints], Floats]
"""User rows → a score for each item, shape `(users, items)`."""


def counts(x: Matrix) -> tuple[Floats, Floats]:
    """Items of each user and users of each item; at least 1, so that they can be divided by."""
    items_of, users_of = (np.maximum(np.asarray(x.sum(axis)).ravel(), 1).astype(np.float32) for axis in (1, 0))
    return items_of, users_of


def scaled(x: Matrix, rows: Floats, columns: Floats) -> Matrix:
    """diag(rows) x diag(columns)."""
    return (sparse.diags(rows) @ x @ sparse.diags(columns)).tocsr()


def item_item(x: Matrix, similarity: Matrix) -> Scorer:
    """score(u, j) = Σ over the user's items i of similarity[i, j]."""
    return lambda users: (x[users] @ similarity).toarray()


# ------------------------------------------------------------------------------------------------------ the families


def popular(x: Matrix) -> Scorer:
    """Users of each item."""
    users_of = counts(x)[1]
    return lambda users: np.tile(users_of, (len(users), 1))


def als(x: Matrix, factors: int, regularization: float, alpha: float, iterations: int = 15) -> Scorer:
    """implicit's ALS (Hu, Koren and Volinsky 2008): confidence alpha for a pair, 1 for none."""
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(
        factors=factors,
        regularization=regularization,
        alpha=alpha,
        iterations=iterations,
        num_threads=1,
        random_state=0,
    )
    model.fit(x, show_progress=False)
    return lambda users: np.asarray(model.user_factors[users] @ model.item_factors.T)


def neighbours(x: Matrix, weighting: str, k: int) -> Scorer:
    """implicit's item-item models, the k nearest items of each."""
    from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender

    kind = {"cosine": CosineRecommender, "tfidf": TFIDFRecommender, "bm25": BM25Recommender}[weighting]
    model = kind(K=k, num_threads=1)
    model.fit(x, show_progress=False)
    return item_item(x, model.similarity.astype(np.float32))


def co_occurrence(x: Matrix, user: float, given: float, offered: float) -> Scorer:
    """similarity[i, j] = Σ over shared users v of n_v^-user ÷ (n_i^given n_j^offered), i ≠ j.

    given = 1, user = 1 is RP3beta (Paudel et al. 2017); given = offered = ½, user = 1 GF-CF's linear filter.
    """
    items_of, users_of = counts(x)
    shared = (x.T @ scaled(x, items_of**-user, np.ones_like(users_of))).tocsr()
    similarity = scaled(shared, users_of**-given, users_of**-offered)
    similarity.setdiag(0)
    return item_item(x, similarity)


def gf_cf(x: Matrix, factors: int, share: float) -> Scorer:
    """Linear filter and `share` of the ideal low-pass filter (Shen et al., CIKM 2021, equation 8)."""
    items_of, users_of = counts(x)
    normal = scaled(x, items_of**-0.5, users_of**-0.5)
    linear = (normal.T @ normal).tocsr()
    basis = top_directions(normal, factors)
    into, out = basis * (users_of**-0.5)[:, None], (basis * (users_of**0.5)[:, None]).T

    def score(users: Ints) -> Floats:
        return np.asarray((x[users] @ linear).toarray() + share * (x[users] @ into) @ out)

    return score


def top_directions(matrix: Matrix, count: int, rounds: int = 6, spare: int = 32) -> Floats:
    """Right singular vectors of the `count` largest singular values, shape `(columns, count)`.

    Randomised subspace iteration (Halko, Martinsson and Tropp 2011).
    """
    basis = np.random.default_rng(0).standard_normal((matrix.shape[1], count + spare)).astype(np.float32)
    back = matrix.T.tocsr()
    for _ in range(rounds):
        basis = np.linalg.qr(back @ (matrix @ basis))[0]
    right = np.linalg.svd(matrix @ basis, full_matrices=False)[2]
    return np.asarray((basis @ right.T)[:, :count])


def ridge(x: Matrix, user: float, item: float, strength: float) -> Scorer:
    """Weighted ridge regression of the items on each other; offered are items that the user has not.

        G = Xᵀ diag(n_v^-user) X        P = (G + λ diag(n_i^2·item))⁻¹
        score(u, j) = −n_j^2·item Σ over the user's items i of P[j, i]

    λ = strength × the largest eigenvalue of diag(n^-item) G diag(n^-item). user = item = 0 is the ridge regression that
    EASE (Steck 2019) starts from; EASE then divides by P[j, j]. Here P is never made: with R = diag(n_v^-user/2) X
    diag(n_i^-item), scaled to spectral norm 1, the same scores up to a factor are n^item (RᵀR + strength)⁻¹ RᵀR n^-item
    x, the spectral filter s² ÷ (s² + strength), and conjugate gradients solve that for a block of users.
    """
    items_of, users_of = counts(x)
    r = scaled(x, items_of ** (-user / 2), users_of**-item)
    r = (r / np.sqrt(largest_eigenvalue(r))).astype(np.float32).tocsr()
    back = r.T.tocsr()

    def score(users: Ints) -> Floats:
        start = scaled(x[users], np.ones(len(users), np.float32), users_of**-item).toarray().T
        target = back @ (r @ np.ascontiguousarray(start))
        return np.ascontiguousarray((solve(r, back, target, strength) * (users_of**item)[:, None]).T)

    return score


def largest_eigenvalue(r: Matrix, rounds: int = 50) -> float:
    """Of RᵀR, by power iteration."""
    vector = np.ones(r.shape[1], np.float32)
    for _ in range(rounds):
        vector = r.T @ (r @ vector)
        size = float(np.linalg.norm(vector))
        vector /= size
    return size


def solve(r: Matrix, back: Matrix, target: Floats, strength: float, tolerance: float = 0.005) -> Floats:
    """(RᵀR + strength) z = target by conjugate gradients, each column by itself; back = Rᵀ in CSR."""
    z = np.zeros_like(target)
    residual, direction = target.copy(), target.copy()
    size = (residual**2).sum(axis=0)
    enough = tolerance**2 * size
    while (size > enough).any():
        moved = back @ (r @ direction) + strength * direction
        step = size / np.maximum((direction * moved).sum(axis=0), np.finfo(np.float32).tiny)
        z += step * direction
        residual -= step * moved
        before, size = size, (residual**2).sum(axis=0)
        direction = residual + size / np.maximum(before, np.finfo(np.float32).tiny) * direction
    return z


def user_user(x: Matrix, item: float, power: float, offered: float) -> Scorer:
    """score(u, j) = Σ over the other users v with item j of cosine(u, v)^power ÷ n_j^offered.

    The cosine is of the rows of X diag(n_i^-item). With power 1 it is a co-occurrence of items; a higher power listens
    to the nearest users.
    """
    items_of, users_of = counts(x)
    rows = scaled(x, np.ones_like(items_of), users_of**-item)
    lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    rows = scaled(rows, 1 / np.maximum(lengths, 1e-9), np.ones_like(users_of))
    back, by_item = rows.T.tocsr(), x.T.tocsr()

    def score(users: Ints) -> Floats:
        similar = (rows[users] @ back).toarray()
        similar[np.arange(len(users)), users] = 0
        found = by_item @ np.ascontiguousarray((similar**power).T) * (users_of**-offered)[:, None]
        return np.ascontiguousarray(found.T)

    return score


def ridge_and(other: Callable[..., Scorer], x: Matrix, share: float, strength: float, **settings: float) -> Scorer:
    """Ridge and `share` of another, each user's scores scaled to length 1."""
    first, second = ridge(x, user=1, item=0.3, strength=strength), other(x, **settings)

    def score(users: Ints) -> Floats:
        return _length_one(first(users)) + share * _length_one(second(users))

    return score


def _length_one(scores: Floats) -> Floats:
    return scores / np.maximum(np.linalg.norm(scores, axis=1, keepdims=True), np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Family:
    """A way to fit a model and the parameters that validation chooses from."""

    fit: Callable[..., Scorer]
    grid: Sequence[Mapping[str, Any]]


FAMILIES = {
    "popular": Family(popular, [{}]),
    "cosine (implicit)": Family(neighbours, [{"weighting": "cosine", "k": k} for k in (50, 200, 1_000, 5_000)]),
    "tfidf (implicit)": Family(neighbours, [{"weighting": "tfidf", "k": k} for k in (50, 200, 1_000, 5_000)]),
    "bm25 (implicit)": Family(neighbours, [{"weighting": "bm25", "k": k} for k in (50, 200, 1_000, 5_000)]),
    "als (implicit)": Family(
        als,
        [
            {"factors": factors, "regularization": regularization, "alpha": alpha}
            for factors, regularization, alpha in (
                *((64, 1.0, 10), (128, 1.0, 10), (128, 10.0, 10)),
                *((128, 1.0, 30), (256, 10.0, 10)),
            )
        ],
    ),
    "rp3beta": Family(
        co_occurrence, [{"user": 1.0, "given": 1.0, "offered": beta} for beta in (0.0, 0.1, 0.2, 0.3, 0.4)]
    ),
    "gf-cf": Family(gf_cf, [{"factors": 256, "share": share} for share in (0.1, 0.3)]),
    "co-occurrence": Family(
        co_occurrence,
        [
            {"user": user, "given": given, "offered": offered}
            for user in (0.5, 0.75)
            for given, offered in ((0.5, 0.5), (0.5, 0.3), (0.6, 0.35), (0.7, 0.3), (0.7, 0.4))
        ],
    ),
    "ridge": Family(
        ridge,
        [
            {"user": 1.0, "item": item, "strength": strength}
            for item, strength in ((0.2, 0.3), (0.3, 0.2), (0.3, 0.3), (0.4, 0.3))
        ],
    ),
    "user-user": Family(
        user_user,
        [
            {"item": item, "power": power, "offered": offered}
            for item, power, offered in ((0.25, 1.5, 0.3), (0.25, 2.0, 0.0), (0.25, 2.0, 0.15), (0.5, 1.0, 0.3))
        ],
    ),
    "ridge + co-occurrence": Family(
        partial(ridge_and, co_occurrence),
        [{"share": share, "strength": 0.25, "user": 0.5, "given": 0.7, "offered": 0.3} for share in (0.25, 0.5, 1.0)],
    ),
    "ridge + user-user": Family(
        partial(ridge_and, user_user),
        [
            {"share": share, "strength": 0.25, "item": item, "power": power, "offered": offered}
            for share, item, power, offered in (
                *((0.5, 0.25, 1.5, 0.3), (0.5, 0.5, 1.0, 0.3), (0.5, 0.25, 2.0, 0.0)),
                *((1.0, 0.25, 1.5, 0.3), (1.0, 0.25, 2.0, 0.0), (1.0, 0.5, 1.0, 0.3)),
            )
        ],
    ),
}

# --------------------------------------------------------------------------------------------------------- measuring


def top_items(scores: Floats, owned: Matrix, k: int = K) -> Ints:
    """The k best items of each row that are not owned, best first."""
    scores = scores.copy()
    scores[np.repeat(np.arange(owned.shape[0]), np.diff(owned.indptr)), owned.indices] = -np.inf
    best = np.argpartition(-scores, k, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1)


def recall_and_ndcg(lists: Ints, truth: Matrix) -> NDArray[np.float64]:
    """Recall@k and NDCG@k of each user, shape `(users, 2)`; every user has a truth."""
    hit = np.asarray(truth[np.repeat(np.arange(len(lists)), lists.shape[1]), lists.ravel()]).reshape(lists.shape) > 0
    wanted = np.diff(truth.indptr)
    discount = 1 / np.log2(np.arange(2, lists.shape[1] + 2))
    ideal = np.cumsum(discount)[np.minimum(wanted, lists.shape[1]) - 1]
    return np.column_stack([hit.sum(axis=1) / wanted, (hit * discount).sum(axis=1) / ideal])


def measured(score: Scorer, train: Matrix, truth: Matrix, users: Ints) -> NDArray[np.float64]:
    """Recall@20 and NDCG@20 of the users, shape `(users, 2)`."""
    blocks = (users[start : start + BLOCK] for start in range(0, len(users), BLOCK))
    return np.concatenate([recall_and_ndcg(top_items(score(b), train[b]), truth[b]) for b in blocks])


def held_out(x: Matrix, share: float, seed: int = 0) -> tuple[Matrix, Matrix]:
    """A random share of each user's pairs (at least one, where there are two) apart from the rest: rest, held out."""
    user = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
    order = np.lexsort((np.random.default_rng(seed).random(x.nnz), user))
    rank = np.empty(x.nnz, np.int64)
    rank[order] = np.arange(x.nnz) - x.indptr[user]
    owned = np.diff(x.indptr)
    taken = np.where(owned < 2, 0, np.maximum(1, np.round(share * owned)))
    out = rank < taken[user]
    rest, part = (sparse.csr_matrix((x.data[m], (user[m], x.indices[m])), shape=x.shape) for m in (~out, out))
    return rest, part


def read(folder: Path) -> tuple[Matrix, Matrix]:
    """Training and test pairs, both users × items.

    Raises:
        UserError: a file is not there.
    """
    pairs = []
    for part in ("train", "test"):
        path = folder / f"gowalla_{part}.parquet"
        if not path.exists():
            raise UserError(f"no file {path}: set GOWALLA_DIR to the folder of gowalla_train and gowalla_test.parquet")
        table = pq.read_table(path)
        pairs.append((table["user"].to_numpy(), table["item"].to_numpy()))
    shape = tuple(max(int(part[column].max()) for part in pairs) + 1 for column in (0, 1))
    train, test = (sparse.csr_matrix((np.ones(len(u), np.float32), (u, i)), shape=shape) for u, i in pairs)
    return train, test


def tested(family: Family, train: Matrix, test: Matrix) -> dict[str, Any]:
    """Parameters by validation, then the test once."""
    rest, part = held_out(train, VALIDATION_SHARE)
    users = np.flatnonzero(np.diff(part.indptr))
    some = np.sort(np.random.default_rng(1).permutation(users)[:VALIDATION_USERS])
    tried = []
    for parameters in family.grid if len(family.grid) > 1 else ():
        began = time.perf_counter()
        recall, ndcg = measured(family.fit(rest, **parameters), rest, part, some).mean(axis=0)
        tried.append({**parameters, **_rounded(recall, ndcg), "seconds": round(time.perf_counter() - began, 1)})
        print(f"    {tried[-1]}", flush=True)
    best = family.grid[int(np.argmax([t["ndcg"] for t in tried]))] if tried else family.grid[0]
    began = time.perf_counter()
    score = family.fit(train, **best)
    fitted = time.perf_counter()
    each = measured(score, train, test, np.flatnonzero(np.diff(test.indptr)))
    errors = each.std(axis=0) / np.sqrt(len(each))
    return {
        "parameters": dict(best),
        **_rounded(*each.mean(axis=0)),
        "standard_errors": [round(float(e), 4) for e in errors],
        "fit_seconds": round(fitted - began, 1),
        "score_seconds": round(time.perf_counter() - fitted, 1),
        "users": len(each),
        "validation": tried,
    }


def _rounded(recall: float, ndcg: float) -> dict[str, float]:
    return {"recall": round(float(recall), 4), "ndcg": round(float(ndcg), 4)}


def _rows(kept: Mapping[str, Any]) -> Iterator[str]:
    yield f"{'model':<28}{'Recall@20':>10}{'NDCG@20':>10}{'fit s':>8}{'score s':>9}  parameters"
    for name, (recall, ndcg) in PUBLISHED.items():
        yield f"{name:<28}{recall:>10.4f}{ndcg:>10.4f}{'':>17}  as published"
    for name, found in sorted(kept.items(), key=lambda pair: -pair[1]["ndcg"]):
        times = f"{found['fit_seconds']:>8.1f}{found['score_seconds']:>9.1f}"
        yield f"{name:<28}{found['recall']:>10.4f}{found['ndcg']:>10.4f}{times}  {found['parameters']}"


def main() -> None:
    """Tune and test the families asked for, and print all that were."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(FAMILIES), default=list(FAMILIES))
    given = parser.parse_args()
    root = Path(__file__).resolve().parent.parent
    train, test = read(Path(os.environ.get("GOWALLA_DIR", root.parent / "shared" / "data")))
    kept: dict[str, Any] = json.loads(OUT.read_text()) if OUT.exists() else {}
    with threadpool_limits(1):
        for name in given.only:
            print(name, flush=True)
            kept[name] = tested(FAMILIES[name], train, test)
            OUT.write_text(json.dumps(kept, indent=1) + "\n")
    print("\n".join(_rows(kept)))


if __name__ == "__main__":
    main()
