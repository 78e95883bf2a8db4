"""The page for reviewers of a cross-sell run: valid, complete, and saying what the run's own figures say."""

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from features.events.intake import hash_text
from features.events.store import Store
from models.recommender import AIMS, Ask
from tests.analysis.test_page import Balanced
from training import plots, tracking
from training.cross_sell import BLEND, MODE_OF, MODEL, CrossSellRun, K
from training.metrics import Interval
from training.offers import Offers, group_of, judged, orders_of
from training.offers_report import Material, cross_sell_report, idle_heads, known_limits, people, verdict, verdicts
from training.phrases import interval, margin

SECTIONS = ["headline", "groups", "heads", "modes", "beyond", "people", "card"]


@pytest.fixture(scope="module")
def material(cross_sell_run: CrossSellRun, shop: Store) -> Material:
    """Its plots are stand-ins, for speed."""
    found = judged(cross_sell_run)
    stand_ins = {name: Figure(figsize=(1, 1)) for name in plots.cross_sell_plots(found)}
    return Material(cross_sell_run, shop, {"data digest": "d1", "horizon": 30}, found, stand_ins)


@pytest.fixture(scope="module")
def text(material: Material) -> str:
    return Balanced(cross_sell_report(material)).text


def test_a_run_leaves_a_valid_page_with_every_section(registry: Path, material: Material) -> None:
    client = tracking.connect()
    run_id = str(client.get_model_version(tracking.CROSS_SELL, "1").run_id)
    page = Balanced(Path(client.download_artifacts(run_id, "report.html")).read_text())
    assert page.wrong == []
    assert page.ids == SECTIONS
    images = [link for link in page.links if link.startswith("data:image/png;base64,")]
    assert len(images) == len(material.plots)
    assert [link for link in page.links if link not in images] == [f"#{anchor}" for anchor in SECTIONS]
    assert not {"script", "link", "iframe"} & set(page.tags)
    metrics = client.get_run(run_id).data.metrics
    for aim in AIMS:
        key = f"{aim}_recall_at_{K}"
        value, low, high = (f"{metrics[f'{key}_mean{side}']:.4f}" for side in ("", "_low", "_high"))
        assert f"{MODEL} {value} ({low}–{high})" in page.text
        value, low, high = (f"{metrics[f'{key}_over_{BLEND}{side}']:+.4f}" for side in ("", "_low", "_high"))
        assert f"{value} ({low} to {high}) over the blend" in page.text


def test_every_contender_group_and_head_has_its_row(material: Material, text: str) -> None:
    for aim in AIMS:
        found = material.offers.figures[aim]
        for name, figures in found.figures.items():
            if figures["recall"].value:
                assert f"{name} {interval(figures['recall'], 4)} {interval(figures['ndcg'], 4)}" in text
        for group in found.groups.values():
            assert f"{group.users:,} {interval(group.figures[MODEL]['recall'], 4)}" in text
        for lost in found.worth.values():
            assert f"{margin(lost['recall'], 4)} {margin(lost['ndcg'], 4)}" in text


def test_twenty_users_are_shown_with_list_and_truth(material: Material, text: str) -> None:
    """Whoever is shown: every hit is marked, in the list and beside what was bought."""
    newest = material.newest
    chosen = people(newest, seed=1)
    assert len(chosen) == len({user for user, _ in chosen}) == 20
    marks = 0
    for user, aim in chosen:
        past = newest.taught.past.some([user])
        (picks,) = newest.model.recommend(past, newest.as_of, Ask(MODE_OF[aim], K))
        wanted = newest.taught.truth[aim][user]
        hits = {pick.item for pick in picks} & set(wanted.tolist())
        marks += len(hits)
        assert f"({hash_text(str(past.user_ids[0])):x})" in text
        assert f"{len(hits)} of {len(wanted)} items found" in text
    assert text.count("✓") == marks + 20  # one in the caption of each list
    assert marks > 0


def test_the_users_are_drawn_from_every_group_and_aim_and_the_same_each_time(material: Material) -> None:
    newest = material.newest
    chosen = people(newest, seed=3)
    assert chosen == people(newest, seed=3) != people(newest, seed=4)
    assert {aim for _, aim in chosen} == set(AIMS)
    assert {group_of(int(orders_of(newest, [user])[0])) for user, _ in chosen} == set(
        material.offers.figures["all"].groups
    )
    for user, aim in chosen:
        assert user in newest.taught.truth[aim]


def with_margin(found: Offers, other: str, low: float, high: float) -> Offers:
    """The same, but for the model's margin over another contender in the aim `all`."""
    one = {"recall": Interval((low + high) / 2, low, high), "ndcg": Interval(0.0, -0.1, 0.1)}
    figures = found.figures["all"]
    return replace(found, figures={**found.figures, "all": replace(figures, margins={**figures.margins, other: one})})


def test_the_verdict_says_plainly_that_a_model_loses(material: Material) -> None:
    assert "It does NOT beat blend" in verdict(with_margin(material.offers, BLEND, -0.03, -0.01), "all")
    assert "NOT beat blend" not in verdict(with_margin(material.offers, BLEND, -0.03, 0.01), "all")


def test_a_dropped_ranker_is_told_on_top_and_among_the_limits(material: Material) -> None:
    facts = {**material.run.model.facts, "ranker_gains": {"all": -0.0123}, "rankers_dropped": ["all", "new"]}
    about = replace(material, run=replace(material.run, model=replace(material.run.model, facts=facts)))
    for told in (
        "Everything bought: the ranker was dropped (recall + NDCG -0.0123 against the blend), so the blend's order",
        "Never bought before: the ranker was dropped (no moment to test it at)",
    ):
        assert any(said.startswith(told) for said in verdicts(about.offers, about.run.model))
        assert any(said.startswith(told) for said in known_limits(about))
        assert told in Balanced(cross_sell_report(about)).text


def test_a_head_is_idle_only_if_it_earns_nothing_anywhere(material: Material) -> None:
    idle = idle_heads(material.offers)
    assert "upgrade" in idle  # the shop has no categories
    assert "repeat" not in idle
    speaks = replace(material.offers.modes["up_sell"], share_of_hits={"upgrade": 1.0})
    spoken = replace(material.offers, modes={**material.offers.modes, "up_sell": speaks})
    assert "upgrade" not in idle_heads(spoken)


def test_it_says_what_the_data_is_and_what_not_to_do_with_it(material: Material, text: str, shop: Store) -> None:
    for said in (f"{shop.rows:,} events", "digest d1", "not to be used", "Known limits", "seed 1", "Apache-2.0"):
        assert said in text
    for limit in known_limits(material):
        assert limit in text
