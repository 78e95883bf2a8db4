"""Train and backtest a churn model: many moments → matrix → fit → later moments, beside its baselines."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from features.engines.local import THREADS, matrices
from features.errors import UserError
from features.events.columns import DAY
from features.events.store import Store
from features.matrix import Matrix
from features.signals import all_signals
from features.timeline import Array
from models.alarm import AlarmSettings
from models.churn import HORIZON, ChurnModel, booster_margins
from models.plain import columns_of
from training import metrics
from training.backtest import Schedule, first_purchase, schedule
from training.baselines import Baseline, fit_baselines
from training.churn_fit import Fitting, boost, fit, fit_plain, sample_rows
from training.money import Offer
from training.recipes import Recipe, load_recipe

LEAST_USERS = 100  # with a purchase in the look-back, and of each class at least a tenth of it, to train on
LEAST = {"seed": 0, "rounds": 1, "folds": 2, "stride_days": 1, "test_moments": 1, "most_rows": 1}  # in a recipe
PER_ROW = 2  # training rows a user and moment: see `training.churn_fit.sample_rows`
MODEL = "churn-model"
Progress = Callable[[str, float], None]  # what is being done, and which share of it


@dataclass(frozen=True)
class Margins:
    """The two scores of a model's margin apart at a test moment, float64[users] each, and what happened."""

    boosted: Array
    plain: Array
    churned: Array


@dataclass(frozen=True)
class MomentResult:
    """The backtest at one moment: every model's scores beside what happened."""

    matrix: Matrix
    model: ChurnModel
    scores: Mapping[str, Array]
    figures: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class ChurnRun:
    """A trained model and the evidence for it. The backtest's models were fitted on earlier moments only."""

    model: ChurnModel
    schedule: Schedule
    backtest: tuple[MomentResult, ...]  # newest first
    baselines: tuple[str, ...]
    recipe: Recipe
    rows: int

    def mean(self, model: str, figure: str) -> float:
        """A figure's mean over the backtest's moments."""
        return float(np.mean([result.figures[model][figure] for result in self.backtest]))


@dataclass(frozen=True)
class Task:
    """What is asked of a training run, and the matrices it works on."""

    horizon: int
    lookback: int
    recipe: Recipe
    threads: int
    at: Mapping[int, Matrix]

    @property
    def alarm(self) -> AlarmSettings:
        return AlarmSettings.from_dict(self.recipe["alarm"])

    def fitting(self, plan: Schedule, known_until: int) -> Fitting | None:
        """All that was known at an instant; None if it is too little to train on."""
        wanted = sorted({*self.recipe["horizons"], self.horizon})
        moments = [m for m in plan.train_for(known_until, wanted[0]) if m in self.at]
        train = [self.at[m] for m in moments if len(self.at[m])]
        told = [days for days in wanted if _enough([m for m in train if m.as_of + days * DAY <= known_until])]
        if not _trainable([m for m in train if m.as_of + self.horizon * DAY <= known_until]):
            return None
        return Fitting(train, known_until, tuple(told), self.horizon, self.lookback)


def train_churn(
    store: Store,
    *,
    as_of: int,
    horizon: int = 30,
    lookback: int = 180,
    recipe: Recipe | None = None,
    threads: int = THREADS,
    progress: Progress | None = None,
) -> ChurnRun:
    """Backtest, then fit on every moment whose outcome is known; nothing at or after `as_of` (µs) is read.

    Args:
        horizon: days without a purchase that count as having left, in the backtest and where nothing else is asked for.
        lookback: users with a purchase in that many days are trained on.

    Raises:
        UserError: the log is too short, has too few users, or all of them stay or all leave.
    """
    recipe = recipe or load_recipe("churn")
    told = progress or (lambda what, share: None)
    plan = planned(store, as_of, horizon, lookback, recipe)
    task = prepared(store, plan, lookback, recipe, threads, lambda share: told("signals", share))
    final = task.fitting(plan, as_of)
    if final is None:
        raise UserError(_too_few([m for m in task.at.values() if m.as_of + horizon * DAY <= as_of], "that is too few"))
    results, seen = _backtest(task, plan, told)
    if not results:
        why = "no moment of the backtest has enough of both before it and in its own window"
        raise UserError(_too_few(list(final.train), why))
    told("fitting the model", 0)
    share = chosen_share(seen, recipe["plain_shares"])
    model = fit(final, recipe, plain_share=share, alarm=task.alarm, threads=threads)
    results = _comparable(results)
    names = tuple(name for name in results[0].scores if name != MODEL)
    return ChurnRun(model, plan, tuple(results), names, recipe, sum(len(m) for m in final.train))


