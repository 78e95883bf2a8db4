"""Law 2: whatever happens at or after the moment, or becomes known after it, changes no byte of the answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.events.store import Store
from tests.features.events.anonymous import with_devices
from tests.features.support import (
    DAY_US,
    NAMES,
    RANDOM_MOMENTS,
    as_micros,
    at,
    cells,
    ingest_frame,
    ingest_rows,
    matrix_at,
    one_user,
    rows_by_user,
    stamps,
)
from tests.randomlog import random_items, random_log

# What the past lacks and the future brings.
LACKS: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "dwell": ("dwell_s",),
    "dwell and sessions": ("dwell_s", "session_id"),
    "categories and orders": ("category", "order_id"),
    "every optional column": (
        *("item_id", "category", "price", "quantity", "amount", "discount", "order_id", "session_id", "dwell_s"),
        *("channel", "device_id", "page", "place", "merchant_id", "search_results", "campaign_id", "arm", "arrived_at"),
    ),
}


def split(log: pd.DataFrame, moment: int) -> pd.DataFrame:
    """The rows known at the moment."""
    arrived = log["arrived_at"].fillna(log["ts"])
    return log[(as_micros(log["ts"]) < moment) & (as_micros(arrived) <= moment)]


def future_rows(seed: int, moment: int, known: pd.DataFrame) -> pd.DataFrame:
    """Rows of known and of new users that are unknown at the moment: they lie at or after it, or arrive after it."""
    rng = np.random.default_rng([seed, 2])
    rows = random_log(seed + 1_000, 40, 500).drop(columns="event_id")
    size = len(rows)
    rows["user_id"] = np.where(rng.random(size) < 0.2, "new " + rows["user_id"], rows["user_id"])
    rows["kind"] = np.where(rng.random(size) < 0.1, "kind of the future", rows["kind"])
    rows["category"] = np.where(rng.random(size) < 0.2, "category of the future", rows["category"])
    rows["item_id"] = np.where(rng.random(size) < 0.2, "item of the future", rows["item_id"])
    after = moment + np.where(rng.random(size) < 0.2, 0, rng.integers(0, 60 * DAY_US, size))
    # In the midst of the known events of a user: the same instant, seconds before or after it.
    host = known.iloc[rng.integers(0, len(known), size)]
    before = np.minimum(as_micros(host["ts"]) + rng.choice([-1_000_000, -1, 0, 1, 60_000_000], size), moment - 1)
    late = moment + rng.choice([1, 1_000_000, 90 * DAY_US], size)
    is_late = rng.random(size) < 0.5
    rows["user_id"] = np.where(is_late, host["user_id"], rows["user_id"])
    rows["ts"] = stamps(np.where(is_late, before, after))
    rows["arrived_at"] = stamps(np.where(is_late, late, 0)).where(is_late)
    rows["session_id"] = np.where(is_late, host.get("session_id", rows["session_id"]), rows["session_id"])
    return rows.assign(event_id=[f"future {i}" for i in range(size)])


def corrections(known: pd.DataFrame, moment: int, count: int = 40) -> pd.DataFrame:
    """Known events once more, with other content under their own ids, at the moment or arriving after it."""
    rows = known.iloc[:count].copy()
    rows["kind"], rows["user_id"] = "purchase", np.where(np.arange(len(rows)) % 2, "someone else", rows["user_id"])
    half = np.arange(len(rows)) % 4 < 2
    rows["arrived_at"] = stamps(np.full(len(rows), moment + 1)).set_axis(rows.index).where(half)
    rows["ts"] = rows["ts"].where(half, stamps(np.full(len(rows), moment)).set_axis(rows.index))
    return rows


@pytest.mark.parametrize(("seed", "lacks"), [*enumerate(LACKS, 1), (6, "dwell")])
def test_no_row_of_the_future_changes_a_byte(seed: int, lacks: str, tmp_path: Path, tell: Callable[..., None]) -> None:
    moment = RANDOM_MOMENTS[seed % 2]
    log = split(random_log(seed, 40, 2_000), moment)
    known = log.drop(columns=list(LACKS[lacks]))
    future = pd.concat([future_rows(seed, moment, log), corrections(log, moment)])
    items = random_items(seed) if seed in (2, 4) else None
    stores: list[Store | None] = [
        ingest_frame(known, tmp_path / "past", items=items).store,
        ingest_frame(pd.concat([known, future]).sample(frac=1, random_state=seed), tmp_path / "one", items=items).store,
        ingest_frame(known, tmp_path / "two", items=items).store,
        ingest_frame(future, tmp_path / "two").store,
        ingest_frame(future, tmp_path / "future first", items=items).store,
        ingest_frame(known, tmp_path / "future first").store,
    ]
    past, one, _, appended, _, first = (store for store in stores if store is not None)
    expected = rows_by_user(past, [moment, moment - 1, moment - 10 * DAY_US])
    for store in (one, appended, first):
        assert rows_by_user(store, [moment, moment - 1, moment - 10 * DAY_US]) == expected
    assert rows_by_user(appended, [moment + 100 * DAY_US]) != rows_by_user(past, [moment + 100 * DAY_US])
    tell(rows_appended=3 * len(future), cells_compared=3 * cells(expected))


def logins(log: pd.DataFrame, moment: int, seed: int) -> pd.DataFrame:
    """Every user logs in on some device: at the moment or after it, or before it, which is told only after it."""
    rng = np.random.default_rng([seed, 5])
    rows = log.dropna(subset=["user_id"]).drop_duplicates("user_id")[["user_id"]].reset_index(drop=True)
    rows = pd.concat([rows, rows, rows.assign(user_id="new " + rows["user_id"])], ignore_index=True)
    late = rng.random(len(rows)) < 0.5
    ts = np.where(late, moment - rng.integers(1, 300 * DAY_US, len(rows)), moment)
    rows = rows.assign(ts=stamps(ts + np.where(late | (rng.random(len(rows)) < 0.3), 0, DAY_US)))
    rows["arrived_at"] = stamps(moment + rng.integers(1, 9, len(rows)) * DAY_US).where(late)
    rows["device_id"] = rng.choice(log["device_id"].dropna().unique(), len(rows))
    return rows.assign(kind="login", event_id=[f"login {number}" for number in range(len(rows))])


@pytest.mark.parametrize("seed", [11, 12])
def test_no_login_of_the_future_changes_a_byte(seed: int, tmp_path: Path, tell: Callable[..., None]) -> None:
    """What devices did comes to their users only at the login, whoever else then logs in on them."""
    moment = RANDOM_MOMENTS[seed % 2]
    log = split(with_devices(random_log(seed, 40, 1_500), seed), moment)
    future = logins(log, moment, seed)
    past = ingest_frame(log, tmp_path / "past").store
    one = ingest_frame(pd.concat([log, future]), tmp_path / "one").store
    ingest_frame(future, tmp_path / "future first")
    first = ingest_frame(log, tmp_path / "future first").store
    assert past is not None
    expected = rows_by_user(past, [moment, moment - 1, moment - 10 * DAY_US])
    came = 0
    for store in (one, first):
        assert store is not None
        assert rows_by_user(store, [moment, moment - 1, moment - 10 * DAY_US]) == expected
        before, after = (rows_by_user(s, [moment + 100 * DAY_US], users=list(expected[0])) for s in (past, store))
        came = sum(row != before[0][user] for user, row in after[0].items())
        assert came > 10
    tell(logins_appended=2 * len(future), cells_compared=2 * cells(expected), users_changed_later=came)


def test_past_moments_do_not_see_each_other(small_store: Store, tell: Callable[..., None]) -> None:
    """Asking for a later moment along with an earlier one, or for an outcome, changes nothing of the earlier."""
    alone = [rows_by_user(small_store, [moment])[0] for moment in RANDOM_MOMENTS]
    assert rows_by_user(small_store, RANDOM_MOMENTS) == alone
    assert rows_by_user(small_store, RANDOM_MOMENTS[::-1]) == alone[::-1]
    tell(cells_compared=2 * cells(alone))


def test_the_digest_names_the_known_log_only(tmp_path: Path) -> None:
    moment = RANDOM_MOMENTS[0]
    known = split(random_log(3, 30, 1_000), moment)
    past = ingest_frame(known, tmp_path / "past").store
    both = ingest_frame(pd.concat([known, future_rows(3, moment, known)]), tmp_path / "both").store
    assert past is not None
    assert both is not None
    assert past.digest(moment) == both.digest(moment)
    assert past.digest() != both.digest()


def test_derived_dwell_waits_for_the_next_event_to_be_known(tmp_path: Path) -> None:
    """A view's dwell ends with the next event that is known: an event in between that arrives late splits it later."""
    rows: list[dict[str, Any]] = [
        {"user_id": "u", "ts": "2024-05-01 10:00:00", "kind": "view"},
        {"user_id": "u", "ts": "2024-05-01 10:20:00", "kind": "view"},
        {"user_id": "u", "ts": "2024-05-01 10:05:00", "kind": "view", "arrived_at": "2024-05-02"},
        {"user_id": "u", "ts": "2024-05-01 11:00:00", "kind": "cart"},
    ]
    store = ingest_rows(rows, tmp_path / "store").store
    assert store is not None
    minutes = {
        moment: (one_user(store, at(moment), "u")["browse_minutes_7d"], one_user(store, at(moment), "u")["views_7d"])
        for moment in ("2024-05-01 10:10", "2024-05-01 10:20", "2024-05-01 10:20:00.000001", "2024-05-02")
    }
    assert minutes == {
        "2024-05-01 10:10": (0, 1),
        "2024-05-01 10:20": (0, 1),
        "2024-05-01 10:20:00.000001": (20, 2),  # 40 idle minutes after 10:20 end the session
        "2024-05-02": (20, 3),
    }


def test_first_use_of_a_kind_or_column_is_observed_from_its_arrival_on(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"user_id": "u", "ts": "2024-05-01", "kind": "view"},
        {"user_id": "v", "ts": "2024-05-02", "kind": "cart", "arrived_at": "2024-05-10"},
        {"user_id": "v", "ts": "2024-05-03", "kind": "refund", "amount": 3},
    ]
    store = ingest_rows(rows, tmp_path / "store").store
    assert store is not None
    column = {name: NAMES.index(name) for name in ("carts_30d", "refunds_30d")}

    def seen(moment: str) -> list[float]:
        return [float(matrix_at(store, at(moment), users=["u"]).values[0, i]) for i in column.values()]

    np.testing.assert_equal(seen("2024-05-03"), [np.nan, np.nan])
    np.testing.assert_equal(seen("2024-05-03 00:00:00.000001"), [np.nan, 0])
    np.testing.assert_equal(seen("2024-05-09 23:59:59.999999"), [np.nan, 0])
    np.testing.assert_equal(seen("2024-05-10"), [0, 0])
