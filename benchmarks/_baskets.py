"""Baskets of users in order, and peers that foretell the next one from them, written from their papers.

Every peer is a weighted sum of a user's own past baskets, of all users', or of both; what differs are the weights. A
list is item codes, best first; equal scores go to the item in more baskets, then to the smaller code; -1 is no item.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from features.events import columns as c
from features.events.store import Store

LENGTH = 20  # of a list
BLOCK = 200  # users scored at once
FIGURES = ("recall@10", "recall@20", "ndcg@10")

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Lists = Ints
"""int64[users, LENGTH]"""
Truth = Sequence[Ints]
"""Item codes of each user's held-out basket, at least one."""
Matrix = Any
"""A scipy CSR matrix of float64."""


@dataclass(frozen=True)
class Baskets:
    """The distinct items of each order of each user.

    Attributes:
        users: int64[users + 1]; user u has the baskets `users[u]:users[u + 1]`, oldest first.
        offsets: int64[baskets + 1]; basket b has the items `offsets[b]:offsets[b + 1]`.
        items: int64, codes below `catalogue`, ascending within a basket.
        ts: int64[baskets], the instant (µs) of the first line.
        catalogue: how many item codes there are.
    """

    users: Ints
    offsets: Ints
    items: Ints
    ts: Ints
    catalogue: int

    def __len__(self) -> int:
        return len(self.users) - 1

    @property
    def sizes(self) -> Ints:
        """Baskets of each user."""
        return np.diff(self.users)

    @property
    def owner(self) -> Ints:
        """The user of each basket."""
        return np.repeat(np.arange(len(self)), self.sizes)

    @property
    def back(self) -> Ints:
        """How many baskets of the same user came after each basket."""
        return self.users[1:][self.owner] - 1 - np.arange(len(self.ts))

    @property
    def popularity(self) -> Ints:
        """Baskets that each item is in, int64[catalogue]."""
        return np.bincount(self.items, minlength=self.catalogue)

    def basket(self, index: int) -> Ints:
        """Item codes of one basket."""
        return self.items[self.offsets[index] : self.offsets[index + 1]]

    def select(self, kept: NDArray[np.bool_]) -> "Baskets":
        """Only some of the baskets, with all the users."""
        sizes = np.diff(self.offsets)
        users = np.concatenate([[0], np.cumsum(np.bincount(self.owner[kept], minlength=len(self)))])
        offsets = np.concatenate([[0], np.cumsum(sizes[kept])])
        return Baskets(users, offsets, self.items[np.repeat(kept, sizes)], self.ts[kept], self.catalogue)

    def profiles(self, weight: Floats) -> Matrix:
        """Σ over a user's baskets of weight × the items in it, users × catalogue."""
        sums = sparse.csr_matrix((weight, np.arange(len(weight)), self.users), shape=(len(self), len(weight)))
        ones = np.ones(len(self.items))
        return (sums @ sparse.csr_matrix((ones, self.items, self.offsets), (len(weight), self.catalogue))).tocsr()


@dataclass(frozen=True)
class Task:
    """Foretell one basket of some users from all that is known.

    Attributes:
        past: everything known: all baskets of the others, the earlier ones of `users`.
        users: int64, rows of `past` whose next basket is asked for.
        at: int64[users], the instant (µs) of that basket.
        truth: its items, without those that are in no known basket.
    """

    past: Baskets
    users: Ints
    at: Ints
    truth: Truth


def baskets_of(store: Store) -> Baskets:
    """All orders of a store in its own item codes; lines without an order or an item are left out.

    Orders of a user that began at the same instant stand in the order of their ids' hashes.
    """
    parts: list[Ints] = []
    seen = 0
    for timeline in store.timelines():
        stream = timeline.stream("purchase")
        order, item = timeline.values("purchase", c.ORDER_ID), timeline.values("purchase", c.ITEM_ID)
        user = np.repeat(np.arange(len(timeline)), np.diff(stream.offsets)) + seen
        kept = (order != 0) & (item >= 0)
        parts.append(np.column_stack([user, order, item, stream.ts])[kept])
        seen += len(timeline)
    return grouped(*np.concatenate(parts).T, users=seen, catalogue=len(store.words[c.ITEM_ID].texts))


