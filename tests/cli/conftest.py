"""The command line run in this process, as `ebbtide` would be."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.main import main
from tests.shop import CHURN_RECIPE, CROSS_SELL_RECIPE


@dataclass(frozen=True)
class Done:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


Ebbtide = Callable[..., Done]


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def ebbtide(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Ebbtide:
    """Runs a command; an exception that would be a traceback is one in the test too."""
    for name in ("MLFLOW_DISABLE_TELEMETRY", "BENTOML_DO_NOT_TRACK", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))

    def run(*arguments: object) -> Done:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["ebbtide", *map(str, arguments)])
        try:
            main()
            code: object = 0
        except SystemExit as end:
            code = end.code
        said = capfd.readouterr()
        return Done(code if isinstance(code, int) else int(code is not None), said.out, said.err)

    return run


@pytest.fixture(scope="session")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small recipes as files."""
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "churn.toml").write_text(CHURN_RECIPE)
    (folder / "cross_sell.toml").write_text(CROSS_SELL_RECIPE)
    return folder
