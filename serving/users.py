"""The users of a request as a timeline, and the moment that is asked about."""

import time
from collections.abc import Sequence
from typing import Any

from features.events import columns as c
from features.events.sent import Sent, encode_sent
from features.events.store import Store
from features.timeline import Timeline
from serving.guard import Refused
from serving.schemas import User


def timeline_of(users: Sequence[User], store: Store) -> tuple[Timeline, Sent | None]:
    """What the store and the request together know of each user, in the order of the request; and what was sent.

    Raises:
        Refused: a user is named twice.
    """
    ids = [user.timeline_id for user in users]
    if len(set(ids)) < len(ids):
        raise _repeated(ids)
    rows = [row for user, user_id in zip(users, ids, strict=True) for row in _rows(user, user_id)]
    sent = encode_sent(rows, store.words) if rows else None
    return store.timeline_of(ids, sent), sent


def _rows(user: User, user_id: str) -> list[dict[str, Any]]:
    # A row of the log would carry the device too, and an event that the store holds already must be known as such.
    return [
        {**event.__dict__, c.USER_ID: user_id, c.DEVICE_ID: event.device_id or user.device_id} for event in user.events
    ]


def _repeated(ids: Sequence[str]) -> Refused:
    first = {user_id: place for place, user_id in reversed(list(enumerate(ids)))}
    place = next(place for place, user_id in enumerate(ids) if first[user_id] != place)
    again = f"users[{place}]"
    return Refused(422, "invalid", f"{again} is users[{first[ids[place]]}] again: name each user once", again)


def moment_of(as_of: int | None, default: int | None) -> int:
    """The request's moment, else the server's, else the clock; µs."""
    if as_of is not None:
        return as_of
    return default if default is not None else time.time_ns() // 1_000
