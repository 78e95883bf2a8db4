"""What the models say of users at a moment: the one scoring path, for a nightly batch and for a request alike."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from features.events import columns as c
from features.events.sent import Sent
from features.events.store import Store
from features.matrix import evaluate, moments_of
from features.signals import Signal, by_name
from features.timeline import Array, Timeline
from models import alarm as alarms
from models.alarm import alarm
from models.causes import SIGNALS as CAUSE_SIGNALS
from models.causes import Cause, infer_causes
from models.churn import ChurnModel
from models.exposure import Draw, Exploration, draw
from models.reasons import Reason, norms, reasons
from models.recommender import Ask, History, Recommender
from models.recommender.model import Suggestion
from models.recommender.past import INTEREST
from models.words import Language
from models.words import load as load_words

USUAL_SILENCE = "silence_usual_share"
ASK = Ask()
BUNDLED = 3  # complements that a bundle adds to the cart
Status = Literal["ok", "unknown_user", "too_little_history"]


@dataclass(frozen=True)
class ChurnQuestion:
    """What is asked of the churn model.

    Attributes:
        horizon: days without a purchase that count as leaving; None: as in training.
        reasons: at most so many a user.
        cause: also why each user would leave.
    """

    horizon: int | None = None
    reasons: int = 0
    cause: bool = False
    language: Language = "en"


@dataclass(frozen=True)
class ChurnAnswer:
    """What is said of one user; for users without a purchase yet, the shares among all users.

    Attributes:
        probability: of no purchase within the horizon.
        risk: of the horizon asked for in training.
        expected_days: until the next purchase, counting no more than the model's longest horizon; None without one yet.
        lateness: share of the user's own gaps between orders that were no longer than the present silence; None
            without a gap.
        alarm: does the operators' alarm ring; None where there is no browsing to tell from.
        cause: None if not asked for.
    """

    user_id: str
    status: Status
    probability: float
    risk: str
    expected_days: float | None
    lateness: float | None
    alarm: bool | None
    cause: Cause | None
    reasons: list[Reason]


@dataclass(frozen=True)
class Item:
    """A recommended item, the head that speaks for it, and evidence in words.

    propensity: the probability that it is in the list; 1 unless the list was open to chance.
    """

    item_id: str
    score: float
    head: str
    evidence: str
    propensity: float = 1.0


@dataclass(frozen=True)
class Bundle:
    """The cart and the best complements as a set: the price of all, in currency units, and what the discount saves."""

    items: list[str]
    price: float
    saves: float


@dataclass(frozen=True)
class RecommendAnswer:
    """Items best first, or as drawn; who showed no interest in any item gets what good newcomers began with, and
    `status` says so.

    bundle: in the mode of that name, where every price is known.
    draw: how the items were chosen among the best ranked; None if the list was not open to chance.
    """

    user_id: str
    status: Status
    items: list[Item]
    bundle: Bundle | None = None
    draw: Draw | None = None

    @property
    def explored(self) -> bool:
        """Did chance choose the items?"""
        return self.draw is not None and self.draw.explored


def churn_answers(
    timeline: Timeline, as_of: int, model: ChurnModel, question: ChurnQuestion = ChurnQuestion()
) -> list[ChurnAnswer]:
    """An answer a user of the timeline, in its order.

    Raises:
        UserError: the model does not tell of the horizon.
    """
    asked = _signals(model, question.cause)
    moment = moments_of(timeline, [as_of], asked)[0]
    scored = np.isfinite(moment.days_since("purchase"))
    values = np.ascontiguousarray(evaluate(moment, asked, scored).T)
    column = {signal.name: values[:, i] for i, signal in enumerate(asked)}
    inputs = np.ascontiguousarray(values[:, : len(model.signals)])
    probability = np.full(len(timeline), model.base_rate(question.horizon))
    curve = model.curve(inputs, as_of)
    probability[scored] = model.within(curve, model.horizon if question.horizon is None else question.horizon)
    causes: list[Cause] | list[None] = [None] * len(inputs)
    if question.cause:
        given = np.stack([column[name] for name in CAUSE_SIGNALS], axis=1)
        causes = infer_causes(given, model.cause_usual, language=question.language)
    told = zip(
        model.expected_days(curve).tolist(),
        _lateness(column["orders_ever"], column[USUAL_SILENCE]),
        alarm(column[alarms.UNSEEN], column[alarms.BROWSING], model.alarm).answers(),
        causes,
        _reasons(timeline, as_of, model, inputs, scored, question),
        strict=True,
    )
    risks = model.risk(probability)
    return [
        ChurnAnswer(
            user_id,
            status_of(moment.present[i], scored[i]),
            float(probability[i]),
            risks[i],
            *(next(told) if scored[i] else (None, None, None, None, [])),
        )
        for i, user_id in enumerate(timeline.user_ids.to_pylist())
    ]


def _lateness(orders: Array, usual_silence: Array) -> list[float | None]:
    """Share of gaps no longer than the present silence, from the smoothed share of longer ones; None without a gap."""
    longer = np.rint(usual_silence.astype(np.float64) * (orders + 1) - 1)
    gaps = orders.astype(np.float64) - 1
    return [float((n - more) / n) if n > 0 else None for n, more in zip(gaps, longer, strict=True)]


def _signals(model: ChurnModel, cause: bool) -> tuple[Signal, ...]:
    """The model's signals first, in its order, then what else the answer reads."""
    more = [*alarms.SIGNALS, USUAL_SILENCE, "orders_ever", *(CAUSE_SIGNALS if cause else ())]
    known = set(model.names)
    return (*model.signals, *by_name([name for name in dict.fromkeys(more) if name not in known]))


