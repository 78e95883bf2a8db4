"""The page for reviewers: valid, complete, and saying what the run's own figures say."""

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from features.events.store import Store
from tests.analysis.test_page import Balanced
from tests.shop import HORIZON
from training import paired, plots, tracking
from training.backtest import show
from training.champion import Champion, champion_in_force
from training.churn import MODEL, ChurnRun
from training.headline import headline
from training.metrics import Interval
from training.paired import Comparison
from training.promotion import promote
from training.report import FIGURES, Material, churn_report, known_limits, verdict
from training.segments import RULES, segment_figures

SECTIONS = ["headline", "moments", "segments", "calibration", "money", "reasons", "alarm", "leavers", "drift", "card"]


@pytest.fixture(scope="module")
def material(churn_run: ChurnRun, shop: Store) -> Material:
    """Of a run without a champion; its plots are stand-ins, for speed."""
    params = {"data digest": "d1", "horizon": 30, "lookback": 120, "test moments": "x", "training moments": 9}
    found = headline(churn_run, paired.backtest_table(churn_run))
    stand_ins = {name: Figure(figsize=(1, 1)) for name in plots.churn_plots(churn_run)}
    return Material(churn_run, shop, params, found, segment_figures(churn_run), None, stand_ins)


@pytest.fixture(scope="module")
def beside_a_champion(material: Material) -> Material:
    """The same, with itself as the champion, but for the data and the look-back it claims."""
    scores = paired.backtest_table(material.run)
    params = {"data digest": "d0", "horizon": "30", "lookback": "90", "test moments": "x"}
    champion = Champion("7", params, MODEL, scores, material.model, "")
    return replace(material, champion=champion, headline=headline(material.run, scores, (scores, MODEL)))


def words(about: Material) -> str:
    return Balanced(churn_report(about)).text


def test_a_run_leaves_a_valid_page_with_every_section(registry: Path, churn_run: ChurnRun) -> None:
    client = tracking.connect()
    run_id = str(client.get_model_version(tracking.CHURN, "1").run_id)
    html = Path(client.download_artifacts(run_id, "report.html")).read_text()
    found = Balanced(html)
    assert found.wrong == []
    assert found.ids == SECTIONS
    images = [link for link in found.links if link.startswith("data:image/png;base64,")]
    assert len(images) >= len(plots.churn_plots(churn_run))
    assert [link for link in found.links if link not in images] == [f"#{anchor}" for anchor in SECTIONS]
    assert not {"script", "link", "iframe"} & set(found.tags)
    metrics = client.get_run(run_id).data.metrics
    for figure, (_, digits) in FIGURES.items():
        bounds = (metrics[f"{figure}_mean{side}"] for side in ("", "_low", "_high"))
        value, low, high = (f"{bound:.{digits}f}" for bound in bounds)
        assert f"{value} ({low}–{high})" in found.text
    for name in churn_run.baselines:
        bounds = (metrics[f"auc_over_{name}{side}"] for side in ("", "_low", "_high", "_worst"))
        value, low, high, worst = (f"{bound:+.3f}" for bound in bounds)
        assert f"{name} {value} ({low} to {high}) {worst}" in found.text
    for segment in RULES:
        share = metrics[f"segment_{segment}_churned_share"]
        assert f"{segment} {metrics[f'segment_{segment}_users']:,.0f} {share:.3f}" in found.text
    assert f"{metrics['profit_best_share']:.1%} of users" in found.text


def test_every_moment_and_horizon_is_there(material: Material) -> None:
    text = words(material)
    for result in material.run.backtest:
        ours = result.figures[MODEL]
        assert f"{len(result.matrix):,} {ours['churned_share']:.3f} {ours['predicted_share']:.3f}" in text
    for days in material.model.horizons:
        assert f"{days} days " in text
    newest = material.newest.figures[MODEL]
    assert f"{newest['h030_auc']:.3f} {newest['h030_calibration_error']:.3f}" in text


def test_it_says_what_the_data_is_and_what_not_to_do_with_it(material: Material, shop: Store) -> None:
    text = words(material)
    for said in (f"{shop.rows:,} events", "digest d1", "not to be used", "Known limits", "seed 1", "Apache-2.0"):
        assert said in text
    for limit in known_limits(material.run):
        assert limit in text


