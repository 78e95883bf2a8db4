"""The playbook: an operator's file that says whom to contact, when, how, with what, and how often at most.

`[[ladder]]`s stand in the order of priority. Each says who it is for, what sets it off, and its steps. A mistake in
the file is told when it is loaded, with its line and the words that are valid.
"""

from collections.abc import Collection, Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from features.events import columns as c
from features.tables import Place, Table, read_table
from models.playbook_parts import (
    Caps,
    Channel,
    Control,
    Day,
    Days,
    Name,
    Offer,
    Quiet,
    Step,
    Tired,
    Trigger,
    Value,
    Who,
    zone_name,
)

OPT_IN: Final = "opt_in"  # not of the contract's kinds; kept by its name
# Made by the user, and yet no sign of being back in the shop.
NOT_A_RETURN: Final = ("message_opened", "opt_out", OPT_IN, "touch", "refund", "complaint", "survey_answer")
RETURNS: Final = tuple(kind for kind in c.KINDS if kind not in (*c.NOT_BY_USER, *NOT_A_RETURN))
WEEK: Final = 7  # dates
AGAIN_AFTER_DAYS: Final = 30  # a ladder for a state; those that an occasion sets off wait for the next one


class Ladder(Table):
    """Messages that follow one another until the user is back.

    Attributes:
        returned_by: kinds of events that end it; by default whatever the user does in the shop.
        group: ladders of one group do not follow one another within their pauses, such as recalls by cause.
        again_after_days: from its last message until it, or another of its group, may begin again.
    """

    name: Name
    group: Name | None = None
    who: Who = Who()
    trigger: Trigger = Trigger()
    step: Annotated[tuple[Step, ...], Field(min_length=1)]
    returned_by: tuple[str, ...] = ()
    again_after_days: Days | None = None
    only_if_gainful: bool | None = None

    @property
    def pause(self) -> int:
        """Days from its last message until it may begin again."""
        usual = AGAIN_AFTER_DAYS if self.trigger.on == "state" else 0
        return usual if self.again_after_days is None else self.again_after_days

    def campaign(self, step: int) -> str:
        """`campaign_id` of the messages that carry out a step, counted from 1."""
        return f"{self.name}/{step}"

    def problems(self) -> Iterator[tuple[Place, str]]:
        for place, wrong in self.trigger.problems():
            yield ("trigger", *place), wrong
        if self.again_after_days == 0 and self.trigger.on == "state":
            yield ("again_after_days",), "is 0: without a trigger it would never end; give 1 or more"
        if self.step[0].day != 1:
            yield ("step", 0, "day"), f"is {self.step[0].day}: the first step is day 1; a trigger may wait for hours"
        for number in range(1, len(self.step)):
            day, before = self.step[number].day, self.step[number - 1].day
            if day <= before:
                yield ("step", number, "day"), f"is {day}: give more than the step before, {before}"
        for low, high, name in (
            (self.who.min_decile, self.who.max_decile, "decile"),
            (self.who.min_days_since_purchase, self.who.max_days_since_purchase, "days_since_purchase"),
        ):
            if low is not None and high is not None and low > high:
                yield ("who", f"min_{name}"), f"is {low}: nobody is in it, as max_{name} is {high}"


