"""Laws 3 and 8 for answers: they do not depend on who else is asked or in which order, and strangers are labelled."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.engines.local import matrices
from features.events.store import Store
from features.timeline import Timeline
from models.answers import CatalogueCodes, churn_answers, recommend_answers
from models.batch import USERS_AT_ONCE, each_bucket
from models.churn import RISKS, ChurnModel
from models.recommender import MODES, Recommender
from tests.features.support import DAY_US, Array
from tests.shop import AS_OF, ingested, shop_log
from training.churn import ChurnRun, select
from training.cross_sell import CrossSellRun

Bits = dict[str, str]


def bits(
    store: Store, timelines: Iterable[Timeline], model: ChurnModel, recommender: Recommender, as_of: int = AS_OF
) -> Bits:
    """Each user's answers: probability, status, risk, reasons and a list a mode, with all bits of their floats."""
    codes = CatalogueCodes(store, recommender).of_store
    out: Bits = {}
    for timeline in timelines:
        lists = [recommend_answers(timeline, as_of, recommender, codes, k=10, mode=mode) for mode in MODES]
        for answers in zip(churn_answers(timeline, as_of, model, 4), *lists, strict=True):
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
    alone = (timeline for user in expected for _, timeline in each_bucket(shop, [user]))
    assert bits(shop, alone, *models) == expected
    tell(users_alone=len(expected), lists_compared=2 * len(expected))


@pytest.mark.parametrize("rows", [100, 1_000, 3_333])
def test_the_size_of_buckets_changes_no_bit(
    shop: Store, models: tuple[ChurnModel, Recommender], expected: Bits, rows: int, tell: Callable[..., None]
) -> None:
    assert bits(shop, shop.timelines(rows), *models) == expected
    tell(buckets=len(shop.chunks(rows)), users=len(expected))


def test_the_order_of_users_and_the_company_of_strangers_change_no_bit(
    shop: Store, models: tuple[ChurnModel, Recommender], expected: Bits
) -> None:
    users = list(expected)
    for seed in range(3):
        order = [users[i] for i in np.random.default_rng(seed).permutation(len(users))]
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


# ------------------------------------------------------------------------------------------------ law 8


GRID = np.concatenate([np.arange(0, 60, 0.5), np.arange(60, 400, 5), [1e4, 1e6]]).astype(np.float32)


def rows_of(store: Store, model: ChurnModel, moments: list[int]) -> Array:
    built = matrices(store, moments, lookback=10_000)
    return np.concatenate([select(matrix, model) for matrix in built])


def test_churn_never_falls_as_days_since_purchase_rises(
    shop: Store, churn_run: ChurnRun, tell: Callable[..., None]
) -> None:
    model = churn_run.model
    place = model.names.index("days_since_purchase")
    users = rows_of(shop, model, [AS_OF, AS_OF - 40 * DAY_US, AS_OF - 90 * DAY_US])
    # Beside users as they are: made-up ones, each signal of some other user, some not observed.
    rng = np.random.default_rng(2)
    made = np.stack([rng.permutation(column) for column in users.T], axis=1)
    made[rng.random(made.shape) < 0.1] = np.nan
    rose = 0
    for row in np.concatenate([users, made]):
        asked = np.repeat(row[None], len(GRID), axis=0)
        asked[:, place] = GRID
        probability = model.score(asked)
        assert (np.diff(probability) >= 0).all()
        assert (np.diff(model.margin(asked)) >= 0).all()
        rose += probability[-1] > probability[0]
    assert rose > 0
    tell(users=2 * len(users), probabilities_compared=2 * len(users) * len(GRID), users_whose_rises=rose)


def test_probabilities_are_probabilities_and_the_table_rises(shop: Store, churn_run: ChurnRun) -> None:
    model = churn_run.model
    probability = model.score(rows_of(shop, model, [AS_OF]))
    assert ((probability > 0) & (probability < 1)).all()
    assert (np.diff(model.calibration) >= 0).all()
    assert len(np.unique(probability)) > 50


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
    known, *others = churn_answers(shop.timeline_of(asked), AS_OF, model, 3)
    assert (known.status, len(known.reasons)) == ("ok", 3)
    assert [a.status for a in others] == ["unknown_user", "too_little_history", "unknown_user"]
    for answer in others:
        assert answer.probability == model.base_rate
        assert answer.reasons == []
        assert answer.risk == model.risk(np.array([model.base_rate]))[0]


def test_a_user_is_unknown_before_the_first_event(shop: Store, churn_run: ChurnRun) -> None:
    first = int(shop.timeline_of(["u3"]).columns["ts"][0])
    status = [
        churn_answers(shop.timeline_of(["u3"]), as_of, churn_run.model)[0].status
        for as_of in (first, first + 1, first + 5 * 60_000_000, first + 5 * 60_000_000 + 1)
    ]
    assert status == ["unknown_user", "too_little_history", "too_little_history", "ok"]  # a view, then a purchase


@pytest.mark.parametrize("mode", MODES)
def test_strangers_get_the_popular_head_and_it_says_so(shop: Store, cross_sell_run: CrossSellRun, mode: str) -> None:
    model = cross_sell_run.model
    codes = CatalogueCodes(shop, model).of_store
    asked = ["nobody", "only a message", "u3", "someone else"]
    nobody, silent, known, someone = recommend_answers(shop.timeline_of(asked), AS_OF, model, codes, mode=mode)
    assert [nobody.status, silent.status, known.status] == ["unknown_user", "too_little_history", "ok"]
    assert nobody.items == silent.items == someone.items != known.items
    assert {item.head for item in nobody.items} == {"popular"}
    assert all("popular: bought by" in item.evidence for item in nobody.items)
    log = shop_log()
    recent = log[(log["kind"] == "purchase") & (log["ts"] >= pd.Timestamp(AS_OF - 30 * DAY_US, unit="us"))]
    buyers = recent.groupby("item_id")["user_id"].nunique()
    assert [buyers[item.item_id] for item in nobody.items] == sorted(buyers, reverse=True)[:20]


def test_reasons_explain_the_probability(shop: Store, churn_run: ChurnRun) -> None:
    """The strongest first; without a signal's contribution the probability would be that much smaller."""
    model = churn_run.model
    values = rows_of(shop, model, [AS_OF])[:40]
    parts = np.asarray(model.booster.predict(values, pred_contrib=True))
    margin = parts.sum(axis=1)
    for row, reasons in enumerate(model.reasons(values, 3)):
        order = np.argsort(-np.abs(parts[row, :-1]), kind="stable")[:3]
        assert [reason.signal for reason in reasons] == [model.names[i] for i in order]
        for reason, i in zip(reasons, order, strict=True):
            without = np.interp(margin[row] - parts[row, i], *model.calibration)
            assert reason.effect == pytest.approx(np.interp(margin[row], *model.calibration) - without, abs=1e-9)
            np.testing.assert_equal(reason.value, float(values[row, i]))
            assert reason.text.endswith(".")
    assert model.reasons(values, 0) == [[] for _ in values]
    assert model.reasons(values[:0], 3) == []
