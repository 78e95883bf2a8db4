"""`ebbtide structure` and `ebbtide report`, with and without something deployed."""

import json
from pathlib import Path

import pandas as pd
import pytest

from features.audience.needs_table import NeedsTable
from features.events.store import Store
from features.tables import read_table
from tests.cli.conftest import Ebbtide
from tests.shop import ingested

AS_OF = "2024-06-01"


def test_who_was_where_and_who_moved(ebbtide: Ebbtide, shop: Store, tmp_path: Path):
    span = ("--from", "2023-10-15", "--to", AS_OF)
    done = ebbtide("structure", "--store", shop.path, *span, "--out", tmp_path / "out", "--deployed", tmp_path / "no")
    assert done.code == 0, done.err
    assert "who moved, 2024-05-01 to 2024-06-01" in done.out
    assert "learned from the log" in done.out
    structure = pd.read_csv(tmp_path / "out" / "structure.csv")
    assert list(structure["as_of"])[:2] == ["2023-10-15T00:00:00Z", "2023-11-01T00:00:00Z"]
    stages = structure.filter(like="stage_")
    flows = pd.read_csv(tmp_path / "out" / "flows.csv")
    arrived = flows.groupby(["to", "stage_after"])["users"].sum().unstack()
    for moment, row in zip(structure["as_of"][1:], stages.iloc[1:].to_dict("records"), strict=True):
        assert {f"stage_{name}": count for name, count in arrived.loc[moment].items()} == row
    assert (tmp_path / "out" / "cohorts.csv").exists()


def test_the_page_on_the_user_base(ebbtide: Ebbtide, shop: Store, tmp_path: Path):
    where = ("--store", shop.path, "--as-of", AS_OF, "--deployed", tmp_path / "no")
    done = ebbtide("report", *where, "--out", tmp_path / "audience.html")
    assert done.code == 0, done.err
    assert "no churn model is deployed" in done.out
    page = (tmp_path / "audience.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert page.count("<img") >= 4  # the shop has no categories and knows no risks


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_on_a_user(ebbtide: Ebbtide, shop: Store, tmp_path: Path, language: str):
    where = ("--store", shop.path, "--as-of", AS_OF, "--deployed", tmp_path / "no", "--language", language)
    for kind in ("html", "txt", "json"):
        done = ebbtide("report", *where, "--user", "u3", "--out", tmp_path / f"u3.{kind}")
        assert done.code == 0, done.err
    assert "u3" in (tmp_path / "u3.html").read_text()
    assert json.loads((tmp_path / "u3.json").read_text())["user_id"] == "u3"
    text = (tmp_path / "u3.txt").read_text()
    assert ("order" in text) == (language == "en")
    month = json.loads((tmp_path / "u3.json").read_text())["months"][0]["period"]
    done = ebbtide("report", *where, "--user", "u3", "--out", tmp_path / "u3.txt", "--period", month)
    assert done.code == 0, done.err


def test_bad_input_gets_one_message(ebbtide: Ebbtide, shop: Store, tmp_path: Path):
    where = ("--store", shop.path, "--deployed", tmp_path / "no")
    page, text = tmp_path / "r.html", tmp_path / "r.txt"
    for arguments, said in (
        (("report", *where, "--as-of", AS_OF, "--out", text), "end its name with .html"),
        (("report", *where, "--as-of", AS_OF, "--out", page, "--period", "2024-01"), "--period 2024-01"),
        (("report", *where, "--as-of", AS_OF, "--user", "nobody", "--out", page), "nothing is known of user nobody"),
        (
            ("report", *where, "--as-of", AS_OF, "--user", "u3", "--out", text, "--period", "1999"),
            "no report of '1999'",
        ),
        (("report", *where, "--as-of", "1999-01-01", "--out", page), "not after the first event"),
        (("needs", "--store", shop.path), "ingest an items table"),
        (("report", *where, "--as-of", AS_OF, "--out", page, "--language", "zh"), "--language zh"),
        (("structure", *where, "--from", "1999-01-01", "--to", AS_OF), "after the first event"),
        (("structure", *where, "--from", "soon", "--to", AS_OF), "not an ISO date"),
        (("structure", *where, "--from", AS_OF, "--to", "2024-01-01"), "--from"),
    ):
        done = ebbtide(*arguments)
        assert done.code == 2, done
        assert said in done.err
        assert done.err.count("\n") == 1


def test_needs_are_proposed_and_the_file_can_be_deployed(ebbtide: Ebbtide, tmp_path: Path):
    days = pd.date_range("2024-01-01", periods=200, freq="D")
    rows = [
        (f"u{user}", days[user % 150 + after], "view", item, category)
        for user in range(120)
        for after, item, category in ((0, "i1", "tents"), (3, "i2", "stoves"), (30, "i3", "books"))
    ]
    log = pd.DataFrame(rows, columns=["user_id", "ts", "kind", "item_id", "category"])
    store = ingested(log, tmp_path / "store")
    done = ebbtide("needs", "--store", store.path, "--out", tmp_path / "proposed.toml")
    assert done.code == 0, done.err
    assert "tents, then stoves" in done.out
    assert "none is in force" in done.out
    proposed = read_table(tmp_path / "proposed.toml", NeedsTable)
    assert any(need.in_turn and need.in_turn[0].first.categories == ("tents",) for need in proposed.needs)
