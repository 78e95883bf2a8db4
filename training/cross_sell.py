"""Train and backtest a recommender: acts on items → heads, blend and ranker → the items bought next."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import UserError
from features.events import columns as c
from features.events.store import Store
from models.recommender import AIMS, HEADS, Aim, Ask, Mode, Past, Recommender, loops
from models.recommender.eligible import eligible
from models.recommender.model import BLOCK
from models.recommender.scenes import Scene, scene, shipped
from training.acts import all_acts, later_in, shop_at
from training.backtest import first_purchase, show, up
from training.cross_sell_fit import (
    Lesson,
    RankerSettings,
    Rows,
    fit_unranked,
    lesson,
    rows_of,
    searched_blends,
    with_rankers,
)
from training.heads_fit import HeadSettings
from training.ranking import RankingScore, evaluate, figures_by_user
from training.recipes import Recipe, load_recipe

MODEL, BLEND = "cross-sell-model", "blend"
MODE_OF: Mapping[Aim, Mode] = {"all": "all", "new": "cross_sell"}
LEAST_USERS = 20  # with a purchase before a backtest moment and one after it
K = 20
Progress = Callable[[str, float], None]
Lists = Mapping[int, Sequence[int]]


@dataclass(frozen=True)
class MomentResult:
    """The backtest at one moment (µs): aim → contender → user's row → item codes, and how good they were."""

    taught: Lesson
    model: Recommender
    lists: Mapping[Aim, Mapping[str, Lists]]
    scores: Mapping[Aim, Mapping[str, RankingScore]]

    @property
    def as_of(self) -> int:
        """The moment."""
        return self.taught.as_of


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


@dataclass(frozen=True)
class Plan:
    """A recipe, typed."""

    heads: HeadSettings
    ranker: RankerSettings
    scenes: Mapping[str, Scene]
    tests: int
    seed: int


def planned(recipe: Recipe) -> Plan:
    """The recipe's settings.

    Raises:
        UserError: it sets what there is not.
    """
    heads = HeadSettings(**_known(HeadSettings, "settings", recipe["settings"]))
    ranker = RankerSettings(**_known(RankerSettings, "ranker", recipe["ranker"]))
    ranker = replace(ranker, booster={**RankerSettings().booster, **ranker.booster})
    own = {name: scene(name, values, HEADS) for name, values in recipe["scenes"].items()}
    return Plan(heads, ranker, {**shipped(), **own}, recipe["test_moments"], recipe["seed"])


