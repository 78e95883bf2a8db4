"""popular, trending, welcome: what many buy, what ever more buy, and what good newcomers buy first.

Frozen at training, so an answer does not depend on who else is asked about.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.recommender.catalogue import Tables
from models.recommender.heads import Facts, Phrase, Scores, Shop, same_for_all
from models.recommender.past import Floats, Ints, Past

DRAWN = 200.0  # newcomers that the shop's share of those who stay weighs as much as


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
    def score(self) -> NDArray[np.float32]:
        """Recent buyers; below one whole buyer, all-time buyers order the items that equally many bought lately."""
        return (self.recent + self.ever / (1.0 + self.ever.max(initial=0))).astype(np.float32)

    def scores(self, past: Past, shop: Shop) -> Scores:
        """The same for every user."""
        return same_for_all(past, self.score)

    def demand(self, exponent: float) -> Floats:
        """A factor in (0, 1] per item, shape `(items,)`: ((recent + ½) / (max recent + ½)) ^ exponent.

        It lowers what is hardly sold any more, whoever liked it once: seasons end and shelves empty, and a log of
        purchases has no stock column to say so.
        """
        buyers = self.recent + 0.5
        factor: Floats = (buyers / buyers.max(initial=0.5)) ** exponent
        return factor

    def evidence(self, past: Past, shop: Shop, user: Ints, item: Ints) -> list[Phrase]:
        """How many bought it, and until when that was counted."""
        until = str(np.datetime64(self.as_of, "us").astype("datetime64[D]"))
        return [self._phrase(code, until) for code in item.tolist()]

    def _phrase(self, item: int, until: str) -> Phrase:
        if self.recent[item]:
            return "popular", {"buyers": float(self.recent[item]), "days": float(self.days), "until": until}
        return "known", {"buyers": float(self.ever[item]), "until": until}

    def facts(self) -> Facts:
        """Window and moment."""
        return {"as_of": self.as_of, "days": self.days}

    def tables(self) -> Tables:
        """The counts."""
        return {"recent": self.recent, "ever": self.ever}

    @classmethod
    def restore(cls, facts: Mapping[str, Any], tables: Tables) -> "Popular":
        """The head that was saved."""
        return cls(tables["recent"], tables["ever"], int(facts["as_of"]), int(facts["days"]))


@dataclass(frozen=True)
class Trending:
    """Buyers who took an item up for the first time: in the newest week, and in a usual one before; float32[items]."""

    week: NDArray[np.float32]
    usual: NDArray[np.float32]
    name: ClassVar[str] = "trending"

    def scores(self, past: Past, shop: Shop) -> Scores:
        """New buyers of the newest week; the same for every user."""
        return same_for_all(past, self.week)

    def evidence(self, past: Past, shop: Shop, user: Ints, item: Ints) -> list[Phrase]:
        """This week's new buyers, and a usual week's."""
        return [("rising", {"week": float(self.week[i]), "usual": float(self.usual[i])}) for i in item.tolist()]

    def facts(self) -> Facts:
        """None."""
        return {}

    def tables(self) -> Tables:
        """The counts."""
        return {"week": self.week, "usual": self.usual}

    @classmethod
    def restore(cls, facts: Mapping[str, Any], tables: Tables) -> "Trending":
        """The head that was saved."""
        return cls(tables["week"], tables["usual"])


@dataclass(frozen=True)
class Welcome:
    """What many buy at present, newcomers above all, and stay with.

    recent, first: int32[items], recent buyers, and those of them whose first order it was in. began, stayed:
    int32[items], newcomers of a longer time who began with each item, and how many of them ordered again.
    """

    recent: NDArray[np.int32]
    first: NDArray[np.int32]
    began: NDArray[np.int32]
    stayed: NDArray[np.int32]
    name: ClassVar[str] = "welcome"

    def scores(self, past: Past, shop: Shop) -> Scores:
        """(Share of recent buyers + share of recent newcomers) × the share of who began with it and ordered again.

        The latter is drawn towards the shop's.
        """
        usual = self.stayed.sum() / max(int(self.began.sum()), 1)
        stays = (self.stayed + DRAWN * usual) / (self.began + DRAWN)
        bought = self.recent / max(int(self.recent.sum()), 1) + self.first / max(int(self.first.sum()), 1)
        return same_for_all(past, (bought * stays).astype(np.float32))

    def evidence(self, past: Past, shop: Shop, user: Ints, item: Ints) -> list[Phrase]:
        """How many bought it lately; of the newcomers among them, how many stayed."""
        return [self._phrase(code) for code in item.tolist()]

    def _phrase(self, item: int) -> Phrase:
        if self.began[item]:
            return "began", {"began": float(self.began[item]), "stayed": float(self.stayed[item])}
        return "bought_lately", {"buyers": float(self.recent[item])}

    def facts(self) -> Facts:
        """None."""
        return {}

    def tables(self) -> Tables:
        """The counts."""
        return {"recent": self.recent, "first": self.first, "began": self.began, "stayed": self.stayed}

    @classmethod
    def restore(cls, facts: Mapping[str, Any], tables: Tables) -> "Welcome":
        """The head that was saved."""
        return cls(tables["recent"], tables["first"], tables["began"], tables["stayed"])
