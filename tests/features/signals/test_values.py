"""Each fixed column by hand, on logs of a few rows; the moment is 2024-06-30 00:00 UTC."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.events.store import Store
from tests.features.signals.test_catalogue import FIXED
from tests.features.support import NAMES, at, ingest_frame, ingest_rows, matrix_at, one_user
from tests.randomlog import random_log

MOMENT = at("2024-06-30")
NAN = float("nan")
Row = dict[str, Any]


def row(ts: str, kind: str, **more: Any) -> Row:
    return {"user_id": "u", "ts": ts, "kind": kind, **more}


def buy(ts: str, amount: float = 1, **more: Any) -> Row:
    return row(ts, "purchase", amount=amount, **more)


def view(ts: str, seconds: float = 60) -> Row:
    return row(ts, "view", dwell_s=seconds)


OTHERS = [
    {**buy("2024-01-01"), "user_id": "v", "category": "c0"},
    {**view("2024-01-01"), "user_id": "v"},
    {**row("2024-01-01", "refund"), "user_id": "v"},
]

# column, the user's rows, what it must be; the log knows the categories a, b and c0
CASES: list[tuple[str, Sequence[Row], float]] = [
    ("days_since_purchase", [buy("2024-06-28 12:00")], 1.5),
    ("days_since_purchase", [buy("2024-06-28"), buy("2024-06-29 18:00")], 0.25),
    ("days_since_purchase", [view("2024-06-28")], NAN),
    ("days_since_seen", [buy("2024-06-20"), view("2024-06-28 12:00")], 1.5),
    ("days_since_seen", [buy("2024-06-20"), row("2024-06-29", "message_sent")], 10),
    ("days_since_seen", [buy("2024-06-20"), row("2024-06-25", "delivered"), row("2024-06-26", "coupon_received")], 10),
    ("days_since_seen", [buy("2024-06-20"), row("2024-06-29", "message_opened")], 1),
    ("days_since_seen", [row("2024-06-29", "message_sent")], NAN),
    ("orders_30d", [buy("2024-06-01", order_id="a"), buy("2024-06-02", order_id="a"), buy("2024-06-03")], 2),
    ("orders_30d", [buy("2024-06-02"), buy("2024-06-02")], 2),  # without an order_id each row is an order
    ("orders_30d", [buy("2024-05-31"), buy("2024-05-30 23:59:59.999999")], 1),  # the window is [as_of - 30 d, as_of)
    ("orders_30d", [view("2024-06-01")], 0),
    ("orders_30d", [row("2024-06-02", "order_placed", order_id="a")], 0),
    ("orders_90d", [buy("2024-04-01", order_id="a"), buy("2024-05-01", order_id="b"), buy("2024-03-31")], 2),
    ("spend_30d", [buy("2024-06-01", 10.5), buy("2024-06-02", 0.25), buy("2024-05-30", 99)], 10.75),
    ("spend_30d", [row("2024-06-01", "purchase", price=2.5, quantity=3)], 7.5),
    ("spend_30d", [row("2024-06-01", "purchase", price=2.5)], 2.5),
    ("spend_30d", [row("2024-06-01", "refund", amount=5)], 0),
    ("spend_90d", [buy("2024-04-01", 1), buy("2024-06-29 23:59:59.999999", 2), buy("2024-06-30", 4)], 3),
    ("active_days_30d", [view("2024-06-01 00:00"), view("2024-06-01 23:59"), buy("2024-06-03")], 2),
    ("active_days_30d", [view("2024-06-01"), row("2024-06-05", "message_sent"), row("2024-06-06", "delivered")], 1),
    ("active_days_30d", [row("2024-06-02 01:00:00+05:00", "login"), view("2024-06-01 12:00")], 1),  # dates are UTC
    ("views_7d", [view("2024-06-23"), view("2024-06-22 23:59:59"), view("2024-06-29"), buy("2024-06-29")], 2),
    ("browse_minutes_7d", [view("2024-06-23", 90), view("2024-06-29", 30), view("2024-06-22", 600)], 2),
    ("browse_minutes_7d", [row("2024-06-23", "view"), view("2024-06-24", 30)], 0.5),
    ("browse_minutes_ratio", [view("2024-06-28", 70 * 60), view("2024-06-10", 140 * 60)], 2),
    ("browse_minutes_ratio", [view("2024-06-23", 60), view("2024-06-22", 60), view("2024-05-26", 60)], 2),
    ("browse_minutes_ratio", [view("2024-06-10")], 0),
    ("browse_minutes_ratio", [view("2024-06-28"), view("2024-05-25")], NAN),
    ("browse_minutes_ratio_at_last_seen", [view("2024-03-10", 60), view("2024-02-20", 120)], 2),
    # L = 03-10 10:00: (L - 7 d, L] holds L itself, one at L - 7 d is of the days before, one at L - 35 d of none
    (
        "browse_minutes_ratio_at_last_seen",
        [view("2024-03-10 10:00", 60), view("2024-03-03 10:00", 60), view("2024-02-04 10:00", 600)],
        4,
    ),
    ("browse_minutes_ratio_at_last_seen", [view("2024-03-10"), row("2024-06-01", "login")], NAN),
    ("browse_minutes_ratio_at_last_seen", [view("2024-03-10"), view("2024-02-20"), row("2024-06-01", "delivered")], 4),
    ("browse_minutes_ratio_at_last_seen", [row("2024-06-01", "message_sent")], NAN),
    ("order_gap_mean_days", [buy("2024-06-01"), buy("2024-06-03"), buy("2024-06-09")], 4),
    ("order_gap_mean_days", [buy("2024-06-01"), buy("2024-06-01"), buy("2024-06-09")], 8),  # distinct instants
    (
        "order_gap_mean_days",  # an order's instant is its earliest row
        [buy("2024-06-01", order_id="a"), buy("2024-06-08", order_id="a"), buy("2024-06-11", order_id="b")],
        10,
    ),
    ("order_gap_mean_days", [buy("2024-06-01")], NAN),
    ("order_gap_mean_days", [buy("2024-06-01", order_id="a"), buy("2024-06-08", order_id="a")], NAN),
    ("order_gap_last_days", [buy("2024-06-01"), buy("2024-06-03"), buy("2024-06-09 12:00")], 6.5),
    ("order_gap_last_days", [buy("2024-06-01"), buy("2024-06-30")], NAN),
    ("overdue_ratio", [buy("2024-06-14"), buy("2024-06-18")], 3),
    ("overdue_ratio", [buy("2024-06-18")], NAN),
    (
        "categories_90d",
        [buy("2024-06-01", category="a"), buy("2024-06-02", category="a"), buy("2024-05-01", category="b")],
        2,
    ),
    ("categories_90d", [buy("2024-06-01", category="a"), buy("2024-03-31", category="b"), buy("2024-06-01")], 1),
    ("categories_90d", [row("2024-06-01", "view", category="a")], 0),
    ("category_penetration", [buy("2022-06-01", category="a"), row("2024-06-01", "view", category="b")], 1 / 3),
    ("category_penetration", [buy("2024-06-30", category="a"), view("2024-06-01")], 0),
    ("refund_share_90d", [row("2024-06-01", "refund"), buy("2024-06-01"), buy("2024-06-02"), buy("2024-06-03")], 0.25),
    ("refund_share_90d", [row("2024-06-01", "refund")], 1),
    ("refund_share_90d", [buy("2024-06-01")], 0),
    ("refund_share_90d", [view("2024-06-01"), buy("2024-03-31")], NAN),
]


def test_fixed_columns_by_hand(tmp_path: Path, tell: Callable[..., None]) -> None:
    """One log with a user for each case; orders are the user's own."""
    log = [
        {**r, "user_id": f"case {i}"} | ({"order_id": f"{i} {r['order_id']}"} if "order_id" in r else {})
        for i, (_, rows, _) in enumerate(CASES)
        for r in rows
    ]
    store = ingest_rows([*OTHERS, *log], tmp_path / "store").store
    assert store is not None
    got = [(name, one_user(store, MOMENT, f"case {i}")[name]) for i, (name, *_) in enumerate(CASES)]
    wrong = [
        (case, value)
        for case, (_, value) in zip(CASES, got, strict=True)
        if value != pytest.approx(case[2], rel=1e-6, nan_ok=True)
    ]
    assert wrong == []
    tell(cells_by_hand=len(CASES))


