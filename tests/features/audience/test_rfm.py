"""RFM: scores, the eight classes, tenths of value."""

from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.audience.learn import WINDOW_DAYS, learn
from features.audience.rfm import SEGMENTS, Cuts, deciles_at, rfm_scores, segments_of
from features.audience.segments import cuts_of, load_segments
from features.events.store import Store
from tests.features.support import DAY_US, RANDOM_MOMENTS, as_micros, at, ingest_frame, ingest_rows
from tests.features.test_no_future import split
from tests.randomlog import random_log

CUTS = Cuts((10, 20, 30, 40), (1, 1, 2, 5), (5, 10, 50, 100), (1, 2, 5, 10, 20, 50, 100, 200, 500))
ASKED = at("2024-06-01")


def scores_of(store: Store, cuts: Cuts, moment: int) -> dict[str, tuple[list[int], int]]:
    """Scores and tenth by user."""
    out: dict[str, tuple[list[int], int]] = {}
    for timeline in store.timelines():
        asked = timeline.as_of([moment])[0]
        scores, tenths = rfm_scores(asked, cuts).tolist(), deciles_at(asked, cuts).tolist()
        out |= dict(zip(timeline.user_ids.to_pylist(), zip(scores, tenths, strict=True), strict=True))
    return out


def purchase(user: str, day: str, amount: float, order: str | None = None) -> dict[str, object]:
    return {"user_id": user, "ts": day, "kind": "purchase", "amount": amount, "order_id": order}


def test_scores_by_hand(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        purchase("at the first border", "2024-05-22", 5, "a"),
        purchase("beyond it", "2024-05-21 23:59:59", 5.01, "b"),
        purchase("two orders", "2024-05-31", 4, "c"),
        purchase("two orders", "2024-05-01", 6.01, "d"),
        purchase("two lines", "2024-05-31", 4, "e"),
        purchase("two lines", "2024-05-31", 4, "e"),
        *(purchase("best", f"2024-05-{day}", 100, f"f{day}") for day in range(10, 32)),
        purchase("old glory", "2023-05-01", 9_999, "g"),
        {"user_id": "looks", "ts": "2024-05-01", "kind": "view"},
        purchase("of tomorrow", "2024-06-01", 9, "h"),
    ]
    store = ingest_rows(rows, tmp_path / "store").store
    assert store is not None
    assert scores_of(store, CUTS, ASKED) == {
        "at the first border": ([5, 1, 1], 3),
        "beyond it": ([4, 1, 2], 4),
        "two orders": ([5, 3, 3], 5),  # as two cuts are 1 order, nobody has a 2
        "two lines": ([5, 1, 2], 4),
        "best": ([5, 5, 5], 10),
        "old glory": ([1, 1, 1], 10),  # orders and spend are of the last year, value of all time
        "looks": ([0, 0, 0], 0),
        "of tomorrow": ([0, 0, 0], 0),
    }


def slow_score(value: float, cuts: tuple[float, ...]) -> int:
    return 1 + sum(value > cut for cut in cuts)


@pytest.mark.parametrize("moment", RANDOM_MOMENTS)
def test_scores_of_a_random_log_against_the_definition(moment: int, tmp_path: Path, tell: Callable[..., None]) -> None:
    log = random_log(51, 90, 2_500, price=False)
    store = ingest_frame(log, tmp_path / "store").store
    assert store is not None
    cuts = cuts_of(load_segments(), learn(store, moment))
    found = scores_of(store, cuts, moment)
    bought = split(log, moment).query("kind == 'purchase'")
    for user, rows in bought.groupby("user_id"):
        year = rows[as_micros(rows["ts"]) >= moment - WINDOW_DAYS * DAY_US]
        orders = year["order_id"].nunique() + year["order_id"].isna().sum()
        silent = (moment - as_micros(rows["ts"]).max()) / DAY_US
        scores = [6 - slow_score(silent, cuts.recency_days), slow_score(orders, cuts.orders), spent(year, cuts.spend)]
        assert found.pop(str(user)) == (scores, spent(rows, cuts.value))
    assert {tuple(scores) for scores, _ in found.values()} <= {(0, 0, 0)}
    tell(customers=bought["user_id"].nunique())


def spent(rows: pd.DataFrame, cuts: tuple[float, ...]) -> int:
    """The score of what rows cost; money is kept in 1/10,000."""
    amount = np.round(rows["amount"].fillna(0).to_numpy() * 10_000).sum() / 10_000
    return slow_score(float(amount), cuts)


def test_a_higher_score_is_never_given_for_less(tmp_path: Path) -> None:
    """With any cuts, also those that coincide."""
    users = range(8)
    rows = [purchase(f"u{n}", f"2024-05-{31 - n}", n, f"{n}-{k}") for n in users for k in range(n + 1)]
    store = ingest_rows(rows, tmp_path / "store").store
    assert store is not None
    rng = np.random.default_rng(5)
    for _ in range(30):
        cuts = tuple(np.sort(rng.integers(0, 9, 4)).astype(float))
        found = scores_of(store, Cuts(cuts, cuts, cuts, (0.0,) * 9), ASKED)
        scores = np.array([found[f"u{n}"][0] for n in users])
        assert (np.diff(scores, axis=0) * (-1, 1, 1) >= 0).all()
        assert (scores >= 1).all()
        assert (scores <= 5).all()
        assert scores[:, 1].tolist() == [slow_score(n + 1, cuts) for n in users]


def test_fifths_and_tenths_of_customers_are_even_where_values_differ(tmp_path: Path) -> None:
    rows = [purchase(f"u{n}", f"2024-0{1 + n // 28}-{1 + n % 28:02}", 1 + n, f"o{n}") for n in range(100)]
    store = ingest_rows(rows, tmp_path / "store").store
    assert store is not None
    found = scores_of(store, cuts_of(load_segments(), learn(store, ASKED)), ASKED)
    assert Counter(scores[0] for scores, _ in found.values()) == dict.fromkeys(range(1, 6), 20)
    assert Counter(scores[2] for scores, _ in found.values()) == dict.fromkeys(range(1, 6), 20)
    assert Counter(tenth for _, tenth in found.values()) == dict.fromkeys(range(1, 11), 10)
    assert {scores[1] for scores, _ in found.values()} == {1}  # everybody ordered once: nobody is above another
    assert found["u99"] == ([5, 1, 5], 10)


def test_the_eight_classes() -> None:
    names = {
        (5, 5, 5): "important_value",
        (5, 1, 5): "important_develop",
        (1, 5, 5): "important_keep",
        (1, 1, 5): "important_win_back",
        (5, 5, 1): "general_value",
        (5, 1, 1): "general_develop",
        (1, 5, 1): "general_keep",
        (1, 1, 1): "general_win_back",
    }
    codes = segments_of(np.array(list(names), np.int8), 4)
    assert [SEGMENTS[code] for code in codes] == list(names.values())
    assert segments_of(np.array([[3, 3, 3], [4, 4, 4], [0, 0, 0]], np.int8), 4).tolist() == [7, 0, -1]
    every = np.array(list(product(range(1, 6), repeat=3)), np.int8)
    assert Counter(segments_of(every, 3).tolist()).keys() == set(range(8))
    assert (segments_of(every, 3) >= 0).all()
