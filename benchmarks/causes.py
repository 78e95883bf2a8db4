"""Causes of leaving in simulated shops: what `models.causes` infers, beside what could be inferred at best.

    python -m benchmarks.causes                      # three shops of 6,000 users, about two minutes
    python -m benchmarks.causes --users 50000 --seed 3 --shops default sparse noisy

Asked of every user with a purchase whose drift away had begun before the moment, whether gone by now or not. Beside it
stand two LightGBM classifiers that are told the true causes of other users: one sees our signals, the other the true
strength of each sign and the length of the drift, which no log tells. All figures are of simulated shops.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pandas as pd
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold

from features import signals
from features.engines.local import matrices
from features.events.columns import DAY
from features.events.ingest import ingest
from features.events.sources import Source
from features.events.store import Store
from features.timeline import Array
from models import causes
from training.simulation import simulate
from training.simulation.parameters import load

DAYS = 420
BACK = (0, 120)  # days before the end of the log at which causes are asked for


def shop(name: str, users: int, seed: int, folder: Path, days: int = DAYS) -> tuple[Store, pd.DataFrame]:
    """A simulated shop's store, and the truth of its users."""
    simulate(load(None if name == "default" else Path(name)), folder, users=users, days=days, seed=seed)
    store = ingest(
        Source(folder / "events.parquet", folder / "items.parquet"), folder / "store", now=time.time_ns() // 1000
    ).store
    assert store is not None
    return store, pd.read_parquet(folder / "truth" / "users.parquet").set_index("user_id")


def leavers(store: Store, truth: pd.DataFrame) -> Iterator[tuple[Array, Array, pd.DataFrame]]:
    """For each moment the signals of those who drift or are gone, the shop's means, and the truth."""
    moments = [store.span[1] - days * DAY for days in BACK]
    asked = (*signals.by_name(causes.SIGNALS), *signals.by_name(["days_since_purchase"]))
    for moment, matrix in zip(moments, matrices(store, moments, asked), strict=True):
        bought = np.isfinite(matrix.values[:, -1])
        rows = truth.reindex(matrix.user_ids.to_pandas())
        drifts = (rows["onset"].to_numpy() < np.datetime64(moment, "us")) & bought
        values = np.ascontiguousarray(matrix.values[:, :-1])
        yield values[drifts], causes.usual_of(values[bought]), rows[drifts]


def told(table: Array, cause: Array) -> tuple[Array, Array]:
    """Cause and its probability from a classifier that knows the causes of the other users (five folds)."""
    probability = np.zeros((len(cause), len(causes.CAUSES)))
    code = np.array([causes.CAUSES.index(one) for one in cause])
    settings = {"objective": "multiclass", "num_class": 3, "num_threads": 1, "verbose": -1, "seed": 1}
    settings |= {
        "learning_rate": 0.06,
        "num_leaves": 7,
        "min_data_in_leaf": 25,
        "feature_fraction": 0.4,
        "lambda_l2": 5,
    }
    for fit, test in StratifiedKFold(5, shuffle=True, random_state=0).split(table, code):
        booster = lgb.train(settings, lgb.Dataset(table[fit], code[fit]), 150)
        probability[test] = np.asarray(booster.predict(table[test], num_threads=1))
    return np.array(causes.CAUSES)[probability.argmax(axis=1)], probability.max(axis=1)


def macro(cause: Array, answer: Array) -> float:
    """Macro-F1 over the three causes, of the users given."""
    return float(f1_score(cause, answer, labels=list(causes.CAUSES), average="macro"))


def latent(truth: pd.DataFrame) -> Array:
    """The true strength of each sign, and the days from onset to gone."""
    drift = truth["gone"].fillna(truth["gone_later"]) - truth["onset"]
    table = truth[[name for name in truth if str(name).startswith("sign_")]].assign(days=drift.dt.total_seconds())
    return table.to_numpy(float)


@dataclass(frozen=True)
class Scores:
    """Macro-F1 at one moment: of causes inferred, and of classifiers told the true causes of other users.

    Attributes:
        unknown: share of the users whose cause is left open.
        inferred: of the others.
        trained, true_states: of as many users, the surest, from our signals and from the true state.
        *_all: of all users, where each gets an answer.
    """

    users: int
    unknown: float
    inferred: float
    trained: float
    true_states: float
    inferred_all: float
    trained_all: float
    true_states_all: float


def scores(values: Array, usual: Array, truth: pd.DataFrame) -> Scores:
    """How well causes are told of some users; arguments as `leavers` yields them."""
    shipped = causes.load_settings()
    bold = replace(shipped, settings={**shipped.settings, "confidence": 0.0})
    cause = truth["cause"].to_numpy(str)
    answer = np.array([one.cause for one in causes.infer_causes(values, usual)])
    always = np.array([one.cause for one in causes.infer_causes(values, usual, bold)])
    known = answer != "unknown"
    trained, signs = told(values, cause), told(latent(truth), cause)

    def surest(found: tuple[Array, Array]) -> float:
        chosen = found[1] >= np.quantile(found[1], 1 - known.mean())
        return macro(cause[chosen], found[0][chosen])

    return Scores(
        users=len(cause),
        unknown=float(1 - known.mean()),
        inferred=macro(cause[known], answer[known]),
        trained=surest(trained),
        true_states=surest(signs),
        inferred_all=macro(cause, always),
        trained_all=macro(cause, trained[0]),
        true_states_all=macro(cause, signs[0]),
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=6_000)
    parser.add_argument("--seed", type=int, default=505)
    parser.add_argument(
        "--shops", nargs="*", default=["default", "sparse", "noisy"], help="shipped names or TOML files"
    )
    options = parser.parse_args()
    print("simulated shops; macro-F1 over natural, soft, experience of users who drift or are gone\n")
    print(
        "shop        days to end  users  inferred  unknown  trained*  | all answered: inferred  trained*  true states*"
    )
    for name in options.shops:
        with tempfile.TemporaryDirectory() as folder:
            store, truth = shop(name, options.users, options.seed, Path(folder))
            for back, moment in zip(BACK, leavers(store, truth), strict=True):
                at = scores(*moment)
                print(
                    f"{Path(name).stem:<9} {back:>13}  {at.users:>5}  {at.inferred:>8.3f}"
                    f"  {at.unknown:>7.1%}  {at.trained:>8.3f}  |"
                    f"  {at.inferred_all:>22.3f}  {at.trained_all:>8.3f}  {at.true_states_all:>12.3f}",
                    flush=True,
                )
    print("\n* told the true causes of other users; on the left for as many users as are inferred, the surest")


if __name__ == "__main__":
    main()