# The user's own rhythm and season: orders on 1, 5, 15 and 21 June (gaps of 4, 10 and 6 days), 9 days of silence.
ORDERS = [buy("2024-06-01", 2), buy("2024-06-05", 2), buy("2024-06-15", 2), buy("2024-06-21", 6), buy("2024-06-21", 4)]
TWICE = [buy("2024-06-20", order_id="a"), buy("2024-06-20 12:00", order_id="b")]  # a date twice
A_YEAR_AGO = [buy("2023-06-29"), buy("2023-07-01"), buy("2023-07-01 12:00"), buy("2023-07-20"), buy("2023-09-01")]
RHYTHM: list[tuple[str, Sequence[Row], float]] = [
    (
        "silence_usual_share",
        ORDERS,
        (1 + 1) / (5 + 1),
    ),  # one gap of three is longer than 9 days; the newest two are one
    ("silence_usual_share", [view("2024-06-01")], 1),
    ("silence_goes_on_7d", ORDERS, 0.5 / 2),  # 10 days is not longer than 9 + 7
    ("silence_goes_on_7d", [buy("2024-05-01"), buy("2024-06-29")], 1.5 / 2),
    ("silence_of_longest_gap", ORDERS, 0.9),
    ("overdue_spreads", ORDERS, (9 - 20 / 3) / (float(np.std([4, 10, 6])) + 1)),
    ("days_since_orders_2o", ORDERS, 15),
    ("days_since_orders_3o", ORDERS, 25),
    ("days_since_orders_5o", ORDERS, NAN),
    ("days_since_orders_2o", TWICE, NAN),
    ("days_since_orders_10o", [buy(f"2024-06-{day:02}") for day in range(1, 13)], 27),
    ("order_gap_recent_days", ORDERS, 20 / 3),
    ("overdue_recent_ratio", ORDERS, 9 / (20 / 3)),
    ("orders_decayed_7d", [buy("2024-06-23"), buy("2024-06-16")], 0.75),
    ("orders_decayed_7d", [buy("2024-06-23", order_id="a"), buy("2024-06-29", order_id="a")], 0.5),  # when it began
    ("orders_decayed_7d", [view("2024-06-23")], 0),
    ("order_rate", ORDERS, 5 / (29 + 30)),
    ("order_rate_ratio_30d", ORDERS, (5 / 30) / (5 / 59)),
    ("weeks_with_orders_8w", ORDERS, 4),  # of 1 to 6 June the fifth and fourth week back, then the third and second
    ("weeks_with_orders_8w", [buy("2024-05-05"), buy("2024-05-04")], 1),  # 8 weeks are 56 days
    ("months_with_orders_12m", [buy("2024-06-29"), buy("2024-06-01"), buy("2024-05-20"), buy("2023-07-06")], 3),
    ("last_order_lines", ORDERS, 2),
    ("last_order_lines_ratio", ORDERS, 2),  # 5 lines of 5 orders
    ("last_order_value", ORDERS, 10),
    ("last_order_value_ratio", ORDERS, 10 / (16 / 5)),
    ("repeat_share", [buy("2024-01-01", item_id=i) for i in "aaab"], 0.5),
    (
        "repeat_share_within_90d",
        [buy("2024-06-01", item_id=i) for i in "aab"] + [buy("2023-01-01", item_id="b")],
        1 / 3,
    ),
    ("order_days_a_year_ago_14d", A_YEAR_AGO, 1),  # from 2023-07-01, 365 days before, on
    ("order_days_a_year_ago_30d", A_YEAR_AGO, 2),
    ("order_days_a_year_ago_90d", A_YEAR_AGO, 3),
    ("order_days_before_a_year_ago_30d", A_YEAR_AGO, 1),
]


