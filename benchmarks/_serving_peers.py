"""The two limits of `benchmarks/serving.py`: BentoML without anything in it, and Starlette without BentoML."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from models.churn import ChurnModel
from models.deployed import load_current
from serving.service import OPTIONS

HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"2")]


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"{}"})


@bentoml.service(name="empty", **OPTIONS)
@bentoml.asgi_app(_nothing, path="/v1")
class Empty:
    """What BentoML itself costs."""


def bare(model: ChurnModel) -> Starlette:
    """Decodes, scores a row that is ready, encodes; knows no users, checks nothing."""
    row = np.zeros((1, len(model.signals)), np.float32)

    async def churn(request: Request) -> Response:
        user = json.loads(await request.body())["users"][0]["user_id"]
        answer: dict[str, Any] = {"results": [{"user_id": user, "probability": float(model.score(row)[0])}]}
        return Response(json.dumps(answer), media_type="application/json")

    async def ready(request: Request) -> Response:
        return Response()

    return Starlette(routes=[Route("/v1/churn", churn, methods=["POST"]), Route("/readyz", ready)])


if __name__ == "__main__":
    deployed = load_current(Path(os.environ["EBBTIDE_DEPLOYED"]))
    assert deployed.churn is not None
    uvicorn.run(bare(deployed.churn), port=int(sys.argv[1]), access_log=False, log_level="error")
