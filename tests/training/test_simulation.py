"""The simulated shop: what its log and its truth promise each other. All figures here are of a simulated shop."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from features.errors import UserError
from features.events.columns import KINDS, NOT_BY_USER
from features.events.ingest import ingest
from features.events.sources import find_source
from tests.features.support import NOW, folder_bytes
from training.simulation import Simulated, simulate
from training.simulation.catalogue import make_catalogue
from training.simulation.parameters import SHIPPED, load

USERS, DAYS = 500, 365
TROUBLE = ["refund", "complaint", "payment_failed"]
# More of what is rare, so that 500 users show every kind.
FREQUENT = """
[visits]
invite = 0.02
[messages]
opt_out = 0.01
[survey]
share = 0.5
[leaving]
a_year = 1.0
"""


def written(out: Path, text: str = "", **options: Any) -> Simulated:
    """A shop with these parameters beside the shipped ones."""
    out.mkdir(parents=True, exist_ok=True)
    file = out.parent / f"{out.name}.toml"
    file.write_text(text)
    return simulate(load(file), out, **{"users": 60, "days": 120, "seed": 3, **options})


def frame(path: Path) -> pd.DataFrame:
    return pq.read_table(path).to_pandas()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulated") / "shop"
    written(out, FREQUENT, users=USERS, days=DAYS)
    return out


@pytest.fixture(scope="module")
def events(folder: Path) -> pd.DataFrame:
    return frame(folder / "events.parquet")


@pytest.fixture(scope="module")
def truth(folder: Path) -> pd.DataFrame:
    return frame(folder / "truth" / "users.parquet").set_index("user_id")


@pytest.fixture(scope="module")
def known(events: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Events of known users, beside the truth about them."""
    return events[events["user_id"].notna()].join(truth, on="user_id")


