"""Fit a recommender's heads on what is known at a moment, and count the facts about its items."""

import re
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise

import numpy as np
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import ItemItemRecommender
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags
from threadpoolctl import threadpool_limits

from models.recommender import History, Past, Shop
from models.recommender.alike import Alike
from models.recommender.complement import DAMPED, Complement
from models.recommender.heads import Head
from models.recommender.history import PURCHASE
from models.recommender.inputs import ItemTable
from models.recommender.links import Links
from models.recommender.past import SESSION_DAYS, Bought, Floats, Pairs, starts
from models.recommender.popular import Popular, Trending, Welcome
from models.recommender.repeat import Repeat
from models.recommender.session import Session
from models.recommender.similar_als import LastingAls, SimilarAls
from models.recommender.similar_items import SimilarItems
from models.recommender.tastes import Discover, Taste, Upgrade

DRAWN = 20.0  # buyers that a category's share weighs as much as, in the share of an item's buyers who come back


@dataclass(frozen=True)
class HeadSettings:
    """What can be set of the heads. Defaults were chosen on moments before those that are reported.

    als_alpha, als_regularization: as in implicit; als_factors a multiple of 8. Half-lives in days. neighbours: kept per
    item. least_together: orders with both items before one is offered with the other.
    """

    repeat_half_life: float = 120.0
    als_factors: int = 64
    als_iterations: int = 15
    als_alpha: float = 3.0
    als_regularization: float = 1.0
    als_half_life: float = 60.0
    lasting_factors: int = 32
    lasting_alpha: float = 1.0
    lasting_regularization: float = 5.0
    lasting_half_life: float = 365.0
    alike_half_life: float = 60.0
    neighbours: int = 200
    neighbours_half_life: float = 60.0
    links_half_life: float = 120.0
    least_together: int = 3
    popular_days: int = 30
    welcome_days: int = 90


def fit_heads(history: History, shop: Shop, as_of: int, settings: HeadSettings, seed: int) -> dict[str, Head]:
    """All heads at a moment (µs), by name, from a history that holds nothing at or after it.

    Same history, settings and seed give the same heads to the byte, whatever the users are called and in whatever order
    they come.
    """
    history = canonical(history)
    past = Past.of(history, as_of)
    bought = past.bought
    items = len(shop.catalogue)
    share = _share_of_category(bought, shop)
    with threadpool_limits(1, "blas"):  # implicit asks for it (its own threads run beside), and it fixes the sums
        heads: list[Head] = [
            fit_repeat(bought, shop, settings),
            fit_complement(bought, items, settings),
            Session(_visit_links(past, items, settings)),
            SimilarItems(_buyer_links(past, items, settings), settings.neighbours_half_life),
            fit_alike(shop, settings.alike_half_life),
            Upgrade(share),
            Taste(share),
            Discover(share, _near_categories(bought, shop)),
            fit_als(past, items, settings, seed),
            fit_lasting(past, items, settings, seed),
            Trending(_new_buyers(bought, items, 0, 7), _new_buyers(bought, items, 7, 35) / np.float32(4)),
            fit_welcome(bought, items, settings),
            Popular(
                _buyers(bought, items, 0, settings.popular_days),
                _buyers(bought, items, 0, np.inf),
                as_of,
                settings.popular_days,
            ),
        ]
    return {head.name: head for head in heads}


def canonical(history: History) -> History:
    """Users who did something, ordered by what and when, not by what they are called.

    ALS starts from random user factors by row, and float sums run over rows: with this order neither renaming users
    nor how the store is cut into buckets changes a model.
    """
    bounds = history.offsets.tolist()
    told = (history.ts, history.item, history.kind, history.price, history.quantity)
    digests = [
        blake2b(b"".join(values[start:end].tobytes() for values in told), digest_size=16).digest()
        for start, end in pairwise(bounds)
    ]
    active = np.flatnonzero(np.diff(history.offsets)).tolist()
    return history.some(sorted(active, key=digests.__getitem__))


def fit_repeat(bought: Bought, shop: Shop, settings: HeadSettings) -> Repeat:
    """When and whether items are bought again."""
    items = len(shop.catalogue)
    return Repeat(_intervals(bought, items), _again(bought, shop), settings.repeat_half_life)


