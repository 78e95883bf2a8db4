"""What people read: right numbers, singular and plural, two languages, and something sound for any signal."""

import re

import numpy as np
import pytest

from features.signals import Signal, all_signals, by_name
from models import words

NAN = float("nan")
ENGLISH, CHINESE = words.load("en"), words.load("zh")
RHYTHM = {"days_since_purchase": 34.2, "order_gap_mean_days": 14.1}


def text(name: str, value: float, usual: float = NAN, norm: str = "own", language: words.Words = ENGLISH) -> str:
    (signal,) = by_name([name])
    return language.reason(signal, value, usual, norm, RHYTHM | {name: value})


@pytest.mark.parametrize(
    ("name", "value", "usual", "norm", "expected"),
    [
        ("days_since_purchase", 34.2, 7, "own", "No order for 34 days; usually every 14."),
        ("overdue_ratio", 2.4, 1, "own", "No order for 34 days; usually every 14."),
        ("orders_30d", 1, 5, "own", "1 order in the last 30 days; usually 5."),
        ("orders_30d", 0, 5, "customers", "No orders in the last 30 days; customers usually 5."),
        ("orders_30d", 3, NAN, "own", "3 orders in the last 30 days."),
        ("spend_90d", 1234.56, 80.5, "own", "1,235 spent in the last 90 days; usually 80."),
        ("browse_minutes_30d", 1, 60.4, "own", "1 minute of browsing in the last 30 days; usually 60."),
        ("message_open_rate_90d", 0.126, 0.5, "own", "13 % of the messages of the last 90 days opened; usually 50 %."),
        ("complaints_30d", 2, 0, "customers", "2 complaints in the last 30 days; customers usually 0."),
        ("days_since_seen", 1.2, 1, "own", "Not seen for 1 day; usually 1."),
        ("days_since_refund", NAN, 30, "customers", "Days since the last refund: never; customers usually 30."),
        ("minutes_per_view_30d", NAN, NAN, "own", "Mean minutes a view in the last 30 days: not known."),
    ],
)
def test_english(name: str, value: float, usual: float, norm: str, expected: str) -> None:
    assert text(name, value, usual, norm) == expected


@pytest.mark.parametrize(
    ("name", "value", "usual", "norm", "expected"),
    [
        ("days_since_purchase", 34.2, 7, "own", "34 天没有下单；平时每 14 天一次。"),
        ("orders_30d", 0, 5, "customers", "最近 30 天下单 0 单；其他顾客通常 5 单。"),
        ("refund_share_90d", 0.25, NAN, "own", "最近 90 天有 25 % 的商品行退款。"),
    ],
)
def test_chinese(name: str, value: float, usual: float, norm: str, expected: str) -> None:
    assert text(name, value, usual, norm, CHINESE) == expected


def test_who_is_not_due_yet_is_not_called_silent() -> None:
    (signal,) = by_name(["overdue_days"])
    early = {"days_since_purchase": 5.0, "order_gap_mean_days": 14.0}
    assert ENGLISH.reason(signal, -9, 0, "own", early) == "Last order 5 days ago; on average every 14."


@pytest.mark.parametrize("language", words.LANGUAGES)
def test_every_signal_has_a_text_whatever_its_value(language: words.Language) -> None:
    texts = words.load(language)
    for signal in all_signals():
        for value, usual in ((0.0, 3.0), (1.0, NAN), (2.5, 0.0), (NAN, 1.0), (NAN, NAN), (-12345.6, 1e-3)):
            for norm in ("own", "customers"):
                said = texts.reason(signal, value, usual, norm, {signal.name: value})
                assert not re.search(r"[{}]|nan|\. \.|;\.", said), said
                assert said[-1] == texts.texts["stop"]
                assert said.count(texts.texts["stop"]) == 1 or language == "en"


def test_a_signal_nobody_wrote_a_text_for() -> None:
    new = Signal("doors_7d", "doors", "doors", "Doors opened in the last 7 days.", lambda m: np.zeros(1), "")
    assert not ENGLISH.has(new)
    assert ENGLISH.reason(new, 3, 5, "own", {}) == "Doors opened in the last 7 days: 3 doors; usually 5 doors."
    assert CHINESE.reason(new, 3, NAN, "own", {}) == "Doors opened in the last 7 days 3 doors。"


def test_both_languages_say_the_same_things() -> None:
    for part in ("units", "reasons", "evidence", "answers", "offers"):
        assert ENGLISH.texts[part].keys() == CHINESE.texts[part].keys()
    for name, texts in ENGLISH.texts["reasons"].items():
        assert len(texts) == len(CHINESE.texts["reasons"][name])


@pytest.mark.parametrize(
    ("name", "values", "english", "chinese"),
    [
        ("own", {"times": 1.0, "ago": 1.0}, "bought 1 time, last 1 day ago", "买过1次，上次在1天前"),
        ("own_today", {"times": 2.0, "ago": 0.0}, "bought 2 times, last today", "买过2次，上次在今天"),
        (
            "own_due",
            {"times": 4.0, "ago": 21.0, "every": 20.6},
            "bought 4 times, every 21 days, due",
            "买过4次，每21天一次，该补货了",
        ),
        (
            "together",
            {"item": "Lamp, red", "orders": 12.0, "lift": 3.42},
            "bought together with Lamp, red in 12 orders, 3.4 times as often as by chance",
            "有12个订单与Lamp, red同购，是随机情况的3.4倍",
        ),
        (
            "step_up",
            {"category": "TEA", "price": 4.5, "paid": 2.24},
            "a step up in TEA: 4.5 instead of about 2.2",
            "TEA的升级款：4.5，通常花费约2.2",
        ),
        (
            "known",
            {"buyers": 0.0, "until": "2024-05-01"},
            "bought by 0 shoppers before 2024-05-01",
            "2024-05-01前有0人购买",
        ),
    ],
)
def test_offers(name: str, values: dict[str, float | str], english: str, chinese: str) -> None:
    assert (ENGLISH.offer(name, values), CHINESE.offer(name, values)) == (english, chinese)


def test_texts_are_of_signals_that_are_there() -> None:
    bases = {re.sub(r"_\d+d$", "", signal.name) for signal in all_signals()}
    written = {name.removesuffix(".early") for name in ENGLISH.texts["reasons"]}
    assert written <= bases | {"overdue_spreads", "orders_decayed"}


def test_numbers_in_chinese_sentences_have_one_measure_word():
    chinese = words.load("zh")
    said = [
        chinese.evidence(name, value=2.0, of=5.0, usual=0.1, visits="4", said="") for name in chinese.texts["evidence"]
    ]
    assert any("2 次" in text for text in said)
    assert not [text for text in said if re.search(r"\d (次|秒|件|天|单|条) ?(次|秒|件|天|单|条)", text)]
