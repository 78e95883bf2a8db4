"""The recommender: heads and a blend per mode. One function scores one user; a batch is a loop over it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.recommender.blend import Blend, Mode, checked_mode, share
from models.recommender.heads import Arrays, Head
from models.recommender.history import Catalogue, History
from models.recommender.popular import Popular
from models.recommender.purchases import Floats, Purchases
from models.recommender.repeat import Repeat
from models.recommender.similar_als import SimilarAls
from models.recommender.similar_items import SimilarItems

FORMAT = 1
HEADS: tuple[str, ...] = (Repeat.name, SimilarAls.name, SimilarItems.name, Popular.name)
_TABLE_FILE = "{head}.{table}.npy"


class Suggestion(NamedTuple):
    """One recommended item: its code, blended score, the head that added most to it, and a phrase to check it by."""

    item: int
    score: float
    head: str
    evidence: str


def top(scores: Floats, k: int) -> NDArray[np.int64]:
    """Codes of the k highest scores above 0, highest first, equal scores by code (that is, by item id text)."""
    if k <= 0 or not len(scores):
        return np.zeros(0, np.int64)
    # The k-th highest score as a bar lets through every item tied with it, so that the tie is broken by code.
    bar = np.partition(scores, len(scores) - k)[len(scores) - k] if k < len(scores) else 0.0
    above = np.flatnonzero(scores >= bar if bar > 0.0 else scores > 0.0)
    return above[np.argsort(-scores[above], kind="stable")][:k]


@dataclass(frozen=True)
class Recommender:
    """Everything an answer needs, all of it known before `as_of` (µs, the moment of training).

    facts: how the blend was chosen, for reviewers; scoring never reads it.
    """

    catalogue: Catalogue
    as_of: int
    repeat: Repeat
    similar_als: SimilarAls
    similar_items: SimilarItems
    popular: Popular
    blends: Mapping[Mode, Blend]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def heads(self) -> tuple[Head, ...]:
        """The heads in the order of `HEADS`, which also decides which head names a tie."""
        return (self.repeat, self.similar_als, self.similar_items, self.popular)

    @cached_property
    def _demand(self) -> dict[float, Floats]:
        return {
            blend.demand: self.popular.demand(blend.demand) for blend in self.blends.values() if blend.demand != 0.0
        }

    def purchases(self, items: NDArray[np.int32], ts: NDArray[np.int64], as_of: int) -> Purchases:
        """One user's lines, in any order, as the heads read them; nothing at or after `as_of` gets in."""
        return Purchases.of(np.asarray(items, np.int32), np.asarray(ts, np.int64), as_of, len(self.catalogue))

    def head_scores(self, past: Purchases, mode: Mode, names: Sequence[str] = HEADS) -> dict[str, Floats]:
        """The named heads' scores, each of shape `(items,)`; in `cross_sell` what was bought before has 0."""
        scores = {head.name: head.scores(past) for head in self.heads if head.name in names}
        if mode == "cross_sell":
            for values in scores.values():
                values[past.items] = 0.0
        return scores

    def recommend(
        self,
        items: NDArray[np.int32],
        ts: NDArray[np.int64],
        as_of: int,
        k: int = 20,
        mode: str = "all",
        exclude: Sequence[int] = (),
    ) -> list[Suggestion]:
        """The k best items for one user.

        items, ts: the user's purchase lines, codes of the catalogue and µs, in any order. A user without any gets
        the popular head, labelled so. exclude: codes never to return; leaving items out changes no other score.
        Fewer than k come back only when no more items were ever sold. Raises ValueError on an unknown mode.
        """
        known_mode = checked_mode(mode)
        past = self.purchases(items, ts, as_of)
        blend = self.blends[known_mode] if len(past.items) else Blend({Popular.name: 1.0})
        weights = {name: weight for name, weight in blend.weights.items() if weight > 0.0}
        parts = self.head_scores(past, known_mode, tuple(weights))
        total = np.zeros(len(self.catalogue))
        for name, values in parts.items():
            share(values, blend.root)
            values *= weights[name]
            total += values
        if blend.demand != 0.0:
            total *= self._demand[blend.demand]
        total[[code for code in exclude if 0 <= code < len(total)]] = 0.0
        picks = top(total, k)
        return self._explained(past, picks, total[picks], {name: values[picks] for name, values in parts.items()})

    def _explained(
        self, past: Purchases, picks: NDArray[np.int64], scores: Floats, parts: Mapping[str, Floats]
    ) -> list[Suggestion]:
        heads = [head for head in self.heads if head.name in parts]
        largest = np.argmax(np.stack([parts[head.name] for head in heads]), axis=0)
        evidence = [""] * len(picks)
        for number, head in enumerate(heads):
            places = np.flatnonzero(largest == number)
            if len(places):
                phrases = head.evidence(past, picks[places].tolist(), self.catalogue)
                for place, phrase in zip(places.tolist(), phrases, strict=True):
                    evidence[place] = phrase
        return [
            Suggestion(int(item), float(score), heads[int(number)].name, phrase)
            for item, score, number, phrase in zip(picks, scores, largest, evidence, strict=True)
        ]

    def recommend_all(
        self, history: History, as_of: int, k: int = 20, mode: str = "all"
    ) -> Iterator[tuple[str, list[Suggestion]]]:
        """Every user of a history in turn, through the same function as one user online."""
        for row, user in enumerate(history.user_ids):
            items, ts = history.user(row)
            yield user, self.recommend(items, ts, as_of, k, mode)

    def with_blends(self, blends: Mapping[Mode, Blend]) -> "Recommender":
        """The same heads under other blends."""
        return replace(self, blends=blends)

    def only(self, head: str) -> "Recommender":
        """One head alone in every mode: a baseline."""
        if head not in HEADS:
            raise ValueError(f"unknown head {head!r}; use one of: {', '.join(HEADS)}")
        return self.with_blends({mode: Blend({head: 1.0}) for mode in self.blends})

    def save(self, folder: Path) -> None:
        """Write JSON and .npy files into a folder, made if need be; equal models give equal bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        described = {}
        for head in self.heads:
            tables = head.arrays()
            described[head.name] = {"facts": head.facts(), "tables": sorted(tables)}
            for table, array in tables.items():
                np.save(folder / _TABLE_FILE.format(head=head.name, table=table), array, allow_pickle=False)
        _write_json(folder / "items.json", list(self.catalogue.ids))
        content = {
            "format": FORMAT,
            "as_of": self.as_of,
            "heads": described,
            "blends": {mode: blend.to_json() for mode, blend in self.blends.items()},
            "facts": dict(self.facts),
        }
        _write_json(folder / "recommender.json", content)

    @classmethod
    def load(cls, folder: Path) -> "Recommender":
        """The recommender that was saved. Raises ValueError where files do not fit together (digests: the bundle)."""
        content = json.loads((folder / "recommender.json").read_text(encoding="utf-8"))
        if content.get("format") != FORMAT:
            raise ValueError(f"recommender.json has format {content.get('format')!r}; this version reads {FORMAT}")
        catalogue = Catalogue(tuple(json.loads((folder / "items.json").read_text(encoding="utf-8"))))
        loaded = cls(
            catalogue,
            int(content["as_of"]),
            Repeat.restore(*_saved(folder, content, Repeat.name)),
            SimilarAls.restore(*_saved(folder, content, SimilarAls.name)),
            SimilarItems.restore(*_saved(folder, content, SimilarItems.name)),
            Popular.restore(*_saved(folder, content, Popular.name)),
            {checked_mode(mode): Blend.from_json(blend) for mode, blend in content["blends"].items()},
            content["facts"],
        )
        loaded.check()
        return loaded

    def check(self) -> None:
        """Raise ValueError unless every table has a place for every item."""
        sizes = {
            "repeat": self.repeat.catalogue_size,
            "similar_als.item_factors": self.similar_als.item_factors.shape[1],
            "similar_items.offsets": len(self.similar_items.offsets) - 1,
            "popular.recent": len(self.popular.recent),
            "popular.ever": len(self.popular.ever),
        }
        for table, size in sizes.items():
            if size != len(self.catalogue):
                raise ValueError(f"{table} covers {size} items, the catalogue has {len(self.catalogue)}")


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _saved(folder: Path, content: Mapping[str, Any], head: str) -> tuple[dict[str, Any], Arrays]:
    described = content["heads"][head]
    arrays = {
        table: np.load(folder / _TABLE_FILE.format(head=head, table=table), allow_pickle=False)
        for table in described["tables"]
    }
    return described["facts"], arrays
