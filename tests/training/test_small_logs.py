"""Small logs of dates and amounts, where recency and BG/NBD are hard to beat: the model may not lose to them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from models.bgnbd import BgNbd
from tests.features.support import DAY_US, at, stamps
from tests.shop import ingested
from training import metrics
from training.churn import MODEL, ChurnRun, select, train_churn
from training.recipes import load_recipe

MARGIN = 0.003  # AUC
START, DAYS = at("2023-01-01"), 420


def process_log(model: BgNbd, users: int, seed: int) -> pd.DataFrame:
    """BG/NBD's own world: nothing but it could know more than its expected purchases do."""
    rng = np.random.default_rng(seed)
    rate, drop = rng.gamma(model.r, 1 / model.alpha, users), rng.beta(model.a, model.b, users)
    rows: list[tuple[str, float]] = []
    for user, day in enumerate(rng.uniform(0, DAYS * 0.7, users)):
        while day < DAYS:
            rows.append((f"u{user}", day))
            if rng.random() < drop[user]:
                break
            day += rng.exponential(1 / rate[user])
    names, days = zip(*rows, strict=True)
    ts = stamps(START + (np.array(days) * DAY_US).astype(np.int64))
    return pd.DataFrame(
        {"user_id": names, "ts": ts, "kind": "purchase", "amount": rng.gamma(4, 10, len(rows)).round(2)}
    )


def worst_margin(run: ChurnRun) -> float:
    """AUC above the better of recency and BG/NBD's expected purchases, at the moment where it is least."""
    return min(
        result.figures[MODEL]["auc"]
        - max(metrics.auc(result.matrix.churned, result.scores[n]) for n in ("recency", "bg-nbd"))
        for result in run.backtest
    )


@pytest.mark.slow
def test_in_the_world_of_bg_nbd_the_plain_score_is_chosen(tmp_path: Path, tell: Callable[..., None]) -> None:
    store = ingested(process_log(BgNbd(r=2.0, alpha=60.0, a=0.8, b=2.5), 1_000, 1), tmp_path / "store")
    recipe = load_recipe("churn") | {"test_moments": 5, "horizons": [30], "rounds": 60, "stride_days": 30}
    run = train_churn(store, as_of=START + DAYS * DAY_US, recipe=recipe, threads=1)
    assert len(run.backtest) == 5
    assert run.model.plain_share >= 0.5
    boosters = [
        metrics.auc(
            r.matrix.churned, replace(r.model, plain_share=0.0).score(select(r.matrix, r.model), r.matrix.as_of)
        )
        for r in run.backtest
    ]
    tell(worst_margin=round(worst_margin(run), 4), mean_auc=round(run.mean(MODEL, "auc"), 4), boosters=boosters)
    assert run.mean(MODEL, "auc") >= run.mean("bg-nbd", "auc") - MARGIN
    assert run.mean(MODEL, "auc") > np.mean(boosters)


@pytest.mark.slow
def test_two_thousand_customers_of_online_retail(
    online_retail: Path, tmp_path: Path, tell: Callable[..., None]
) -> None:
    """An order a row; no item, no order id, no refund."""
    lines = pq.read_table(online_retail).to_pandas()
    lines = lines[lines["Customer ID"].notna() & (lines["Quantity"] > 0) & (lines["Price"] > 0)]
    lines = lines[~lines["Invoice"].astype(str).str.startswith("C")]
    lines = lines.assign(
        user_id=lines["Customer ID"].astype(int).astype(str), amount=lines["Quantity"] * lines["Price"]
    )
    names = np.sort(lines["user_id"].unique())
    lines = lines[lines["user_id"].isin(np.random.default_rng(1).choice(names, 2_000, replace=False))]
    log = lines.groupby(["user_id", "InvoiceDate", "Invoice"], as_index=False)["amount"].sum()
    log = log.assign(kind="purchase", ts=log["InvoiceDate"].astype("datetime64[us]"), amount=log["amount"].round(4))
    store = ingested(log[["user_id", "ts", "kind", "amount"]], tmp_path / "store")
    for horizon in (30, 90):
        run = train_churn(store, as_of=at("2011-12-09"), horizon=horizon)
        tell(horizon=horizon, moments=len(run.backtest), worst_margin=round(worst_margin(run), 4))
        assert len(run.backtest) >= 5
        assert worst_margin(run) >= -MARGIN