def _intervals(bought: Bought, items: int) -> NDArray[np.float32]:
    """Median days between successive orders of one user with the item; NaN where there were none."""
    same = np.ones(len(bought.user), np.bool_)
    same[bought.begin] = False
    later = np.flatnonzero(same)
    gaps, item = bought.age[later - 1] - bought.age[later], bought.item[later]
    order = np.lexsort((gaps, item))
    bounds = np.searchsorted(item[order], np.arange(items + 1))
    middle = np.minimum((bounds[:-1] + bounds[1:]) // 2, max(len(gaps) - 1, 0))
    out = np.full(items, np.nan, np.float32)
    some = bounds[1:] > bounds[:-1]
    out[some] = gaps[order][middle[some]]
    return out


def _again(bought: Bought, shop: Shop) -> NDArray[np.float32]:
    """Share of an item's buyers of at least 30 days ago who bought it again, drawn to its category's and the shop's."""
    items = len(shop.catalogue)
    old = bought.age[bought.begin] >= 30
    item, back = bought.pair_item[old], (bought.times[old] > 1).astype(np.float64)
    buyers, returned = np.bincount(item, minlength=items), np.bincount(item, back, items)
    usual = returned.sum() / max(buyers.sum(), 1)
    category = np.where(shop.attributes.category >= 0, shop.attributes.category, len(shop.attributes.categories))
    by_category = np.bincount(category, buyers), np.bincount(category, returned)
    prior = ((by_category[1] + DRAWN * usual) / (by_category[0] + DRAWN))[category]
    out: NDArray[np.float32] = ((returned + DRAWN * prior) / (buyers + DRAWN)).astype(np.float32)
    return out


def fit_als(past: Past, items: int, settings: HeadSettings, seed: int) -> SimilarAls:
    """Item factors of implicit's ALS; its user factors are dropped, every user is folded in when asked about."""
    numbers = (settings.als_alpha, settings.als_regularization, settings.als_half_life)
    factors = _factors(past, items, settings.als_factors, settings.als_iterations, numbers, seed)
    return SimilarAls(np.ascontiguousarray(factors.T), _gram(factors), *numbers)


def fit_lasting(past: Past, items: int, settings: HeadSettings, seed: int) -> LastingAls:
    """The same of fewer factors over a longer memory."""
    numbers = (settings.lasting_alpha, settings.lasting_regularization, settings.lasting_half_life)
    factors = _factors(past, items, settings.lasting_factors, settings.als_iterations, numbers, seed)
    return LastingAls(np.ascontiguousarray(factors.T), _gram(factors), *numbers)


def _factors(
    past: Past, items: int, count: int, iterations: int, numbers: tuple[float, float, float], seed: int
) -> NDArray[np.float32]:
    alpha, regularization, half_life = numbers
    model = AlternatingLeastSquares(
        factors=count, regularization=regularization, alpha=alpha, iterations=iterations, random_state=seed
    )
    liking = _matrix(past.liking(half_life), len(past), items)
    model.fit(liking.astype(np.float32), show_progress=False)
    return np.asarray(model.item_factors, np.float32)


def _gram(factors: NDArray[np.float32]) -> Floats:
    exact = factors.astype(np.float64)
    return np.asarray(exact.T @ exact)


def _buyer_links(past: Past, items: int, settings: HeadSettings) -> Links:
    """Neighbours by common buyers: users and items are damped by powers of how much they hold.

    strength_ij = Σ_u x_ui x_uj / (m_u √n_i √n_j), where x is the root of decayed liking, n and m its sums by item and
    by user. The exponents that are best on Gowalla (.35 to .6) are behind on shops' logs.
    """
    liking = _matrix(past.liking(settings.links_half_life), len(past), items)
    liking.data = np.sqrt(liking.data)
    by_user, by_item = (np.maximum(np.asarray(liking.sum(axis)).ravel(), 1e-9) for axis in (1, 0))
    return _nearest((diags(by_user**-0.5) @ liking @ diags(by_item**-0.5)).tocsr(), settings.neighbours)


def fit_complement(bought: Bought, items: int, settings: HeadSettings) -> Complement:
    """Neighbours by common orders of the last year, nearest by cosine, from a least number of orders on."""
    rows = np.flatnonzero(bought.age < 365)
    order = bought.order_offsets[bought.user[rows]] + bought.rank[rows]
    total = int(bought.order_offsets[-1])
    matrix = csr_matrix((np.ones(len(rows)), (order, bought.item[rows])), shape=(total, items))
    count = np.asarray(matrix.sum(0)).ravel()
    links = _nearest((matrix @ diags(1 / np.sqrt(np.maximum(count, 1)))).tocsr(), settings.neighbours)
    of = np.repeat(np.arange(items), np.diff(links.offsets))
    both = np.rint(links.strength * np.sqrt(count[of] * count[links.neighbours]))
    kept = both >= settings.least_together
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])[links.offsets]
    strength = both / np.maximum(np.sqrt(count[of]) * count[links.neighbours] ** DAMPED, 1e-9)
    strong = Links(offsets, links.neighbours[kept], strength[kept].astype(np.float32))
    return Complement(strong, count.astype(np.int32), len(np.unique(order)))


