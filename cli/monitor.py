"""`ebbtide monitor`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from analysis.drift import Drift
from cli.options import AsOfOption, ModelOption, StoreOption, moment_in, progress, say, table
from features.events.store import Store
from models.bundle import open_bundle
from models.churn import load
from training.backtest import show
from training.monitor import LiveCalibration, Watched
from training.monitor import monitor as look

SHOWN = 15  # signals in the table; the file has all


def monitor(
    store: StoreOption,
    as_of: AsOfOption,
    model: ModelOption = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Compare live users and outcomes with training; exit 1 on alarm.

    Example: ebbtide monitor --store var/store --as-of 2018-01-01
    """
    from training.promotion import bundle_of, resolve
    from training.tracking import CHURN

    opened = Store.open(store)
    version, chosen = resolve(CHURN, model)
    churn = load(open_bundle(bundle_of(version)))
    moment = moment_in(opened, as_of, churn.horizon)
    with progress() as told:
        found = look(opened, churn, as_of=moment, progress=lambda share: told("looking at the users", share))
    named, until = f"{version.name}/{version.version}", show(churn.as_of)
    say(f"{found.users:,} users as of {show(moment)}, {named} ({chosen}), trained on the log before {until}")
    _print(found)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(_as_json(found) | {"model": named, "trained_until": until}, indent=1) + "\n")
        say(f"wrote {out}")
    if found.alarm:
        raise typer.Exit(1)


def _print(found: Watched) -> None:
    rows = [
        [_what(d), d.psi, d.limit, d.users_then, d.users_now, "ALARM" if d.alarm else ""] for d in found.drifts[:SHOWN]
    ]
    title = f"drift: population stability index of the {len(rows)} worst of {len(found.drifts)} comparisons"
    table(("signal", "PSI", "limit", "users in training", "users now", ""), rows, title=title)
    if found.calibration is None:
        say(f"calibration is not known: {found.not_calibrated}")
    else:
        _print_calibration(found.calibration)
    drifted = [d for d in found.drifts if d.alarm]
    beyond = [f"{len(drifted)} of {len(found.drifts)} comparisons drifted beyond the limit"] if drifted else []
    if found.calibration is not None and found.calibration.alarm:
        beyond.append("the probabilities are off")
    if beyond:
        say(f"[red]alarm[/]: {'; '.join(beyond)}. Look for a change in the data first; then train again")
    else:
        say("calm: no signal drifted beyond its limit, and the probabilities are not known to be off")


def _print_calibration(found: LiveCalibration) -> None:
    rows: list[list[object]] = [
        ["calibration error", found.error, found.error_limit],
        ["|observed - predicted share|", abs(found.observed - found.predicted), found.share_limit],
    ]
    title = (
        f"calibration of {found.users:,} users as of {show(found.as_of)}: {found.observed:.1%} left, "
        f"{found.predicted:.1%} were predicted to"
    )
    table(("figure", "value", "limit"), rows, title=title)


def _what(d: Drift) -> str:
    return d.signal if d.of == "values" else f"{d.signal}: observed or not"


def _as_json(found: Watched) -> dict[str, object]:
    c = found.calibration
    return {
        "as_of": show(found.as_of),
        "users": found.users,
        "alarm": found.alarm,
        "drift": [
            {
                "signal": d.signal,
                "of": d.of,
                "psi": d.psi,
                "limit": d.limit,
                "alarm": d.alarm,
                "users_in_training": d.users_then,
                "users_now": d.users_now,
            }
            for d in found.drifts
        ],
        "calibration": None
        if c is None
        else {
            "as_of": show(c.as_of),
            "users": c.users,
            "calibration_error": c.error,
            "calibration_error_limit": c.error_limit,
            "observed_share": c.observed,
            "predicted_share": c.predicted,
            "share_limit": c.share_limit,
            "alarm": c.alarm,
        },
        "not_calibrated": found.not_calibrated or None,
    }
