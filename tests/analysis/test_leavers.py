"""What leavers do before they leave, on logs in which the truth is planted."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.leavers import LEAST_PAIRS, SWAPS, Leavers, leavers, moved, tells_when
from features.errors import UserError
from features.events.columns import ANY, MADE
from features.events.store import Store
from features.instants import instant
from features.signals import all_signals, by_name, plan
from tests.features.support import DAY_US, at
from tests.shop import AS_OF, ingested

START, END = at("2023-01-01"), at("2024-01-01")
DAYS = (END - START) // DAY_US
HORIZON = 40


def of_views(name: str) -> bool:
    """Do views have a part in the signal? They are also how users of this log are seen."""
    return any(group[1] in ("view", MADE, ANY) for group in plan(by_name([name])))


def planted_log(
    seed: int, *, users: int = 300, fall_day: int | None = None, left_over: float = 0.15, bursts: bool = False
) -> pd.DataFrame:
    """A year of users who view at a steady rate and buy at one of their own until, half of them, they leave.

    The seldomer they buy the sooner they leave, which is no sign of leaving; with `bursts` purchases come in clusters.
    With `fall_day` the views of leavers fall to a share of what they were, so many days after the last purchase, or
    before it where negative. Nothing else ever changes: who left goes on viewing.
    """
    rng = np.random.default_rng(seed)
    parts = [_user(rng, number, fall_day, left_over, 0.7 if bursts else 6) for number in range(users)]
    log = pd.concat(parts, ignore_index=True)
    return log.assign(ts=(START + (log["ts"] * DAY_US).astype("int64")).to_numpy().view("datetime64[us]"))


def _user(rng: np.random.Generator, number: int, fall_day: int | None, left_over: float, shape: float) -> pd.DataFrame:
    gap = rng.uniform(6, 16)
    orders = rng.uniform(0, 10) + np.cumsum(rng.gamma(shape, gap / shape, 200))
    leaves = 150 + rng.exponential(1600 / gap) if number % 2 else np.inf
    orders = orders[orders < min(leaves, DAYS)]
    views = np.sort(rng.uniform(0, DAYS, rng.poisson(DAYS * rng.uniform(0.5, 1.5))))
    if fall_day is not None and leaves < DAYS:
        views = views[(views < orders[-1] + fall_day) | (rng.random(views.size) < left_over)]
    bought = {"ts": orders, "kind": "purchase", "price": rng.gamma(4, 5, orders.size)}
    viewed = {"ts": views, "kind": "view", "dwell_s": np.round(rng.gamma(2, 40, views.size), 3)}
    both = pd.concat([pd.DataFrame(bought), pd.DataFrame(viewed)], ignore_index=True)
    return both.assign(user_id=f"u{number}", item_id=[f"i{code}" for code in rng.integers(0, 40, len(both))])


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Views fall 21 days before the last purchase of leavers."""
    return ingested(planted_log(3, fall_day=-21), tmp_path_factory.mktemp("planted") / "store")


@pytest.fixture(scope="module")
def found(planted: Store) -> Leavers:
    return leavers(planted, END, HORIZON)


def test_a_fall_of_views_is_found_when_it_came_and_before_all_else(found: Leavers) -> None:
    assert found.pairs >= 60
    first = found.moves[0]
    for move in found.moves:
        assert of_views(move.signal)
    assert (first.day, first.days_ahead, first.direction) == (-14, 14 + HORIZON, "falls")  # wholly within the fall
    assert first.effect < -1
    views = next(move for move in found.moves if move.signal == "views_7d")
    assert views.day == -14
    assert views.leavers < -3
    assert abs(views.stayers) < 1.5
    assert first.signal in found.said
    assert "54 days before the leaving is certain (14 days before the last purchase)" in found.said


def test_a_fall_after_the_last_purchase_is_found_too(tmp_path: Path) -> None:
    """Leavers and stayers are silent equally long, so it is the views and not the purchases that tell them apart."""
    result = leavers(ingested(planted_log(4, users=500, fall_day=3), tmp_path / "store"), END, HORIZON)
    assert result.moves
    for move in result.moves:
        assert of_views(move.signal)
        assert 7 <= move.day <= 21
        assert move.days_ahead == HORIZON - move.day
    assert "days after the last purchase" in result.said


