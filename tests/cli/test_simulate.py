"""`ebbtide simulate`: a simulated shop that the other verbs take as it is."""

from pathlib import Path

import pyarrow.parquet as pq

from tests.cli.conftest import Ebbtide
from tests.features.support import folder_bytes


def test_a_simulated_shop_is_a_source(ebbtide: Ebbtide, tmp_path: Path) -> None:
    out, store = tmp_path / "shop", tmp_path / "store"
    done = ebbtide("simulate", "--out", out, "--users", 30, "--days", 90, "--seed", 2)
    assert done.code == 0, done.err
    rows = pq.read_metadata(out / "events.parquet").num_rows
    said = " ".join(done.out.split())
    assert f"simulated events {rows:,}" in said
    assert "a simulated shop of 30 users, 1,800 items and 90 days" in said
    assert "kind purchase" in said
    assert str(out / "truth") in done.out
    taken = ebbtide("ingest", out, "--store", store)
    assert taken.code == 0, taken.err
    assert f"kept {rows:,}" in " ".join(taken.out.split())


def test_the_same_command_gives_the_same_files_and_parameters_other_ones(ebbtide: Ebbtide, tmp_path: Path) -> None:
    common = ["--users", 10, "--days", 40]
    for name, more in (("a", []), ("b", []), ("c", ["--seed", 9]), ("d", ["--parameters", "sparse"])):
        assert ebbtide("simulate", "--out", tmp_path / name, *common, *more).code == 0
    a, b, c, d = (folder_bytes(tmp_path / name) for name in "abcd")
    assert a == b
    assert len({files["events.parquet"] for files in (a, c, d)}) == 3


def test_mistakes_get_one_message(ebbtide: Ebbtide, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text("[leaving]\nspeed = 3\n")
    for arguments, said in (
        (["--parameters", own], f"{own} sets leaving.speed"),
        (["--parameters", tmp_path / "absent.toml"], "cannot read the parameters"),
        (["--users", 0], "at least 1 user"),
        (["--days", -1], "1 to 3,660 days"),
    ):
        done = ebbtide("simulate", "--out", tmp_path / "shop", *arguments)
        assert done.code == 2
        assert done.err.count("ebbtide: ") == 1
        assert said in done.err
        assert not (tmp_path / "shop").exists()