def fit_alike(shop: Shop, half_life: float) -> Alike:
    """The words of names; a word that only one item has links nothing and is left out."""
    words = [sorted(set(_WORD.findall(name.upper()))) for name in shop.attributes.names]
    known = {word: code for code, word in enumerate(sorted({word for of_item in words for word in of_item}))}
    items, size = len(words), len(known)
    word = np.array([known[one] for of_item in words for one in of_item], np.int64)
    item = np.repeat(np.arange(items), [len(of_item) for of_item in words])
    count = np.bincount(word, minlength=size)
    kept = count[word] > 1
    rarity = np.log(items / np.maximum(count, 1))
    matrix = csr_matrix((rarity[word[kept]], (item[kept], word[kept])), shape=(items, size))
    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(1)).ravel())
    by_item = (diags(1 / np.maximum(length, 1e-9)) @ matrix).tocsr()
    by_word = by_item.T.tocsr()
    by_word.sort_indices()
    links = Links(by_word.indptr.astype(np.int64), by_word.indices.astype(np.int32), by_word.data.astype(np.float32))
    own = (by_item.indptr.astype(np.int64), by_item.indices.astype(np.int32), by_item.data.astype(np.float32))
    return Alike(links, *own, half_life)


_WORD = re.compile(r"\w\w+")


def _visit_links(past: Past, items: int, settings: HeadSettings) -> Links:
    """Neighbours by common visits (acts parted by half an idle hour), by cosine; none where there is no browsing."""
    history = past.history
    rows = np.flatnonzero(np.isin(history.kind, _VISIBLE))
    if not (history.kind[rows] != PURCHASE).any():
        return Links.none(items)
    user, age = history.users[rows], past.age[rows]
    order = np.lexsort((history.item[rows], -age, user))
    user, age, item = user[order], age[order], history.item[rows][order]
    new = np.ones(len(rows), np.bool_)
    new[1:] = (user[1:] != user[:-1]) | (age[:-1] - age[1:] > SESSION_DAYS)
    visit = np.cumsum(new) - 1
    matrix = csr_matrix((np.ones(len(rows)), (visit, item)), shape=(int(visit[-1]) + 1, items))
    matrix.data[:] = 1.0
    count = np.asarray(matrix.sum(0)).ravel()
    return _nearest((matrix @ diags(1 / np.sqrt(np.maximum(count, 1)))).tocsr(), settings.neighbours)


_VISIBLE = (0, 1, 2, 3)  # purchase, cart, favourite, view


def _nearest(weighted: csr_matrix, neighbours: int) -> Links:
    """The most similar columns of each column by the product of the matrix with itself, without the column itself."""
    model = ItemItemRecommender(K=neighbours + 1)  # an item is its own nearest neighbour, and goes
    model.fit(weighted, show_progress=False)
    links = model.similarity.tocoo()
    keep = (links.row != links.col) & (links.data > 0)
    similarity = csr_matrix((links.data[keep], (links.row[keep], links.col[keep])), shape=links.shape)
    similarity.sort_indices()
    return Links(
        similarity.indptr.astype(np.int64), similarity.indices.astype(np.int32), similarity.data.astype(np.float32)
    )


def _matrix(pairs: Pairs, users: int, items: int) -> csr_matrix:
    return csr_matrix((pairs.value, (pairs.user, pairs.item)), shape=(users, items))


def _buyers(bought: Bought, items: int, newest: float, oldest: float) -> NDArray[np.int32]:
    """Distinct buyers of each item between two ages in days."""
    rows = np.flatnonzero((bought.age >= newest) & (bought.age < oldest))
    first = starts(bought.user[rows], bought.item[rows])
    return np.bincount(bought.item[rows][first], minlength=items).astype(np.int32)


def _new_buyers(bought: Bought, items: int, newest: float, oldest: float) -> NDArray[np.float32]:
    """Users who first bought each item between two ages in days."""
    first = bought.age[bought.begin]
    rows = (first >= newest) & (first < oldest)
    return np.bincount(bought.pair_item[rows], minlength=items).astype(np.float32)


def fit_welcome(bought: Bought, items: int, settings: HeadSettings) -> Welcome:
    """What is bought at present; what newcomers began with lately, and how many of them ordered again."""
    orders = bought.orders[bought.user]
    first = (bought.rank == orders - 1) & (bought.age < settings.welcome_days)
    began = np.bincount(bought.item[first], minlength=items)
    stayed = np.bincount(bought.item[first & (orders > 1)], minlength=items)
    lately = first & (bought.age < settings.popular_days)
    counts = (np.bincount(bought.item[lately], minlength=items), began, stayed)
    recent = _buyers(bought, items, 0, settings.popular_days)
    return Welcome(recent, *(count.astype(np.int32) for count in counts))


