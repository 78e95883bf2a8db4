"""Requests and answers, as the service checks them and as its OpenAPI page shows them."""

import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, JsonValue, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from features.events import columns as c
from features.events.intake import CLOCK_TOLERANCE, LARGEST_AMOUNT, LONGEST_TEXT
from models.answers import Status
from models.recommender import Ask, Mode
from models.recommender import Filter as OurFilter
from models.words import Language

MOST_USERS = 1_000
MOST_ITEMS = 100
MOST_REASONS = 10
MOST_EXCLUDED = 1_000
LARGEST_INT32 = 2e9  # what intake lets into a column of 32 bits

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


# ------------------------------------------------------------------------------------------------ single values


def micros(value: Any) -> int:
    """ISO 8601 text, UTC without a zone, as µs."""
    if not isinstance(value, str):
        raise PydanticCustomError("time_type", 'must be ISO 8601 text such as "2024-03-01T12:00:00Z"')
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        raise PydanticCustomError("time_parsing", 'is not an ISO 8601 time such as "2024-03-01T12:00:00Z"') from None
    since = (instant if instant.tzinfo else instant.replace(tzinfo=UTC)) - EPOCH
    if since < timedelta():
        raise PydanticCustomError("time_too_early", "lies before 1970")
    return since // MICROSECOND


def _past_micros(value: Any) -> int:
    instant = micros(value)
    if instant > time.time_ns() // 1_000 + CLOCK_TOLERANCE:
        raise PydanticCustomError("time_in_future", "lies in the future: an event must have happened")
    return instant


def iso(instant: int) -> str:
    """An instant in µs as ISO 8601 text."""
    return (EPOCH + timedelta(microseconds=instant)).isoformat().replace("+00:00", "Z")


def _text(value: Any) -> str:
    """Text, or an integer as text, as intake takes it."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise PydanticCustomError("text_type", "must be text or an integer")
    text = str(value)
    if len(text.encode()) > LONGEST_TEXT:
        raise PydanticCustomError("text_too_long", "is longer than {most} bytes", {"most": LONGEST_TEXT})
    return text


def _given_text(value: Any) -> str:
    text = _text(value)
    if not text:
        raise PydanticCustomError("text_empty", "must not be empty")
    return text


def _text_or_none(value: Any) -> str | None:
    """An empty text is no text, as at intake."""
    return None if value is None else _text(value) or None


_TEXT_SCHEMA: dict[str, Any] = {"anyOf": [{"type": "string", "maxLength": LONGEST_TEXT}, {"type": "integer"}]}
_NO_TEXT_SCHEMA: dict[str, Any] = {"anyOf": [*_TEXT_SCHEMA["anyOf"], {"type": "null"}]}
_TIME_SCHEMA: dict[str, Any] = {"type": "string", "format": "date-time"}
_NO_TIME_SCHEMA: dict[str, Any] = {"anyOf": [_TIME_SCHEMA, {"type": "null"}]}

Id = Annotated[str, BeforeValidator(_given_text), WithJsonSchema(_TEXT_SCHEMA)]
Text = Annotated[str | None, BeforeValidator(_text_or_none), WithJsonSchema(_NO_TEXT_SCHEMA)]
Happened = Annotated[int, BeforeValidator(_past_micros), WithJsonSchema(_TIME_SCHEMA)]
Instant = Annotated[
    int | None, BeforeValidator(lambda v: None if v is None else micros(v)), WithJsonSchema(_NO_TIME_SCHEMA)
]
_number: dict[str, Any] = {"strict": True, "ge": 0, "allow_inf_nan": False}
Amount = Annotated[float, Field(le=LARGEST_AMOUNT, **_number)]
Seconds = Annotated[float, Field(le=LARGEST_INT32 / c.NUMBERS[c.DWELL][0], **_number)]
Count = Annotated[float, Field(le=LARGEST_INT32, **_number)]


class Strict(BaseModel):
    """A typing error in a field's name must not pass as its absence."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


# ----------------------------------------------------------------------------------------------------- requests