def grouped(user: Ints, order: Ints, item: Ints, ts: Ints, *, users: int, catalogue: int) -> Baskets:
    """Baskets of lines in any sequence."""
    by_order = np.lexsort((ts, order, user))
    user, order, item, ts = user[by_order], order[by_order], item[by_order], ts[by_order]
    first = np.ones(len(user), np.bool_)
    first[1:] = (user[1:] != user[:-1]) | (order[1:] != order[:-1])
    starts = np.flatnonzero(first)
    in_time = np.lexsort((order[starts], ts[starts], user[starts]))
    place = np.empty(len(starts), np.int64)
    place[in_time] = np.arange(len(starts))
    distinct = np.unique(np.column_stack([place[np.cumsum(first) - 1], item]), axis=0)
    return Baskets(
        users=np.searchsorted(user[starts], np.arange(users + 1)),
        offsets=np.searchsorted(distinct[:, 0], np.arange(len(starts) + 1)),
        items=distinct[:, 1].copy(),
        ts=ts[starts][in_time],
        catalogue=catalogue,
    )


def held_out(baskets: Baskets, least: int = 3) -> Task:
    """The last basket of each user with at least `least` of them, if any item of it is in a known basket."""
    last = (baskets.back == 0) & (baskets.sizes >= least)[baskets.owner]
    past = baskets.select(~last)
    known = past.popularity > 0
    asked = [
        (index, items[known[items]]) for index in np.flatnonzero(last).tolist() for items in [baskets.basket(index)]
    ]
    asked = [(index, items) for index, items in asked if len(items)]
    places = np.array([index for index, _ in asked], np.int64)
    return Task(past, baskets.owner[places], baskets.ts[places], [items for _, items in asked])


def some_of(task: Task, count: int, seed: int = 0) -> Task:
    """The task for a random sample of its users."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(task.users))[:count])
    return Task(task.past, task.users[rows], task.at[rows], [task.truth[row] for row in rows])


def evaluate(lists: Lists | Sequence[Sequence[int]], truth: Truth) -> Floats:
    """Recall@10, Recall@20 and NDCG@10 of each user, float64[users, 3].

    Recall is hits ÷ items of the basket, not cut at the list's length. NDCG's ideal list is min(10, items) hits long.

    Raises:
        ValueError: there is not one list for each basket, or a list names an item twice.
    """
    if len(lists) != len(truth):
        raise ValueError(f"{len(lists)} lists for {len(truth)} baskets; there must be one for each")
    discount = 1 / np.log2(np.arange(2, 12))
    out = np.empty((len(truth), len(FIGURES)))
    for row, (found, wanted) in enumerate(zip(lists, truth, strict=True)):
        named = np.asarray(found)[np.asarray(found) >= 0]
        if len(np.unique(named)) < len(named):
            raise ValueError(f"list {row} names an item twice")
        hit = np.zeros(LENGTH)
        hit[: min(LENGTH, len(found))] = np.isin(found[:LENGTH], wanted)
        ideal = discount[: min(10, len(wanted))].sum()
        out[row] = hit[:10].sum() / len(wanted), hit.sum() / len(wanted), (hit[:10] * discount).sum() / ideal
    return out


def best_items(scores: Floats, popularity: Ints, *, least: float = -np.inf) -> Lists:
    """The LENGTH items of each row with the highest scores above `least`."""
    out = np.full((len(scores), LENGTH), -1, np.int64)
    for row, score in enumerate(scores):
        # All that are as good as the last place, so that it is not partition that breaks ties.
        cut = np.partition(score, -LENGTH)[-LENGTH] if len(score) > LENGTH else -np.inf
        good = np.flatnonzero((score >= cut) & (score > least))
        if len(good) > 10 * LENGTH:  # many ties, usually at 0
            above = good[score[good] > cut]
            level = good[score[good] == cut]
            good = np.concatenate([above, level[np.argsort(-popularity[level], kind="stable")[:LENGTH]]])
        order = np.lexsort((good, -popularity[good], -score[good]))[:LENGTH]
        out[row, : len(order)] = good[order]
    return out


def _blocks(users: Ints) -> Iterator[Ints]:
    return (users[start : start + BLOCK] for start in range(0, len(users), BLOCK))


# -------------------------------------------------------------------------------------------------------- the peers


def popular(past: Baskets, users: Ints) -> Lists:
    """G-TopFreq: the items in most baskets, the same for all."""
    one = best_items(past.popularity[None].astype(np.float64), past.popularity)
    return np.repeat(one, len(users), axis=0)


def personal(past: Baskets, users: Ints) -> Lists:
    """P-TopFreq: the items in most of the user's own baskets, and nothing else."""
    counts = past.profiles(np.ones(len(past.ts)))
    lists = [best_items(counts[block].toarray(), past.popularity, least=0) for block in _blocks(users)]
    return np.concatenate(lists)


