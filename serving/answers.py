"""What is asked at each path and what is answered; the scores are those of `models.answers`, as in a batch."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from features.audience.persona import personas
from features.errors import UserError
from features.events.store import Store
from models import audience
from models import churn as churn_model
from models.answers import CatalogueCodes, ChurnQuestion, churn_answers, recommend_answers
from models.decisions import Operator
from models.deployed import CROSS_SELL, Deployed
from models.persona_words import persona_text
from serving.exposures import Exposing, Given
from serving.guard import Method, Refused
from serving.schemas import ChurnRequest, ChurnResponse, RecommendRequest, RecommendResponse, iso
from serving.user_schemas import DecideRequest, DecideResponse, UserRequest, UserResponse
from serving.users import moment_of, timeline_of

Request = TypeVar("Request", bound=BaseModel)


@dataclass(frozen=True)
class Held:
    """What answers are made from; it never changes, so that a request sees one bundle and one store throughout.

    Attributes:
        as_of: the moment of answers whose request names none, µs; None is the clock.
        exposing: where recommendations are logged; None: nowhere.
    """

    deployed: Deployed
    store: Store
    as_of: int | None = None
    exposing: Exposing | None = None

    @cached_property
    def operator(self) -> Operator:
        """Who decides what to do with users."""
        return Operator(self.store, self.deployed)

    @cached_property
    def codes(self) -> CatalogueCodes:
        """The recommender's codes of the store's items."""
        assert self.deployed.recommender is not None
        return CatalogueCodes(self.store, self.deployed.recommender)

    def answer(self, part: str, as_of: int, results: Any) -> dict[str, Any]:
        """Results, and whose they are."""
        return {**self.named(part, as_of), "results": results}

    def named(self, part: str, as_of: int) -> dict[str, Any]:
        """Whose an answer is."""
        return {"model": self.deployed.name(part), "bundle": self.deployed.bundle.digest, "as_of": iso(as_of)}


@dataclass(frozen=True)
class Endpoint(Generic[Request]):
    """A path's request, its answer, and the function between them."""

    summary: str
    request: type[Request]
    response: type[BaseModel]
    answer: Callable[[Request, Held], BaseModel]
    method: Method = "POST"

    def __call__(self, body: bytes, held: Held) -> bytes:
        """JSON to JSON.

        Raises:
            Refused, ValidationError, UserError: the request is not one that can be answered.
        """
        return self.answer(self.request.model_validate_json(body), held).model_dump_json().encode()


def churn(request: ChurnRequest, held: Held) -> ChurnResponse:
    """How likely each user is to buy nothing within the horizon, when to expect them, and why."""
    model = held.deployed.churn
    if model is None:
        raise _not_deployed(held, churn_model.PART)
    if request.horizon is not None:
        try:
            model.checked(request.horizon)
        except UserError as error:
            raise Refused(422, "invalid", str(error), "horizon") from error
    timeline, _ = timeline_of(request.users, held.store)
    as_of = moment_of(request.as_of, held.as_of)
    question = ChurnQuestion(request.horizon, request.reasons, request.cause, request.language)
    results = churn_answers(timeline, as_of, model, question)
    return ChurnResponse.model_validate(held.answer(churn_model.PART, as_of, results))


def recommend(request: RecommendRequest, held: Held, shown: bool = True) -> RecommendResponse:
    """What to offer each user, for the purpose asked for."""
    # `shown`: to a user, so that it is open to chance and logged, where there is a log.
    recommender = held.deployed.recommender
    if recommender is None:
        raise _not_deployed(held, CROSS_SELL)
    timeline, sent = timeline_of(request.users, held.store)
    as_of = moment_of(request.as_of, held.as_of)
    codes = held.codes.with_sent(sent)
    if request.context.scene is not None and request.context.scene not in recommender.scenes:
        known = ", ".join(recommender.scenes)
        raise Refused(422, "invalid", f"context.scene {request.context.scene!r}: use one of {known}", "context.scene")
    ask = request.ask()
    exposing = held.exposing if shown else None
    explore = exposing.explore if exposing else None
    results = recommend_answers(timeline, as_of, recommender, codes, ask, request.language, explore)
    if exposing:
        exposing.add(
            results, Given(held.deployed.name(CROSS_SELL), held.deployed.bundle.digest, as_of, ask, exposing.explore)
        )
    return RecommendResponse.model_validate(held.answer(CROSS_SELL, as_of, results))


def decide(request: DecideRequest, held: Held) -> DecideResponse:
    """What to do with each user now: one contact or none, by the playbook, as `ebbtide plan` has it."""
    operator = _operator(held)
    timeline, sent = timeline_of(request.users, held.store)
    as_of = moment_of(request.as_of, held.as_of)
    results = operator.decide(timeline, as_of, request.language, sent=sent, explain=request.explain)
    return DecideResponse.model_validate(held.answer(audience.PART, as_of, results))


def user(request: UserRequest, held: Held) -> UserResponse:
    """Who a user is: stage, segment, needs, risk and cause, and what they like, pay and do, by month and year."""
    operator = _operator(held)
    timeline = held.store.timeline_of([request.id])
    as_of = moment_of(request.as_of, held.as_of)
    profile = operator.audience.profiles(timeline, as_of, request.language)[0]
    if profile.stage == audience.UNKNOWN:
        raise Refused(404, "unknown_user", f"nothing is known of {request.id!r} before {iso(as_of)}", "id")
    persona = personas(timeline, as_of, operator.directory)[0]
    text = "" if persona is None else persona_text(persona, request.language)
    told = None if persona is None else persona.to_json()
    return UserResponse.model_validate(
        {**held.named(audience.PART, as_of), "profile": profile, "persona": told, "text": text}
    )


def _operator(held: Held) -> Operator:
    if held.deployed.learned is None or held.deployed.operations is None:
        raise _not_deployed(held, audience.PART)
    return held.operator


def _not_deployed(held: Held, part: str) -> Refused:
    has = " and ".join(held.deployed.bundle.parts) or "none"
    return Refused(404, "not_deployed", f"the deployed bundle has no {part} model but {has}: promote and deploy one")


ENDPOINTS: dict[str, Endpoint[Any]] = {
    "/v1/churn": Endpoint("How likely users are to stop buying", ChurnRequest, ChurnResponse, churn),
    "/v1/recommend": Endpoint("What to offer users next", RecommendRequest, RecommendResponse, recommend),
    "/v1/decide": Endpoint("What to do with users now", DecideRequest, DecideResponse, decide),
    "/v1/users": Endpoint("Who a user is", UserRequest, UserResponse, user, "GET"),
}
