"""`ebbtide erase`: a person goes everywhere, the proof is printed, and what cannot be proved exits 1."""

import json
from pathlib import Path
from typing import Any

import pytest

from features.events.ingest import locked
from features.events.store import Store
from models.exposure import Exposure, append, read_exposures
from tests.cli.conftest import Ebbtide
from tests.features.support import at, folder_bytes, ingest_rows
from training.erase import count_shown


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a store and an exposure log, in which anna42 did something, on a device too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    view = {"kind": "view", "item_id": "i", "device_id": "d"}
    rows: list[dict[str, Any]] = [
        {**view, "user_id": None, "ts": "2024-05-01"},
        {"user_id": "anna42", "kind": "login", "device_id": "d", "ts": "2024-05-02"},
        {"user_id": "anna42", "kind": "view", "ts": "2024-05-02", "page": "/profile/anna42"},
        {"user_id": "bob", "kind": "view", "ts": "2024-05-03", "item_id": "i"},
        {"user_id": "anna42", "kind": "view", "ts": "2024-05-02", "price": -1},
        {**view, "user_id": None, "ts": "2024-05-04"},
    ]
    ingest_rows(rows, tmp_path / "store", max_rejected=1)
    (tmp_path / "exposures").mkdir()
    slots = {"item_id": ["i"], "rank": [0], "head": ["popular"]}
    numbers = {name: [1.0] for name in ("score", "propensity", "slot_propensity")}
    about = {"model": "m", "bundle": "b", "mode": "all", "scene": "", "k": 1, "exploration": 0.0, "pool": 1}
    when = {"time": at("2024-05-01"), "as_of": at("2024-05-01"), "request_id": "r", "explored": False}
    append(
        tmp_path / "exposures",
        [Exposure(user_id=user, **when, **about, **slots, **numbers) for user in ("anna42", "bob", "device:d")],  # type: ignore[arg-type]
    )
    return tmp_path


ARGUMENTS = ("--store", "store", "--exposures", "exposures")


def test_a_person_goes_everywhere_and_it_is_proved(ebbtide: Ebbtide, here: Path) -> None:
    (here / "deployed").mkdir()
    done = ebbtide("erase", "anna42", *ARGUMENTS, "--deployed", "deployed")
    assert (done.code, done.err) == (0, "")
    figures = {" ".join(line.split()[:-2]): line.split()[-2:] for line in done.out.splitlines() if line[-1:].isdigit()}
    assert figures == {
        "store: their events": ["2", "0"],
        "store: events of anonymous devices that became theirs": ["1", "0"],
        "store: entries in lists of users": ["1", "0"],
        "store: rows of the users table": ["0", "0"],
        "store: invitations by them": ["0", "0"],
        "store: words that only they had": ["1", "0"],
        "store: rejected rows": ["1", "0"],
        "exposures: answers to them": ["2", "0"],
        "files that name them": ["5", "0"],
    }
    assert "anna42: nothing is left" in done.out
    assert "1 events of device:d" in done.out
    assert "ingesting them again brings the user back" in done.out
    assert "Not searched, as none was named or there is none: runs." in done.out
    assert Store.open("store").rows == 2
    assert read_exposures(Path("exposures"))["user_id"].to_pylist() == ["bob"]
    assert not any(b"anna42" in content for content in folder_bytes(here / "store").values())
    assert not (here / "mlruns").exists()


def test_erasing_twice_and_erasing_nobody(ebbtide: Ebbtide, here: Path) -> None:
    assert ebbtide("erase", "anna42", *ARGUMENTS).code == 0
    before = folder_bytes(here)
    for user in ("anna42", "nobody"):
        done = ebbtide("erase", user, *ARGUMENTS)
        assert done.code == 0
        assert f"nothing was known of {user}" in done.out
    assert {**folder_bytes(here), "exposures/lock": b""} == {**before, "exposures/lock": b""}


def test_what_is_left_is_named_and_exits_1(ebbtide: Ebbtide, here: Path) -> None:
    """A page of somebody else names the person: nobody may take it from him."""
    ingest_rows([{"user_id": "bob", "kind": "view", "ts": "2024-05-05", "page": "/profile/anna42"}], here / "store")
    done = ebbtide("erase", "anna42", *ARGUMENTS)
    assert done.code == 1
    assert "left: store/words/page-" in done.out
    assert "not erased: files that name them (1)" in done.out


def test_a_bundle_that_names_them_is_found_and_left_whole(ebbtide: Ebbtide, here: Path) -> None:
    (here / "deployed" / "b").mkdir(parents=True)
    (here / "deployed" / "b" / "users.json").write_text(json.dumps(["anna42"]))
    done = ebbtide("erase", "anna42", *ARGUMENTS, "--deployed", "deployed")
    assert done.code == 1
    assert "left: deployed/b/users.json" in done.out
    assert (here / "deployed" / "b" / "users.json").is_file()


def test_a_number_that_may_number_something_else_is_told(ebbtide: Ebbtide, here: Path) -> None:
    rows = [{"user_id": user, "kind": "view", "ts": "2024-05-05", "item_id": "1234567"} for user in ("1234567", "bob")]
    ingest_rows(rows, here / "store")
    done = ebbtide("erase", "1234567", "--store", "store")
    assert done.code == 0
    assert "the number 1234567 stands in store/words/item_id-" in done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("anna42", "--store", "nowhere"), "no store at nowhere"),
        (("anna42", *ARGUMENTS, "--deployed", "nowhere"), "--deployed nowhere: there is no such folder"),
        (("anna42", "--store", "store", "--exposures", "nowhere"), "--exposures nowhere: there is no such folder"),
        (("", *ARGUMENTS), "USER is empty"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], said: str, ebbtide: Ebbtide, here: Path) -> None:
    before = folder_bytes(here)
    done = ebbtide("erase", *arguments)
    assert done.code == 2
    assert said in done.err
    assert folder_bytes(here) == before
    assert not (here / "nowhere").exists()


def test_while_an_ingest_is_running_nothing_is_touched(ebbtide: Ebbtide, here: Path) -> None:
    with locked(here / "store"):
        done = ebbtide("erase", "anna42", *ARGUMENTS)
    assert done.code == 2
    assert "another process is writing to store; wait" in done.err
    assert count_shown(Path("exposures"), ["anna42"]) == 1
    assert Store.open("store").rows == 5
