"""What to do with each user now: one contact or none, by the playbook, and why.

A pure function of who the user is (`Profile`), what their timeline tells of contacts (`Contacts`), what the users table
tells (`Entry`) and the moment: no user's answer depends on another's, and asking twice changes nothing. A contact
counts as made once its `message_sent` is in the log; until then a later run gives it again, with the same `contact_id`,
by which whoever sends it knows that it is the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from features.audience.directory import ALL_CHANNELS, Entry
from features.events import columns as c
from models.audience import Profile
from models.contacts import NO_TIME, Contacts, Message
from models.playbook import WEEK, Ladder, Playbook
from models.playbook_parts import Channel, Offer, Step, Value
from models.policy_due import COOLING, DONE, DUE, NO_MATCH, NOT_YET, RETURNED, Climb, Standing, is_tired
from models.policy_when import Calendar

CONTROL: Final = "control group"
OPTED_OUT: Final = "opted out"
NO_CONSENT: Final = "no consent"
SENT_TODAY: Final = "sent today"
WEEK_CAP: Final = "week cap"
CHANNEL_CAP: Final = "channel cap"
NOT_GAINFUL: Final = "not gainful"
NOTHING: Final = "nothing to offer"  # neither an offer nor items that the step's mode asks for
STRANGER: Final = "nothing is known of the user"  # so no ladder is for them, not even one that is for everybody
UNDER_WAY: Final = "another ladder under way"
# What tells most of a user to whom nothing is due, first.
_PASSED: Final = (NOT_YET, UNDER_WAY, RETURNED, COOLING, DONE, NO_MATCH)
REASONS: Final = (
    *(DUE, CONTROL, OPTED_OUT, NO_CONSENT, SENT_TODAY, WEEK_CAP, CHANNEL_CAP, NOT_GAINFUL, NOTHING, STRANGER),
    *_PASSED,
)


@dataclass(frozen=True)
class Decision:
    """What to do with a user.

    Attributes:
        action: "contact" or "none".
        reason: one of `REASONS`; why the action is none, or "step due".
        ladder: and `step` (from 1): of the contact, or of the one that `reason` kept from being made.
        send_at: µs; the moment, or the end of the quiet hours.
        contact_id: the same for the same contact whenever it is asked for; the `event_id` of its `message_sent`.
        cost: expected, currency units.
        expected_gain: see `expected_gain`; None where it is not known.
        why: rule by rule, if asked for.
    """

    user_id: str
    action: str
    reason: str
    ladder: str | None = None
    step: int | None = None
    channel: str | None = None
    offer: str | None = None
    mode: str | None = None
    k: int = 0
    send_at: int | None = None
    contact_id: str | None = None
    cost: float = 0.0
    expected_gain: float | None = None
    why: list[str] = field(default_factory=list)

    @property
    def campaign_id(self) -> str | None:
        """What the contact's `message_sent` must carry, so that the ladder goes on."""
        return f"{self.ladder}/{self.step}" if self.action == "contact" else None


def decide(
    profiles: Sequence[Profile],
    contacts: Sequence[Contacts],
    entries: Sequence[Entry],
    as_of: int,
    playbook: Playbook,
    explain: bool = False,
) -> list[Decision]:
    """One decision a user, in the order given; the three sequences are of the same users.

    Of the ladders in the playbook's order, the first that has a step due whose channel is open to the user is carried
    out, if the user may be contacted at all now. `explain` fills in `Decision.why`.
    """
    rules = _Rules(playbook, as_of)
    users = zip(profiles, contacts, entries, strict=True)
    return [rules.decide(profile, contact, entry, explain) for profile, contact, entry in users]


def expected_gain(profile: Profile, offer: Offer, channel: Channel, value: Value) -> float | None:
    """Currency units that a contact is expected to bring, less what it costs.

    gain = P x lift(offer, cause) x daily value x days x margin - cost, with P the probability that the user leaves (the
    churn model's, no purchase within its horizon) and cost = channel's + offer's x share that uses it. `lift` is the
    playbook's assumption: the gain is as good as that is. None where P is not known.
    """
    if profile.probability is None:
        return None
    saved = profile.probability * offer.lift_for(profile.cause)
    return saved * profile.daily_value * value.days * value.margin - expected_cost(offer, channel)


def expected_cost(offer: Offer | None, channel: Channel) -> float:
    """Currency units a contact."""
    return channel.cost + (offer.cost * offer.used if offer else 0.0)


