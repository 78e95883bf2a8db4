"""Users of a store, bucket by bucket, for scoring by the batch."""

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from features.events.store import Store
from features.timeline import Timeline
from models.answers import churn_answers
from models.churn import ChurnModel

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


def risks(
    store: Store, as_of: int, model: ChurnModel, progress: Callable[[float], None] = lambda share: None
) -> pa.Table:
    """`user_id`, `churn_probability` and `risk` of every user of whom the model knows enough, at a moment (µs)."""
    rows: list[tuple[str, float, str]] = []
    for share, timeline in each_bucket(store):
        told = churn_answers(timeline, as_of, model)
        rows += [(answer.user_id, answer.probability, answer.risk) for answer in told if answer.status == "ok"]
        progress(share)
    users, probability, risk = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {
            "user_id": pa.array(users, pa.string()),
            "churn_probability": pa.array(probability, pa.float64()),
            "risk": pa.array(risk, pa.string()),
        }
    )
