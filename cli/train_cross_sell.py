"""`ebbtide train cross sell`."""

from typing import Annotated

import typer

from cli.options import RecipeOption, StoreOption, end_of, moment_in, progress, say, table
from features.events.store import Store
from training import cross_sell
from training.backtest import show


def train_cross_sell(
    store: StoreOption,
    as_of: Annotated[
        str | None, typer.Option(help="Read nothing at or after it; without it the log's last midnight.")
    ] = None,
    horizon: Annotated[int, typer.Option(help="Days whose purchases are to be foretold.", min=1)] = 30,
    recipe: RecipeOption = None,
) -> None:
    """Train the recommender.

    Example: ebbtide train cross-sell --store var/store
    """
    opened = Store.open(store)
    moment = end_of(opened) if as_of is None else moment_in(opened, as_of, horizon)
    with progress() as told:
        settings = cross_sell.recipe_of(recipe)
        run = cross_sell.train_cross_sell(opened, as_of=moment, horizon=horizon, recipe=settings, progress=told)
        told("tracking in MLflow", 0.0)
        from training.record import record_cross_sell  # MLflow takes seconds to import: only once there is a run

        tracked = record_cross_sell(run, opened)
    _print(run)
    say(f"tracked as run {tracked.run_id}, registered as {tracked.name}/{tracked.version}")
    say("next: ebbtide promote cross-sell")


def _print(run: cross_sell.CrossSellRun) -> None:
    newest = run.backtest[0]
    figures = [(aim, figure) for aim in newest.scores for figure in ("recall", "ndcg")]
    rows = [
        [name, *(getattr(newest.scores[aim][name], figure) for aim, figure in figures)] for name in newest.scores["all"]
    ]
    users = ", ".join(f"{by_name[cross_sell.MODEL].users:,} users for {aim}" for aim, by_name in newest.scores.items())
    header = ("backtest", *(f"{aim} {figure}@{cross_sell.K}" for aim, figure in figures))
    table(header, rows, title=f"at {show(newest.as_of)}, next {run.horizon} days, {users}")
    for aim, by_name in newest.scores.items():
        best = max((name for name in by_name if name != cross_sell.MODEL), key=lambda name: by_name[name].recall)
        ahead = by_name[cross_sell.MODEL].recall - by_name[best].recall
        say(f"{aim}: the model {'beats' if ahead > 0 else 'does NOT beat'} all others: {ahead:+.4f} against {best}")
    for aim in run.model.facts["rankers_dropped"]:
        say(f"{aim}: no ranker ships, for it did not beat the blend (or could not be tested): the blend decides")