def personal_then_popular(past: Baskets, users: Ints) -> Lists:
    """GP-TopFreq: the same, filled up with popular items."""
    counts = past.profiles(np.ones(len(past.ts)))
    return np.concatenate([best_items(counts[block].toarray(), past.popularity) for block in _blocks(users)])


def tifu_weights(past: Baskets, group: int, r_b: float, r_g: float) -> Floats:
    """Weight of each basket in TIFU-KNN's user vector, float64[baskets].

    Groups of `group` baskets are counted from the newest, so the oldest may be smaller; r_b decays within a group, r_g
    from group to group, and both sums are divided by how many they add (Hu et al., SIGIR 2020, section 4.2).
    """
    total = past.sizes[past.owner]
    groups = -(-total // group)
    older, within = np.divmod(past.back, group)
    size = np.where(older == groups - 1, total - (groups - 1) * group, group)
    return r_b**within / size * r_g**older / groups


def tifu_knn(past: Baskets, users: Ints, group: int, r_b: float, r_g: float, k: int, alpha: float) -> Lists:
    """TIFU-KNN: alpha × the user's decayed vector + (1 - alpha) × the mean of the k nearest others' (Euclidean).

    Hu, He, Gao and Zhang, Modeling Personalized Item Frequency Information for Next-basket Recommendation (SIGIR 2020).
    """
    vectors = past.profiles(tifu_weights(past, group, r_b, r_g))
    lengths = np.asarray(vectors.multiply(vectors).sum(axis=1)).ravel()
    # Whoever has no basket is nobody's neighbour.
    lengths[past.sizes == 0] = np.inf
    others = vectors.T.tocsr()
    k = min(k, int((past.sizes > 0).sum()) - 1)
    lists = []
    for block in _blocks(users):
        distance = lengths - 2 * (vectors[block] @ others).toarray()  # + the user's own length, the same in a row
        distance[np.arange(len(block)), block] = np.inf
        near = np.argpartition(distance, k - 1, axis=1)[:, :k]
        mean = sparse.csr_matrix(
            (np.full(near.size, 1 / k), near.ravel(), np.arange(len(block) + 1) * k), (len(block), len(past))
        )
        scores = alpha * vectors[block] + (1 - alpha) * (mean @ vectors)
        lists.append(best_items(scores.toarray(), past.popularity))
    return np.concatenate(lists)


def up_cf(past: Baskets, users: Ints, alpha: float, q: int, r: int | None = None) -> Lists:
    """UP-CF, and with `r` UP-CF@r: Σ over all users v of similarity(u, v)^q × v's share of (the last r) baskets.

    The similarity is the asymmetric cosine of the sets of items: |both| ÷ (|u's|^alpha × |v's|^(1 - alpha)). Faggioli,
    Polato and Aiolli, Recency Aware Collaborative Filtering for Next Basket Recommendation (UMAP 2020).
    """
    counted = np.minimum(past.sizes, r or past.sizes)[past.owner]
    shares = past.profiles(np.where(past.back < counted, 1 / counted, 0.0)).T.tocsr()
    has = past.profiles(np.ones(len(past.ts)))
    has.data[:] = 1
    size = np.maximum(np.diff(has.indptr), 1).astype(np.float64)
    by_item = has.T.tocsr()
    lists = []
    for block in _blocks(users):
        both = (has[block] @ by_item).toarray()
        similar = (both / size[block, None] ** alpha / size ** (1 - alpha)) ** q
        lists.append(best_items((shares @ similar.T).T, past.popularity))
    return np.concatenate(lists)
