"""A small seeded shop whose users keep a rhythm of their own until they leave: what models are trained on in tests."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.events.store import Store
from models import churn
from models.bundle import write_bundle
from models.churn import ChurnModel
from models.deployed import CROSS_SELL
from models.recommender import Recommender
from tests.features.support import DAY_US, at, ingest_frame
from training.churn import ChurnRun, train_churn
from training.cross_sell import CrossSellRun, recipe_of, train_cross_sell
from training.recipes import load_recipe

Array = npt.NDArray[Any]

START, AS_OF = at("2023-08-01"), at("2024-06-01")
HORIZON, LOOKBACK = 30, 120
ITEMS = 60
MINUTE = 60_000_000
#: smaller than shipped, for speed; also as files
CHURN_RECIPE = (
    "rounds = 40\ntest_moments = 2\nhorizons = [7, 14, 30, 60]\n[booster]\nmin_data_in_leaf = 20\nlearning_rate = 0.1\n"
)
CROSS_SELL_RECIPE = (
    "[settings]\nals_factors = 8\nals_iterations = 2\nneighbours = 20\n"
    "[ranker]\nmoments = 2\nrounds = 20\nsearch_moments = 1\nsearch_users = 60\n"
)


def shop_log(seed: int = 5, users: int = 240) -> pd.DataFrame:
    """Views, purchases, refunds and messages of ten months; browsing falls before a user leaves."""
    rng = np.random.default_rng(seed)
    log = pd.concat([_user(rng, number) for number in range(users)], ignore_index=True)
    stranger = pd.DataFrame({"user_id": ["only a message"], "ts": [AS_OF - DAY_US], "kind": ["message_sent"]})
    log = pd.concat([log[log["ts"] < AS_OF], stranger], ignore_index=True)
    return log.assign(ts=log["ts"].to_numpy("int64").view("datetime64[us]")).sample(frac=1, random_state=seed)


def _user(rng: np.random.Generator, number: int) -> pd.DataFrame:
    gap = rng.choice([5, 9, 16, 28]) * rng.uniform(0.8, 1.25)
    starts = START + int(rng.integers(0, 200 * DAY_US))
    leaves = starts + int(rng.exponential(150) * DAY_US) + 20 * DAY_US
    orders = starts + np.cumsum(rng.normal(gap, gap / 6, 80).clip(0.5) * DAY_US).astype(np.int64)
    orders = orders[orders < leaves]
    lines = np.repeat(orders, rng.integers(1, 4, len(orders)))
    size = len(lines)
    group = number % 4 * (ITEMS // 4)
    favourite, other = group + (number * 5 + rng.integers(2, size=size)) % 15, group + rng.integers(15, size=size)
    popular = np.minimum(rng.geometric(0.15, size) * 3, ITEMS - 1)
    item = np.choose(rng.choice(3, size, p=[0.4, 0.4, 0.2]), [favourite, other, popular])
    fading = np.clip((leaves - lines) / (30 * DAY_US), 0.1, 1)
    names = [f"i{code}" for code in item]
    order_ids = [f"o{number}-{code}" for code in np.unique(lines, return_inverse=True)[1]] if size else []
    bought = {"ts": lines, "kind": "purchase", "item_id": names, "order_id": order_ids, "price": 5 + item * 0.37}
    dwell = np.round(rng.gamma(2.0, 60.0, size) * fading, 3)
    viewed = {"ts": lines - 5 * MINUTE, "kind": "view", "item_id": names, "dwell_s": dwell}
    told = {"ts": orders[::3] + DAY_US, "kind": "message_sent"}
    parts = [pd.DataFrame(part) for part in (bought, viewed, told)]
    parts.append(parts[0][::12].assign(ts=lines[::12] + 2 * DAY_US, kind="refund"))
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True).assign(user_id=f"u{number}")


def ingested(log: pd.DataFrame, path: Path, **options: Any) -> Store:
    """The log as a store."""
    store = ingest_frame(log, path, **options).store
    assert store is not None
    return store


def churn_recipe(**settings: Any) -> dict[str, Any]:
    """The small recipe."""
    small = tomllib.loads(CHURN_RECIPE)
    shipped = load_recipe("churn")
    return {**shipped, **small, "booster": {**shipped["booster"], **small["booster"]}, **settings}


def cross_sell_recipe(**settings: Any) -> dict[str, Any]:
    """The small recipe."""
    return {**recipe_of(), **tomllib.loads(CROSS_SELL_RECIPE), **settings}


def trained_churn(store: Store, *, threads: int = 2, as_of: int = AS_OF, **settings: Any) -> ChurnRun:
    """A churn model of the shop."""
    recipe = churn_recipe(**settings)
    return train_churn(store, as_of=as_of, horizon=HORIZON, lookback=LOOKBACK, recipe=recipe, threads=threads)


def trained_cross_sell(store: Store, *, as_of: int = AS_OF, **settings: Any) -> CrossSellRun:
    """A recommender of the shop."""
    return train_cross_sell(store, as_of=as_of, horizon=HORIZON, recipe=cross_sell_recipe(**settings))


def bundle_of(parent: Path, model: ChurnModel | None, recommender: Recommender | None, /, **about: Any) -> Path:
    """A bundle of one model or of both."""
    parts: dict[str, tuple[Mapping[str, Any], Any]] = {}
    if model is not None:
        parts[churn.PART] = ({**model.description(), **about}, model.save)
    if recommender is not None:
        parts[CROSS_SELL] = (about, recommender.save)
    return write_bundle(parent, parts)
