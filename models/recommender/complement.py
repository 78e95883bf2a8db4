"""complement: what goes into one basket with what the user bought last or has in the cart."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.recommender.catalogue import Tables
from models.recommender.heads import Facts, Phrase, Scores, Shop, nothing
from models.recommender.history import CART
from models.recommender.links import Links
from models.recommender.past import Ints, Pairs, Past, starts


@dataclass(frozen=True)
class Complement:
    """Links between items of the same orders: cosine, Salton and McGill 1983.

    orders: int32[items], orders with the item among `total`. Support and lift of a link follow from its strength.
    """

    links: Links
    orders: NDArray[np.int32]
    total: int
    name: ClassVar[str] = "complement"

    def scores(self, past: Past, shop: Shop) -> Scores:
        """Σ over what was asked of strength."""
        return self.links.spread(self.asked(past), nothing(past, shop))

    def asked(self, past: Past) -> Pairs:
        """The items of the user's newest order, and those in the cart since."""
        bought, history = past.bought, past.history
        newest = bought.rank == 0
        rows = np.flatnonzero((history.kind == CART) & (past.age < 1))
        user = np.concatenate([bought.user[newest], history.users[rows]])
        item = np.concatenate([bought.item[newest], history.item[rows]])
        order = np.lexsort((item, user))
        begin = starts(user[order], item[order])
        return Pairs(user[order][begin], item[order][begin], np.ones(len(begin)))

    def support(self, source: int, place: int) -> tuple[float, float]:
        """Orders with both ends of a link, and how many times more than if they were bought independently."""
        n, m = float(self.orders[source]), float(self.orders[self.links.neighbours[place]])
        both = float(np.rint(self.links.strength[place] * np.sqrt(n * m)))
        return both, both * self.total / (n * m)

    def evidence(self, past: Past, shop: Shop, user: Ints, item: Ints) -> list[Phrase]:
        """The item that it goes with, in how many orders, and how many times more often than by chance."""
        found = self.links.strongest(self.asked(past), user, item)
        return [self._phrase(shop, source, place) for source, place in found]

    def _phrase(self, shop: Shop, source: int, place: int) -> Phrase:
        if source < 0:
            return "alike", {}
        both, lift = self.support(source, place)
        return "together", {"item": shop.called(source), "orders": both, "lift": lift}

    def facts(self) -> Facts:
        """How many orders were counted."""
        return {"total": self.total}

    def tables(self) -> Tables:
        """The links and the items' orders."""
        return {**self.links.tables(), "orders": self.orders}

    @classmethod
    def restore(cls, facts: Mapping[str, Any], tables: Tables) -> "Complement":
        """The head that was saved."""
        return cls(Links.restore(tables), tables["orders"], int(facts["total"]))
