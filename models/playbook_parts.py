"""The smaller tables of a playbook: limits, offers, channels, and what a ladder is made of."""

from collections.abc import Iterator
from datetime import date
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field

from features.audience.rfm import SEGMENTS
from features.audience.segments import NEWCOMER, TIERS
from features.audience.stages import STAGES
from features.tables import Place, Table
from models.causes import CAUSES
from models.churn import RISKS
from models.recommender import MODES

On = Literal["state", "registered", "abandoned_order", "birthday", "day", "benefit"]
# The settings that each trigger has.
SETTINGS: Final[dict[str, tuple[str, ...]]] = {
    "state": (),
    "registered": ("after_hours", "within_days"),
    "abandoned_order": ("after_hours", "within_days"),
    "birthday": ("days_before",),
    "day": ("day", "days_before"),
    "benefit": ("valid_days", "days_before"),
}


def _one_of(*words: str) -> AfterValidator:
    def check(word: str) -> str:
        if word not in words:
            raise ValueError(f"use one of {', '.join(words)}")
        return word

    return AfterValidator(check)


def zone_name(name: str) -> str:
    """The name, or a ValueError if there is no such zone."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("use an IANA name of a zone, such as UTC or Asia/Shanghai") from None
    return name


def _date(text: str) -> str:
    try:
        date.fromisoformat(text if len(text) > 5 else f"2000-{text}")
    except ValueError:
        raise ValueError('write "MM-DD" for every year, or "YYYY-MM-DD"') from None
    return text


Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Days = Annotated[int, Field(ge=0)]
Decile = Annotated[int, Field(ge=1, le=10)]
Hour = Annotated[int, Field(ge=0, le=23)]
Money = Annotated[float, Field(ge=0)]
Cause = Annotated[str, _one_of(*CAUSES, "unknown")]
Mode = Annotated[str, _one_of(*(mode for mode in MODES if mode != "bundle"))]  # a bundle needs a cart
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


class Caps(Table):
    """At most so many messages in seven dates running, whoever sent them; by channel as well."""

    week: Count = 3
    channels: dict[str, Count] = Field(default_factory=dict)


class Quiet(Table):
    """Hours of the day, from the one to before the other, in which nothing goes out: it goes out at their end."""

    from_hour: Hour
    to_hour: Hour


class Control(Table):
    """Users who are never contacted, so that the effect can be known; another salt draws others."""

    share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    salt: str = "control"


class Tired(Table):
    """A user who opens messages less slows down: times between steps are multiplied.

    Tired is who opened, of the newest so many messages, a share below half of the share before, or who left the last
    `unopened` messages unopened.
    """

    newest: Count = 4
    unopened: Count = 5
    slow: Annotated[float, Field(ge=1)] = 2.0


class Value(Table):
    """What a user who stays is worth: spend a day x days x margin. See `models.policy.expected_gain`."""

    margin: Share = 0.3
    days: Count = 90
    only_if_gainful: bool = False


class Offer(Table):
    """What a message offers.

    Attributes:
        cost: currency units when it is used; `used`: the share of receivers who use it.
        lift: by how much it lowers a leaver's probability of leaving, as a share; an assumption until measured.
        lift_by_cause: where that differs with the cause of leaving.
    """

    en: str
    zh: str
    cost: Money = 0.0
    used: Share = 0.0
    lift: Annotated[float, Field(ge=-1, le=1)] = 0.0
    lift_by_cause: dict[Cause, Annotated[float, Field(ge=-1, le=1)]] = Field(default_factory=dict)

    def lift_for(self, cause: str | None) -> float:
        """Of a user who leaves for this cause."""
        return self.lift_by_cause.get(cause or "unknown", self.lift)


class Channel(Table):
    """A way to reach users; `cost` in currency units a message."""

    en: str
    zh: str
    cost: Money = 0.0


class Day(Table):
    """A day of the shop or of the year: dates, or days of every month."""

    en: str
    zh: str
    dates: tuple[Annotated[str, AfterValidator(_date)], ...] = ()
    days_of_month: tuple[Annotated[int, Field(ge=1, le=31)], ...] = ()


class Who(Table):
    """Users of whom all that is given holds; of a list, one of it. Days and values: both borders belong to it."""

    stages: tuple[Annotated[str, _one_of(*STAGES)], ...] = ()
    leaving: tuple[Annotated[str, _one_of("staying", "about_to_leave", "left")], ...] = ()
    segments: tuple[Annotated[str, _one_of(*SEGMENTS)], ...] = ()
    tiers: tuple[Annotated[str, _one_of(*TIERS)], ...] = ()
    risks: tuple[Annotated[str, _one_of(*RISKS)], ...] = ()
    causes: tuple[Cause, ...] = ()
    needs: tuple[str, ...] = ()
    newcomer: tuple[Annotated[str, _one_of(*NEWCOMER)], ...] = ()
    min_decile: Decile | None = None
    max_decile: Decile | None = None
    min_value: Money | None = None
    min_days_since_purchase: Days | None = None
    max_days_since_purchase: Days | None = None


class Trigger(Table):
    """What sets a ladder off, besides that the user is one of `who`; by default nothing more is needed.

    registered, abandoned_order: so many hours after, and not later than so many days after. birthday, day: from so
    many days before until that day. benefit: a coupon is unused so many days before it ends, `valid_days` after it was
    received.
    """

    on: On = "state"
    after_hours: Annotated[float, Field(ge=0)] = 2.0
    within_days: Annotated[float, Field(gt=0)] = 3.0
    days_before: Days = 0
    day: str | None = None
    valid_days: Count = 30

    def problems(self) -> Iterator[tuple[Place, str]]:
        for name in sorted(self.model_fields_set - {"on", *SETTINGS[self.on]}):
            has = ", ".join(SETTINGS[self.on]) or "none"
            yield (name,), f'is not a setting of a trigger on = "{self.on}"; its settings: {has}'
        if self.on == "benefit" and not 0 < self.days_before < self.valid_days:
            yield ("days_before",), f"is {self.days_before}: give 1 to {self.valid_days - 1}, under valid_days"
        if "after_hours" in SETTINGS[self.on] and self.after_hours >= 24 * self.within_days:
            yield ("after_hours",), f"is {self.after_hours:g}: give less than within_days, {24 * self.within_days:g} h"


class Step(Table):
    """One message: `k` items that the recommender chooses by `mode` go with it."""

    day: Count
    channel: str
    offer: str | None = None
    mode: Mode = "all"
    k: Annotated[int, Field(ge=1, le=100)] = 3
