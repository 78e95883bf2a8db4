"""Facts learned from a shop: gaps, who comes again, cuts."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.audience.learn import (
    LEAST_DAYS,
    LEAST_REPEATERS,
    MOST_ORDERS,
    WITHIN_DAYS,
    Learned,
    Pasts,
    learn,
    purchase_days,
    survival,
)
from features.events.store import Store
from tests.features.events.anonymous import with_devices
from tests.features.support import DAY_US, RANDOM_MOMENTS, as_micros, at, ingest_frame, ingest_rows
from tests.features.test_no_future import corrections, future_rows, split
from tests.randomlog import random_log

Visits = dict[str, list[tuple[int, int]]]  # by user: days since 1970 with a purchase, and orders begun up to their end


def stored(log: pd.DataFrame, path: Path) -> Store:
    store = ingest_frame(log, path).store
    assert store is not None
    return store


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    return random_log(31, 120, 3_500)


@pytest.fixture(scope="module")
def store(log: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return stored(log, tmp_path_factory.mktemp("learn") / "store")


# ------------------------------------------------------------------------------- against what is slow and obvious


def slow_visits(log: pd.DataFrame, moment: int) -> Visits:
    """Purchase days of every user, from the rows known."""
    out: Visits = {}
    bought = split(log, moment).query("kind == 'purchase'")
    for user, rows in bought.groupby("user_id"):
        begun: dict[str, int] = {}
        lines = sorted(zip(as_micros(rows["ts"]), rows["order_id"], strict=True), key=lambda line: int(line[0]))
        for number, (ts, order) in enumerate(lines):
            begun.setdefault(f"alone {number}" if pd.isna(order) else f"order {order}", int(ts) // DAY_US)
        days = sorted({int(ts) // DAY_US for ts in as_micros(rows["ts"])})
        out[str(user)] = [(day, sum(first <= day for first in begun.values())) for day in days]
    return out


def slow_survival(gaps: list[tuple[float, float, bool]]) -> dict[float, float]:
    """Product limit by its definition: (gap, weight, ended)."""
    left, out = 1.0, {}
    for point in sorted({gap for gap, _, ended in gaps if ended}):
        ends = sum(weight for gap, weight, ended in gaps if ended and gap == point)
        left *= 1 - ends / sum(weight for gap, weight, _ in gaps if gap >= point)
        out[point] = left
    return out


@pytest.mark.parametrize("moment", RANDOM_MOMENTS)
def test_purchase_days_and_orders_begun_by_them(log: pd.DataFrame, store: Store, moment: int) -> None:
    found: Visits = defaultdict(list)
    for timeline in store.timelines(500):
        names = timeline.user_ids.to_pylist()
        for user, day, orders in zip(*purchase_days(timeline.known_before(moment), moment), strict=True):
            found[names[user]].append((int(day), int(orders)))
    assert found == slow_visits(log, moment)
    assert max(visits[-1][1] for visits in found.values()) > MOST_ORDERS


@pytest.mark.parametrize("moment", RANDOM_MOMENTS[:2])
def test_gaps_against_wang_and_chang_by_hand(log: pd.DataFrame, store: Store, moment: int) -> None:
    gaps: list[tuple[float, float, bool]] = []
    for visits in slow_visits(log, moment).values():
        days = [day for day, _ in visits]
        closed = [later - day for day, later in pairwise(days)]
        gaps += [(gap, 1 / len(closed), True) for gap in closed] or [(moment / DAY_US - days[-1], 1.0, False)]
    curve = slow_survival(gaps)
    never = min(curve.values())
    learned = learn(store, moment)
    for percent, gap in enumerate(learned.gap_days, 1):
        before = max((other for other in curve if other < gap), default=None)
        assert 1 - curve[gap] >= percent / 100 * (1 - never) - 1e-9
        assert before is None or 1 - curve[before] < percent / 100 * (1 - never) + 1e-9
    assert learned.gap_quantile(0.5) == learned.gap_days[49]


@pytest.mark.parametrize("moment", RANDOM_MOMENTS[:2])
def test_who_comes_again_after_so_many_orders(log: pd.DataFrame, store: Store, moment: int) -> None:
    learned = learn(store, moment)
    for orders in range(1, MOST_ORDERS + 1):
        waits: list[tuple[float, float, bool]] = []
        for visits in slow_visits(log, moment).values():
            place = next((i for i, (_, begun) in enumerate(visits) if begun >= orders), None)
            if place is not None:
                day = visits[place][0]
                later = visits[place + 1][0] if place + 1 < len(visits) else None
                waits.append((moment / DAY_US - day if later is None else later - day, 1.0, later is not None))
        assert learned.reached[orders - 1] == len(waits) > 5
        curve = slow_survival(waits)
        for days in WITHIN_DAYS:
            left = min((share for gap, share in curve.items() if gap <= days), default=1.0)
            assert learned.again_within(orders, days) == pytest.approx(1 - left)


def test_survival_does_not_ask_in_which_order_rows_come() -> None:
    rng = np.random.default_rng(1)
    times, weights = rng.integers(1, 20, 300).astype(float), rng.random(300)
    ended = rng.random(300) < 0.7
    points, left = survival(times, weights, ended)
    slow = slow_survival(list(zip(times, weights, ended, strict=True)))
    assert points.tolist() == list(slow)
    np.testing.assert_allclose(left, list(slow.values()))
    for _ in range(5):
        mixed = rng.permutation(300)
        assert survival(times[mixed], weights[mixed], ended[mixed])[1].tobytes() == left.tobytes()


@pytest.mark.parametrize("moment", RANDOM_MOMENTS[:2])
def test_cuts_part_customers_into_fifths_and_tenths(log: pd.DataFrame, store: Store, moment: int) -> None:
    bought = split(log, moment).query("kind == 'purchase'")
    last = bought.groupby("user_id")["ts"].max()
    silent = np.sort(moment / DAY_US - as_micros(last) / DAY_US)
    learned = learn(store, moment)
    assert learned.customers == len(silent)
    for share, cut in zip((0.2, 0.4, 0.6, 0.8), learned.recency_days, strict=True):
        assert cut == pytest.approx(silent[int(np.ceil(share * len(silent))) - 1])
    assert (len(learned.orders), len(learned.spend), len(learned.value)) == (4, 4, 9)
    for cuts in (learned.orders, learned.spend, learned.value):
        assert list(cuts) == sorted(cuts)


# --------------------------------------------------------------------------------------------------- small shops


def rows_of(days: dict[str, list[str]]) -> list[dict[str, Any]]:
    return [{"user_id": user, "ts": day, "kind": "purchase"} for user, dates in days.items() for day in dates]


def test_open_gaps_lengthen_the_rhythm(tmp_path: Path) -> None:
    """Ten come again after 10 days, ten after 50, and ten were first seen 20 days ago: so not half take only 10."""
    early = {f"a{n}": ["2024-01-01", "2024-01-11"] for n in range(10)}
    late = {f"b{n}": ["2024-01-01", "2024-02-20"] for n in range(10)}
    fresh = {f"c{n}": ["2024-03-11"] for n in range(10)}
    moment = at("2024-03-31")
    learned = [
        learn(store, moment)
        for rows, name in ((early | late, "closed"), (early | late | fresh, "open"))
        if (store := ingest_rows(rows_of(rows), tmp_path / name).store)
    ]
    shares = [sum(days == 10 for days in facts.gap_days) for facts in learned]
    assert shares == [50, 33]  # of those silent for 10 days one in three came, so one in three of all who will


def test_frequent_buyers_do_not_rule(tmp_path: Path) -> None:
    often = {"often": [f"2024-01-{day:02}" for day in range(1, 29)]}
    seldom = {f"s{n}": ["2024-01-01", "2024-02-20"] for n in range(2)}
    store = ingest_rows(rows_of(often | seldom), tmp_path / "store").store
    assert store is not None
    assert learn(store, at("2024-03-01")).gap_quantile(0.5) == 50


def test_orders_of_one_day_are_one_visit(tmp_path: Path) -> None:
    days = ["2024-01-01 09:00", "2024-01-01 09:05", "2024-01-01 20:00"]
    rows = [{"user_id": "u", "ts": day, "kind": "purchase", "order_id": day} for day in days]
    store = ingest_rows(rows, tmp_path / "store").store
    assert store is not None
    learned = learn(store, at("2024-02-01"))
    assert (learned.repeaters, learned.gap_days, learned.reached[:4]) == (0, (), (1, 1, 1, 0))


def test_a_shop_with_little_history_says_so(tmp_path: Path, store: Store) -> None:
    one = ingest_rows(rows_of({"u": ["2024-01-01", "2024-05-01"]}), tmp_path / "one").store
    assert one is not None
    assert learn(one, at("2024-02-01")).wanting == "the log has 31 days before the moment, 60 are needed"
    assert learn(one, at("2024-06-01")).wanting == "1 customers bought on two days, 50 are needed"
    enough = learn(store, RANDOM_MOMENTS[0])
    assert enough.wanting is None
    assert replace(enough, days=LEAST_DAYS - 1).wanting
    assert replace(enough, repeaters=LEAST_REPEATERS - 1).wanting


def test_a_log_without_purchases_or_before_its_first_event(tmp_path: Path) -> None:
    store = ingest_rows([{"user_id": "u", "ts": "2024-01-02", "kind": "view"}], tmp_path / "store").store
    assert store is not None
    for moment, users in ((at("2024-01-03"), 1), (at("2024-01-01"), 0)):
        learned = learn(store, moment)
        assert (learned.users, learned.customers, learned.gap_days, learned.value) == (users, 0, (), ())
        assert learned.days == users
        assert learned.again_within(3, 30) == 0


# ----------------------------------------------------------------------------------------------------------- laws


def test_json_brings_back_the_same(store: Store) -> None:
    learned = learn(store, RANDOM_MOMENTS[1])
    assert Learned.from_json(learned.to_json()) == learned
    assert Learned.from_json(learned.to_json()).to_json() == learned.to_json()
    with pytest.raises(TypeError):
        Learned.from_json('{"as_of": 1}')


@pytest.mark.parametrize("seed", [32, 33])
def test_no_row_of_the_future_changes_what_is_learned(seed: int, tmp_path: Path) -> None:
    moment = RANDOM_MOMENTS[seed % 2]
    known = split(with_devices(random_log(seed, 60, 2_000), seed), moment)
    future = pd.concat([future_rows(seed, moment, known), corrections(known, moment)]).dropna(subset=["user_id"])
    first = known.iloc[[0]].assign(ts=pd.Timestamp("2020-01-01"), arrived_at=pd.Timestamp("2024-12-01"), event_id="old")
    expected = learn(stored(known, tmp_path / "past"), moment)
    both = stored(pd.concat([known, future, first]), tmp_path / "both")
    assert learn(both, moment) == expected
    assert learn(both, moment + 100 * DAY_US) != expected


def test_no_order_of_rows_users_or_buckets_changes_what_is_learned(
    log: pd.DataFrame, store: Store, tmp_path: Path, tell: Callable[..., None]
) -> None:
    moment = RANDOM_MOMENTS[1]
    expected = learn(store, moment)
    mixed = log.sample(frac=1, random_state=1)
    names = {user: f"{user[::-1]}x" for user in log["user_id"].unique()}
    assert learn(stored(mixed.assign(user_id=mixed["user_id"].map(names)), tmp_path / "mixed"), moment) == expected
    stored(log[::2], tmp_path / "two")
    assert learn(stored(log[1::2], tmp_path / "two"), moment) == expected
    buckets = 0
    for rows in (1, 97):
        pasts = [Pasts.of(timeline, moment) for timeline in store.timelines(rows)]
        assert Learned.of(moment, pasts[::-1]) == expected
        buckets += len(pasts)
    tell(buckets=buckets)


def test_what_anonymous_devices_bought_is_learned_of_their_users_only(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"device_id": "d1", "ts": "2024-01-01", "kind": "purchase", "amount": 5},
        {"user_id": "u", "device_id": "d1", "ts": "2024-01-02", "kind": "login"},
        {"device_id": "d2", "ts": "2024-01-01", "kind": "purchase", "amount": 900},
    ]
    store = ingest_rows(rows, tmp_path / "store").store
    assert store is not None
    learned = learn(store, at("2024-01-03"))
    assert (learned.users, learned.customers, set(learned.value)) == (1, 1, {5.0})
