"""Stages: every user in exactly one, borders learned or given, nothing of the future, in any order."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from features.audience.learn import WITHIN_DAYS, Learned, learn
from features.audience.stages import DEFAULT, STAGES, Borders, StageTable, borders_of, load_stages, stages_at
from features.errors import UserError
from features.events import columns as c
from features.events.store import Store
from features.tables import parse_table
from tests.features.audience.who import who
from tests.features.events.anonymous import with_devices
from tests.features.support import DAY_US, RANDOM_MOMENTS, as_micros, at, ingest_frame, ingest_rows
from tests.features.test_no_future import corrections, future_rows, split
from tests.randomlog import random_log

BORDERS = Borders(dormant_days=30, lost_days=90, maturity_orders=3)
TEXT = DEFAULT.read_text("utf-8")
ASKED = at("2024-06-01")
LEARNED = Learned(
    as_of=ASKED,
    days=400,
    users=900,
    customers=800,
    repeaters=500,
    gap_days=tuple(float(days) for days in range(1, 100)),
    reached=(800,) * 12,
    again=tuple(tuple(0.5 + 0.04 * n for _ in WITHIN_DAYS) for n in range(12)),
    recency_days=(1, 2, 3, 4),
    orders=(1, 2, 3, 4),
    spend=(1, 2, 3, 4),
    value=tuple(float(cut) for cut in range(1, 10)),
)


def stages_of(store: Store, moment: int, borders: Borders = BORDERS, rows: int = 250_000) -> dict[str, str | None]:
    out: dict[str, str | None] = {}
    for timeline in store.timelines(rows):
        codes = stages_at(timeline, timeline.as_of([moment])[0], borders).tolist()
        out |= dict(zip(timeline.user_ids.to_pylist(), [STAGES[k] if k >= 0 else None for k in codes], strict=True))
    return out


def table(old: str = "", new: str = "") -> StageTable:
    assert old in TEXT
    return parse_table(TEXT.replace(old, new, 1), StageTable, "stages.toml")


# ---------------------------------------------------------------------------------------------------- hand-made


def test_each_stage_by_hand(tmp_path: Path) -> None:
    bought = {
        "once": ["2024-05-20"],
        "twice": ["2024-05-20", "2024-05-21"],
        "thrice": ["2024-01-01", "2024-01-02", "2024-05-20"],
        "silent for 30 days": ["2024-05-02"],
        "silent for longer": ["2024-05-01 23:59:59.999999"],
        "mature but silent": ["2024-04-01", "2024-04-02", "2024-04-03", "2024-04-04"],
        "silent for 90 days": ["2024-03-03"],
        "lost": ["2024-03-02 23:59:59"],
        "of tomorrow": ["2024-06-01"],
    }
    rows = [{"user_id": user, "ts": day, "kind": "purchase"} for user, days in bought.items() for day in days]
    rows += [{"user_id": "looks", "ts": "2023-01-01", "kind": "view"}]
    rows += [{"user_id": "was written to", "ts": "2023-01-01", "kind": "message_sent"}]
    rows += [{"device_id": "d", "ts": "2024-05-30", "kind": "purchase"}]
    store = ingest_rows(rows, tmp_path / "store").store
    assert store is not None
    assert stages_of(store, ASKED) == {
        "once": "introduction",
        "twice": "growth",
        "thrice": "maturity",
        "silent for 30 days": "introduction",
        "silent for longer": "dormancy",
        "mature but silent": "dormancy",
        "silent for 90 days": "dormancy",
        "lost": "lost",
        "of tomorrow": None,
        "looks": "registered",
        "was written to": "registered",
        "device:d": "anonymous",
    }
    later = stages_of(store, ASKED, replace(BORDERS, introduction_orders=2, maturity_orders=5))
    assert (later["twice"], later["thrice"]) == ("introduction", "growth")


def test_lines_of_one_order_are_one_order(tmp_path: Path) -> None:
    rows = [{"user_id": "u", "ts": "2024-05-20", "kind": "purchase", "order_id": "o"} for _ in range(5)]
    store = ingest_rows(rows, tmp_path / "store").store
    assert store is not None
    assert stages_of(store, ASKED) == {"u": "introduction"}


def test_a_mature_customer_who_comes_back_is_mature_again(tmp_path: Path) -> None:
    days = ["2024-01-01", "2024-01-05", "2024-01-09", "2024-05-31"]
    rows = [{"user_id": "u", "ts": day, "kind": "purchase"} for day in days]
    store = ingest_rows(rows, tmp_path / "store").store
    assert store is not None
    moments = ["2024-01-01", "2024-01-02", "2024-01-06", "2024-01-10", "2024-03-01", "2024-05-01", "2024-06-01"]
    seen = [stages_of(store, at(moment))["u"] for moment in moments]
    assert seen == [None, "introduction", "growth", "maturity", "dormancy", "lost", "maturity"]


# ------------------------------------------------------------------------------- against what is slow and obvious


def slow_stage(user: str, rows: pd.DataFrame, moment: int, borders: Borders) -> str:
    if user.startswith(c.ANONYMOUS):
        return "anonymous"
    bought = rows[rows["kind"] == "purchase"]
    if bought.empty:
        return "registered"
    silent = (moment - as_micros(bought["ts"]).max()) / DAY_US
    orders = bought["order_id"].nunique() + int(bought["order_id"].isna().sum())
    if silent > borders.dormant_days:
        return "lost" if silent > borders.lost_days else "dormancy"
    return "introduction" if orders <= 1 else "growth" if orders < borders.maturity_orders else "maturity"


@pytest.mark.parametrize("moment", RANDOM_MOMENTS)
def test_every_user_is_in_exactly_the_stage_of_the_definition(
    moment: int, tmp_path: Path, tell: Callable[..., None]
) -> None:
    log = random_log(41, 90, 1_500)
    store = ingest_frame(log, tmp_path / "store").store
    assert store is not None
    by_user = split(log, moment).groupby("user_id")
    expected = {str(user): slow_stage(str(user), known, moment, BORDERS) for user, known in by_user}
    found = stages_of(store, moment)
    assert {user: stage for user, stage in found.items() if stage is not None} == expected
    assert len(set(expected.values())) >= 5
    tell(users=len(expected), **Counter(expected.values()))


# ------------------------------------------------------------------------------------------------------- borders


def test_borders_are_learned_from_the_quantiles_stated() -> None:
    assert borders_of(table(), LEARNED) == Borders(80, 160, 10)  # loss at 97 days would be under twice the dormancy
    assert borders_of(table("dormant_quantile = 0.8", "dormant_quantile = 0.2"), LEARNED).lost_days == 97
    assert borders_of(table("again_share = 0.85", "again_share = 0.6"), LEARNED).maturity_orders == 4
    assert borders_of(table("again_share = 0.85", "again_share = 0.1"), LEARNED).maturity_orders == 3  # growth between
    assert borders_of(table("again_share = 0.85", "again_share = 0.99"), LEARNED).maturity_orders == 12
    daily = replace(LEARNED, gap_days=(1.0,) * 99)
    assert borders_of(table(), daily) == Borders(7, 14, 10)


def test_borders_given_stand_and_learned_ones_give_way() -> None:
    assert borders_of(table('dormant_days = "learned"', "dormant_days = 45"), LEARNED) == Borders(45, 160, 10)
    assert borders_of(table('dormant_days = "learned"', "dormant_days = 300"), LEARNED) == Borders(300, 301, 10)
    assert borders_of(table('lost_days = "learned"', "lost_days = 50"), LEARNED) == Borders(49, 50, 10)
    assert borders_of(table('maturity_orders = "learned"', "maturity_orders = 2"), LEARNED).maturity_orders == 2
    assert borders_of(table("introduction_orders = 1", "introduction_orders = 3"), LEARNED) == Borders(80, 160, 10, 3)


def test_a_shop_with_little_history_has_the_fallback() -> None:
    assert borders_of(table(), replace(LEARNED, days=59)) == Borders(60, 180, 5)
    assert borders_of(table(), replace(LEARNED, repeaters=0, gap_days=())) == Borders(60, 180, 5)
    given = table('dormant_days = "learned"', "dormant_days = 20")
    assert borders_of(given, replace(LEARNED, days=59)) == Borders(20, 180, 5)


MISTAKES = {
    ('dormant_days = "learned"', 'dormant_days = "lerned"'): "borders, dormant_days is 'lerned': use a whole",
    ('dormant_days = "learned"', "dormant_days = 0"): "borders, dormant_days is 0: use a whole number from 1",
    ('dormant_days = "learned"', "dormant = 3"): "borders, dormant is not a setting; there are introduction_orders",
    ('lost_days = "learned"', "#"): "borders, lost_days is missing",
    ("dormant_days = 60", "dormant_days = 180"): "fallback, dormant_days is 180: it must be below lost_days, 180",
    ("dormant_quantile = 0.8 ", "dormant_quantile = 0.98 "): "learning, dormant_quantile is 0.98: it must be below",
    ("lost_quantile = 0.97", "lost_quantile = 1.0"): "learning, lost_quantile is 1.0",
    ('maturity_orders = "learned"', "maturity_orders = 1"): "borders, maturity_orders is 1: it must be above intro",
    ("{ reactivated", "{ reactivation"): "stages, dormancy, targets, reactivation is 'reactivation'; use 'activat",
    ("{ reactivated = 0.25", "{ reactivated = 25"): "stages, dormancy, targets, reactivated is 25",
    ("[stages.lost]", "[stages.gone]"): "stages, gone is not a setting; there are anonymous, registered",
}


@pytest.mark.parametrize("change", MISTAKES)
def test_a_mistake_is_told_with_its_line_and_the_valid_words(change: tuple[str, str]) -> None:
    with pytest.raises(UserError) as told:
        table(*change)
    message = MISTAKES[change]
    around = "[borders]" if message.endswith("missing") else change[0]  # the table that lacks it
    line = TEXT[: TEXT.index(around)].count("\n") + 1
    assert str(told.value).startswith(f"stages.toml:{line}: {message}")


def test_our_table_names_every_stage_in_both_languages(tmp_path: Path) -> None:
    ours = load_stages()
    assert len({ours.text(stage).zh for stage in STAGES}) == len(STAGES)
    assert all(ours.text(stage).en and ours.text(stage).goal_zh for stage in STAGES)
    assert ours.text("dormancy").targets == {"reactivated": 0.25}
    own = tmp_path / "own.toml"
    own.write_text(TEXT.replace('dormant_days = "learned"', "dormant_days = 30"), "utf-8")
    assert load_stages(own).borders.dormant_days == 30


# ----------------------------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize("seed", [42, 43])
def test_no_row_of_the_future_changes_who_a_user_is(seed: int, tmp_path: Path, tell: Callable[..., None]) -> None:
    """Stages, scores, segments, tiers, points and newcomers, by facts learned at the same moment."""
    moment = RANDOM_MOMENTS[seed % 2]
    known = split(with_devices(random_log(seed, 60, 2_000), seed), moment)
    future = pd.concat([future_rows(seed, moment, known), corrections(known, moment)]).dropna(subset=["user_id"])
    past = ingest_frame(known, tmp_path / "past").store
    both = ingest_frame(pd.concat([known, future]).sample(frac=1, random_state=1), tmp_path / "both").store
    assert past is not None
    assert both is not None
    expected = who(past, learn(past, moment), moment)
    assert who(both, learn(both, moment), moment) == expected
    later = moment + 100 * DAY_US
    assert who(both, learn(both, moment), later) != who(past, learn(past, moment), later)
    tell(users=len(expected), rows_of_the_future=len(future))


def test_order_names_buckets_and_company_change_nobody(tmp_path: Path, tell: Callable[..., None]) -> None:
    moment = RANDOM_MOMENTS[1]
    log = with_devices(random_log(44, 60, 2_000), 44)
    store = ingest_frame(log, tmp_path / "store").store
    mixed = ingest_frame(log.sample(frac=1, random_state=2), tmp_path / "mixed").store
    ingest_frame(log[1::2], tmp_path / "two")
    two = ingest_frame(log[::2], tmp_path / "two").store
    assert store is not None
    assert mixed is not None
    assert two is not None
    learned = learn(store, moment)
    expected = who(store, learned, moment)
    for other in (mixed, two):
        assert who(other, learn(other, moment), moment) == expected
    for rows in (1, 97):
        assert who(store, learned, moment, rows=rows) == expected
    for user in list(expected)[:20]:
        assert who(two, learned, moment, users=[user]) == {user: expected[user]}
    names = {user: f"{user[::-1]} of old" for user in log["user_id"].dropna().unique()}
    renamed = ingest_frame(log.assign(user_id=log["user_id"].map(names)), tmp_path / "names").store
    assert renamed is not None
    assert who(renamed, learned, moment) == {names.get(user, user): row for user, row in expected.items()}
    tell(users=len(expected))


def test_moments_asked_together_do_not_see_each_other(small_store: Store) -> None:
    alone = [stages_of(small_store, moment) for moment in RANDOM_MOMENTS]
    for timeline in small_store.timelines():
        for moment, seen in zip(timeline.as_of(RANDOM_MOMENTS), alone, strict=True):
            codes = stages_at(timeline, moment, BORDERS).tolist()
            assert [STAGES[k] if k >= 0 else None for k in codes] == [seen[u] for u in timeline.user_ids.to_pylist()]
