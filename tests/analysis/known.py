"""The slow and obvious way: what a log tells of every user at a moment, one frame a question."""

import numpy as np
import pandas as pd

from features.audience.stages import STAGES, Borders
from features.events.columns import NOT_BY_USER
from tests.features.support import DAY_US, as_micros


def known(log: pd.DataFrame, moment: int) -> pd.DataFrame:
    """The rows known at a moment, with `at` in µs."""
    rows = log.assign(at=as_micros(log["ts"]))
    arrived = rows["at"]
    if "arrived_at" in rows:
        arrived = pd.Series(as_micros(rows["arrived_at"].fillna(rows["ts"])), rows.index)
    return rows[(rows["at"] < moment) & (arrived <= moment)]


def made(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[~rows["kind"].isin(NOT_BY_USER)]


def orders(rows: pd.DataFrame) -> pd.Series:
    """Distinct orders a user; a purchase without an order id is one."""
    bought = rows[rows["kind"] == "purchase"]
    own = pd.Series([f"row {n}" for n in range(len(bought))], bought.index)
    named = bought["order_id"].fillna(own) if "order_id" in bought else own
    return named.groupby(bought["user_id"]).nunique()


def stages(log: pd.DataFrame, moment: int, borders: Borders) -> pd.Series:
    """Stage of every user with a known event."""
    rows = known(log, moment)
    count = orders(rows)
    last = rows[rows["kind"] == "purchase"].groupby("user_id")["at"].max()
    out = {}
    for user in rows["user_id"].unique():
        if user.startswith("device:"):
            out[user] = "anonymous"
        elif user not in count:
            out[user] = "registered"
        else:
            silent = (moment - last[user]) / DAY_US
            by_orders = (
                "maturity"
                if count[user] >= borders.maturity_orders
                else "growth"
                if count[user] > borders.introduction_orders
                else "introduction"
            )
            late = "lost" if silent > borders.lost_days else "dormancy" if silent > borders.dormant_days else None
            out[user] = late or by_orders
    assert set(out.values()) <= set(STAGES)
    return pd.Series(out, dtype=object)


def came(log: pd.DataFrame, moment: int) -> pd.Series:
    """µs at which each user came: the first registration, else the first event."""
    rows = known(log, moment)
    registered = rows[rows["kind"] == "register"].groupby("user_id")["at"].min()
    return registered.reindex(rows["user_id"].unique()).fillna(rows.groupby("user_id")["at"].min()).astype(np.int64)