def planned(store: Store, as_of: int, horizon: int, lookback: int, recipe: Recipe) -> Schedule:
    """The moments of a run; all but `as_of` (µs) in days.

    Raises:
        UserError: the log is too short, or the recipe has a number that cannot be worked with.
    """
    _check(recipe)
    return schedule(
        first_purchase(store),
        as_of,
        horizon=horizon,
        shortest=min([*recipe["horizons"], horizon]),
        lookback=lookback,
        stride=recipe["stride_days"],
        tests=recipe["test_moments"],
    )


def _check(recipe: Recipe) -> None:
    for name, least in LEAST.items():
        if recipe[name] < least:
            raise UserError(f"{name} of the recipe is {recipe[name]}: give {least} or more")
    if not all(type(days) is int and days >= 1 for days in recipe["horizons"]):
        raise UserError(f"horizons of the recipe are {recipe['horizons']}: give whole days of 1 or more")
    shares = recipe["plain_shares"]
    if not shares or not all(type(share) in (int, float) and 0 <= share <= 1 for share in shares):
        raise UserError(f"plain_shares of the recipe are {shares}: give one or more, from 0 to 1")
    known = {HORIZON, *(signal.name for signal in all_signals())}
    for name in (*recipe["monotone"]["rises_with"], *recipe["monotone"]["falls_with"]):
        if name not in known:
            raise UserError(f"[monotone] of the recipe names {name}: there is no such signal, see docs/signals.md")


