"""The churn model beside its baselines at many moments of real logs, in the way a user trains it.

`python -m benchmarks.churn` writes `results/churn.json` and prints tables. Stores are made from the sources; Online
Retail II is found by ONLINE_RETAIL_PARQUET. Moments that settings were chosen on are marked and left out of the means.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, brier_score_loss

from features.engines.local import THREADS
from features.events.columns import DAY
from features.events.ingest import ingest
from features.events.intake import hash_array
from features.events.sources import find_source
from features.events.store import Store
from features.instants import instant
from features.timeline import Array
from models.churn import ChurnModel
from training.backtest import Schedule, show
from training.churn import MODEL, ChurnRun, MomentResult, Task, planned, prepared, select, train_churn
from training.churn_fit import fit
from training.metrics import (
    Interval,
    Pair,
    auc,
    auc_of_resamples,
    bootstrap,
    expected_maximum_profit,
    lift_top_tenth,
    paired_bootstrap,
)
from training.plots import MODEL_COLOUR, OTHER_COLOURS
from training.recipes import load_recipe

OUT = Path(__file__).parent / "results" / "churn.json"
HORIZONS = (7, 14, 30, 60, 90)
PICTURED, PICTURE = "orii-90", Path("docs/images/auc_by_moment.png")  # in the README
ALONE = 2  # moments at which the one model is compared with one for each horizon alone


@dataclass(frozen=True)
class Row:
    """One row of the protocol's table: moments go back from the newest by a month or, if shorter, a horizon.

    Attributes:
        chosen: test moments that settings were chosen on.
    """

    name: str
    source: str
    as_of: str
    horizon: int
    lookback: int
    tests: int
    chosen: tuple[str, ...]


ROWS = (
    Row(
        *("orii-90", "online_retail", "2011-12-09", 90, 180, 13),
        chosen=("2011-06-12", "2011-05-13", "2011-04-13", "2011-03-14"),
    ),
    Row(
        *("orii-30", "online_retail", "2011-12-09", 30, 180, 16),
        chosen=(
            *("2011-10-10", "2011-09-10", "2011-08-11", "2011-07-12", "2011-06-12", "2011-05-13"),
            *("2011-03-14", "2010-12-14", "2010-09-15"),
        ),
    ),
    Row(
        *("cj-14", "complete_journey", "2017-12-31", 14, 60, 17),
        chosen=(
            *("2017-12-03", "2017-11-05", "2017-10-08", "2017-09-10", "2017-08-13"),
            *("2017-07-16", "2017-06-18", "2017-05-21"),
        ),
    ),
    Row(
        *("cj-30", "complete_journey", "2017-12-31", 30, 60, 10),
        chosen=("2017-11-01", "2017-10-02", "2017-09-02", "2017-08-03"),
    ),
)


def main() -> None:
    """Run the rows asked for and print what they gave."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=[row.name for row in ROWS], default=[row.name for row in ROWS])
    parser.add_argument("--alone", action="store_true", help="only compare with a model for each horizon alone")
    given = parser.parse_args()
    kept: dict[str, Any] = json.loads(OUT.read_text()) if OUT.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        stores: dict[str, Store] = {}
        for row in ROWS:
            if row.name in given.only:
                store = stores.setdefault(row.source, _store(row.source, Path(folder)))
                found = kept.setdefault(row.name, {})
                found.update({"alone": _alone(row, store)} if given.alone else _measured(row, _run(row, store)))
                OUT.write_text(json.dumps(kept, indent=1) + "\n")
                _print(row.name, kept[row.name])
    if "moments" in kept.get(PICTURED, {}):
        _picture(kept[PICTURED]["moments"])


def _store(source: str, folder: Path) -> Store:
    done = ingest(find_source(Path("sources") / source), folder / source, now=int(time.time() * 1e6))
    assert done.store is not None
    return done.store


def _run(row: Row, store: Store, **recipe: Any) -> ChurnRun:
    settings = load_recipe("churn") | {"test_moments": row.tests} | recipe
    return train_churn(store, as_of=instant(row.as_of), horizon=row.horizon, lookback=row.lookback, recipe=settings)


def _measured(row: Row, run: ChurnRun) -> dict[str, Any]:
    moments = {show(r.matrix.as_of): _moment(r) for r in run.backtest}
    reported = [r for r in run.backtest if show(r.matrix.as_of) not in row.chosen]
    return {
        "moments": moments,
        "chosen": [day for day in moments if day in row.chosen],
        "reported": [show(r.matrix.as_of) for r in reported],
        "margin": {name: _margin(reported, name) for name in run.baselines},
        "newest": _intervals(run.backtest[0]),
        "horizons": _horizons(reported),
    }


def _moment(result: MomentResult) -> dict[str, Any]:
    figures = result.figures[MODEL]
    named = {name: round(by["auc"], 4) for name, by in result.figures.items()}
    return {"plain_share": result.model.plain_share, "auc": named} | {
        key: round(figures[key], 4)
        for key in (
            *("average_precision", "brier", "lift_top_tenth", "expected_maximum_profit", "calibration_error"),
            *("calibration_error_limit", "calibration_slope", "predicted_share", "churned_share", "users"),
        )
    }


def _margin(results: Sequence[MomentResult], name: str) -> dict[str, Any]:
    """AUC over a baseline: the mean over moments, the worst moment, and those below zero beyond their interval."""
    pairs = {show(r.matrix.as_of): _pair(r, name) for r in results if name in r.scores}
    each = {day: _rounded(paired_bootstrap(auc_of_resamples, [pair])) for day, pair in pairs.items()}
    worst = min(each, key=lambda day: each[day][0])
    return {
        "moments": len(each),
        "mean": _rounded(paired_bootstrap(auc_of_resamples, list(pairs.values()))),
        "worst": [worst, *each[worst]],
        "below_zero_beyond_interval": [day for day, (_, _, high) in each.items() if high < 0],
    }


