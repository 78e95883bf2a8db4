"""Trials of other recipes for the churn booster, with Optuna, on moments older than those of the run's backtest.

A trial's value is the mean over moments of how much its AUC is above that of the recipe as given. So a moment that is
hard for all prunes nobody.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from mlflow.entities import Metric, Param, RunTag
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from features.engines.local import THREADS
from features.errors import UserError
from features.events.store import Store
from features.matrix import Matrix
from features.signals import all_signals
from features.timeline import Array
from models.churn import HORIZON, booster_margins
from models.plain import columns_of
from training import churn, tracking
from training.backtest import Schedule, show
from training.churn_fit import Fitting, Rows, boost, fit_plain, sample_rows
from training.metrics import auc
from training.recipes import Recipe

LEAST_MOMENTS = 2  # to search on: one would choose by chance
FILE = "trials.db"  # beside MLflow's SQLite store
AUC = "search_auc"  # not `auc`: that is the backtest's, at other moments
STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED"}  # in MLflow


@dataclass(frozen=True)
class Search:
    """What was tried, and what came of it.

    Attributes:
        until: µs; the search read nothing at or after it. It is the oldest moment of the backtest that is left.
        moments: those that were searched on, newest first.
        tests: how many moments the backtest has, and how many it would have without a search.
        trials: those that ended, oldest first; the first is the recipe as given, which is not counted as a trial.
        recipes: of the trials.
        params: what else makes trials comparable.
    """

    until: int
    moments: tuple[int, ...]
    tests: tuple[int, int]
    trials: tuple[FrozenTrial, ...]
    recipes: tuple[Recipe, ...]
    params: Mapping[str, str]

    @property
    def best(self) -> int:
        """The number of the best trial; 0 is the recipe as given."""
        value = [t.value if t.state == TrialState.COMPLETE and t.value is not None else -np.inf for t in self.trials]
        return int(np.argmax(value))

    @property
    def recipe(self) -> Recipe:
        """What to train with: the best trial's, with fewer test moments if the log is too short for both."""
        left, wanted = self.tests
        return {**self.recipes[self.best], **({"test_moments": left} if left < wanted else {})}

    def auc(self, number: int) -> float:
        """Mean AUC of a trial over the moments that it saw."""
        return float(self.trials[number].user_attrs["auc"][-1])

    def told(self) -> list[str]:
        """What came of it, for people."""
        pruned = sum(trial.state == TrialState.PRUNED for trial in self.trials)
        lines = [
            f"{len(self.trials) - 1} trials ({pruned} pruned) at {len(self.moments)} moments, {show(self.moments[-1])} "
            f"to {show(self.moments[0])}, all outcomes known before the backtest's oldest moment, {show(self.until)}"
        ]
        if self.tests[0] < self.tests[1]:
            lines.append(
                f"the log is too short to search before a backtest of {self.tests[1]} moments: it has {self.tests[0]}"
            )
        if self.best:
            lines.append(
                f"trial {self.best} is taken: mean AUC {self.auc(self.best):.4f} against {self.auc(0):.4f} of the "
                f"recipe as given; {', '.join(f'{name} {value}' for name, value in searched(self.recipe).items())}"
            )
        else:
            lines.append(f"no trial beats the recipe as given (mean AUC {self.auc(0):.4f}): it is kept")
        return lines


@dataclass(frozen=True)
class Step:
    """One moment to try recipes at: what was known before it, and what does not depend on the booster."""

    data: Fitting
    matrix: Matrix
    plain: Array

    def margins(self, recipe: Recipe) -> churn.Margins:
        """The two scores of the moment's users, by a booster of what was known before."""
        booster = boost(_rows(self.data, recipe), _inputs(self.matrix), recipe)
        boosted = booster_margins(booster, self.matrix.values, [self.data.horizon])[:, 0]
        return churn.Margins(boosted, self.plain, self.matrix.churned)


def search(
    store: Store,
    *,
    as_of: int,
    horizon: int,
    lookback: int,
    recipe: Recipe,
    trials: int,
    threads: int = THREADS,
    progress: churn.Progress | None = None,
) -> Search:
    """Try so many other recipes, less those that an earlier call with the same arguments has tried.

    The moments of the run's backtest stay unseen: the search reads nothing at or after the oldest of them.

    Raises:
        UserError: the number is not positive, or the log is too short to search.
    """
    if trials < 1:
        raise UserError(f"--trials is {trials}: ask for 1 or more, or leave it out to train with the recipe as it is")
    told = progress or (lambda what, share: None)
    outer, inner, kept, steps = _steps(store, as_of, horizon, lookback, recipe, threads, told)
    moments = tuple(step.matrix.as_of for step in steps)
    params = {
        "as of": show(inner.as_of),
        "data digest": store.digest(inner.as_of),
        "horizon": str(horizon),
        "lookback": str(lookback),
        "test moments": " ".join(show(moment) for moment in moments),
    }
    study = _study(params, recipe)
    if not _ended(study):
        _try_given(study, steps, recipe, threads)
    while (done := len(_ended(study)) - 1) < trials:
        told("trials", done / trials)
        _try_next(study, steps, recipe, done, threads)
    found = tuple(_ended(study)[: trials + 1])  # a study that was once asked for more gives the same answer
    recipes = (recipe, *(recipe_of(recipe, trial.params) for trial in found[1:]))
    return Search(inner.as_of, moments, (kept, len(outer.tests)), found, recipes, params)


