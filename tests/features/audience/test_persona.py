"""Personas: months that add up, values worked out by hand, and the laws: no future, order-free."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from features.audience.directory import Directory
from features.audience.persona import Persona, Share, personas
from features.errors import UserError
from features.events import columns as c
from features.events.store import Store
from tests.features.events.anonymous import with_devices
from tests.features.support import RANDOM_MOMENTS, at, ingest_frame, ingest_rows, one_user
from tests.features.test_no_future import LACKS, corrections, future_rows, split
from tests.features.test_order_free import parts_of
from tests.randomlog import random_items, random_log

Rows = list[dict[str, Any]]
UNIT = 10_000


def all_of(store: Store | None, moment: int) -> dict[str, Persona | None]:
    """Of every user, bucket by bucket."""
    assert store is not None
    directory = Directory(store)
    found = [
        (user, persona)
        for timeline in store.timelines(500)
        for user, persona in zip(timeline.user_ids.to_pylist(), personas(timeline, moment, directory), strict=True)
    ]
    return dict(found)


def one(store: Store | None, moment: str, user: str = "u") -> Persona:
    assert store is not None
    (persona,) = personas(store.timeline_of([user]), at(moment), Directory(store))
    assert persona is not None
    return persona


def as_bytes(found: dict[str, Persona | None]) -> dict[str, bytes]:
    """The JSON of those who are known."""
    return {user: json.dumps(persona.to_json()).encode() for user, persona in found.items() if persona}


# ------------------------------------------------------------------------------------------------------- sums


def test_signals_say_the_same(small_store: Store) -> None:
    moment = RANDOM_MOMENTS[1]
    compared = 0
    for user, persona in all_of(small_store, moment).items():
        if persona is None:
            continue
        signals = one_user(small_store, moment, user)
        assert persona.orders == signals["orders_ever"]
        assert persona.spend == pytest.approx(signals["spend_ever"], rel=1e-6)
        if persona.rhythm and persona.rhythm.usual_days is not None:
            assert persona.rhythm.usual_days == pytest.approx(signals["order_gap_mean_days"], rel=1e-6)
            compared += 1
    assert compared > 10


def test_months_add_up_to_years_and_to_the_whole(small_store: Store) -> None:
    for persona in all_of(small_store, RANDOM_MOMENTS[2]).values():
        if persona is None:
            continue
        for reports in (persona.months, persona.years):
            for name in ("orders", "coupons_used", "views"):
                assert sum(getattr(report, name) for report in reports) == getattr(persona, name)
            assert sum(round(report.spend * UNIT) for report in reports if report.spend) == round(
                (persona.spend or 0) * UNIT
            )
            assert persona.breadth is not None
            assert sum(len(report.new_categories) for report in reports) == persona.breadth.bought
        assert sum(report.active_days for report in persona.months) == sum(persona.weekdays)


# ------------------------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize(("seed", "lacks"), [*enumerate(LACKS, 1)])
def test_no_row_of_the_future_changes_a_byte(seed: int, lacks: str, tmp_path: Path, tell: Callable[..., None]) -> None:
    moment = RANDOM_MOMENTS[seed % 2]
    log = split(random_log(seed, 20, 500), moment)
    known = log.drop(columns=list(LACKS[lacks]))
    future = pd.concat([future_rows(seed, moment, log), corrections(log, moment)])
    mixed = pd.concat([known, future]).sample(frac=1, random_state=seed)
    expected = as_bytes(all_of(ingest_frame(known, tmp_path / "past").store, moment))
    assert as_bytes(all_of(ingest_frame(mixed, tmp_path / "mixed").store, moment)) == expected
    tell(personas_compared=len(expected))


@pytest.mark.parametrize("devices", [False, True])
def test_the_order_of_rows_and_how_work_is_cut_change_nothing(
    devices: bool, tmp_path: Path, tell: Callable[..., None]
) -> None:
    log, items, moment = random_log(33, 20, 500), random_items(33), RANDOM_MOMENTS[1]
    log = with_devices(log, 33) if devices else log
    expected = as_bytes(all_of(ingest_frame(log, tmp_path / "one", items=items).store, moment))
    assert any(user.startswith(c.ANONYMOUS) for user in expected) == devices
    shuffled = ingest_frame(log.sample(frac=1, random_state=1), tmp_path / "shuffled", items=items).store
    assert as_bytes(all_of(shuffled, moment)) == expected
    for part in reversed(parts_of(log, 3, 1)):
        parts = ingest_frame(part, tmp_path / "parts", items=items).store
    assert as_bytes(all_of(parts, moment)) == expected
    assert parts is not None
    named = sorted(expected)[::-1]
    together = personas(parts.timeline_of(named), moment, Directory(parts))
    assert as_bytes(dict(zip(named, together, strict=True))) == expected
    tell(personas_compared=3 * len(expected))


# ------------------------------------------------------------------------------------------------- by hand


def line(ts: str, item: str, price: float, order: str, **more: Any) -> dict[str, Any]:
    return {"user_id": "u", "ts": ts, "kind": "purchase", "item_id": item, "price": price, "order_id": order, **more}


SHOPPER: Rows = [
    {"user_id": "v", "ts": "2023-01-01 09:00", "kind": "purchase", "item_id": "x", "price": 1, "category": "toys"},
    line("2024-01-03 18:20", "tea", 3.0, "1", category="drinks", discount=0.5),
    line("2024-01-03 18:20", "cup", 9.0, "1", category="kitchen"),
    line("2024-02-02 18:40", "tea", 3.0, "2", category="drinks", quantity=2),
    line("2024-03-20 07:00", "pot", 30.0, "3", category="kitchen"),
    line("2024-03-31 18:00", "tea", 3.1, "4", category="drinks"),
    {"user_id": "u", "ts": "2024-03-31 00:00", "kind": "coupon_used"},
]


def test_a_shopper_by_hand(tmp_path: Path) -> None:
    persona = one(ingest_rows(SHOPPER, tmp_path / "store").store, "2024-04-01")
    assert (persona.orders, persona.items, persona.spend, persona.saved) == (4, 3, 51.1, 0.5)
    assert persona.by_spend == (Share("kitchen", 39 / 51.1), Share("drinks", 12.1 / 51.1))
    assert persona.price_band is not None
    assert [*vars(persona.price_band).values()] == [3.0, 3.1, 30.0]
    assert persona.rhythm is not None
    assert persona.rhythm.usual_days == pytest.approx(87.98611 / 3)
    assert persona.breadth is not None
    assert (persona.breadth.bought, persona.breadth.of) == (2, 3)
    january, february, march = persona.months
    assert march.most_bought is not None
    assert (march.most_bought.item_id, march.most_bought.times) == ("pot", 1)  # of equals, more was spent on it
    assert persona.years[0].most_bought is not None
    assert (persona.years[0].most_bought.item_id, persona.years[0].most_bought.times) == ("tea", 3)
    assert (january.new_categories, february.new_categories) == (("drinks", "kitchen"), ())
    assert (january.busiest_hour, march.busiest_hour) == (18, 7)
    assert january.change is None
    assert february.change is not None
    assert (february.change.orders, february.change.spend, february.change.share) == (0, -6.0, -0.5)


def test_a_coupon_of_which_only_the_day_is_known_is_at_no_hour(tmp_path: Path) -> None:
    persona = one(ingest_rows(SHOPPER, tmp_path / "store").store, "2024-04-01")
    assert sum(row[0] for row in persona.hours) == 0
    assert sum(persona.weekdays) == 4  # the 31st is a day with an act all the same, and was one before


@pytest.mark.parametrize(
    ("moment", "spend", "before"),
    [
        ("2024-02-02", 0.0, 0.0),  # February's first day against January's first day
        ("2024-02-03", 6.0, 0.0),  # the first order of January came later than the second day
        ("2024-02-04", 6.0, 12.0),
        ("2024-03-01", 6.0, 12.0),  # February is over: against all of January
        ("2024-03-31", 30.0, 6.0),  # the thirtieth day of March: February had no more
    ],
)
def test_a_month_that_goes_on_is_compared_with_the_same_days(
    moment: str, spend: float, before: float, tmp_path: Path
) -> None:
    persona = one(ingest_rows(SHOPPER, tmp_path / "store").store, moment)
    newest = persona.months[-1]
    assert newest.complete == (moment == "2024-03-01")
    assert newest.change is not None
    assert (newest.spend, newest.change.spend) == (spend, spend - before)


def test_what_lies_before_the_log_is_not_called_nothing(tmp_path: Path) -> None:
    """The log begins in November 2023: nobody knows what was bought in that year before."""
    rows = [SHOPPER[0] | {"ts": "2023-11-05"}, line("2023-12-03", "tea", 3.0, "0"), *SHOPPER[1:]]
    persona = one(ingest_rows(rows, tmp_path / "store").store, "2024-04-01")
    assert [report.period for report in persona.years] == ["2023", "2024"]
    assert persona.years[1].change is None
    assert [month.change is None for month in persona.months] == [True, False, False, False]


def test_purchases_alone_tell_of_purchases_alone(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k not in ("category", "discount")} for row in SHOPPER[1:-1]]
    persona = one(ingest_rows(rows, tmp_path / "store").store, "2024-04-01")
    assert (persona.orders, persona.spend) == (4, 51.1)
    assert (persona.saved, persona.refunded, persona.coupons_used, persona.views, persona.breadth) == (None,) * 5
    assert (persona.by_spend, persona.by_views, persona.brands) == ((), (), ())


def test_brands_are_those_of_the_items_table(tmp_path: Path) -> None:
    items = pd.DataFrame({"item_id": ["tea", "cup"], "brand": ["Leaf", "Clay"], "name": ["Green tea", "Cup"]})
    log = pd.DataFrame(SHOPPER)
    log["ts"] = pd.to_datetime(log["ts"], format="ISO8601")
    persona = one(ingest_frame(log, tmp_path / "store", items=items).store, "2024-04-01")
    assert persona.brands == (Share("Leaf", 121 / 211), Share("Clay", 90 / 211))
    assert persona.years[0].most_bought is not None
    assert persona.years[0].most_bought.name == "Green tea"


def test_a_device_without_an_account_has_a_persona(tmp_path: Path) -> None:
    rows = [
        {
            "user_id": None,
            "device_id": "d9",
            "ts": f"2024-05-0{day} 21:30",
            "kind": "view",
            "item_id": "tea",
            "category": "drinks",
        }
        for day in (1, 2, 2, 5)
    ]
    persona = one(ingest_rows(rows, tmp_path / "store").store, "2024-05-06", f"{c.ANONYMOUS}d9")
    assert persona.anonymous
    assert (persona.orders, persona.views, persona.by_views) == (0, 4, (Share("drinks", 1.0),))
    assert persona.rhythm is None
    assert sum(map(sum, persona.hours)) == 3
    assert [(month.views, month.active_days) for month in persona.months] == [(4, 3)]


def test_who_only_got_messages_did_nothing(small_store: Store) -> None:
    moment = RANDOM_MOMENTS[0]
    (persona,) = personas(small_store.timeline_of(["only messages"]), moment, Directory(small_store))
    assert persona is not None
    assert (persona.first_seen, persona.months, persona.years) == (None, (), ())


def test_nobody_is_known_before_their_first_event(small_store: Store) -> None:
    users = ["after the moment", "a stranger", "one purchase"]
    found = personas(small_store.timeline_of(users), RANDOM_MOMENTS[0], Directory(small_store))
    assert [persona is None for persona in found] == [True, True, False]


def test_a_period_without_a_report_is_told(tmp_path: Path) -> None:
    persona = one(ingest_rows(SHOPPER, tmp_path / "store").store, "2024-04-01")
    assert persona.report("2024-02").orders == 1
    assert persona.report("2024").orders == 4
    with pytest.raises(UserError, match="'2024-05': write 2017-11 or 2017; there are 2024-01 to 2024-03"):
        persona.report("2024-05")


def test_a_moment_far_ahead_does_not_make_endless_months(tmp_path: Path) -> None:
    persona = one(ingest_rows(SHOPPER, tmp_path / "store").store, "9990-01-01")
    assert len(persona.months) == 120
    assert persona.months[-1].period == "9989-12"
    assert persona.orders == 4


def test_json_has_times_that_people_read(tmp_path: Path) -> None:
    made = one(ingest_rows(SHOPPER, tmp_path / "store").store, "2024-04-01").to_json()
    assert json.loads(json.dumps(made)) == made
    assert (made["as_of"], made["first_seen"]) == ("2024-04-01T00:00:00Z", "2024-01-03T18:20:00Z")
    assert made["breadth"]["grew_by"][0] == {"category": "drinks", "since": "2024-01-03T18:20:00Z"}
    assert made["months"][1]["change"] == {"orders": 0, "spend": -6.0, "share": -0.5}