def in_control(user_id: str, share: float, salt: str) -> bool:
    """Is a user in the control group? By a hash of salt and id, so for ever."""
    digest = blake2b(f"{salt}\0{user_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def contact_id(user_id: str, ladder: str, step: int, anchor: int, before: int) -> str:
    """Name of one contact: of a step, for an occasion, after the ladder's newest message before it (instants, µs)."""
    text = "\0".join((user_id, ladder, str(step), str(anchor), str(before)))
    return blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class _Due:
    """A ladder's step that is due, and the instant of the ladder's newest message (µs)."""

    ladder: Ladder
    standing: Standing
    before: int

    @property
    def number(self) -> int:
        return self.standing.step or 0

    @property
    def step(self) -> Step:
        return self.ladder.step[self.number - 1]


class _Rules:
    """A playbook at a moment."""

    def __init__(self, book: Playbook, as_of: int) -> None:
        self._book, self._as_of = book, as_of
        self._calendar = Calendar(book.zone, book.quiet)
        self._send_at = self._calendar.send_at(as_of)
        self._today = self._calendar.date(self._send_at)
        self._climbs = [Climb(ladder, book, self._calendar, as_of, self._send_at) for ladder in book.ladder]

    def decide(self, profile: Profile, contact: Contacts, entry: Entry, explain: bool) -> Decision:
        why: list[str] | None = [] if explain else None
        due, blocked, reason = self._first_due(profile, contact, entry, why)
        if due is None and blocked is not None:
            return self._none(profile, blocked[1], blocked[0], why)
        if due is None:
            return self._none(profile, reason, None, why)
        if block := self._blocked(contact):
            return self._none(profile, block, due, why)
        step = due.step
        offer = self._book.offers[step.offer] if step.offer else None
        channel = self._book.channels[step.channel]
        _tell(why, "contact", f"{due.ladder.name}, step {due.number}, by {step.channel}")
        return Decision(
            *(
                profile.user_id,
                "contact",
                DUE,
                due.ladder.name,
                due.number,
                step.channel,
                step.offer,
                step.mode,
                step.k,
            ),
            send_at=self._send_at,
            contact_id=contact_id(profile.user_id, due.ladder.name, due.number, due.standing.anchor, due.before),
            cost=expected_cost(offer, channel),
            expected_gain=expected_gain(profile, offer, channel, self._book.value) if offer else None,
            why=why or [],
        )

    def _first_due(
        self, profile: Profile, contact: Contacts, entry: Entry, why: list[str] | None
    ) -> tuple[_Due | None, tuple[_Due, str] | None, str]:
        """The first step due that its channel lets pass; the first that it does not, and why; else why none is due."""
        sent = _by_ladder(contact.messages)
        slow = self._slow(contact, why) if sent else 1.0
        busy = self._under_way(profile, contact, entry, sent, slow)
        blocked: tuple[_Due, str] | None = None
        passed = len(_PASSED) - 1
        for climb in self._climbs:
            ladder, of_ladder = climb.ladder, sent.get(climb.ladder.name, ())
            standing = climb.standing(profile, contact, entry, of_ladder, slow)
            if standing.reason == NO_MATCH and why is None:
                continue
            if standing.step == 1 and ladder.trigger.on == "state":
                if busy and busy != ladder.name:
                    standing = Standing(None, UNDER_WAY, busy)
                elif sent and (sister := self._resting(climb, sent, slow)):
                    standing = Standing(None, COOLING, f"{sister} was the last of its group")
            if why is not None:
                detail = standing.detail or climb.misses(profile)
                why.append(f"{ladder.name}: {standing.reason} ({detail})")
            if standing.step is None:
                passed = min(passed, _PASSED.index(standing.reason))
                continue
            due = _Due(ladder, standing, of_ladder[-1].ts if of_ladder else 0)
            block = self._step_blocked(profile, contact, entry, due)
            if block is None:
                return due, blocked, DUE
            _tell(why, ladder.name, f"step {due.number} by {due.step.channel} is blocked: {block}")
            blocked = blocked or (due, block)
        return None, blocked, _PASSED[passed]

    def _under_way(
        self, profile: Profile, contact: Contacts, entry: Entry, sent: Mapping[str, list[Message]], slow: float
    ) -> str | None:
        """The first ladder that has begun and will go on: no other that a state sets off begins meanwhile."""
        for climb in self._climbs if sent else ():
            of_ladder = sent.get(climb.ladder.name)
            if not of_ladder:
                continue
            standing = climb.standing(profile, contact, entry, of_ladder, slow)
            if standing.reason == NOT_YET:
                return climb.ladder.name
            due = _Due(climb.ladder, standing, of_ladder[-1].ts)
            if due.number > 1 and self._step_blocked(profile, contact, entry, due) is None:
                return climb.ladder.name
        return None

    def _resting(self, climb: Climb, sent: Mapping[str, list[Message]], slow: float) -> str | None:
        """Another ladder of the same group whose pause is not over."""
        group = climb.ladder.group
        sisters = (other for other in self._climbs if group and other.ladder.group == group and other is not climb)
        return next((one.ladder.name for one in sisters if one.rests(sent.get(one.ladder.name, ()), slow)), None)

    def _slow(self, contact: Contacts, why: list[str] | None) -> float:
        """By how much the user's ladders slow down."""
        tired = self._book.tired
        if not is_tired(contact, tired, self._as_of - c.DAY):
            return 1.0
        _tell(why, "tired", f"opens fewer messages than before: ladders are {tired.slow:g} times as slow")
        return tired.slow

    def _blocked(self, contact: Contacts) -> str | None:
        """Why the user may not be contacted now, whatever the ladder."""
        if in_control(contact.user_id, self._book.control.share, self._book.control.salt):
            return CONTROL
        if not contact.messages:
            return None
        if any(self._calendar.date(message.ts) >= self._today for message in contact.messages):
            return SENT_TODAY
        return WEEK_CAP if len(self._of_week(contact)) >= self._book.caps.week else None

    def _of_week(self, contact: Contacts) -> list[Message]:
        """Messages of the seven dates that end with the one on which a contact would go out."""
        return [message for message in contact.messages if self._calendar.date(message.ts) > self._today - WEEK]

    def _step_blocked(self, profile: Profile, contact: Contacts, entry: Entry, due: _Due) -> str | None:
        """Why this step's message may not go out."""
        step = due.step
        if block := self._unwanted(step.channel, contact, entry):
            return block
        cap = self._book.caps.channels.get(step.channel)
        if cap is not None and sum(message.channel == step.channel for message in self._of_week(contact)) >= cap:
            return CHANNEL_CAP
        only = due.ladder.only_if_gainful
        if (self._book.value.only_if_gainful if only is None else only) and step.offer:
            offer, channel = self._book.offers[step.offer], self._book.channels[step.channel]
            gain = expected_gain(profile, offer, channel, self._book.value)
            if gain is not None and gain <= 0:
                return NOT_GAINFUL
        return None

    def _unwanted(self, channel: str, contact: Contacts, entry: Entry) -> str | None:
        """Has the user refused the channel, or not agreed to it where that is required? The newest word counts.

        An opt-out by a channel that the playbook does not have is taken as one of all: rather a message too few.
        """
        outs = (
            at for of, at in contact.opted_out.items() if of in (channel, ALL_CHANNELS) or of not in self._book.channels
        )
        refused = max(outs, default=NO_TIME)
        agreed = max(contact.opted_in.get(channel, NO_TIME), contact.opted_in.get(ALL_CHANNELS, NO_TIME))
        if refused > NO_TIME and refused >= agreed:
            return OPTED_OUT
        if self._book.consent == "assumed" or agreed > NO_TIME:
            return None
        consent = entry.consent or ()
        return None if channel in consent or ALL_CHANNELS in consent else NO_CONSENT

    def _none(self, profile: Profile, reason: str, due: _Due | None, why: list[str] | None) -> Decision:
        _tell(why, "no contact", reason)
        name, number = (due.ladder.name, due.number) if due else (None, None)
        return Decision(profile.user_id, "none", reason, name, number, why=why or [])


def _by_ladder(messages: Sequence[Message]) -> Mapping[str, list[Message]]:
    """A user's messages that carried out steps, by ladder, oldest first."""
    out: dict[str, list[Message]] = {}
    for message in messages:
        if rung := message.rung:
            out.setdefault(rung[0], []).append(message)
    return out


def _tell(why: list[str] | None, subject: str, text: str) -> None:
    if why is not None:
        why.append(f"{subject}: {text}")
