"""The alarm beside a model: whom each finds, and how many days ahead."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from analysis import alarm as analysis
from analysis.alarm import (
    RULE,
    SAME_NUMBER,
    SAME_PRECISION,
    Part,
    Watch,
    beside,
    cut_at_number,
    cut_at_precision,
    lead_days,
    lead_times,
    pooled,
    watch,
)
from features.errors import UserError
from features.events.store import Store
from features.matrix import Matrix
from features.signals import by_name
from features.timeline import Array
from models.alarm import SIGNALS, AlarmSettings
from tests.features.support import DAY_US, at, ingest_rows, matrix_at
from tests.shop import AS_OF, HORIZON

MOMENT, START = at("2024-06-01"), at("2024-04-01")


def matrix_of(rings: list[bool], left: list[bool]) -> Matrix:
    """Users for whom the alarm rings or not, and who left or bought the next day."""
    values = np.stack([np.full(len(rings), 10), np.where(rings, 0.1, 1)], axis=1).astype(np.float32)
    ids = pa.array([f"u{i}" for i in range(len(rings))], pa.string())
    return Matrix(ids, MOMENT, by_name(SIGNALS), values, np.where(left, np.inf, 1.0), 30)


# ------------------------------------------------------------------------------------------------- at a moment


def test_rule_and_model_over_the_same_users() -> None:
    #          both   rule   rule   model  -      -      -      -
    rings = [True, True, True, False, False, False, False, False]
    left = [True, False, True, True, True, False, False, True]
    score = np.array([0.9, 0.1, 0.2, 0.8, 0.7, 0.6, 0.3, 0.0])
    found = beside(matrix_of(rings, left), score)
    assert (found.users, found.known) == (8, 8)
    rule = found.flagged[RULE]
    assert (rule.flagged, rule.right, rule.left) == (3, 2, 5)
    assert (rule.precision, rule.recall, rule.f1) == (2 / 3, 2 / 5, 0.5)
    number, precision = found.flagged[SAME_NUMBER], found.flagged[SAME_PRECISION]
    assert (number.flagged, number.right) == (3, 3)
    # .9 .8 .7 left, .6 .3 did not (3 of 5), .2 did (4 of 6: two thirds again), .1 did not (4 of 7), .0 did (5 of 8)
    assert (precision.flagged, precision.right) == (6, 4)
    assert found.parts == {
        "both": Part(1, 1),
        "only the rule": Part(2, 1),
        "only the model": Part(2, 2),
        "neither": Part(3, 1),
    }
    assert found.parts["only the rule"].share_left == 0.5


def test_where_the_rule_is_silent_there_is_nothing_to_be_as_right_as() -> None:
    found = beside(matrix_of([False] * 3, [True, False, True]), np.array([0.9, 0.5, 0.1]))
    assert all(flagged.flagged == 0 for flagged in found.flagged.values())
    assert np.isnan(found.flagged[RULE].precision)
    assert found.flagged[RULE].recall == 0
    assert found.parts["neither"] == Part(3, 2)


def test_several_moments_are_summed() -> None:
    one = beside(matrix_of([True, False], [True, False]), np.array([0.9, 0.1]))
    two = beside(matrix_of([True, False, False], [False, True, False]), np.array([0.9, 0.8, 0.1]))
    both = pooled([one, two])
    assert both.users == 5
    assert (both.flagged[RULE].flagged, both.flagged[RULE].right, both.flagged[RULE].left) == (2, 1, 2)
    assert both.parts["both"] == Part(2, 1)
    assert pooled([one]) == one


def test_cuts_against_trying_every_score() -> None:
    rng = np.random.default_rng(4)
    for _ in range(200):
        size = int(rng.integers(1, 12))
        score, left = rng.integers(0, 6, size) / 8, rng.random(size) < 0.5
        wanted = float(rng.choice([0.0, 0.25, 0.5, 2 / 3, 1.0]))
        good = [cut for cut in set(score) if left[score >= cut].mean() >= wanted]
        assert cut_at_precision(score, left, wanted) == min(good, default=np.inf)
        number = int(rng.integers(0, size + 1))
        cut = cut_at_number(score, number)
        assert (score >= cut).sum() >= number
        assert (score > cut).sum() < number or number == 0
    assert cut_at_precision(np.empty(0), np.empty(0, bool), 0.5) == np.inf
    assert cut_at_precision(np.ones(2), np.ones(2, bool), np.nan) == np.inf


# ------------------------------------------------------------------------------------------------- day by day


def test_the_lead_runs_from_where_the_alarm_stands() -> None:
    days = 8
    stories = {
        # flags day by day, last watched day, days from there until it is certain, lead, stood
        "from day 3 on": ("00011100", 5, 0.5, 3 - 5.5, True),
        "taken back and given again": ("11101100", 5, 0.5, 4 - 5.5, True),
        "taken back": ("11111000", 5, 0.5, 0.0, False),
        "always": ("11111111", 7, 1.0, 0 - 8.0, True),
        "only after it was certain": ("00000011", 5, 0.5, 0.0, False),
        "did not leave": ("11111111", -1, 0.0, np.nan, False),
    }
    flags = np.array([[mark == "1" for mark in story[0]] for story in stories.values()]).T
    last = np.array([story[1] for story in stories.values()])
    certain = np.array([MOMENT + round((s[1] + s[2]) * DAY_US) if s[1] >= 0 else -1 for s in stories.values()])
    moments = MOMENT + np.arange(days) * DAY_US
    watched = watch_of(moments, flags, certain, last)
    lead, stood = lead_days(watched, flags)
    assert stood.tolist() == [story[4] for story in stories.values()]
    np.testing.assert_allclose(lead, [-story[3] for story in stories.values()])
    # Measured to other instants, at which the first two were truly gone: found a day too late, and three days ahead.
    instants = np.array([MOMENT + 2 * DAY_US, MOMENT + 7 * DAY_US, -1, -1, -1, MOMENT])
    lead, stood = lead_days(watched, flags, instants)
    np.testing.assert_allclose(lead, [-1.0, 3.0, *[np.nan] * 4])
    assert stood.tolist() == [True, True, False, False, False, False]


def watch_of(moments: Array, rings: Array, certain: Array, last: Array) -> Watch:
    ids = pa.array([f"u{i}" for i in range(len(last))], pa.string())
    everywhere = np.ones(rings.shape, bool)
    return Watch(moments, ids, everywhere, rings, rings.astype(np.float32), everywhere, certain, last, 30)


def story(user: str, bought: list[float], viewed: dict[float, float]) -> list[dict[str, Any]]:
    """Purchases and views so many days after the first of April, the views of so many minutes."""
    rows: list[dict[str, Any]] = [{"kind": "purchase", "price": 5, "ts": iso(day)} for day in bought]
    rows += [{"kind": "view", "dwell_s": 60 * minutes, "ts": iso(day)} for day, minutes in viewed.items()]
    return [{**row, "user_id": user} for row in rows]


def iso(day: float) -> str:
    """The time so many days after the first of April."""
    return str(np.datetime64(START + round(day * DAY_US), "us"))


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Store:
    rows = story("stays", [10, 30, 50, 70, 90, 110], dict.fromkeys(range(1, 120), 10.0))
    # Browses ten minutes a day, from day 41 one minute, until day 48; buys a last time on day 45.5.
    rows += story("fades", [20, 45.5], {day: 10.0 if day < 41 else 1.0 for day in range(1, 49)})
    # Goes without browsing less: the rule never rings.
    rows += story("just goes", [20, 45.5], dict.fromkeys(range(1, 49), 10.0))
    store = ingest_rows(rows, tmp_path_factory.mktemp("stories") / "store").store
    assert store is not None
    return store


def watched_stories(store: Store, **options: Any) -> Watch:
    settings = {"as_of": START + 116 * DAY_US, "horizon": 30, "days": 60, **options}
    return watch(store, by_name(["days_since_seen"]), lambda m: m.column("days_since_seen"), **settings)


def test_lead_of_rule_and_model_worked_out_by_hand(stories: Store) -> None:
    seen = watched_stories(stories)
    assert seen.as_of[[0, -1]].tolist() == [START + 26 * DAY_US, START + 86 * DAY_US]
    users = seen.user_ids.to_pylist()
    certain = dict(zip(users, seen.certain.tolist(), strict=True))
    assert certain.pop("stays") == -1
    assert all(abs(instant - (START + 75.5 * DAY_US)) < DAY_US / 1000 for instant in certain.values())
    rule, stood = lead_days(seen, seen.flags()[RULE])
    # Last seen on day 48, so unseen for seven days from day 55 on; certain on day 75.5.
    assert rule[users.index("fades")] == pytest.approx(20.5, abs=0.001)
    assert (rule[users.index("just goes")], stood[users.index("just goes")]) == (0, False)
    assert np.isnan(rule[users.index("stays")])


def test_the_summary_says_the_same(stories: Store) -> None:
    found = lead_times(watched_stories(stories))
    rule, model = found.contenders[RULE], found.contenders[SAME_PRECISION]
    assert (rule.leavers, rule.caught, model.leavers, model.caught) == (2, 1, 2, 2)
    assert rule.quartiles == pytest.approx((20.5, 20.5, 20.5), abs=0.001)
    assert rule.quartiles_of_all == pytest.approx((5.125, 10.25, 15.375), abs=0.001)
    # Days 55 to 75: flagged for 21 days, and from day 46 on nothing was bought within 30 days.
    assert (rule.user_days.flagged, rule.user_days.right) == (21, 21)
    assert model.user_days.precision == 1
    assert found.parts == {"both": 1, "only the rule": 0, "only the model": 1, "neither": 0}
    # Unseen for more than a day is always right here: the model needs no week, it rings from day 50 on.
    assert found.earlier == pytest.approx(5, abs=0.001)
    assert found.contenders[SAME_NUMBER].user_days.flagged >= 21


def test_thresholds_of_the_rule_are_settings(stories: Store) -> None:
    seen = watched_stories(stories, settings=AlarmSettings(unseen_days=12))
    lead, _ = lead_days(seen, seen.flags()[RULE])
    assert lead[seen.user_ids.to_pylist().index("fades")] == pytest.approx(15.5, abs=0.001)


def test_a_watch_is_the_matrices_day_by_day(shop: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many moments are built at once; and nothing is watched that was bought a horizon ago or more."""
    options: dict[str, Any] = {"as_of": AS_OF, "horizon": HORIZON, "days": 45, "step": 3}
    signals = by_name(["views_30d"])
    whole = watch(shop, signals, lambda m: -m.column("views_30d"), **options)
    monkeypatch.setattr(analysis, "CELLS_AT_ONCE", 1)
    single = watch(shop, signals, lambda m: -m.column("views_30d"), **options, threads=1)
    for name in ("as_of", "watched", "rings", "score", "left", "certain", "last_watched"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(single, name))
    assert whole.as_of.size == 16
    for row in (0, 7, 15):
        matrix = matrix_at(shop, int(whole.as_of[row]), lookback=HORIZON, horizon=HORIZON)
        of_user = dict(zip(whole.user_ids.to_pylist(), range(len(whole.user_ids)), strict=True))
        users = [of_user[user] for user in matrix.user_ids.to_pylist() if user in of_user]
        recent = matrix.column("days_since_purchase") < HORIZON
        assert set(np.flatnonzero(whole.watched[row])) == set(np.array(users)[recent])
        assert (whole.left[row, users] == matrix.churned).all()
        assert (whole.score[row, users] == -matrix.column("views_30d")).all()
    assert (whole.certain >= 0).sum() > 5


def test_the_model_at_the_same_precision_is_as_right_and_flags_no_fewer_where_it_is_better(shop: Store) -> None:
    """A made-up model that knows who leaves: it catches all that the rule catches, and earlier."""
    seen = watch(shop, [], lambda m: m.churned + 0.001 * m.column("days_since_seen"), as_of=AS_OF, horizon=HORIZON)
    found = lead_times(seen)
    rule, model = found.contenders[RULE], found.contenders[SAME_PRECISION]
    assert rule.caught > 5
    assert model.user_days.precision >= rule.user_days.precision
    assert model.caught == model.leavers
    assert found.parts["only the rule"] == found.parts["neither"] == 0
    assert found.earlier > 0


def test_too_few_days_to_see_anybody_leave_are_refused(shop: Store) -> None:
    with pytest.raises(UserError, match="watch at least 31"):
        watch(shop, [], lambda m: np.zeros(len(m)), as_of=AS_OF, horizon=30, days=30)
