"""Laws 2, 3 and 6 for training: the bundle is a function of the log before the moment, the recipe and the seed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from features.events.store import Store
from models.bundle import open_bundle
from tests.features.support import DAY_US, as_micros, at, ingest_frame, stamps
from tests.features.test_no_future import future_rows
from tests.shop import AS_OF, bundle_of, ingested, shop_log, trained_churn, trained_cross_sell
from training.churn import ChurnRun
from training.cross_sell import CrossSellRun


def digest(churn: ChurnRun, cross_sell: CrossSellRun, folder: Path) -> str:
    return open_bundle(bundle_of(folder, churn.model, cross_sell.model)).digest


@pytest.fixture(scope="module")
def expected(bundle: Path) -> str:
    return open_bundle(bundle).digest


@pytest.mark.parametrize("threads", [1, 2])
def test_same_seed_same_bundle(shop: Store, expected: str, threads: int, tmp_path: Path) -> None:
    with threadpool_limits(threads):
        assert digest(trained_churn(shop, threads=threads), trained_cross_sell(shop), tmp_path) == expected


def test_another_seed_is_another_model(shop: Store, churn_run: ChurnRun, cross_sell_run: CrossSellRun) -> None:
    assert trained_churn(shop, seed=2).model.booster_text != churn_run.model.booster_text
    other, one = (run.model.heads["similar_als"].tables() for run in (trained_cross_sell(shop, seed=2), cross_sell_run))
    assert (other["item_factors"] != one["item_factors"]).any()


def test_the_order_of_rows_and_of_ingests_changes_no_byte(expected: str, tmp_path: Path) -> None:
    log = shop_log()
    late = log["ts"] >= pd.Timestamp("2024-03-01")
    ingested(log[late].sample(frac=1, random_state=8), tmp_path / "store")
    store = ingested(log[~late][::-1], tmp_path / "store")
    assert digest(trained_churn(store), trained_cross_sell(store), tmp_path) == expected


def test_nothing_of_the_future_changes_a_byte(expected: str, tmp_path: Path, tell: Callable[..., None]) -> None:
    """Rows at or after the moment, and older ones that arrived after it: new kinds, items, columns and users too."""
    log = shop_log()
    store = ingested(log, tmp_path / "store")
    before = store.digest(AS_OF)
    more = pd.concat([future_rows(seed, AS_OF, log) for seed in (1, 2, 3)])
    more["event_id"] = [f"future {number}" for number in range(len(more))]
    bought = more[(as_micros(more["ts"]) < AS_OF) & (more["kind"] == "purchase")]
    assert len(bought) > 50
    # Outcomes that training would love to know: everyone buys in the days after the moment.
    names = log["user_id"].unique()
    tomorrow = pd.DataFrame(
        {"user_id": names, "ts": stamps(np.full(len(names), AS_OF)), "kind": "purchase", "item_id": "i1"}
    )
    ingest_frame(pd.concat([more, tomorrow]), tmp_path / "store")
    after = Store.open(tmp_path / "store")
    assert after.rows == len(log) + len(more) + len(tomorrow)
    assert after.digest(AS_OF) == before
    assert digest(trained_churn(after), trained_cross_sell(after), tmp_path) == expected
    tell(rows_appended=len(more) + len(tomorrow))


@pytest.mark.slow
def test_users_of_the_future_do_not_decide_how_much_is_trained_on(tmp_path: Path) -> None:
    """A cap on rows is shared among the users known before the moment."""
    log = shop_log()
    store = ingested(log, tmp_path / "store")
    rows = trained_churn(store, most_rows=1_000).rows
    assert rows < trained_churn(store).rows
    new = pd.DataFrame(
        {"user_id": [f"new {i}" for i in range(400)], "ts": stamps(np.full(400, AS_OF)), "kind": "purchase"}
    )
    assert trained_churn(ingested(new, tmp_path / "store"), most_rows=1_000).rows == rows


def test_an_earlier_moment_is_as_if_the_log_ended_there(tmp_path: Path) -> None:
    """Training as of a moment on the whole log and on the log cut there, to the byte."""
    log, moment = shop_log(), at("2024-02-10T12:00")
    whole = ingested(log, tmp_path / "whole")
    cut = ingested(log[as_micros(log["ts"]) < moment], tmp_path / "cut")
    first = digest(trained_churn(whole, as_of=moment), trained_cross_sell(whole, as_of=moment), tmp_path / "a")
    assert digest(trained_churn(cut, as_of=moment), trained_cross_sell(cut, as_of=moment), tmp_path / "b") == first


def test_the_backtest_is_blind_to_the_days_after_its_moment(shop: Store, churn_run: ChurnRun, tmp_path: Path) -> None:
    """A test moment's scores are those of a log in which next to nothing happened after it."""
    test = churn_run.schedule.tests[0]
    log = shop_log()
    cut = ingested(log[as_micros(log["ts"]) < test], tmp_path / "cut")
    one_day = pd.DataFrame(
        {"user_id": ["u1"], "ts": stamps(np.array([AS_OF - DAY_US])), "kind": "purchase", "item_id": "i1"}
    )
    again = trained_churn(ingested(one_day, tmp_path / "cut"))
    assert (again.backtest[0].scores["churn-model"] == churn_run.backtest[0].scores["churn-model"]).all()
    assert cut.rows < shop.rows
