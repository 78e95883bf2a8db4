"""Segments by the operator's table: cuts in force, tiers, growth, newcomers, mistakes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from features.audience.rfm import SEGMENTS
from features.audience.segments import (
    DEFAULT,
    NEWCOMER,
    TIERS,
    SegmentTable,
    cuts_of,
    growth_at,
    load_segments,
    newcomers_at,
    registrations,
    tiers_at,
)
from features.audience.stages import Borders
from features.errors import UserError
from features.events.store import Store
from features.tables import parse_table
from features.timeline import Array, Timeline
from tests.features.audience.test_stages import LEARNED
from tests.features.support import at, ingest_frame, ingest_rows

TEXT = DEFAULT.read_text("utf-8")
ASKED = at("2024-06-01")
BORDERS = Borders(dormant_days=40, lost_days=90, maturity_orders=5)
Rows = Sequence[Mapping[str, Any]]


def table(*changes: tuple[str, str]) -> SegmentTable:
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return parse_table(text, SegmentTable, "segments.toml")


def stored(rows: Rows, path: Path) -> Store:
    store = ingest_rows(rows, path / "store").store
    assert store is not None
    return store


def whole(store: Store) -> Timeline:
    (timeline,) = store.timelines()
    return timeline


def by_user(timeline: Timeline, names: Sequence[str], codes: Array) -> dict[str, str | None]:
    texts = [names[code] if code >= 0 else None for code in codes.tolist()]
    return dict(zip(timeline.user_ids.to_pylist(), texts, strict=True))


def bought(user: str, *days: str, amount: float = 1) -> list[dict[str, Any]]:
    return [{"user_id": user, "ts": day, "kind": "purchase", "amount": amount} for day in days]


# ---------------------------------------------------------------------------------------------------------- tiers


def tiers_of(store: Store, *changes: tuple[str, str]) -> dict[str, str | None]:
    timeline, rules = whole(store), table(*changes)
    cuts = replace(cuts_of(rules, LEARNED), value=(10.0,) * 8 + (100.0,))
    return by_user(timeline, TIERS, tiers_at(timeline, timeline.as_of([ASKED])[0], rules, cuts, BORDERS))


def test_tiers_by_hand_and_the_grocers_rule(tmp_path: Path) -> None:
    rows = [
        *bought("new", "2024-05-02", amount=500),
        *bought("not new any more", "2024-05-01 23:59:59"),
        *bought("of value", "2024-01-01", "2024-05-20", amount=6),
        *bought("of value but silent", "2024-01-01", amount=600),
        *bought("silent for 40 days", "2024-04-22"),
        *bought("often", "2024-04-01", "2024-05-10", "2024-05-11", "2024-05-12"),
        {"user_id": "looks", "ts": "2024-05-30", "kind": "view"},
        {"device_id": "d", "ts": "2024-05-30", "kind": "purchase", "amount": 5},
    ]
    store = stored(rows, tmp_path)
    expected = {
        "new": "new",
        "not new any more": "active",
        "of value": "high_value",
        "of value but silent": "dormant",
        "silent for 40 days": "active",
        "often": "active",
        "looks": None,
        "device:d": None,
    }
    assert tiers_of(store) == expected
    grocer = tiers_of(store, ("active_orders = 1", "active_orders = 3"), ('"dormant_days" #', "30 #"))
    occasional = {"not new any more": "occasional", "silent for 40 days": "occasional"}
    assert grocer == expected | occasional
    assert tiers_of(store, ("high_value_decile = 9", "high_value_decile = 10")) == expected | {"of value": "active"}


# --------------------------------------------------------------------------------------------------------- growth


def test_points_levels_and_the_way_to_the_next(tmp_path: Path) -> None:
    logins = ("2024-01-01 08:00", "2024-01-01 09:00", "2024-03-01")
    rows = [
        *bought("u", "2024-01-01", "2024-02-01", amount=100.99),  # 201.98 + 2 orders at 10
        *({"user_id": "u", "ts": day, "kind": "login"} for day in logins),
        {"user_id": "u", "ts": "2024-03-01", "kind": "review"},
        {"user_id": "u", "ts": "2024-06-01", "kind": "invite"},  # not yet
        *bought("at the border", "2024-01-01", amount=290),
        *bought("below it", "2024-01-01", amount=289.9999),
        *bought("top", "2024-01-01", amount=20_000),
        {"user_id": "looks", "ts": "2024-05-30", "kind": "view"},
    ]
    timeline = whole(stored(rows, tmp_path))
    rules = table()
    growth = growth_at(timeline.as_of([ASKED])[0], rules)
    names = [rules.levels[level].name for level in growth.level]
    told = zip(growth.points.tolist(), names, growth.to_next.tolist(), strict=True)
    assert dict(zip(timeline.user_ids.to_pylist(), told, strict=True)) == {
        "u": (228, "bronze", 72),  # 201.98 + 20 + 2 login days + 5, rounded down
        "at the border": (300, "silver", 700),
        "below it": (299, "bronze", 1),
        "top": (20_010, "diamond", -1),
        "looks": (0, "bronze", 300),
    }


# ------------------------------------------------------------------------------------------------------ newcomers


def newcomers_of(store: Store, *changes: tuple[str, str], moment: int = ASKED) -> dict[str, str | None]:
    timeline, known = whole(store), registrations(store.table("users"))
    return by_user(timeline, NEWCOMER, newcomers_at(timeline, timeline.as_of([moment])[0], table(*changes), known))


def test_newcomers_by_hand(tmp_path: Path) -> None:
    new = [{"user_id": user, "ts": "2024-05-02", "kind": "register"} for user in ("a", "b", "c", "d", "e")]
    rows = [
        *new,
        *bought("a", "2024-05-03"),
        {"user_id": "a", "ts": "2024-05-04", "kind": "order_placed"},
        {"user_id": "b", "ts": "2024-05-04", "kind": "order_placed"},
        {"user_id": "c", "ts": "2024-05-04", "kind": "payment_failed"},
        {"user_id": "d", "ts": "2024-05-04", "kind": "cart"},
        *bought("e", "2024-06-01"),
        {"user_id": "long ago", "ts": "2024-05-01", "kind": "register"},
        {"user_id": "no register event", "ts": "2024-05-20", "kind": "view"},
        {"device_id": "x", "ts": "2024-05-20", "kind": "view"},
    ]
    store = stored(rows, tmp_path)
    expected = {
        "a": "bought",
        "b": "ordered_not_paid",
        "c": "ordered_not_paid",
        "d": "no_action",
        "e": "no_action",
        "long ago": None,
        "no register event": "no_action",
        "device:x": None,
    }
    assert newcomers_of(store) == expected
    with_cart = ('["order_placed", "payment_failed"]', '["order_placed", "payment_failed", "cart"]')
    assert newcomers_of(store, with_cart) == expected | {"d": "ordered_not_paid"}
    assert newcomers_of(store, ("\ndays = 30", "\ndays = 31")) == expected | {"long ago": "no_action"}


@pytest.mark.parametrize("form", ["timestamps", "dates", "texts"])
def test_the_users_table_tells_who_has_long_been_there(form: str, tmp_path: Path) -> None:
    days = pd.DatetimeIndex(["2024-01-01", "2024-05-25", "2024-07-01", pd.NaT])
    known = {"timestamps": days, "dates": days.date, "texts": [str(day) if day == day else None for day in days]}
    users = pd.DataFrame({"user_id": ["old", "new", "of the future", "unknown"], "registered_at": known[form]})
    seen = ["old", "new", "of the future", "unknown", "not listed"]
    log = pd.DataFrame({"user_id": seen, "ts": pd.Timestamp("2024-05-20"), "kind": "view"})
    store = ingest_frame(log, tmp_path / "store", users=users).store
    assert store is not None
    assert newcomers_of(store) == {"old": None} | dict.fromkeys(seen[1:], "no_action")
    assert newcomers_of(store, ("\ndays = 30", "\ndays = 9"))["new"] == "no_action"
    assert newcomers_of(store, moment=at("2024-06-25"))["of the future"] is None  # by its first event, 36 days ago


def test_registrations_of_other_zones_are_instants() -> None:
    at_ = pa.array([at("2024-01-01 00:00")], pa.timestamp("us", "Asia/Shanghai"))
    assert registrations(pa.table({"user_id": ["u"], "registered_at": at_})) == {"u": at("2024-01-01")}
    assert registrations(pa.table({"user_id": ["u"]})) == registrations(None) == {}


# ------------------------------------------------------------------------------------------------------ the table


def test_cuts_given_stand_and_the_others_are_learned() -> None:
    given = cuts_of(table(('orders = "learned"', "orders = [1, 2, 2, 9.5]")), LEARNED)
    assert (given.orders, given.spend, given.value) == ((1, 2, 2, 9.5), LEARNED.spend, LEARNED.value)
    nobody = replace(LEARNED, customers=0, recency_days=(), orders=(), spend=(), value=())
    assert cuts_of(table(), nobody).value == (0.0,) * 9


def test_our_table_names_every_code_in_both_languages() -> None:
    names = load_segments().names
    for named, codes in ((names.segments, SEGMENTS), (names.tiers, TIERS), (names.newcomers, NEWCOMER)):
        assert len({name.zh for name in named.values()}) == len({name.en for name in named.values()}) == len(codes)


MISTAKES = {
    ('orders = "learned"', "orders = [3, 2, 4, 5]"): 'cuts, orders is wrong: use a list of 4 ascending numbers, or "l',
    ('value = "learned"', "value = [3, 2, 4, 5]"): "cuts, value is wrong: use a list of 9 ascending numbers",
    ('spend = "learned"', 'spend = "yes"'): "cuts, spend is 'yes': use a list of 4 ascending numbers",
    ("high = 4", "high = 6"): "rfm, high is 6",
    ('active_days = "dormant_days"', "active_days = 0"): "tiers, active_days is 0: use a whole number from 1 to 3650",
    ("new_days = 30", "newdays = 30"): "tiers, newdays is not a setting; there are new_days, active_orders",
    ('"order_placed", "payment_failed"', '"purchase"'): "newcomers, ordered 1 is 'purchase'; use 'register', 'login'",
    ("review = 5", "reveiw = 5"): "points, each, reveiw is 'reveiw'; use 'register', 'login'",
    ("order = 10", "order = -10"): "points, order is -10",
    ("points = 0", "points = 5"): "levels bronze, points is not 0: every user has a level",
    ("points = 1000", "points = 300"): "levels gold, points is 300: it must be above the 300 of silver",
    ('name = "gold"', 'name = "silver"'): "levels silver, name is there twice",
    ("important_keep = {", "important_kept = {"): "names, segments, important_kept is 'important_kept'; use 'important",
}


@pytest.mark.parametrize("change", MISTAKES)
def test_a_mistake_is_told_with_its_line_and_the_valid_words(change: tuple[str, str]) -> None:
    with pytest.raises(UserError) as told:
        table(change)
    line = TEXT[: TEXT.index(change[0])].count("\n") + 1
    assert str(told.value).startswith(f"segments.toml:{line}: {MISTAKES[change]}")


def test_a_code_without_a_name_is_told() -> None:
    gone = next(line for line in TEXT.splitlines() if line.startswith("occasional"))
    with pytest.raises(UserError, match="names, tiers has no name for occasional"):
        table((gone, ""))
