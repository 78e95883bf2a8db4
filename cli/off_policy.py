"""`ebbtide off-policy`."""

from pathlib import Path
from typing import Annotated

import pyarrow.compute as pc
import typer

from cli.options import ModelOption, StoreOption, progress, say, table
from features.events.store import Store
from models.bundle import open_bundle
from models.deployed import load_recommender
from models.exposure import read_exposures
from training.backtest import show
from training.off_policy import Evaluation, Unit, decisions, evaluate, rewards, with_outcome
from training.replay import Rates, Replay, hindsight

SAID: dict[Unit, str] = {"slot": "if an item's slot matters", "item": "if it does not"}
COLUMNS = ("estimate", "items a list", "95 % from", "to", "worth users", "of its items the log speaks of")


def off_policy(
    store: StoreOption,
    exposures: Annotated[Path, typer.Option(help="Folder of the exposure log, as `serve --exposures` writes it.")],
    days: Annotated[int, typer.Option(help="An item earns if it is bought so soon after it was shown.", min=1)] = 7,
    model: ModelOption = None,
) -> None:
    """Tell from the exposure log what a recommender's lists would have earned.

    Example: ebbtide off-policy --exposures var/exposures --store var/store --days 7
    """
    from training.promotion import bundle_of, resolve
    from training.tracking import CROSS_SELL

    opened = Store.open(store)
    shown = with_outcome(read_exposures(exposures), opened, days)
    version, chosen = resolve(CROSS_SELL, model)
    recommender = load_recommender(open_bundle(bundle_of(version)))
    reward = rewards(shown, opened, days=days)
    with progress() as told:
        replay = Replay.of(shown, opened, recommender, lambda share: told("making the lists anew", share))
    rates = Rates(shown, reward, replay)
    found = {unit: evaluate(decisions(shown, reward, replay.policy, rates, unit)) for unit in SAID}
    logged, named = found["slot"], f"{version.name}/{version.version} ({chosen})"
    first, last = (show(bound.as_py()) for bound in pc.min_max(shown["time"]).values())
    say(f"{logged.lists:,} lists of {logged.users:,} users from {first} to {last}, {days} days after each")
    say(f"bought of each list: {logged.earned.value:.4f} items ({logged.earned.low:.4f} to {logged.earned.high:.4f})")
    rows = [row for unit, one in found.items() for row in _rows(unit, one)]
    table(COLUMNS, rows, title=f"what the lists of {named} would have sold")
    warnings = [*hindsight(shown, recommender), *(text for one in found.values() for text in one.warnings)]
    for text in dict.fromkeys(warnings):
        say(f"[yellow]warning[/]: {text}")


def _rows(unit: Unit, found: Evaluation) -> list[list[object]]:
    """A row an estimator."""
    told = {
        "inverse propensity": found.inverse_propensity,
        "self-normalised": found.self_normalised,
        "doubly robust": found.doubly_robust,
    }
    worth = [round(found.effective_users), f"{found.mean_weight:.0%}"]
    return [
        [f"{name}, {SAID[unit]}", one.value, one.low, one.high, *worth] for name, one in told.items() if one is not None
    ]
