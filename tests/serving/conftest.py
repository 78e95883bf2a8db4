"""One shop, its models and one server for all tests of the service."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from features.audience.learn import learn
from features.events.store import Store
from models.churn import ChurnModel
from models.recommender import Recommender
from serving.settings import Settings
from tests.serving.shop import (
    AS_OF,
    Server,
    assumed_consent,
    deploy_bundle,
    ingested_shop,
    running,
    shop_log,
    trained_churn,
    trained_recommender,
)


@dataclass(frozen=True)
class Shop:
    """What is served."""

    log: pd.DataFrame
    settings: Settings
    churn: ChurnModel
    recommender: Recommender
    bundle: Path

    @property
    def store(self) -> Store:
        return Store.open(self.settings.store)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    settings = Settings(folder / "store", folder / "deployed", AS_OF)
    settings.deployed.mkdir()
    log = shop_log()
    store = ingested_shop(log, settings.store)
    churn, recommender = trained_churn(store), trained_recommender(store)
    learned, tables = learn(store, AS_OF), assumed_consent()
    bundle = deploy_bundle(settings.deployed, churn, recommender, 1, learned, tables)
    return Shop(log, settings, churn, recommender, bundle)


@pytest.fixture(scope="session")
def server(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(shop.settings, tmp_path_factory.mktemp("server")) as server:
        yield server
