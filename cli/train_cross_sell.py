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
    modes = list(newest.scores[cross_sell.MODEL])
    rows = [
        [f"{mode} {figure}@{cross_sell.K}", *(getattr(by_mode[mode], figure) for by_mode in newest.scores.values())]
        for mode in modes
        for figure in ("recall", "ndcg")
    ]
    users = ", ".join(f"{newest.scores[cross_sell.MODEL][mode].users:,} users for {mode}" for mode in modes)
    table(("backtest", *newest.scores), rows, title=f"at {show(newest.as_of)}, next {run.horizon} days, {users}")
    for mode in modes:
        best = max((n for n in newest.scores if n != cross_sell.MODEL), key=lambda n: newest.scores[n][mode].recall)
        ahead = newest.scores[cross_sell.MODEL][mode].recall - newest.scores[best][mode].recall
        say(f"{mode}: the blend {'beats' if ahead > 0 else 'does NOT beat'} every head: {ahead:+.4f} against {best}")
