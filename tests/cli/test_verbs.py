"""Every verb does what its help says, on a small shop."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cli.main import VERBS
from features.events.store import Store
from features.signals import all_signals
from models.answers import CatalogueCodes, ChurnQuestion, churn_answers, recommend_answers
from models.deployed import load_current
from models.recommender import MODES, Ask, Filter
from tests.cli.conftest import Ebbtide
from tests.features.support import ROOT, folder_bytes, matrix_at, write_log
from tests.shop import AS_OF, HORIZON, LOOKBACK, shop_log
from training.churn import ChurnRun
from training.cross_sell import CrossSellRun

MOMENT = "2024-06-01"


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "serve"])
def test_every_verb_has_help_with_an_example(ebbtide: Ebbtide, verb: str) -> None:
    done = ebbtide(*verb.split(), "--help")
    assert done.code == 0
    text = " ".join(done.out.split())
    assert f"Example: ebbtide {verb}" in text
    assert VERBS[verb] in text  # as the list of verbs says


def test_the_list_of_verbs_is_quick_and_imports_none(ebbtide: Ebbtide) -> None:
    script = "import sys; from cli.main import build; build([]); print([m for m in sys.modules if m in sys.argv[1:]])"
    heavy = ["numpy", "pandas", "lightgbm", "sklearn", "mlflow", "numba", "duckdb", "pyarrow", "bentoml"]
    done = subprocess.run([sys.executable, "-c", script, *heavy], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    listed = ebbtide("--help")
    assert listed.code == 0
    assert all(verb.split()[0] in listed.out for verb in VERBS)
    trained = ebbtide("train", "--help")
    assert "cross-sell" in trained.out
    begin = time.monotonic()
    subprocess.run([sys.executable, "-m", "cli", "--help"], cwd=ROOT, capture_output=True, check=True)
    assert time.monotonic() - begin < 3  # a quarter of a second on a machine at rest


@pytest.mark.parametrize("arguments", [["bogus"], ["--bogus"], ["train", "bogus"], ["score"], ["score", "--bogus"]])
def test_a_wrong_command_line_exits_2(ebbtide: Ebbtide, arguments: list[str]) -> None:
    done = ebbtide(*arguments)
    assert done.code == 2
    assert "Usage: ebbtide" in done.err


def test_options_before_the_verb_do_not_hide_it(ebbtide: Ebbtide) -> None:
    assert "Write every user's churn probability" in ebbtide("--", "score", "--help").out


def test_ingest_tells_what_it_read(ebbtide: Ebbtide, tmp_path: Path) -> None:
    source, store = write_log(shop_log(users=20), tmp_path / "events.csv"), tmp_path / "store"
    checked = ebbtide("ingest", source, "--store", store, "--check")
    assert checked.code == 0
    assert "nothing was written" in checked.out
    assert not store.exists()
    done = ebbtide("ingest", source, "--store", store)
    rows = Store.open(store).rows
    assert f"{rows:,}" in done.out
    assert "kind purchase" in done.out
    assert f"wrote {store}" in done.out
    again = ebbtide("ingest", source, "--store", store)
    assert Store.open(store).rows == rows
    assert again.code == 0


def test_signals_writes_parquet_and_what_the_columns_mean(ebbtide: Ebbtide, shop: Store, tmp_path: Path) -> None:
    out = tmp_path / "new" / "s.parquet"
    done = ebbtide("signals", "--store", shop.path, "--as-of", MOMENT, "--out", out)
    assert done.code == 0, done.err
    assert str(out) in done.out
    table = pq.read_table(out)
    expected = matrix_at(shop, AS_OF)
    assert table.column_names == ["user_id", *(s.name for s in all_signals())]
    assert table["user_id"].to_pylist() == expected.user_ids.to_pylist()
    for name in expected.names:
        assert table[name].combine_chunks().to_numpy(zero_copy_only=False).tobytes() == expected.column(name).tobytes()
    about = json.loads((tmp_path / "new" / "s.parquet.json").read_text())
    assert about["users"] == table.num_rows
    assert about["data_digest"] == shop.digest(AS_OF)
    assert [entry["name"] for entry in about["signals"]] == table.column_names[1:]
    assert all(entry.keys() == {"name", "family", "unit", "description"} for entry in about["signals"])


def test_the_road_from_training_to_answers(
    ebbtide: Ebbtide, shop: Store, registry: Path, recipes: Path, tmp_path: Path
) -> None:
    """Train both, promote, deploy, score, recommend: the files hold what the deployed bundle answers."""
    common = ["--store", shop.path, "--as-of", MOMENT, "--horizon", HORIZON]
    churn = ebbtide("train", "churn", *common, "--lookback", LOOKBACK, "--recipe", recipes / "churn.toml")
    assert churn.code == 0, churn.err
    assert "registered as ebbtide-churn/2" in churn.out
    assert "the model beats every baseline" in churn.out
    lists = ebbtide("train", "cross-sell", *common, "--recipe", recipes / "cross_sell.toml")
    assert lists.code == 0, lists.err
    assert "registered as ebbtide-cross-sell/2" in lists.out
    nothing = ebbtide("deploy", "--deployed", tmp_path / "deployed")
    assert (nothing.code, "there is no champion yet" in nothing.err) == (2, True)
    for model in ("churn", "cross-sell"):
        promoted = ebbtide("promote", model)
        assert promoted.code == 0, promoted.out
        assert f"ebbtide-{model}/2 is champion: " in promoted.out
    listed = ebbtide("runs")
    assert listed.code == 0
    assert all(f"ebbtide-{model}/{version}" in listed.out for model in ("churn", "cross-sell") for version in (1, 2))
    deployed = ebbtide("deploy", "--deployed", tmp_path / "deployed")
    assert deployed.code == 0, deployed.err
    live = load_current(tmp_path / "deployed")
    assert (live.name("churn"), live.name("cross_sell")) == ("ebbtide-churn/2", "ebbtide-cross-sell/2")

    out = tmp_path / "c.parquet"
    scored = ebbtide("score", "--store", shop.path, "--as-of", MOMENT, "--out", out)
    assert scored.code == 0, scored.err
    assert "ebbtide-churn/2 (the champion)" in scored.out
    assert live.churn is not None
    answers = [
        a for timeline in shop.timelines() for a in churn_answers(timeline, AS_OF, live.churn, ChurnQuestion(reasons=3))
    ]
    table = pq.read_table(out).to_pydict()
    assert table["user_id"] == [a.user_id for a in answers]
    assert table["churn_probability"] == [a.probability for a in answers]
    assert table["risk"] == [a.risk for a in answers]
    assert table["reasons"] == [[reason.text for reason in a.reasons] for a in answers]

    assert live.recommender is not None
    codes = CatalogueCodes(shop, live.recommender).of_store
    for mode in (mode for mode in MODES if mode != "bundle"):
        out = tmp_path / f"{mode}.parquet"
        made = ebbtide("recommend", "--store", shop.path, "--as-of", MOMENT, "--out", out, "-k", 5, "--mode", mode)
        assert made.code == 0, made.err
        wanted = [
            (a.user_id, rank + 1, item.item_id, item.score, item.head, item.evidence, a.status)
            for timeline in shop.timelines()
            for a in recommend_answers(timeline, AS_OF, live.recommender, codes, Ask(mode, 5))
            for rank, item in enumerate(a.items)
        ]
        assert list(zip(*pq.read_table(out).to_pydict().values(), strict=True)) == wanted
    rolled = ebbtide("rollback", "churn")
    assert (rolled.code, "no earlier champion" in rolled.err) == (2, True)


def test_train_succeeds_where_the_gate_would_fail_and_promote_does_not(
    ebbtide: Ebbtide, shop: Store, registry: Path, tmp_path: Path
) -> None:
    (tmp_path / "r.toml").write_text(
        "rounds = 1\ntest_moments = 1\n[booster]\nnum_leaves = 2\nmin_data_in_leaf = 500\n"
    )
    common = ["--horizon", HORIZON, "--lookback", LOOKBACK, "--recipe", tmp_path / "r.toml"]
    trained = ebbtide("train", "churn", "--store", shop.path, "--as-of", MOMENT, *common)
    assert trained.code == 0, trained.err
    assert "does NOT beat every baseline" in trained.out
    assert ebbtide("promote", "churn", "--version", "1").code == 0
    refused = ebbtide("promote", "churn")
    assert refused.code == 1
    assert "ebbtide-churn/2 is refused: auc" in refused.out
    assert "is worse than that of" in refused.out
    assert "champion" in ebbtide("runs").out


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_users_can_be_named_in_a_file(ebbtide: Ebbtide, shop: Store, registry: Path, tmp_path: Path, form: str) -> None:
    users = tmp_path / f"users.{form}"
    ids = ["u9", "a stranger", "u3", "u9", "only a message"]
    if form == "csv":
        users.write_text("\n".join(["name,user_id", *(f"x,{user}" for user in ids)]) + "\n")
    else:
        import pyarrow as pa

        pq.write_table(pa.table({"user_id": ids, "name": range(len(ids))}), users)
    wanted = ["u9", "a stranger", "u3", "only a message"]
    common = ["--store", shop.path, "--as-of", MOMENT, "--users", users]
    out = tmp_path / "c.parquet"
    assert ebbtide("score", *common, "--out", out, "--model", "models:/ebbtide-churn/1").code == 0
    table = pq.read_table(out).to_pydict()
    assert table["user_id"] == wanted
    assert table["status"] == ["ok", "unknown_user", "ok", "too_little_history"]
    lists = tmp_path / "r.parquet"
    assert ebbtide("recommend", *common, "--out", lists, "-k", 3).code == 0
    found = pq.read_table(lists).to_pydict()
    assert found["user_id"] == [user for user in wanted for _ in range(3)]
    assert found["head"][3:6] == found["head"][9:] == ["welcome"] * 3
    assert found["item_id"][3:6] == found["item_id"][9:]
    signals = tmp_path / "s.parquet"
    assert ebbtide("signals", *common, "--out", signals).code == 0
    assert pq.read_table(signals)["user_id"].to_pylist() == ["u9", "u3", "only a message"]


def test_lists_for_a_scene_with_a_filter_in_chinese(
    ebbtide: Ebbtide, shop: Store, registry: Path, cross_sell_run: CrossSellRun, tmp_path: Path
) -> None:
    (tmp_path / "filter.json").write_text('{"price_min": 7.0, "price_max": 15}')
    common = ["recommend", "--store", shop.path, "--as-of", MOMENT, "--out", tmp_path / "r.parquet", "-k", 4]
    done = ebbtide(*common, "--scene", "gift", "--filter", tmp_path / "filter.json", "--language", "zh")
    assert done.code == 0, done.err
    recommender = cross_sell_run.model
    ask = Ask("all", 4, filter=Filter(price_min=7.0, price_max=15.0), scene="gift")
    codes = CatalogueCodes(shop, recommender).of_store
    wanted = [
        (a.user_id, item.item_id, item.score, item.evidence)
        for timeline in shop.timelines()
        for a in recommend_answers(timeline, AS_OF, recommender, codes, ask, "zh")
        for item in a.items
    ]
    found = pq.read_table(tmp_path / "r.parquet", columns=["user_id", "item_id", "score", "evidence"]).to_pydict()
    assert list(zip(*found.values(), strict=True)) == wanted
    prices = dict(zip(recommender.catalogue.ids, recommender.shop.attributes.price.tolist(), strict=True))
    assert all(7 <= prices[item] <= 15 for item in found["item_id"])
    assert any("一" <= letter <= "鿿" for letter in found["evidence"][0])
    plain = ebbtide(*common)
    assert plain.code == 0
    assert pq.read_table(tmp_path / "r.parquet")["item_id"].to_pylist() != found["item_id"]


def test_without_a_champion_the_newest_answers_and_it_says_so(
    ebbtide: Ebbtide, shop: Store, registry: Path, churn_run: ChurnRun, cross_sell_run: CrossSellRun, tmp_path: Path
) -> None:
    done = ebbtide("score", "--store", shop.path, "--as-of", MOMENT, "--out", tmp_path / "c.parquet")
    assert "ebbtide-churn/1 (the newest version, there is no champion)" in done.out
    late = ebbtide("score", "--store", shop.path, "--as-of", "2024-07-15", "--out", tmp_path / "c.parquet")
    assert late.code == 0
    assert "warning: --as-of 2024-07-15 is" in late.out
    soon = ebbtide("score", "--store", shop.path, "--as-of", "2024-06-10T12:00+02:00", "--out", tmp_path / "c.parquet")
    assert "warning" not in soon.out
    assert "as of 2024-06-10T10:00:00Z" in soon.out


def test_reading_verbs_leave_the_store_alone(ebbtide: Ebbtide, shop: Store, registry: Path, tmp_path: Path) -> None:
    before = folder_bytes(shop.path)
    for verb in ("signals", "score", "recommend"):
        assert ebbtide(verb, "--store", shop.path, "--as-of", MOMENT, "--out", tmp_path / "x.parquet").code == 0
    assert folder_bytes(shop.path) == before
