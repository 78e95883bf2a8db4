"""Users of a store, bucket by bucket, for scoring by the batch."""

from collections.abc import Iterator, Sequence

from features.events.store import Store
from features.timeline import Timeline

USERS_AT_ONCE = 10_000


def each_bucket(store: Store, users: Sequence[str] | None = None) -> Iterator[tuple[float, Timeline]]:
    """Timelines of all users, or of those named in their order, each with the share done when it is."""
    if users is None:
        chunks = store.chunks()
        for done, chunk in enumerate(chunks):
            yield (done + 1) / len(chunks), store.timeline(chunk)
        return
    for start in range(0, len(users), USERS_AT_ONCE):
        part = users[start : start + USERS_AT_ONCE]
        yield (start + len(part)) / len(users), store.timeline_of(part)