class Event(Strict):
    """One thing that a user did or that happened to them; the columns of the event contract."""

    ts: Happened = Field(description="When it happened: ISO 8601, UTC without a zone.")
    kind: Id = Field(description="view, cart, purchase …; unknown kinds are kept.")
    item_id: Text = None
    category: Text = None
    price: Amount | None = Field(None, description="Per unit.")
    quantity: Amount | None = Field(None, description="Missing: 1.")
    amount: Amount | None = Field(None, description="Line total; else price × quantity.")
    discount: Amount | None = None
    order_id: Text = None
    session_id: Text = None
    dwell_s: Seconds | None = None
    channel: Text = None
    device_id: Text = None
    page: Text = None
    place: Text = None
    merchant_id: Text = None
    search_results: Count | None = None
    campaign_id: Text = None
    arm: Text = None
    arrived_at: Instant = Field(None, description="When the row became known, if later.")
    event_id: Text = Field(None, description="An event that the store holds already counts once.")

    @model_validator(mode="after")
    def _product_fits(self) -> "Event":
        if (self.price or 0) * (1 if self.quantity is None else self.quantity) > LARGEST_AMOUNT:
            raise PydanticCustomError("too_large", "price × quantity is too large")
        return self


class User(Strict):
    """A user by `user_id`, or an anonymous device by `device_id`; `events` are added to what the store holds."""

    user_id: Text = None
    device_id: Text = None
    events: Annotated[list[Event], FailFast()] = Field(default=[], description="The latest clicks, for instance.")

    @model_validator(mode="after")
    def _is_named(self) -> "User":
        if self.user_id is None and self.device_id is None:
            raise PydanticCustomError("no_user", "names nobody: give user_id or device_id")
        return self

    @property
    def timeline_id(self) -> str:
        """Who this is in the store: an anonymous device has a timeline of its own."""
        return self.user_id if self.user_id is not None else f"device:{self.device_id}"


Users = Annotated[list[User], FailFast(), Field(min_length=1, max_length=MOST_USERS)]
CLICK: JsonValue = {"ts": "2011-11-08T18:03:00Z", "kind": "view", "item_id": "85123A"}
AS_OF_SAYS = "The moment of the answer; nothing later is known. Missing: the server's, else the clock."


class ChurnRequest(Strict):
    """Whom to score, and at which moment."""

    users: Users = Field(description=f"1 to {MOST_USERS:,}, each once.")
    as_of: Instant = Field(None, description=AS_OF_SAYS)
    horizon: Annotated[int, Field(strict=True, ge=1)] | None = Field(
        None, description="Days, from 1 to the longest that the model learned. Missing: the one it was trained for."
    )
    reasons: Annotated[int, Field(strict=True, ge=0, le=MOST_REASONS)] = Field(0, description="At most so many a user.")
    cause: Annotated[bool, Field(strict=True)] = Field(False, description="Also why each user would leave.")
    language: Language = Field("en", description="Of reasons and evidence.")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"users": [{"user_id": "12347"}], "as_of": "2011-11-09", "reasons": 3},
                {"users": [{"user_id": 12347, "events": [CLICK]}, {"device_id": "d9", "events": [CLICK]}]},
            ]
        }
    )


_Texts = Annotated[list[Id], FailFast(), Field(max_length=MOST_EXCLUDED)]
Flag = Annotated[bool, Field(strict=True)]


class Filter(Strict):
    """Which items may be shown; what is left out limits nothing."""

    in_stock: Flag = Field(False, description="Only items that the items table does not call out of stock.")
    categories: _Texts = Field(default=[], description="Any of these paths, or what lies below them.")
    not_categories: _Texts = Field(default=[], description="None of these, nor what lies below them.")
    brands: _Texts = Field(default=[], description="Any of these.")
    price_min: Amount | None = Field(None, description="Currency units a piece; items without a price are left out.")
    price_max: Amount | None = None
    shown_days: Annotated[float, Field(strict=True, gt=0, le=3650)] | None = Field(
        None, description="Not if the log has it shown, or sent in a message, to the user within so many days."
    )
    per_category: Annotated[int, Field(strict=True, ge=1, le=MOST_ITEMS)] | None = Field(
        None, description="At most so many items of one category."
    )

    @model_validator(mode="after")
    def _prices_are_a_range(self) -> "Filter":
        if self.price_min is not None and self.price_max is not None and self.price_min > self.price_max:
            raise PydanticCustomError("no_price", "lets no item through: price_min is above price_max")
        return self

    def ours(self) -> "OurFilter":
        """As the recommender takes it."""
        lists = {name: tuple(getattr(self, name)) for name in ("categories", "not_categories", "brands")}
        return OurFilter(**{**self.__dict__, **lists})