def _steps(
    store: Store, as_of: int, horizon: int, lookback: int, recipe: Recipe, threads: int, told: churn.Progress
) -> tuple[Schedule, Schedule, int, list[Step]]:
    """The moments to search on, before as many of the backtest's as the log is long enough for."""
    outer = churn.planned(store, as_of, horizon, lookback, recipe)
    for kept in range(len(outer.tests), 0, -1):
        try:
            inner = churn.planned(store, outer.tests[kept - 1], horizon, lookback, recipe)
        except UserError:
            continue
        steps = list(_built(store, inner, lookback, recipe, threads, told)) if len(inner.tests) >= LEAST_MOMENTS else []
        if len(steps) >= LEAST_MOMENTS:
            return outer, inner, kept, steps
    raise UserError(
        f"not enough log before --as-of {show(as_of)} to search on: no {LEAST_MOMENTS} moments with enough users have "
        f"their outcome known before the newest moment of the backtest; leave --trials out, or choose a later --as-of "
        f"or a shorter --horizon"
    )


def _built(
    store: Store, plan: Schedule, lookback: int, recipe: Recipe, threads: int, told: churn.Progress
) -> Iterator[Step]:
    """A plan's test moments that can be tested, newest first; the signals are computed once for all trials."""
    task = churn.prepared(store, plan, lookback, recipe, threads, lambda share: told("signals for the trials", share))
    for test in plan.tests:
        data, matrix = task.fitting(plan, test), task.at[test]
        if data is not None and 0 < matrix.churned.mean() < 1:
            plain = fit_plain(_rows(data, recipe), _inputs(matrix), data)
            yield Step(data, matrix, plain.margins(columns_of(matrix.values, matrix.names), [plan.horizon])[:, 0])


def _rows(data: Fitting, recipe: Recipe) -> Rows:
    # Made anew for each booster: rows of all moments at once would not fit where one moment's just do.
    return sample_rows(data, np.arange(len(data.train[0].names)), recipe["seed"], recipe["folds"])


def _inputs(matrix: Matrix) -> list[str]:
    return [*matrix.names, HORIZON]


def storage_path() -> Path:
    """Where studies are kept: beside MLflow's SQLite store, or in `mlruns/` if MLflow is elsewhere."""
    uri = tracking.tracking_uri()
    folder = Path(uri.removeprefix("sqlite:///")).parent if uri.startswith("sqlite:///") else Path("mlruns")
    return folder.resolve() / FILE


