"""Needs of the simulated shop: their truth, how they show, and that a shop without them is as it ever was."""

from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from benchmarks.needs import TABLE, Truth
from features.audience.directory import Directory
from features.audience.needs import Needs, NeedsTable
from features.events.columns import DAY
from features.events.ingest import ingest
from features.events.sources import find_source
from features.tables import read_table
from tests.features.support import NOW
from training.simulation import simulate
from training.simulation.needs import NEEDS, NEXT_STAGE
from training.simulation.parameters import load

USERS, DAYS, SEED = 400, 150, 3
FIRST = {name: f"department {d:02} > group {g:02}" for name, d, g in (
    *(("need_1", 1, 1), ("need_2", 4, 2), ("need_3", 8, 5)),
    *(("pair_1", 2, 1), ("pair_2", 6, 3), ("stage_1", 3, 1)),
)}  # fmt: skip


def frame(path: Path) -> pd.DataFrame:
    return pq.read_table(path).to_pandas()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same shop with and without needs."""
    out = tmp_path_factory.mktemp("needs")
    for name, path in (("with", Path("needs")), ("without", None)):
        simulate(load(path), out / name, users=USERS, days=DAYS, seed=SEED)
    return out / "with", out / "without"


def test_who_needs_nothing_lives_as_without_needs(folders: tuple[Path, Path]) -> None:
    """So a shop with a share of 0 is, row for row, what it was before there were needs."""
    events, plain = (frame(folder / "events.parquet") for folder in folders)
    assert not (folders[1] / "truth" / "needs.parquet").exists()
    changed = set()
    for user in plain["user_id"].dropna().unique():
        own, before = (log[log["user_id"] == user].reset_index(drop=True) for log in (events, plain))
        if not own.equals(before):
            changed.add(user)
            looks = before[before["kind"].isin(["order_placed", "purchase", "message_sent"])]
            kept = own[own["kind"].isin(["order_placed", "purchase", "message_sent"])]
            assert (kept["ts"].sort_values().to_numpy() == looks["ts"].sort_values().to_numpy()).all()
    needy = set(frame(folders[0] / "truth" / "needs.parquet")["user_id"])
    assert 0.25 * USERS < len(needy) < 0.45 * USERS
    assert USERS * 0.1 < len(changed - needy) < USERS * 0.35  # who looks by chance
    for name in ("users", "items", "truth/users", "truth/states", "truth/items"):
        assert (folders[0] / f"{name}.parquet").read_bytes() == (folders[1] / f"{name}.parquet").read_bytes()


def test_the_truth_of_needs_is_whole_and_shows_in_what_users_look_at(folders: tuple[Path, Path]) -> None:
    truth = frame(folders[0] / "truth" / "needs.parquet")
    assert set(truth["need"]) == set(NEEDS)
    assert truth["user_id"].is_unique
    assert (truth["until"].isna() | (truth["until"] > truth["from"])).all()
    moved = truth[truth["moved_at"].notna()]
    assert set(moved["need"]) == {"stage_1"}
    assert (moved["moved_at"] > moved["from"]).all()
    assert (moved["until"].isna() | (moved["moved_at"] < moved["until"])).all()
    events = frame(folders[0] / "events.parquet")
    views = events[events["kind"] == "view"].merge(truth, on="user_id")
    about = views["category"] == views["need"].map(FIRST)
    since = views["ts"] - views["from"]
    first_days = (since >= timedelta(0)) & (since < timedelta(days=4))
    before = (since < timedelta(0)) & (since >= timedelta(days=-60))
    assert about[first_days].mean() > 0.35 > 0.12 > about[before].mean()


def test_chunks_and_the_size_of_the_shop_change_no_need(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    simulate(load(Path("needs")), tmp_path / "larger", users=USERS + 30, days=DAYS, seed=SEED, chunk=77)
    for name in ("events", "truth/needs"):
        whole, larger = (frame(folder / f"{name}.parquet") for folder in (folders[0], tmp_path / "larger"))
        kept = larger[larger["user_id"] < f"u{USERS:05}"].reset_index(drop=True)
        assert whole[whole["user_id"].notna()].reset_index(drop=True).equals(kept)


@pytest.mark.parametrize("text", ["[catalogue]\ndepartments = 1\ngroups = 1\nitems = 1", "[needs]\nburst_days = 1.0"])
def test_any_shop_can_have_needs(text: str, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(text + ("" if "[needs]" in text else "\n[needs]") + "\nshare = 1.0\nidle = 1.0\n")
    done = simulate(load(file), tmp_path / "shop", users=40, days=60, seed=1)
    assert done.kinds["view"] > 0
    assert len(frame(tmp_path / "shop" / "truth" / "needs.parquet")) > 20


def test_the_table_of_the_benchmark_tells_true_needs_far_beyond_chance(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    store = ingest(find_source(folders[0]), tmp_path / "store", now=NOW).store
    assert store is not None
    users = frame(folders[0] / "truth" / "users.parquet").set_index("user_id")
    truth = Truth(users, frame(folders[0] / "truth" / "needs.parquet"))
    needs, moment = Needs(read_table(TABLE, NeedsTable), Directory(store)), store.span[0] // DAY * DAY + 130 * DAY
    tags = {
        (user, tag.name)
        for timeline in store.timelines()
        for user, some in zip(timeline.user_ids.to_pylist(), needs.tags(timeline, moment), strict=True)
        for tag in some
    }
    true = {(user, name) for user in users.index if (name := truth.at(user, moment))}
    assert {name for _, name in true} >= {*NEEDS[:5], NEXT_STAGE}
    assert len(tags & true) / len(true) > 0.25
    assert len(tags & true) / len(tags) > 5 * len(true) / (USERS * 7)
