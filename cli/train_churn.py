"""`ebbtide train churn`."""

from typing import Annotated, Any

import typer

from cli.options import RecipeOption, StoreOption, end_of, moment_in, progress, say, table
from features.events.store import Store
from training import churn
from training.backtest import show
from training.recipes import load_recipe


def train_churn(
    store: StoreOption,
    as_of: Annotated[
        str | None, typer.Option(help="Read nothing at or after it; without it the log's last midnight.")
    ] = None,
    horizon: Annotated[int, typer.Option(help="Days without a purchase that count as having left.", min=1)] = 30,
    lookback: Annotated[int, typer.Option(help="Days; users with a purchase in them are trained on.", min=1)] = 180,
    recipe: RecipeOption = None,
    trials: Annotated[
        int, typer.Option(help="Recipes to try on moments before the backtest's; the same command again goes on.")
    ] = 0,
) -> None:
    """Train the churn model.

    Example: ebbtide train churn --store var/store --horizon 14 --lookback 60
    """
    opened = Store.open(store)
    # A day after the log's end it is worth a warning already: who might still have bought counts as having left.
    moment = end_of(opened) if as_of is None else moment_in(opened, as_of, 1)
    asked: dict[str, Any] = {"as_of": moment, "horizon": horizon, "lookback": lookback}
    used, found = load_recipe("churn", recipe), None
    with progress() as told:
        if trials:
            from training.trials import record_trials, search  # MLflow and Optuna take seconds to import

            found = search(opened, **asked, recipe=used, trials=trials, progress=told)
            used = dict(found.recipe)
        run = churn.train_churn(opened, **asked, recipe=used, progress=told)
        told("tracking in MLflow", 0.0)
        from training.record import record_churn  # MLflow takes seconds to import: only once there is a run

        tracked = record_churn(run, opened)
        if found is not None:
            record_trials(found, tracked.run_id)
    for line in found.told() if found is not None else []:
        say(line)
    _print(run)
    say(f"tracked as run {tracked.run_id}, registered as {tracked.name}/{tracked.version}")
    say("next: ebbtide promote churn")


def _print(run: churn.ChurnRun) -> None:
    names = [churn.MODEL, *run.baselines]
    figures = ("auc", "average_precision", "brier", "lift_top_tenth", "expected_maximum_profit", "calibration_error")
    rows = [
        [figure, *(run.mean(name, figure) if figure in run.backtest[0].figures[name] else None for name in names)]
        for figure in figures
    ]
    moments = ", ".join(show(result.matrix.as_of) for result in run.backtest)
    table(("mean over the backtest", *names), rows, title=f"horizon {run.model.horizon} days, moments {moments}")
    best = max(run.baselines, key=lambda name: run.mean(name, "auc"))
    ahead = run.mean(churn.MODEL, "auc") - run.mean(best, "auc")
    verdict = "beats every baseline" if ahead > 0 else "does NOT beat every baseline"
    say(f"the model {verdict}: AUC {ahead:+.4f} against {best}")
    share = run.model.plain_share
    say(
        f"by the backtest it is {1 - share:.0%} booster and {share:.0%} plain score (recency, frequency, money, BG/NBD)"
    )
    say(f"it answers for horizons from 1 to {run.model.horizons[-1]} days")