# ------------------------------------------------------------------------------------------------ determinism


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_events(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        written(tmp_path / name, seed=seed)
    first, again, other = (folder_bytes(tmp_path / name) for name in "abc")
    assert first == again
    assert len(first) == 6
    assert all(first[name] != other[name] for name in first)


def test_chunks_and_the_size_of_the_shop_change_no_life(tmp_path: Path) -> None:
    written(tmp_path / "whole", FREQUENT)
    written(tmp_path / "chunks", FREQUENT, chunk=7)
    written(tmp_path / "larger", FREQUENT, users=90)
    for name in ("events", "users", "truth/users", "truth/states"):
        whole, chunks, larger = (pq.read_table(tmp_path / x / f"{name}.parquet") for x in ("whole", "chunks", "larger"))
        assert whole.equals(chunks), name
        assert larger.slice(0, len(whole)).equals(whole), name
    assert len(whole) >= 60


# --------------------------------------------------------------------------------------------- the log as a log


def test_ingest_takes_it_whole(folder: Path, events: pd.DataFrame, tmp_path: Path) -> None:
    done = ingest(find_source(folder), tmp_path / "store", now=NOW)
    report = done.report
    assert (report.rows, report.kept, report.rejected.total(), report.duplicates) == (len(events), len(events), 0, 0)
    assert report.unknown_columns == ()
    assert done.store is not None
    assert {"items", "users"} <= set(done.store.manifest["tables"])


def test_every_kind_occurs_and_no_other(events: pd.DataFrame) -> None:
    assert set(events["kind"]) == set(KINDS)


def test_what_the_kinds_carry(events: pd.DataFrame, folder: Path) -> None:
    items = frame(folder / "items.parquet").set_index("item_id")
    bought = events[events["kind"] == "purchase"]
    line = (bought["price"] * bought["quantity"]).round(2) - bought["discount"].fillna(0)
    np.testing.assert_allclose(bought["amount"], line, atol=0.011)
    assert (bought["price"].to_numpy() == items["price"].loc[bought["item_id"]].to_numpy()).all()
    assert (bought["category"].to_numpy() == items["category"].loc[bought["item_id"]].to_numpy()).all()
    with_coupon = set(events.loc[events["kind"] == "coupon_used", "order_id"])
    assert set(bought.loc[bought["discount"] > 0, "order_id"]) == with_coupon
    for later, earlier in (("purchase", "order_placed"), ("delivered", "purchase"), ("refund", "delivered")):
        begin = events[events["kind"] == earlier].groupby("order_id")["ts"].min()
        ends = events[events["kind"] == later]
        assert (ends["ts"].to_numpy() > begin.loc[ends["order_id"]].to_numpy()).all()
    assert events.loc[events["kind"] == "view", "dwell_s"].gt(0).all()
    searches = events.loc[events["kind"] == "search", "search_results"]
    assert 0 < (searches == 0).mean() < 0.5
    sent = events.loc[events["kind"] == "message_sent", "arm"]
    assert set(sent) == {"hold-out", "reminder", "coupon", "repair", "discovery"}
    opened = events.loc[events["kind"] == "message_opened", "arm"]
    assert "hold-out" not in set(opened)
    assert set(events.loc[events["kind"] == "survey_answer", "page"]) == {"natural", "soft", "experience", "other"}
    late = events[events["arrived_at"].notna()]
    assert 0.001 < len(late) / len(events) < 0.1
    assert (late["arrived_at"] > late["ts"]).all()
    assert late["arrived_at"].max() < pd.Timestamp("2023-01-01")


def test_devices_look_around_before_their_users_register(events: pd.DataFrame, folder: Path) -> None:
    users = frame(folder / "users.parquet").set_index("user_id")
    own = events.dropna(subset=["user_id", "device_id"]).drop_duplicates("device_id").set_index("device_id")["user_id"]
    anonymous = events[events["user_id"].isna()]
    assert anonymous["device_id"].notna().all()
    whose = anonymous["device_id"].map(own)
    registered = pd.to_datetime(whose.map(users["registered_at"]))
    assert (anonymous["ts"] < registered).sum() > 50
    known = events[events["user_id"].notna()]
    made = known[~known["kind"].isin(NOT_BY_USER)]
    assert (made["ts"] >= users["registered_at"].loc[made["user_id"]].to_numpy()).all()


def test_goods_hang_together(events: pd.DataFrame, folder: Path) -> None:
    goods = frame(folder / "truth" / "items.parquet").set_index("item_id")
    bought = events[events["kind"] == "purchase"].join(goods, on="item_id")
    durable = bought[bought["durable"]].drop_duplicates(["user_id", "order_id", "item_id"])
    again = durable.duplicated(["user_id", "item_id"]).mean()
    consumable = bought[~bought["durable"]].drop_duplicates(["user_id", "order_id", "item_id"])
    assert again == 0
    assert consumable.duplicated(["user_id", "item_id"]).mean() > 0.2
    chain = durable.sort_values(["user_id", "group", "ts"]).groupby(["user_id", "group"])["tier"].diff().dropna()
    assert (chain >= 1).all()
    pairs = bought.merge(bought[["order_id", "item_id"]], on="order_id", suffixes=("", "_beside"))
    beside = (pairs["complement"] == pairs["item_id_beside"]).groupby(pairs["order_id"]).any()
    assert beside.mean() > 0.1


# ---------------------------------------------------------------------------------------------------- the truth


def test_nobody_acts_after_being_gone_and_the_drift_comes_first(known: pd.DataFrame, truth: pd.DataFrame) -> None:
    made = known[~known["kind"].isin(NOT_BY_USER) & known["gone"].notna()]
    assert (made["ts"] < made["gone"]).all()
    assert ((known["kind"] == "message_sent") & (known["ts"] > known["gone"])).any()  # the shop does not know
    leavers = truth[truth["cause"] != "none"]
    gone = leavers["gone"].fillna(leavers["gone_later"])
    assert (leavers["onset"] < gone).all()
    assert (leavers["signs_from"] <= leavers["onset"]).all()
    assert truth.loc[truth["cause"] == "none", ["onset", "gone", "gone_later"]].isna().all().all()
    assert (truth["state"] == "gone").equals(truth["gone"].notna())
    assert set(truth["cause"]) == {"none", "natural", "soft", "experience"}


def test_states_tell_the_same_story(folder: Path, truth: pd.DataFrame) -> None:
    states = frame(folder / "truth" / "states.parquet")
    assert states.groupby("user_id")["from"].is_monotonic_increasing.all()
    last = states.groupby("user_id")["state"].last()
    assert (last.loc[truth.index] == truth["state"]).sum() >= len(truth) - (last == "on a pause").sum()
    drifts = states[states["state"].isin(["needless", "drifting", "failed by us"])].set_index("user_id")
    assert (drifts["from"] == truth["onset"].loc[drifts.index]).all()
    assert "on a pause" in set(states["state"])


def _a_day(rows: pd.DataFrame, days: pd.Series) -> pd.Series:
    return rows.groupby("user_id").size().reindex(days.index, fill_value=0) / days


def test_browsing_falls_before_the_end_and_before_buying(known: pd.DataFrame, truth: pd.DataFrame) -> None:
    first = known[~known["kind"].isin(NOT_BY_USER)].groupby("user_id")["ts"].min()
    leavers = truth[truth["gone"].notna()].assign(first=first)
    leavers = leavers[leavers["onset"] - leavers["first"] > timedelta(days=30)]
    assert len(leavers) > 80
    before = (leavers["onset"] - leavers["first"]).dt.total_seconds() / 86_400
    mine = known[known["user_id"].isin(leavers.index)]
    two_weeks = pd.Series(14.0, leavers.index)

    def fell(kind: str) -> float:
        seen = mine[mine["kind"] == kind]
        last = seen[(seen["ts"] >= seen["gone"] - timedelta(days=14))]
        return float(_a_day(last, two_weeks).mean() / _a_day(seen[seen["ts"] < seen["onset"]], before).mean())

    assert fell("view") < 0.65
    early = mine[(mine["ts"] >= mine["onset"]) & (mine["ts"] < mine["onset"] + timedelta(days=10))]
    ten = (leavers["gone"] - leavers["onset"]).dt.total_seconds().clip(upper=864_000) / 86_400
    share = {
        kind: _a_day(early[early["kind"] == kind], ten).mean()
        / _a_day(mine[(mine["kind"] == kind) & (mine["ts"] < mine["onset"])], before).mean()
        for kind in ("login", "order_placed")
    }
    assert share["login"] < share["order_placed"]


def test_each_cause_shows_its_own_way_and_stayers_have_trouble_too(known: pd.DataFrame) -> None:
    left = known[known["ts"] >= known["onset"]]
    views = left[(left["kind"] == "view") & left["item_id"].notna()]
    near = known[known["ts"] >= known["signs_from"]]
    searches = near[near["kind"] == "search"]
    empty = (searches["search_results"] == 0).groupby(searches["cause"]).mean()
    assert empty["experience"] > 2 * empty["soft"]
    near = known[(known["ts"] >= known["signs_from"]) & known["kind"].isin([*TROUBLE, "order_placed"])]
    troubled = near["kind"].isin(TROUBLE).groupby(near["cause"]).mean()
    assert troubled["experience"] > 1.5 * max(troubled["soft"], troubled["natural"])
    dwell = views.groupby("cause")["dwell_s"].mean()
    assert dwell["natural"] < 0.8 * dwell["soft"]
    of_need = (views["category"] == views["taste_1"]).groupby(views["cause"]).mean()
    assert of_need["natural"] < 0.6 * of_need["soft"]
    stayers = known[known["cause"] == "none"]
    assert stayers["kind"].isin(TROUBLE).any()
    answers = known[(known["kind"] == "survey_answer") & (known["cause"] != "none")]
    assert 0.7 < (answers["page"] == answers["cause"]).mean() < 0.97


def test_a_message_works_as_the_truth_says(tmp_path: Path) -> None:
    often = "\n".join(f"[response_{state}]\nreminder = {{0}}" for state in ("engaged", "soft"))
    text = f"[messages]\nreach = 1.0\n{often.format(0.6)}\n[leaving]\na_year = 0.0\n"
    written(tmp_path / "shop", text, users=200)
    events = frame(tmp_path / "shop" / "events.parquet")
    seen = events[events["kind"].isin(["view"]) & events["user_id"].notna()][["user_id", "ts"]]
    sent = events[(events["kind"] == "message_sent") & (events["ts"] < events["ts"].max() - timedelta(days=4))]
    pairs = sent[["user_id", "ts", "arm"]].reset_index().merge(seen, on="user_id", suffixes=("", "_seen"))
    later = pairs["ts_seen"] - pairs["ts"]
    came = pairs.loc[(later > timedelta(0)) & (later < timedelta(days=3.1)), "index"]
    share = pd.Series(sent.index.isin(came)).groupby(sent["arm"].to_numpy()).mean()
    added = (share["reminder"] - share["hold-out"]) / (1 - share["hold-out"])
    assert 0.45 < added < 0.8
    assert abs(share["repair"] - share["hold-out"]) < 0.1


# ----------------------------------------------------------------------------------------------- any parameters

EXTREMES = {
    "nobody leaves": "[leaving]\na_year = 0.0",
    "everybody leaves at once": "[leaving]\na_year = 50.0\nnewcomers = 50.0\n[natural]\ndays = 1.0",
    "one cause": "[leaving]\nnatural = 0\nsoft = 1\nexperience = 0",
    "no browsing": "[people]\nvisits_a_week = 0.0\n[orders]\nlook_around = 0.0",
    "nobody buys": "[people]\nnever_buy = 1.0",
    "many orders": "[people]\norder_gap_days = 1.0\nvisits_a_week = 14.0",
    "one item": "[catalogue]\ndepartments = 1\ngroups = 1\nitems = 1",
    "one group a department": "[catalogue]\ndepartments = 50\ngroups = 1\nitems = 50",
    "a large catalogue": "[catalogue]\nitems = 60_000",
    "only durables": "[catalogue]\ndurable = 1.0\nlaunched = 1.0",
    "no taste": "[people]\ntaste = [0.0, 0.0, 0.0]",
    "one taste": "[people]\ntaste = [1.0, 0.0, 0.0]\nneeds_end_a_year = 12.0\n[natural]\nneed = 0.0",
    "no signs": "[leaving]\nstrength = 0.0\nstrength_spread = 0.0",
    "no mishaps, no messages": "[friction]\ntrouble = 0.0\nbad_spell = 0.0\n[visits]\nempty = 0.0\n"
    "[experience]\ntrouble = 0.0\n[messages]\nevery_days = 10_000.0\nreach = 0.0\n[survey]\nshare = 0.0",
    "nothing but mishaps": "[friction]\ntrouble = 1.0\nlost = 1.0\npayment_failed = 1.0\nlate = 0\nrefund = 0\n"
    "complaint = 0\n[visits]\nempty = 1.0\nanonymous = 1.0\nanonymous_visits = 1.0",
    "messages drive away": "[response_engaged]\nreminder = -1.0\n[messages]\nevery_days = 1.0\nopt_out = 1.0",
    "all new": "[people]\nold = 0.0\npauses_a_year = 4.0",
    "all old": "[people]\nold = 1.0\npauses_a_year = 0.0\nneeds_end_a_year = 0.0",
}


@pytest.mark.parametrize("name", EXTREMES)
def test_any_sane_parameters_work(tmp_path: Path, name: str) -> None:
    done = written(tmp_path / "shop", EXTREMES[name], users=40, days=90)
    events = frame(tmp_path / "shop" / "events.parquet")
    assert done.kinds.total() == len(events)
    assert (done.kinds["purchase"] == 0) == (name == "nobody buys")
    if name == "nobody leaves":
        assert done.causes == {"none": 40}
    if name == "one cause":
        assert set(done.causes) <= {"none", "soft"}
    if name == "no browsing":
        assert done.kinds["view"] < 20 * done.kinds["order_placed"] + 400
    if name == "no mishaps, no messages":
        assert not {*TROUBLE, "message_sent", "survey_answer"} & set(done.kinds)


@pytest.mark.parametrize(("users", "days"), [(1, 90), (3, 90), (40, 1), (5, 800)])
def test_any_size_works(tmp_path: Path, users: int, days: int) -> None:
    done = written(tmp_path / "shop", "", users=users, days=days)
    assert done.causes.total() == users
    assert len(frame(tmp_path / "shop" / "users.parquet")) == users
    events = frame(tmp_path / "shop" / "events.parquet")
    assert (events["ts"] < pd.Timestamp("2022-01-01") + timedelta(days=days)).all()


@pytest.mark.parametrize("options", [{"users": 0}, {"users": -3}, {"days": 0}, {"days": 100_000}])
def test_no_users_and_no_days_are_refused(tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(UserError, match="simulated shop"):
        written(tmp_path / "shop", "", **options)


def test_events_of_others_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "events.parquet").write_text("hers")
    with pytest.raises(UserError, match="not simulated"):
        written(tmp_path / "shop")
    assert (tmp_path / "shop" / "events.parquet").read_text() == "hers"


# --------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[shop]\nopening = 1", "shop.opening, which .* valid here: start, weekday"),
        ("[shops]\nstart = 1", "shops, which .* valid here: shop, catalogue"),
        ("shop = 3", "it is a section"),
        ("[shop]\nstart = '2022-01-01'", "shop.start .* a date without quotes"),
        ("[shop]\nweekday = [1, 1]", "shop.weekday .* a list of 7 numbers"),
        ("[shop]\nweekday = [0, 0, 0, 0, 0, 0, 0]", "at least one must be above 0"),
        ("[catalogue]\nitems = 2.5", "catalogue.items .* a whole number"),
        ("[catalogue]\nitems = 3", "fewer than the 60 groups"),
        ("[catalogue]\ncycle_days = [9, 3]", "catalogue.cycle_days .* lower bound first"),
        ("[people]\nold = true", "people.old .* it is a number"),
        ("[people]\nold = 1.5", "people.old .* from 0 to 1"),
        ("[people]\nold = nan", "people.old .* from 0 to 1"),
        ("[people]\ntaste = [0.5, 0.5, 0.5]", "at most 1 together"),
        ("[leaving]\nnatural = 0\nsoft = 0\nexperience = 0", "leaving.natural, soft and experience"),
        ("[soft]\nvisits = -1", "soft.visits .* from 0 to 1"),
        ("[soft", "cannot read the parameters"),
    ],
)
def test_bad_parameters_are_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "own.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=said) as refused:
        load(file)
    assert str(file) in str(refused.value)