def test_rhythm_and_season_by_hand(tmp_path: Path, tell: Callable[..., None]) -> None:
    """The cases as above, of a log that knows items."""
    log = [
        {**r, "user_id": f"case {i}"} | ({"order_id": f"{i} {r['order_id']}"} if "order_id" in r else {})
        for i, (_, rows, _) in enumerate(RHYTHM)
        for r in rows
    ]
    store = ingest_rows([*OTHERS, *log], tmp_path / "store").store
    assert store is not None
    got = [(name, one_user(store, MOMENT, f"case {i}")[name]) for i, (name, *_) in enumerate(RHYTHM)]
    wrong = [
        (name, value, expected)
        for (name, _, expected), (_, value) in zip(RHYTHM, got, strict=True)
        if value != pytest.approx(expected, rel=1e-6, nan_ok=True)
    ]
    assert wrong == []
    tell(cells_by_hand=len(RHYTHM))


def test_every_fixed_column_has_a_value_by_hand() -> None:
    assert {name for name, *_ in CASES} == set(FIXED)


def test_penetration_counts_the_items_table(tmp_path: Path) -> None:
    log = pd.DataFrame([buy("2024-06-01", item_id="i1"), buy("2024-06-02", item_id="i2"), buy("2024-06-03")])
    items = pd.DataFrame({"item_id": ["i1", "i2", "i3", "i4", "i5"], "category": ["a", "b", "c", "d", None]})
    store = ingest_frame(log, tmp_path / "store", items=items).store
    assert store is not None
    signals = one_user(store, MOMENT, "u")
    assert (signals["category_penetration"], signals["categories_90d"]) == (0.5, 2)


