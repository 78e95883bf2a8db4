"""The road on published data, from the shipped sources to scores, with the protocols' churn figures."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from mlflow.entities import Run

from tests.cli.conftest import Ebbtide
from tests.features.support import ROOT
from training import tracking

pytestmark = pytest.mark.slow
Tell = Callable[..., None]
FIGURES = (
    "auc", "average_precision", "brier", "lift_top_tenth", "expected_maximum_profit",
    "calibration_error", "calibration_error_limit", "calibration_slope", "calibration_intercept",
)  # fmt: skip


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of its own, tracking store included, and a recipe that tests at the protocol's moment only."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.toml").write_text("test_moments = 1\n")
    return tmp_path


def trained(ebbtide: Ebbtide, source: str, as_of: str, horizon: int, lookback: int) -> Run:
    """Ingest, train, promote and score; gives the tracked run."""
    options = ["--horizon", str(horizon), "--lookback", str(lookback), "--recipe", "one.toml"]
    steps: list[list[object]] = [
        ["ingest", ROOT / "sources" / source, "--store", "store"],
        ["train", "churn", "--store", "store", "--as-of", as_of, *options],
        ["promote", "churn"],
        ["score", "--store", "store", "--as-of", as_of, "--out", "c.parquet"],
    ]
    for step in steps:
        done = ebbtide(*step)
        assert done.code == 0, done
    client = tracking.connect()
    return client.get_run(str(client.get_model_version(tracking.CHURN, "1").run_id))


def checked(run: Run, tell: Tell, *, users: int, churned: float, least: float) -> None:
    found = run.data.metrics
    assert found["users"] == users
    assert found["churned_share"] == pytest.approx(churned, abs=0.0005)
    assert found["auc"] >= least
    tell(**{name: round(found[name], 4) for name in FIGURES}, over_rfm=round(found["auc_over_rfm-logistic"], 4))


def test_online_retail_at_90_days(
    ebbtide: Ebbtide, online_retail: Path, work: Path, monkeypatch: pytest.MonkeyPatch, tell: Tell
) -> None:
    monkeypatch.setenv("ONLINE_RETAIL_PARQUET", str(online_retail))
    run = trained(ebbtide, "online_retail", "2011-12-09", 90, 180)
    checked(run, tell, users=2_787, churned=0.382, least=0.765)
    assert pq.read_metadata(work / "c.parquet").num_rows > 5_000


def test_complete_journey_at_14_days(ebbtide: Ebbtide, complete_journey: Path, work: Path, tell: Tell) -> None:
    run = trained(ebbtide, "complete_journey", "2017-12-31", 14, 60)
    checked(run, tell, users=2_251, churned=0.259, least=0.830)
    assert pq.read_metadata(work / "c.parquet").num_rows == 2_469
