"""alike: items whose names share words with what the user likes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.recommender.catalogue import Tables
from models.recommender.heads import Facts, Phrase, Scores, Shop, nothing
from models.recommender.links import Links
from models.recommender.past import Ints, Pairs, Past, starts


@dataclass(frozen=True)
class Alike:
    """Words of names, weighed by how rare they are (TF-IDF, rows of length 1).

    words: word → items that have it, as links. A user asks with the words of what they like, halved every `half_life`
    days. item_offsets: int64[items + 1], item_words: int32, item_weights: float32: the same, item → words.
    """

    words: Links
    item_offsets: NDArray[np.int64]
    item_words: NDArray[np.int32]
    item_weights: NDArray[np.float32]
    half_life: float
    name: ClassVar[str] = "alike"

    def scores(self, past: Past, shop: Shop) -> Scores:
        """Σ over words of the user's weight × the item's."""
        return self.words.spread(self._profile(past), nothing(past, shop))

    def _profile(self, past: Past) -> Pairs:
        """Weight of each word in what each user likes."""
        liking = past.liking(self.half_life)
        row, at = self._words_of(liking.item)
        user, word = liking.user[row], self.item_words[at].astype(np.int64)
        weight = liking.value[row] * self.item_weights[at]
        order = np.lexsort((row, word, user))
        first = starts(user[order], word[order])
        summed = np.add.reduceat(weight[order], first) if len(first) else np.zeros(0)
        return Pairs(user[order][first], word[order][first], summed)

    def _words_of(self, item: Ints) -> tuple[Ints, Ints]:
        """The places of all words of some items in `item_words`, and which of the items each is of."""
        begin = self.item_offsets[item]
        count = self.item_offsets[item + 1] - begin
        row = np.repeat(np.arange(len(item)), count)
        return row, np.arange(len(row)) + np.repeat(begin - (np.cumsum(count) - count), count)

    def evidence(self, past: Past, shop: Shop, user: Ints, item: Ints) -> list[Phrase]:
        """The liked item whose name shares most with it."""
        liking = past.liking(self.half_life)
        begin, end = np.searchsorted(liking.user, user), np.searchsorted(liking.user, user, side="right")
        return [
            self._phrase(shop, liking.item[first:stop], liking.value[first:stop], code)
            for first, stop, code in zip(begin.tolist(), end.tolist(), item.tolist(), strict=True)
        ]

    def _phrase(self, shop: Shop, liked: Ints, value: NDArray[np.float64], item: int) -> Phrase:
        mine = slice(int(self.item_offsets[item]), int(self.item_offsets[item + 1]))
        row, at = self._words_of(liked)
        weight = np.zeros(len(self.words.offsets) - 1, np.float32)
        weight[self.item_words[mine]] = self.item_weights[mine]
        common = np.bincount(row, self.item_weights[at] * weight[self.item_words[at]], len(liked))
        common[liked == item] = 0  # it shares most with itself, which tells nobody anything
        if not common.any():
            return "alike", {}
        return "name", {"item": shop.called(int(liked[int(np.argmax(common * value))]))}

    def facts(self) -> Facts:
        """The half-life."""
        return {"half_life": self.half_life}

    def tables(self) -> Tables:
        """Words by item, and items by word."""
        by_word = {f"word_{name}": table for name, table in self.words.tables().items()}
        return {
            **by_word,
            "item_offsets": self.item_offsets,
            "item_words": self.item_words,
            "item_weights": self.item_weights,
        }

    @classmethod
    def restore(cls, facts: Mapping[str, Any], tables: Tables) -> "Alike":
        """The head that was saved."""
        words = Links(tables["word_offsets"], tables["word_neighbours"], tables["word_strength"])
        own = (tables["item_offsets"], tables["item_words"], tables["item_weights"])
        return cls(words, *own, float(facts["half_life"]))
