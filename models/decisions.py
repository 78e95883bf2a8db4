"""What to do with each user, with the items that go along: the one path of a nightly plan and of a request alike."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa

from features.audience.directory import Directory
from features.audience.stages import StageText
from features.errors import UserError
from features.events.sent import Sent
from features.events.store import Store
from features.timeline import Timeline
from models.answers import CatalogueCodes, Item, recommend_answers
from models.audience import UNKNOWN, Audience, Profile
from models.contacts import contacts_of
from models.deployed import Deployed
from models.playbook_parts import Offer
from models.policy import NOTHING, STRANGER, Decision, decide
from models.recommender import Ask, Filter
from models.recommender.ask import checked_mode
from models.words import Language
from models.words import load as load_words

SELLABLE = Filter(in_stock=True)  # a message about goods that are sold out disappoints


@dataclass(frozen=True)
class Decided:
    """A user, what to do now, and the items for it."""

    profile: Profile
    decision: Decision
    items: list[Item] = field(default_factory=list)
    reason: str | None = None  # of a contact, in words


class Operator:
    """Answers for the users of one store by one deployed bundle."""

    def __init__(self, store: Store, deployed: Deployed) -> None:
        """
        Raises:
            UserError: the bundle does not say what to do.
        """
        if deployed.learned is None or deployed.operations is None:
            raise UserError(
                f"{deployed.bundle.path} was deployed without an audience or a playbook: "
                "`ebbtide train churn`, promote and deploy again"
            )
        self.directory = Directory(store)
        self.operations = deployed.operations
        self.audience = Audience(deployed.learned, deployed.operations, deployed.churn, self.directory)
        self._store, self._recommender = store, deployed.recommender

    @property
    def recommends(self) -> bool:
        """Is there a recommender, so that contacts have items?"""
        return self._recommender is not None

    @cached_property
    def _codes(self) -> CatalogueCodes | None:
        return None if self._recommender is None else CatalogueCodes(self._store, self._recommender)

    def decide(
        self,
        timeline: Timeline,
        as_of: int,
        language: Language = "en",
        *,
        sent: Sent | None = None,
        explain: bool = False,
    ) -> list[Decided]:
        """What to do with each user of a timeline of the store, in its order.

        Args:
            sent: events of a request that are in the timeline.
            explain: also how each decision came about, rule by rule.
        """
        profiles = self.audience.profiles(timeline, as_of, language)
        contacts = contacts_of(timeline, as_of, self.directory, sent)
        entries = [self.directory.entry(profile.user_id) for profile in profiles]
        decisions = decide(profiles, contacts, entries, as_of, self.operations.playbook, explain)
        decisions = [
            _instead(one, STRANGER) if profile.stage == UNKNOWN else one
            for profile, one in zip(profiles, decisions, strict=True)
        ]
        items = self._items(timeline, as_of, decisions, language, sent)
        decisions = [_with_content(one, items.get(user, [])) for user, one in enumerate(decisions)]
        return [
            Decided(profile, decision, items.get(user, []), self._reason(profile, decision, language))
            for user, (profile, decision) in enumerate(zip(profiles, decisions, strict=True))
        ]

    def _items(
        self, timeline: Timeline, as_of: int, decisions: Sequence[Decision], language: Language, sent: Sent | None
    ) -> dict[int, list[Item]]:
        """The items of each user who is contacted, asked for together by purpose."""
        if self._recommender is None or self._codes is None:
            return {}
        asked: dict[tuple[str, int], list[int]] = {}
        for user, decision in enumerate(decisions):
            if decision.mode is not None and decision.k:
                asked.setdefault((decision.mode, decision.k), []).append(user)
        codes, out = self._codes.with_sent(sent), {}
        for (mode, k), users in asked.items():
            ask = Ask(mode=checked_mode(mode), k=k, filter=SELLABLE)
            told = recommend_answers(some(timeline, users), as_of, self._recommender, codes, ask, language)
            out.update({user: answer.items for user, answer in zip(users, told, strict=True)})
        return out

    def _reason(self, profile: Profile, decision: Decision, language: Language) -> str | None:
        """Why a user is contacted, and with what, in words."""
        if decision.action != "contact" or decision.step is None:
            return None
        words, book = load_words(language), self.operations.playbook
        stage = _called(self.operations.stages.text(profile.stage), language)
        days = profile.days_since_purchase
        told = ["never" if days is None else "bought"]
        if profile.leaving == "about_to_leave":
            told.append("leaving" if profile.risk == "high" else "alarm")
        steps = next(len(ladder.step) for ladder in book.ladder if ladder.name == decision.ladder)
        values: dict[str, float | str] = {"stage": stage, "days": days or 0.0, "chance": profile.probability or 0.0}
        values |= {"step": str(decision.step), "of": str(steps)}
        if decision.offer is not None:
            values["offer"] = _called(book.offers[decision.offer], language)
        told.append("bare" if decision.offer is None else "step")
        text = words.plan("between", {}).join(words.plan(name, values) for name in told)
        return text[:1].upper() + text[1:]


def _with_content(decision: Decision, items: Sequence[Item]) -> Decision:
    """No contact, where it would hold neither an offer nor items."""
    if decision.action != "contact" or decision.offer is not None or items:
        return decision
    return _instead(decision, NOTHING)


def _instead(decision: Decision, reason: str) -> Decision:
    """No contact, for this reason."""
    ladder, step, why = decision.ladder, decision.step, [*decision.why, f"no contact: {reason}"]
    return Decision(decision.user_id, "none", reason, ladder, step, why=why if decision.why else [])


def _called(named: StageText | Offer, language: Language) -> str:
    return named.zh if language == "zh" else named.en


def some(timeline: Timeline, users: Sequence[int]) -> Timeline:
    """Some of a timeline's users, by their places."""
    chosen = np.array(users, np.int64)
    sizes = np.diff(timeline.offsets)[chosen]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    rows = np.repeat(timeline.offsets[chosen] - offsets[:-1], sizes) + np.arange(offsets[-1])
    columns = {name: values[rows] for name, values in timeline.columns.items()}
    return Timeline(timeline.user_ids.take(pa.array(chosen)), offsets, columns, timeline.facts)