def test_the_alarm_is_told_where_there_is_browsing(material: Material) -> None:
    assert "model, same precision" in words(material)


def test_without_a_champion_it_says_so(material: Material) -> None:
    text = words(material)
    assert "There is no champion yet" in text
    assert "Compare with care" not in text
    assert "nothing to compare with" in text


def test_beside_a_champion_it_warns_of_what_differs_and_shows_drift(beside_a_champion: Material) -> None:
    text = words(beside_a_champion)
    warning = "this run and champion 7 differ in data (by digest): d1 here, d0 there; look-back: 120 here, 90 there."
    assert warning in text
    assert "not to be told apart from the champion: +0.000 (+0.000 to +0.000)" in text
    assert "champion 7 +0.000 (+0.000 to +0.000)" in text
    assert "checks are beyond their limits" in text
    assert "days_since_first_purchase values" in text


def test_a_champion_that_cannot_be_compared_or_loaded_is_named_with_the_reason(beside_a_champion: Material) -> None:
    assert beside_a_champion.champion is not None
    alike = {**beside_a_champion.champion.params, "data digest": "d1", "lookback": "120"}
    lost = replace(beside_a_champion.champion, scores=None, model=None, why="its files are gone", params=alike)
    found = replace(beside_a_champion.headline, over_champion=None)
    text = words(replace(beside_a_champion, champion=lost, headline=found))
    assert "could not be loaded: its files are gone" in text
    assert "cannot be compared on the same users: it kept no scores" in text
    assert "Compare with care" not in text
    other = replace(lost, params={**alike, "horizon": "14"})
    text = words(replace(beside_a_champion, champion=other, headline=found))
    assert "horizon: 30 here, 14 there" in text
    assert "it has another horizon" in text


def compared(value: float, low: float, high: float) -> Comparison:
    return Comparison(0.8, 0.8 - value, Interval(value, low, high), 6, 900)


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (0.01, 0.03, "The model beats all 2 baselines: mean AUC 0.800, +0.020 (+0.010 to +0.030) over recency"),
        (-0.01, 0.05, "The model loses to no baseline, but its margin over recency is within chance"),
    ],
)
def test_the_verdict_knows_chance(material: Material, low: float, high: float, says: str) -> None:
    margins = {"recency": compared(0.02, low, high), "rfm-logistic": compared(0.05, 0.04, 0.06)}
    found = replace(material.headline, margins=margins)
    assert verdict(found).startswith(says)
    assert f"{found.worst['recency'][1]:+.3f}" in verdict(found)


def test_the_verdict_says_plainly_that_a_model_loses(material: Material) -> None:
    margins = {"recency": compared(-0.02, -0.03, -0.01), "rfm-logistic": compared(-0.05, -0.06, -0.04)}
    found = replace(material.headline, margins=margins, over_champion=compared(-0.01, -0.02, -0.005))
    assert verdict(found).startswith("The model does NOT beat recency and rfm-logistic: mean AUC 0.800, -0.050")
    assert "worse than the champion: -0.010 (-0.020 to -0.005) on the same 900 users, 6 moments" in verdict(found)


def test_known_limits_are_those_of_the_backtest(churn_run: ChurnRun) -> None:
    off = [
        replace(r, figures={**r.figures, MODEL: {**r.figures[MODEL], "calibration_error": 0.5, "auc": 0.1}})
        for r in churn_run.backtest
    ]
    told = " ".join(known_limits(replace(churn_run, backtest=tuple(off))))
    assert f"beyond its limit at {' and '.join(show(r.matrix.as_of) for r in off)}, 2 of 2 moments" in told
    assert "A baseline had the higher AUC at" in told
    assert "less than a year" in told


def test_the_champion_in_force_is_found_with_model_and_scores(registry: Path, churn_run: ChurnRun) -> None:
    assert champion_in_force() is None
    assert promote(tracking.CHURN).passed
    found = champion_in_force()
    assert found is not None
    assert (found.version, found.contender, found.params["horizon"]) == ("1", MODEL, str(HORIZON))
    assert found.model is not None
    assert found.model.booster_text == churn_run.model.booster_text
    assert found.scores is not None
    assert found.scores.equals(paired.backtest_table(churn_run))
    assert found.differences(found.params) == []
