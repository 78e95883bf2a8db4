"""What the models say of users at a moment: the one scoring path, for a nightly batch and for a request alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from features.events import columns as c
from features.events.sent import Sent
from features.events.store import Store
from features.matrix import evaluate, moments_of
from features.timeline import Array, Timeline
from models.churn import ChurnModel, Reason
from models.recommender import Recommender

Status = Literal["ok", "unknown_user", "too_little_history"]


@dataclass(frozen=True)
class ChurnAnswer:
    """`probability` of no purchase within the horizon; for users without a purchase yet, the share among all users."""

    user_id: str
    status: Status
    probability: float
    risk: str
    reasons: list[Reason]


@dataclass(frozen=True)
class Item:
    """A recommended item, the head that found it, and evidence in words."""

    item_id: str
    score: float
    head: str
    evidence: str


@dataclass(frozen=True)
class RecommendAnswer:
    """Items best first; for users without a purchase yet they are the popular ones, and say so."""

    user_id: str
    status: Status
    items: list[Item]


def churn_answers(timeline: Timeline, as_of: int, model: ChurnModel, reasons: int = 0) -> list[ChurnAnswer]:
    """An answer a user of the timeline, in its order, with up to `reasons` reasons each."""
    moment = moments_of(timeline, [as_of], model.signals)[0]
    seen, bought = moment.present, moment.days_since("purchase")
    scored = np.isfinite(bought)
    values = np.ascontiguousarray(evaluate(moment, model.signals, scored).T)
    probability = np.full(len(timeline), model.base_rate)
    probability[scored] = model.score(values) if len(values) else []
    risks = model.risk(probability)
    why: list[list[Reason]] = [[] for _ in range(len(timeline))]
    for user, found in zip(np.flatnonzero(scored), model.reasons(values, reasons), strict=True):
        why[user] = found
    return [
        ChurnAnswer(user_id, _status(seen[i], scored[i]), float(probability[i]), risks[i], why[i])
        for i, user_id in enumerate(timeline.user_ids.to_pylist())
    ]


def recommend_answers(
    timeline: Timeline,
    as_of: int,
    recommender: Recommender,
    catalogue_code: Array,
    *,
    k: int = 20,
    mode: str = "all",
    exclude: Sequence[str] = (),
) -> list[RecommendAnswer]:
    """An answer a user of the timeline, in its order.

    Args:
        catalogue_code: the recommender's code by the store's item code, -1 for items it does not know.
        exclude: item ids never to return.
    """
    moment = timeline.as_of([as_of])[0]
    known = timeline.known_before(as_of)
    stream, items = known.stream("purchase"), known.values("purchase", c.ITEM_ID)
    codes = np.append(catalogue_code, -1)[items].astype(np.int32)
    stops = moment.place("purchase")
    barred = [int(code) for code in recommender.catalogue.codes(list(exclude)) if code >= 0]
    out = []
    for user, user_id in enumerate(timeline.user_ids.to_pylist()):
        rows = slice(int(stream.offsets[user]), int(stops[user]))
        found = recommender.recommend(codes[rows], stream.ts[rows], as_of, k, mode, barred)
        status = _status(moment.present[user], bool((codes[rows] >= 0).any()))
        ids = recommender.catalogue.ids
        out.append(RecommendAnswer(user_id, status, [Item(ids[s.item], s.score, s.head, s.evidence) for s in found]))
    return out


def _status(seen: bool, enough: bool) -> Status:
    return "ok" if enough else "too_little_history" if seen else "unknown_user"


class CatalogueCodes:
    """The recommender's code of each item of a store, and of items that only a request names."""

    def __init__(self, store: Store, recommender: Recommender) -> None:
        self._store, self._recommender = store, recommender

    @cached_property
    def of_store(self) -> Array:
        return self._recommender.catalogue.codes(self._store.words[c.ITEM_ID].texts)

    def with_sent(self, sent: Sent | None) -> Array:
        """Also of the items that are new in a request."""
        if sent is None or not sent.new_items:
            return self.of_store
        return np.concatenate([self.of_store, self._recommender.catalogue.codes(sent.new_items)])
