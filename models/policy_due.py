"""Which step of a ladder is due to a user, told by the messages in the timeline and by nothing else.

A ladder runs from a step 1 to its last step, until the user returns or until a step is long overdue. While it runs, the
user's state may change without effect: a dormant user who becomes lost in the middle is still being recalled. A
ladder that is over begins again where `who` and the trigger hold once more and its pause is over.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from features.audience.directory import Entry
from models.audience import Profile
from models.contacts import Contacts, Message
from models.playbook import Ladder, Playbook
from models.playbook_parts import Tired
from models.policy_when import Calendar, occasion
from models.policy_who import Matcher

DUE: Final = "step due"
NO_MATCH: Final = "no rule matches"
NOT_YET: Final = "next step not due"
RETURNED: Final = "returned"
DONE: Final = "ladder done"
COOLING: Final = "cooling down"
LAPSED_DAYS: Final = 30  # so long overdue, a step is given up: what it would go on with is forgotten


@dataclass(frozen=True)
class Standing:
    """Where a user stands on a ladder.

    Attributes:
        step: that is due, counted from 1; None if none is.
        reason: one of this module's words.
        detail: more about it, where it is asked for or cheap to say.
        anchor: instant (µs) of the occasion that a step 1 answers to, 0 without one.
    """

    step: int | None
    reason: str
    detail: str = ""
    anchor: int = 0


_STATE_MATCHES: Final = Standing(1, DUE, "who matches")
_NO_MATCH: Final = Standing(None, NO_MATCH)


class Climb:
    """One ladder, asked of many users for a contact that would go out at one instant."""

    def __init__(self, ladder: Ladder, book: Playbook, calendar: Calendar, as_of: int, send_at: int) -> None:
        self.ladder = ladder
        self._book, self._calendar, self._as_of, self._send_at = book, calendar, as_of, send_at
        self._today = calendar.date(send_at)
        self._matcher = Matcher(ladder.who)
        on = ladder.trigger.on
        self._state, self._on_a_day = on == "state", on == "day"
        # A day of the shop is the same for everybody.
        nobody = (Contacts(""), Entry())
        self._day = occasion(ladder.trigger, *nobody, send_at, as_of, calendar, book) if self._on_a_day else None
        self._no_occasion = Standing(None, NO_MATCH, f"no occasion: {on}")

    def misses(self, profile: Profile) -> str:
        """What keeps a user from being one of `who`; "" if nothing does."""
        return self._matcher.misses(profile)

    def rests(self, sent: Sequence[Message], slow: float) -> bool:
        """Is the pause after this ladder's newest message not over?"""
        return bool(sent) and self._today - self._calendar.date(sent[-1].ts) < ceil(self.ladder.pause * slow)

    def standing(
        self, profile: Profile, contact: Contacts, entry: Entry, sent: Sequence[Message], slow: float
    ) -> Standing:
        """Of a user to whom this ladder's messages `sent` went, oldest first; times are `slow` times as long."""
        if not sent:
            return self._begun(profile, contact, entry, sent)
        run = newest_run(sent)
        number, waited = step_of(run[-1]), self._today - self._calendar.date(run[-1].ts)
        over = self._over(contact, run, number, waited, slow)
        if over is None:
            gap = self._gap(number, slow)
            if waited >= gap:
                return Standing(number + 1, DUE, f"step {number} was sent {waited} days ago, {gap} are asked")
            return Standing(None, NOT_YET, f"step {number + 1} in {gap - waited} days")
        begun = self._begun(profile, contact, entry, sent)
        pause = ceil(self.ladder.pause * slow)
        if begun.step is None or waited >= pause:
            return begun
        return Standing(None, over, f"{over} {waited} days after step {number}; may begin again after {pause}")

    def _gap(self, number: int, slow: float) -> int:
        """Dates from a step (counted from 1) to the next."""
        steps = self.ladder.step
        return ceil((steps[number].day - steps[number - 1].day) * slow)

    def _over(self, contact: Contacts, run: Sequence[Message], number: int, waited: int, slow: float) -> str | None:
        """Why the ladder has ended; None while it runs."""
        if contact.newest(self.ladder.returned_by) > run[0].ts:
            return RETURNED
        if number >= len(self.ladder.step):
            return COOLING if self.ladder.pause else DONE
        return COOLING if waited > self._gap(number, slow) + LAPSED_DAYS else None

    def _begun(self, profile: Profile, contact: Contacts, entry: Entry, sent: Sequence[Message]) -> Standing:
        """Does it begin, pauses aside?"""
        if not self._matcher.holds(profile):
            return _NO_MATCH
        if self._state:
            return _STATE_MATCHES
        trigger = self.ladder.trigger
        if self._on_a_day:
            anchor = self._day
        else:
            anchor = occasion(trigger, contact, entry, self._send_at, self._as_of, self._calendar, self._book)
        if anchor is None:
            return self._no_occasion
        if sent and sent[-1].ts >= anchor:
            return Standing(None, DONE, f"sent for this occasion: {trigger.on}")
        return Standing(1, DUE, f"who matches, occasion: {trigger.on}", anchor)


def step_of(message: Message) -> int:
    """The step that a ladder's message carried out, counted from 1."""
    return message.rung[1] if message.rung else 0


def newest_run(sent: Sequence[Message]) -> Sequence[Message]:
    """Of a ladder's messages, oldest first, those since its newest beginning: their steps ascend."""
    start = len(sent) - 1
    while start and step_of(sent[start - 1]) < step_of(sent[start]):
        start -= 1
    return sent[start:]


def is_tired(contact: Contacts, tired: Tired, before: int) -> bool:
    """Does the user open less than they did? Of messages sent before an instant (µs), so that there was time to.

    Never, if the log does not tell of opened messages.
    """
    if not contact.opens_known:
        return False
    opened = [message.opened for message in contact.messages if message.ts < before]
    if len(opened) >= tired.unopened and not any(opened[-tired.unopened :]):
        return True
    newest, earlier = opened[-tired.newest :], opened[: -tired.newest]
    if len(earlier) < tired.newest:
        return False
    return sum(newest) / len(newest) < sum(earlier) / len(earlier) / 2
