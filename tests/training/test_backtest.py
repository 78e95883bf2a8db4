"""Which moments are trained on and tested on: nothing at or after the moment, no outcome window over a test moment."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import UserError
from tests.features.support import DAY_US, at
from training.backtest import Schedule, schedule, show, up

FIRST = at("2023-01-01")
days = st.integers
plans = st.fixed_dictionaries(
    {
        "first": st.integers(FIRST, FIRST + 2 * DAY_US),
        "as_of": st.integers(FIRST, FIRST + 900 * DAY_US),
        "horizon": days(1, 120),
        "shortest": days(1, 120),
        "lookback": days(1, 400),
        "stride": days(1, 120),
        "tests": days(1, 8),
    }
)


def planned(plan: dict[str, int]) -> Schedule | None:
    """The schedule, None where the log is too short; the shortest horizon is at most the one asked for."""
    plan["shortest"] = min(plan["shortest"], plan["horizon"])
    try:
        return schedule(**plan)
    except UserError:
        assert plan["as_of"] < plan["first"] + (2 * plan["horizon"] + 2) * DAY_US
        return None


@settings(max_examples=400, deadline=None)
@given(plans)
def test_no_window_reaches_over_its_moment(plan: dict[str, int]) -> None:
    found = planned(plan)
    if found is None:
        return
    window, shortest = plan["horizon"] * DAY_US, plan["shortest"] * DAY_US
    for moments, known in ((found.train, shortest), (found.tests, window)):
        assert list(moments) == sorted(set(moments), reverse=True)
        assert all(plan["first"] <= moment <= plan["as_of"] - known for moment in moments)
    assert found.tests[0] == plan["as_of"] - window
    for test in found.tests:
        for horizon in (plan["horizon"], plan["shortest"]):
            trained = found.train_for(test, horizon)
            assert trained
            assert set(trained) == {moment for moment in found.train if moment + horizon * DAY_US <= test}
    assert found.tests[0] - window in found.train  # so the newest test has one moment with the whole outcome at least


@settings(max_examples=200, deadline=None)
@given(plans)
def test_short_outcomes_have_newer_moments(plan: dict[str, int]) -> None:
    """The newest training moment is the newest whose shortest outcome is known, to a stride."""
    found = planned(plan)
    if found is not None:
        step = max(1, min(plan["stride"], plan["horizon"] // 2)) * DAY_US
        assert plan["as_of"] - step < found.train[0] + plan["shortest"] * DAY_US <= plan["as_of"]


@settings(max_examples=200, deadline=None)
@given(plans)
def test_as_many_tests_as_asked_a_month_apart_where_the_log_is_long(plan: dict[str, int]) -> None:
    plan["shortest"] = min(plan["shortest"], plan["horizon"])
    plan["as_of"] = plan["first"] + (plan["lookback"] + 2 * plan["horizon"] + 400) * DAY_US
    found = schedule(**plan)
    assert len(found.tests) == plan["tests"]
    apart = min(plan["horizon"], 30) * DAY_US
    assert {a - b for a, b in zip(found.tests, found.tests[1:], strict=False)} <= {apart}
    assert found.train[-1] >= plan["first"] + plan["lookback"] // 2 * DAY_US
    steps = [a - b for a, b in zip(found.train, found.train[1:], strict=False)]
    assert max(steps) <= max(1, min(plan["stride"], plan["horizon"] // 2)) * DAY_US


@settings(max_examples=200, deadline=None)
@given(plans)
def test_the_message_names_the_earliest_moment_and_that_moment_works(plan: dict[str, int]) -> None:
    plan["shortest"] = min(plan["shortest"], plan["horizon"])
    earliest = plan["first"] + (2 * plan["horizon"] + 2) * DAY_US
    with pytest.raises(UserError, match="not enough log") as refused:
        schedule(**{**plan, "as_of": earliest - 1})
    assert f"must be {show(up(earliest))} or later" in str(refused.value)
    assert schedule(**{**plan, "as_of": at(show(up(earliest)))}).tests


def test_the_moments_of_a_plain_plan() -> None:
    found = schedule(at("2023-01-01"), at("2024-01-01"), horizon=30, shortest=7, lookback=180, stride=15, tests=3)
    assert [show(moment) for moment in found.tests] == ["2023-12-02", "2023-11-02", "2023-10-03"]
    assert [show(moment) for moment in found.train[:3]] == ["2023-12-17", "2023-12-02", "2023-11-17"]
    assert show(found.train[-1]) == "2023-04-06"  # half a look-back, 90 days, after the first purchase
    assert found.train_for(found.tests[0], 30)[0] == at("2023-11-02")
    assert found.train_for(found.tests[0], 7)[0] == at("2023-11-17")
