"""Laws 3 and 8 for answers: they do not depend on who else is asked or in which order, and strangers are labelled."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.engines.local import matrices
from features.events.store import Store
from features.timeline import Timeline
from models.alarm import alarm_of
from models.answers import CatalogueCodes, ChurnQuestion, churn_answers, recommend_answers
from models.batch import USERS_AT_ONCE, each_bucket
from models.causes import CAUSES
from models.churn import RISKS, ChurnModel
from models.recommender import MODES, Ask, Filter, Mode, Recommender
from models.recommender.popular import Welcome
from tests.features.support import DAY_US
from tests.shop import AS_OF, ingested, shop_log
from training.churn import ChurnRun, select
from training.cross_sell import CrossSellRun

Bits = dict[str, str]
#: every mode is asked in tests/models/recommender
ASKS = (Ask(k=10), Ask("cross_sell", k=10, filter=Filter(price_max=20.0)), Ask("bundle", k=10, cart=("i1",)))


def bits(
    store: Store, timelines: Iterable[Timeline], model: ChurnModel, recommender: Recommender, as_of: int = AS_OF
) -> Bits:
    """Each user's answers: probability, status, risk, reasons and a list a mode, with all bits of their floats."""
    codes = CatalogueCodes(store, recommender).of_store
    out: Bits = {}
    for timeline in timelines:
        lists = [recommend_answers(timeline, as_of, recommender, codes, ask) for ask in ASKS]
        for answers in zip(churn_answers(timeline, as_of, model, ChurnQuestion(reasons=4)), *lists, strict=True):
            assert answers[0].user_id not in out
            out[answers[0].user_id] = repr(answers).replace(f"user_id={answers[0].user_id!r}", "")
    return out


@pytest.fixture(scope="module")
def models(churn_run: ChurnRun, cross_sell_run: CrossSellRun) -> tuple[ChurnModel, Recommender]:
    return churn_run.model, cross_sell_run.model


@pytest.fixture(scope="module")
def expected(shop: Store, models: tuple[ChurnModel, Recommender]) -> Bits:
    return bits(shop, (timeline for _, timeline in each_bucket(shop)), *models)


def test_one_user_alone_is_as_in_the_batch(
    shop: Store, models: tuple[ChurnModel, Recommender], expected: Bits, tell: Callable[..., None]
) -> None:
    some = list(expected)[::3]
    alone = (timeline for user in some for _, timeline in each_bucket(shop, [user]))
    assert bits(shop, alone, *models) == {user: expected[user] for user in some}
    tell(users_alone=len(some), lists_compared=len(ASKS) * len(some))


@pytest.mark.parametrize("rows", [300, 1_000])
def test_the_size_of_buckets_changes_no_bit(
    shop: Store, models: tuple[ChurnModel, Recommender], expected: Bits, rows: int, tell: Callable[..., None]
) -> None:
    assert bits(shop, shop.timelines(rows), *models) == expected
    tell(buckets=len(shop.chunks(rows)), users=len(expected))


def test_the_order_of_users_and_the_company_of_strangers_change_no_bit(
    shop: Store, models: tuple[ChurnModel, Recommender], expected: Bits
) -> None:
    users = list(expected)
    order = [users[i] for i in np.random.default_rng(0).permutation(len(users))]
    mixed = [name for i, user in enumerate(order) for name in (user, f"stranger {i}")]
    found = bits(shop, [shop.timeline_of(mixed)], *models)
    assert {user: found[user] for user in users} == expected
    assert list(found) == mixed


