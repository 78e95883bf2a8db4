"""Intervals and margins: resampled figures against the figures themselves, and what is summed up of them."""

import numpy as np
import pytest

from tests.features.support import Array
from tests.shop import HORIZON
from training import metrics, paired
from training.churn import MODEL, ChurnRun
from training.headline import FEWEST_RESAMPLES, MOST_CELLS, Headline, Ranked, _drawn, headline, intervals
from training.money import Offer

OFFER = Offer(lifetime_value=60, offer_cost=12, contact_cost=2)  # far from contacting everybody


def ranked(churned: Array, score: Array, is_probability: bool = True) -> Ranked:
    """Users whose numbers are their places, highest score first."""
    order = np.argsort(-score, kind="stable")
    squared = (score - churned)[order] ** 2 if is_probability else None
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    return Ranked(order, churned[order].astype(float), squared, ends)


def example(seed: int, distinct: int | None) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    score = rng.random(300)
    if distinct:
        score = np.floor(score * distinct) / distinct
    return rng.random(300) < 0.2 + 0.5 * score, score


@pytest.mark.parametrize("distinct", [None, 7])
def test_figures_of_a_resample_are_those_of_its_users(distinct: int | None) -> None:
    churned, score = example(3, distinct)
    drawn = np.random.default_rng(1).multinomial(300, np.full(300, 1 / 300), 5)
    found = ranked(churned, score).figures(np.vstack([np.ones(300, np.int64), drawn]), OFFER)
    for i, times in enumerate([np.ones(300, np.int64), *drawn]):
        # Repeated users stand beside each other, in the order in which ties are taken.
        c, s = np.repeat(churned, times), np.repeat(score, times)
        wanted = metrics.ranking_metrics(c, s, OFFER) | {"brier": float(((s - c) ** 2).mean())}
        for figure in ("auc", "average_precision", "brier", "lift_top_tenth"):
            assert found[figure][i] == pytest.approx(wanted[figure], abs=1e-12), figure
        assert found["expected_maximum_profit"][i] == pytest.approx(wanted["expected_maximum_profit"], abs=0.01)


def test_a_score_that_is_no_probability_has_no_brier() -> None:
    churned, score = example(3, None)
    assert "brier" not in ranked(churned, score, is_probability=False).figures(np.ones((1, 300), np.int64), OFFER)


def test_large_logs_have_fewer_resamples_and_every_resample_has_all_its_users() -> None:
    rng = np.random.default_rng(0)
    few = np.concatenate(list(_drawn(50, rng)))
    assert few.shape == (metrics.RESAMPLES, 50)
    assert (few.sum(axis=1) == 50).all()
    assert len(np.unique(few, axis=0)) == metrics.RESAMPLES
    many = MOST_CELLS // (FEWEST_RESAMPLES + 10)
    assert next(_drawn(many, rng)).shape[1] == many
    assert sum(len(part) for part in _drawn(many, rng)) == FEWEST_RESAMPLES + 10


@pytest.fixture(scope="module")
def found(churn_run: ChurnRun) -> Headline:
    return headline(churn_run, paired.backtest_table(churn_run))


def test_values_are_the_runs_and_lie_within_their_intervals(found: Headline, churn_run: ChurnRun) -> None:
    assert list(found.means) == [MODEL, *churn_run.baselines]
    for name, figures in found.means.items():
        for figure, interval in figures.items():
            assert interval.value == pytest.approx(churn_run.mean(name, figure))
            assert interval.low <= interval.value <= interval.high
    for result in churn_run.backtest:
        for name, figures in found.moments[result.matrix.as_of].items():
            assert figures["auc"].value == result.figures[name]["auc"]


def test_an_interval_is_as_wide_as_that_of_a_plain_bootstrap(found: Headline, churn_run: ChurnRun) -> None:
    newest = churn_run.backtest[0]
    churned, score = newest.matrix.churned, newest.scores[MODEL]
    plain = metrics.bootstrap(lambda users: metrics.auc(churned[users], score[users]), len(churned), resamples=400)
    mine = found.moments[newest.matrix.as_of][MODEL]["auc"]
    assert mine.high - mine.low == pytest.approx(plain.high - plain.low, rel=0.25)


def test_the_same_seed_gives_the_same_intervals(found: Headline, churn_run: ChurnRun) -> None:
    assert intervals(churn_run)[0] == found.means


def test_margins_are_those_of_the_gate(found: Headline, churn_run: ChurnRun) -> None:
    assert set(found.margins) == set(churn_run.baselines)
    for name, compared in found.margins.items():
        by_moment = {r.matrix.as_of: r.figures[MODEL]["auc"] - r.figures[name]["auc"] for r in churn_run.backtest}
        assert compared.difference.value == pytest.approx(np.mean(list(by_moment.values())))
        moment, margin = found.worst[name]
        assert margin == min(by_moment.values()) == by_moment[moment]
    assert all(found.margins[found.closest].difference.value <= c.difference.value for c in found.margins.values())


def test_a_champion_that_is_the_same_is_no_better_and_no_worse(churn_run: ChurnRun) -> None:
    scores = paired.backtest_table(churn_run)
    over = headline(churn_run, scores, (scores, MODEL)).over_champion
    assert over is not None
    assert (over.difference.low, over.difference.value, over.difference.high) == (0, 0, 0)
    worse = headline(churn_run, scores, (scores, "recency")).over_champion
    assert worse is not None
    assert worse.difference.value == pytest.approx(churn_run.mean(MODEL, "auc") - churn_run.mean("recency", "auc"))


def test_what_is_tracked_is_named_by_figure_and_side(found: Headline, churn_run: ChurnRun) -> None:
    ours = found.summary()[MODEL]
    assert ours["auc_mean_low"] == found.means[MODEL]["auc"].low
    assert ours["auc_over_recency_high"] == found.margins["recency"].difference.high
    assert ours["auc_over_recency_worst"] == found.worst["recency"][1]
    assert not any("champion" in name for name in ours)
    moment = churn_run.backtest[-1].matrix.as_of
    assert found.bounds()[moment]["recency"]["auc_low"] == found.moments[moment]["recency"]["auc"].low
    assert churn_run.model.horizon == HORIZON
