"""popular: what most shoppers bought lately. Frozen at training, so an answer does not depend on who else is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.recommender.heads import Arrays, Facts
from models.recommender.history import Catalogue
from models.recommender.purchases import Floats, Purchases


@dataclass(frozen=True)
class Popular:
    """Distinct buyers per item.

    recent: int32[items], buyers in the `days` before `as_of` (µs, the moment of training).
    ever: int32[items], buyers at any time before `as_of`.
    """

    recent: NDArray[np.int32]
    ever: NDArray[np.int32]
    as_of: int
    days: int
    name: ClassVar[str] = "popular"

    @cached_property
    def _scores(self) -> Floats:
        # Below one whole buyer: all-time buyers only order the items that equally many bought lately.
        scores: Floats = self.recent + self.ever / (1.0 + self.ever.max(initial=0))
        return scores

    def scores(self, past: Purchases) -> Floats:
        """Recent buyers per item, shape `(items,)`, the same for every user."""
        return self._scores.copy()

    def demand(self, exponent: float) -> Floats:
        """A factor in (0, 1] per item, shape `(items,)`: ((recent + ½) / (max recent + ½)) ^ exponent.

        It lowers what is hardly sold any more, whoever liked it once: seasons end and shelves empty, and a log of
        purchases has no stock column to say so.
        """
        buyers = self.recent + 0.5
        factor: Floats = (buyers / buyers.max(initial=0.5)) ** exponent
        return factor

    def evidence(self, past: Purchases, picks: Sequence[int], catalogue: Catalogue) -> list[str]:
        """How many bought it, and until when that was counted."""
        until = np.datetime64(self.as_of, "us").astype("datetime64[D]")
        return [self._phrase(int(self.recent[item]), int(self.ever[item]), str(until)) for item in picks]

    def _phrase(self, recent: int, ever: int, until: str) -> str:
        buyers, span = (recent, f"in the {self.days} days before") if recent else (ever, "before")
        return f"popular: bought by {buyers} shopper{'' if buyers == 1 else 's'} {span} {until}"

    def facts(self) -> Facts:
        """Window and moment."""
        return {"as_of": self.as_of, "days": self.days}

    def arrays(self) -> Arrays:
        """The counts."""
        return {"recent": self.recent, "ever": self.ever}

    @classmethod
    def restore(cls, facts: Mapping[str, Any], arrays: Arrays) -> "Popular":
        """The head that was saved."""
        return cls(arrays["recent"], arrays["ever"], int(facts["as_of"]), int(facts["days"]))
