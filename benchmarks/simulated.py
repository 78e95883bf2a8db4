"""What browsing is worth, in simulated shops: ranking with and without it, days ahead, and causes of leaving.

    python -m benchmarks.simulated                                    # three shops of 50,000 users
    python -m benchmarks.simulated --users 6000 --only default        # one small shop, about a minute

Writes `results/simulated.json` and prints tables. Each shop is simulated over a year with a seed that nothing was tuned
on, and a model of 30 days is trained 60 days before the end, so that what came after is known. **Without
browsing** is the same log without the events of `BROWSING`, ingested and trained on in the same way: not only the
signals of views are gone then, but also what "last seen" and "active days" owe to them. The alarm and the model are
watched day by day over the 90 days that the older model of the backtest has not seen. Truth is read by nothing but the
last tables. All figures are of simulated shops.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.alarm import LeadTimes, Watch, beside, lead_times, pooled, watch
from benchmarks.causes import BACK, leavers, scores, shop
from features.events.columns import DAY
from features.events.ingest import ingest
from features.events.intake import hash_array
from features.events.sources import Source
from features.events.store import Store
from features.matrix import Matrix
from features.timeline import Array
from training.backtest import show
from training.churn import MODEL, ChurnRun, select, train_churn
from training.metrics import Interval, Pair, auc_of_resamples, paired_bootstrap
from training.recipes import load_recipe

OUT = Path(__file__).parent / "results" / "simulated.json"
SHOPS = ("default", "sparse", "noisy")
SEED = 2  # the settings of reasons, causes and simulation were chosen on others
DAYS, HORIZON, LOOKBACK, WATCHED = 365, 30, 180, 90
RESAMPLES = 300
# What a user does on a visit, short of ordering: the log "without browsing" lacks these.
BROWSING = ("touch", "login", "view", "search", "favourite", "cart", "not_interested", "share", "invite")
SHOWN = (
    *("auc", "average_precision", "lift_top_tenth", "calibration_error", "calibration_error_limit"),
    *("calibration_slope", "churned_share", "predicted_share", "users"),
)


def main() -> None:
    """Run the shops asked for and print what they gave."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--every", type=int, default=1, help="days from one look at the users watched to the next")
    parser.add_argument("--only", nargs="*", choices=SHOPS, default=list(SHOPS))
    given = parser.parse_args()
    kept: dict[str, Any] = json.loads(OUT.read_text()) if OUT.exists() else {}
    for name in given.only:
        with tempfile.TemporaryDirectory() as folder:
            kept[name] = _measured(name, given.users, given.every, Path(folder))
        OUT.write_text(json.dumps(kept, indent=1) + "\n")
        _print(name, kept[name])


