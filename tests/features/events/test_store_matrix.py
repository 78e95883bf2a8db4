"""`Store.matrix`: the same numbers as the command line's, by a date."""

from datetime import UTC, datetime, timedelta, timezone

import pandas as pd
import pytest

from features.errors import UserError
from features.events.store import Store
from tests.features.support import NAMES, RANDOM_MOMENTS, at, matrix_at


def test_is_the_matrix_of_the_engine(small_store: Store) -> None:
    moment = RANDOM_MOMENTS[0]
    expected = matrix_at(small_store, moment, horizon=7, lookback=60).to_pandas()
    pd.testing.assert_frame_equal(small_store.matrix(moment, horizon=7, lookback=60), expected)
    assert [*expected.columns] == ["user_id", *NAMES, "days_to_purchase", "churned"]
    some = expected["user_id"].tolist()[3:1:-1]
    assert small_store.matrix(moment, users=[*some, "a stranger"])["user_id"].tolist() == some


def test_a_moment_may_be_text_or_a_datetime(small_store: Store) -> None:
    day = pd.Timestamp(RANDOM_MOMENTS[0], unit="us").strftime("%Y-%m-%d")
    expected = small_store.matrix(at(day))
    midnight = datetime.fromisoformat(day)
    elsewhere = midnight.replace(tzinfo=UTC).astimezone(timezone(timedelta(hours=8)))
    for moment in (day, f"{day}T08:00:00+08:00", midnight, elsewhere):
        pd.testing.assert_frame_equal(small_store.matrix(moment), expected)


def test_what_cannot_be_answered_is_refused(small_store: Store) -> None:
    first, last = (datetime.fromtimestamp(instant / 1e6, UTC) for instant in small_store.span)
    with pytest.raises(UserError, match="is not an ISO date or time"):
        small_store.matrix("next Tuesday")
    with pytest.raises(UserError, match="must be later than the first event"):
        small_store.matrix(first - timedelta(days=1))
    with pytest.raises(UserError, match=r"the log ends before 30 days after .* as_of may be at most"):
        small_store.matrix(last - timedelta(days=28), horizon=30)
    assert len(small_store.matrix(last + timedelta(days=28)))
