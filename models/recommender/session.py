"""session: what others went on to in visits like the one that is under way."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from models.recommender.catalogue import Tables
from models.recommender.heads import Facts, Phrase, Scores, Shop, nothing
from models.recommender.links import Links
from models.recommender.past import Ints, Past


@dataclass(frozen=True)
class Session:
    """Links between items of the same visits; a user asks with what they look at now, the newest weighing most."""

    links: Links
    name: ClassVar[str] = "session"

    def scores(self, past: Past, shop: Shop) -> Scores:
        """Σ over the items of the visit of newness × strength; nothing if there is no visit under way."""
        return self.links.spread(past.now, nothing(past, shop))

    def evidence(self, past: Past, shop: Shop, user: Ints, item: Ints) -> list[Phrase]:
        """The item of the visit that added most."""
        found = self.links.strongest(past.now, user, item)
        return [("visit", {"item": shop.called(source)}) if source >= 0 else ("alike", {}) for source, _ in found]

    def facts(self) -> Facts:
        """None."""
        return {}

    def tables(self) -> Tables:
        """The links."""
        return self.links.tables()

    @classmethod
    def restore(cls, facts: Mapping[str, Any], tables: Tables) -> "Session":
        """The head that was saved."""
        return cls(Links.restore(tables))