def _reasons(
    timeline: Timeline, as_of: int, model: ChurnModel, inputs: Array, scored: Array, question: ChurnQuestion
) -> list[list[Reason]]:
    """Reasons of the scored users of a timeline, by what each was like at earlier moments."""
    if not question.reasons or not scored.any():
        return [[] for _ in inputs]
    own = norms(timeline, as_of, model.signals)[scored]
    base_rate = model.base_rate(question.horizon)

    def score(values: Array) -> Array:
        return model.score(values, as_of, question.horizon)

    return reasons(score, model.signals, inputs, own, model.usual, base_rate, question.reasons, question.language)


def recommend_answers(
    timeline: Timeline,
    as_of: int,
    recommender: Recommender,
    catalogue_code: Array,
    ask: Ask = ASK,
    language: Language = "en",
    explore: Exploration | None = None,
) -> list[RecommendAnswer]:
    """An answer a user of the timeline, in its order.

    Args:
        catalogue_code: the recommender's code by the store's item code, -1 for items it does not know.
        explore: lets chance fill the lists now and then, each mode and scene by draws of its own.

    Raises:
        UserError: the recommender has no such scene.
    """
    present = timeline.as_of([as_of])[0].present
    history = History.of_timeline(timeline, as_of, catalogue_code.astype(np.int32))
    interested = np.bincount(history.users[np.isin(history.kind, list(INTEREST))], minlength=len(history)) > 0
    if explore is not None:
        explore = replace(explore, salt=f"{explore.salt}/{ask.mode}/{ask.scene or ''}")
        ask = replace(ask, spare=max(explore.pool - ask.most, 0) if explore.share else 0)
    words, ids = load_words(language), recommender.catalogue.ids
    out = []
    for user, found in enumerate(_found(recommender, history, as_of, ask, interested)):
        user_id, status = str(history.user_ids[user]), status_of(bool(present[user]), bool(interested[user]))
        drawn = None if explore is None else draw(len(found), ask.most, explore, user_id, as_of)
        items = [Item(ids[s.item], s.score, s.head, words.offer(*s.phrase)) for s in found]
        if drawn is not None:
            chances = zip(drawn.ranks, drawn.propensity, strict=True)
            items = [replace(items[rank], propensity=chance) for rank, chance in chances]
        out.append(RecommendAnswer(user_id, status, items, _bundle(recommender, ask, items), drawn))
    return out


def _found(
    recommender: Recommender, history: History, as_of: int, ask: Ask, interested: Array
) -> Iterator[list[Suggestion]]:
    """What to offer each user; of strangers only the cart tells anything, and without one they are newcomers."""
    if (recommender.catalogue.codes(ask.cart) >= 0).any():
        return recommender.recommend(history, as_of, ask)
    lists = {
        known: recommender.recommend(history.some(np.flatnonzero(interested == known)), as_of, asked)
        for known, asked in ((True, ask), (False, replace(ask, mode="welcome", k=ask.most)))
    }
    return (next(lists[known]) for known in interested.tolist())


def _bundle(recommender: Recommender, ask: Ask, found: list[Item]) -> Bundle | None:
    """The cart with the three best complements."""
    if ask.mode != "bundle":
        return None
    items = [*dict.fromkeys(ask.cart), *(item.item_id for item in found[:BUNDLED] if item.head == "complement")]
    codes = recommender.catalogue.codes(items)
    prices = recommender.shop.attributes.price[codes]
    if len(items) == len(set(ask.cart)) or (codes < 0).any() or np.isnan(prices).any():
        return None
    price = float(prices.sum())
    return Bundle(items, round(price, 2), round(price * ask.discount, 2))


def status_of(seen: bool, enough: bool) -> Status:
    """Of a user of whom some event is known, and enough for an answer."""
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
