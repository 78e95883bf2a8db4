"""A small world for ladders: users who live on by themselves, and a sender that carries out plans."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from features.audience.directory import Directory, Entry
from features.events import columns as c
from features.events.store import Store
from features.tables import parse_table
from features.timeline import Timeline
from models.audience import Profile
from models.contacts import contacts_of
from models.playbook import Playbook
from models.policy import Decision, decide
from tests.features.support import Array, at, ingest_frame

CODED = (c.KIND, "campaign_id", "channel")
DAY, HOUR = 86_400_000_000, 3_600_000_000
START = at("2024-03-01")
DAYS = 60
TEXT = (files("models") / "playbooks" / "default.toml").read_text("utf-8").replace('"UTC"', '"Asia/Shanghai"')
BOOK = parse_table(TEXT, Playbook, "default.toml")


class Sending(NamedTuple):
    """A message that was sent, and when it was decided on."""

    user: str
    ts: int
    planned_at: int
    campaign: str
    channel: str
    contact_id: str


def chance(*words: object) -> float:
    """A number from 0 to 1 that depends on these words alone."""
    return int(blake2b(repr(words).encode(), digest_size=7).hexdigest(), 16) / 2**56


# ------------------------------------------------------------------------------------------------- own lives


def lives(users: int, seed: int = 5) -> pd.DataFrame:
    """What users do by themselves, from 150 days before the start to the end, and what others send them."""
    rng = np.random.default_rng(seed)
    rate = rng.choice([0.25, 0.05, 0.01], users, p=[0.3, 0.4, 0.3])
    joined = START + ((rng.random(users) * 190 - 150) * DAY).astype(np.int64)
    stops = joined + (rng.exponential(70, users) * DAY).astype(np.int64)  # and hardly comes any more
    parts = [("register", np.arange(users), joined, "", "web")]

    def happens(kind: str, chances: Array, campaign: str = "", channel: str = "web") -> None:
        for day in range(-150, DAYS):
            ts = START + day * DAY + (rng.random(users) * DAY).astype(np.int64)
            alive = np.where(ts < stops, 1.0, 0.1)
            who = np.flatnonzero((ts > joined) & (rng.random(users) < chances * alive))
            parts.append((kind, who, ts[who], campaign, channel))

    happens("view", rate)
    happens("cart", rate / 5)
    happens("purchase", rate / 2)
    happens("message_sent", np.full(users, 0.02), "spring sale", "email")
    happens("opt_out", np.full(users, 0.001), channel="sms")
    happens("opt_out", np.full(users, 0.001), channel="")
    happens("opt_in", np.full(users, 0.002), channel="")
    happens("coupon_received", np.full(users, 0.01), "spring sale")
    columns = {
        "user_id": np.concatenate([who for _, who, *_ in parts]),
        "ts": np.concatenate([ts for _, _, ts, *_ in parts]),
        **{
            name: np.concatenate([np.full(len(part[1]), part[place], object) for part in parts])
            for name, place in (("kind", 0), ("campaign_id", 3), ("channel", 4))
        },
    }
    log = pd.DataFrame(columns).sort_values("ts", kind="stable")
    return log.assign(user_id=[name_of(user) for user in log["user_id"]])


def name_of(user: int) -> str:
    return f"user {user:05d}"


def words() -> pd.DataFrame:
    """Somebody else, to whom every message went long ago: the store then knows all words that will be used."""
    rows = [
        (f"{ladder.name}/{number + 1}", step.channel)
        for ladder in BOOK.ladder
        for number, step in enumerate(ladder.step)
    ]
    long_ago = START - 1_000 * DAY
    log = pd.DataFrame(rows, columns=["campaign_id", "channel"]).assign(user_id="somebody", ts=long_ago)
    return pd.concat([log.assign(kind="message_sent"), log.assign(kind="message_opened")], ignore_index=True)


def ingested(log: pd.DataFrame, folder: Path) -> Store:
    """The log as a store."""
    blank = log.assign(ts=log["ts"].to_numpy().astype("datetime64[us]")).replace({"": None})
    store = ingest_frame(blank, folder / "store").store
    assert store is not None
    return store


# ------------------------------------------------------------------------------------------------- the world


@dataclass
class World:
    """The users of a store, what was sent to them, and what they did about it, if they do anything."""

    store: Store
    answering: bool = True
    sent: list[Sending] = field(default_factory=list)
    answers: list[tuple[str, int, str, str]] = field(default_factory=list)  # user, ts, kind, campaign
    _pending: list[Sending] = field(default_factory=list)
    _rows: list[tuple[int, ...]] = field(default_factory=list)  # of the timeline: user, ts, kind, campaign, channel

    def __post_init__(self) -> None:
        whole = list(self.store.timelines())
        assert len(whole) == 1
        self._base = whole[0]
        self.users: list[str] = self._base.user_ids.to_pylist()
        self._place = {user: place for place, user in enumerate(self.users)}
        self.entries = [entry_of(user) for user in self.users]
        self._directory = Directory(self.store)
        self._code = {
            name: {text: code for code, text in enumerate(self.store.words[name].texts)} | {"": -1} for name in CODED
        }

    def timeline(self) -> Timeline:
        """All that has happened, and what users will do by themselves."""
        old = self._base
        if not self._rows:
            return old
        new = np.array(self._rows, np.int64)
        owner = np.append(np.repeat(np.arange(len(old)), np.diff(old.offsets)), new[:, 0])
        names = (c.TS, *CODED)
        columns = {
            n: np.append(old.columns[n], new[:, 1 + at].astype(old.columns[n].dtype)) for at, n in enumerate(names)
        }
        order = np.lexsort((columns[c.TS], owner))
        offsets = np.searchsorted(owner[order], np.arange(len(old) + 1))
        return Timeline(old.user_ids, offsets, {n: v[order] for n, v in columns.items()}, old.facts)

    def plan(self, as_of: int, users: slice = slice(None)) -> list[Decision]:
        """The decisions on all users, or on some."""
        timeline = self.timeline()
        contacts = contacts_of(timeline, as_of, self._directory)
        profiles = profiles_of(timeline, as_of)
        return decide(profiles[users], contacts[users], self.entries[users], as_of, BOOK)

    def run(self, as_of: int) -> list[Decision]:
        """Make the plan of a moment. It takes the place of what the plan before it has not sent by then."""
        self.send(message for message in self._pending if message.ts <= as_of)
        decisions = self.plan(as_of)
        planned = sendings(decisions, as_of)
        self.send(message for message in planned if message.ts == as_of)
        self._pending = [message for message in planned if message.ts > as_of]
        return decisions

    def send(self, messages: Iterable[Sending]) -> None:
        """These go out, and their receivers open them or not, return or not, as a dice says."""
        for message in messages:
            self.sent.append(message)
            self._add(message.user, message.ts, "message_sent", message.campaign, message.channel)
            after = message.ts + int(chance("delay", message.contact_id) * 3 * DAY)
            acts = [("message_opened", message.campaign, 0, chance("opens", message.contact_id) < 0.3)]
            returns = chance("returns", message.contact_id)
            acts += [("view", "", 0, returns < 0.15), ("purchase", "", HOUR, returns < 0.07)]
            for kind, campaign, later, happens in acts:
                if happens and self.answering:
                    self.answers.append((message.user, after + later, kind, campaign))
                    self._add(message.user, after + later, kind, campaign, "web")

    def _add(self, user: str, ts: int, *words: str) -> None:
        codes = (self._code[name][word] for name, word in zip(CODED, words, strict=True))
        self._rows.append((self._place[user], ts, *codes))


def sendings(decisions: Iterable[Decision], as_of: int) -> list[Sending]:
    """The messages of a plan."""
    out = []
    for d in decisions:
        if d.action == "contact":
            assert d.send_at is not None
            assert d.contact_id is not None
            out.append(Sending(d.user_id, d.send_at, as_of, f"{d.ladder}/{d.step}", str(d.channel), d.contact_id))
    return out


def entry_of(user: str) -> Entry:
    """What the users table tells: most agreed to every channel, some to one, some never said."""
    draw = chance("consent", user)
    consent = ("all",) if draw < 0.85 else ("push",) if draw < 0.9 else None
    return Entry(consent=consent, birthday=date(1980, 1, 1) + timedelta(days=int(chance("birthday", user) * 3650)))


def profiles_of(timeline: Timeline, as_of: int) -> list[Profile]:
    """A rough idea of who users are: stages by their purchases; risk and cause change with the week, as a dice says."""
    bought = _newest(timeline, "purchase", as_of)
    first = np.maximum.reduceat(np.where(timeline.columns[c.TS] > 0, -timeline.columns[c.TS], 0), timeline.offsets[:-1])
    out = []
    for user, (last, joined) in enumerate(zip(bought.tolist(), (-first).tolist(), strict=True)):
        name = timeline.user_ids[user].as_py()
        silent = (as_of - last) / DAY if last >= 0 else None
        draw = chance(name, as_of // (7 * DAY))
        stage = _stage(silent, chance("maturity", name))
        left = stage in ("dormancy", "lost")
        going = stage not in ("registered", "dormancy", "lost") and draw < 0.3
        newcomer = "no_action" if silent is None else "bought"
        out.append(
            Profile(
                user_id=name,
                status="ok",
                stage=stage,
                leaving="left" if left else "about_to_leave" if going else "staying",
                tier="active" if silent is not None and silent < 10 else "high_value" if draw > 0.9 else None,
                newcomer=newcomer if joined < as_of < joined + 14 * DAY else None,
                cause=("natural", "soft", "experience", "unknown")[int(draw * 40) % 4],
                decile=1 + int(chance("decile", name) * 10),
                days_since_purchase=silent,
            )
        )
    return out


def _stage(silent: float | None, draw: float) -> str:
    if silent is None:
        return "registered"
    if silent > 25:
        return "lost" if silent > 80 else "dormancy"
    return ("introduction", "growth", "maturity")[int(draw * 3)]


def _newest(timeline: Timeline, kind: str, as_of: int) -> Array:
    """Newest instant of a kind before the moment, -1 if there is none, int64[users]."""
    stream = timeline.stream(kind)
    out = np.full(len(timeline), -1)
    owner = np.repeat(np.arange(len(timeline)), np.diff(stream.offsets))
    before = stream.ts < as_of
    out[owner[before]] = stream.ts[before]
    return out
