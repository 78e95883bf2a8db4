"""`ebbtide off-policy` on the log of a service that explored, and on logs that tell nothing."""

import re
from pathlib import Path

from features.events.store import Store
from models.recommender import Ask
from tests.cli.conftest import Ebbtide
from tests.training.test_replay import logged
from training.cross_sell import CrossSellRun


def test_what_a_model_would_have_earned(
    ebbtide: Ebbtide, shop: Store, registry: Path, cross_sell_run: CrossSellRun, tmp_path: Path
) -> None:
    logged(tmp_path / "log", shop, cross_sell_run.model, [Ask("cross_sell", 5)])
    common = ["off-policy", "--exposures", tmp_path / "log", "--store", shop.path]
    done = ebbtide(*common, "--days", 14, "--model", "models:/ebbtide-cross-sell/1")
    assert done.code == 0, done.err
    assert "1,440 lists of 240 users from 2024-03-03 to 2024-05-12, 14 days after each" in done.out
    assert re.search(r"bought of each list: \d\.\d{4} items \(\d\.\d{4} to \d\.\d{4}\)", done.out)
    assert "what the lists of ebbtide-cross-sell/1 (models:/ebbtide-cross-sell/1) would have sold" in done.out
    for name in ("inverse propensity", "self-normalised", "doubly robust"):
        for unit in ("if an item's slot matters", "if it does not"):
            value, low, high = map(float, re.findall(rf"{name}, {unit} +([\d.]+) +([\d.]+) +([\d.]+)", done.out)[0])
            assert low <= value <= high
    assert "warning: the model learned from the log until 2024-06-01" in " ".join(done.out.split())
    champion = ebbtide(*common)
    assert champion.code == 0, champion.err
    assert "7 days after each" in champion.out
    assert "(the newest version, there is no champion)" in champion.out


def test_a_log_that_tells_nothing_is_refused(
    ebbtide: Ebbtide, shop: Store, registry: Path, cross_sell_run: CrossSellRun, tmp_path: Path
) -> None:
    common = ["off-policy", "--store", shop.path, "--exposures"]
    nothing = ebbtide(*common, tmp_path)
    assert (nothing.code, "no exposures in" in nothing.err) == (2, True)
    logged(tmp_path / "log", shop, cross_sell_run.model, [Ask("cross_sell", 5)])
    late = ebbtide(*common, tmp_path / "log", "--days", 200)
    assert (late.code, "no exposure has its outcome yet" in late.err) == (2, True)
    assert ebbtide(*common, tmp_path / "log", "--days", 0).code == 2


def test_exploring_without_a_log_is_refused(ebbtide: Ebbtide, shop: Store, tmp_path: Path) -> None:
    done = ebbtide("serve", "--store", shop.path, "--deployed", tmp_path, "--explore", "0.1")
    assert (done.code, "name a folder with --exposures" in done.err) == (2, True)
