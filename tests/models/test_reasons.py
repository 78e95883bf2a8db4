"""Reasons: honest counterfactuals against one's own norm, or against customers' where one was always so."""

from collections.abc import Callable, Sequence

import lightgbm as lgb
import numpy as np
import pytest

from features.engines.local import matrices
from features.events.store import Store
from features.matrix import evaluate, moments_of
from features.signals import all_signals, by_name
from features.timeline import Array
from models.reasons import EARLIER, PERSONAL, Reason, can_be_usual, norms, reasons
from tests.features.support import DAY_US, at
from tests.shop import AS_OF, HORIZON, LOOKBACK, ingested, shop_log

NAMES = ("days_since_purchase", "order_gap_mean_days", "orders_30d", "spend_30d", "views_30d", "orders_ever")
SIGNALS = by_name(NAMES)
USUAL = np.array([10.0, 14.0, 3.0, 50.0, 20.0, 9.0])


def linear(weights: Sequence[float]) -> Callable[[Array], Array]:
    """A probability that adds up, within 0 and 1."""
    return lambda values: np.clip(0.5 + np.nan_to_num(values) @ np.array(weights), 0.0, 1.0).astype(np.float64)


def one(
    value: Sequence[float], own: Sequence[float], weights: Sequence[float], base: float = 0.3, count: int = 3
) -> list[Reason]:
    given = np.array([value], np.float32), np.array([own], np.float32)
    return reasons(linear(weights), SIGNALS, *given, USUAL, base, count)[0]


def test_the_effect_is_what_the_theme_as_usual_would_change() -> None:
    found = one([34, 14, 3, 50, 20, 9], [4, 14, 3, 50, 20, 9], [0.01, 0, 0, 0, 0, 0])
    assert [(r.signal, r.family, r.norm) for r in found] == [("days_since_purchase", "recency", "own")]
    assert found[0].effect == pytest.approx(0.3)
    assert (found[0].value, found[0].usual) == (34, 4)
    assert found[0].text == "No order for 34 days; usually every 14."


def test_who_was_always_so_is_compared_with_customers() -> None:
    found = one([34, 14, 3, 50, 20, 9], [34, 14, 3, 50, 20, 9], [0.01, 0, 0, 0, 0, 0])
    assert (found[0].norm, found[0].usual) == ("customers", 10)
    assert found[0].effect == pytest.approx(0.24)
    nobody = [float("nan")] * len(NAMES)
    assert one([34, 14, 3, 50, 20, 9], nobody, [0.01, 0, 0, 0, 0, 0])[0].norm == "customers"


def test_above_the_base_rate_what_raises_comes_first_and_below_it_what_lowers() -> None:
    value, own = [30, 14, 0, 50, 60, 9], [10, 14, 4, 50, 20, 9]
    weights = [0.01, 0, -0.02, 0, -0.005, 0]  # silence +.2, orders +.08, views -.2
    high = one(value, own, weights, base=0.1)
    assert [r.signal for r in high] == ["days_since_purchase", "orders_30d"]
    assert [r.effect for r in high] == pytest.approx([0.2, 0.08])
    low = one(value, own, weights, base=0.9)
    assert [(r.signal, round(r.effect, 6)) for r in low] == [("views_30d", -0.2)]
    assert len(one(value, own, weights, base=0.1, count=1)) == 1
    assert one(value, own, weights, count=0) == []


def test_the_leading_signal_is_the_one_that_moves_most() -> None:
    found = one([10, 14, 1, 10, 20, 9], [10, 14, 3, 60, 20, 9], [0, 0, -0.01, -0.004, 0, 0])
    assert found[0].signal == "spend_30d"
    assert found[0].effect == pytest.approx(0.22)  # of the whole theme


def test_what_only_grows_older_is_never_as_usual() -> None:
    assert not one([10, 14, 3, 50, 20, 1], [10, 14, 3, 50, 20, 9], [0, 0, 0, 0, 0, -0.05])
    ageless = {signal.name for signal in all_signals() if not can_be_usual(signal)}
    assert {"days_since_first_purchase", "orders_ever", "spend_ever"} <= ageless
    assert not {"days_since_purchase", "orders_30d"} & ageless


