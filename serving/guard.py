"""The door: reads a request within limits, and gives every error the one form."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Literal
from urllib.parse import parse_qsl

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
Method = Literal["GET", "POST"]


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
    """An ASGI app: `answer(path, body)` gives the JSON of an answer at one of `paths`.

    POST sends the body. GET is of one thing: its path is followed by a slash and an id, and the body is then what id
    and query string say, as JSON of texts.
    """

    def __init__(self, paths: Mapping[str, Method], answer: Answer) -> None:
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
        path, about = self._asked(scope["path"].removeprefix(scope.get("app_root_path", "")))
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        self._check(scope["method"], path, headers)
        body = await _read(receive) if about is None else _query(scope["query_string"], about)
        if len(body) <= LARGEST_AT_ONCE:
            return self._answer(path, body)
        return await asyncio.get_running_loop().run_in_executor(self._beside, self._answer, path, body)

    def _asked(self, path: str) -> tuple[str, str | None]:
        """Which of the paths a request is for, and of GET which thing."""
        for known, method in self._paths.items():
            if path == known and method == "POST":
                return path, None
            if method == "GET" and len(path) > len(known) + 1 and path.startswith(f"{known}/"):
                return known, path[len(known) + 1 :]
        shown = (known if method == "POST" else f"{known}/ID" for known, method in self._paths.items())
        raise Refused(404, "not_found", f"there is no {path}; there are {and_(shown)}")

    def _check(self, method: str, path: str, headers: MutableMapping[bytes, str]) -> None:
        """Refuse what can be refused before the body is read."""
        allowed = self._paths[path]
        if method != allowed:
            raise Refused(
                405, "method_not_allowed", f"{path} takes {allowed}, not {method}", headers={"allow": allowed}
            )
        if self._busy > MOST_AT_ONCE:
            raise Refused(503, "busy", "too many requests at a time; try again", headers={"retry-after": "1"})
        if allowed == "GET":
            return
        media_type = headers.get(b"content-type", "").partition(";")[0].strip().lower()
        if media_type != JSON:
            raise Refused(415, "media_type", f"send JSON, with Content-Type: {JSON}, not {media_type or 'none'}")
        if headers.get(b"content-encoding", "identity").strip().lower() != "identity":
            raise Refused(415, "content_encoding", "send the body as it is, without Content-Encoding")
        if int(headers.get(b"content-length", "0")) > LARGEST_BODY:
            raise _too_large()


def _query(query: bytes, about: str) -> bytes:
    """What a GET asks, as JSON; a name that is given twice is refused."""
    given = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    names = [name for name, _ in given]
    again = next((name for at, name in enumerate(names) if name == "id" or name in names[:at]), None)
    if again is not None:
        wrong = (
            "stands in the path: take it out of the query string" if again == "id" else "is given twice: give it once"
        )
        raise Refused(422, "invalid", f"{again} {wrong}", again)
    return json.dumps({"id": about, **dict(given)}).encode()


def and_(words: Iterable[str]) -> str:
    """Words in a sentence."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


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
