"""repeat: what this user buys again, by how often and how lately they bought it, and whether it is due."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.recommender.catalogue import Tables
from models.recommender.heads import Facts, Phrase, Scores, Shop, nothing
from models.recommender.past import Floats, Ints, Past

NOT_YET, OVERDUE = 0.5, 1.5  # shares of the interval before and after which an item is not due
JUST, HOURS = 30.0, 0.25  # days
DURABLE = 0.03  # an item of which fewer buyers than this ever come back for more is one that one buys once


@dataclass(frozen=True)
class Repeat:
    """Own items, each order with one weighing 2^(−age / half-life).

    interval: float32[items], median days between two orders of one user with the item; NaN where nobody did.
    again: float32[items], the share of its buyers who bought it again, drawn towards its category's and the shop's.
    """

    interval: NDArray[np.float32]
    again: NDArray[np.float32]
    half_life: float
    name: ClassVar[str] = "repeat"

    def scores(self, past: Past, shop: Shop) -> Scores:
        """Decayed orders with the item."""
        out = nothing(past, shop)
        bought = past.bought
        out[bought.pair_user, bought.pair_item] = bought.weights(self.half_life)
        return out

    def usual(self, past: Past) -> Floats:
        """Days between orders with each bought item: the user's own mean from three orders on, else the item's."""
        bought = past.bought
        mean = (bought.age[bought.begin] - bought.age[bought.ends]) / np.maximum(bought.times - 1, 1)
        own = (bought.times >= 3) & (mean > 0)
        return np.where(own, mean, self.interval[bought.pair_item].astype(np.float64))

    def had_enough(self, past: Past) -> tuple[Ints, Ints]:
        """Users and items that they have just bought: durables within a month, anything within hours."""
        bought = past.bought
        since = bought.age[bought.ends]
        enough = (since < HOURS) | ((self.again[bought.pair_item] < DURABLE) & (since < JUST))
        return bought.pair_user[enough], bought.pair_item[enough]

    def too_early(self, past: Past) -> tuple[Ints, Ints]:
        """Users and items whose interval has hardly begun."""
        bought = past.bought
        early = bought.age[bought.ends] < NOT_YET * np.nan_to_num(self.usual(past))
        return bought.pair_user[early], bought.pair_item[early]

    def evidence(self, past: Past, shop: Shop, user: Ints, item: Ints) -> list[Phrase]:
        """How often, how long ago, every how many days, and whether it is due."""
        bought, usual = past.bought, self.usual(past)
        return [self._phrase(bought, usual, place) for place in bought.place(user, item).tolist()]

    def _phrase(self, bought: Any, usual: Floats, place: int) -> Phrase:
        if place < 0:
            return "own_kind", {}
        times, since, every = bought.times[place], bought.age[bought.ends[place]], usual[place]
        known = {"times": float(times), "ago": float(np.floor(since))}
        today = "_today" if since < 1 else ""
        if not every >= 1:
            return f"own{today}", known
        due = since / every
        state = f"not_yet{today}" if due < NOT_YET else "overdue" if due > OVERDUE else "due"
        return f"own_{state}", {**known, "every": float(every)}

    def facts(self) -> Facts:
        """The half-life."""
        return {"half_life": self.half_life}

    def tables(self) -> Tables:
        """What the log tells of each item's return."""
        return {"interval": self.interval, "again": self.again}

    @classmethod
    def restore(cls, facts: Mapping[str, Any], tables: Tables) -> "Repeat":
        """The head that was saved."""
        return cls(tables["interval"], tables["again"], float(facts["half_life"]))