def test_a_file_overrides_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("[leaving]\na_year = 2\n")
    shipped, own = load(), load(file)
    assert own.leaving.a_year == 2.0
    assert own.leaving.soft == shipped.leaving.soft
    assert own.people == shipped.people


@pytest.mark.parametrize("name", ["sparse", "noisy"])
def test_shipped_files_are_known_by_name(name: str) -> None:
    assert load(Path(name)) == load(SHIPPED / f"{name}.toml") != load()


def test_every_shipped_parameter_has_a_comment_where_it_first_stands() -> None:
    said, section = set(), ""
    for line in (SHIPPED / "default.toml").read_text().splitlines():
        if line.startswith("["):
            section = line[1 : line.index("]")]
        elif "=" in line and not line.startswith("#"):
            alike = "sign" if section in ("natural", "soft", "experience") else section.split("_")[0]
            name = f"{alike}.{line.split('=')[0].strip()}"
            assert "#" in line or name in said, name
            said.add(name)
    assert len(said) > 100


def test_a_catalogue_of_any_shape_is_whole(tell: Callable[..., None]) -> None:
    made = make_catalogue(load(), 1, 365)
    assert made.size.sum() == made.group.size == 1800
    assert (made.size >= 1).all()
    assert (made.price > 0).all()
    complement = made.complement[made.complement >= 0]
    assert (made.group[complement] != made.group[made.complement >= 0]).all()
    by_group = pd.Series(made.price).groupby(made.group)
    tell(items=made.group.size, median_price=float(np.median(made.price)))
    assert by_group.is_monotonic_increasing.mean() > 0.9
