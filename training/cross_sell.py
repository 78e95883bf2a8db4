"""Train and backtest a recommender: purchases → heads and blend → the items bought next."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from features.errors import UserError
from features.events import columns as c
from features.events.store import Store
from models.recommender import HEADS, MODES, Catalogue, History, Mode, Recommender
from training.backtest import first_purchase, show, up
from training.cross_sell_fit import CrossSellSettings, fit_recommender
from training.ranking import RankingScore, evaluate, next_purchases
from training.recipes import Recipe, load_recipe

MODEL = "cross-sell-model"
LEAST_USERS = 20  # with a purchase before a backtest moment and one after it
K = 20
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class MomentResult:
    """The backtest at one moment (µs): model or head → mode → how good its lists were."""

    as_of: int
    scores: Mapping[str, Mapping[Mode, RankingScore]]


@dataclass(frozen=True)
class CrossSellRun:
    """A trained recommender and the evidence for it. The backtest's models were fitted on earlier events only."""

    model: Recommender
    as_of: int
    horizon: int
    backtest: tuple[MomentResult, ...]  # newest first
    recipe: Recipe
    users: int
    rows: int


def train_cross_sell(
    store: Store,
    *,
    as_of: int,
    horizon: int = 30,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
) -> CrossSellRun:
    """Backtest, then fit on everything known before `as_of` (µs).

    Args:
        horizon: days after a moment whose purchases are to be foretold.

    Raises:
        UserError: the log is too short, or too few users buy again.
    """
    recipe = recipe or recipe_of()
    told = progress or (lambda what, share: None)
    settings = CrossSellSettings(horizon_days=horizon, **recipe["settings"])
    earliest = first_purchase(store) + 2 * horizon * c.DAY
    if as_of < earliest:
        raise UserError(
            f"not enough log before --as-of {show(as_of)}: the first purchase is at {show(first_purchase(store))} and "
            f"a backtest needs two windows of {horizon} days, so --as-of must be {show(up(earliest))} or later"
        )
    history, texts = purchase_history(store, as_of)
    moments = [as_of - (i + 1) * horizon * c.DAY for i in range(recipe["test_moments"])]
    moments = [moment for moment in moments if moment >= earliest - horizon * c.DAY]
    results = []
    for done, moment in enumerate(moments):
        told(f"backtest at {show(moment)}", done / (len(moments) + 1))
        results.append(_test_one(history, texts, moment, settings, recipe["seed"]))
    told("fitting the model", len(moments) / (len(moments) + 1))
    model = _fit(history, texts, as_of, settings, recipe["seed"])[0]
    return CrossSellRun(model, as_of, horizon, tuple(results), recipe, len(history), len(history.item))


def recipe_of(path: Path | None = None) -> dict[str, Any]:
    """The shipped recipe, with what the file at `path` overrides."""
    recipe = load_recipe("cross_sell", path)
    unknown = recipe["settings"].keys() - CrossSellSettings.__dataclass_fields__.keys()
    if unknown:
        raise UserError(f"{path} sets settings.{sorted(unknown)[0]}; see training/cross_sell_fit.py for what there is")
    return recipe


def purchase_history(store: Store, as_of: int) -> tuple[History, list[str]]:
    """All purchases of known items that are known before a moment, in the store's item codes, and their texts."""
    users, sizes, items, times = [], [np.zeros(1, np.int64)], [], []
    for bucket in store.timelines():
        timeline = bucket.known_before(as_of)
        stream, item = timeline.stream("purchase"), timeline.values("purchase", c.ITEM_ID)
        keep = (stream.ts < as_of) & (item >= 0)
        counts = np.concatenate([[0], np.cumsum(keep)])
        users.append(timeline.user_ids.cast(pa.string()))
        sizes.append(np.diff(counts[stream.offsets]))
        items.append(item[keep].astype(np.int32))
        times.append(stream.ts[keep])
    offsets = np.cumsum(np.concatenate(sizes))
    ids = pa.chunked_array(users, pa.string()).to_pylist()
    return History(ids, offsets, np.concatenate(items), np.concatenate(times)), store.words[c.ITEM_ID].texts


def _fit(
    history: History, texts: list[str], moment: int, settings: CrossSellSettings, seed: int
) -> tuple[Recommender, History]:
    """A recommender at a moment over the items sold before it, and the whole history in its codes."""
    sold = np.unique(history.before(moment).item)
    if sold.size == 0:
        raise UserError(f"no purchase of a known item before {show(moment)}: do the events have an item_id?")
    catalogue = Catalogue.of([texts[code] for code in sold])
    code = np.full(len(texts), -1, np.int32)
    code[sold] = catalogue.codes([texts[code] for code in sold])
    item = code[history.item]
    keep = item >= 0
    offsets = np.concatenate([[0], np.cumsum(keep)])[history.offsets]
    coded = History(history.user_ids, offsets, item[keep], history.ts[keep])
    return fit_recommender(coded, catalogue, moment, settings, seed), coded


def _test_one(history: History, texts: list[str], moment: int, settings: CrossSellSettings, seed: int) -> MomentResult:
    model, coded = _fit(history, texts, moment, settings, seed)
    truth = {mode: next_purchases(coded, moment, settings.horizon_days, mode) for mode in MODES}
    if min(map(len, truth.values())) < LEAST_USERS:
        raise UserError(
            f"cannot backtest at {show(moment)}: only {min(map(len, truth.values()))} users buy something before and "
            f"something new in the {settings.horizon_days} days after it; at least {LEAST_USERS} are needed: "
            "ingest more users, or choose a longer --horizon"
        )
    past = coded.before(moment)
    scores: dict[str, dict[Mode, RankingScore]] = {}
    for name, candidate in {MODEL: model, **{head: model.only(head) for head in HEADS}}.items():
        scores[name] = {
            mode: evaluate(_lists(candidate, past, moment, mode), sorted(truth[mode]), truth[mode], K) for mode in MODES
        }
    return MomentResult(moment, scores)


def _lists(model: Recommender, past: History, moment: int, mode: Mode) -> Callable[[int], list[int]]:
    return lambda row: [item.item for item in model.recommend(*past.user(row), moment, K, mode)]
