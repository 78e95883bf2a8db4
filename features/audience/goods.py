"""Which events are about which goods: categories and words of the table of needs, looked up by code."""

import re
import unicodedata
from collections.abc import Sequence
from itertools import compress

import numpy as np

from features.audience.directory import Directory
from features.audience.needs_table import Goods
from features.audience.spells import Seen
from features.events import columns as c
from features.timeline import Array, Timeline

# Scripts written without spaces between words: kana, Han (with its extensions) and Hangul.
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U000323af]")
_WORD = re.compile(r"[^\W_]+")

Told = tuple[int, str, str | None, str | None]


class Matchers:
    """Several goods, each with kinds of events, looked up in the items and categories of one store.

    Attributes:
        items, categories: bool[codes + 1, goods]; the last row, of none and of what the store did not have, is false.
    """

    def __init__(self, asked: Sequence[tuple[Goods, Sequence[str]]], directory: Directory) -> None:
        self._kinds = [frozenset(kinds) for _, kinds in asked]
        self._item_ids, self._paths = directory.texts(c.ITEM_ID), directory.texts(c.CATEGORY)
        goods = [one for one, _ in asked]
        self.items = _by_words(goods, directory.item_names)
        self.categories = _by_words(goods, self._paths) | _by_path(goods, self._paths)
        self._any_item: Array = np.logical_or.reduce(self.items, axis=1)
        self._any_category: Array = np.logical_or.reduce(self.categories, axis=1)

    def seen(self, timeline: Timeline, as_of: int) -> Seen:
        """The events before a moment that are about any of the goods."""
        ts, kind = timeline.columns[c.TS], timeline.columns[c.KIND]
        item, category = self._codes(timeline)
        by_kind = np.zeros((256, len(self._kinds)), bool)
        for code, text in enumerate(timeline.facts.kinds):
            by_kind[code] = [text in kinds for kinds in self._kinds]
        any_kind: Array = np.logical_or.reduce(by_kind, axis=1)
        rows = np.flatnonzero((self._any_item[item] | self._any_category[category]) & any_kind[kind] & (ts < as_of))
        fits = (self.items[item[rows]] | self.categories[category[rows]]) & by_kind[kind[rows]]
        kept: Array = np.logical_or.reduce(fits, axis=1)
        rows, fits = rows[kept], fits[kept]
        user = np.searchsorted(timeline.offsets, rows, side="right") - 1
        return Seen(user, ts[rows].astype(np.int64), kind[rows], item[rows], category[rows], fits)

    def told(self, timeline: Timeline, seen: Seen, at: int) -> Told:
        """Instant, kind, item and category of an event seen."""
        item, category = int(seen.item[at]), int(seen.category[at])
        return (
            int(seen.ts[at]),
            timeline.facts.kinds[int(seen.kind[at])],
            self._item_ids[item] if item < len(self._item_ids) else None,
            self._paths[category] if category < len(self._paths) else None,
        )

    def _codes(self, timeline: Timeline) -> tuple[Array, Array]:
        """Items and categories; none and unknown ones as the row that is false."""
        out = []
        for name, size in ((c.ITEM_ID, len(self._item_ids)), (c.CATEGORY, len(self._paths))):
            codes = timeline.column(name)
            out.append(np.where((codes >= 0) & (codes < size), codes, size))
        return out[0], out[1]


def _by_words(goods: Sequence[Goods], texts: Sequence[str]) -> Array:
    """bool[texts + 1, goods]: has one of the goods' words."""
    has = np.zeros((len(texts) + 1, len(goods)), bool)
    plain = [_plain(text) for text in texts] if any(one.words for one in goods) else []
    for column, one in enumerate(goods):
        for word in map(_plain, one.words):
            word = word.strip() if _UNSPACED.search(word) else word
            has[list(compress(range(len(plain)), (word in text for text in plain))), column] = True
    return has


def _by_path(goods: Sequence[Goods], paths: Sequence[str]) -> Array:
    """bool[paths + 1, goods]: is one of the goods' categories, or lies below it."""
    lies = np.zeros((len(paths) + 1, len(goods)), bool)
    plain = [path.casefold() for path in paths]
    for column, one in enumerate(goods):
        for asked in (category.strip().casefold() for category in one.categories):
            below = (f"{asked} > ", f"{asked}/")
            lies[[code for code, path in enumerate(plain) if path == asked or path.startswith(below)], column] = True
    return lies


def _plain(text: str) -> str:
    """The words of a text in small letters, one space around each."""
    return f" {' '.join(_WORD.findall(unicodedata.normalize('NFKC', text).casefold()))} "
