"""A simulated shop whose log a policy writes on: users whom it contacts live on as the contacts have it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.audience.directory import Directory, Entry
from features.events import columns as c
from features.events.ingest import ingest
from features.events.intake import Columns, MoreWords, encode, hash_array
from features.events.segments import sorted_partition
from features.events.sent import Sent
from features.events.sources import Source
from features.events.store import Store
from features.timeline import Array, Timeline
from training.simulation.catalogue import Catalogue, make_catalogue
from training.simulation.contacts import Contacts, live, some_of
from training.simulation.parameters import ARMS, CAUSES, Parameters, load
from training.simulation.people import People, make_people
from training.simulation.shop import start_of
from training.simulation.truth import users_table

BEFORE, RUN, AFTER = 365, 60, 30  # days of the shop's own campaigns, of the policies, and of what comes of them
DAYS = BEFORE + RUN + AFTER
CHUNK = 1_000  # users simulated at once
HOUR = 9  # of the day, UTC, at which policies are asked


class Words(Directory):
    """A store's texts, and those of contacts that are not in it."""

    def __init__(self, store: Store, own: dict[str, MoreWords]) -> None:
        super().__init__(store)
        self._own = own

    def texts(self, column: str, sent: Sent | None = None) -> list[str]:
        known = super().texts(column, sent)
        return [*known, *self._own[column].texts] if self._own[column].texts else known


@dataclass(frozen=True)
class Shop:
    """A simulated shop: its users, its log without any contact, and the words of that log.

    Everybody has agreed to be written to, and is logged in from the day of registration on.
    """

    p: Parameters
    catalogue: Catalogue
    people: People
    store: Store

    @cached_property
    def own(self) -> dict[str, MoreWords]:
        return {name: MoreWords(words) for name, words in self.store.words.items()}

    @cached_property
    def directory(self) -> Directory:
        return Words(self.store, self.own)

    @cached_property
    def ids(self) -> list[str]:
        return [f"u{number:05d}" for number in self.people.number.tolist()]

    @cached_property
    def place(self) -> dict[str, int]:
        return {user: at for at, user in enumerate(self.ids)}

    @cached_property
    def entries(self) -> list[Entry]:
        return [self.directory.entry(user) for user in self.ids]

    @cached_property
    def base(self) -> list[Timeline]:
        """All users' timelines, contacts aside."""
        return list(self.store.timelines())

    @property
    def begin(self) -> int:
        """First instant of the log, µs."""
        return start_of(self.p.shop.start)

    def at(self, day: int) -> int:
        """Instant at which policies are asked on a day of their run, µs."""
        return self.begin + (BEFORE + day) * c.DAY + HOUR * 60 * c.MINUTE

    def state(self, user: Array, ts: Array) -> Array:
        """What users truly are at instants (µs): `CAUSES` of a drift, none for engaged, or gone."""
        day = (ts - self.begin) / c.DAY
        cause = np.where(self.people.drifting(user, day), self.people.cause[user], 0)
        return np.where(day >= self.people.gone[user], "gone", np.array(["engaged", *CAUSES[1:]])[cause])