def prepared(
    store: Store, plan: Schedule, lookback: int, recipe: Recipe, threads: int, progress: Callable[[float], None]
) -> Task:
    """The matrices of a plan's moments, of fewer training moments where the recipe's `most_rows` would be passed."""
    most = max(2, recipe["most_rows"] // (PER_ROW * max(1, _users_before(store, plan.as_of))))
    wanted = sorted({*_spread(plan.train, most), *plan.tests}, reverse=True)
    built = matrices(
        store,
        wanted,
        lookback=lookback,
        horizon=plan.horizon,
        known_before=plan.as_of,
        threads=threads,
        progress=progress,
    )
    return Task(plan.horizon, lookback, recipe, threads, dict(zip(wanted, built, strict=True)))


def _backtest(task: Task, plan: Schedule, told: Progress) -> tuple[list[MomentResult], list[Margins]]:
    """Results, newest first, and every moment's two scores. The share of each is chosen on what was known before."""
    results: list[MomentResult] = []
    seen: dict[int, Margins] = {}
    for done, test in enumerate(reversed(plan.tests)):
        told("backtest", done / len(plan.tests))
        data, matrix = task.fitting(plan, test), task.at[test]
        if data is None or not 0 < matrix.churned.mean() < 1:
            continue
        before = [margins for moment, margins in seen.items() if moment + task.horizon * DAY <= test]
        before = before or _earlier(task, plan, test)
        share = chosen_share(before, task.recipe["plain_shares"])
        model = fit(data, task.recipe, plain_share=share, alarm=task.alarm, threads=task.threads)
        results.insert(0, test_one(model, matrix, data, plan.as_of, Offer(**task.recipe["money"])))
        seen[test] = _margins(model, matrix)
    return results, list(seen.values())


def _earlier(task: Task, plan: Schedule, test: int) -> list[Margins]:
    """The two scores at the newest moment whose outcome was known at a test, by a model from before it; none if there
    was too little to fit one."""
    moment = max((m for m in plan.train_for(test, task.horizon) if m in task.at), default=None)
    data = task.fitting(plan, moment) if moment is not None else None
    if moment is None or data is None or not 0 < task.at[moment].churned.mean() < 1:
        return []
    matrix, recipe = task.at[moment], task.recipe
    rows = sample_rows(data, np.arange(len(matrix.names)), recipe["seed"], recipe["folds"])
    inputs = [*matrix.names, HORIZON]
    boosted = booster_margins(boost(rows, inputs, recipe), matrix.values, [task.horizon])[:, 0]
    plain = fit_plain(rows, inputs, data).margins(columns_of(matrix.values, matrix.names), [task.horizon])[:, 0]
    return [Margins(boosted, plain, matrix.churned)]


def _margins(model: ChurnModel, matrix: Matrix) -> Margins:
    values = select(matrix, model)
    boosted = booster_margins(model.booster, values, [model.horizon])[:, 0]
    return Margins(boosted, model.plain.margins(columns_of(values, model.names), [model.horizon])[:, 0], matrix.churned)


def chosen_share(seen: Sequence[Margins], shares: Sequence[float]) -> float:
    """The share of the plain score with the highest mean AUC over moments; the whole, which is safest, without any."""
    if not seen:
        return max(shares)

    def mean(share: float) -> float:
        scores = [(1 - share) * m.boosted + share * m.plain for m in seen]
        return float(np.mean([metrics.auc(m.churned, score) for m, score in zip(seen, scores, strict=True)]))

    return max(sorted(shares), key=mean)


def test_one(model: ChurnModel, matrix: Matrix, data: Fitting, known_until: int, offer: Offer) -> MomentResult:
    """A model and its baselines at a moment after their training.

    Args:
        known_until: µs; other horizons are judged where their outcome is known by then.
    """
    values = select(matrix, model)
    curve = model.curve(values, matrix.as_of)
    scores = {MODEL: model.score(values, matrix.as_of)}
    figures: dict[str, Mapping[str, float]] = {}
    figures[MODEL] = metrics.churn_metrics(matrix.churned, scores[MODEL], offer) | {
        name: value
        for days, probability in zip(model.horizons, curve.T, strict=True)
        if matrix.as_of + days * DAY <= known_until
        for name, value in metrics.horizon_metrics(matrix.silent(days), probability, days).items()
    }
    train = [m for m in data.train if model.horizon in data.told(m)]
    for baseline in fit_baselines(train, model.horizon, model.lookback, model.alarm):
        scores[baseline.name] = baseline.score(matrix)
        figures[baseline.name] = _baseline_figures(matrix, baseline, scores[baseline.name], offer)
    return MomentResult(matrix, model, scores, figures)


def _baseline_figures(test: Matrix, baseline: Baseline, score: Array, offer: Offer) -> dict[str, float]:
    if baseline.is_probability:
        return metrics.churn_metrics(test.churned, score, offer)
    return metrics.ranking_metrics(test.churned, score, offer)


def _comparable(results: Sequence[MomentResult]) -> list[MomentResult]:
    """Without the contenders that some moments lack: browsing may have begun in between."""
    names = [name for name in results[0].scores if all(name in result.scores for result in results)]
    return [
        replace(result, scores={n: result.scores[n] for n in names}, figures={n: result.figures[n] for n in names})
        for result in results
    ]


def select(matrix: Matrix, model: ChurnModel) -> Array:
    """The model's signals of a matrix, float32[users, model's signals]."""
    place = {name: i for i, name in enumerate(matrix.names)}
    return np.ascontiguousarray(matrix.values[:, [place[name] for name in model.names]])


def _spread(moments: Sequence[int], most: int) -> Sequence[int]:
    """At most so many of the moments, evenly spread, the newest first; so that every season stays in."""
    return moments[:: -(-len(moments) // most)]


def _users_before(store: Store, as_of: int) -> int:
    """Users with an event known before a moment; those of later events must not decide how many moments there are."""
    return sum(int(timeline.as_of([as_of])[0].present.sum()) for timeline in store.timelines())


def _enough(train: list[Matrix]) -> bool:
    """Whether some moment has enough users."""
    return max((len(m) for m in train), default=0) >= LEAST_USERS


def _trainable(train: list[Matrix]) -> bool:
    if not _enough(train):
        return False
    churned = np.concatenate([m.churned for m in train])
    return bool(LEAST_USERS // 10 <= churned.sum() <= len(churned) - LEAST_USERS // 10)


def _too_few(train: list[Matrix], why: str) -> str:
    churned = np.concatenate([m.churned for m in train]) if train else np.empty(0)
    users = max((len(m) for m in train), default=0)
    return (
        f"cannot train: over {len(train)} moments at most {users:,} users had a purchase in the look-back; "
        f"{int(churned.sum()):,} times one left and {int(len(churned) - churned.sum()):,} times one stayed; {why}. "
        f"At least {LEAST_USERS} users and {LEAST_USERS // 10} of each are needed: "
        "ingest more users, or change --lookback or --horizon"
    )
