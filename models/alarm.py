"""The operators' alarm, beside the model: unseen for a week, and browsing had fallen by half when last seen.

It is a rule that people know and can check by hand. It asks two signals and nothing else. It speaks only of users who
browsed: where the four weeks before the last week seen hold no browsing, there is nothing to compare with, and whether
the alarm rings is *not known*, whatever the silence. So in a log without browsing it is not known for anybody; silence
alone is what `recency` says already, and no other rule takes its place.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from features import signals as catalogue
from features.errors import UserError
from features.matrix import Matrix, evaluate
from features.timeline import Array, Moment

UNSEEN: Final = "days_since_seen"
BROWSING: Final = "browse_minutes_ratio_at_last_seen"
SIGNALS: Final = (UNSEEN, BROWSING)


@dataclass(frozen=True)
class AlarmSettings:
    """When the alarm rings.

    Attributes:
        unseen_days: days without an event made by the user, at least.
        fall: share by which minutes browsed a day have fallen in the 7 days that end at the last event, against the 28
            days before those; more than that. .5 is "down by half", .75 "down by three quarters".

    Raises:
        UserError: a value that the rule cannot work with.
    """

    unseen_days: float = 7.0
    fall: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.unseen_days < np.inf:
            raise UserError(f"the alarm's unseen_days is {self.unseen_days}: give a number of days above 0")
        if not 0 <= self.fall < 1:
            raise UserError(f"the alarm's fall is {self.fall}: give a share of at least 0 and under 1, such as 0.5")

    def to_dict(self) -> dict[str, float]:
        """Plain numbers by name, for a manifest."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "AlarmSettings":
        """Settings from plain numbers; what is not named is as usual.

        Raises:
            UserError: a name or value that is none.
        """
        usual = cls().to_dict()
        strange = sorted(set(settings) - set(usual))
        if strange:
            raise UserError(f"the alarm has no setting {', '.join(strange)}: it has {', '.join(usual)}")
        try:
            return cls(**{name: float(value) for name, value in settings.items()})
        except (TypeError, ValueError) as error:
            raise UserError(f"a setting of the alarm is not a number ({error}): {dict(settings)}") from error


USUAL: Final = AlarmSettings()


class Alarm(NamedTuple):
    """bool[users] each; `rings` is False where the alarm is not known."""

    rings: Array
    known: Array

    def answers(self) -> list[bool | None]:
        """A user each: does it ring; None where it is not known."""
        return [bool(rings) if known else None for rings, known in zip(self.rings, self.known, strict=True)]


def alarm(days_since_seen: Array, browse_ratio_at_last_seen: Array, settings: AlarmSettings = USUAL) -> Alarm:
    """The alarm from its two signals, float[users] each, NaN where not observed."""
    known = np.isfinite(days_since_seen) & np.isfinite(browse_ratio_at_last_seen)
    return Alarm(rings(days_since_seen, browse_ratio_at_last_seen, settings), known)


def rings(days_since_seen: Array, browse_ratio_at_last_seen: Array, settings: AlarmSettings = USUAL) -> Array:
    """bool[users]: does the alarm ring; False where a signal is not observed."""
    fallen = browse_ratio_at_last_seen < 1 - settings.fall
    return np.asarray(fallen & (days_since_seen >= settings.unseen_days))


def alarm_of(matrix: Matrix, settings: AlarmSettings = USUAL) -> Alarm:
    """The alarm of a matrix that has its two signals, an answer a row."""
    return alarm(matrix.column(UNSEEN), matrix.column(BROWSING), settings)


def alarm_at(moment: Moment, settings: AlarmSettings = USUAL) -> Alarm:
    """The alarm at a moment, an answer a user of the timeline; the same numbers as a matrix has, so the same answer."""
    everybody = np.ones(moment.present.size, bool)
    unseen, browsing = evaluate(moment, catalogue.by_name(SIGNALS), everybody)
    return alarm(unseen, browsing, settings)
