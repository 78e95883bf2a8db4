"""What is asked at each path and what is answered; the scores are those of `models.answers`, as in a batch."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from features.errors import UserError
from features.events.store import Store
from models import churn as churn_model
from models.answers import CatalogueCodes, ChurnQuestion, churn_answers, recommend_answers
from models.deployed import CROSS_SELL, Deployed
from serving.exposures import Exposing, Given
from serving.guard import Refused
from serving.schemas import ChurnRequest, ChurnResponse, RecommendRequest, RecommendResponse, iso
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
    def codes(self) -> CatalogueCodes:
        """The recommender's codes of the store's items."""
        assert self.deployed.recommender is not None
        return CatalogueCodes(self.store, self.deployed.recommender)

    def answer(self, part: str, as_of: int, results: Any) -> dict[str, Any]:
        """Results, and whose they are."""
        named = {"model": self.deployed.name(part), "bundle": self.deployed.bundle.digest, "as_of": iso(as_of)}
        return {**named, "results": results}


@dataclass(frozen=True)
class Endpoint(Generic[Request]):
    """A path's request, its answer, and the function between them."""

    summary: str
    request: type[Request]
    response: type[BaseModel]
    answer: Callable[[Request, Held], BaseModel]

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


def _not_deployed(held: Held, part: str) -> Refused:
    has = " and ".join(held.deployed.bundle.parts) or "none"
    return Refused(404, "not_deployed", f"the deployed bundle has no {part} model but {has}: promote and deploy one")


ENDPOINTS: dict[str, Endpoint[Any]] = {
    "/v1/churn": Endpoint("How likely users are to stop buying", ChurnRequest, ChurnResponse, churn),
    "/v1/recommend": Endpoint("What to offer users next", RecommendRequest, RecommendResponse, recommend),
}
