"""Our recommender at the next-basket task: the same heads, columns and booster, taught by earlier baskets.

`train cross-sell` learns what is bought within days of a moment that all users share. Here each user is asked about at
the instant of their own next order, so the ranker learns from each asked user's own earlier orders, one at a time.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks._baskets import Baskets, Ints, Lists
from features.events import columns as c
from features.events.store import Store
from models.recommender import Catalogue, History, Past, Recommender, Shop
from models.recommender.model import WIDTH
from training.acts import attributes_of
from training.cross_sell_fit import RankerSettings, Rows, fit_ranker, fit_unranked
from training.heads_fit import HeadSettings

STEPS = 3  # earlier orders of each asked user that teach, the newest first
K = 20


def lists_of_ours(store: Store, past: Baskets, users: Ints, at: Ints) -> Lists:
    """int64[users, 20] item codes of the store, best first.

    Args:
        past: everything known. users: rows of it that are asked about. at: instants (µs) of the orders asked for.
    """
    settings = RankerSettings()
    end = int(past.ts.max()) + 1
    taught = []
    for back in range(1, STEPS + 1):
        asked = np.isin(past.owner, users) & (past.back < back)
        model, history, codes = _model(store, past.select(~asked), end)
        wanted = np.flatnonzero(np.isin(past.owner, users) & (past.back == back - 1) & (past.sizes > back)[past.owner])
        truth = [codes[past.basket(place)] for place in wanted.tolist()]
        taught.append(_rows(model, history, past.owner[wanted], past.ts[wanted], truth, settings))
    model, history, codes = _model(store, past, end)
    ranker = fit_ranker(taught, settings, seed=1)
    back_to_store = np.flatnonzero(codes >= 0)[np.argsort(codes[codes >= 0])]
    out = np.full((len(users), K), -1, np.int64)
    for row, (user, moment) in enumerate(zip(users.tolist(), at.tolist(), strict=True)):
        found = _candidates(model, history, user, moment)
        score = ranker.scores(model.rows(found, ranker.names)[1])
        best = found.item[np.lexsort((found.item, -score))][:K]
        out[row, : len(best)] = back_to_store[best]
    return out


def _model(store: Store, known: Baskets, end: int) -> tuple[Recommender, History, NDArray[np.int32]]:
    """Heads over everything known, the orders as a history, and our code of each of the store's items."""
    texts = store.words[c.ITEM_ID].texts
    sold = np.unique(known.items)
    catalogue = Catalogue.of([texts[code] for code in sold])
    codes = catalogue.codes(texts)
    sizes = np.diff(known.offsets)
    user, ts = np.repeat(known.owner, sizes), np.repeat(known.ts, sizes)
    order = np.repeat(np.arange(1, len(sizes) + 1), sizes)
    kind = np.zeros(len(ts), np.uint8)
    history = History.of([str(row) for row in range(len(known))], user, codes[known.items], kind, ts, order)
    shop = Shop(catalogue, attributes_of(store, catalogue))
    return fit_unranked(history, shop, end, HeadSettings(), {}, seed=1), history, codes


def _candidates(model: Recommender, history: History, user: int, moment: int):  # type: ignore[no-untyped-def]
    past = Past.of(history.some([user]), moment)
    return model.candidates(past, "all", np.ones((1, len(model.catalogue)), np.bool_), WIDTH)


def _rows(
    model: Recommender,
    history: History,
    users: Ints,
    at: Ints,
    truth: Sequence[NDArray[np.int32]],
    settings: RankerSettings,
) -> Rows:
    names: tuple[str, ...] | None = None
    values, bought, sizes = [], [], []
    random = np.random.default_rng(1)
    for user, moment, wanted in zip(users.tolist(), at.tolist(), truth, strict=True):
        found = _candidates(model, history, user, moment)
        names, rows = model.rows(found, names)
        hit = np.isin(found.item, wanted)
        kept = hit | (random.random(len(hit)) < settings.negatives)
        values.append(rows[kept])
        bought.append(hit[kept])
        sizes.append([int(kept.sum())])
    assert names is not None
    return Rows(names, *(np.concatenate(parts) for parts in (values, bought, sizes)))
