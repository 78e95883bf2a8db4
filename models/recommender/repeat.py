"""repeat: what this user buys again, by how often and how lately they bought it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from models.recommender.heads import Arrays, Facts
from models.recommender.history import DAY_US, Catalogue
from models.recommender.purchases import Floats, Purchases


@dataclass(frozen=True)
class Repeat:
    """Own items, each line weighing 2^(−age / half-life)."""

    catalogue_size: int
    half_life_days: float
    name: ClassVar[str] = "repeat"

    def scores(self, past: Purchases) -> Floats:
        """Decayed purchase lines per item, shape `(items,)`."""
        out = np.zeros(self.catalogue_size)
        out[past.items] = past.weights(self.half_life_days)
        return out

    def evidence(self, past: Purchases, picks: Sequence[int], catalogue: Catalogue) -> list[str]:
        """How often (distinct instants, so the lines of one order count once) and when last."""
        return [_phrase(past, item) for item in picks]

    def facts(self) -> Facts:
        """The half-life and the size of the catalogue."""
        return {"catalogue_size": self.catalogue_size, "half_life_days": self.half_life_days}

    def arrays(self) -> Arrays:
        """None: the user's own past is all there is."""
        return {}

    @classmethod
    def restore(cls, facts: Mapping[str, Any], arrays: Arrays) -> "Repeat":
        """The head that was saved."""
        return cls(int(facts["catalogue_size"]), float(facts["half_life_days"]))


def _phrase(past: Purchases, item: int) -> str:
    lines = past.lines(item)
    times, days = len(np.unique(lines)), int(past.as_of - lines[-1]) // DAY_US
    when = "today" if days == 0 else "1 day ago" if days == 1 else f"{days} days ago"
    return f"bought once, {when}" if times == 1 else f"bought {times} times, last {when}"