def test_derived_dwell_by_hand(tmp_path: Path) -> None:
    """The gap to the next event of the session, at most 30 minutes; the last open view has none."""
    times = ["10:00", "10:10", "10:10", "10:40", "11:10:00.000001", "12:00", "12:01"]
    kinds = ["view", "view", "cart", "view", "view", "view", "view"]
    rows = [row(f"2024-06-28 {time}", kind) for time, kind in zip(times, kinds, strict=True)]
    store = ingest_rows(rows, tmp_path / "store").store
    assert store is not None
    # 10 minutes, 30 minutes once for the instant 10:10, none over 30 minutes, 1 minute, and the open end
    assert one_user(store, MOMENT, "u")["browse_minutes_7d"] == pytest.approx(41)


def test_derived_dwell_ends_with_the_session(tmp_path: Path) -> None:
    rows = [
        row("2024-06-28 10:00", "view", session_id="a"),
        row("2024-06-28 10:05", "view", session_id="b"),
        row("2024-06-28 10:07", "cart", session_id="b"),
        row("2024-06-28 10:08", "view"),
        row("2024-06-28 10:09", "view"),
    ]
    store = ingest_rows(rows, tmp_path / "store").store
    assert store is not None
    signals = one_user(store, MOMENT, "u")
    assert (signals["browse_minutes_7d"], signals["sessions_7d"]) == (2, 2)


# ---------------------------------------------------------------------------------------------- not observed

# kind: a signal that counts it
COUNTS = {
    "view": "views_7d",
    "cart": "carts_7d",
    "search": "searches_7d",
    "login": "logins_7d",
    "favourite": "favourites_30d",
    "purchase": "orders_30d",
    "refund": "refunds_30d",
    "complaint": "complaints_30d",
    "payment_failed": "failed_payments_30d",
    "not_interested": "not_interested_90d",
    "message_sent": "messages_sent_30d",
    "message_opened": "messages_opened_30d",
    "coupon_used": "coupons_used_30d",
}


def _value(store: Store | None, name: str) -> float:
    assert store is not None
    return float(matrix_at(store, MOMENT, users=["u"]).values[0, NAMES.index(name)])


@pytest.mark.parametrize("kind", COUNTS)
def test_not_observed_is_nan_and_none_is_zero(kind: str, tmp_path: Path) -> None:
    path, rows = tmp_path / "store", [row("2024-06-28", "share"), {**row("2024-06-30", kind), "user_id": "v"}]
    assert np.isnan(_value(ingest_rows(rows, path).store, COUNTS[kind]))  # at the moment is not before it
    rows = [{**row("2020-06-29", kind), "user_id": "v"}]
    assert _value(ingest_rows(rows, path).store, COUNTS[kind]) == 0
    assert _value(ingest_rows([row("2024-06-29", kind)], path).store, COUNTS[kind]) == 1


@pytest.mark.parametrize(
    ("column", "value", "name"),
    [
        ("amount", 5, "spend_30d"),
        ("price", 5, "spend_30d"),
        ("discount", 5, "discount_share_90d"),
        ("category", "c", "categories_90d"),
        ("item_id", "i", "items_bought_90d"),
    ],
)
def test_a_column_without_values_is_not_observed(column: str, value: Any, name: str, tmp_path: Path) -> None:
    bare = [row("2024-06-28", "purchase", **({} if column in ("amount", "price") else {"amount": 1}))]
    assert np.isnan(_value(ingest_rows([{**r, column: None} for r in bare], tmp_path / "a").store, name))
    other = {**bare[0], "user_id": "v", column: value}
    assert _value(ingest_rows([*bare, other], tmp_path / "b").store, name) == 0


def test_one_row_for_each_user_with_an_event_before_the_moment(tmp_path: Path) -> None:
    rows = [
        {"user_id": "before", "ts": "2024-06-29 23:59:59.999999", "kind": "message_sent"},
        {"user_id": "at", "ts": "2024-06-30", "kind": "view"},
        {"user_id": "late", "ts": "2024-06-01", "kind": "view", "arrived_at": "2024-06-30 00:00:00.000001"},
        {"user_id": "in time", "ts": "2024-06-01", "kind": "view", "arrived_at": "2024-06-30"},
    ]
    store = ingest_rows(rows, tmp_path / "store").store
    assert store is not None
    assert sorted(matrix_at(store, MOMENT).user_ids.to_pylist()) == ["before", "in time"]


def test_infinity_is_never_a_signal(tmp_path: Path) -> None:
    store = ingest_frame(random_log(61, 40, 2_000), tmp_path / "store").store
    assert store is not None
    assert not np.isinf(matrix_at(store, MOMENT).values).any()
