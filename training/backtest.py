"""Rolling-origin evaluation: which moments to train on, and which later ones to test on."""

from dataclasses import dataclass
from datetime import UTC, datetime

from features.errors import UserError
from features.events.columns import DAY
from features.events.store import Store


@dataclass(frozen=True)
class Schedule:
    """Moments (µs), newest first. A test moment is predicted by a model whose outcome windows end at or before it."""

    as_of: int
    horizon: int
    train: tuple[int, ...]
    tests: tuple[int, ...]

    def train_for(self, known_until: int, shortest: int) -> tuple[int, ...]:
        """The training moments of which an outcome of so many days is known at an instant."""
        return tuple(moment for moment in self.train if moment + shortest * DAY <= known_until)


def schedule(
    first: int, as_of: int, *, horizon: int, shortest: int, lookback: int, stride: int, tests: int
) -> Schedule:
    """Moments for training as of `as_of` on a log whose first purchase is at `first` (µs); all else in days.

    Nothing at or after `as_of` is read. Training moments lie `stride` apart (at most half a horizon), one of them a
    horizon before `as_of`, the newest at least `shortest` before it; half a look-back of log lies before the oldest.
    Test moments start one horizon before `as_of` and lie a month apart (or a horizon, if that is shorter), as many as
    asked for and as have training moments.

    Raises:
        UserError: the log is too short; the message names the earliest possible `as_of`.
    """
    earliest = first + (2 * horizon + 2) * DAY
    if as_of < earliest:
        raise UserError(
            f"not enough log before --as-of {show(as_of)}: the first purchase is at {show(first)}, and training plus "
            f"one test need two outcome windows of {horizon} days, so --as-of must be {show(up(earliest))} or later; "
            f"or choose a shorter --horizon"
        )
    history = min(lookback // 2 * DAY, (as_of - first - 2 * horizon * DAY) // 2)
    newest_test = as_of - horizon * DAY
    step = max(1, min(stride, horizon // 2)) * DAY
    newest = newest_test + max(0, horizon - shortest) * DAY // step * step
    # One horizon before the newest test is always among them: it can then be tested whatever the stride.
    train = tuple(sorted({*range(newest, first + history - 1, -step), newest_test - horizon * DAY}, reverse=True))
    apart = max(1, min(horizon, 30)) * DAY
    oldest_trained = train[-1] + horizon * DAY
    tested = (newest_test - i * apart for i in range(tests))
    return Schedule(as_of, horizon, train, tuple(t for t in tested if t >= oldest_trained))


def first_purchase(store: Store) -> int:
    """Instant of the log's first purchase (µs).

    Raises:
        UserError: it has none.
    """
    first = store.facts.kinds_known.get("purchase")
    if first is None:
        kinds = ", ".join(sorted(store.facts.kinds_known)) or "none"
        raise UserError(f"the log has no event of kind purchase (its kinds: {kinds}); map yours to it in a .sql source")
    return first


def up(instant: int) -> int:
    """The next whole second (µs), which `show` can write."""
    return -(-instant // 1_000_000) * 1_000_000


def show(instant: int) -> str:
    """An instant (µs) for people: a date, with the time of day if it has one."""
    moment = datetime.fromtimestamp(instant / 1e6, UTC)
    return f"{moment:%Y-%m-%d}" if instant % DAY == 0 else f"{moment:%Y-%m-%dT%H:%M:%S}Z"
