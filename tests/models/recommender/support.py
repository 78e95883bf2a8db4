"""Small shops for the recommender's tests."""

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from models.recommender import DAY_US, Blend, Catalogue, History, Mode, Recommender
from models.recommender.popular import Popular
from models.recommender.repeat import Repeat
from models.recommender.similar_als import SimilarAls
from models.recommender.similar_items import SimilarItems

NOW = 1_000 * DAY_US
NOBODY: tuple[NDArray[np.int32], NDArray[np.int64]] = (np.zeros(0, np.int32), np.zeros(0, np.int64))


def days_ago(*days: float) -> NDArray[np.int64]:
    """Times so many days before NOW."""
    return np.array([NOW - round(day * DAY_US) for day in days], np.int64)


def tiny() -> Recommender:
    """Five items a…e made by hand. c and d are near b; a is most popular, then b, and e was sold only long ago."""
    factors = np.array([[1, 0, 0, 0, 0], [0, 1, 2, 0, 0]], np.float32)
    exact = factors.astype(np.float64)
    blends: dict[Mode, Blend] = {
        "all": Blend({"repeat": 1.0, "similar_items": 0.5, "popular": 0.01}),
        "cross_sell": Blend({"similar_als": 1.0, "similar_items": 0.5, "popular": 0.01}),
    }
    return Recommender(
        Catalogue(("a", "b", "c", "d", "e")),
        NOW,
        Repeat(5, half_life_days=60),
        SimilarAls(factors, exact @ exact.T, alpha=2.0, regularization=0.5, half_life_days=60),
        SimilarItems(
            np.array([0, 0, 2, 3, 3, 3], np.int64),
            np.array([2, 3, 1], np.int32),
            np.array([0.5, 0.25, 0.5], np.float32),
            half_life_days=60,
            weighting="tfidf",
        ),
        Popular(np.array([4, 2, 2, 1, 0], np.int32), np.array([4, 3, 4, 1, 2], np.int32), NOW, 30),
        blends,
    )


def shop(seed: int = 3, users: int = 60, items: int = 40, lines: int = 3_000) -> tuple[Catalogue, History]:
    """A random shop of 240 days up to NOW in which users keep to a few favourites of their group's half."""
    random = np.random.default_rng(seed)
    user = random.integers(users, size=lines)
    favourite = (user * 7 + random.integers(4, size=lines)) % (items // 2)
    browsed = random.integers(items // 2, size=lines)
    item = np.where(random.random(lines) < 0.5, favourite, browsed) + (user % 2) * (items // 2)
    # Whole hours, so that many lines share an instant and ties are real.
    ts = NOW - random.integers(1, 240 * 24, size=lines) * (DAY_US // 24)
    names = np.array([f"u{number:03d}" for number in user])
    return Catalogue(tuple(f"i{number:04d}" for number in range(items))), History.of(names, item.astype(np.int32), ts)


def coded(lines: dict[str, Any], moment: int, horizon_days: int = 30) -> tuple[Catalogue, History]:
    """Purchase lines (user, item, ts in µs) up to the end of the horizon, over the items known before the moment."""
    user, item = np.asarray(lines["user"], np.str_), np.asarray(lines["item"], np.str_)
    ts = np.asarray(lines["ts"], np.int64)
    catalogue = Catalogue.of(item[ts < moment].tolist())
    codes = catalogue.codes(item.tolist())
    keep = (codes >= 0) & (ts < moment + horizon_days * DAY_US)
    return catalogue, History.of(user[keep], codes[keep], ts[keep])


def online_retail_lines(path: Path) -> dict[str, Any]:
    """Online Retail II, cleaned as the protocol says."""
    query = """
        SELECT cast("Customer ID" AS varchar) AS user, StockCode AS item, epoch_us(InvoiceDate) AS ts
        FROM read_parquet(?)
        WHERE "Customer ID" IS NOT NULL AND Quantity > 0 AND Price > 0 AND NOT starts_with(Invoice, 'C')
    """
    with duckdb.connect() as connection:
        return dict(connection.execute(query, [str(path)]).fetchnumpy())
