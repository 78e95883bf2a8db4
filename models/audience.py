"""Who each user is at a moment: stage, segment, needs, risk and cause in one row."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import numpy as np

from features.audience.directory import Directory
from features.audience.learn import Learned
from features.audience.needs import Needs, NeedTag
from features.audience.rfm import SEGMENTS, Cuts, deciles_at, rfm_scores, segments_of
from features.audience.segments import NEWCOMER, TIERS, cuts_of, growth_at, newcomers_at, registrations, tiers_at
from features.audience.stages import STAGES, Borders, borders_of, stages_at
from features.events import columns as c
from features.timeline import Array, Moment, Timeline, ratio
from models.answers import ChurnAnswer, ChurnQuestion, churn_answers, status_of
from models.bundle import Bundle, BundleError
from models.churn import ChurnModel
from models.operations import Operations
from models.words import Language

Leaving = Literal["staying", "about_to_leave", "left"]
CUSTOMERS: Final = ("introduction", "growth", "maturity")  # who has bought, and not long ago
GONE: Final = ("dormancy", "lost")
UNKNOWN: Final = "unknown"  # the stage of whom the store knows nothing
LATELY = 180  # days of `daily_value`
PART: Final = "audience"
FILE: Final = "learned.json"


@dataclass(frozen=True)
class Profile:
    """One user at a moment; None where it is not known or does not apply.

    Attributes:
        status: as of the churn model: "ok", "too_little_history" or "unknown_user".
        leaving: about to leave: a customer whose risk is high or for whom the alarm rings; left: dormant or lost.
        rfm: scores of recency, frequency and money, 1 to 5, 5 the best.
        to_next: points until the next level; None at the highest.
        value: spend so far, currency units.
        decile: of value among customers at training, 10 the highest.
        daily_value: spend a day over the last 180 days, or since the first purchase if that is later.
    """

    user_id: str
    status: str
    stage: str
    leaving: Leaving
    segment: str | None = None
    rfm: tuple[int, int, int] | None = None
    tier: str | None = None
    newcomer: str | None = None
    level: str | None = None
    points: int = 0
    to_next: int | None = None
    value: float = 0.0
    decile: int | None = None
    needs: list[NeedTag] = field(default_factory=list)
    risk: str | None = None
    probability: float | None = None
    alarm: bool | None = None
    cause: str | None = None
    cause_confidence: float | None = None
    evidence: list[str] = field(default_factory=list)
    days_since_purchase: float | None = None
    orders: int = 0
    daily_value: float = 0.0


def save(learned: Learned, folder: Path) -> None:
    """Write the part of a bundle that holds what was learned of the shop."""
    (folder / FILE).write_text(learned.to_json(), "utf-8")


def load(bundle: Bundle) -> Learned | None:
    """What a verified bundle holds of it; None if it has no such part.

    Raises:
        BundleError: it is of another version of the code.
    """
    if PART not in bundle.parts:
        return None
    try:
        return Learned.from_json((bundle.path / PART / FILE).read_text("utf-8"))
    except (ValueError, TypeError) as error:
        raise BundleError(f"{bundle.path}: {PART} cannot be read ({error}); train again, promote and deploy") from error


@dataclass(frozen=True)
class Audience:
    """What profiles are made from.

    Attributes:
        learned: facts of the shop, frozen at training.
        operations: the operator's tables.
        churn: without it nothing is said of risk and causes.
        directory: of the store whose timelines are asked about.
    """

    learned: Learned
    operations: Operations
    churn: ChurnModel | None
    directory: Directory

    @cached_property
    def borders(self) -> Borders:
        return borders_of(self.operations.stages, self.learned)

    @cached_property
    def cuts(self) -> Cuts:
        return cuts_of(self.operations.segments, self.learned)

    @cached_property
    def needs(self) -> Needs:
        return Needs(self.operations.needs, self.directory)

    @cached_property
    def registered(self) -> dict[str, int]:
        return registrations(self.directory.users)

    def profiles(self, timeline: Timeline, as_of: int, language: Language = "en") -> list[Profile]:
        """A profile of each user of a timeline of the store, in its order."""
        told = self._churn(timeline, as_of, language)
        moment = timeline.as_of([as_of])[0]
        stage = stages_at(timeline, moment, self.borders).tolist()
        scores = rfm_scores(moment, self.cuts)
        segment = segments_of(scores, self.operations.segments.rfm.high).tolist()
        tier = tiers_at(timeline, moment, self.operations.segments, self.cuts, self.borders).tolist()
        newcomer = newcomers_at(timeline, moment, self.operations.segments, self.registered).tolist()
        growth = growth_at(moment, self.operations.segments)
        decile = deciles_at(moment, self.cuts).tolist()
        needs = self.needs.tags(timeline, as_of)
        silent = moment.days_since("purchase")
        value = np.nan_to_num(moment.total(c.AMOUNT, "purchase"))
        daily = np.nan_to_num(_daily_value(moment))
        orders = np.nan_to_num(moment.distinct(c.ORDER_ID, "purchase"))
        levels = self.operations.segments.levels
        out = []
        for user, user_id in enumerate(timeline.user_ids.to_pylist()):
            name = STAGES[stage[user]] if stage[user] >= 0 else UNKNOWN
            bought = bool(scores[user, 0])
            profile = Profile(
                user_id=user_id,
                status=status_of(moment.present[user], bought),
                stage=name,
                leaving="staying",
                segment=_named(SEGMENTS, segment[user]),
                rfm=_scores(scores[user]) if bought else None,
                tier=_named(TIERS, tier[user]),
                newcomer=_named(NEWCOMER, newcomer[user]),
                level=levels[growth.level[user]].name if name != UNKNOWN else None,
                points=int(growth.points[user]),
                to_next=int(growth.to_next[user]) if name != UNKNOWN and growth.to_next[user] >= 0 else None,
                value=float(value[user]),
                decile=decile[user] or None,
                needs=needs[user],
                days_since_purchase=float(silent[user]) if bought else None,
                orders=int(orders[user]),
                daily_value=float(daily[user]),
            )
            out.append(_with_churn(profile, told[user]))
        return out

    def _churn(self, timeline: Timeline, as_of: int, language: Language) -> Sequence[ChurnAnswer | None]:
        if self.churn is None:
            return [None] * len(timeline)
        return churn_answers(timeline, as_of, self.churn, ChurnQuestion(cause=True, language=language))


def _with_churn(profile: Profile, told: ChurnAnswer | None) -> Profile:
    """A profile with what the churn model says, which it says only of those who have bought."""
    if profile.stage in GONE:
        profile = replace(profile, leaving="left")
    if told is None or told.status != "ok":
        return profile
    about_to = profile.stage in CUSTOMERS and (told.risk == "high" or bool(told.alarm))
    return replace(
        profile,
        leaving="about_to_leave" if about_to else profile.leaving,
        risk=told.risk,
        probability=told.probability,
        alarm=told.alarm,
        cause=told.cause.cause if told.cause else None,
        cause_confidence=told.cause.confidence if told.cause else None,
        evidence=told.cause.evidence if told.cause else [],
    )


def _daily_value(moment: Moment) -> Array:
    days = np.clip(moment.days_since_first("purchase"), 1, LATELY)
    return ratio(moment.total(c.AMOUNT, "purchase", LATELY), days)


def _named(names: Sequence[str], code: int) -> str | None:
    return names[code] if code >= 0 else None


def _scores(scores: Array) -> tuple[int, int, int]:
    recency, frequency, money = scores.tolist()
    return recency, frequency, money
