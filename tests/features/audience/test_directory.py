"""What stands behind codes and ids."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from features.audience.directory import NOBODY, Directory, registered_at
from features.errors import UserError
from features.events.columns import NEVER
from tests.features.support import at, ingest_frame

LOG = pd.DataFrame(
    {
        "user_id": ["ann", "bob"],
        "ts": pd.to_datetime(["2024-01-01", "2024-01-02"]),
        "kind": "purchase",
        "item_id": ["i1", "i2"],
    }
)
ITEMS = pd.DataFrame({"item_id": ["i1", "i3"], "category": ["baby > prams", "food"], "name": ["A Pram", None]})


def directory(tmp_path: Path, users: pd.DataFrame | None = None, items: pd.DataFrame | None = ITEMS) -> Directory:
    store = ingest_frame(LOG, tmp_path / "store", items=items, users=users).store
    assert store is not None
    return Directory(store)


def test_items_have_names_and_categories_where_the_table_has_them(tmp_path: Path):
    known = directory(tmp_path)
    names = dict(zip(known.texts("item_id"), known.item_names, strict=True))
    assert names["i1"] == "A Pram"
    assert names["i2"] == names["i3"] == ""
    texts = [known.texts("category")[code] if code >= 0 else None for code in known.item_category]
    assert dict(zip(known.texts("item_id"), texts, strict=True)) == {"i1": "baby > prams", "i2": None, "i3": "food"}


def test_a_log_without_tables_knows_nobody(tmp_path: Path):
    known = directory(tmp_path, items=None)
    assert known.entry("ann") is NOBODY
    assert set(known.item_names) == {""}
    assert not known.keeps("consent")


def test_the_users_table_is_told_by_user(tmp_path: Path):
    users = pd.DataFrame(
        {
            "user_id": ["ann", "bob"],
            "registered_at": pd.Series(["2023-12-31 10:00", None], dtype="datetime64[us]"),
            "birthday": [date(1990, 5, 17), None],
            "invited_by": [None, "ann"],
            "region": ["north", None],
            "acquisition_channel": ["search ad", None],
            "income": [3, None],
        }
    )
    known = directory(tmp_path, users)
    ann, bob = known.entry("ann"), known.entry("bob")
    assert ann.registered_at == at("2023-12-31T10:00")
    assert (ann.birthday, ann.region, ann.acquisition_channel) == (date(1990, 5, 17), "north", "search ad")
    assert dict(ann.tags) == {"income": 3}
    assert (bob.invited_by, bob.registered_at, bob.birthday, dict(bob.tags)) == ("ann", None, None, {})
    assert ann.consent is None
    assert known.entry("a stranger") is NOBODY


@pytest.mark.parametrize(
    ("given", "channels"),
    [
        (True, ("all",)),
        (False, ()),
        ("email, push", ("email", "push")),
        ("yes", ("all",)),
        ("no", ()),
        (1, ("all",)),
        (0, ()),
        (None, ()),
    ],
)
def test_consent_is_a_flag_or_names_channels(tmp_path: Path, given: object, channels: tuple[str, ...]):
    users = pd.DataFrame({"user_id": ["ann"], "consent": pd.Series([given], dtype=object)})
    assert directory(tmp_path, users).entry("ann").consent == channels


def test_consent_may_be_a_list(tmp_path: Path):
    users = pd.DataFrame({"user_id": ["ann"], "consent": [["sms"]]})
    assert directory(tmp_path, users).entry("ann").consent == ("sms",)


@pytest.mark.parametrize(
    ("given", "hours"),
    [
        (["2023-12-31T10:00:00Z", "2023-12-31T10:00:00+02:00", "2023-12-31", "", None], [10, 8, 0, None, None]),
        (pa.array([date(2023, 12, 31), None], pa.date32()), [0, None]),
        (pa.array([np.datetime64("2023-12-31T10:00:00.000000001", "ns")]), [10]),
        (pa.array([datetime(2023, 12, 31, 10, tzinfo=UTC)], pa.timestamp("s", "Asia/Shanghai")), [10]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_registrations_in_whatever_form(given: Any, hours: list[int | None]):
    users = pa.table({"user_id": [str(row) for row in range(len(given))], "registered_at": given})
    midnight = at("2023-12-31")
    expected = [NEVER if hour is None else midnight + hour * 3_600_000_000 for hour in hours]
    assert registered_at(users).tolist() == expected
    assert registered_at(users.drop_columns("registered_at")).tolist() == [NEVER] * len(given)


@pytest.mark.parametrize(("given", "said"), [(["yesterday"], "'yesterday'"), ([20231231], "of type int64")])
def test_registrations_that_are_no_times_are_told(given: list[Any], said: str):
    users = pa.table({"user_id": ["ann"], "registered_at": given})
    with pytest.raises(UserError, match=f"registered_at is {said}.*users.sql"):
        registered_at(users)