def make_shop(name: str, users: int, seed: int, folder: Path) -> Shop:
    """Simulate and ingest a shop; `name` is a shipped one."""
    p = load(None if name == "default" else Path(name))
    # Who is never anonymous has all rows under one id, so that a user's rows can be exchanged as a whole.
    p = replace(p, visits=replace(p.visits, anonymous=0.0, anonymous_before=0.0))
    catalogue = make_catalogue(p, seed, DAYS)
    people = make_people(p, catalogue, seed, DAYS, np.arange(users))
    begin = start_of(p.shop.start)
    tables = [
        live(p, catalogue, some_of(people, np.arange(first, min(first + CHUNK, users))), DAYS, BEFORE)
        for first in range(0, users, CHUNK)
    ]
    pq.write_table(pa.concat_tables(tables), folder / "events.parquet")
    pq.write_table(catalogue.items(begin), folder / "items.parquet")
    known = users_table(people, begin)
    pq.write_table(known.append_column("consent", pa.array(["all"] * users)), folder / "users.parquet")
    source = Source(folder / "events.parquet", folder / "items.parquet", folder / "users.parquet")
    store = ingest(source, folder / "store", now=time.time_ns() // 1000).store
    assert store is not None
    return Shop(p, catalogue, people, store)


@dataclass(frozen=True)
class Contact:
    """One contact as a policy chose it: `user` is a place in the shop, `at` in µs, `arm` one of `ARMS`, and `cost` in
    currency units without what is taken off the price."""

    user: int
    at: int
    arm: str
    campaign: str
    channel: str
    cost: float


class Log:
    """A shop's log with the contacts of one policy; only who was contacted has other rows than in the shop's."""

    def __init__(self, shop: Shop, stays: float) -> None:
        self.shop, self.stays = shop, stays
        self.contacts: list[Contact] = []
        self._of_user: dict[int, list[Contact]] = {}
        self._rows: dict[int, Columns] = {}

    @property
    def touched(self) -> list[int]:
        """Users who were contacted, as places in the shop."""
        return list(self._rows)

    def add(self, contacts: Sequence[Contact]) -> None:
        """Make contacts; whatever follows from them is in the log, and becomes known in its time."""
        if not contacts:
            return
        self.contacts += contacts
        for contact in contacts:
            self._of_user.setdefault(contact.user, []).append(contact)
        users = np.array(sorted({contact.user for contact in contacts}))
        made = [(at, contact) for at, user in enumerate(users.tolist()) for contact in self._of_user[user]]
        given = Contacts(
            np.array([at for at, _ in made]),
            np.array([contact.at - self.shop.begin for _, contact in made]),
            np.array([ARMS.index(contact.arm) for _, contact in made]),
            [contact.campaign for _, contact in made],
            [contact.channel for _, contact in made],
        )
        shop = self.shop
        table = live(shop.p, shop.catalogue, some_of(shop.people, users), DAYS, BEFORE, given, self.stays)
        self._rows |= dict(zip(users.tolist(), self._encoded(table, users), strict=True))

    def _encoded(self, table: pa.Table, users: Array) -> list[Columns]:
        """Each user's rows as the store has them."""
        rows = sorted_partition(
            encode({name: _typed(name, table[name]) for name in table.column_names}, self.shop.own)[0]
        )
        hashes = hash_array(pa.array([self.shop.ids[user] for user in users]))
        owner, columns = rows.pop("user"), {name: values for name, values in rows.items() if name != "key"}
        edges = zip(np.searchsorted(owner, hashes), np.searchsorted(owner, hashes, side="right"), strict=True)
        return [{name: values[low:high] for name, values in columns.items()} for low, high in edges]

    def timeline(self, users: Sequence[int] | None = None) -> Timeline:
        """Of users who were contacted, by default all of them."""
        parts = [self._rows[user] for user in (self.touched if users is None else users)]
        ids = pa.array([self.shop.ids[user] for user in (self.touched if users is None else users)], pa.string())
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        offsets = np.cumsum([0, *(part[c.TS].size for part in parts)])
        kinds = (*self.shop.store.words[c.KIND].texts, *self.shop.own[c.KIND].texts)
        return Timeline(ids, offsets, columns, replace(self.shop.store.facts, kinds=kinds))


def _typed(name: str, column: pa.ChunkedArray) -> pa.Array:
    """A column of a simulated log as intake types it."""
    values = column.combine_chunks()
    if name in c.NUMBERS:
        units = c.NUMBERS[name][0]
        rounded = pc.floor(pc.add(pc.multiply(pc.cast(values, pa.float64()), float(units)), 0.5))
        return pc.cast(pc.fill_null(rounded, -1.0), pa.int64())
    if name in c.TIMES:
        return pc.fill_null(pc.cast(values, pa.int64()), -1)
    return pc.cast(values, pa.string())