class Playbook(Table):
    """The whole file.

    Attributes:
        zone: of quiet hours and of dates: of "today", of days between steps, of birthdays.
        consent: "required": nobody is contacted of whom no consent is on record.
        own_kinds: of events that the shop has beside the contract's, so that `returned_by` may name them.
    """

    zone: Annotated[str, AfterValidator(zone_name)] = "UTC"
    consent: Literal["required", "assumed"] = "required"
    own_kinds: tuple[str, ...] = ()
    caps: Caps = Caps()
    quiet: Quiet | None = None
    control: Control = Control()
    tired: Tired = Tired()
    value: Value = Value()
    offers: dict[Name, Offer] = Field(default_factory=dict)
    channels: Annotated[dict[Name, Channel], Field(min_length=1)]
    days: dict[Name, Day] = Field(default_factory=dict)
    ladder: tuple[Ladder, ...] = ()

    def problems(self) -> Iterator[tuple[Place, str]]:
        if self.quiet and self.quiet.from_hour == self.quiet.to_hour:
            yield ("quiet", "to_hour"), "is from_hour: nothing could ever go out; leave [quiet] out for no quiet hours"
        for name in self.caps.channels:
            if name not in self.channels:
                yield ("caps", "channels", name), f"is not a channel; use one of {', '.join(self.channels)}"
        for name, day in self.days.items():
            if not day.dates and not day.days_of_month:
                yield ("days", name), "has no day: give dates or days_of_month"
        for number, ladder in enumerate(self.ladder):
            for place, wrong in (*ladder.problems(), *self._unknown(ladder), *self._too_many(ladder)):
                yield ("ladder", number, *place), wrong
            yield from self._overlaps(number)

    def _unknown(self, ladder: Ladder) -> Iterator[tuple[Place, str]]:
        """Names that other parts of the file should have."""
        for number, step in enumerate(ladder.step):
            if step.channel not in self.channels:
                known = ", ".join(self.channels)
                yield ("step", number, "channel"), f"is {step.channel!r}; use one of {known}"
            if step.offer is not None and step.offer not in self.offers:
                known = ", ".join(self.offers) or "none: add [offers.NAME]"
                yield ("step", number, "offer"), f"is {step.offer!r}; use one of {known}"
        trigger = ladder.trigger
        if trigger.on == "day" and trigger.day not in self.days:
            known = ", ".join(self.days) or "none: add [days.NAME]"
            yield ("trigger", "day"), f"is {trigger.day!r}; use one of {known}"
        kinds = (*RETURNS, *NOT_A_RETURN, *self.own_kinds)
        for kind in ladder.returned_by:
            if kind not in kinds:
                yield ("returned_by",), f"has {kind!r}; use some of {', '.join(kinds)}"

    def _too_many(self, ladder: Ladder) -> Iterator[tuple[Place, str]]:
        """Steps that the caps would put off."""
        for number, step in enumerate(ladder.step):
            week = [other for other in ladder.step[: number + 1] if other.day > step.day - WEEK]
            same = [other for other in week if other.channel == step.channel]
            cap = self.caps.channels.get(step.channel, self.caps.week)
            if len(week) > self.caps.week:
                wrong = f"is the {len(week)}. in a week, and caps.week is {self.caps.week}: raise it or move the step"
                yield ("step", number, "day"), wrong
            elif len(same) > cap:
                wrong = (
                    f"is the {len(same)}. by {step.channel} in a week, and its cap is {cap}: raise it or move the step"
                )
                yield ("step", number, "day"), wrong

    def _overlaps(self, number: int) -> Iterator[tuple[Place, str]]:
        ladder = self.ladder[number]
        for other in self.ladder[:number]:
            if other.name == ladder.name:
                yield ("ladder", number, "name"), "has been given to another ladder: names tell their messages apart"
            elif (other.who, other.trigger) == (ladder.who, ladder.trigger):
                wrong = f"is for the same users at the same time as {other.name}, which comes first: "
                yield ("ladder", number), f"{wrong}change who or trigger, or take one away"

    def unknown_needs(self, names: Collection[str]) -> Iterator[tuple[Place, str]]:
        """Needs that ladders ask for and the needs file (which has these names) does not have."""
        for number, ladder in enumerate(self.ladder):
            for need in ladder.who.needs:
                if need not in names:
                    known = ", ".join(sorted(names)) or "none: the needs file has none"
                    yield ("ladder", number, "who", "needs"), f"has {need!r}; use some of {known}"


def load_playbook(path: Path | None = None, needs: Collection[str] | None = None) -> Playbook:
    """A playbook file; without a path the one that comes with Ebbtide.

    Args:
        needs: names of the needs file, if ladders are to be checked against them.

    Raises:
        UserError: the file cannot be read, or something in it is wrong.
    """
    if path is None:
        with as_file(files("models") / "playbooks" / "default.toml") as shipped:
            return load_playbook(shipped, needs)
    return read_table(path, Playbook, None if needs is None else lambda book: book.unknown_needs(needs))
