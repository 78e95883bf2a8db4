"""The BentoML service. `ebbtide serve` starts it; it reads its settings from the environment when it is created.

The endpoints are an ASGI app mounted into it: checked by pydantic in one step from bytes, without BentoML's own
passage from and to its models, which costs more than an answer.
"""

import os
from importlib.metadata import version
from typing import Any, cast

import bentoml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from serving.answers import ENDPOINTS
from serving.exposures import Exposing
from serving.guard import Guard
from serving.live import Live
from serving.openapi import PAGE, document
from serving.settings import Settings

# One worker: requests are short, and a second process would hold the models twice. No log line a request. BentoML keeps
# a timer of every request until its timeout has passed, answered or not, so that must not be long.
OPTIONS: dict[str, Any] = {"workers": 1, "traffic": {"timeout": 30}, "logging": {"access": {"enabled": False}}}


def _answer(path: str, body: bytes) -> bytes:
    return ENDPOINTS[path](body, bentoml.get_current_service().live.held)


async def _document(request: Request) -> JSONResponse:
    return JSONResponse(document(cast(Any, Ebbtide).openapi_spec.asdict(), version("ebbtide")))


async def _page(request: Request) -> HTMLResponse:
    return HTMLResponse(PAGE)


@bentoml.service(name="ebbtide", **OPTIONS)
@bentoml.asgi_app(Guard({path: endpoint.method for path, endpoint in ENDPOINTS.items()}, _answer), path="/v1")
@bentoml.asgi_app(Starlette(routes=[Route("/", _page), Route("/docs.json", _document)]), path="/")
class Ebbtide:
    """What each user will do next, as of a moment."""

    def __init__(self) -> None:
        settings = Settings.from_env(os.environ)
        self.exposing = None if settings.exposures is None else Exposing.to(settings.exposures, settings.explore)
        self.live = Live(settings, self.exposing)
        self.live.watch()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def write_what_waits(self) -> None:
        """The exposure log keeps answers for a moment before it writes them."""
        if self.exposing is not None:
            self.exposing.log.close()
