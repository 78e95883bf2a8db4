"""Train and backtest a churn model: many moments → matrix → LightGBM → calibration → later moments."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import lightgbm as lgb
import numpy as np

from features.engines.local import THREADS, matrices
from features.errors import UserError
from features.events.intake import hash_array
from features.events.store import Store
from features.matrix import Matrix
from features.timeline import Array
from models.churn import ChurnModel
from training import metrics
from training.backtest import Schedule, first_purchase, schedule
from training.baselines import Baseline, fit_baselines
from training.calibration import fit_table
from training.recipes import Recipe, load_recipe

LEAST_USERS = 100  # with a purchase in the look-back, and of each class at least a tenth of it, to train on
RISK_QUANTILES = (0.5, 0.8)  # of the newest training moment: where risk becomes medium and high
Progress = Callable[[str, float], None]  # what is being done, and which share of it


@dataclass(frozen=True)
class MomentResult:
    """The backtest at one moment: every model's scores beside what happened."""

    matrix: Matrix
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


MODEL = "churn-model"


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
        horizon: days without a purchase that count as having left.
        lookback: users with a purchase in that many days are trained on.

    Raises:
        UserError: the log is too short, has too few users, or all of them stay or all leave.
    """
    recipe = recipe or load_recipe("churn")
    told = progress or (lambda what, share: None)
    plan = schedule(
        first_purchase(store),
        as_of,
        horizon=horizon,
        lookback=lookback,
        stride=recipe["stride_days"],
        tests=recipe["test_moments"],
    )
    moments = plan.train[: max(2, recipe["most_rows"] // max(1, _users_before(store, as_of)))]
    wanted = sorted({*moments, *plan.tests}, reverse=True)
    built = matrices(
        store,
        wanted,
        lookback=lookback,
        horizon=horizon,
        known_before=as_of,
        threads=threads,
        progress=lambda share: told("signals", share),
    )
    at = dict(zip(wanted, built, strict=True))
    _check_enough([at[m] for m in moments])
    results = []
    for done, test in enumerate(plan.tests):
        told("backtest", done / len(plan.tests))
        train = [at[m] for m in moments if m in plan.train_for(test)]
        if train and _trainable(train) and 0 < at[test].churned.mean() < 1:
            results.append(_test_one(at[test], train, lookback, recipe, horizon, threads))
    if not results:
        raise UserError(
            _too_few(
                [at[m] for m in moments], "no moment of the backtest has enough of both before it and in its own window"
            )
        )
    told("fitting the model", 0)
    final = [at[m] for m in moments]
    model = fit(final, horizon=horizon, lookback=lookback, recipe=recipe, threads=threads)
    names = tuple(name for name in results[0].scores if name != MODEL)
    return ChurnRun(model, plan, tuple(results), names, recipe, sum(len(m) for m in final))


def _users_before(store: Store, as_of: int) -> int:
    """Users with an event known before a moment; those of later events must not decide how many moments there are."""
    return sum(int(timeline.as_of([as_of])[0].present.sum()) for timeline in store.timelines())


def _test_one(
    test: Matrix, train: list[Matrix], lookback: int, recipe: Recipe, horizon: int, threads: int
) -> MomentResult:
    model = fit(train, horizon=horizon, lookback=lookback, recipe=recipe, threads=threads)
    scores = {MODEL: model.score(select(test, model))}
    figures = {MODEL: metrics.churn_metrics(test.churned, scores[MODEL])}
    for baseline in fit_baselines(train, lookback):
        scores[baseline.name] = baseline.score(test)
        figures[baseline.name] = _baseline_figures(test, baseline, scores[baseline.name])
    return MomentResult(test, scores, figures)


def _baseline_figures(test: Matrix, baseline: Baseline, score: Array) -> dict[str, float]:
    if baseline.is_probability:
        return metrics.churn_metrics(test.churned, score)
    return {
        "auc": metrics.auc(test.churned, score),
        "lift_top_tenth": metrics.lift_top_tenth(test.churned, score),
        "expected_maximum_profit": metrics.expected_maximum_profit(test.churned, score),
        "users": float(len(score)),
    }


def select(matrix: Matrix, model: ChurnModel) -> Array:
    """The model's signals of a matrix, float32[users, model's signals]."""
    place = {name: i for i, name in enumerate(matrix.names)}
    return np.ascontiguousarray(matrix.values[:, [place[name] for name in model.names]])


def fit(train: list[Matrix], *, horizon: int, lookback: int, recipe: Recipe, threads: int) -> ChurnModel:
    """Booster on all rows, calibrated on margins of boosters that did not see the user."""
    values = np.concatenate([m.values for m in train])
    churned = np.concatenate([m.churned for m in train])
    useful = np.flatnonzero(np.nanmax(values, axis=0, initial=-np.inf) > np.nanmin(values, axis=0, initial=np.inf))
    signals = tuple(train[0].signals[i] for i in useful)
    values = values[:, useful]
    fold = np.concatenate([hash_array(m.user_ids) for m in train]) % np.uint64(recipe["folds"])
    names = [s.name for s in signals]
    # One thread a booster, several boosters at once: LightGBM's own threads stall each other on a busy machine. Every
    # call gets num_threads=1, the forecasts too: it is one number for the whole process, and LightGBM crashes if it
    # grows while another booster is fitted.
    with ThreadPoolExecutor(threads) as pool:
        whole = pool.submit(_boost, values, churned, names, recipe)
        parts = [fold == part for part in range(recipe["folds"]) if 0 < (fold == part).sum() < len(fold)]
        others = [pool.submit(_margin_unseen, values, churned, part, names, recipe) for part in parts]
        margin = np.zeros(len(values))
        for part, other in zip(parts, others, strict=True):
            margin[part] = other.result()
        booster = whole.result()
    model = ChurnModel(
        booster.model_to_string(),
        signals,
        fit_table(margin, churned),
        np.nanmedian(train[0].values[:, useful], axis=0).astype(np.float64),
        (0.0, 1.0),
        float(train[0].churned.mean()),
        horizon,
        lookback,
    )
    newest = model.score(np.ascontiguousarray(train[0].values[:, useful]))
    medium, high = (float(cut) for cut in np.quantile(newest, RISK_QUANTILES))
    return replace(model, risk_cuts=(medium, high))


def _margin_unseen(values: Array, churned: Array, part: Array, names: list[str], recipe: Recipe) -> Array:
    """Margins of a part of the rows by a booster fitted on the others."""
    booster = _boost(values[~part], churned[~part], names, recipe)
    return np.asarray(booster.predict(values[part], raw_score=True, num_threads=1))


def _boost(values: Array, churned: Array, names: list[str], recipe: Recipe) -> lgb.Booster:
    rising = set(recipe["rises_with"]["signals"])
    settings = {
        "objective": "binary",
        "verbose": -1,
        "seed": recipe["seed"],
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "monotone_constraints": [int(name in rising) for name in names],
        **recipe["booster"],
    }
    data = lgb.Dataset(values, churned.astype(np.float32), feature_name=names)
    return lgb.train(settings, data, recipe["rounds"])


def _trainable(train: list[Matrix]) -> bool:
    churned = np.concatenate([m.churned for m in train])
    users = max(len(m) for m in train)
    return users >= LEAST_USERS and LEAST_USERS // 10 <= churned.sum() <= len(churned) - LEAST_USERS // 10


def _check_enough(train: list[Matrix]) -> None:
    if not train or not _trainable(train):
        raise UserError(_too_few(train, "that is too few"))


def _too_few(train: list[Matrix], why: str) -> str:
    churned = np.concatenate([m.churned for m in train]) if train else np.empty(0)
    users = max((len(m) for m in train), default=0)
    return (
        f"cannot train: over {len(train)} moments at most {users:,} users had a purchase in the look-back; "
        f"{int(churned.sum()):,} times one left and {int(len(churned) - churned.sum()):,} times one stayed; {why}. "
        f"At least {LEAST_USERS} users and {LEAST_USERS // 10} of each are needed: "
        "ingest more users, or change --lookback or --horizon"
    )
