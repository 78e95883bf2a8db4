"""Profiles and decisions: each user's own, whoever else is asked about; nothing later is known."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from features.audience.learn import learn
from features.audience.stages import STAGES
from features.events.store import Store
from models.decisions import Decided, Operator, some
from models.deployed import Deployed, load_bundle
from models.operations import PLAYBOOK, Operations, shipped_texts
from models.policy import NOTHING, STRANGER
from tests.features.support import DAY_US
from tests.shop import AS_OF, ingested, shop_log


@pytest.fixture(scope="module")
def held(shop: Store, bundle: Path) -> Deployed:
    """Both models, with the shipped tables for a shop that keeps its record of consent elsewhere."""
    texts = shipped_texts()
    texts[PLAYBOOK] = texts[PLAYBOOK].replace('consent = "required"', 'consent = "assumed"')
    return replace(load_bundle(bundle), learned=learn(shop, AS_OF), operations=Operations.of_texts(texts))


@pytest.fixture(scope="module")
def everybody(shop: Store, held: Deployed) -> list[Decided]:
    operator = Operator(shop, held)
    return [d for timeline in shop.timelines() for d in operator.decide(timeline, AS_OF, explain=True)]


def test_everyone_has_a_stage_and_a_decision(everybody: list[Decided]):
    assert {d.profile.stage for d in everybody} <= set(STAGES)
    assert {d.decision.action for d in everybody} == {"contact", "none"}
    for d in everybody:
        assert (d.profile.leaving == "left") == (d.profile.stage in ("dormancy", "lost"))
        assert (d.decision.contact_id is not None) == (d.decision.action == "contact") == (d.reason is not None)
        assert d.decision.why
        assert len(d.items) <= d.decision.k
        assert d.profile.risk is None or d.profile.days_since_purchase is not None
        assert d.decision.action != "contact" or d.items or d.decision.offer
    assert any(d.items for d in everybody)
    # The shop has no categories, so that there is nothing dearer of the same kind, nor a kind never tried.
    without = [d for d in everybody if d.decision.reason == NOTHING]
    assert without
    assert {d.decision.ladder for d in without} <= {"up_sell", "niche"}


def test_who_is_about_to_leave_has_not_left(everybody: list[Decided]):
    about = [d.profile for d in everybody if d.profile.leaving == "about_to_leave"]
    assert about
    assert all(profile.risk == "high" or profile.alarm for profile in about)
    assert all(profile.stage in ("introduction", "growth", "maturity") for profile in about)


def test_one_user_alone_gets_the_same(shop: Store, held: Deployed, everybody: list[Decided]):
    operator = Operator(shop, held)
    for expected in everybody[::7]:
        timeline = shop.timeline_of([expected.profile.user_id])
        assert operator.decide(timeline, AS_OF, explain=True) == [expected]


def test_nothing_later_is_known(held: Deployed, everybody: list[Decided], tmp_path: Path):
    log = shop_log()
    later = log.sample(200, random_state=1).assign(ts=pd.Timestamp("2024-06-01") + pd.Timedelta("1h"))
    store = ingested(pd.concat([log, later], ignore_index=True), tmp_path / "store", now=AS_OF + 10 * DAY_US)
    operator = Operator(store, held)
    now = {d.profile.user_id: d for t in store.timelines() for d in operator.decide(t, AS_OF, explain=True)}
    assert all(now[d.profile.user_id] == d for d in everybody)


def test_without_models_stages_are_told_and_risks_are_not(shop: Store, held: Deployed, everybody: list[Decided]):
    operator = Operator(shop, replace(held, churn=None, recommender=None))
    told = [d for timeline in shop.timelines() for d in operator.decide(timeline, AS_OF)]
    assert [d.profile.stage for d in told] == [d.profile.stage for d in everybody]
    assert all(d.profile.risk is None and d.profile.leaving != "about_to_leave" and not d.items for d in told)


def test_some_users_of_a_timeline(shop: Store):
    timeline = next(shop.timelines())
    chosen = some(timeline, [5, 2])
    assert chosen.user_ids.to_pylist() == [timeline.user_ids[5].as_py(), timeline.user_ids[2].as_py()]
    for place, user in enumerate((5, 2)):
        own = slice(timeline.offsets[user], timeline.offsets[user + 1])
        rows = slice(chosen.offsets[place], chosen.offsets[place + 1])
        assert all((chosen.columns[name][rows] == timeline.columns[name][own]).all() for name in timeline.columns)


def test_nobody_writes_to_a_stranger(shop: Store, held: Deployed):
    """Not even where a ladder is for everybody."""
    assert held.operations is not None
    texts = dict(held.operations.texts)
    texts[PLAYBOOK] = """
        consent = "assumed"
        control = { share = 0.0 }
        [channels.push]
        en = "push"
        zh = "推送"
        [offers.reminder]
        en = "a reminder"
        zh = "提醒"
        [days.first]
        en = "first"
        zh = "首日"
        days_of_month = [1]
        [[ladder]]
        name = "all"
        trigger = { on = "day", day = "first" }
        step = [{ day = 1, channel = "push", offer = "reminder" }]
    """
    operator = Operator(shop, replace(held, operations=Operations.of_texts(texts)))
    known, stranger = operator.decide(shop.timeline_of(["u3", "a stranger"]), AS_OF, explain=True)
    assert (known.decision.ladder, known.decision.action) == ("all", "contact")
    assert (stranger.decision.action, stranger.decision.reason, stranger.items) == ("none", STRANGER, [])
    assert stranger.decision.why[-1] == f"no contact: {STRANGER}"
