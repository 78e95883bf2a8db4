"""The audience report: whole, self-contained, and its figures are those of the users one by one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.patches import PathPatch

from analysis.audience_material import Material
from analysis.audience_plots import cohort_plot, flow_plot, risk_plot, structure_plot
from analysis.audience_report import audience_material, audience_report, verdict
from analysis.page import Html
from features.audience.learn import Learned, learn
from features.audience.rfm import SEGMENTS, rfm_scores, segments_of
from features.audience.segments import NEWCOMER, TIERS, load_segments, newcomers_at, tiers_at
from features.audience.stages import STAGES, load_stages, stages_at
from features.events.store import Store
from models.alarm import alarm_at
from tests.analysis.test_page import Balanced
from tests.features.support import DAY_US, at, ingest_rows
from tests.shop import AS_OF

NOW = AS_OF - 10 * DAY_US


@pytest.fixture(scope="module")
def learned(shop: Store) -> Learned:
    return learn(shop, NOW)


@pytest.fixture(scope="module")
def scores(shop: Store) -> pa.Table:
    """Probabilities of every third user."""
    users = [user for timeline in shop.timelines() for user in timeline.user_ids.to_pylist()][::3]
    chance = np.linspace(0, 1, len(users))
    risk = np.where(chance > 0.7, "high", "low")
    return pa.table({"user_id": users, "churn_probability": chance, "risk": risk.tolist()})


@pytest.fixture(scope="module")
def about(shop: Store, learned: Learned, scores: pa.Table) -> Material:
    return audience_material(shop, NOW, load_stages(), load_segments(), learned, scores)


@pytest.fixture(scope="module")
def page(about: Material) -> Html:
    return audience_report(about)


def test_the_page_is_whole_and_fetches_nothing(page: Html) -> None:
    parsed = Balanced(page)
    assert parsed.wrong == []
    assert len(parsed.ids) == len(set(parsed.ids)) == 11
    assert {link for link in parsed.links if not link.startswith("data:")} == {f"#{anchor}" for anchor in parsed.ids}
    assert parsed.tags.count("img") == 5  # structure, flows, cohorts, RFM, risk; this shop has no categories
    assert "nan" not in parsed.text.split()


def test_people_are_those_of_the_timelines(about: Material, shop: Store, scores: pa.Table) -> None:
    who, rules = about.people, about.rules
    place = {user: number for number, user in enumerate(who.user_ids.tolist())}
    chances = dict(zip(scores["user_id"].to_pylist(), scores["churn_probability"].to_pylist(), strict=True))
    seen = 0
    for timeline in shop.timelines():
        (moment,) = timeline.as_of([NOW])
        rfm = rfm_scores(moment, rules.cuts)
        expected = {
            "stage": stages_at(timeline, moment, rules.borders),
            "segment": segments_of(rfm, rules.table.rfm.high),
            "tier": tiers_at(timeline, moment, rules.table, rules.cuts, rules.borders),
            "newcomer": newcomers_at(timeline, moment, rules.table, {}),
            "rings": alarm_at(moment).rings,
        }
        for number, user in enumerate(timeline.user_ids.to_pylist()):
            assert (user in place) == bool(moment.present[number])
            if user in place:
                row = place[user]
                assert {name: getattr(who, name)[row] for name in expected} == {
                    name: values[number] for name, values in expected.items()
                }
                assert who.rfm[:, row].tolist() == rfm[number].tolist()
                assert who.probability[row] == pytest.approx(chances.get(user, np.nan), nan_ok=True)
                seen += 1
    assert seen == len(who.user_ids) == about.structure.stages[-1].sum()


def test_about_to_leave_and_left_are_two_things(about: Material) -> None:
    who = about.people
    leaving, left = who.about_to_leave, who.left
    assert not (leaving & left).any()
    for stage, risky, rings, is_leaving in zip(who.stage, who.risky, who.rings, leaving, strict=True):
        customer = STAGES[stage] in ("introduction", "growth", "maturity")
        assert is_leaving == (customer and (risky or rings))
    assert (leaving & who.risky & ~who.rings).any()
    assert (leaving & ~who.risky & who.rings).any()
    assert left.sum() == about.structure.stages[-1][[STAGES.index("dormancy"), STAGES.index("lost")]].sum()


def test_the_page_says_the_counts(about: Material, page: Html) -> None:
    text, who = Balanced(page).text, about.people
    table = about.rules.table
    for code, tier in enumerate(TIERS):
        count, named = int((who.tier == code).sum()), table.names.tiers[tier].en  # type: ignore[index]
        assert f"{named} {count:,} {count / who.customers.sum():.1%}" in text
    for code, segment in enumerate(SEGMENTS):
        named = table.names.segments[segment].en  # type: ignore[index]
        assert f"{named} {(who.segment == code).sum():,} " in text
    for code, newcomer in enumerate(NEWCOMER):
        named = table.names.newcomers[newcomer].en  # type: ignore[index]
        assert f"{named} {(who.newcomer == code).sum():,} " in text
    assert f"{who.about_to_leave.sum():,} are about to leave" in text
    for said in verdict(about):
        assert said in text
    for target in about.lifecycle.against(about.stages):
        assert np.isnan(target.reached) or f"{target.reached:.1%} {target.target:.0%} " in text


def test_without_a_model_and_browsing_nobody_is_about_to_leave(tmp_path: Path) -> None:
    rows = [
        {"user_id": f"<u{user}>", "ts": f"2024-{month:02}-{1 + user:02}", "kind": "purchase", "price": 3}
        for user in range(8)
        for month in range(1, 2 + user)
    ]
    store = ingest_rows(rows, tmp_path / "a <b> shop").store
    assert store is not None
    as_of = store.span[1] + DAY_US
    material = audience_material(store, as_of, load_stages(), load_segments(), learn(store, as_of))
    parsed = Balanced(audience_report(material))
    assert parsed.wrong == []
    assert "Who is about to leave is not known" in parsed.text
    assert "only when they buy" in parsed.text
    assert "fallback" in parsed.text
    assert "no categories" in parsed.text
    assert "a <b> shop" in parsed.text
    assert parsed.tags.count("img") == 4


def test_a_log_of_one_day_has_a_page(tmp_path: Path) -> None:
    store = ingest_rows([{"user_id": "a", "ts": "2024-01-03", "kind": "view"}], tmp_path / "store").store
    assert store is not None
    as_of = store.span[1] + DAY_US
    material = audience_material(store, as_of, load_stages(), load_segments(), learn(store, as_of))
    parsed = Balanced(audience_report(material))
    assert parsed.wrong == []
    assert "too short for two moments" in parsed.text
    assert "Nobody has bought yet" in parsed.text


def purchase(user: int, **columns: object) -> dict[str, object]:
    return {"user_id": f"u{user}", "ts": f"2022-0{1 + user}-03", "kind": "purchase", **columns}


@pytest.mark.parametrize(
    "rows",
    [
        [{"user_id": None, "device_id": f"d{day}", "ts": f"2024-05-0{day}", "kind": "view"} for day in (1, 2)],
        [purchase(user) for user in range(8)],  # what they paid is not known
        [*(purchase(user, amount=2) for user in range(8)), {"user_id": "x", "ts": "2024-05-01", "kind": "view"}],
        [purchase(user, amount=2, category=r"a $\foo$ <b>") for user in range(8)],  # no formula, and no tag
    ],
    ids=["devices", "no amounts", "long ago", "signs in a name"],
)
def test_what_is_not_known_is_not_said(rows: list[dict[str, object]], tmp_path: Path) -> None:
    store = ingest_rows(rows, tmp_path / "store").store
    assert store is not None
    as_of = at("2024-06-01")
    material = audience_material(store, as_of, load_stages(), load_segments(), learn(store, as_of))
    parsed = Balanced(audience_report(material))
    assert parsed.wrong == []
    assert not {"None", "(None)", "nan"} & set(parsed.text.split())


def test_ribbons_are_as_wide_as_there_are_users(about: Material) -> None:
    flow = about.structure.flows[-1].copy()
    flow[:, STAGES.index("anonymous")] = 0
    ribbons = [patch for patch in flow_plot(about.structure).axes[0].patches if isinstance(patch, PathPatch)]
    corners = [np.asarray(patch.get_path().vertices) for patch in ribbons]
    heights = [float(corner[0, 1] - corner[-2, 1]) for corner in corners]
    assert len(heights) == (flow > 0).sum() > 5
    users = flow[flow > 0]
    np.testing.assert_allclose(np.array(heights) / heights[0], users / users[0])


def test_pictures_show_the_figures(about: Material) -> None:
    bars = structure_plot(about.structure).axes[0].patches
    assert sum(bar.get_height() for bar in bars) == about.structure.registered.sum()  # type: ignore[attr-defined]
    shown = cohort_plot(about.structure.cohorts).axes[0].images[0].get_array()
    assert shown is not None
    expected = about.structure.cohorts.retention[:, 1:]
    assert np.nanmax(np.asarray(shown)) == np.nanmax(expected)
    asked = np.isfinite(about.people.probability) & (about.people.segment >= 0)
    labels = [label.get_text() for label in risk_plot(about.people).axes[0].get_yticklabels()]
    assert len(labels) == len(set(about.people.segment[asked]))


def test_progress_rises_to_1(shop: Store, learned: Learned) -> None:
    told: list[float] = []
    audience_material(shop, NOW, load_stages(), load_segments(), learned, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1


def test_a_learned_table_that_lacks_gaps_is_told(about: Material) -> None:
    poor = replace(about, learned=replace(about.learned, repeaters=3))
    assert "3 customers bought on two days" in Balanced(audience_report(poor)).text