def _measured(name: str, users: int, every: int, folder: Path) -> dict[str, Any]:
    started = time.perf_counter()

    def said(what: str) -> None:
        print(f"{name}: {what} after {time.perf_counter() - started:.0f} s", flush=True)

    store, truth = shop(name, users, SEED, folder, DAYS)
    said(f"{store.rows:,} events simulated and ingested")
    end = -(-store.span[1] // DAY) * DAY
    run = _trained(store, end)
    said("trained with browsing")
    poor = without_browsing(folder)
    lacking = _trained(poor, end)
    said("trained without browsing")
    found: dict[str, Any] = {
        "simulated": {"users": users, "days": DAYS, "seed": SEED},
        "events": {"all": store.rows, "without_browsing": poor.rows},
        "as_of": show(run.schedule.as_of),
        "moments": [show(result.matrix.as_of) for result in run.backtest],
        **_ranking(run, lacking),
        "alarm": _alarm(run),
    }
    said("compared")
    found["lead"] = _lead(store, run, end, truth, every)
    said("watched day by day")
    at = zip(BACK, leavers(store, truth), strict=True)
    found["causes"] = {str(back): _rounded(asdict(scores(*moment))) for back, moment in at}
    said("causes told")
    return found


def without_browsing(folder: Path) -> Store:
    """A store of the log in a folder without the events of BROWSING."""
    query = folder / "without.sql"
    kinds = ", ".join(f"'{kind}'" for kind in BROWSING)
    query.write_text(f"SELECT * FROM 'events.parquet' WHERE kind NOT IN ({kinds})\n")
    source = Source(query, folder / "items.parquet")
    store = ingest(source, folder / "without", now=time.time_ns() // 1000).store
    assert store is not None
    return store


def _trained(store: Store, end: int) -> ChurnRun:
    # The shipped recipe, but for one horizon: the others, which nothing here asks for, cost two thirds of the time.
    recipe = load_recipe("churn") | {"test_moments": 2, "horizons": [HORIZON]}
    return train_churn(store, as_of=end - 2 * HORIZON * DAY, horizon=HORIZON, lookback=LOOKBACK, recipe=recipe)


def _ranking(run: ChurnRun, lacking: ChurnRun) -> dict[str, Any]:
    """Every contender's figures by moment, and the AUC with browsing over that without."""
    pairs = []
    for one, other in zip(run.backtest, lacking.backtest, strict=True):
        assert one.matrix.user_ids.equals(other.matrix.user_ids)
        users = hash_array(one.matrix.user_ids)
        pairs.append(Pair(users, one.matrix.churned, one.scores[MODEL], other.scores[MODEL]))
    figures = {
        show(one.matrix.as_of): {
            "with browsing": _figures(one.figures[MODEL]),
            "without browsing": _figures(other.figures[MODEL]),
            **{name: _figures(one.figures[name]) for name in one.figures if name != MODEL},
        }
        for one, other in zip(run.backtest, lacking.backtest, strict=True)
    }
    gain = paired_bootstrap(auc_of_resamples, pairs, resamples=RESAMPLES)
    return {
        "plain_share": [result.model.plain_share for result in run.backtest],
        "figures": figures,
        "auc_with_over_without": _interval(gain),
    }


def _figures(figures: Mapping[str, float]) -> dict[str, float]:
    return _rounded({name: figures[name] for name in SHOWN if name in figures})


def _alarm(run: ChurnRun) -> dict[str, Any]:
    """Rule and model at the moments of the backtest, pooled."""
    both = pooled([beside(result.matrix, result.scores[MODEL], result.model.alarm) for result in run.backtest])
    return {
        "users": both.users,
        "known": both.known,
        "flagged": {
            name: _rounded({"flagged": f.flagged, "precision": f.precision, "recall": f.recall, "f1": f.f1})
            for name, f in both.flagged.items()
        },
        "parts": {name: _rounded({"users": p.users, "share_left": p.share_left}) for name, p in both.parts.items()},
    }


def _lead(store: Store, run: ChurnRun, end: int, truth: pd.DataFrame, every: int) -> dict[str, Any]:
    """Days ahead of certainty, and of the true instant of being gone, of those who are truly gone."""
    model = run.backtest[-1].model

    def score(matrix: Matrix) -> Array:
        return model.score(select(matrix, model), matrix.as_of)

    watched = watch(
        store,
        model.signals,
        score,
        as_of=end,
        horizon=HORIZON,
        days=WATCHED,
        step=every,
        settings=model.alarm,
    )
    assert model.as_of <= watched.as_of[0]
    return {
        "days": [show(int(watched.as_of[0])), show(int(watched.as_of[-1]))],
        "every": every,
        "watched_user_days": int(watched.watched.sum()),
        "watched_share_left": round(float(watched.left[watched.watched].mean()), 4),
        "to_certainty": _leads(lead_times(watched)),
        "to_gone": _leads(lead_times(watched, _instants(truth["gone"], watched))),
    }


def _instants(when: pd.Series, watched: Watch) -> Array:
    """µs of each watched user, -1 where there is none."""
    of_users = when.reindex(watched.user_ids.to_pylist()).to_numpy().astype("datetime64[us]")
    return np.where(np.isnat(of_users), -1, of_users.astype(np.int64))


def _leads(found: LeadTimes) -> dict[str, Any]:
    contenders = {
        name: {
            "user_days": one.user_days.flagged,
            **_rounded({"precision": one.user_days.precision, "recall": one.user_days.recall}),
            "leavers": one.leavers,
            "caught": one.caught,
            "quartiles": [round(days, 1) for days in one.quartiles],
            "quartiles_of_all": [round(days, 1) for days in one.quartiles_of_all],
        }
        for name, one in found.contenders.items()
    }
    return {"contenders": contenders, "parts": dict(found.parts), "earlier": round(found.earlier, 1)}


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}


def _interval(interval: Interval) -> list[float]:
    return [round(value, 4) for value in (interval.value, interval.low, interval.high)]


def _print(name: str, found: Mapping[str, Any]) -> None:
    of = found["simulated"]
    print(f"\n== {name}, a simulated shop of {of['users']:,} users over {of['days']} days, seed {of['seed']}")
    for day, figures in found["figures"].items():
        print(f"  as of {day}, {HORIZON} days: {figures['with browsing']['churned_share']:.1%} leave")
        for who, at in figures.items():
            calibrated = "".join(
                f"  error {at['calibration_error']:.3f} (limit {at['calibration_error_limit']:.3f})"
                f" slope {at['calibration_slope']:.2f}"
                for _ in range("calibration_error" in at)
            )
            print(f"    {who:<20} AUC {at['auc']:.4f}  lift {at['lift_top_tenth']:.2f}{calibrated}")
    gain = found["auc_with_over_without"]
    print(f"  AUC with browsing over without: {gain[0]:+.4f} ({gain[1]:+.4f} to {gain[2]:+.4f})")
    alarm = found["alarm"]
    print(f"  the alarm at these moments, known for {alarm['known']:,} of {alarm['users']:,} users:")
    for who, at in alarm["flagged"].items():
        print(f"    {who:<22} {at['flagged']:>6,} flagged  precision {at['precision']:.3f}  recall {at['recall']:.3f}")
    for who, at in alarm["parts"].items():
        print(f"    {who:<22} {at['users']:>6,} users, of whom {at['share_left']:.1%} left")
    lead = found["lead"]
    days, left = lead["watched_user_days"], lead["watched_share_left"]
    print(f"  every {lead['every']} days: {days:,} user-days watched, of which {left:.1%} are of users who leave")
    for what, to in (("to_certainty", "certainty"), ("to_gone", "the true instant of being gone")):
        _print_leads(to, lead[what])
    print("  causes, macro-F1, by days before the end (* told the true causes of others; as many users, the surest)")
    for back, at in found["causes"].items():
        print(
            f"    {back:>3}: inferred {at['inferred']:.3f} (unknown {at['unknown']:.1%} of {at['users']:,})"
            f"  from signals* {at['trained']:.3f}  from true states* {at['true_states']:.3f}  | all answered:"
            f" {at['inferred_all']:.3f}  {at['trained_all']:.3f}  {at['true_states_all']:.3f}"
        )


def _print_leads(to: str, found: Mapping[str, Any]) -> None:
    print(f"  days ahead of {to}: median (quartiles) of those caught; of all leavers")
    for who, at in found["contenders"].items():
        low, middle, high = at["quartiles"]
        print(
            f"    {who:<22} {middle:>5.1f} ({low:.1f} to {high:.1f})  of all {at['quartiles_of_all'][1]:.1f}"
            f"  {at['caught']:,} of {at['leavers']:,} caught; {at['user_days']:,} user-days,"
            f" precision {at['precision']:.3f}"
        )
    print(
        f"    of those both caught the model is {found['earlier']:+.1f} days ahead; leavers caught by {found['parts']}"
    )


if __name__ == "__main__":
    main()
