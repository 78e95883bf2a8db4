"""The recommender: heads score every item, a blend picks candidates, a ranker orders them, filters hold throughout.

One function answers for a block of users, and each user's answer depends on nobody else's: a batch is a loop over
blocks, a request is a block of one.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.errors import UserError
from models.recommender import inputs, loops
from models.recommender.alike import Alike
from models.recommender.ask import AIMS, Aim, Ask, Mode, aim_of, checked_mode
from models.recommender.blend import Blend
from models.recommender.catalogue import Attributes, Catalogue, Tables
from models.recommender.complement import Complement
from models.recommender.eligible import eligible
from models.recommender.heads import Head, Phrase, Scores, Shop
from models.recommender.history import CART, History
from models.recommender.inputs import ItemTable
from models.recommender.past import Floats, Ints, Past, decay
from models.recommender.popular import Popular, Trending, Welcome
from models.recommender.ranker import Ranker
from models.recommender.repeat import Repeat
from models.recommender.scenes import Scene
from models.recommender.session import Session
from models.recommender.similar_als import LastingAls, SimilarAls
from models.recommender.similar_items import SimilarItems
from models.recommender.tastes import Discover, Taste, Upgrade

ASK = Ask()
FORMAT = 2
KINDS_OF_HEADS: tuple[type[Head], ...] = (
    Repeat,
    Complement,
    Session,
    SimilarItems,
    Alike,
    Upgrade,
    Taste,
    Discover,
    SimilarAls,
    LastingAls,
    Trending,
    Welcome,
    Popular,
)
HEADS: tuple[str, ...] = tuple(str(kind.name) for kind in KINDS_OF_HEADS)
SPECIAL = ("welcome", "upgrade", "discover")  # heads of one mode each: they do not stand for what is bought next
WIDTH = 150  # candidates a user that the ranker orders
BLOCK = 16  # users at a time: their scores then stay in the processor's cache
DISLIKE_HALF_LIFE = 30.0  # days
LED_BY: Mapping[Mode, str] = {"bundle": "complement", "welcome": "welcome"}  # modes that one head orders
ABOUT: Mapping[Mode, str] = {**LED_BY, "repeat": "repeat", "up_sell": "upgrade", "discover": "discover"}
"""Modes with a head of their own: it speaks for what it knows, whichever head found that first."""
LEAD = 1e3  # the weight of such a head beside the blend's
FAINT = 0.5  # of a head's weight in naming who found an item, where the head cannot say why


class Suggestion(NamedTuple):
    """One recommended item: its code, score, the head that speaks for it, and a phrase to check it by."""

    item: int
    score: float
    head: str
    phrase: Phrase


@dataclass(frozen=True)
class Recommender:
    """Everything an answer needs, all of it known before `as_of` (µs, the moment of training).

    heads: by name. blends, rankers: by aim; without a ranker the blend decides. facts: how it was chosen, for
    reviewers; scoring never reads it.
    """

    shop: Shop
    as_of: int
    heads: Mapping[str, Head]
    table: ItemTable
    blends: Mapping[Aim, Blend]
    rankers: Mapping[Aim, Ranker]
    scenes: Mapping[str, Scene]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def catalogue(self) -> Catalogue:
        """The items."""
        return self.shop.catalogue

    def recommend(self, history: History, as_of: int, ask: Ask = ASK) -> Iterator[list[Suggestion]]:
        """For each user in turn the best items, best first; fewer than asked for only if no more may be shown.

        Raises:
            UserError: there is no such scene.
        """
        checked_mode(ask.mode)
        if ask.scene is not None and ask.scene not in self.scenes:
            raise UserError(f"no scene {ask.scene!r}; there are {', '.join(self.scenes)}")
        allowed = ask.filter.allowed(self.shop.attributes)
        allowed[[code for code in self.catalogue.codes([*ask.exclude, *ask.cart]) if code >= 0]] = False
        carted = self.catalogue.codes(list(ask.cart))
        model = self._led_by(LED_BY[ask.mode]) if ask.mode in LED_BY else self
        for begin in range(0, len(history), BLOCK):
            block = history.some(range(begin, min(begin + BLOCK, len(history))))
            yield from model._block(Past.of(_with_cart(block, carted, as_of), as_of), ask, allowed)

    def _led_by(self, head: str) -> "Recommender":
        """What a head knows before all else, without a ranker."""
        blend = self.blends["new"]
        return self.with_blends({"new": replace(blend, weights={**blend.weights, head: LEAD})})

    # ---------------------------------------------------------------------------------------------- candidates

    def scores(self, past: Past, names: Sequence[str] = HEADS) -> dict[str, Scores]:
        """The named heads' scores."""
        return {name: self.heads[name].scores(past, self.shop) for name in names if name in self.heads}

    def candidates(
        self, past: Past, aim: Aim, may: NDArray[np.bool_], width: int, also: str | None = None
    ) -> "Candidates":
        """Of the items that may be shown (bool[users, items]) those that the aim's blend puts first.

        also: a head to ask beside those of blend and ranker.
        """
        blend = self.blends[aim]
        ranker = self.rankers.get(aim)
        read = [name for name in HEADS if (name not in SPECIAL if ranker is None else f"{name}_score" in ranker.names)]
        asked = [name for name in HEADS if name in blend.heads or name in read or name == also]
        scores = self.scores(past, asked)
        total = self.blended(scores, aim)
        codes = loops.top(total, may, width)
        user, place = np.nonzero(codes >= 0)
        item = codes[user, place].astype(np.int64)
        return Candidates(past, user.astype(np.int64), item, scores, total[user, item].astype(np.float64))

    def blended(self, scores: Mapping[str, Scores], aim: Aim) -> Scores:
        """The aim's blend of what the heads scored."""
        blend = self.blends[aim]
        return blend.total(scores, self._demand.get(blend.demand))

    @cached_property
    def _demand(self) -> dict[float, NDArray[np.float32]]:
        popular = self.heads["popular"]
        assert isinstance(popular, Popular)
        exponents = {blend.demand for blend in self.blends.values()} - {0.0}
        return {exponent: popular.demand(exponent).astype(np.float32) for exponent in exponents}

    def rows(self, found: "Candidates", names: tuple[str, ...] | None = None) -> tuple[tuple[str, ...], Any]:
        """What a ranker reads of candidates: names, and float32[candidates, names]."""
        columns = inputs.columns(found.past, self.shop, self.table, found.scores, found.peaks, found.user, found.item)
        chosen = tuple(columns) if names is None else names
        return chosen, inputs.as_rows(columns, chosen, len(found.user))

    # ------------------------------------------------------------------------------------------------- answers

    def _block(self, past: Past, ask: Ask, allowed: NDArray[np.bool_]) -> Iterator[list[Suggestion]]:
        may = eligible(self, past, ask, allowed)
        width = max(WIDTH, ask.most + ask.spare)
        found = self.candidates(past, aim_of(ask.mode), may, width, ABOUT.get(ask.mode))
        score = self._ordered_by(found, ask)
        bounds = np.searchsorted(found.user, np.arange(len(past) + 1))
        order = np.lexsort((found.item, -score, found.user))
        for row in range(len(past)):
            ranked = order[bounds[row] : bounds[row + 1]]
            picks = self._capped(found.item[ranked], ask)
            chosen = ranked[picks]
            yield self._explained(found, row, found.item[chosen], score[chosen], may[row], ask)

    def _ordered_by(self, found: "Candidates", ask: Ask) -> Floats:
        """The final score of each candidate."""
        aim = aim_of(ask.mode)
        score = found.blended
        ranker = self.rankers.get(aim)
        if ranker is not None:
            learned = ranker.scores(self.rows(found, ranker.names)[1])
            # The ranker has seen only users who bought: the others keep the blend's order, below 1 as well.
            has = (found.past.bought.orders > 0)[found.user]
            score = np.where(has, learned, score / (1.0 + score))
        if ask.mode in LED_BY:
            score = found.of_head(self, LED_BY[ask.mode]) + 1e-6 * score
        if ask.scene is not None:
            score = score * self._scene_factor(found, self.scenes[ask.scene])
        return score * self._dislike_factor(found)

    def _scene_factor(self, found: "Candidates", scene: Scene) -> Floats:
        factor = np.ones(len(found.user))
        for name, weight in sorted(scene.weights.items()):
            factor += weight * found.share_of_head(self, name)
        if scene.again:
            factor += scene.again * np.nan_to_num(self.table.column("again")[found.item].astype(np.float64))
        return factor

    def _dislike_factor(self, found: "Candidates") -> Floats:
        """1, or less in categories of items marked `not_interested`: half at once, and back within months."""
        disliked = found.past.disliked
        category = self.shop.attributes.category
        if not len(disliked.user) or not self.shop.attributes.categories:
            return np.ones(len(found.user))
        wide = len(self.shop.attributes.categories)
        known = category[disliked.item] >= 0
        place = disliked.user[known] * wide + category[disliked.item[known]]
        mark = np.zeros(len(found.past) * wide)
        np.maximum.at(mark, place, decay(disliked.value[known], DISLIKE_HALF_LIFE))
        of_item = category[found.item]
        return 1.0 - 0.5 * np.where(of_item >= 0, mark[found.user * wide + np.maximum(of_item, 0)], 0.0)

    def _capped(self, ranked: Ints, ask: Ask) -> Ints:
        """Places of the items to show, at most so many of a category."""
        wanted, most = ask.most + ask.spare, ask.filter.per_category
        if most is None:
            return np.arange(min(wanted, len(ranked)))
        shown: dict[int, int] = {}
        places = []
        for place, code in enumerate(self.shop.attributes.category[ranked].tolist()):
            if code < 0 or shown.get(code, 0) < most:
                shown[code] = shown.get(code, 0) + 1
                places.append(place)
        return np.array(places[:wanted], np.int64)

    def _explained(
        self, found: "Candidates", row: int, item: Ints, score: Floats, may: NDArray[np.bool_], ask: Ask
    ) -> list[Suggestion]:
        wanted = ask.most + ask.spare
        if len(item) < wanted:
            more = self._rest(may, item, wanted, ask)
            item, score = np.concatenate([item, more]), np.concatenate([score, np.zeros(len(more))])
        user = np.full(len(item), row)
        speaks = found.speakers(self, ask.mode, user, item)
        phrases: list[Phrase] = [("alike", {})] * len(item)
        for name in dict.fromkeys(speaks):
            places = [place for place, head in enumerate(speaks) if head == name]
            told = self.heads[name].evidence(found.past, self.shop, user[places], item[places])
            for place, phrase in zip(places, told, strict=True):
                phrases[place] = phrase
        return [Suggestion(*one) for one in zip(item.tolist(), score.tolist(), speaks, phrases, strict=True)]

    def _rest(self, may: NDArray[np.bool_], shown: Ints, wanted: int, ask: Ask) -> Ints:
        """Further items that may be shown, when the candidates were too few: most popular first, then by id."""
        left = may.copy()
        left[shown] = False
        popular = self.heads["popular"]
        assert isinstance(popular, Popular)
        rest = np.flatnonzero(left)
        rest = rest[np.argsort(-popular.score[rest], kind="stable")]
        places = self._capped(np.concatenate([shown, rest]), ask)
        return np.concatenate([shown, rest])[places[places >= len(shown)]][: wanted - len(shown)]

    # ------------------------------------------------------------------------------------------- other versions

    def with_blends(self, blends: Mapping[Aim, Blend], rankers: Mapping[Aim, Ranker] | None = None) -> "Recommender":
        """The same heads under other blends, and other rankers or none."""
        return replace(self, blends=blends, rankers=rankers or {})

    def only(self, head: str) -> "Recommender":
        """One head alone for every aim: a baseline."""
        if head not in self.heads:
            raise ValueError(f"unknown head {head!r}; use one of: {', '.join(self.heads)}")
        return self.with_blends({aim: Blend({head: 1.0}) for aim in AIMS})

    # --------------------------------------------------------------------------------------------------- files

    def save(self, folder: Path) -> None:
        """Write JSON, .npy and LightGBM's text into a folder, made if need be; equal models give equal bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        described = {}
        for name, head in self.heads.items():
            described[name] = {"facts": head.facts(), "tables": _save(folder, f"head.{name}", head.tables())}
        _save(folder, "items", self.shop.attributes.tables() | {"table": self.table.values})
        _write_json(folder / "items.json", {"ids": list(self.catalogue.ids), **self.shop.attributes.texts()})
        for aim, ranker in self.rankers.items():
            (folder / f"ranker.{aim}.txt").write_text(ranker.text, encoding="utf-8")
        content = {
            "format": FORMAT,
            "as_of": self.as_of,
            "heads": described,
            "table": list(self.table.names),
            "blends": {aim: blend.to_json() for aim, blend in self.blends.items()},
            "rankers": {aim: list(ranker.names) for aim, ranker in self.rankers.items()},
            "scenes": {name: scene.to_json() for name, scene in self.scenes.items()},
            "facts": self.facts,
        }
        _write_json(folder / "recommender.json", content)

    @classmethod
    def load(cls, folder: Path) -> "Recommender":
        """The recommender in a folder.

        Raises:
            ValueError: another format, or files that do not fit together.
        """
        content = json.loads((folder / "recommender.json").read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"the recommender has format {content['format']}, this version reads {FORMAT}")
        texts = json.loads((folder / "items.json").read_text(encoding="utf-8"))
        catalogue = Catalogue(tuple(texts.pop("ids")))
        tables = _load(folder, "items", ["category", "brand", "price", "in_stock", "table"])
        table = ItemTable(tuple(content["table"]), tables.pop("table"))
        kinds = {str(kind.name): kind for kind in KINDS_OF_HEADS}
        heads = {
            name: kinds[name].restore(one["facts"], _load(folder, f"head.{name}", one["tables"]))
            for name, one in content["heads"].items()
        }
        rankers = {
            aim: Ranker(tuple(names), (folder / f"ranker.{aim}.txt").read_text(encoding="utf-8"))
            for aim, names in content["rankers"].items()
        }
        loaded = cls(
            Shop(catalogue, Attributes.restore(texts, tables)),
            int(content["as_of"]),
            {name: heads[name] for name in HEADS if name in heads},
            table,
            {aim: Blend.from_json(blend) for aim, blend in content["blends"].items()},
            rankers,
            {name: Scene(**values) for name, values in content["scenes"].items()},
            content["facts"],
        )
        loaded.check()
        return loaded

    def check(self) -> None:
        """Raise ValueError unless every table has a place for every item."""
        items, attributes = len(self.catalogue), self.shop.attributes
        sizes = {f"items.{name}": len(values) for name, values in attributes.tables().items()}
        sizes |= {"items.names": len(attributes.names), "items.table": len(self.table.values)}
        for name, head in self.heads.items():
            tables = head.tables()
            for table, values in tables.items():
                if table in _BY_ITEM:
                    sizes[f"head.{name}.{table}"] = values.shape[-1] - table.endswith("offsets")
            for offsets, ends, weights in _LINKED:
                if offsets in tables:
                    most = len(tables["word_offsets"]) - 1 if ends == "item_words" else items
                    _check_links(f"head.{name}.{offsets}", tables[offsets], tables[ends], tables[weights], most)
        for table, size in sizes.items():
            if size != items:
                raise ValueError(f"{table} covers {size} items, the catalogue has {items}")


_BY_ITEM = frozenset(
    ("item_factors", "offsets", "item_offsets", "orders", "recent", "ever", "week", "usual", "began", "stayed", "share")
) | {"interval", "again", "first"}
_LINKED = (
    ("offsets", "neighbours", "strength"),
    ("word_offsets", "word_neighbours", "word_strength"),
    ("item_offsets", "item_words", "item_weights"),
)


def _check_links(name: str, offsets: NDArray[Any], ends: NDArray[Any], weights: NDArray[Any], most: int) -> None:
    """Raise ValueError if links lead out of their tables: the compiled loops follow them without looking."""
    fit = len(offsets) > 0 and offsets[0] == 0 and (np.diff(offsets) >= 0).all()
    if not fit or not offsets[-1] == len(ends) == len(weights):
        raise ValueError(f"{name} does not fit the links that it cuts")
    if len(ends) and not 0 <= ends.min() <= ends.max() < most:
        raise ValueError(f"{name}: a link leads to {ends.min()} or {ends.max()}, and there are {most}")


@dataclass(frozen=True)
class Candidates:
    """Users and items, ascending by user, with what each head scored for all items and the blended score of these."""

    past: Past
    user: Ints
    item: Ints
    scores: Mapping[str, Scores]
    blended: Floats

    @cached_property
    def peaks(self) -> dict[str, NDArray[np.float32]]:
        """Each head's highest score of each user."""
        return {name: values.max(axis=1, initial=0) for name, values in self.scores.items()}

    def of_head(self, model: Recommender, name: str) -> Floats:
        """One head's score of each candidate."""
        scores = self.scores[name] if name in self.scores else model.scores(self.past, [name])[name]
        return scores[self.user, self.item].astype(np.float64)

    def share_of_head(self, model: Recommender, name: str) -> Floats:
        """One head's score as a share of its highest for the user."""
        scores = self.scores[name] if name in self.scores else model.scores(self.past, [name])[name]
        peak = np.maximum(scores.max(axis=1, initial=0), np.float32(1e-9))
        return (scores[self.user, self.item] / peak[self.user]).astype(np.float64)

    def speakers(self, model: Recommender, mode: Mode, user: Ints, item: Ints) -> list[str]:
        """The head that speaks for each item: the one that, by its weight in the blend, adds most to it."""
        names = list(self.scores)
        weights = dict(model.blends[aim_of(mode)].weights)
        if ABOUT.get(mode) in names:
            weights[ABOUT[mode]] = LEAD
        shares = [
            np.sqrt(self.scores[name][user, item] / np.maximum(self.peaks[name][user], np.float32(1e-9)))
            * max(weights.get(name, 0.0), 0.1)
            * (FAINT if name.endswith("_als") else 1.0)
            for name in names
        ]
        stacked = np.stack(shares)
        largest, some = np.argmax(stacked, axis=0).tolist(), (stacked.max(axis=0) > 0).tolist()
        # Of what no head has anything to say of, `popular` says how few bought it.
        return [names[number] if said else "popular" for number, said in zip(largest, some, strict=True)]


