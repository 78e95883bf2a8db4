"""Moment x signals → a named float32 matrix."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from features import signals as catalogue
from features.events import columns as c
from features.signals import Signal
from features.timeline import Array, Moment, Timeline


@dataclass(frozen=True)
class Matrix:
    """Signals of users at one moment, a row each, by ascending hash of the user's id.

    Attributes:
        values: float32[users, signals]; NaN where not observed.
        days_to_purchase: float64[users], infinite if none is known; None if no horizon was asked for.
        horizon: days without a purchase that count as having left.
    """

    user_ids: pa.Array
    as_of: int
    signals: tuple[Signal, ...]
    values: Array
    days_to_purchase: Array | None = None
    horizon: int | None = None

    def __len__(self) -> int:
        return len(self.user_ids)

    @property
    def names(self) -> list[str]:
        return [signal.name for signal in self.signals]

    @property
    def churned(self) -> Array:
        """bool[users]: no purchase within the horizon."""
        assert self.horizon is not None, "ask for the matrix with a horizon to have outcomes"
        return self.silent(self.horizon)

    def silent(self, days: float | Array) -> Array:
        """bool[users]: no purchase in `[moment, moment + days)`, which the caller knows to be told by the log."""
        assert self.days_to_purchase is not None, "ask for the matrix with a horizon to have outcomes"
        return self.days_to_purchase >= days

    def column(self, name: str) -> Array:
        return self.values[:, self.names.index(name)]

    def to_pandas(self) -> pd.DataFrame:
        """user_id, one column a signal and, with a horizon, `days_to_purchase` and `churned`."""
        frame = pd.DataFrame(self.values, columns=self.names)
        frame.insert(0, c.USER_ID, self.user_ids.to_pandas())
        if self.days_to_purchase is not None:
            frame = frame.assign(days_to_purchase=self.days_to_purchase, churned=self.churned)
        return frame


def evaluate(moment: Moment, signals: Sequence[Signal], users: Array) -> Array:
    """float32[signals, chosen users] at a moment; `users` is a mask over the timeline's."""
    chosen: Array | slice = slice(None) if users.all() else np.flatnonzero(users)
    out = np.empty((len(signals), int(users.sum())), np.float32)
    with np.errstate(over="ignore"):
        for row, signal in zip(out, signals, strict=True):
            row[:] = signal.compute(moment)[chosen]
    return out


def moments_of(timeline: Timeline, as_of: Sequence[int], signals: tuple[Signal, ...]) -> list[Moment]:
    """The moments of a timeline, planned for these signals: each compiled pass runs once for all of them."""
    return timeline.as_of(as_of, catalogue.plan(signals))
