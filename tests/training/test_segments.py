"""Segments: one a user, by the rules as they are told, and the figures of each."""

import numpy as np
import pytest

from models.reference import Reference
from tests.features.support import Array
from tests.shop import LOOKBACK
from training import metrics
from training.churn import MODEL, ChurnRun
from training.segments import RULES, high_spend, segment_figures, segments, spend_signal


def of(run: ChurnRun, place: int) -> Array:
    result = run.backtest[place]
    return segments(result.matrix, result.model.reference, run.model.lookback)


def test_every_user_is_in_the_first_segment_whose_rule_holds(churn_run: ChurnRun) -> None:
    seen = set()
    for place, result in enumerate(churn_run.backtest):
        frame = result.matrix.to_pandas()
        cut = high_spend(result.model.reference, "spend_180d")
        for segment, (_, user) in zip(of(churn_run, place), frame.iterrows(), strict=True):
            if user["days_since_first_purchase"] < 60:
                wanted = "new"
            elif user["overdue_ratio"] > 2 or user["days_since_purchase"] > LOOKBACK / 2:
                wanted = "dormant"
            else:
                wanted = "high-value" if user["spend_180d"] > cut else "active"
            assert segment == wanted
            seen.add(wanted)
    assert seen == set(RULES)


def test_high_spend_is_what_four_fifths_of_training_did_not_exceed() -> None:
    spend = np.random.default_rng(2).gamma(0.5, 100, 1_000).astype(np.float32)
    reference = Reference.of(["spend_90d"], [(0, spend[:, None], np.zeros(1_000))])
    assert np.mean(spend <= high_spend(reference, "spend_90d")) == pytest.approx(0.8, abs=0.001)
    mostly_none = np.where(np.arange(1_000) < 850, 0, spend).astype(np.float32)
    reference = Reference.of(["spend_90d"], [(0, mostly_none[:, None], np.zeros(1_000))])
    assert high_spend(reference, "spend_90d") == 0


def test_where_spend_is_not_known_nobody_is_of_high_value(churn_run: ChurnRun) -> None:
    nothing = Reference.of(["x"], [(0, np.zeros((5, 1), np.float32), np.zeros(5))])
    assert high_spend(nothing, "spend_180d") == np.inf
    unseen = Reference.of(["spend_180d"], [(0, np.full((5, 1), np.nan, np.float32), np.zeros(5))])
    assert high_spend(unseen, "spend_180d") == np.inf
    found = segments(churn_run.backtest[0].matrix, nothing, LOOKBACK)
    assert "high-value" not in found
    assert set(found) <= set(RULES)


@pytest.mark.parametrize(
    ("lookback", "name"), [(7, "spend_7d"), (8, "spend_30d"), (180, "spend_180d"), (999, "spend_365d")]
)
def test_the_window_of_spend_holds_the_lookback(lookback: int, name: str) -> None:
    assert spend_signal(lookback) == name


def test_figures_of_segments_add_up_to_the_run(churn_run: ChurnRun) -> None:
    found = segment_figures(churn_run)
    assert set(found) == {MODEL, *churn_run.baselines}
    everyone = sum(len(r.matrix) for r in churn_run.backtest)
    leavers = sum(int(r.matrix.churned.sum()) for r in churn_run.backtest)
    for by_segment in found.values():
        assert sum(f["users"] for f in by_segment.values()) == everyone
        assert sum(f["users"] * f["churned_share"] for f in by_segment.values()) == pytest.approx(leavers)
    assert "predicted_share" in found[MODEL]["active"]
    assert "predicted_share" not in found["recency"]["active"]


def test_auc_of_a_segment_is_that_of_its_users(churn_run: ChurnRun) -> None:
    figures, checked = segment_figures(churn_run), 0
    for segment in RULES:
        aucs = []
        for place, result in enumerate(churn_run.backtest):
            mine = of(churn_run, place) == segment
            left, score = result.matrix.churned[mine], result.scores["rfm-logistic"][mine]
            if min(left.sum(), (~left).sum()) >= 10:
                aucs.append(metrics.auc(left, score))
        if aucs:
            checked += 1
            assert figures["rfm-logistic"][segment]["auc"] == pytest.approx(np.mean(aucs))
        else:
            assert "auc" not in figures["rfm-logistic"].get(segment, {})
    assert checked
