"""The door: reads a request within limits, and gives every error the one form."""

import asyncio
import logging
from collections.abc import Callable, Collection, MutableMapping
from concurrent.futures import ThreadPoolExecutor

from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from features.errors import UserError
from serving.schemas import ErrorResponse, Problem

LARGEST_BODY = 1_000_000  # bytes
LARGEST_AT_ONCE = 4_000  # bytes; a longer body names many users or events, and is answered beside the others
MOST_AT_ONCE = 256  # requests read or answered at a time
JSON = "application/json"

log = logging.getLogger("bentoml.ebbtide")

Answer = Callable[[str, bytes], bytes]


class Refused(Exception):
    """A request that is not answered, and why."""

    def __init__(
        self, status: int, code: str, message: str, field: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.field, self.headers = status, code, field, headers or {}

    def body(self) -> bytes:
        """The error as JSON."""
        problem = Problem(code=self.code, message=str(self), field=self.field)
        return ErrorResponse(error=problem).model_dump_json().encode()


class Guard:
    """An ASGI app that takes POST requests of JSON at `paths`; `answer(path, body)` gives an answer's JSON."""

    def __init__(self, paths: Collection[str], answer: Answer) -> None:
        self._paths, self._answer = paths, answer
        self._beside = ThreadPoolExecutor(2, thread_name_prefix="answer")
        self._busy = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, whatever comes; nothing is raised."""
        if scope["type"] != "http":
            return
        self._busy += 1
        try:
            body = await self._answered(scope, receive)
        except Exception as error:
            refused = refusal(error)
            await _respond(send, refused.status, refused.body(), refused.headers)
        else:
            await _respond(send, 200, body, {})
        finally:
            self._busy -= 1

    async def _answered(self, scope: Scope, receive: Receive) -> bytes:
        path = scope["path"].removeprefix(scope.get("app_root_path", ""))
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        self._check(scope["method"], path, headers)
        body = await _read(receive)
        if len(body) <= LARGEST_AT_ONCE:
            return self._answer(path, body)
        return await asyncio.get_running_loop().run_in_executor(self._beside, self._answer, path, body)

    def _check(self, method: str, path: str, headers: MutableMapping[bytes, str]) -> None:
        """Refuse what can be refused before the body is read."""
        if path not in self._paths:
            raise Refused(404, "not_found", f"there is no {path}; there are {' and '.join(self._paths)}")
        if method != "POST":
            raise Refused(405, "method_not_allowed", f"{path} takes POST, not {method}", headers={"allow": "POST"})
        if self._busy > MOST_AT_ONCE:
            raise Refused(503, "busy", "too many requests at a time; try again", headers={"retry-after": "1"})
        media_type = headers.get(b"content-type", "").partition(";")[0].strip().lower()
        if media_type != JSON:
            raise Refused(415, "media_type", f"send JSON, with Content-Type: {JSON}, not {media_type or 'none'}")
        if headers.get(b"content-encoding", "identity").strip().lower() != "identity":
            raise Refused(415, "content_encoding", "send the body as it is, without Content-Encoding")
        if int(headers.get(b"content-length", "0")) > LARGEST_BODY:
            raise _too_large()


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            # BentoML waits for an answer even to nobody, and holds up the end of the server until it times out.
            raise Refused(400, "incomplete", "the request ended before its body did")
        body += message.get("body", b"")
        if len(body) > LARGEST_BODY:
            raise _too_large()
        if not message.get("more_body", False):
            return bytes(body)


async def _respond(send: Send, status: int, body: bytes, headers: dict[str, str]) -> None:
    given = {"content-type": JSON, "content-length": str(len(body)), **headers}
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _too_large() -> Refused:
    return Refused(413, "too_large", f"the body is over {LARGEST_BODY:,} bytes; send fewer users or events at a time")


def refusal(error: Exception) -> Refused:
    """An error as what the client is told; what is ours to mend goes to the log, not to the client."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, ValidationError):
        return _invalid(error)
    if isinstance(error, UserError):
        return Refused(422, "invalid", str(error))
    log.error("a request failed", exc_info=error)
    return Refused(500, "internal", "the service failed at this request; its log says why")


def _invalid(error: ValidationError) -> Refused:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field, more = path_of(first["loc"]), error.error_count() - 1
    also = f" (and {more} more)" if more else ""
    if first["type"] == "json_invalid":
        return Refused(400, "bad_json", f"the body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}")
    match first["type"]:
        case "extra_forbidden":
            said = "is not a known field: leave it out, or see /docs.json for its name"
        case "missing":
            said = "is missing"
        case _:
            message = first["msg"]
            said = message if message[:1].islower() else f"is wrong: {message[:1].lower()}{message[1:]}"
    return Refused(422, "invalid", f"{field or 'the request'} {said}{also}", field)


def path_of(places: tuple[int | str, ...]) -> str | None:
    """Where in a request, such as users[0].events[2].ts."""
    path = "".join(f"[{place}]" if isinstance(place, int) else f".{place}" for place in places)
    return path.removeprefix(".") or None
