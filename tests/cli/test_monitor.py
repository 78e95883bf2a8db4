"""`ebbtide monitor`: calm exits 0, an alarm 1, a mistake 2; the file says what the screen does."""

import json
from pathlib import Path

import pytest

from features.events.store import Store
from tests.cli.conftest import Ebbtide
from tests.features.support import folder_bytes
from tests.shop import ingested, shop_log
from training.churn import ChurnRun

CALM = "2024-05-02"  # the newest moment of training


@pytest.fixture(scope="module")
def silent_shop(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The shop, had it stopped logging purchases and views a fortnight before its end."""
    log = shop_log()
    lost = log["kind"].isin(["view", "purchase"]) & (log["ts"] >= "2024-05-18")
    return ingested(log[~lost], tmp_path_factory.mktemp("silent") / "store")


def test_calm_exits_0(ebbtide: Ebbtide, shop: Store, registry: Path) -> None:
    before = folder_bytes(shop.path)
    done = ebbtide("monitor", "--store", shop.path, "--as-of", CALM)
    assert done.code == 0, done.err
    assert (
        "ebbtide-churn/1 (the newest version, there is no champion), trained on the log before 2024-06-01" in done.out
    )
    assert "calm: no signal drifted" in done.out
    assert "calibration is not known: outcomes are known up to 2024-04-02 only" in done.out
    assert folder_bytes(shop.path) == before


def test_an_alarm_exits_1_and_the_file_has_every_signal(
    ebbtide: Ebbtide, silent_shop: Store, registry: Path, churn_run: ChurnRun, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "drift.json"
    options = ["--store", silent_shop.path, "--as-of", "2024-06-01", "--model", "models:/ebbtide-churn/1"]
    done = ebbtide("monitor", *options, "--out", out)
    assert done.code == 1, done.err
    assert "ALARM" in done.out
    assert "alarm: " in done.out
    assert f"wrote {out}" in done.out
    found = json.loads(out.read_text())
    assert (found["model"], found["as_of"], found["alarm"]) == ("ebbtide-churn/1", "2024-06-01", True)
    assert found["calibration"] is None
    assert "outcomes are known" in found["not_calibrated"]
    names = {entry["signal"] for entry in found["drift"]}
    assert {*churn_run.model.names, "churn_probability"} >= names
    rung = {entry["signal"] for entry in found["drift"] if entry["alarm"]}
    assert {"days_since_purchase", "views_7d", "churn_probability"} <= rung
    worst = [entry["psi"] / entry["limit"] for entry in found["drift"]]
    assert worst == sorted(worst, reverse=True)
    assert all(entry["alarm"] == (entry["psi"] > entry["limit"]) for entry in found["drift"])
    assert str(found["drift"][0]["signal"]) in done.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--as-of", "yesterday"], "not an ISO date"),
        (["--as-of", "2026-01-01"], "nothing to compare"),
        (["--as-of", "2024-06-01", "--model", "models:/ebbtide-churn/9"], "no model models:/ebbtide-churn/9"),
    ],
)
def test_a_mistake_exits_2_with_one_message(
    ebbtide: Ebbtide, shop: Store, registry: Path, options: list[str], said: str
) -> None:
    done = ebbtide("monitor", "--store", shop.path, *options)
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
