"""How users came: when (registered, or else first seen in the log), by which channel, and where in the shop."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.audience.directory import Directory, registered_at
from features.audience.learn import anonymous
from features.events import columns as c
from features.events.store import Store
from features.timeline import Array, Facts, Moment, Timeline

REGISTER = "register"
# What a user does in the shop itself; an advert seen elsewhere or a message opened names another kind of channel.
IN_SHOP = (REGISTER, "login", "view", "search", "favourite", "cart", "order_placed", "purchase")
# Kinds that show a user who does not buy; without any of them a log sees its users only when they buy.
VISITS = ("login", "view", "search", "favourite", "cart")


def seen_from(facts: Facts, kind: str = c.MADE) -> int:
    """µs from which on the log shows events of a kind (or any that users make); `NEVER` if it does not."""
    known = facts.kinds_known.items()
    return min((at for k, at in known if k == kind or (kind == c.MADE and k not in c.NOT_BY_USER)), default=c.NEVER)


def sees_visits(facts: Facts, as_of: int) -> bool:
    """Did the log show, before the moment (µs), users who look around and do not buy?"""
    return any(facts.kind_observed(kind, as_of) for kind in VISITS)


@dataclass(frozen=True)
class Arrivals:
    """What a store tells of how users came.

    Attributes:
        registered_at: µs by row of the users table, `NEVER` where it has none; None without such a column.
        source: text by row of the users table; None without the column `acquisition_channel`.
        user_ids: of the users table.
        channels: text by code of the column `channel`.
    """

    user_ids: pa.Array
    registered_at: Array | None
    source: list[str | None] | None
    channels: list[str]

    @classmethod
    def of(cls, store: Store) -> "Arrivals":
        """Read once, for all timelines of the store."""
        directory = Directory(store)
        users = directory.users
        if users is None:
            return cls(pa.array([], pa.string()), None, None, directory.texts("channel"))
        ids = users[c.USER_ID].combine_chunks()
        registered = registered_at(users) if directory.keeps("registered_at") else None
        source = None
        if directory.keeps("acquisition_channel"):
            source = [None if text is None else str(text) for text in users["acquisition_channel"].to_pylist()]
        return cls(ids, registered, source, directory.texts("channel"))

    def rows(self, timeline: Timeline) -> Array:
        """int64[users]: row of the users table, -1 where it has none."""
        found: pa.Array = pc.index_in(timeline.user_ids.cast(pa.string()), value_set=self.user_ids)
        return found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)

    def since(self, timeline: Timeline, moment: Moment, rows: Array) -> tuple[Array, Array]:
        """Days since each user came, float64[users], and is it told, or only the first event seen? bool[users].

        NaN for anonymous devices and before any event. The same as `features.audience.segments.registered_since`,
        without a look at each user by name. `rows` are as the method gives them.
        """
        at: Array = np.full(rows.size, c.NEVER)
        if self.registered_at is not None:
            at = np.append(self.registered_at, c.NEVER)[rows]
        days = moment.days_since_first(REGISTER)
        table = np.where(at < moment.as_of, (moment.as_of - np.minimum(at, moment.as_of)) / c.DAY, np.nan)
        days = np.where(np.isnan(days), table, days)
        there = moment.present & ~anonymous(timeline)
        since = np.where(np.isnan(days), moment.days_since_first(c.ANY), days)
        return np.where(there, since, np.nan), there & ~np.isnan(days)

    def source_of(self, known: Timeline, as_of: int, rows: Array) -> Array | None:
        """object[users]: the channel that brought each user, None where it is not known; None if it never is.

        As the users table has it, else the channel of the user's registration before the moment (µs); `known` is
        `timeline.known_before(as_of)`.
        """
        if self.source is not None:
            return np.array([*self.source, None], object)[rows]
        return self._first_channel(known, as_of, (REGISTER,))

    def surface_of(self, known: Timeline, as_of: int) -> Array | None:
        """object[users]: where in the shop each user was first seen (app, web …); None if no such event names it.

        That is the channel of the user's first own event in the shop, before the moment, that has one.
        """
        return self._first_channel(known, as_of, IN_SHOP)

    def _first_channel(self, known: Timeline, as_of: int, kinds: tuple[str, ...]) -> Array | None:
        wanted = np.zeros(256, bool)
        wanted[[place for place, kind in enumerate(known.facts.kinds) if kind in kinds]] = True
        code = known.column("channel")
        rows = np.flatnonzero(wanted[known.columns[c.KIND]] & (code >= 0) & (known.columns[c.TS] < as_of))
        if not rows.size:
            return None
        user = np.searchsorted(known.offsets, rows, side="right") - 1
        user, first = np.unique(user, return_index=True)
        out = np.full(len(known), None, object)
        out[user] = np.array(self.channels, object)[code[rows[first]]]
        return out