def _share_of_category(bought: Bought, shop: Shop) -> NDArray[np.float32]:
    """Each item's share of its category's recent buyers; older ones count a tenth. 0 without a category."""
    items = len(shop.catalogue)
    buyers = _buyers(bought, items, 0, 30) + 0.1 * _buyers(bought, items, 0, 90)
    category = shop.attributes.category
    known = category >= 0
    total = np.bincount(category[known], buyers[known], len(shop.attributes.categories) + 1)
    out = np.where(known, buyers / np.maximum(total[category], 1e-9), 0.0)
    return out.astype(np.float32)


def _near_categories(bought: Bought, shop: Shop) -> NDArray[np.float32]:
    """Cosine between categories' buyers, diagonal 0."""
    category = shop.attributes.category[bought.pair_item]
    known = category >= 0
    shape = (bought.users, len(shop.attributes.categories))
    matrix = csr_matrix((np.ones(int(known.sum())), (bought.pair_user[known], category[known])), shape=shape)
    matrix.data[:] = 1.0
    both = np.asarray((matrix.T @ matrix).todense(), np.float64)
    scale = np.sqrt(np.maximum(np.diag(both), 1))
    near = both / scale[:, None] / scale[None, :]
    np.fill_diagonal(near, 0.0)
    return near.astype(np.float32)


def count_items(history: History, shop: Shop, as_of: int, repeat: Repeat) -> ItemTable:
    """What the log tells of each item at a moment: buyers by window, the season a year ago, prices, returns, ages."""
    past = Past.of(canonical(history), as_of)
    bought, items = past.bought, len(shop.catalogue)
    buyers = {days: _buyers(bought, items, 0, days).astype(np.float64) for days in (7, 14, 30, 90, 365)}
    length = float(bought.age.max(initial=0.0))
    year_ago, before = (_buyers(bought, items, *span).astype(np.float64) for span in ((335, 365), (365, 395)))
    ever = np.bincount(bought.pair_item, minlength=items).astype(np.float64)
    entries = np.maximum(np.bincount(bought.item, minlength=items), 1)
    basket = np.bincount(bought.order_offsets[bought.user] + bought.rank, minlength=int(bought.order_offsets[-1]))
    known = np.isfinite(bought.price)
    mean_price = np.bincount(bought.item[known], bought.price[known], items) / np.maximum(
        np.bincount(bought.item[known], minlength=items), 1
    )
    price = shop.attributes.price
    columns: dict[str, Floats] = {
        **{f"buyers_{days}": values for days, values in buyers.items()},
        "buyers": ever,
        "buyers_a_year_ago": year_ago if length > 365 else np.full(items, np.nan),
        "season": (year_ago + 1) / (before + 1) if length > 395 else np.full(items, np.nan),
        "new_buyers_7": _new_buyers(bought, items, 0, 7).astype(np.float64),
        "new_buyers_30": _new_buyers(bought, items, 0, 30).astype(np.float64),
        "trend": (buyers[30] + 1) / (buyers[90] / 3 + 1),
        "trend_7": (buyers[7] + 0.5) / (buyers[30] / 4 + 0.5),
        "age": _extreme(bought, items, np.maximum, -1.0),
        "idle": _extreme(bought, items, np.minimum, np.inf),
        "price": price,
        "price_change": price / np.where(mean_price > 0, mean_price, np.nan),
        "again": repeat.again.astype(np.float64),
        "again_30": _again_within(bought, items, 30),
        "orders_a_buyer": np.bincount(bought.pair_item, bought.times, items) / np.maximum(ever, 1),
        "interval": repeat.interval.astype(np.float64),
        "basket": np.bincount(bought.item, basket[bought.order_offsets[bought.user] + bought.rank], items) / entries,
    }
    return ItemTable(tuple(columns), np.stack([v.astype(np.float32) for v in columns.values()], axis=1))


def _extreme(bought: Bought, items: int, which: np.ufunc, start: float) -> Floats:
    """Age in days of each item's first or last sale; NaN without one."""
    out = np.full(items, start)
    which.at(out, bought.item, bought.age)
    return np.where(np.isfinite(out) & (out >= 0), out, np.nan)


def _again_within(bought: Bought, items: int, days: float) -> Floats:
    """Share of orders with an item, at least so many days old, that its buyer followed by another within them."""
    following = np.full(len(bought.user), -np.inf)
    following[:-1] = np.where(
        (bought.user[1:] == bought.user[:-1]) & (bought.item[1:] == bought.item[:-1]), bought.age[1:], -np.inf
    )
    old = bought.age >= days
    back = (bought.age - following <= days).astype(np.float64)
    return (np.bincount(bought.item[old], back[old], items) + 0.1) / (
        np.bincount(bought.item[old], minlength=items) + 2.0
    )