def _known(settings: type, table: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    names = [entry.name for entry in fields(settings)]
    for name in values:
        if name not in names:
            raise UserError(f"the recipe sets {table}.{name}; [{table}] may set {', '.join(names)}")
    return values


def recipe_of(path: Path | None = None) -> dict[str, Any]:
    """The shipped recipe, with what the file at `path` overrides."""
    recipe = load_recipe("cross_sell", path)
    planned(recipe)
    return recipe


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
    plan = planned(recipe)
    told = progress or (lambda what, share: None)
    moments = _moments(store, as_of, horizon, plan)
    acts, texts = all_acts(store, as_of)
    lessons = []
    for done, moment in enumerate(moments):
        told(f"fitting heads at {show(moment)}", 0.5 * done / len(moments))
        shop, past = shop_at(store, acts, texts, moment)
        model = fit_unranked(past, shop, moment, plan.heads, plan.scenes, plan.seed)
        lessons.append(lesson(model, later_in(acts, shop, texts), horizon))
    tests = lessons[: plan.tests]
    told("searching the blend", 0.5)
    blends, facts = searched_blends(lessons[len(tests) :], plan.ranker)
    rows = []
    for done, one in enumerate(lessons):
        told(f"candidates at {show(one.as_of)}", 0.55 + 0.25 * done / len(lessons))
        rows.append({aim: rows_of(one, blends, aim, plan.ranker, plan.seed) for aim in AIMS})
    results = []
    for place, one in enumerate(tests):
        told(f"backtest at {show(one.as_of)}", 0.8 + 0.1 * place / len(tests))
        model = with_rankers(one.model, blends, _taught(rows[place + 1 :], plan), plan.ranker, plan.seed)
        results.append(backtest_one(one, model, horizon))
    gains = ranker_gains(results)
    dropped = [aim for aim in AIMS if not gains.get(aim, 0.0) > 0]  # nor does one ship that could not be tested
    results = [without_rankers(result, dropped) for result in results]
    told("fitting the model", 0.9)
    shop, past = shop_at(store, acts, texts, as_of)
    model = fit_unranked(past, shop, as_of, plan.heads, plan.scenes, plan.seed)
    taught = {aim: taught for aim, taught in _taught(rows, plan).items() if aim not in dropped}
    model = with_rankers(model, blends, taught, plan.ranker, plan.seed)
    known = {"seed": plan.seed, "blends": facts, "moments": [show(one.as_of) for one in lessons]}
    model = replace(model, facts={**known, "ranker_gains": gains, "rankers_dropped": dropped})
    return CrossSellRun(model, as_of, horizon, tuple(results), recipe, len(acts), len(acts.item))


def _moments(store: Store, as_of: int, horizon: int, plan: Plan) -> list[int]:
    """Moments to learn from and to test at, newest first, a horizon apart, each with a horizon of log before it."""
    first = first_purchase(store)
    earliest = first + 2 * horizon * c.DAY
    if as_of < earliest:
        raise UserError(
            f"not enough log before --as-of {show(as_of)}: the first purchase is at {show(first)} and "
            f"a backtest needs two windows of {horizon} days, so --as-of must be {show(up(earliest))} or later"
        )
    moments = [as_of - step * horizon * c.DAY for step in range(1, plan.tests + plan.ranker.moments + 1)]
    return [moment for moment in moments if moment >= first + horizon * c.DAY]


def _taught(rows: Sequence[Mapping[Aim, Rows | None]], plan: Plan) -> dict[Aim, list[Rows]]:
    """The candidates of the newest moments, for each aim."""
    newest = rows[: plan.ranker.moments]
    return {aim: [one for by_aim in newest if (one := by_aim[aim]) is not None] for aim in AIMS}


def backtest_one(one: Lesson, model: Recommender, horizon: int) -> MomentResult:
    """The model, its blend and each head alone, at a moment.

    Raises:
        UserError: too few users bought.
    """
    fewest = min(len(truth) for truth in one.truth.values())
    if fewest < LEAST_USERS:
        raise UserError(
            f"cannot backtest at {show(one.as_of)}: only {fewest} users buy something before and "
            f"something new in the {horizon} days after it; at least {LEAST_USERS} are needed: "
            "ingest more users, or choose a longer --horizon"
        )
    lists: dict[Aim, dict[str, Lists]] = {}
    scores: dict[Aim, dict[str, RankingScore]] = {}
    for aim in AIMS:
        lists[aim] = {MODEL: lists_of(model, one, aim), **unranked_lists(model, one, aim)}
        scores[aim] = {name: evaluate(found, one.truth[aim], K) for name, found in lists[aim].items()}
    return MomentResult(one, model, lists, scores)


def ranker_gains(results: Sequence[MomentResult]) -> dict[Aim, float]:
    """Recall@20 + NDCG@20 of the ranked lists less the blend's, by user, mean over users, then over the moments; aims
    without a ranker at any of them are left out."""
    gains: dict[Aim, list[float]] = {}
    for result in results:
        for aim in result.model.rankers:
            truth, lists = result.taught.truth[aim], result.lists[aim]
            margin = figures_by_user(lists[MODEL], truth, K) - figures_by_user(lists[BLEND], truth, K)
            gains.setdefault(aim, []).append(float(margin.sum(axis=1).mean()))
    return {aim: float(np.mean(of_moments)) for aim, of_moments in gains.items()}


def without_rankers(result: MomentResult, aims: Sequence[Aim]) -> MomentResult:
    """The backtest of what is shipped where the ranker did not beat the blend: the blend, under the same filters."""
    dropped = [aim for aim in aims if aim in result.model.rankers]
    if not dropped:
        return result
    rankers = {aim: ranker for aim, ranker in result.model.rankers.items() if aim not in dropped}
    model = result.model.with_blends(result.model.blends, rankers)
    lists, scores = dict(result.lists), dict(result.scores)
    for aim in dropped:
        lists[aim] = {**lists[aim], MODEL: lists_of(model, result.taught, aim)}
        scores[aim] = {**scores[aim], MODEL: evaluate(lists[aim][MODEL], result.taught.truth[aim], K)}
    return MomentResult(result.taught, model, lists, scores)


def lists_of(model: Recommender, one: Lesson, aim: Aim, ask: Ask | None = None) -> dict[int, list[int]]:
    """What a model offers the users of a moment who bought something: user's row → item codes, best first."""
    users = list(one.truth[aim])
    found = model.recommend(one.past.some(users), one.as_of, ask or Ask(MODE_OF[aim], K))
    return {user: [pick.item for pick in picks] for user, picks in zip(users, found, strict=True)}


def unranked_lists(model: Recommender, one: Lesson, aim: Aim) -> dict[str, Lists]:
    """What the blend, and each head alone, would offer: contender → user's row → item codes, best first.

    The blend keeps to the rules that the ranker keeps to (`eligible`), so that the two differ in order alone; a head
    alone is a baseline from outside, which knows of no rules but the aim's.
    """
    users = list(one.truth[aim])
    out: dict[str, dict[int, list[int]]] = {}
    for begin in range(0, len(users), BLOCK):
        chosen = users[begin : begin + BLOCK]
        past = Past.of(one.past.some(chosen), one.as_of)
        may = np.ones((len(chosen), len(model.catalogue)), np.bool_)
        if aim == "new":
            may[past.bought.pair_user, past.bought.pair_item] = False
        scores = model.scores(past)
        ruled = eligible(model, past, Ask(MODE_OF[aim], K), np.ones(len(model.catalogue), np.bool_))
        for name, given in {BLEND: model.blended(scores, aim), **scores}.items():
            for user, codes in zip(chosen, loops.top(given, ruled if name == BLEND else may, K).tolist(), strict=True):
                out.setdefault(name, {})[user] = [code for code in codes if code >= 0]
    return dict(out)
