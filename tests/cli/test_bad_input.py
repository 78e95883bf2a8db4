"""Bad input: one message on stderr that says what, where and the repair; exit 2; nothing written, no run registered."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.events.store import Store
from tests.cli.conftest import Ebbtide
from tests.features.support import folder_bytes, write_log
from tests.shop import ingested, shop_log

LOG = shop_log(users=12)


def refused(ebbtide: Ebbtide, *arguments: object) -> str:
    """The one message of a command that must be refused."""
    done = ebbtide(*arguments)
    assert done.code == 2, done
    assert done.err.startswith("ebbtide: ")
    assert done.err.count("ebbtide: ") == 1
    assert "Traceback" not in done.err + done.out
    return done.err


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A store that no refused command may change."""
    return ingested(LOG, tmp_path / "store").path


@pytest.fixture
def unchanged(small: Path) -> Callable[[], bool]:
    before = folder_bytes(small)
    return lambda: {name: data for name, data in folder_bytes(small).items() if "rejected" not in name} == before


# ------------------------------------------------------------------------------------------------- ingest


def no_column(folder: Path) -> Path:
    return write_log(LOG.drop(columns="ts"), folder / "events.csv")


def sql_error(folder: Path) -> Path:
    (folder / "events.sql").write_text("SELECT user_id,\n  ts,\n  kind\nFORM read_csv('x.csv')\n")
    return folder / "events.sql"


def sql_without_its_file(folder: Path) -> Path:
    (folder / "events.sql").write_text("SELECT * FROM read_parquet('absent.parquet')")
    return folder


def cut_parquet(folder: Path) -> Path:
    file = write_log(LOG, folder / "events.parquet")
    file.write_bytes(file.read_bytes()[:-100])
    return file


def cut_gzip(folder: Path) -> Path:
    file = write_log(LOG, folder / "events.csv.gz")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return file


def cut_json(folder: Path) -> Path:
    file = write_log(LOG, folder / "events.jsonl")
    file.write_bytes(file.read_bytes()[:-30])
    return file


def not_gzip(folder: Path) -> Path:
    (folder / "events.csv.gz").write_bytes(b"user_id,ts,kind\nu,2024-01-01,view\n")
    return folder / "events.csv.gz"


def empty(folder: Path) -> Path:
    (folder / "events.csv").write_text("")
    return folder / "events.csv"


def absent(folder: Path) -> Path:
    return folder / "nowhere.parquet"


def other_kind_of_file(folder: Path) -> Path:
    (folder / "events.xlsx").write_bytes(b"PK")
    return folder / "events.xlsx"


def mostly_bad(folder: Path) -> Path:
    bad = LOG.head(400).assign(price=-1.0)
    return write_log(pd.concat([LOG, bad, LOG.head(50).assign(user_id=None)]), folder / "events.csv")


SOURCES: dict[Callable[[Path], Path], tuple[str, ...]] = {
    no_column: ("ts",),
    sql_error: ("events.sql", "LINE 4"),
    sql_without_its_file: ("absent.parquet",),
    cut_parquet: ("events.parquet",),
    cut_gzip: ("events.csv.gz",),
    cut_json: ("events.jsonl",),
    not_gzip: ("events.csv.gz",),
    empty: ("events.csv",),
    absent: ("nowhere.parquet",),
    other_kind_of_file: ("events.xlsx",),
    mostly_bad: ("price", "user", "400", "50", "%"),
}