def test_users_do_not_depend_on_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    values, own = rng.integers(0, 40, (2, 50, len(NAMES))).astype(np.float32)
    score = linear([0.01, 0, -0.02, 0.001, -0.002, 0])
    together = reasons(score, SIGNALS, values, own, USUAL, 0.4, 3)
    alone = [reasons(score, SIGNALS, values[[u]], own[[u]], USUAL, 0.4, 3)[0] for u in range(50)]
    monkeypatch.setattr("models.reasons.CHUNK", 7)
    assert together == alone == reasons(score, SIGNALS, values, own, USUAL, 0.4, 3)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return ingested(shop_log(), tmp_path_factory.mktemp("reasons") / "store")


def test_the_own_norm_is_the_median_of_earlier_moments(store: Store) -> None:
    (timeline,) = store.timelines()
    found = norms(timeline, AS_OF, SIGNALS)
    by_hand = np.full((len(EARLIER), len(timeline), len(SIGNALS)), np.nan, np.float32)
    for k, days in enumerate(EARLIER):
        moment = timeline.as_of([AS_OF - days * DAY_US])[0]
        values = evaluate(moment, SIGNALS, np.ones(len(timeline), bool)).T
        bought = np.isfinite(moment.days_since("purchase"))
        by_hand[k, bought] = values[bought]
    for user in range(len(timeline)):
        for i in range(len(SIGNALS)):
            seen = np.sort(by_hand[:, user, i][np.isfinite(by_hand[:, user, i])])
            expected = seen[(len(seen) - 1) // 2] if len(seen) else np.nan
            np.testing.assert_equal(found[user, i], expected)
    new = norms(timeline, at("2023-08-10"), SIGNALS)
    assert np.isnan(new).all()  # nobody had bought a month before


def test_the_top_reason_as_usual_lowers_the_risk(store: Store, tell: Callable[..., None]) -> None:
    """Of at least nine in ten users at high risk; the booster is one that knows nothing of reasons."""
    signals = all_signals()
    past = [AS_OF - days * DAY_US for days in (30, 60, 90, 120)]
    fit = matrices(store, past, signals, lookback=LOOKBACK, horizon=HORIZON, threads=1)
    settings = {"objective": "binary", "num_threads": 1, "verbose": -1, "num_leaves": 7, "min_data_in_leaf": 20}
    data = lgb.Dataset(np.concatenate([m.values for m in fit]), np.concatenate([m.churned for m in fit]))
    booster = lgb.train({**settings, "seed": 1}, data, 30)

    def score(values: Array) -> Array:
        return np.asarray(booster.predict(values, num_threads=1), np.float64)

    (timeline,) = store.timelines()
    (moment,) = moments_of(timeline, [AS_OF], signals)
    active = moment.days_since("purchase") < LOOKBACK
    values = np.ascontiguousarray(evaluate(moment, signals, active).T)
    with np.errstate(all="ignore"):
        usual = np.array([np.median(c[np.isfinite(c)]) if np.isfinite(c).any() else np.nan for c in fit[0].values.T])
    base, probability = float(fit[0].churned.mean()), score(values)
    found = reasons(score, signals, values, norms(timeline, AS_OF, signals)[active], usual, base, 3)
    high = np.flatnonzero(probability >= np.quantile(probability, 0.8))
    lowered = np.mean([bool(found[u]) and found[u][0].effect > 0 for u in high])
    own = np.mean([bool(found[u]) and found[u][0].norm == "own" for u in high])
    tell(high_risk=len(high), lowered=round(float(lowered), 3), against_own_norm=round(float(own), 3))
    assert lowered >= 0.9
    for user in high:
        ranks = [reason.effect * (PERSONAL if reason.norm == "own" else 1) for reason in found[user]]
        assert ranks == sorted(ranks, reverse=True)
