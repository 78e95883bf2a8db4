"""What happened after a moment: the purchases of `[moment, moment + horizon)`, read no later than allowed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from features.engines.local import matrices
from features.events.store import Store
from tests.features.support import DAY_US, RANDOM_MOMENTS, as_micros, at, ingest_rows, matrix_at


def test_the_window_is_closed_below_and_open_above(tmp_path: Path) -> None:
    moment = at("2024-06-01")
    times = ["2024-05-31 23:59:59.999999", "2024-06-01", "2024-06-30 23:59:59.999999", "2024-07-01"]
    rows = [{"user_id": user, "ts": ts, "kind": "purchase"} for user, ts in zip("abcd", times, strict=True)]
    rows += [{"user_id": user, "ts": "2024-05-01", "kind": "view"} for user in "abcd"]
    store = ingest_rows(rows, tmp_path / "store").store
    assert store is not None
    matrix = matrix_at(store, moment, horizon=30)
    assert matrix.days_to_purchase is not None
    days = dict(zip(matrix.user_ids.to_pylist(), matrix.days_to_purchase.tolist(), strict=True))
    assert days == {"a": np.inf, "b": 0, "c": 30 - 1e-6 / 86_400, "d": 30}
    frame = matrix.to_pandas().set_index("user_id")
    assert frame["churned"].to_dict() == {"a": True, "b": False, "c": False, "d": True}


def test_outcomes_agree_with_pandas(small_store: Store, small_log: pd.DataFrame, tell: Callable[..., None]) -> None:
    bought = small_log[small_log["kind"] == "purchase"]
    ts, arrived = as_micros(bought["ts"]), as_micros(bought["arrived_at"].fillna(bought["ts"]))
    compared = 0
    for known_before in (RANDOM_MOMENTS[2], RANDOM_MOMENTS[1] + 20 * DAY_US):
        for horizon in (1, 30, 90):
            for matrix in matrices(small_store, RANDOM_MOMENTS[:2], horizon=horizon, known_before=known_before):
                inside = (ts >= matrix.as_of) & (ts < matrix.as_of + horizon * DAY_US)
                inside &= (ts < known_before) & (arrived <= known_before)
                counts = bought["user_id"][inside].value_counts()
                expected = counts.reindex(matrix.user_ids.to_pylist(), fill_value=0).to_numpy()
                np.testing.assert_array_equal(matrix.churned, expected == 0)
                np.testing.assert_array_equal(matrix.silent(horizon), expected == 0)
                compared += len(expected)
    tell(outcomes_compared=compared)


def test_a_row_that_arrives_later_is_no_outcome_yet(tmp_path: Path) -> None:
    rows = [
        {"user_id": "u", "ts": "2024-05-01", "kind": "view"},
        {"user_id": "u", "ts": "2024-06-05", "kind": "purchase", "arrived_at": "2024-08-01"},
    ]
    store = ingest_rows(rows, tmp_path / "store").store
    assert store is not None
    for known_before, expected in (("2024-07-31", [np.inf]), ("2024-08-01", [4])):
        matrix = matrix_at(store, at("2024-06-01"), horizon=30, known_before=at(known_before))
        assert matrix.days_to_purchase is not None
        assert matrix.days_to_purchase.tolist() == expected