def _with_cart(block: History, carted: NDArray[np.int32], as_of: int) -> History:
    """The history with the cart of the request, as put in just now."""
    carted = carted[carted >= 0]
    if not len(carted):
        return block
    users, n = len(block), len(carted)
    many = np.tile(carted, users)
    ts = np.full(users * n, as_of - 1)
    columns = {
        "user": np.concatenate([block.users, np.repeat(np.arange(users), n)]),
        "item": np.concatenate([block.item, many]),
        "kind": np.concatenate([block.kind, np.full(users * n, CART, np.uint8)]),
        "ts": np.concatenate([block.ts, ts]),
        "order": np.concatenate([block.order, ts]),
        "price": np.concatenate([block.price, np.full(users * n, np.nan)]),
        "quantity": np.concatenate([block.quantity, np.ones(users * n)]),
    }
    return History.of(block.user_ids, **columns)


def _save(folder: Path, prefix: str, tables: Tables) -> list[str]:
    for table, array in tables.items():
        np.save(folder / f"{prefix}.{table}.npy", array, allow_pickle=False)
    return sorted(tables)


def _load(folder: Path, prefix: str, tables: Sequence[str]) -> Tables:
    return {table: np.load(folder / f"{prefix}.{table}.npy", allow_pickle=False) for table in tables}


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