@pytest.mark.parametrize("make", SOURCES, ids=lambda make: make.__name__)
@pytest.mark.parametrize("replace", [False, True])
def test_a_bad_source_is_refused_and_the_store_is_as_before(
    ebbtide: Ebbtide,
    small: Path,
    unchanged: Callable[[], bool],
    tmp_path: Path,
    make: Callable[[Path], Path],
    replace: bool,
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    message = refused(ebbtide, "ingest", make(source), "--store", small, *(["--replace"] if replace else []))
    assert all(word in message for word in SOURCES[make]), message
    assert unchanged()
    assert Store.open(small).rows == len(LOG)


def test_a_first_ingest_that_is_refused_leaves_no_store(ebbtide: Ebbtide, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    refused(ebbtide, "ingest", no_column(source), "--store", tmp_path / "new")
    assert "no store at" in refused(
        ebbtide, "signals", "--store", tmp_path / "new", "--as-of", "2024-06-01", "--out", tmp_path / "x"
    )


def test_bad_rows_below_the_share_are_told_and_kept_apart(ebbtide: Ebbtide, small: Path, tmp_path: Path) -> None:
    bad = LOG.head(3).assign(price=-1.0)
    done = ebbtide("ingest", write_log(pd.concat([LOG, bad]), tmp_path / "more.csv"), "--store", small)
    assert done.code == 0
    assert "rejected" in done.out
    assert "price" in done.out


# ---------------------------------------------------------------------------------------------- the moment


@pytest.mark.parametrize("verb", ["signals", "score", "recommend", "train churn", "train cross-sell"])
@pytest.mark.parametrize(
    ("as_of", "says"),
    [
        ("2023-01-01", "later than 2023-08-"),
        ("first", "later than 2023-08-"),
        ("yesterday", "not an ISO date or time"),
        ("2024-13-45", "not an ISO date or time"),
        ("", "not an ISO date or time"),
    ],
)
def test_a_moment_out_of_range_names_the_range(
    ebbtide: Ebbtide,
    small: Path,
    unchanged: Callable[[], bool],
    registry: Path,
    tmp_path: Path,
    verb: str,
    as_of: str,
    says: str,
) -> None:
    if as_of == "first":
        as_of = str(LOG["ts"].min())
    out = [] if verb.startswith("train") else ["--out", tmp_path / "out.parquet"]
    assert says in refused(ebbtide, *verb.split(), "--store", small, "--as-of", as_of, *out)
    assert unchanged()
    assert not (tmp_path / "out.parquet").exists()


# ------------------------------------------------------------------------------------------------ training


@pytest.fixture
def no_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """A working folder without a tracking store; is it still without one?"""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return lambda: not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize("model", ["churn", "cross-sell"])
def test_too_short_a_log_names_the_earliest_moment(
    ebbtide: Ebbtide, shop: Store, no_runs: Callable[[], bool], model: str
) -> None:
    message = refused(ebbtide, "train", model, "--store", shop.path, "--as-of", "2023-09-20")
    earliest = message.split("--as-of must be ")[1].split(" or later")[0]
    again = refused(ebbtide, "train", model, "--store", shop.path, "--as-of", "2023-09-20", "--horizon", "25")
    assert earliest > "2023-10-01"
    assert again.split("--as-of must be ")[1] < message.split("--as-of must be ")[1]
    assert no_runs()


@pytest.mark.parametrize("model", ["churn", "cross-sell"])
def test_too_few_users_are_counted(
    ebbtide: Ebbtide, small: Path, no_runs: Callable[[], bool], unchanged: Callable[[], bool], model: str
) -> None:
    message = refused(ebbtide, "train", model, "--store", small, "--as-of", "2024-06-01")
    assert "at least 100 users" in message.lower() if model == "churn" else "at least 20 are needed" in message
    assert "12 users" in message or "only " in message or " users had a purchase" in message
    assert no_runs()
    assert unchanged()


@pytest.mark.parametrize(("who", "gap"), [("all stay", 3), ("all leave", 400)])
def test_one_class_only_is_counted(
    ebbtide: Ebbtide, tmp_path: Path, no_runs: Callable[[], bool], who: str, gap: int
) -> None:
    days = pd.date_range("2023-08-01", "2024-06-01", freq=f"{gap}D")
    rows = [(f"u{user}", day) for user in range(150) for day in days.to_list()]
    if who == "all leave":
        rows = [(f"u{user}", pd.Timestamp("2023-08-01") + pd.Timedelta(days=user)) for user in range(150)]
        rows += [("late", pd.Timestamp("2024-05-31"))]
    log = pd.DataFrame(rows, columns=["user_id", "ts"]).assign(kind="purchase", item_id="i", price=1.0)
    store = ingested(log, tmp_path / "one")
    message = refused(ebbtide, "train", "churn", "--store", store.path, "--as-of", "2024-06-01")
    count = "0 times one left" if who == "all stay" else " 0 times one stayed"
    assert count in message
    assert "At least 100 users and 10 of each are needed" in message
    assert no_runs()


def test_a_moment_long_after_the_log_leaves_nothing_to_test_on(
    ebbtide: Ebbtide, shop: Store, tmp_path: Path, no_runs: Callable[[], bool]
) -> None:
    """Every outcome window of the backtest lies after the last event, so all seem to have left."""
    (tmp_path / "r.toml").write_text("test_moments = 1\nrounds = 5\n")
    arguments = ["--as-of", "2024-07-05", "--recipe", tmp_path / "r.toml"]
    message = refused(ebbtide, "train", "churn", "--store", shop.path, *arguments)
    assert "no moment of the backtest has enough of both" in message
    assert no_runs()


def test_a_log_without_purchases_names_its_kinds(ebbtide: Ebbtide, tmp_path: Path, no_runs: Callable[[], bool]) -> None:
    store = ingested(LOG[LOG["kind"] != "purchase"], tmp_path / "views")
    for model in ("churn", "cross-sell"):
        message = refused(ebbtide, "train", model, "--store", store.path)
        assert "no event of kind purchase (its kinds: message_sent, refund, view)" in message
    assert no_runs()


@pytest.mark.parametrize("model", ["churn", "cross-sell"])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rouns = 5", "rouns"),
        ("seed = ", "cannot read the recipe"),
        ('seed = "one"', "seed"),
        ("[seed]\nx = 1", "seed"),
        ("test_moments = 2.5", "test_moments"),
        (None, "cannot read the recipe"),
    ],
)
def test_a_wrong_recipe_is_refused(
    ebbtide: Ebbtide, shop: Store, tmp_path: Path, no_runs: Callable[[], bool], model: str, text: str | None, says: str
) -> None:
    recipe = tmp_path / "r.toml"
    if text is not None:
        recipe.write_text(text)
    assert says in refused(ebbtide, "train", model, "--store", shop.path, "--recipe", recipe)
    assert no_runs()


