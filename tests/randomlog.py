"""A seeded, nasty random log: every kind and column of the contract, and every edge that a window or a tie has.

What is in it: rows at one instant, rows exactly at window borders (and a microsecond either side) of every moment,
rows at the moment itself, null orders, quantities, categories, sessions and dwells, equal item lines of one order,
late arrivals (one exactly at a moment), users with one event, users who only received messages, users whose first
event is after a moment, free items, two orders at one instant, and one order whose lines are days apart.

What is not: rows that intake refuses (negative prices, no user), and rows whose reading the contract leaves open
(a price x quantity that needs more than four decimals, and events of one instant in different sessions).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tests.oracle import moment_us

Array = npt.NDArray[Any]

DAY_US = 86_400_000_000
START = pd.Timestamp("2023-05-01")
END = pd.Timestamp("2024-09-01")
#: a midnight inside the log, an odd microsecond later on, and one after the last event
MOMENTS = (
    pd.Timestamp("2024-03-01T00:00:00").to_pydatetime(),
    pd.Timestamp("2024-07-09T13:37:11.123457").to_pydatetime(),
    pd.Timestamp("2024-09-01T00:00:00").to_pydatetime(),
)
BORDERS = (0, 1, 7, 14, 21, 28, 30, 35, 42, 60, 77, 84, 90, 180, 365)  # days before a moment at which something ends

COMMON = ("view", "cart", "purchase", "refund", "login", "search")
RARE = (
    "register", "favourite", "order_placed", "payment_failed", "delivered", "complaint", "review", "share", "invite",
    "not_interested", "survey_answer", "coupon_received", "coupon_used", "message_sent", "message_opened", "touch",
    "opt_out", "a_kind_of_its_own",
)  # fmt: skip
TO_THE_USER = ("message_sent", "coupon_received", "delivered")
ITEMS, CATEGORIES = 40, 9


def random_log(
    seed: int,
    users: int = 60,
    events: int = 6_000,
    *,
    dwell: bool = True,
    session: bool = True,
    arrived_at: bool = True,
    order_id: bool = True,
    category: bool = True,
    item_id: bool = True,
    discount: bool = True,
    amount: bool = True,
    price: bool = True,
    event_id: bool = True,
    kinds: Sequence[str] | None = None,
    purchase_only: bool = False,
) -> pd.DataFrame:
    """About ``events`` rows, shuffled. A flag set to False leaves that column out; ``kinds`` keeps only those."""
    rng = np.random.default_rng(seed)
    log = _who_when_what(rng, users, events)
    log = _with_columns(rng, log)
    log = pd.concat([log, _edges(rng, users)], ignore_index=True)
    log["session_id"] = _sessions(log)
    log["arrived_at"] = _arrivals(rng, log["ts"])
    log = pd.concat([log, _equal_lines(rng, log)], ignore_index=True)
    log = log.sample(frac=1.0, random_state=seed).reset_index(drop=True)
    log["event_id"] = [f"e{number:06d}" for number in range(len(log))]
    kept = ("purchase",) if purchase_only else kinds
    if kept is not None:
        log = log[log["kind"].isin(kept)].reset_index(drop=True)
    flags = {"dwell_s": dwell, "session_id": session, "arrived_at": arrived_at, "order_id": order_id,
             "category": category, "item_id": item_id, "discount": discount, "amount": amount, "price": price,
             "event_id": event_id}  # fmt: skip
    return log.drop(columns=[name for name, keep in flags.items() if not keep])


def random_items(seed: int) -> pd.DataFrame:
    """An items table: some items without a category, one category that no event names, some items not listed."""
    rng = np.random.default_rng([seed, 1])
    number = np.arange(ITEMS - 4)
    category = np.array([f"shelf/c{code}" for code in rng.integers(0, CATEGORIES + 1, len(number))], dtype=object)
    category[::7] = None
    return pd.DataFrame({"item_id": [f"i{code}" for code in number], "category": category})


# ------------------------------------------------------------------------------------------------- the bulk


def _user(codes: Array) -> Array:
    return np.array([f"u{code:04d}" for code in codes], dtype=object)


def _who_when_what(rng: np.random.Generator, users: int, events: int) -> pd.DataFrame:
    """Users of very different activity; bursts of events minutes apart, some at the very same microsecond."""
    activity = rng.lognormal(0.0, 1.5, users)  # some users come a hundred times as often as others
    bursts = max(1, events // 4)
    span = (END.value - START.value) // 1_000
    origin = START.value // 1_000
    user = rng.choice(users, bursts, p=activity / activity.sum())
    begin = origin + rng.integers(0, span, bursts)
    begin[::5] -= begin[::5] % 60_000_000  # some logs only know the minute
    burst = rng.integers(0, bursts, events)
    step = rng.choice([0, 1, 1_000_000, 61_000_003, 600_000_000, 1_800_000_000, 1_800_000_001, 5_000_000_000], events)
    times = rng.integers(0, 4, events)
    kinds = np.where(rng.random(events) < 0.8, rng.choice(COMMON, events, p=_COMMON_SHARES), rng.choice(RARE, events))
    return pd.DataFrame({"user_id": _user(user[burst]), "ts": _stamp(begin[burst] + step * times), "kind": kinds})


_COMMON_SHARES = (0.45, 0.12, 0.25, 0.06, 0.07, 0.05)


def _stamp(micros: Array) -> pd.Series:
    return pd.Series(np.asarray(micros, dtype="int64").view("datetime64[us]"))


def _some(rng: np.random.Generator, values: Array, share: float) -> Array:
    """The values, null outside the share."""
    kept = values.astype(object)
    kept[rng.random(len(kept)) >= share] = None
    return kept


def _only(where: Array, values: Array | str) -> Array:
    """The values where the condition holds, else null."""
    kept = np.full(len(where), None, dtype=object)
    kept[where] = values if isinstance(values, str) else values[where]
    return kept


def _floats(rng: np.random.Generator, values: Array, share: float) -> Array:
    return np.where(rng.random(len(values)) < share, values, np.nan)


def _with_columns(rng: np.random.Generator, log: pd.DataFrame) -> pd.DataFrame:
    size = len(log)
    kind = log["kind"].to_numpy()
    about_item = np.isin(kind, ["view", "cart", "purchase", "refund", "favourite", "complaint", "review", "share"])
    paid = np.isin(kind, ["purchase", "refund", "order_placed"])
    item = rng.integers(0, ITEMS, size)
    log["item_id"] = _only(about_item, _some(rng, np.char.add("i", item.astype(str)), 0.9))
    own = np.char.add("shelf/c", rng.integers(0, CATEGORIES, size).astype(str))
    log["category"] = _only(about_item, _some(rng, own, 0.5))
    price, quantity = _prices_and_quantities(rng, size)
    log["price"] = np.where(about_item, _floats(rng, price, 0.9), np.nan)
    log["quantity"] = np.where(paid, _floats(rng, quantity, 0.6), np.nan)
    total = _rounded(rng, rng.gamma(2.0, 12.0, size))
    log["amount"] = np.where(paid, _floats(rng, total, 0.4), np.nan)
    log["discount"] = np.where(paid, _floats(rng, np.round(rng.gamma(1.0, 2.0, size), 2), 0.3), np.nan)
    order = np.char.add("o", rng.integers(0, max(2, size // 8), size).astype(str))  # shared by users, days apart
    log["order_id"] = _only(paid, _some(rng, order, 0.7))
    dwell = np.round(rng.gamma(1.0, 60.0, size), 3)
    log["dwell_s"] = np.where(kind == "view", _floats(rng, dwell, 0.8), np.nan)
    return _other_columns(rng, log)


def _rounded(rng: np.random.Generator, values: Array) -> Array:
    """Whole numbers, up to four decimals, and more than four; never half of the fourth decimal."""
    scale = 10.0 ** rng.choice([0, 1, 2, 3, 4, 12], len(values))
    return np.round(values * scale) / scale


def _prices_and_quantities(rng: np.random.Generator, size: int) -> tuple[Array, Array]:
    """Whole pieces at prices of any decimals, or quarters of a piece at prices of two: products of four decimals."""
    price = np.round(rng.gamma(2.0, 10.0, size), 2)
    price[rng.random(size) < 0.1] = 0.0
    quantity = rng.choice([0.25, 0.5, 1.0, 2.0, 3.0, 12.0], size)
    long = rng.random(size) < 0.2
    price[long] = rng.gamma(2.0, 10.0, int(long.sum()))
    quantity[long] = np.ceil(quantity[long])
    return price, quantity


def _other_columns(rng: np.random.Generator, log: pd.DataFrame) -> pd.DataFrame:
    """The contract columns that no signal reads."""
    size, kind = len(log), log["kind"].to_numpy()
    log["channel"] = _some(rng, rng.choice(["web", "app", "mail"], size), 0.7)
    log["device_id"] = _some(rng, np.char.add("d", rng.integers(0, 99, size).astype(str)), 0.3)
    log["page"] = _some(rng, rng.choice(["home", "item", "natural", "soft", "experience", "other"], size), 0.3)
    log["place"] = _some(rng, rng.choice(["banner", "list"], size), 0.2)
    log["merchant_id"] = _some(rng, np.char.add("m", rng.integers(0, 5, size).astype(str)), 0.4)
    log["search_results"] = np.where(kind == "search", rng.integers(0, 3, size), np.nan)
    log["campaign_id"] = _only(np.char.startswith(kind.astype(str), "message"), "spring")
    log["arm"] = _some(rng, rng.choice(["control", "treated"], size), 0.1)
    return log


# ------------------------------------------------------------------------------------------------- the edges


def _edges(rng: np.random.Generator, users: int) -> pd.DataFrame:
    """Rows at each border of each moment and a microsecond either side, and the users of a single story."""
    borders = [moment_us(moment) - days * DAY_US for moment in MOMENTS for days in BORDERS]
    micros = np.array([border + step for border in borders for step in (-1, 0, 1) for _ in range(5)])
    kinds = rng.choice(["view", "cart", "purchase", "purchase", "refund", "message_sent", "search"], len(micros))
    at_borders = pd.DataFrame(
        {"user_id": _user(rng.integers(0, max(1, users // 3), len(micros))), "ts": _stamp(micros), "kind": kinds}
    )
    edges = pd.concat([at_borders, _stories()], ignore_index=True)
    return _with_columns(rng, edges)


def _stories() -> pd.DataFrame:
    """Users whose whole history is one line."""
    first, second, last = (moment_us(moment) for moment in MOMENTS)
    hour = 3_600_000_000
    rows = [
        ("one view", first - hour, "view"),
        ("one purchase", first - hour, "purchase"),
        ("one message", first - hour, "message_sent"),
        ("only messages", first - 3 * hour, "message_sent"),
        ("only messages", first - 2 * hour, "delivered"),
        ("at the moment", first, "purchase"),
        ("after the moment", first + 1, "purchase"),
        ("two at once", first - hour, "purchase"),
        ("two at once", first - hour, "purchase"),
        ("two apart", first - 40 * 24 * hour, "purchase"),
        ("two apart", first - 33 * 24 * hour, "purchase"),
        ("even steps", first - 30 * 24 * hour, "purchase"),
        ("even steps", first - 20 * 24 * hour, "purchase"),
        ("even steps", first - 10 * 24 * hour, "purchase"),
        ("silent since", first - 200 * 24 * hour, "view"),
        ("silent since", first - 220 * 24 * hour, "view"),
        ("across the moment", second - 60_000_000, "view"),
        ("across the moment", second + 60_000_000, "view"),
        ("idle border", second - hour, "view"),
        ("idle border", second - hour + 1_800_000_000, "view"),
        ("idle border", second - hour + 3_600_000_001 - 1_000_000, "view"),
        ("refunds only", second - hour, "refund"),
        ("of the last day", last - 1, "view"),
    ]
    return pd.DataFrame(
        {"user_id": [row[0] for row in rows], "ts": _stamp(np.array([row[1] for row in rows])),
         "kind": [row[2] for row in rows]}
    )  # fmt: skip


def _equal_lines(rng: np.random.Generator, log: pd.DataFrame) -> pd.DataFrame:
    """Some purchases again, every column the same: two lines of one invoice are two lines."""
    bought = log[log["kind"] == "purchase"]
    return bought.sample(n=min(len(bought), max(1, len(log) // 50)), random_state=int(rng.integers(0, 2**31)))


def _sessions(log: pd.DataFrame) -> Array:
    """Two interleaved sessions a user and two hours, a fifth of them null; one instant of a user has one session."""
    micros = log["ts"].to_numpy().astype("datetime64[us]").astype("int64")
    block, device = micros // 7_200_000_000, micros // 1_000_003 % 3 // 2
    names = [f"{who}-{hours}-{which}" for who, hours, which in zip(log["user_id"], block, device, strict=True)]
    unknown = (micros // 1_000_003 + block) % 5 == 0
    given_to = log["kind"].isin(TO_THE_USER).to_numpy()
    return _only(~(unknown | given_to), np.array(names, dtype=object))


def _arrivals(rng: np.random.Generator, ts: pd.Series) -> pd.Series:
    """Mostly not given; else at once, minutes or weeks late, or exactly at (or a microsecond after) the next moment."""
    late = rng.choice([0, 1, 90_000_000, 3 * DAY_US, 40 * DAY_US], len(ts))
    arrived = ts.to_numpy().astype("datetime64[us]").astype("int64") + late
    moments = np.array([moment_us(moment) for moment in MOMENTS])
    following = np.searchsorted(moments, arrived)
    on_moment = (rng.random(len(ts)) < 0.1) & (following < len(moments))
    arrived[on_moment] = moments[following[on_moment]] + rng.integers(0, 2, int(on_moment.sum()))
    stamps = _stamp(arrived).set_axis(ts.index)
    return stamps.where(pd.Series(rng.random(len(ts)) < 0.3, index=ts.index))
