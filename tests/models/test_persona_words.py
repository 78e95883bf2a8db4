"""A persona in words: whole sentences in both languages, whatever is known and whatever is not."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from features.audience.directory import Directory
from features.audience.persona import Persona, personas
from features.errors import UserError
from features.events.store import Store
from models import persona_words
from models.persona_words import persona_text, report_text
from models.words import LANGUAGES, Language
from tests.features.support import RANDOM_MOMENTS, at, ingest_frame, ingest_rows
from tests.features.test_no_future import LACKS
from tests.randomlog import random_log

ENGLISH, CHINESE = persona_words.load("en"), persona_words.load("zh")


def of_rows(rows: list[dict[str, Any]], moment: str, store: Path, user: str = "u") -> Persona:
    """The persona of one user."""
    made = ingest_rows(rows, store).store
    assert made is not None
    (persona,) = personas(made.timeline_of([user]), at(moment), Directory(made))
    assert persona is not None
    return persona


def line(ts: str, item: str, price: float, order: str, **more: Any) -> dict[str, Any]:
    return {"user_id": "u", "ts": ts, "kind": "purchase", "item_id": item, "price": price, "order_id": order, **more}


ROWS = [
    line("2024-01-03 18:20", "tea", 3.0, "1", category="drinks", discount=0.5),
    line("2024-01-03 18:20", "cup", 9.0, "1", category="kitchen"),
    line("2024-02-02 18:40", "tea", 3.0, "2", category="drinks", quantity=2),
    line("2024-03-04 18:00", "tea", 1234.5, "3", category="drinks"),
    {"user_id": "u", "ts": "2024-03-05 18:00", "kind": "coupon_used"},
]


def test_a_user_in_english(tmp_path: Path) -> None:
    assert persona_text(of_rows(ROWS, "2024-03-10", tmp_path / "store"), "en") == (
        "Customer u was first seen on 3 January 2024 and last on 5 March 2024. "
        "3 orders so far, with 2 different items, for 1,252.50 in all: 417.50 an order. "
        "Discounts saved 0.50. Used 1 coupon. "
        "Prices paid a piece lie mostly between 3.00 and 1,234.50, half of them at or below 3.00. "
        "Orders every 30 days on average; the next order is expected around 4 April 2024. "
        "Spends most on drinks (99 %) and kitchen (1 %). "
        "Has bought from 2 categories of 2, kitchen since 3 January 2024 the newest. "
        "Comes most often around 18:00–19:00 UTC."
    )


def test_a_user_in_chinese(tmp_path: Path) -> None:
    assert persona_text(of_rows(ROWS, "2024-05-10", tmp_path / "store"), "zh") == (
        "顾客 u 首次出现于2024年1月3日，最近一次在2024年3月5日。"
        "至今下单 3 次，买过 2 种商品，共消费 1,252.50，平均每单 417.50。"
        "优惠共节省 0.50。用过 1 张优惠券。"
        "所购商品单价多在 3.00 至 1,234.50 之间，中位数为 3.00。"
        "平均每 30 天下一单，原预计2024年4月4日前后下单，至今未下。"
        "消费最多的是drinks（99 %）、kitchen（1 %）。"
        "在全部 2 个品类中买过 2 个，最近新增的是kitchen（2024年1月3日）。"
        "多在18点至19点（UTC）到访。"
    )


@pytest.mark.parametrize(
    ("period", "english", "chinese"),
    [
        (
            "2024-01",
            "In January 2024 you placed 1 order with 2 different items for 12.00. You saved 0.50. You spent most on "
            "kitchen. You were here on 1 day, mostly around 18:00–19:00 UTC.",
            "2024年1月，您下了 1 单，买了 2 种商品，共消费 12.00。为您节省 0.50。您在kitchen上花费最多。"
            "您有 1 天到访，多在18点至19点（UTC）。",
        ),
        (
            "2024-02",
            "In February 2024 you placed 1 order with 1 item for 6.00. You spent 6.00 less than in January 2024. You "
            "spent most on drinks. You were here on 1 day, mostly around 18:00–19:00 UTC.",
            "2024年2月，您下了 1 单，买了 1 种商品，共消费 6.00。消费比2024年1月少 6.00。您在drinks上花费最多。"
            "您有 1 天到访，多在18点至19点（UTC）。",
        ),
        (
            "2024-03",
            "In March 2024 (up to 9 March 2024) you placed 1 order with 1 item for 1,234.50. You spent 1,228.50 more "
            "than in the same days of February 2024. You used 1 coupon. You spent most on drinks. You were here on 2 "
            "days, mostly around 18:00–19:00 UTC.",
            "2024年3月（截至2024年3月9日），您下了 1 单，买了 1 种商品，共消费 1,234.50。"
            "消费比2024年2月同期多 1,228.50。您用了 1 张优惠券。您在drinks上花费最多。"
            "您有 2 天到访，多在18点至19点（UTC）。",
        ),
    ],
)
def test_a_month_as_told_to_the_user(period: str, english: str, chinese: str, tmp_path: Path) -> None:
    first = {"user_id": "v", "ts": "2023-12-01", "kind": "purchase", "item_id": "x", "price": 1}
    persona = of_rows([first, *ROWS], "2024-03-10", tmp_path / "store")
    assert report_text(persona, period, "en") == english
    assert report_text(persona, period, "zh") == chinese


def test_a_year_as_told_to_the_user(tmp_path: Path) -> None:
    new = [line(f"2024-04-{day:02d}", f"i{day}", 1, f"n{day}", category=f"shelf {day}") for day in range(1, 10)]
    before = line("2023-11-11", "tea", 2.0, "0", category="drinks")
    persona = of_rows([before, *ROWS, *new], "2025-01-01", tmp_path / "store")
    said = report_text(persona, "2024", "en")
    assert said.startswith("In 2024 you placed 12 orders with 11 different items for 1,261.50. You saved 0.50.")
    assert "What you bought most often was tea, in 3 orders." in said
    assert "New to you: kitchen, shelf 1, shelf 2, shelf 3, shelf 4 and 5 others." in said
    assert "您首次购买的品类：kitchen、shelf 1、shelf 2、shelf 3、shelf 4等10个。" in report_text(persona, "2024", "zh")


def test_a_habit_is_what_was_so_more_than_once(tmp_path: Path) -> None:
    weekly = [line(f"2024-01-{day:02d} {day:02d}:00", "tea", 3, f"{day}") for day in (2, 9, 16)]
    assert persona_text(of_rows(weekly, "2024-03-10", tmp_path / "day"), "en").endswith("Comes most often on Tuesday.")
    both = [line("2024-01-23 09:10", "tea", 3, "23"), *weekly]
    said = persona_text(of_rows(both, "2024-03-10", tmp_path / "both"), "en")
    assert said.endswith("Comes most often on Tuesday and around 9:00–10:00 UTC.")
    assert "Comes" not in persona_text(of_rows(weekly[:1], "2024-03-10", tmp_path / "once"), "en")


def test_a_device_is_called_a_device(tmp_path: Path) -> None:
    view = {"user_id": None, "device_id": "d9", "ts": "2024-05-01 21:30", "kind": "view", "category": "drinks"}
    persona = of_rows([view], "2024-05-02", tmp_path / "store", "device:d9")
    assert persona_text(persona, "en") == (
        "Device d9, without an account, was seen on 1 May 2024 only. No orders so far. Looks most at drinks (100 %)."
    )
    assert (
        persona_text(persona, "zh")
        == "设备 d9（未注册）只在2024年5月1日出现过。尚未下单。浏览最多的是drinks（100 %）。"
    )
    assert report_text(persona, "2024-05", "en") == (
        "In May 2024 (up to 1 May 2024) you bought nothing. You looked at something 1 time. You were here on 1 day, "
        "mostly around 21:00–22:00 UTC."
    )


def test_a_period_without_a_report_is_told(tmp_path: Path) -> None:
    persona = of_rows(ROWS, "2024-03-10", tmp_path / "store")
    with pytest.raises(UserError, match="no report of '2030'"):
        report_text(persona, "2030", "en")


def texts_of(store: Store, moment: int, language: Language) -> Iterator[str]:
    for timeline in store.timelines():
        for persona in personas(timeline, moment, Directory(store)):
            if persona is not None:
                yield persona_text(persona, language)
                for report in (*persona.months, *persona.years):
                    yield report_text(persona, report.period, language)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("lacks", LACKS)
def test_every_user_has_whole_sentences(lacks: str, language: Language, tmp_path: Path) -> None:
    log = random_log(41, 25, 700).drop(columns=list(LACKS[lacks]))
    stop = "." if language == "en" else "。"
    store = ingest_frame(log, tmp_path / "store").store
    assert store is not None
    said = [text for moment in RANDOM_MOMENTS for text in texts_of(store, moment, language)]
    assert len(said) > 300
    for text in said:
        assert not re.search(r"[{}]|\bnan\b|\binf\b|None|  |\.\.|。。|, ,|\( ", text), text
        assert not re.search(r"\b1 (orders|items|days|times|coupons|others|categories)\b", text), text
        assert text.endswith(stop)
        assert text[:1] == text[:1].upper()


def test_ids_and_names_are_taken_as_they_are(tmp_path: Path) -> None:
    rows = [row | {"user_id": "{id}"} for row in ROWS[:1]]
    assert persona_text(of_rows(rows, "2024-03-10", tmp_path / "store", "{id}"), "en").startswith("Customer {id} was")


def test_both_languages_say_the_same_things() -> None:
    def keys(texts: Mapping[str, Any]) -> set[str]:
        return {f"{part}.{name}" for part in ("persona", "report", "page", "codes") for name in texts[part]}

    assert keys(ENGLISH.texts) == keys(CHINESE.texts)
    assert ENGLISH.texts.keys() == CHINESE.texts.keys()
    for part in ("persona", "report", "page"):
        for name, text in ENGLISH.texts[part].items():
            holes = set(re.findall(r"\{(\w+)", text))
            assert set(re.findall(r"\{(\w+)", CHINESE.texts[part][name])) == holes, name


def test_names_of_months_and_weekdays() -> None:
    assert [ENGLISH.period(f"2024-{month:02d}").split()[0] for month in range(1, 13)] == [
        pd.Timestamp(2024, month, 1).month_name() for month in range(1, 13)
    ]
    assert ENGLISH.texts["weekdays"] == [pd.Timestamp(2024, 1, day).day_name() for day in range(1, 8)]
    assert (CHINESE.period("2024-11"), CHINESE.period("2024")) == ("2024年11月", "2024年")