def test_what_does_not_change_is_not_reported(found: Leavers) -> None:
    bought = {signal.name for signal in found.signals if not of_views(signal.name)}
    assert {"orders_30d", "spend_7d", "overdue_ratio", "order_gap_mean_days"} <= bought
    assert not {move.signal for move in found.moves} & bought


def test_pairs_are_alike(found: Leavers) -> None:
    """Leavers buy more seldom than stayers in this log; pairs do not differ."""
    assert set(found.balance) == {"anchor", "orders", "orders_before", "spend", "first_order", "longest_gap"}
    for measure, (left, stayed) in found.balance.items():
        assert abs(left - stayed) < (7 if measure == "anchor" else 0.15), measure


@pytest.mark.parametrize("bursts", [False, True])
def test_where_nothing_moves_nothing_is_reported(bursts: bool, tmp_path: Path) -> None:
    result = leavers(ingested(planted_log(11, bursts=bursts), tmp_path / "store"), END, HORIZON)
    assert result.pairs >= 60
    assert result.moves == ()
    assert "none moves" in result.said
    assert result.figure().axes


def test_chance_alone_is_beyond_the_limit_in_one_of_twenty() -> None:
    """200 families of 8 signals over 5 days that hang together, of heavy tails: about 10 have one beyond."""
    rng = np.random.default_rng(1)
    beyond = 0
    for _ in range(200):
        common = rng.standard_t(3, (1, 50, 1))
        differences = common + np.cumsum(rng.standard_t(3, (8, 50, 5)), axis=2)
        t, limit = moved(differences, rng)
        beyond += int(np.nanmax(np.abs(t)) > limit)
    assert 2 <= beyond <= 21  # 99.8 of 100 times, if it is 5 of 100


def test_a_difference_is_told_apart_from_chance_and_the_unknown_is_left_out() -> None:
    rng = np.random.default_rng(2)
    differences = rng.normal(0, 1, (4, 200, 3))
    differences[1] += [0, 0, 0.6]
    differences[2, LEAST_PAIRS - 1 :] = np.nan
    differences[3] = 0
    t, limit = moved(differences, rng)
    assert (np.abs(t) > limit).tolist() == [[False] * 3, [False, False, True], [False] * 3, [False] * 3]
    assert np.isnan(t[2:]).all()
    assert limit < moved(differences[:1], rng)[1] + 1  # finite: there are swaps enough for the level
    assert SWAPS >= 19


def test_neither_what_comes_later_nor_the_order_of_rows_changes_anything(planted: Store, tmp_path: Path) -> None:
    early = START + 300 * DAY_US
    log = planted_log(3, fall_day=-21).sample(frac=1, random_state=1)
    cut = ingested(log[log["ts"].to_numpy() < np.datetime64(early, "us")], tmp_path / "store")
    whole, part = leavers(planted, early, HORIZON), leavers(cut, early, HORIZON, threads=1)
    assert whole.pairs > LEAST_PAIRS
    assert whole.moves
    assert whole.records() == part.records()
    assert whole.effect.tobytes() == part.effect.tobytes()
    assert whole.limit == part.limit


def test_only_signals_that_can_tell_when() -> None:
    told = {signal.name for signal in all_signals() if tells_when(signal)}
    assert {"views_7d", "orders_30d", "overdue_ratio", "days_since_purchase", "browse_minutes_ratio"} <= told
    assert not told & {"orders_90d", "orders_ever", "days_since_first_purchase", "purchases_decayed_30d", "spend_365d"}


def test_the_figure_has_a_row_a_signal_and_a_column_a_week(found: Leavers) -> None:
    axes = found.figure().axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [move.signal for move in found.moves[:20]]
    assert [label.get_text() for label in axes.get_xticklabels()] == [f"{day}" for day in range(-84, 40, 14)]


def test_too_few_are_no_finding(shop: Store, tmp_path: Path) -> None:
    few = leavers(shop, AS_OF, 30, signals=by_name(["views_7d"]), most=10)
    assert few.moves == ()
    assert np.isnan(few.effect).all()
    assert "too few to tell" in few.said
    assert few.figure().axes
    nobody = ingested(pd.DataFrame({"user_id": ["a"], "ts": ["2024-01-01"], "kind": ["view"]}), tmp_path / "store")
    assert leavers(nobody, instant("2024-02-01"), 30).pairs == 0


def test_a_look_back_under_a_week_is_refused(shop: Store) -> None:
    with pytest.raises(UserError, match="at least 7"):
        leavers(shop, AS_OF, 30, lookback=6)
