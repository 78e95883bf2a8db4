"""complement: what goes into one basket with what the user has in the cart, or bought last."""

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

DAMPED = 0.25


@dataclass(frozen=True)
class Complement:
    """Links between items of the same orders: both / (√n_i · n_j^¼), for orders with both and with each of the two.

    That lies between the share of orders with i that hold j, which favours what is in every basket, and their cosine,
    which favours rare twins. orders: int32[items], orders with the item among `total`. Support and lift of a link
    follow from its strength.
    """

    links: Links
    orders: NDArray[np.int32]
    total: int
    name: ClassVar[str] = "complement"

    def scores(self, past: Past, shop: Shop) -> Scores:
        """Σ over what was asked of strength."""
        return self.links.spread(self.asked(past), nothing(past, shop))

    def asked(self, past: Past) -> Pairs:
        """What is in the user's cart; without one, the items of the newest order."""
        bought, history = past.bought, past.history
        rows = np.flatnonzero((history.kind == CART) & (past.age < 1))
        newest = (bought.rank == 0) & ~np.isin(bought.user, history.users[rows])
        user = np.concatenate([bought.user[newest], history.users[rows]])
        item = np.concatenate([bought.item[newest], history.item[rows]])
        order = np.lexsort((item, user))
        begin = starts(user[order], item[order])
        return Pairs(user[order][begin], item[order][begin], np.ones(len(begin)))

    def support(self, source: int, place: int) -> tuple[float, float]:
        """Orders with both ends of a link, and how many times more than if they were bought independently."""
        n, m = float(self.orders[source]), float(self.orders[self.links.neighbours[place]])
        both = float(np.rint(self.links.strength[place] * np.sqrt(n) * m**DAMPED))
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
