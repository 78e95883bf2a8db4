"""The users of training as a table of counts: what live users are compared with. It travels in the churn bundle."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from features.timeline import Array

BINS = 10  # of equal mass, a signal; fewer where a few values are most of it
MOMENTS = 12
PROBABILITY = "churn_probability"  # counted like a signal, the last of the names

T = TypeVar("T")


@dataclass(frozen=True)
class Reference:
    """How many users of training had which values, at several moments.

    A value that a tenth of the users share (mostly 0) is a bin of its own, so that the slightest change of it is seen;
    the other bins hold about a tenth of the users each at the newest moment. "Not observed" is a bin too.

    Attributes:
        names: the signals, and last the predicted probability.
        as_of: int64[moments], µs, newest first.
        cuts: a name each, float64[bins - 1], rising; bin i holds the values in (cuts[i - 1], cuts[i]].
        counts: a name each, int64[moments, bins + 1], users; the last column is "not observed".
    """

    names: tuple[str, ...]
    as_of: Array
    cuts: tuple[Array, ...]
    counts: tuple[Array, ...]

    @classmethod
    def of(cls, names: Sequence[str], moments: Iterable[tuple[int, Array, Array]]) -> "Reference":
        """Count the users of training.

        Args:
            names: the model's signals.
            moments: (moment in µs, values float32[users, signals], predicted probability float64[users]), newest
                first; `few` picks which.
        """
        as_of: list[int] = []
        rows: list[tuple[Array, ...]] = []
        cuts: tuple[Array, ...] = ()
        for moment, values, probability in moments:
            columns = _columns(values, probability)
            cuts = cuts or tuple(_cuts(column) for column in columns)
            as_of.append(moment)
            rows.append(_count(columns, cuts))
        return cls(
            (*names, PROBABILITY),
            np.array(as_of, np.int64),
            cuts,
            tuple(np.stack(column) for column in zip(*rows, strict=True)),
        )

    def count(self, values: Array, probability: Array) -> tuple[Array, ...]:
        """Other users in the same bins: a name each, int64[bins + 1].

        Args:
            values: float32[users, signals], signals as in `names`.
            probability: float64[users].
        """
        return _count(_columns(values, probability), self.cuts)

    def save(self, path: Path) -> None:
        """Write the reference as .npz; the same reference gives the same bytes."""
        np.savez(
            path,
            allow_pickle=False,
            names=np.array(self.names),
            as_of=self.as_of,
            sizes=np.array([len(cut) for cut in self.cuts], np.int64),
            cuts=np.concatenate(self.cuts),
            counts=np.concatenate(self.counts, axis=1),
        )

    @classmethod
    def load(cls, path: Path) -> "Reference":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            sizes = file["sizes"]
            return cls(
                tuple(file["names"].tolist()),
                file["as_of"],
                tuple(np.split(file["cuts"], np.cumsum(sizes)[:-1])),
                tuple(np.split(file["counts"], np.cumsum(sizes + 2)[:-1], axis=1)),
            )


def few(moments: Sequence[T]) -> Sequence[T]:
    """At most `MOMENTS` of the moments, evenly spread, the first among them."""
    return moments[:: -(-len(moments) // MOMENTS)] if moments else moments


def _columns(values: Array, probability: Array) -> list[Array]:
    return [*values.T, probability.astype(np.float32)]


def _cuts(column: Array) -> Array:
    """Where one bin ends and the next begins: the quantiles, and both sides of every frequent value."""
    seen = column[~np.isnan(column)]
    if len(seen) == 0:
        return np.empty(0)
    values, users = np.unique(seen, return_counts=True)
    frequent = values[users * BINS >= len(seen)]
    below = np.nextafter(frequent, np.float32(-np.inf))
    quantiles = np.quantile(seen, np.arange(1, BINS) / BINS, method="inverted_cdf")
    return np.unique(np.concatenate([quantiles, frequent, below])).astype(np.float64)


def _count(columns: Sequence[Array], cuts: Sequence[Array]) -> tuple[Array, ...]:
    out = []
    for column, cut in zip(columns, cuts, strict=True):
        unseen = np.isnan(column)
        bins = np.searchsorted(cut, column[~unseen].astype(np.float64), side="left")
        out.append(np.append(np.bincount(bins, minlength=len(cut) + 1), unseen.sum()).astype(np.int64))
    return tuple(out)