# ------------------------------------------------------------------------------------------------- scoring


def test_what_is_asked_for_must_be_there(ebbtide: Ebbtide, shop: Store, registry: Path, tmp_path: Path) -> None:
    common = ["--store", shop.path, "--as-of", "2024-06-01", "--out", tmp_path / "out.parquet"]
    (tmp_path / "ids.csv").write_text("id\nu1\n")
    pq.write_table(pa.table({"id": ["u1"]}), tmp_path / "ids.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "ids.parquet").read_bytes()[:50])
    for verb in ("signals", "score", "recommend"):
        for users in ("ids.csv", "ids.parquet", "cut.parquet", "absent.csv"):
            assert users in refused(ebbtide, verb, *common, "--users", tmp_path / users)
    for model in ("models:/ebbtide-churn/99", "models:/ebbtide-churn@best", "nonsense"):
        assert model in refused(ebbtide, "score", *common, "--model", model)
    assert "holds no churn model" in refused(ebbtide, "score", *common, "--model", "models:/ebbtide-cross-sell/1")
    assert "holds no recommender" in refused(ebbtide, "recommend", *common, "--model", "models:/ebbtide-churn/1")
    offered = "all, repeat, cross_sell, up_sell, discover, win_back, welcome"
    for mode in ("new", "bundle"):  # a bundle needs a cart, which differs by user
        assert offered in refused(ebbtide, "recommend", *common, "--mode", mode)
    assert "there are commute, gift, home" in refused(ebbtide, "recommend", *common, "--scene", "moon")
    for text, says in (
        ("{", "JSON"),
        ('{"categorys": ["a"]}', "categorys"),
        ('{"price_min": "1"}', "price_min"),
        ('{"price_min": 2, "price_max": 1}', "price_min is above price_max"),
    ):
        (tmp_path / "filter.json").write_text(text)
        message = refused(ebbtide, "recommend", *common, "--filter", tmp_path / "filter.json")
        assert str(tmp_path / "filter.json") in message
        assert says in message
        assert message.count("\n") == 1
    assert "absent.json" in refused(ebbtide, "recommend", *common, "--filter", tmp_path / "absent.json")
    assert "there are churn, cross-sell" in refused(ebbtide, "promote", "chrun")
    assert "has no version 9" in refused(ebbtide, "promote", "churn", "--version", "9")
    assert not (tmp_path / "out.parquet").exists()


def test_a_place_that_cannot_be_written_is_named(ebbtide: Ebbtide, shop: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    common = ["--store", shop.path, "--as-of", "2024-06-01"]
    assert str(tmp_path) in refused(ebbtide, "signals", *common, "--out", tmp_path)
    assert "file" in refused(ebbtide, "signals", *common, "--out", tmp_path / "file" / "x.parquet")


def test_a_damaged_gz_of_a_good_log_is_told_by_name_not_by_rows(ebbtide: Ebbtide, tmp_path: Path) -> None:
    """The first half of the file is readable; it must not become a store."""
    file = write_log(LOG, tmp_path / "events.csv.gz")
    whole = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(whole)[:-20])
    assert "events.csv.gz" in refused(ebbtide, "ingest", file, "--store", tmp_path / "store")
    assert not (tmp_path / "store" / "manifest.json").exists()
