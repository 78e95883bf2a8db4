"""What is asked and answered about a user as an operator sees them: who they are, and what to do now."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema

from models.answers import Status
from models.words import Language
from serving.schemas import (
    AS_OF_SAYS,
    BUNDLE_DIGEST,
    CLICK,
    Answer,
    Flag,
    FromOurs,
    Id,
    Instant,
    Item,
    Strict,
    Users,
    iso,
)

_ISO: dict[str, Any] = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}
Time = Annotated[
    str | None, BeforeValidator(lambda v: iso(v) if isinstance(v, int) else v), WithJsonSchema(_ISO)
]  # of an instant in µs
Stage = Literal["anonymous", "registered", "introduction", "growth", "maturity", "dormancy", "lost", "unknown"]


class DecideRequest(Strict):
    """For whom to decide what to do."""

    users: Users = Field(description="1 to 1,000, each once.")
    as_of: Instant = Field(None, description=AS_OF_SAYS)
    explain: Flag = Field(False, description="Also how each decision came about, rule by rule.")
    language: Language = Field("en", description="Of evidence.")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"users": [{"user_id": "12347"}], "as_of": "2011-11-09"},
                {"users": [{"user_id": 12347}, {"device_id": "d9", "events": [CLICK]}], "explain": True},
            ]
        }
    )


class UserRequest(Strict):
    """Who is asked about."""

    id: Id = Field(description="The user's id; of a device without an account `device:` and its id.")
    as_of: Instant = Field(None, description=AS_OF_SAYS)
    language: Language = Field("en", description="Of evidence and texts.")


class Evidence(FromOurs):
    """An event that speaks for a need."""

    ts: Time
    kind: str
    item_id: str | None
    category: str | None


class Need(FromOurs):
    """What a user is after, as far as behaviour tells."""

    name: str = Field(description="As in the operator's table of needs.")
    since: Time
    last: Time = Field(description="The newest evidence.")
    ends: Time = Field(description="When it ends, without further evidence.")
    strength: float = Field(description="0 to 1; it decays.")
    evidence: list[Evidence] = Field(description="The newest.")


class Profile(FromOurs):
    """Who the user is; null: not known, or does not apply."""

    user_id: str
    status: Status
    stage: Stage
    leaving: Literal["staying", "about_to_leave", "left"] = Field(description="left: dormant or lost.")
    segment: str | None = Field(description="One of the eight classes of recency, frequency and money.")
    rfm: tuple[int, int, int] | None = Field(description="Scores from 1 to 5, 5 the best.")
    tier: str | None
    newcomer: Literal["bought", "ordered_not_paid", "no_action"] | None
    level: str | None = Field(description="Of growth.")
    points: int
    to_next: int | None = Field(description="Points until the next level.")
    value: float = Field(description="Spend so far, currency units.")
    decile: int | None = Field(description="Of value among customers; 10 the highest.")
    needs: list[Need]
    risk: Literal["low", "medium", "high"] | None
    probability: float | None = Field(description="Of no purchase within the horizon that the model was trained for.")
    alarm: bool | None
    cause: Literal["natural", "soft", "experience", "unknown"] | None
    cause_confidence: float | None
    evidence: list[str] = Field(description="Of the cause.")
    days_since_purchase: float | None
    orders: int


class Decision(FromOurs):
    """One contact, or none and why."""

    action: Literal["contact", "none"]
    reason: str = Field(description="`step due`, or what speaks against a contact.")
    ladder: str | None = Field(description="Of the contact, or of the one that the reason kept from being made.")
    step: int | None = Field(description="From 1.")
    campaign_id: str | None = Field(description="What `message_sent` must carry, so that the ladder goes on.")
    channel: str | None
    offer: str | None
    send_at: Time = Field(description="Not before; after quiet hours.")
    contact_id: str | None = Field(description="The same whenever it is asked for; the event_id of its `message_sent`.")
    cost: float = Field(description="Expected, currency units.")
    expected_gain: float | None = Field(description="By the playbook's assumptions; null: not known.")
    why: list[str] = Field(description="Rule by rule, if asked for.")


class DecideResult(FromOurs):
    """A user, and what to do now."""

    profile: Profile
    decision: Decision
    reason: str | None = Field(description="Of a contact, in words.")
    items: list[Item] = Field(description="That go with the contact, best first.")


_ANSWER: dict[str, Any] = {"model": "ebbtide-churn/7", "bundle": BUNDLE_DIGEST, "as_of": "2011-11-09T00:00:00Z"}
_PROFILE: dict[str, Any] = {
    "user_id": "12347",
    "status": "ok",
    "stage": "dormancy",
    "leaving": "left",
    "segment": "important_keep",
    "rfm": [2, 5, 5],
    "tier": "dormant",
    "newcomer": None,
    "level": "gold",
    "points": 3434,
    "to_next": 1566,
    "value": 3314.73,
    "decile": 10,
    "needs": [],
    "risk": "medium",
    "probability": 0.61,
    "alarm": None,
    "cause": "unknown",
    "cause_confidence": 0.43,
    "evidence": [],
    "days_since_purchase": 98.6,
    "orders": 6,
}
_DECISION: dict[str, Any] = {
    "action": "contact",
    "reason": "step due",
    "ladder": "recall",
    "step": 2,
    "campaign_id": "recall/2",
    "channel": "email",
    "offer": "invite_reward",
    "send_at": "2011-11-09T08:00:00Z",
    "cost": 0.16,
    "contact_id": "5f0c6f1f8a4e41d7b9d0c9a3a4f3b1e2",
    "expected_gain": 4.1,
    "why": [],
}
_REASON = "Dormancy, no order for 99 days; a reward for inviting a friend (step 2 of 3)"
_ITEM: dict[str, Any] = {
    "item_id": "22423",
    "score": 0.8,
    "head": "trending",
    "evidence": "new since your last visit",
    "propensity": 1.0,
}


class DecideResponse(Answer):
    """Answers in the order of the request's users."""

    results: list[DecideResult]

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_ANSWER,
                    "results": [{"profile": _PROFILE, "decision": _DECISION, "reason": _REASON, "items": [_ITEM]}],
                },
            ]
        }
    )


class UserResponse(Answer):
    """Who the user is, and what they like, pay and do, by month and year."""

    profile: Profile
    persona: dict[str, Any] | None = Field(description="null: only messages to the user are known.")
    text: str = Field(description="The persona in sentences.")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_ANSWER,
                    "profile": _PROFILE,
                    "persona": {"user_id": "12347", "orders": 6, "spend": 3314.73, "saved": None},
                    "text": "User 12347: first seen on 2010-12-07, last on 2011-08-02.",
                }
            ]
        }
    )
