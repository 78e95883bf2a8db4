"""A score of leaving from recency, frequency and money alone: what a small log can carry."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from features.timeline import Array
from models import bgnbd
from models.bgnbd import BgNbd, Purchases

LOGARITHMS: Final = ("days_since_purchase", "orders_ever", "spend_ever", "orders_90d", "spend_180d")
SIGNALS: Final = tuple(dict.fromkeys((*LOGARITHMS, *bgnbd.SIGNALS)))


@dataclass(frozen=True)
class PlainScore:
    """A weighted sum of logarithms of `LOGARITHMS` and of the purchases that BG/NBD expects within the horizon.

    Attributes:
        weights: one a logarithm, and last one for BG/NBD; log-odds.
        bgnbd: None where nobody had bought twice.
    """

    weights: tuple[float, ...]
    bgnbd: BgNbd | None

    def margins(self, column: Mapping[str, Array], horizons: Sequence[float]) -> Array:
        """Log-odds but for a constant, float64[users, horizons], of the columns named in `SIGNALS`."""
        logs, weights = logarithms(column), np.array(self.weights)
        # Not a matrix product: its last bit depends on how many users are asked about at once.
        common = np.asarray(sum(weight * log for weight, log in zip(weights, logs.T, strict=False)))
        if self.bgnbd is None:
            return np.repeat(common[:, None], len(horizons), axis=1)
        expected = [log_expected(column, days, self.bgnbd) for days in horizons]
        return common[:, None] + weights[-1] * np.stack(expected, axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for a manifest."""
        return {"weights": list(self.weights), "bgnbd": asdict(self.bgnbd) if self.bgnbd else None}

    @classmethod
    def from_dict(cls, described: Mapping[str, Any]) -> "PlainScore":
        """The score that `to_dict` described."""
        found = described["bgnbd"]
        return cls(tuple(described["weights"]), BgNbd(**found) if found else None)


def logarithms(column: Mapping[str, Array]) -> Array:
    """float64[users, LOGARITHMS]; what is not observed counts as none."""
    values = np.stack([column[name] for name in LOGARITHMS], axis=1).astype(np.float64)
    return np.log1p(np.where(np.isfinite(values), values, 0.0))


def log_expected(column: Mapping[str, Array], horizon: float, model: BgNbd) -> Array:
    """Logarithm of the purchases that BG/NBD expects, float64[users]."""
    past = Purchases.of(*(column[name] for name in bgnbd.SIGNALS))
    return np.log(np.maximum(model.expected(past, horizon), 1e-6))


def columns_of(values: Array, names: Sequence[str]) -> dict[str, Array]:
    """The columns in `SIGNALS` of float32[users, signals]."""
    return {name: values[:, names.index(name)] for name in SIGNALS}
