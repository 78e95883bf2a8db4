"""Two models on the same users at the same moments: what a run keeps of its backtest, and the comparison."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from features.events.intake import hash_array
from features.timeline import Array
from training.churn import ChurnRun
from training.metrics import Interval, Pair, Weighted, paired_bootstrap

FILE = "backtest.parquet"
MOMENT, USER, CHURNED = "moment", "user", "churned"


@dataclass(frozen=True)
class Comparison:
    """A figure of two models, as the mean over the moments that both were tested at.

    Attributes:
        difference: ours less theirs, with its interval over users.
        users: distinct ones, over all moments.
    """

    ours: float
    theirs: float
    difference: Interval
    moments: int
    users: int

    def __str__(self) -> str:
        d = self.difference
        return f"{d.value:+.4f} ({d.low:+.4f} to {d.high:+.4f})"


def backtest_table(run: ChurnRun) -> pa.Table:
    """A row a user and moment of the backtest: moment (µs), hash of the user's id, churned, and one column of scores
    (higher is worse) a contender. Nobody's id is in it."""
    parts = [
        pa.table(
            {
                MOMENT: np.full(len(result.matrix), result.matrix.as_of, np.int64),
                USER: hash_array(result.matrix.user_ids),
                CHURNED: result.matrix.churned,
                **{name: np.asarray(score, np.float64) for name, score in result.scores.items()},
            }
        )
        for result in run.backtest
    ]
    return pa.concat_tables(parts)


def contenders(table: pa.Table) -> list[str]:
    """Whose scores a backtest's table holds."""
    return [name for name in table.column_names if name not in (MOMENT, USER, CHURNED)]


def compare(ours: pa.Table, contender: str, theirs: pa.Table, other: str, figure: Weighted) -> Comparison | None:
    """A contender of one backtest against a contender of another (or of the same), on the users that both scored.

    Outcomes are taken from our table. None if they share no moment at which some left and some stayed.
    """
    a, b = _columns(ours, contender), _columns(theirs, other)
    pairs = []
    for moment in np.intersect1d(a[MOMENT], b[MOMENT]):
        mine, others = np.flatnonzero(a[MOMENT] == moment), np.flatnonzero(b[MOMENT] == moment)
        users, i, j = np.intersect1d(a[USER][mine], b[USER][others], assume_unique=True, return_indices=True)
        churned = a[CHURNED][mine[i]]
        if churned.any() and not churned.all():
            pairs.append(Pair(users, churned, a[contender][mine[i]], b[other][others[j]]))
    if not pairs:
        return None
    everyone = [np.ones((1, len(pair.users)), np.int64) for pair in pairs]
    return Comparison(
        float(np.mean([figure(p.churned, p.ours, once) for p, once in zip(pairs, everyone, strict=True)])),
        float(np.mean([figure(p.churned, p.theirs, once) for p, once in zip(pairs, everyone, strict=True)])),
        paired_bootstrap(figure, pairs),
        len(pairs),
        len(np.unique(np.concatenate([pair.users for pair in pairs]))),
    )


def _columns(table: pa.Table, contender: str) -> dict[str, Array]:
    return {name: table[name].to_numpy() for name in (MOMENT, USER, CHURNED, contender)}