def _pair(result: MomentResult, name: str) -> Pair:
    users = hash_array(result.matrix.user_ids)
    return Pair(users, result.matrix.churned, result.scores[MODEL], result.scores[name])


def _rounded(interval: Interval) -> list[float]:
    return [round(value, 4) for value in (interval.value, interval.low, interval.high)]


def _intervals(result: MomentResult) -> dict[str, Any]:
    """The protocol's figures at one moment, with bootstrap intervals over users, of the model and each baseline."""
    churned = result.matrix.churned
    found: dict[str, Any] = {"moment": show(result.matrix.as_of), "users": len(churned)}
    for name, score in result.scores.items():
        figures: dict[str, Callable[[Array, Array], float]] = {
            "auc": auc,
            "average_precision": average_precision_score,
            "lift_top_tenth": lift_top_tenth,
            "expected_maximum_profit": expected_maximum_profit,
        }
        if "brier" in result.figures[name]:
            figures["brier"] = brier_score_loss
        found[name] = {
            figure: _rounded(
                bootstrap(lambda i, f=compute, s=score: float(f(churned[i], s[i])), len(churned))  # type: ignore[misc]
            )
            for figure, compute in figures.items()
        }
    return found


def _horizons(results: Sequence[MomentResult]) -> dict[str, Any]:
    """Calibration at each horizon of the one model, over the moments whose outcome is known."""
    out: dict[str, Any] = {}
    for days in HORIZONS:
        key = f"h{days:03d}"
        at = {show(r.matrix.as_of): r.figures[MODEL] for r in results if f"{key}_auc" in r.figures[MODEL]}
        passed = [d for d, f in at.items() if f[f"{key}_calibration_error"] <= f[f"{key}_calibration_error_limit"]]
        names = ("auc", "calibration_error", "calibration_error_limit", "calibration_slope")
        out[str(days)] = {
            "moments": len(at),
            "within_limit": passed,
            "each": {day: [round(figures[f"{key}_{name}"], 4) for name in names] for day, figures in at.items()},
        }
    return out


def _alone(row: Row, store: Store) -> dict[str, Any]:
    """AUC at each horizon, at the same moments: one model for all of them, and one that learned that horizon alone."""
    recipe = load_recipe("churn") | {"test_moments": row.tests}
    plan = planned(store, instant(row.as_of), row.horizon, row.lookback, recipe)
    task = prepared(store, plan, row.lookback, recipe, THREADS, lambda share: None)
    told = [t for t in plan.tests if t + max(HORIZONS) * DAY <= plan.as_of][:ALONE]
    out: dict[str, Any] = {}
    for test in told:
        one = _fitted(task, plan, test)
        curve = one.curve(select(task.at[test], one), test)
        for days in HORIZONS:
            single = replace(task, horizon=days, recipe=recipe | {"horizons": [days]})
            other = _fitted(single, plan, test)
            churned = task.at[test].silent(days)
            ours = auc(churned, curve[:, one.horizons.index(days)])
            theirs = auc(churned, other.score(select(task.at[test], other), test))
            out.setdefault(str(days), {})[show(test)] = [round(ours, 4), round(theirs, 4)]
    return out


def _fitted(task: Task, plan: Schedule, test: int) -> ChurnModel:
    data = task.fitting(plan, test)
    assert data is not None, f"too little before {show(test)}"
    return fit(data, task.recipe, plain_share=0.25, alarm=task.alarm, threads=task.threads)


def _print(name: str, found: Mapping[str, Any]) -> None:
    print(f"\n== {name}: {len(found['reported'])} moments, none of which anything was chosen on")
    for day, at in found["moments"].items():
        mark = "chosen on" if day in found["chosen"] else ""
        aucs = "  ".join(f"{who} {value:.4f}" for who, value in at["auc"].items())
        error, limit, slope = at["calibration_error"], at["calibration_error_limit"], at["calibration_slope"]
        print(
            f"  {day}  {aucs}  error {error:.3f} (limit {limit:.3f}) slope {slope:.2f} plain {at['plain_share']} {mark}"
        )
    for baseline, margin in found["margin"].items():
        mean, worst = margin["mean"], margin["worst"]
        print(
            f"  over {baseline}: {mean[0]:+.4f} ({mean[1]:+.4f} to {mean[2]:+.4f}), worst {worst[1]:+.4f} at {worst[0]}"
        )
    for days, at in found["horizons"].items():
        print(f"  {days} days: calibration within its limit at {len(at['within_limit'])} of {at['moments']}")
    for days, pairs in found.get("alone", {}).items():
        print(f"  {days} days, the one model and one for it alone: {pairs}")


def _picture(moments: Mapping[str, Any]) -> None:
    """AUC of the model and its baselines at each moment."""
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    days = sorted(moments)
    for name, colour in zip(moments[days[0]]["auc"], (MODEL_COLOUR, *OTHER_COLOURS), strict=False):
        axes.plot(days, [moments[day]["auc"][name] for day in days], marker="o", ms=4, label=name, color=colour)
    axes.set(title="Online Retail II, 90 days: AUC by moment", ylabel="AUC")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", labelrotation=30, labelsize=8)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(PICTURE, dpi=100)


if __name__ == "__main__":
    main()