def test_named_users_come_in_parts_in_their_order(shop: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    users = [f"u{number}" for number in range(50)][::-1]
    monkeypatch.setattr("models.batch.USERS_AT_ONCE", 7)
    shares, timelines = zip(*each_bucket(shop, users), strict=True)
    assert [user for timeline in timelines for user in timeline.user_ids.to_pylist()] == users
    assert shares == tuple(sorted(shares))
    assert shares[-1] == 1
    assert len(timelines) == 8
    assert USERS_AT_ONCE > 7


def test_rows_in_another_order_and_in_parts_change_no_bit(
    tmp_path: Path, models: tuple[ChurnModel, Recommender], expected: Bits
) -> None:
    log = shop_log()
    early, late = pd.Timestamp("2024-02-01"), pd.Timestamp("2024-03-01")
    ingested(log[log["ts"] >= early].sample(frac=1, random_state=3), tmp_path / "store")
    store = ingested(log[log["ts"] < late][::-1], tmp_path / "store")  # February a second time
    assert store.rows == len(log)
    assert bits(store, store.timelines(), *models) == expected


def test_relabelled_users_get_the_same_answers(
    tmp_path: Path, models: tuple[ChurnModel, Recommender], expected: Bits, tell: Callable[..., None]
) -> None:
    log = shop_log()
    names = {user: f"{hash_of(user)} née {user[::-1]}" for user in expected}
    store = ingested(log.assign(user_id=log["user_id"].map(names)), tmp_path / "store")
    found = bits(store, store.timelines(), *models)
    assert {user: found[names[user]] for user in expected} == expected
    tell(users_relabelled=len(names))


def hash_of(text: str) -> int:
    return sum(ord(letter) * 31**place for place, letter in enumerate(text)) % 9_973


# ------------------------------------------------------------------------------------------- what is answered


def test_an_answer_says_what_the_model_says(shop: Store, churn_run: ChurnRun) -> None:
    model = churn_run.model
    matrix = matrices(shop, [AS_OF], lookback=10_000)[0]
    values = select(matrix, model)
    for horizon in (None, 7, 45):
        question = ChurnQuestion(horizon, reasons=2, cause=True, language="zh")
        answers = churn_answers(shop.timeline_of(matrix.user_ids.to_pylist()), AS_OF, model, question)
        assert [a.probability for a in answers] == model.score(values, AS_OF, horizon).tolist()
        assert [a.expected_days for a in answers] == model.expected_days(model.curve(values, AS_OF)).tolist()
        ringing = alarm_of(matrix, model.alarm)
        assert [a.alarm for a in answers] == ringing.answers()
        assert {a.alarm for a in answers} == {True, False, None}
        assert {a.cause.cause for a in answers if a.cause} <= {*CAUSES, "unknown"}
        assert all(len(a.reasons) <= 2 for a in answers)
    assert any("一" <= letter <= "鿿" for a in answers for r in a.reasons for letter in r.text)


def test_lateness_is_the_share_of_own_gaps_no_longer_than_the_silence(tmp_path: Path, churn_run: ChurnRun) -> None:
    days = [0, 10, 15, 45]  # gaps of 10, 5 and 30 days, and now 12 days of silence
    bought = [(AS_OF - (57 - day) * DAY_US, f"o{day}") for day in days]
    rows = [{"user_id": "u", "ts": ts, "kind": "purchase", "order_id": order} for ts, order in bought]
    rows += [{"user_id": "once", "ts": AS_OF - DAY_US, "kind": "purchase", "order_id": "x"}]
    log = pd.DataFrame(rows)
    log["ts"] = log["ts"].to_numpy("int64").view("datetime64[us]")
    store = ingested(log, tmp_path / "store")
    u, once = churn_answers(store.timeline_of(["u", "once"]), AS_OF, churn_run.model)
    assert u.lateness == pytest.approx(2 / 3)  # one of three gaps was longer
    assert once.lateness is None


def test_risk_is_cut_at_the_stated_probabilities(churn_run: ChurnRun) -> None:
    medium, high = churn_run.model.risk_cuts
    below = [np.nextafter(medium, 0), np.nextafter(high, 0)]
    assert churn_run.model.risk(np.array([0.0, below[0], medium, below[1], high, 1.0])) == [
        "low", "low", "medium", "medium", "high", "high",
    ]  # fmt: skip
    assert RISKS == ("low", "medium", "high")


def test_unknown_users_and_users_without_a_purchase_are_labelled(shop: Store, churn_run: ChurnRun) -> None:
    model = churn_run.model
    asked = ["u3", "nobody", "only a message", ""]
    known, *others = churn_answers(shop.timeline_of(asked), AS_OF, model, ChurnQuestion(reasons=3))
    assert known.status == "ok"
    assert known.reasons
    assert [a.status for a in others] == ["unknown_user", "too_little_history", "unknown_user"]
    for answer in others:
        assert answer.probability == model.base_rate()
        assert answer.reasons == []
        assert answer.risk == model.risk(np.array([model.base_rate()]))[0]


def test_a_user_is_unknown_before_the_first_event(shop: Store, churn_run: ChurnRun) -> None:
    first = int(shop.timeline_of(["u3"]).columns["ts"][0])
    status = [
        churn_answers(shop.timeline_of(["u3"]), as_of, churn_run.model)[0].status
        for as_of in (first, first + 1, first + 5 * 60_000_000, first + 5 * 60_000_000 + 1)
    ]
    assert status == ["unknown_user", "too_little_history", "too_little_history", "ok"]  # a view, then a purchase


@pytest.mark.parametrize("mode", MODES)
def test_strangers_get_what_good_newcomers_began_with_and_it_says_so(
    shop: Store, cross_sell_run: CrossSellRun, mode: Mode
) -> None:
    items = len(cross_sell_run.model.catalogue)
    ranks = np.arange(items, dtype=np.int32)
    began = Welcome(ranks, ranks, ranks, ranks // 2)
    model = replace(cross_sell_run.model, heads={**cross_sell_run.model.heads, "welcome": began})
    codes = CatalogueCodes(shop, model).of_store
    asked = ["nobody", "only a message", "u3", "someone else"]
    answers = recommend_answers(shop.timeline_of(asked), AS_OF, model, codes, Ask(mode, k=5))
    nobody, silent, known, someone = answers
    assert [answer.user_id for answer in answers] == asked
    assert [answer.status for answer in answers] == ["unknown_user", "too_little_history", "ok", "unknown_user"]
    assert nobody.items == silent.items == someone.items
    assert nobody.items != known.items or mode == "welcome"
    assert [item.head for item in nobody.items] == ["welcome"] * 5
    assert [item.item_id for item in nobody.items] == list(model.catalogue.ids[::-1][:5])
    assert nobody.items[0].evidence == f"{items - 1} newcomers began with it, {(items - 1) // 2} of them ordered again"


def test_a_stranger_with_a_cart_gets_what_goes_with_it(shop: Store, cross_sell_run: CrossSellRun) -> None:
    model = cross_sell_run.model
    codes = CatalogueCodes(shop, model).of_store
    links = model.heads["complement"].links  # type: ignore[attr-defined]
    cart = model.catalogue.ids[int(np.argmax(np.diff(links.offsets)))]
    (answer,) = recommend_answers(
        shop.timeline_of(["nobody"]), AS_OF, model, codes, Ask("bundle", cart=(cart,), discount=0.1)
    )
    assert answer.items[0].head == "complement"
    assert f"bought together with {cart} in " in answer.items[0].evidence
    assert answer.bundle is not None
    assert answer.bundle.items == [cart, *(item.item_id for item in answer.items[:3])]
    log = shop_log()
    bought = log[log["kind"] == "purchase"].sort_values("ts").groupby("item_id")["price"].last()
    price = sum(bought[item] for item in answer.bundle.items)
    assert answer.bundle.price == pytest.approx(price, abs=0.01)
    assert answer.bundle.saves == pytest.approx(price / 10, abs=0.01)
    plain = recommend_answers(shop.timeline_of(["nobody"]), AS_OF, model, codes, Ask("cross_sell", cart=(cart,)))
    assert plain[0].bundle is None
    assert cart not in [item.item_id for item in plain[0].items]


def test_evidence_is_of_the_users_own_past(shop: Store, cross_sell_run: CrossSellRun) -> None:
    model, log = cross_sell_run.model, shop_log()
    codes = CatalogueCodes(shop, model).of_store
    orders = log[log["kind"] == "purchase"].groupby(["user_id", "item_id"])["order_id"].nunique()
    checked = 0
    for answer in recommend_answers(shop.timeline_of([f"u{n}" for n in range(30)]), AS_OF, model, codes, Ask("repeat")):
        for item in answer.items:
            times = orders[answer.user_id, item.item_id]
            assert item.evidence.startswith(f"bought {times} time{'s' if times > 1 else ''}, ")
            checked += 1
    assert checked > 50
    (chinese,) = recommend_answers(shop.timeline_of(["u3"]), AS_OF, model, codes, Ask("repeat"), "zh")
    assert all(item.evidence.startswith("买过") for item in chinese.items)
