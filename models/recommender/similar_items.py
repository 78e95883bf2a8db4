"""similar_items: what is bought by those who buy what this user bought, or looked at, lately."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from models.recommender.catalogue import Tables
from models.recommender.heads import Facts, Phrase, Scores, Shop, nothing
from models.recommender.links import Links
from models.recommender.past import Ints, Past


@dataclass(frozen=True)
class SimilarItems:
    """Links between items with the same buyers; a user asks with what they like, halved every `half_life` days."""

    links: Links
    half_life: float
    name: ClassVar[str] = "similar_items"

    def scores(self, past: Past, shop: Shop) -> Scores:
        """Σ over liked items of liking × strength."""
        return self.links.spread(past.liking(self.half_life), nothing(past, shop))

    def evidence(self, past: Past, shop: Shop, user: Ints, item: Ints) -> list[Phrase]:
        """The liked item that added most."""
        found = self.links.strongest(past.liking(self.half_life), user, item)
        return [("same_buyers", {"item": shop.called(source)}) if source >= 0 else ("alike", {}) for source, _ in found]

    def facts(self) -> Facts:
        """The half-life."""
        return {"half_life": self.half_life}

    def tables(self) -> Tables:
        """The links."""
        return self.links.tables()

    @classmethod
    def restore(cls, facts: Mapping[str, Any], tables: Tables) -> "SimilarItems":
        """The head that was saved."""
        return cls(Links.restore(tables), float(facts["half_life"]))
