"""How the heads' scores become one: a weighted sum of shares, times how much an item sells at present."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from models.recommender.purchases import Floats

Mode = Literal["all", "cross_sell"]
MODES: tuple[Mode, ...] = get_args(Mode)


def checked_mode(mode: str) -> Mode:
    """The mode, or a ValueError that names the modes there are."""
    for known in MODES:
        if mode == known:
            return known
    raise ValueError(f"unknown mode {mode!r}; use one of: {', '.join(MODES)}")


@dataclass(frozen=True)
class Blend:
    """score = demand^exponent · Σ_head weight · share_head, with share = (score / the user's highest score)^power.

    weights: per head, at least 0. root: power ½ instead of 1, which brings a head's lower places closer to its first.
    demand: the exponent of `Popular.demand`; 0 switches it off.
    """

    weights: Mapping[str, float]
    root: bool = False
    demand: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Blend":
        """The blend that was saved."""
        weights = {str(name): float(weight) for name, weight in data["weights"].items()}
        return cls(weights, bool(data["root"]), float(data["demand"]))


def share(scores: Floats, root: bool) -> Floats:
    """A head's scores as shares of its highest for this user, in [0, 1], in place; all 0 where there is none."""
    peak = scores.max(initial=0.0)
    if peak > 0.0:
        scores /= peak
        if root:
            np.sqrt(scores, out=scores)
    return scores
