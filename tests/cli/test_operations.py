"""`ebbtide deploy --operations`, `audience` and `plan`, as an operator runs them."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from features.events.store import Store
from models.bundle import deploy, deployed
from models.deployed import load_current
from models.operations import NAMES, PLAYBOOK, STAGES, shipped_texts
from tests.cli.conftest import Ebbtide

AS_OF = "2024-06-01"
ASSUMED = ('consent = "required"', 'consent = "assumed"')


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A folder with the shipped playbook, for a shop that keeps its record of consent elsewhere."""
    folder = tmp_path / "operations"
    folder.mkdir()
    (folder / PLAYBOOK).write_text(shipped_texts()[PLAYBOOK].replace(*ASSUMED))
    return folder


@pytest.fixture
def deployed_shop(ebbtide: Ebbtide, registry: Path, tables: Path, tmp_path: Path) -> Path:
    """Both champions and that playbook, deployed."""
    for name in ("churn", "cross-sell"):
        ebbtide("promote", name)
    done = ebbtide("deploy", "--deployed", tmp_path / "deployed", "--operations", tables)
    assert done.code == 0, done.err
    assert "changed: playbook.toml" in done.out
    return tmp_path / "deployed"


def test_who_they_are_and_whom_to_write_to(ebbtide: Ebbtide, deployed_shop: Path, shop: Store, tmp_path: Path):
    where = ("--store", shop.path, "--deployed", deployed_shop, "--as-of", AS_OF)
    done = ebbtide("audience", *where, "--out", tmp_path / "audience.parquet")
    assert done.code == 0, done.err
    assert "dormant after" in done.out
    everybody = pd.read_parquet(tmp_path / "audience.parquet")
    assert everybody["user_id"].is_unique
    assert everybody["stage"].notna().all()
    assert set(everybody["leaving"]) == {"staying", "about_to_leave", "left"}

    done = ebbtide("plan", *where, "--out", tmp_path / "contacts.csv")
    assert done.code == 0, done.err
    contacts = pd.read_csv(tmp_path / "contacts.csv")
    assert f"{len(contacts)} contacts among {len(everybody)} users" in done.out
    assert contacts["contact_id"].is_unique
    assert contacts["user_id"].is_unique
    assert (contacts["campaign_id"] == contacts["ladder"] + "/" + contacts["step"].astype(str)).all()
    assert contacts["reason"].str.contains("step 1 of").all()
    again = ebbtide("plan", *where, "--out", tmp_path / "again.csv")
    assert again.code == 0
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "contacts.csv").read_bytes()

    user = contacts["user_id"][0]
    done = ebbtide("plan", *where, "--explain", user)
    assert done.code == 0, done.err
    assert f"contact {contacts['campaign_id'][0]}" in done.out
    assert "no rule matches" in done.out or "step due" in done.out


def test_what_is_not_given_stays_as_deployed(ebbtide: Ebbtide, deployed_shop: Path, tmp_path: Path):
    assert ebbtide("deploy", "--deployed", deployed_shop).code == 0
    kept = load_current(deployed_shop).operations
    assert kept is not None
    assert kept.playbook.consent == "assumed"
    folder = tmp_path / "borders"
    folder.mkdir()
    (folder / STAGES).write_text(shipped_texts()[STAGES].replace('dormant_days = "learned"', "dormant_days = 12", 1))
    done = ebbtide("deploy", "--deployed", deployed_shop, "--operations", folder)
    assert "changed: stages.toml" in done.out
    now = load_current(deployed_shop).operations
    assert now is not None
    assert (now.playbook.consent, now.stages.borders.dormant_days) == ("assumed", 12)


def test_a_damaged_bundle_does_not_bring_back_our_tables(ebbtide: Ebbtide, deployed_shop: Path, tmp_path: Path):
    before = deployed(deployed_shop)
    (before / "operations" / PLAYBOOK).write_text("damaged")
    done = ebbtide("deploy", "--deployed", deployed_shop)
    assert done.code == 2
    assert "--operations" in done.err
    assert deployed(deployed_shop) == before
    whole = tmp_path / "whole"
    whole.mkdir()
    for name, text in shipped_texts().items():
        (whole / name).write_text(text.replace(*ASSUMED))
    done = ebbtide("deploy", "--deployed", deployed_shop, "--operations", whole)
    assert done.code == 0, done.err
    now = load_current(deployed_shop).operations
    assert now is not None
    assert now.playbook.consent == "assumed"


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        (PLAYBOOK, 'offer = "invite_reward"', 'offer = "inviting"', "ladder recall"),
        (PLAYBOOK, 'stages = ["dormancy"]', 'stages = ["asleep"]', "introduction"),
        (PLAYBOOK, "week = 3", "weeks = 3", "weeks is not a setting; there are"),
        (STAGES, 'lost_days = "learned"', "lost_days = 0", "lost_days"),
    ],
)
def test_a_mistake_is_told_at_deployment_and_changes_nothing(
    ebbtide: Ebbtide, deployed_shop: Path, tables: Path, name: str, old: str, new: str, said: str
):
    before = deployed(deployed_shop)
    given = shipped_texts()[name]
    assert old in given
    (tables / name).write_text(given.replace(old, new, 1))
    done = ebbtide("deploy", "--deployed", deployed_shop, "--operations", tables)
    assert done.code == 2
    line = given[: given.index(old)].count("\n") + 1
    place, _, message = done.err.removeprefix(f"ebbtide: {tables / name}:").partition(": ")
    assert int(place) == line, done.err
    assert said in message
    assert done.err.count("\n") == 1
    assert deployed(deployed_shop) == before


def test_a_folder_without_the_files_is_refused(ebbtide: Ebbtide, deployed_shop: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "nowhere"):
        done = ebbtide("deploy", "--deployed", deployed_shop, "--operations", folder)
        assert done.code == 2
        assert all(name in done.err for name in NAMES)
    (tmp_path / "empty" / "playbok.toml").write_text("")
    done = ebbtide("deploy", "--deployed", deployed_shop, "--operations", tmp_path / "empty")
    assert done.code == 2
    assert "playbok.toml" in done.err


def test_bad_input_gets_one_message(ebbtide: Ebbtide, deployed_shop: Path, bundle: Path, shop: Store, tmp_path: Path):
    where = ("--store", shop.path, "--as-of", AS_OF)
    bad = [
        (("audience", *where, "--deployed", deployed_shop, "--out", tmp_path / "a.txt"), "neither .csv nor .parquet"),
        (("plan", *where, "--deployed", deployed_shop), "either --out"),
        (("plan", *where, "--deployed", deployed_shop, "--explain", "nobody"), "nothing is known of user nobody"),
        (("plan", *where, "--deployed", tmp_path / "nowhere", "--out", tmp_path / "p.csv"), "ebbtide deploy"),
    ]
    old = tmp_path / "old"
    shutil.copytree(bundle, old / bundle.name)
    deploy(old / bundle.name, old)
    bad.append((("plan", *where, "--deployed", old, "--out", tmp_path / "p.csv"), "without an audience or a playbook"))
    for arguments, said in bad:
        done = ebbtide(*arguments)
        assert done.code == 2, done
        assert said in done.err
        assert done.err.count("\n") == 1
