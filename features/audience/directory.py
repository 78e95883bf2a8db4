"""What stands behind codes and ids: texts of a store's words, names of items, and what the users table tells."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from features.errors import UserError
from features.events import columns as c
from features.events.sent import Sent
from features.events.store import Store
from features.instants import instant
from features.timeline import Array


@dataclass(frozen=True)
class Entry:
    """What the users table tells of one user; None where it has no such column or value.

    Attributes:
        registered_at: µs.
        consent: channels to which the user agreed, "all" for all of them; None where the shop keeps no record.
        tags: every other column that has a value.
    """

    registered_at: int | None = None
    acquisition_channel: str | None = None
    invited_by: str | None = None
    region: str | None = None
    birthday: date | None = None
    consent: tuple[str, ...] | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)


NOBODY = Entry()
ALL_CHANNELS = "all"
_OWN = ("registered_at", "acquisition_channel", "invited_by", "region", "birthday", "consent")


class Directory:
    """Texts and tables of one store, looked up by code or id."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def texts(self, column: str, sent: Sent | None = None) -> list[str]:
        """Text by code of a coded column, such as `category` or `channel`; `sent` adds those of a request's events."""
        texts = self._store.words[column].texts
        return texts if sent is None or not sent.new[column] else [*texts, *sent.new[column]]

    @cached_property
    def item_names(self) -> list[str]:
        """Name by item code; empty where the items table has none."""
        return self._item_texts("name")

    @cached_property
    def item_brand(self) -> list[str]:
        """Brand by item code; empty where the items table has none."""
        return self._item_texts("brand")

    def _item_texts(self, column: str) -> list[str]:
        ids = self.texts(c.ITEM_ID)
        table = self._store.table("items")
        if table is None or column not in table.column_names:
            return [""] * len(ids)
        texts = dict(zip(table[c.ITEM_ID].to_pylist(), table[column].to_pylist(), strict=True))
        return [str(texts.get(item) or "") for item in ids]

    @cached_property
    def item_category(self) -> Array:
        """Category code by item code, from the items table; -1 where it has none."""
        table = self._store.facts.item_category
        known = np.full(len(self.texts(c.ITEM_ID)), -1, np.int32)
        if table is not None:
            size = min(table.size, known.size)
            known[:size] = table[:size]
        return known

    @cached_property
    def users(self) -> pa.Table | None:
        """The users table as it was given."""
        table = self._store.table("users")
        return None if table is None else table.combine_chunks()

    def keeps(self, column: str) -> bool:
        """Does the users table have this column?"""
        return self.users is not None and column in self.users.column_names

    def entry(self, user_id: str) -> Entry:
        """What the users table tells of a user."""
        row = self._row.get(user_id)
        if row is None or self.users is None:
            return NOBODY
        values: dict[str, Any] = {name: self.users[name][row].as_py() for name in self.users.column_names}
        registered = int(self._registered[row])
        tags = {n: v for n, v in values.items() if n not in _OWN and n != c.USER_ID and v is not None}
        return Entry(
            registered_at=None if registered == c.NEVER else registered,
            acquisition_channel=_text(values.get("acquisition_channel")),
            invited_by=_text(values.get("invited_by")),
            region=_text(values.get("region")),
            birthday=_date(values.get("birthday")),
            consent=_channels(values["consent"]) if "consent" in values else None,
            tags=tags,
        )

    @cached_property
    def _row(self) -> dict[str, int]:
        if self.users is None:
            return {}
        return {user: row for row, user in enumerate(self.users[c.USER_ID].to_pylist())}

    @cached_property
    def _registered(self) -> Array:
        return np.empty(0, np.int64) if self.users is None else registered_at(self.users)


def registered_at(users: pa.Table) -> Array:
    """int64[rows of a users table]: µs at which each user registered, `NEVER` where it does not tell.

    Dates and times, or ISO texts of them, UTC without a zone.

    Raises:
        UserError: the column holds something else.
    """
    if "registered_at" not in users.column_names:
        return np.full(len(users), c.NEVER)
    column = users["registered_at"]
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.array([_micros(text) for text in column.to_pylist()], np.int64)
    if not (pa.types.is_temporal(column.type) or pa.types.is_null(column.type)):
        raise _no_time(f"of type {column.type}")
    stamps = column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False)
    at: Array = stamps.cast(pa.int64()).fill_null(c.NEVER).to_numpy()
    return at


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _micros(text: str | None) -> int:
    try:
        return instant(datetime.fromisoformat(text)) if text else c.NEVER
    except ValueError:
        raise _no_time(repr(text)) from None


def _no_time(given: str) -> UserError:
    return UserError(
        f"the users table's registered_at is {given}: make it a TIMESTAMP or an ISO date or time in users.sql, and "
        "ingest again"
    )


def _date(value: Any) -> date | None:
    if isinstance(value, str):
        try:
            return date.fromisoformat(value[:10])
        except ValueError:
            return None
    return value.date() if isinstance(value, datetime) else value if isinstance(value, date) else None


def _channels(value: Any) -> tuple[str, ...]:
    """Of a flag, of one text with commas, or of a list."""
    if isinstance(value, bool | int):
        return (ALL_CHANNELS,) if value else ()
    if isinstance(value, str):
        given = [part.strip() for part in value.split(",") if part.strip()]
        yes, no = {"true", "yes", "1"}, {"false", "no", "0", "none"}
        return tuple(ALL_CHANNELS if part.lower() in yes else part for part in given if part.lower() not in no)
    return tuple(str(part) for part in value) if isinstance(value, list) else ()
