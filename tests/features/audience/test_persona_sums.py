"""The figures of personas and reports are those of a slow and obvious computation with pandas."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.audience.persona import Share
from features.events import columns as c
from tests.features.audience.test_persona import UNIT, all_of
from tests.features.support import RANDOM_MOMENTS, ingest_frame
from tests.features.test_no_future import split
from tests.randomlog import random_items, random_log


def stored(values: pd.Series) -> pd.Series:
    """Numbers as stored: units of 1/10,000, rounded half up; NaN stays."""
    return (values.astype(float) * UNIT + 0.5).map(np.floor)


def purchases_of(rows: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """Purchase lines with what they cost, their category, and when their order began."""
    bought = rows[rows["kind"] == "purchase"].copy()
    quantity = stored(bought["quantity"]).fillna(UNIT)
    product = (stored(bought["price"]) * quantity + UNIT // 2) // UNIT
    bought["paid"] = stored(bought["amount"]).fillna(product).fillna(0)
    bought["pieces"], bought["off"] = quantity, stored(bought["discount"]).fillna(0)
    bought["shelf"] = bought["category"].fillna(bought["item_id"].map(items.set_index("item_id")["category"]))
    alone = pd.Series([f"alone {i}" for i in range(len(bought))], bought.index)
    bought["order"] = bought["order_id"].fillna(alone)
    bought["began"] = bought.groupby("order")["ts"].transform("min")
    return bought


def told(bought: pd.DataFrame, start: pd.Timestamp, stop: pd.Timestamp) -> dict[str, Any]:
    """Figures of the orders and lines in `[start, stop)`."""
    within = bought[(bought["ts"] >= start) & (bought["ts"] < stop)]
    began = bought[(bought["began"] >= start) & (bought["began"] < stop)]
    first = bought.dropna(subset="shelf").groupby("shelf")["ts"].min()
    new = sorted((ts, shelf) for shelf, ts in first.items() if start <= ts < stop)
    return {
        "orders": began["order"].nunique(),
        "items": within["item_id"].nunique(),
        "spend": int(within["paid"].sum()) / UNIT,
        "saved": int(within["off"].sum()) / UNIT,
        "categories": within["shelf"].nunique(),
        "new_categories": tuple(shelf for _, shelf in new),
        "favourite_category": next(iter(ranked(within.groupby("shelf")["paid"].sum())), (None, 0))[0],
    }


def ranked(sums: pd.Series) -> list[tuple[str, int]]:
    return sorted(((str(name), int(n)) for name, n in sums.items() if n), key=lambda pair: (-pair[1], pair[0]))


def shares(sums: pd.Series) -> tuple[Share, ...]:
    total = sum(n for _, n in ranked(sums))
    return tuple(Share(name, n / total) for name, n in ranked(sums)[:5])


@pytest.mark.parametrize("moment", RANDOM_MOMENTS[1:])
def test_figures_are_those_of_pandas(moment: int, tmp_path: Path, tell: Callable[..., None]) -> None:
    log, items = random_log(31, 6, 400), random_items(31)
    found = all_of(ingest_frame(log, tmp_path / "store", items=items).store, moment)
    known = split(log, moment)
    assert {user for user, persona in found.items() if persona} == set(known["user_id"])
    end = pd.Timestamp(moment, unit="us")
    reports = 0
    for user, rows in known.groupby("user_id"):
        persona = found[str(user)]
        assert persona is not None
        bought = purchases_of(rows, items)
        whole = told(bought, pd.Timestamp(0), end)
        assert {name: getattr(persona, name) for name in ("orders", "items", "spend", "saved")}.items() <= whole.items()
        assert persona.by_spend == shares(bought.groupby("shelf")["paid"].sum())
        assert persona.breadth is not None
        assert tuple(new.category for new in persona.breadth.grew_by) == whole["new_categories"]
        for report in (*persona.months, *persona.years):
            period = pd.Period(report.period)
            stop = min((period + 1).start_time, end)
            assert {n: getattr(report, n) for n in whole} == told(bought, period.start_time, stop), report.period
            reports += 1
    tell(reports_compared=reports)


@pytest.mark.parametrize("moment", RANDOM_MOMENTS[:2])
def test_views_hours_prices_and_refunds_are_those_of_pandas(moment: int, tmp_path: Path) -> None:
    log, items = random_log(32, 20, 900), random_items(32)
    found = all_of(ingest_frame(log, tmp_path / "store", items=items).store, moment)
    shelf = items.set_index("item_id")["category"]
    for user, rows in split(log, moment).groupby("user_id"):
        persona = found[str(user)]
        assert persona is not None
        viewed = rows[rows["kind"] == "view"]
        assert persona.views == len(viewed)
        assert persona.by_views == shares(viewed["category"].fillna(viewed["item_id"].map(shelf)).value_counts())
        assert persona.coupons_used == (rows["kind"] == "coupon_used").sum()
        refunds = purchases_of(rows[rows["kind"] == "refund"].assign(kind="purchase"), items)
        assert persona.refunded == int(refunds["paid"].sum()) / UNIT
        made = rows[~rows["kind"].isin(c.NOT_BY_USER)]["ts"]
        assert persona.weekdays == tuple(weekday_counts(made))
        assert persona.hours == tuple(map(tuple, hour_counts(made)))
        lines = purchases_of(rows, items)
        paid = lines[(lines["paid"] > 0) & (lines["pieces"] > 0)]
        prices = sorted(paid["paid"] / paid["pieces"])
        if prices:
            assert persona.price_band is not None
            places = [max(-(-len(prices) * tenths // 10), 1) - 1 for tenths in (1, 5, 9)]
            assert [*vars(persona.price_band).values()] == pytest.approx([prices[place] for place in places])
        else:
            assert persona.price_band is None


def weekday_counts(made: pd.Series) -> list[int]:
    days = Counter(day.weekday() for day in {ts.date() for ts in made})
    return [days[day] for day in range(7)]


def hour_counts(made: pd.Series) -> list[list[int]]:
    hours = {(ts.date(), ts.hour) for ts in made if ts != ts.normalize()}
    count = Counter((date.weekday(), hour) for date, hour in hours)
    return [[count[day, hour] for hour in range(24)] for day in range(7)]
