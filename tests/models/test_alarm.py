"""The operators' alarm: when it rings, when it is not known, and its settings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.errors import UserError
from features.events.store import Store
from features.timeline import Timeline
from models.alarm import SIGNALS, Alarm, AlarmSettings, alarm, alarm_at, alarm_of
from tests.features.support import DAY_US, at, ingest_rows, matrix_at
from tests.shop import AS_OF

NAN = float("nan")
# days since seen, browsing at last seen against before, rings, the answer
CASES: list[tuple[float, float, bool | None]] = [
    (7.0, 0.49, True),
    (7.0, 0.5, False),  # exactly half is not under half
    (6.99, 0.1, False),
    (300.0, 0.0, True),
    (30.0, 1.4, False),
    (NAN, NAN, None),  # never seen
    (30.0, NAN, None),  # no browsing to compare with
    (1.0, NAN, None),  # nor for one who was here yesterday
]


def test_it_rings_where_both_hold_and_is_not_known_without_browsing() -> None:
    unseen, browsing = (np.array([case[i] for case in CASES], np.float32) for i in (0, 1))
    assert alarm(unseen, browsing).answers() == [case[2] for case in CASES]
    assert alarm(unseen, browsing).rings.tolist() == [case[2] is True for case in CASES]


@pytest.mark.parametrize(
    ("settings", "unseen", "browsing", "rings"),
    [
        ({"unseen_days": 14}, 13.9, 0.1, False),
        ({"unseen_days": 14}, 14.0, 0.1, True),
        ({"fall": 0.75}, 10.0, 0.3, False),
        ({"fall": 0.75}, 10.0, 0.2, True),
        ({"fall": 0}, 10.0, 0.99, True),
    ],
)
def test_its_thresholds_are_settings(settings: dict[str, float], unseen: float, browsing: float, rings: bool) -> None:
    found = alarm(np.array([unseen]), np.array([browsing]), AlarmSettings.from_dict(settings))
    assert found.answers() == [rings]


def test_settings_come_back_from_a_manifest() -> None:
    settings = AlarmSettings(unseen_days=10, fall=0.3)
    assert AlarmSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert AlarmSettings.from_dict({}) == AlarmSettings()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"unseen_days": 0}, "above 0"),
        ({"unseen_days": NAN}, "above 0"),
        ({"fall": 1.0}, "under 1"),
        ({"fall": -0.1}, "at least 0"),
        ({"fall": "half"}, "not a number"),
        ({"quiet_days": 7}, "no setting quiet_days: it has unseen_days, fall"),
    ],
)
def test_settings_that_are_none_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        AlarmSettings.from_dict(settings)


def test_a_matrix_and_a_moment_give_the_same_answers(shop: Store) -> None:
    """In a shop in which some browsed and some did not, at moments of every hour around a week unseen."""
    seen: list[bool | None] = []
    for hours in range(0, 24 * 30, 37):
        moment = AS_OF - hours * DAY_US // 24
        matrix = matrix_at(shop, moment)
        by_user = dict(zip(matrix.user_ids.to_pylist(), alarm_of(matrix).answers(), strict=True))
        for timeline in shop.timelines():
            found = _at(timeline, moment)
            strangers = [found[user] for user in found.keys() - by_user.keys()]
            assert strangers == [None] * len(strangers)
            assert {user: found[user] for user in by_user} == by_user
        seen += by_user.values()
    assert {True, False, None} == set(seen)


def _at(timeline: Timeline, moment: int) -> dict[str, bool | None]:
    answers = alarm_at(timeline.as_of([moment])[0]).answers()
    return dict(zip(timeline.user_ids.to_pylist(), answers, strict=True))


def test_in_a_log_without_browsing_it_is_known_of_nobody(tmp_path: Path) -> None:
    rows = [{"user_id": f"u{i}", "ts": f"2024-0{1 + i % 5}-07", "kind": "purchase", "price": 5} for i in range(10)]
    store = ingest_rows(rows, tmp_path / "store").store
    assert store is not None
    matrix = matrix_at(store, at("2024-06-01"))
    found: Alarm = alarm_of(matrix)
    assert found.answers() == [None] * 10
    assert not found.rings.any()
    assert (matrix.column(SIGNALS[0]) > 7).any()  # silent they were
