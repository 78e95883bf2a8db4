"""The page of one user: valid, escaped, in both languages, with what is known and without what is not."""

from pathlib import Path
from typing import Any

import pytest

from analysis.user_page import names_of, user_page
from features.audience.directory import Directory
from features.audience.needs import Evidence, NeedTag
from features.audience.needs_table import load_needs
from features.audience.persona import Persona, personas
from features.audience.segments import load_segments
from features.audience.stages import load_stages
from features.events.store import Store
from models.audience import Profile
from models.words import LANGUAGES, Language
from tests.analysis.test_page import Balanced
from tests.features.support import DAY_US, RANDOM_MOMENTS, at, ingest_rows

NASTY = "<b>&\"'"
MOMENT = at("2024-04-10")


def shown(page: str) -> str:
    """What stands on the page."""
    return Balanced(page.partition("<body>")[2]).text


def nasty(store: Path, user: str = NASTY) -> Persona:
    """A user all of whose names are nasty."""
    rows: list[dict[str, Any]] = [
        {
            "user_id": user,
            "ts": f"2024-0{month}-03 18:20",
            "kind": kind,
            "item_id": NASTY,
            "category": NASTY,
            "price": 3,
            "order_id": f"{month}",
        }
        for month in (1, 2, 4)
        for kind in ("view", "purchase")
    ]
    made = ingest_rows(rows, store).store
    assert made is not None
    (persona,) = personas(made.timeline_of([user]), MOMENT, Directory(made))
    assert persona is not None
    return persona


def profile(user: str = NASTY) -> Profile:
    evidence = (Evidence(MOMENT - DAY_US, "view", NASTY, NASTY),)
    need = NeedTag(NASTY, MOMENT - 3 * DAY_US, MOMENT - DAY_US, MOMENT + 30 * DAY_US, 0.75, evidence)
    return Profile(
        user_id=user,
        status="ok",
        stage="maturity",
        leaving="about_to_leave",
        segment="important_value",
        rfm=(5, 4, 3),
        tier="active",
        level="gold",
        points=2345,
        to_next=655,
        decile=9,
        needs=[need],
        risk="high",
        probability=0.62,
        alarm=True,
        cause="soft",
        cause_confidence=0.61,
        evidence=[f"{NASTY} seen."],
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_valid_and_fetches_nothing(language: Language, tmp_path: Path) -> None:
    found = Balanced(made := user_page(nasty(tmp_path / "store"), profile(), language))
    assert found.wrong == []
    assert f'<html lang="{language}">' in made
    assert not {"b", "script", "link", "iframe"} & set(found.tags)
    links = [link for link in found.links if not link.startswith("data:image/png;base64,")]
    assert links == [f"#{name}" for name in found.ids]
    assert found.ids == ["glance", "state", "needs", "months", "report", "likes", "habits"]
    assert found.tags.count("img") == 3


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_stand_as_they_are(language: Language, tmp_path: Path) -> None:
    text = shown(user_page(nasty(tmp_path / "store"), profile(), language))
    assert text.count(NASTY) > 10
    assert "{" not in text


def test_what_operators_call_things(tmp_path: Path) -> None:
    persona = nasty(tmp_path / "store")
    text = {}
    for language in LANGUAGES:
        names = names_of(load_stages(), load_segments(), load_needs(), language)
        text[language] = shown(user_page(persona, profile(), language, names))
    assert "Stage maturity Leaving about to leave Risk of leaving high (62 %) Alarm rings" in text["en"]
    assert "Segment important, of value" in text["en"]
    assert "Points 2,345, 655 to the next level" in text["en"]
    assert "阶段 成熟期 去留 即将流失 流失风险 高（62 %） 警报 已触发" in text["zh"]
    assert "分群 重要价值客户" in text["zh"]
    assert "important_value" in user_page(persona, profile(), "en", {"important_value": "important_value"})


def test_the_table_of_months_is_the_reports(tmp_path: Path) -> None:
    text = shown(user_page(nasty(tmp_path / "store"), None, "en"))
    assert "2024-04 * 1 3.00 +3.00 1 1 1 0 2024-02 1 3.00 – 1 1 1 0" in text
    assert "Churn model" not in text


def test_every_user_of_a_nasty_log_has_a_page(small_store: Store) -> None:
    users = ["u0003", "only messages", "refunds only", "one view", "one purchase", "two at once"]
    found = personas(small_store.timeline_of(users), RANDOM_MOMENTS[1], Directory(small_store))
    known = [persona for persona in found if persona]
    assert len(known) >= 5  # one may have arrived late
    for persona, language in zip(known, LANGUAGES * 3, strict=False):
        made = user_page(persona, None, language)
        assert Balanced(made).wrong == []
        assert "{" not in shown(made)


def test_a_device_is_not_told_of_money(tmp_path: Path) -> None:
    rows = [
        {"user_id": None, "device_id": "d9", "ts": f"2024-0{month}-05 21:30", "kind": "view", "category": "tea"}
        for month in (2, 3)
    ]
    buyer = {"user_id": "u", "ts": "2024-01-01", "kind": "purchase", "price": 3, "item_id": "i"}
    store = ingest_rows([*rows, buyer], tmp_path / "store").store
    assert store is not None
    (persona,) = personas(store.timeline_of(["device:d9"]), MOMENT, Directory(store))
    assert persona is not None
    text = shown(user_page(persona, None, "en"))
    assert text.startswith("Device d9, without an account: persona")
    assert "Spent" not in text
    assert "Period Views Active days 2024-03 1 1 2024-02 1 1" in text
