"""What becomes of each row: kept exactly, or rejected with its reason and its place in the source."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import UserError
from features.events import columns as c
from features.events.ingest import Ingested, ingest
from features.events.sources import Source
from features.events.store import Store
from tests.features.support import NOW, at, folder_bytes, ingest_frame, ingest_rows, matrix_at, one_user

GOOD: dict[str, Any] = {"user_id": "u", "ts": "2024-05-01", "kind": "purchase", "price": 2.5, "quantity": 3}
LATER = at("2024-05-10")

# reason: what is wrong with the row
BAD: dict[str, Mapping[str, Any]] = {
    "no user": {"user_id": None},
    "no user ": {"user_id": ""},
    "no kind": {"kind": None},
    "no time": {"ts": None},
    "ts is not a time": {"ts": "yesterday"},
    "ts is not a time ": {"ts": "2024-02-30"},
    "ts is not a time  ": {"ts": "infinity"},
    "ts is before 1970": {"ts": "1969-12-31"},
    "ts is in the future": {"ts": "2025-01-01 00:00:06"},
    "arrived_at is not a time": {"arrived_at": "soon"},
    "price is negative": {"price": -0.01},
    "price is not a number": {"price": "NaN"},
    "price is not a number ": {"price": "two"},
    "price is not a number  ": {"price": "inf"},
    "price is too large": {"price": 1e11},
    "price x quantity is too large": {"price": 1e8, "quantity": 1e8},
    "quantity is negative": {"quantity": -1},
    "amount is not a number": {"amount": "-"},
    "discount is negative": {"discount": -1},
    "dwell_s is negative": {"dwell_s": -1},
    "dwell_s is too large": {"dwell_s": 1e9},
    "user_id is over 512 bytes": {"user_id": "x" * 10_240},
    "item_id is over 512 bytes": {"item_id": "é" * 257},
    "event_id is over 512 bytes": {"event_id": "x" * 513},
}


def kept_store(result: Ingested) -> Store:
    assert result.store is not None
    return result.store


def rejected(path: Path) -> list[tuple[int, str, dict[str, Any]]]:
    """(source row, reason, the row) of everything that was set aside; of a row over 2,000 characters the start only."""
    tables = [pq.read_table(file) for file in sorted((path / "rejected").glob("*.parquet"))]
    rows = pa.concat_tables(tables).to_pylist() if tables else []
    return [
        (row["source_row"], row["reason"], json.loads(row["source"] if len(row["source"]) < 2_000 else "{}"))
        for row in rows
    ]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_each_bad_row_is_set_aside_with_reason_and_place(form: str, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    for number, wrong in enumerate(BAD.values()):
        rows += [{**GOOD, "event_id": f"{number}"}, {**GOOD, "event_id": f"bad {number}"} | dict(wrong)]
    path = tmp_path / "store"
    if form == "jsonl":
        result = ingest_rows(rows, path, max_rejected=0.5)
    else:
        names = list(dict.fromkeys(name for row in rows for name in row))
        (tmp_path / "e.csv").write_text(pd.DataFrame(rows, columns=names, dtype=object).to_csv(index=False))
        result = ingest(Source(tmp_path / "e.csv"), path, now=NOW, max_rejected=0.5)
    report, found = result.report, rejected(path)
    assert (report.rows, report.kept, report.rejected.total()) == (2 * len(BAD), len(BAD), len(BAD))
    assert [(row, reason) for row, reason, _ in found] == [
        (2 * number + 2, reason.strip()) for number, reason in enumerate(BAD)
    ]
    assert found[4][2]["ts"] == "yesterday"
    assert found[10][2]["user_id"] == "u"
    assert set(report.examples) == {reason.strip() for reason in BAD}
    assert report.examples["ts is not a time"].startswith("row 10: {")
    assert kept_store(result).rows == len(BAD)


def test_above_the_share_the_run_fails_whole(tmp_path: Path) -> None:
    path = tmp_path / "store"
    good = [{**GOOD, "event_id": f"{i}"} for i in range(97)]
    ingest_rows(good[:5], path)
    before = folder_bytes(path)
    bad: list[dict[str, Any]] = [{**GOOD, "price": -1}, {**GOOD, "ts": "never"}, {**GOOD, "ts": "often"}]
    with pytest.raises(UserError) as error:
        ingest_rows([*good, *bad], path)
    text = str(error.value)
    for part in ("3 of 100 rows are bad", "3.00%", "at most 2.00%", "2 × ts is not a time", "1 × price is negative"):
        assert part in text
    assert "row 99: {" in text
    assert "never" in text
    assert folder_bytes(path) == before
    with pytest.raises(UserError):
        ingest_rows([*good, *bad], tmp_path / "fresh")
    assert not (tmp_path / "fresh").exists()
    assert ingest_rows([*good, *bad[:1]], path).report.rejected.total() == 1


def test_exactly_the_share_passes(tmp_path: Path) -> None:
    rows = [{**GOOD, "event_id": f"{i}", "price": -1 if i < 2 else 1} for i in range(100)]
    assert ingest_rows(rows, tmp_path / "store").report.rejected.total() == 2
    with pytest.raises(UserError, match=r"at most 1\.90%"):
        ingest_rows(rows, tmp_path / "other", max_rejected=0.019)


def test_nan_in_parquet_is_rejected_and_null_is_none(tmp_path: Path) -> None:
    file = tmp_path / "events.parquet"
    columns = {
        "user_id": ["a", "b", "c"],
        "ts": pa.array([at("2024-05-01")] * 3, pa.timestamp("us")),
        "kind": ["purchase"] * 3,
        "price": pa.array([math.nan, None, 2.0], pa.float64()),
    }
    pq.write_table(pa.table(columns), file)
    result = ingest(Source(file), tmp_path / "store", now=NOW, max_rejected=0.5)
    assert result.report.rejected == {"price is not a number": 1}
    assert matrix_at(kept_store(result), LATER).user_ids.to_pylist().sort() == ["b", "c"].sort()
    assert one_user(kept_store(result), LATER, "b")["spend_30d"] == 0


def test_a_user_id_that_is_a_number_is_its_digits(tmp_path: Path) -> None:
    """Also where pandas turned whole numbers with gaps into floats: 17.0 is user 17, NaN is no user."""
    for name, users in (("i", pa.array([17, 18])), ("f", pa.array([17.0, 18.0]))):
        file = tmp_path / f"{name}.parquet"
        times = pa.array([at("2024-05-01")] * 2, pa.timestamp("us"))
        pq.write_table(pa.table({"user_id": users, "ts": times, "kind": ["view"] * 2}), file)
        store = kept_store(ingest(Source(file), tmp_path / name, now=NOW))
        assert sorted(matrix_at(store, LATER).user_ids.to_pylist()) == ["17", "18"]
    pq.write_table(pa.table({"user_id": [17.0, math.nan], "ts": times, "kind": ["view"] * 2}), file)
    result = ingest(Source(file), tmp_path / "nan", now=NOW, max_rejected=0.5)
    assert result.report.rejected == {"no user": 1}


# ---------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("row", "spend", "units"),
    [
        ({"price": 2.5, "quantity": 3}, 7.5, 3),
        ({"price": 2.5, "quantity": None}, 2.5, 1),
        ({"price": 2.5, "quantity": 0}, 0, 0),
        ({"price": 2.5, "quantity": 3, "amount": 7}, 7, 3),
        ({"price": None, "quantity": 3, "amount": 7}, 7, 3),
        ({"price": 2.5, "quantity": 3, "amount": 0}, 0, 3),
        ({"price": 0, "quantity": 3}, 0, 3),
        ({"price": 0.0001, "quantity": 0.5}, 0.0001, 0.5),  # half a unit is rounded up
        ({"price": 19.99, "quantity": 1000}, 19_990, 1000),
        ({"price": "1e3", "quantity": " 2 "}, 2_000, 2),
    ],
)
def test_amount_and_quantity(row: Mapping[str, Any], spend: float, units: float, tmp_path: Path) -> None:
    known = {"user_id": "other", "ts": "2024-04-01", "kind": "purchase", "amount": 1, "quantity": 1}
    store = kept_store(ingest_rows([{**GOOD, **row}, known], tmp_path / "store"))
    signals = one_user(store, LATER, "u")
    assert signals["spend_30d"] == pytest.approx(spend, rel=1e-7)
    assert signals["units_30d"] == units


def test_money_is_exact(tmp_path: Path) -> None:
    """Ten thousand lines of 0.1 are 1,000, in integers, as no sum of floats is."""
    rows = [{**GOOD, "price": 0.1, "quantity": 1, "event_id": f"{i}"} for i in range(10_000)]
    store = kept_store(ingest_rows(rows, tmp_path / "store"))
    assert sum(int(line.column("amount").sum()) for line in store.timelines()) == 1_000 * c.MONEY
    assert one_user(store, LATER, "u")["spend_ever"] == 1_000


# ---------------------------------------------------------------------------------------------- time


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2024-05-01", "2024-05-01T00:00:00"),
        ("2024-05-01 10:00:00", "2024-05-01T10:00:00"),
        ("2024-05-01T10:00:00.123456", "2024-05-01T10:00:00.123456"),
        ("2024-05-01T10:00:00Z", "2024-05-01T10:00:00"),
        ("2024-05-01T10:00:00+02:00", "2024-05-01T08:00:00"),
        ("2024-05-01 10:00:00-0530", "2024-05-01T15:30:00"),
        ("2024-05-01 10:00:00 Europe/Berlin", "2024-05-01T08:00:00"),
    ],
)
def test_text_times(text: str, utc: str, tmp_path: Path) -> None:
    store = kept_store(ingest_rows([{**GOOD, "ts": text}], tmp_path / "store"))
    assert store.span == (at(utc), at(utc))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_parquet_times(unit: str, zone: str | None, tmp_path: Path) -> None:
    """A zoned column holds instants, whatever its zone; a naive one is read as UTC."""
    times = pa.array([at("2024-05-01T10:00:00")], pa.timestamp("us", zone)).cast(pa.timestamp(unit, zone))
    pq.write_table(pa.table({"user_id": ["u"], "ts": times, "kind": ["view"]}), tmp_path / "e.parquet")
    store = kept_store(ingest(Source(tmp_path / "e.parquet"), tmp_path / "store", now=NOW))
    assert store.span[0] == at("2024-05-01T10:00:00")


def test_the_clock_has_five_seconds_of_tolerance(tmp_path: Path) -> None:
    rows = [{**GOOD, "ts": f"2025-01-01 00:00:05{end}"} for end in ("", ".000001")]
    report = ingest_rows(rows, tmp_path / "store", max_rejected=0.5).report
    assert (report.kept, report.rejected) == (1, {"ts is in the future": 1})
    assert rejected(tmp_path / "store")[0][0] == 2


def test_a_column_of_plain_numbers_is_no_time(tmp_path: Path) -> None:
    table = pa.table({"user_id": ["u"], "ts": [1_714_550_400], "kind": ["view"]})
    pq.write_table(table, tmp_path / "e.parquet")
    with pytest.raises(UserError, match=r"column ts is BIGINT, not a time.*to_timestamp\(ts\)"):
        ingest(Source(tmp_path / "e.parquet"), tmp_path / "store", now=NOW)
    assert not (tmp_path / "store").exists()


# ---------------------------------------------------------------------------------------------- identity and names


def test_two_equal_lines_are_two_lines_and_ingested_again_they_are_known(tmp_path: Path) -> None:
    rows = [GOOD, GOOD, {**GOOD, "price": 1}]
    first = ingest_rows(rows, tmp_path / "store")
    again = ingest_rows(rows[::-1], tmp_path / "store")
    assert (first.report.kept, again.report.kept, again.report.duplicates) == (3, 0, 3)
    assert one_user(kept_store(again), LATER, "u")["purchases_30d"] == 3
    third = ingest_rows([*rows, GOOD], tmp_path / "store")  # a third equal line is new
    assert (third.report.kept, third.report.duplicates) == (1, 3)


def test_an_event_id_is_one_event(tmp_path: Path) -> None:
    rows = [{**GOOD, "event_id": "e"}, {**GOOD, "event_id": "e"}, {**GOOD, "event_id": "e", "price": 9}, GOOD, GOOD]
    report = ingest_rows(rows, tmp_path / "store").report
    assert (report.rows, report.kept, report.duplicates, report.conflicts) == (5, 3, 2, 1)


def test_the_report_counts(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {**GOOD, "item_id": "i", "colour": "red", "sizE": 3},
        {**GOOD, "item_id": "j", "user_id": "v", "ts": "2024-05-03"},
        {**GOOD, "kind": "wink", "user_id": "v"},
    ]
    result = ingest_rows(rows, tmp_path / "store")
    report = result.report
    assert report.unknown_columns == ("colour", "sizE")
    assert (report.users, report.items, report.kinds) == (2, 2, {"purchase": 2, "wink": 1})
    assert (report.first_ts, report.last_ts) == (at("2024-05-01"), at("2024-05-03"))
    assert "wink" in kept_store(result).facts.kinds


def test_an_unknown_kind_can_be_asked_for_by_name(tmp_path: Path) -> None:
    store = kept_store(ingest_rows([{**GOOD, "kind": "wink"}, GOOD], tmp_path / "store"))
    (timeline,) = store.timelines()
    assert timeline.as_of([LATER])[0].count("wink", 30).tolist() == [1]
    assert one_user(store, LATER, "u")["active_days_30d"] == 1


def test_a_device_without_a_user_has_a_timeline_of_its_own(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {**GOOD, "device_id": "d1"},
        {**GOOD, "user_id": None, "device_id": "d1"},
        {**GOOD, "user_id": "", "device_id": "d2"},
        {**GOOD, "user_id": None, "device_id": ""},
    ]
    result = ingest_rows(rows, tmp_path / "store", max_rejected=0.3)
    assert result.report.rejected == {"no user": 1}
    users = matrix_at(kept_store(result), LATER).user_ids.to_pylist()
    assert sorted(users) == ["device:d1", "device:d2", "u"]


def test_users_are_told_apart_by_their_whole_text(tmp_path: Path) -> None:
    users = ["u", "U", " u", "u ", "ü", "u\u0308", "x" * 512, "007", "7", "null", "🛒"]
    store = kept_store(ingest_rows([{**GOOD, "user_id": user} for user in users], tmp_path / "store"))
    assert sorted(matrix_at(store, LATER).user_ids.to_pylist()) == sorted(users)
    assert matrix_at(store, LATER, users=users).user_ids.to_pylist() == users


def test_at_most_255_kinds(tmp_path: Path) -> None:
    rows = [{**GOOD, "kind": f"kind {i}"} for i in range(255)]
    assert len(ingest_rows(rows, tmp_path / "store").report.kinds) == 255
    with pytest.raises(UserError, match="256 kinds"):
        ingest_rows([*rows, {**GOOD, "kind": "one more"}], tmp_path / "store")


def test_a_log_of_one_row_and_a_log_of_none(tmp_path: Path) -> None:
    assert ingest_frame(pd.DataFrame([GOOD]), tmp_path / "one").report.kept == 1
    with pytest.raises(UserError, match="holds no rows"):
        ingest_frame(pd.DataFrame([GOOD])[:0], tmp_path / "none")
    assert not (tmp_path / "none").exists()