def _study(params: Mapping[str, str], recipe: Recipe) -> optuna.Study:
    """The study of this search, begun or continued."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = storage_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    # All that a trial's value depends on: under another name is another study.
    about = [params, recipe, [(signal.name, signal.digest()) for signal in all_signals()]]
    rest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    return optuna.create_study(
        storage=f"sqlite:///{path}",
        study_name=f"churn, {params['horizon']} of {params['lookback']} days, before {params['as of']}, {rest[:16]}",
        direction="maximize",
        # Not on the first moment alone, where chance is greatest.
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
        load_if_exists=True,
    )


def _ended(study: optuna.Study) -> list[FrozenTrial]:
    """Oldest first. One that was killed under way is none of them, and is tried again."""
    return study.get_trials(deepcopy=False, states=tuple(STATUS))


def _try_given(study: optuna.Study, steps: Sequence[Step], recipe: Recipe, threads: int) -> None:
    found = list(_mean_aucs(steps, recipe, threads))
    ways = space(recipe)
    study.add_trial(
        optuna.create_trial(
            value=0.0,
            params={name: _within(value, ways[name]) for name, value in _place(recipe).items()},
            distributions=ways,
            intermediate_values=dict.fromkeys(range(len(steps)), 0.0),
            user_attrs={"auc": found},
        )
    )


def _try_next(study: optuna.Study, steps: Sequence[Step], recipe: Recipe, done: int, threads: int) -> None:
    """One more trial. Its seed comes from the count of trials before, so a study that was continued tries the same."""
    seed = int(np.random.default_rng([recipe["seed"], done]).integers(2**31))
    study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=False)
    given = _ended(study)[0].user_attrs["auc"]
    trial = study.ask(space(recipe))
    seen: list[float] = []
    for mean in _mean_aucs(steps, recipe_of(recipe, trial.params), threads):
        trial.report(mean - given[len(seen)], len(seen))
        seen.append(mean)
        if len(seen) < len(steps) and trial.should_prune():
            break
    trial.set_user_attr("auc", seen)
    if len(seen) < len(steps):
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, seen[-1] - given[-1])


def _mean_aucs(steps: Sequence[Step], recipe: Recipe, threads: int) -> Iterator[float]:
    """The mean AUC over the first moment, the first two and so on, with the share of the plain score that suits them.

    One thread a booster, several boosters at once; those not begun are dropped when no more are asked for.
    """
    pool = ThreadPoolExecutor(threads)
    try:
        seen: list[churn.Margins] = []
        for future in [pool.submit(step.margins, recipe) for step in steps]:
            seen.append(future.result())
            share = churn.chosen_share(seen, recipe["plain_shares"])
            yield float(np.mean([auc(m.churned, (1 - share) * m.boosted + share * m.plain) for m in seen]))
    finally:
        pool.shutdown(cancel_futures=True)


def space(recipe: Recipe) -> dict[str, BaseDistribution]:
    """What is searched, around a recipe: `growth` is learning rate times rounds, as one makes up for the other."""
    own = {**recipe["booster"], **_place(recipe)}
    rate, growth, leaves, least, ridge = (
        own[name] for name in ("learning_rate", "growth", "num_leaves", "min_data_in_leaf", "lambda_l2")
    )
    return {
        "learning_rate": FloatDistribution(rate / 2, rate * 3, log=True),
        "growth": FloatDistribution(growth / 3, growth * 2, log=True),
        "num_leaves": IntDistribution(max(2, leaves // 4), leaves * 4, log=True),
        "min_data_in_leaf": IntDistribution(max(1, least // 5), max(1, least * 5), log=True),
        "feature_fraction": FloatDistribution(min(0.2, own["feature_fraction"]), 1.0),
        "bagging_fraction": FloatDistribution(min(0.5, own["bagging_fraction"]), 1.0),
        "lambda_l2": FloatDistribution(min(0.1, ridge), max(100.0, ridge), log=ridge > 0),
    }


SEARCHED = ("learning_rate", "num_leaves", "min_data_in_leaf", "feature_fraction", "bagging_fraction", "lambda_l2")


def _place(recipe: Recipe) -> dict[str, Any]:
    """Where a recipe lies in the space."""
    booster = recipe["booster"]
    return {name: booster[name] for name in SEARCHED} | {"growth": booster["learning_rate"] * recipe["rounds"]}


def _within(value: Any, way: BaseDistribution) -> Any:
    assert isinstance(way, FloatDistribution | IntDistribution)
    return min(max(value, way.low), way.high)


def recipe_of(recipe: Recipe, params: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe with a trial's parameters, in numbers short enough to copy."""
    short = {name: value if isinstance(value, int) else float(f"{value:.4g}") for name, value in params.items()}
    growth = short.pop("growth")
    rounds = max(1, round(growth / short["learning_rate"]))
    return {**recipe, "rounds": rounds, "booster": {**recipe["booster"], **short}}


def searched(recipe: Recipe) -> dict[str, Any]:
    """The part of a recipe that trials differ in."""
    return {"rounds": recipe["rounds"]} | {name: recipe["booster"][name] for name in SEARCHED}


def record_trials(found: Search, run_id: str) -> None:
    """Log the trials to MLflow as child runs of a training run: parameters, AUC (step: moments seen), state."""
    client = tracking.connect()
    experiment = client.get_run(run_id).info.experiment_id
    for number, (trial, recipe) in enumerate(zip(found.trials, found.recipes, strict=True)):
        began, ended = (int(t.timestamp() * 1_000) for t in (trial.datetime_start, trial.datetime_complete) if t)
        name = f"trial {number:03}" if number else "trial 000, the recipe as given"
        tags = {
            "mlflow.parentRunId": run_id,
            "contender": name,  # the gate tells children apart by it
            "state": trial.state.name.lower(),
            "taken": str(number == found.best).lower(),
        }
        child = client.create_run(experiment, began, tags, name).info.run_id
        flat = {name if name == "rounds" else f"booster.{name}": value for name, value in searched(recipe).items()}
        params = [Param(name, str(value)) for name, value in sorted({**found.params, **flat}.items())]
        means = [Metric(AUC, value, ended, step) for step, value in enumerate(trial.user_attrs["auc"], start=1)]
        client.log_batch(child, metrics=means, params=params)
        client.set_terminated(child, STATUS[trial.state], ended)
    client.log_batch(
        run_id,
        metrics=[Metric(AUC, found.auc(found.best), ended, 0), Metric(f"{AUC}_as_given", found.auc(0), ended, 0)],
        params=[Param("trials", str(len(found.trials) - 1))],
        tags=[RunTag("trials", "; ".join(found.told()))],
    )
