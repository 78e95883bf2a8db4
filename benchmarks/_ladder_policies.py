"""Whom to contact each day: by a playbook, everybody, the highest risk of leaving first, or by the truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np

from benchmarks._ladder_log import Contact, Log, Shop
from features.events import columns as c
from features.timeline import Array
from models.answers import churn_answers
from models.audience import UNKNOWN, Audience, Profile
from models.contacts import Contacts, contacts_of
from models.playbook import Playbook
from models.policy import CONTROL, decide, in_control

# What an offer is to the simulated users; a reminder is whatever promises nothing, or what nobody there asks for.
ARM_OF: Final = {
    "coupon": "coupon",
    "repair": "repair",
    "trial": "discovery",
    **dict.fromkeys(("reminder", "invite_reward", "survey", "benefit", "gift"), "reminder"),
}
SAME: Final = "same_for_all"  # the ladder of the other two policies: the three-step recall, by the shop's own channel
STEPS: Final = ((0, "coupon"), (2, "invite_reward"), (6, "trial"))
CHANNEL: Final = "push"
BEST: Final = {"natural": "trial", "soft": "coupon", "experience": "repair"}  # by the stated responses
REACH_DAYS: Final = 180  # the highest risk is sought among buyers of so many days, of whom the model was taught


class Known(NamedTuple):
    """What is known of each user of a shop at a moment; None of whom nothing is."""

    profiles: list[Profile | None]
    contacts: list[Contacts | None]


@dataclass
class Policies:
    """Policies on one shop, each writing a log of its own.

    Attributes:
        books: of the policies that follow a playbook. "highest risk" makes as many contacts as the first of them.
        names: of all policies that are to run.
        held_out: bool[users]: in the playbook's control group, whom no policy contacts.
        begun: policy → (user, ladder) → the instant (µs) at which it first addressed a user by a ladder; of the control
            group, at which it would have.
    """

    shop: Shop
    audience: Audience
    books: Mapping[str, Playbook]
    names: Sequence[str]
    stays: float
    logs: dict[str, Log] = field(default_factory=dict)
    begun: dict[str, dict[tuple[int, str], int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.logs = {name: Log(self.shop, self.stays) for name in self.names}
        self.begun = {name: {} for name in self.names}
        self.book = next(iter(self.books.values()))
        control = self.book.control
        self.held_out = np.array([in_control(user, control.share, control.salt) for user in self.shop.ids])

    def day(self, day: int, base: Known) -> None:
        """A day of each policy; `base` is what is known without any contact."""
        chosen = {n: self._by_playbook(n, day, self._known(n, day, base)) for n in self.names if n in self.books}
        count = len(chosen[next(iter(self.books))])
        if "highest risk" in self.names:
            chosen["highest risk"] = self._by_risk(day, self._scored(day, base), count)
        if "everybody" in self.names and day in dict(STEPS):
            chosen["everybody"] = self._all(day, base)
        if "oracle" in self.names:
            chosen["oracle"] = self._by_truth(day, base)
        for name, contacts in chosen.items():
            self.logs[name].add(contacts)

    def _known(self, name: str, day: int, base: Known) -> Known:
        log, at = self.logs[name], self.shop.at(day)
        if not log.touched:
            return base
        timeline, out = log.timeline(), Known(list(base.profiles), list(base.contacts))
        told = self.audience.profiles(timeline, at), contacts_of(timeline, at, self.shop.directory)
        for user, profile, contact in zip(log.touched, *told, strict=True):
            out.profiles[user], out.contacts[user] = profile, contact
        return out

    def _scored(self, day: int, base: Known) -> Known:
        """What "highest risk" needs to know: of the profiles only the risk is today's."""
        log, at, model = self.logs["highest risk"], self.shop.at(day), self.audience.churn
        if not log.touched or model is None:
            return base
        timeline, out = log.timeline(), Known(list(base.profiles), list(base.contacts))
        told = churn_answers(timeline, at, model), contacts_of(timeline, at, self.shop.directory)
        for user, answer, contact in zip(log.touched, *told, strict=True):
            profile = base.profiles[user]
            assert profile is not None
            out.profiles[user], out.contacts[user] = replace(profile, probability=answer.probability), contact
        return out

    def _by_playbook(self, name: str, day: int, known: Known) -> list[Contact]:
        at, pairs = self.shop.at(day), enumerate(zip(*known, self.shop.entries, strict=True))
        asked = [(user, p, q, entry) for user, (p, q, entry) in pairs if p and q and p.stage != UNKNOWN]
        users, profiles, contacts, entries = zip(*asked, strict=True)
        decisions = decide(profiles, contacts, entries, at, self.books[name])
        out = []
        for user, told in zip(users, decisions, strict=True):
            if told.ladder is None or (told.action != "contact" and told.reason != CONTROL):
                continue
            self.begun[name].setdefault((user, told.ladder), at)
            if told.send_at is not None:
                campaign = f"{told.ladder}/{told.step}"
                out.append(self._contact(user, told.send_at, campaign, told.channel or "", told.offer, told.mode))
        return out

    def _by_truth(self, day: int, known: Known) -> list[Contact]:
        """Who truly drifts away, and only they, get thrice what answers best to the cause; no policy can know it."""
        at = self.shop.at(day)
        state = self.shop.state(np.arange(len(self.shop.ids)), np.full(len(self.shop.ids), at))
        begun, out = self.begun["oracle"], []
        for user, contact in enumerate(known.contacts):
            if contact is None or contact.opted_out or self.shop.entries[user].registered_at is None:
                continue
            if state[user] in BEST:
                begun.setdefault((user, "oracle"), at)
            waited = (at - begun.get((user, "oracle"), c.NEVER)) // c.DAY
            if waited in dict(STEPS) and not self.held_out[user] and state[user] in BEST:
                out.append(self._contact(user, at, f"oracle/{day}", CHANNEL, BEST[state[user]]))
        return out

    def _all(self, day: int, known: Known) -> list[Contact]:
        """Everybody whom the shop knew at the beginning, whatever their state."""
        step = next(number for number, (of, _) in enumerate(STEPS) if of == day)
        begin = (self.shop.at(0) - self.shop.begin) / c.DAY
        able = [user for user in self._able(known) if self.shop.people.registered[user] < begin]
        return [self._same(user, day, step) for user in able]

    def _by_risk(self, day: int, known: Known, count: int) -> list[Contact]:
        """So many contacts: the steps that are due to whom is not back, then whoever is likeliest to leave."""
        due, fresh = [], []
        for user in self._able(known):
            profile, contact = known.profiles[user], known.contacts[user]
            assert profile is not None
            assert contact is not None
            sent = [message.ts for message in contact.messages if message.campaign.startswith(SAME)]
            if sent:
                step = len(sent)
                waited = (self.shop.at(day) - sent[0]) // c.DAY
                if step < len(STEPS) and waited >= STEPS[step][0] and contact.newest() < sent[0]:
                    due.append(self._same(user, day, step))
            elif profile.probability is not None and bought(contact) >= self.shop.at(day) - REACH_DAYS * c.DAY:
                fresh.append((-profile.probability, user))
        begins = [self._same(user, day, 0) for _, user in sorted(fresh)[: max(count - len(due), 0)]]
        return [*due[:count], *begins]

    def _able(self, known: Known) -> list[int]:
        """Users who are known, not held out, and have not opted out."""
        pairs = enumerate(zip(*known, strict=True))
        return [
            at for at, (p, q) in pairs if p and q and p.stage != UNKNOWN and not self.held_out[at] and not q.opted_out
        ]

    def _same(self, user: int, day: int, step: int) -> Contact:
        return self._contact(user, self.shop.at(day), f"{SAME}/{step + 1}", CHANNEL, STEPS[step][1])

    def _contact(
        self, user: int, at: int, campaign: str, channel: str, offer: str | None, mode: str | None = None
    ) -> Contact:
        arm = ARM_OF[offer] if offer else "discovery" if mode == "discover" else "reminder"
        cost = self.book.channels[channel].cost
        if offer and arm != "coupon":  # a coupon costs what it takes off the price, where it is used
            cost += self.book.offers[offer].cost * self.book.offers[offer].used
        return Contact(user, at, arm, campaign, channel, cost)


def bought(contact: Contacts) -> int:
    """Instant of the newest purchase, µs; -1 without one."""
    return contact.last.get("purchase", -1)


def known_without(shop: Shop, audience: Audience, day: int) -> Known:
    """What is known of each user on a day if nobody is contacted."""
    out = Known([None] * len(shop.ids), [None] * len(shop.ids))
    for timeline in shop.base:
        told = audience.profiles(timeline, shop.at(day)), contacts_of(timeline, shop.at(day), shop.directory)
        for profile, contact in zip(*told, strict=True):
            out.profiles[shop.place[profile.user_id]] = profile
            out.contacts[shop.place[profile.user_id]] = contact
    return out


def places(known: Known, wanted: Sequence[str]) -> Array:
    """bool[users]: leaving or stage is one of the wanted."""
    return np.array([p is not None and (p.leaving in wanted or p.stage in wanted) for p in known.profiles])
