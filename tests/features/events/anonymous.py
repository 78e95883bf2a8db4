"""Logs in which devices are at work before, between and after the logins of their users; and whose rows are whose."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from features.events import columns as c
from features.events.intake import hash_text
from features.events.store import Store
from features.timeline import Timeline
from tests.features.support import as_micros, at, stamps

START = at("2024-05-01")
SECOND = 1_000_000


class Known(NamedTuple):
    """An event as a timeline tells it, and the last instant (µs) at which it was unknown there."""

    ts: int
    kind: str
    item: str | None
    device: str | None
    known: int


def with_devices(log: pd.DataFrame, seed: int, devices: int = 7) -> pd.DataFrame:
    """The log with a few devices that users share, with more logins, and with some rows whose user is not known."""
    rng = np.random.default_rng([seed, 3])
    device = pd.Series([f"d{code}" for code in rng.integers(0, devices, len(log))], log.index, object)
    device = device.where(rng.random(len(log)) < 0.7, None)
    kind = log["kind"].mask((rng.random(len(log)) < 0.1) & log["kind"].isin(["view", "search"]), "login")
    anonymous = device.notna() & ~kind.isin(c.LOGINS) & (rng.random(len(log)) < 0.4)
    return log.assign(device_id=device, kind=kind, user_id=log["user_id"].mask(anonymous, None))


def dense_log(seed: int, rows: int, *, late: bool, repeated: bool) -> pd.DataFrame:
    """A quarter of a minute of three users and three devices: everything at one instant, equal and late rows too."""
    rng = np.random.default_rng([seed, 4])
    kind = pd.Series(rng.choice(["view", "cart", "login", "register"], rows, p=[0.4, 0.2, 0.3, 0.1]))
    user = pd.Series(rng.choice(["u", "v", "w", "device:d1"], rows), dtype=object)
    user = user.mask(rng.random(rows) < np.where(kind.isin(c.LOGINS), 0.1, 0.6), None)
    device = pd.Series(rng.choice(["d1", "d2", "ü3"], rows), dtype=object)
    device = device.where(user.isna() | (rng.random(rows) < 0.6), None)
    ts = START + rng.integers(0, 15, rows) * SECOND
    log = pd.DataFrame({"user_id": user, "ts": stamps(ts), "kind": kind, "device_id": device})
    log["item_id"] = [f"i{number}" for number in (rng.integers(0, 3, rows) if repeated else range(rows))]
    if late:
        log["arrived_at"] = stamps(ts + rng.integers(1, 12, rows) * SECOND).where(rng.random(rows) < 0.5)
    return pd.concat([log, log.iloc[: rows // 10].assign(user_id="u")]) if repeated else log


def oracle(log: pd.DataFrame) -> dict[str, list[Known]]:
    """Each user's and each anonymous device's events: slow and obvious, from the contract."""
    rows = _rows(log)
    own: dict[str, Counter[Known]] = {}
    for user, event in rows:
        own.setdefault(user, Counter())[event] += 1
    logins = [(user, event) for user, event in rows if event.kind in ("login", "register") and event.device]
    logins = [(user, event) for user, event in logins if user != f"device:{event.device}"]
    out: dict[str, list[Known]] = {}
    for user, events in own.items():
        out[user] = list(events.elements())
        for device in {event.device for name, event in logins if name == user}:
            on_it = [(name, event) for name, event in logins if event.device == device]
            for event, count in own.get(f"device:{device}", Counter[Known]()).items():
                claims = [
                    login.known
                    for name, login in on_it
                    if name == user and event.ts <= login.ts and not _between(event, login, (e for _, e in on_it))
                ]
                if claims and event.device == device:  # who calls himself "device:d1" may be elsewhere
                    late = event._replace(known=max(event.known, min(claims)))
                    out[user] += [late] * (count - events[event])
    return {user: sorted(events, key=repr) for user, events in out.items()}


def _between(event: Known, login: Known, others: Iterable[Known]) -> bool:
    """Was another login, known no later than this one, at or after the event and before this login?"""
    return any(event.ts <= other.ts < login.ts and other.known <= login.known for other in others)


def _rows(log: pd.DataFrame) -> list[tuple[str, Known]]:
    ts = as_micros(log["ts"])
    arrived = log["arrived_at"] if "arrived_at" in log else pd.Series(pd.NaT, log.index)
    known = np.where(arrived.notna(), np.maximum(ts, as_micros(arrived.fillna(log["ts"])) - 1), ts)
    out = []
    for i, row in enumerate(log.astype(object).where(log.notna(), None).to_dict("records")):
        user = row["user_id"] if row["user_id"] is not None else f"device:{row['device_id']}"
        out.append((user, Known(int(ts[i]), row["kind"], row["item_id"], row["device_id"], int(known[i]))))
    return out


def told(timelines: Iterable[Timeline], store: Store, devices: Sequence[str]) -> dict[str, list[Known]]:
    """What timelines hold of each user, in the oracle's order."""
    names = {0: None} | {hash_text(device): device for device in devices}
    out: dict[str, list[Known]] = {}
    for timeline in timelines:
        values: dict[str, Any] = {name: timeline.column(name) for name in (c.TS, c.ITEM_ID, c.DEVICE_ID)}
        kinds = [timeline.facts.kinds[code] for code in timeline.columns[c.KIND]]
        items = [store.words[c.ITEM_ID].texts[code] if code >= 0 else None for code in values[c.ITEM_ID]]
        devices_ = [names[device] for device in values[c.DEVICE_ID].tolist()]
        events = [*map(Known, values[c.TS].tolist(), kinds, items, devices_, timeline.known.tolist())]
        for user, first, stop in zip(
            timeline.user_ids.to_pylist(), timeline.offsets[:-1], timeline.offsets[1:], strict=True
        ):
            assert user not in out
            assert (np.diff(values[c.TS][first:stop]) >= 0).all()
            out[user] = sorted(events[first:stop], key=repr)
    return out
