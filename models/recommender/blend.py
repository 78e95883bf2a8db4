"""How the heads' scores become one: a weighted sum of shares, times how much an item sells at present."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.recommender import loops
from models.recommender.heads import Scores


@dataclass(frozen=True)
class Blend:
    """score = demand^exponent · Σ_head weight · share_head, with share = (score / the user's highest score)^power.

    weights: per head, at least 0. root: power ½ instead of 1, which brings a head's lower places closer to its first.
    demand: the exponent of `Popular.demand`; 0 switches it off.
    """

    weights: Mapping[str, float]
    root: bool = False
    demand: float = 0.0

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads that count, in one order however the weights came, as float sums hang on it."""
        return tuple(name for name, weight in sorted(self.weights.items()) if weight > 0)

    def total(self, scores: Mapping[str, Scores], demand: NDArray[np.float32] | None) -> Scores:
        """The blended score of each user and item.

        demand: `Popular.demand` at this blend's exponent; None where that is 0.
        """
        out = np.zeros_like(next(iter(scores.values())))
        for name in self.heads:
            loops.add_shares(scores[name], self.weights[name], self.root, out)
        if demand is not None:
            out *= demand
        return out

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Blend":
        """The blend that was saved."""
        weights = {str(name): float(weight) for name, weight in data["weights"].items()}
        return cls(weights, bool(data["root"]), float(data["demand"]))