def filter_of_json(text: bytes) -> "OurFilter":
    """A filter from a file.

    Raises:
        ValidationError: it is not one.
    """
    return Filter.model_validate_json(text).ours()


class Context(Strict):
    """Where the list is shown."""

    scene: Text = Field(None, description="A scene of the model's table, such as commute, home or gift.")
    discount: Annotated[float, Field(strict=True, ge=0, lt=1)] = Field(
        0.0, description="Share of a bundle's price that its buyer saves."
    )


class RecommendRequest(Strict):
    """Whom to recommend to, for which purpose, how many items, and which may be shown."""

    users: Users = Field(description=f"1 to {MOST_USERS:,}, each once.")
    as_of: Instant = Field(None, description=AS_OF_SAYS)
    k: Annotated[int, Field(strict=True, ge=1, le=MOST_ITEMS)] = Field(20, description="At most so many items a user.")
    mode: Mode = Field(
        "all",
        description="repeat: bought before and due; cross_sell: never bought; up_sell: a step dearer where the user "
        "buys; discover: categories never tried; bundle: what goes with the cart; win_back: new since they left; "
        "welcome: what newcomers who stayed began with.",
    )
    cart: _Texts = Field(default=[], description="Items in the cart: never recommended, and what complements go with.")
    exclude: _Texts = Field(default=[], description="Items never to recommend.")
    context: Context = Field(default=Context.model_validate({}), description="Where the list is shown.")
    filter: Filter = Field(default=Filter.model_validate({}), description="Which items may be shown.")
    language: Language = Field("en", description="Of the evidence.")

    def ask(self) -> Ask:
        """As the recommender takes it."""
        return Ask(
            mode=self.mode,
            k=self.k,
            cart=tuple(self.cart),
            exclude=tuple(self.exclude),
            filter=self.filter.ours(),
            scene=self.context.scene,
            discount=self.context.discount,
        )

    @model_validator(mode="after")
    def _bundle_has_a_cart(self) -> "RecommendRequest":
        if self.mode == "bundle" and not self.cart:
            raise PydanticCustomError("no_cart", "mode bundle needs a cart: at least one item that goes first")
        return self

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"users": [{"user_id": "12347"}], "k": 5, "mode": "cross_sell", "exclude": ["POST"]},
                {"users": [{"device_id": "d9", "events": [CLICK]}], "k": 3, "cart": ["22423"]},
                {
                    "users": [{"user_id": "12347"}],
                    "k": 5,
                    "context": {"scene": "gift"},
                    "filter": {"in_stock": True, "price_max": 20, "per_category": 2},
                    "language": "zh",
                },
                {
                    "users": [{"user_id": "12347"}],
                    "mode": "bundle",
                    "cart": ["22423"],
                    "context": {"discount": 0.1},
                },
            ]
        }
    )


# ------------------------------------------------------------------------------------------------------ answers


class FromOurs(BaseModel):
    """Read from the dataclasses of `models.answers`."""

    model_config = ConfigDict(from_attributes=True)


class Reason(FromOurs):
    """One theme's part in a probability, told by its leading signal."""

    signal: str
    family: str
    value: float | None = Field(description="null: not observed.")
    usual: float | None = Field(description="The norm that it is compared with; null: mostly not observed.")
    norm: Literal["own", "customers"] = Field(description="Whose norm: the user's own past, or what customers do.")
    effect: float = Field(description="How much higher the probability is than if the theme's signals were as usual.")
    text: str


class Cause(FromOurs):
    """Why the user leaves, or would leave."""

    cause: Literal["natural", "soft", "experience", "unknown"] = Field(
        description="The need has ended; they forget; we failed them; or it cannot be told."
    )
    confidence: float
    evidence: list[str]


class ChurnResult(FromOurs):
    """One user's answer; without a purchase to go by it is the share among all users, and `status` says so."""

    user_id: str
    status: Status
    probability: float = Field(description="Of no purchase within the horizon.")
    risk: Literal["low", "medium", "high"] = Field(description="Of the horizon that the model was trained for.")
    expected_days: float | None = Field(
        description="Until the next purchase, counting no more than the longest horizon learned; null: none yet."
    )
    lateness: float | None = Field(
        description="Share of the user's own gaps between orders that were no longer than the present silence."
    )
    alarm: bool | None = Field(description="The operators' alarm; null: no browsing to tell from.")
    cause: Cause | None = Field(description="null: not asked for.")
    reasons: list[Reason] = Field(description="Strongest first.")


class Item(FromOurs):
    """One recommended item, the head that found it, and evidence in words."""

    item_id: str
    score: float
    head: str
    evidence: str
    propensity: float = Field(description="The probability that it is in the list; 1 unless the service explores.")


class Bundle(FromOurs):
    """The cart and its best complements as a set."""

    items: list[str]
    price: float = Field(description="Of all, in currency units, without the discount.")
    saves: float = Field(description="What the stated discount takes off.")


class RecommendResult(FromOurs):
    """One user's items, best first; of whom nothing is known gets what newcomers begin with, and `status` says so."""

    user_id: str
    status: Status
    items: list[Item]
    explored: bool = Field(description="Did chance choose and order the items? Never, unless the service explores.")
    bundle: Bundle | None = Field(description="In the mode bundle, where every price is known.")


class Answer(FromOurs):
    """Whose answer it is, and as of when."""

    model: str = Field(description="Registered name and version.")
    bundle: str = Field(description="Digest of the deployed bundle.")
    as_of: str = Field(description="The moment of the answer.")


BUNDLE_DIGEST = "sha256:9f2c5d1e0b7a4c3886d2a1f05e4b7c9d3a6f8e1b2c4d5067f8a9b0c1d2e3f405"


class ChurnResponse(Answer):
    """Answers in the order of the request's users."""

    results: list[ChurnResult]

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "ebbtide-churn/7",
                    "bundle": BUNDLE_DIGEST,
                    "as_of": "2011-11-09T00:00:00Z",
                    "results": [
                        {
                            "user_id": "12347",
                            "status": "ok",
                            "probability": 0.31,
                            "risk": "medium",
                            "expected_days": 21.5,
                            "lateness": 0.83,
                            "alarm": None,
                            "cause": {
                                "cause": "soft",
                                "confidence": 0.71,
                                "evidence": ["Visits have thinned out: every 9 days, usually every 4."],
                            },
                            "reasons": [
                                {
                                    "signal": "days_since_purchase",
                                    "family": "recency",
                                    "value": 34.0,
                                    "usual": 14.0,
                                    "norm": "own",
                                    "effect": 0.12,
                                    "text": "No order for 34 days; usually every 14.",
                                }
                            ],
                        }
                    ],
                }
            ]
        }
    )


class RecommendResponse(Answer):
    """Answers in the order of the request's users."""

    results: list[RecommendResult]

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "ebbtide-cross-sell/3",
                    "bundle": BUNDLE_DIGEST,
                    "as_of": "2011-11-09T00:00:00Z",
                    "results": [
                        {
                            "user_id": "12347",
                            "status": "ok",
                            "items": [
                                {
                                    "item_id": "22423",
                                    "score": 0.8,
                                    "head": "repeat",
                                    "evidence": "bought 4 times, every 21 days, due",
                                    "propensity": 1.0,
                                }
                            ],
                            "explored": False,
                            "bundle": None,
                        }
                    ],
                }
            ]
        }
    )


class Problem(BaseModel):
    """What is wrong."""

    code: str
    message: str = Field(description="What, where, and the repair.")
    field: str | None = Field(description="Where in the request, such as users[0].events[2].ts.")


class ErrorResponse(BaseModel):
    """The one form of every error."""

    error: Problem

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "code": "invalid",
                        "message": 'users[0].events[2].ts is not an ISO 8601 time such as "2024-03-01T12:00:00Z"',
                        "field": "users[0].events[2].ts",
                    }
                }
            ]
        }
    )
