"""The churn model in force, as a new run looks at it: its settings, its scores, and the model itself where it loads."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from models.bundle import BundleError, open_bundle
from models.churn import ChurnModel, load
from training.promotion import bundle_of, champion, kept_scores
from training.tracking import CHURN, connect, run_of

COMPARED = {
    "data digest": "data (by digest)",
    "horizon": "horizon",
    "lookback": "look-back",
    "test moments": "moments of the backtest",
}


@dataclass(frozen=True)
class Champion:
    """The champion.

    Attributes:
        params: of its run.
        contender: its name among the contenders of its run.
        scores: its run's `paired.backtest_table`; None if the run kept none.
        model: None if it cannot be loaded.
        why: it cannot.
    """

    version: str
    params: Mapping[str, str]
    contender: str
    scores: pa.Table | None
    model: ChurnModel | None
    why: str

    def differences(self, params: Mapping[str, object]) -> list[tuple[str, str, str]]:
        """(what, ours, the champion's) wherever the settings of two runs differ that make them comparable."""
        return [
            (what, str(params[key]), self.params.get(key, "unknown"))
            for key, what in COMPARED.items()
            if str(params[key]) != self.params.get(key)
        ]


def champion_in_force() -> Champion | None:
    """The registered champion; None without one."""
    client = connect()
    version = champion(client, CHURN)
    if version is None:
        return None
    run = run_of(client, version)
    model, why = _model(version)
    contender = run.data.tags["contender"]
    return Champion(str(version.version), run.data.params, contender, kept_scores(client, version), model, why)


def _model(version: ModelVersion) -> tuple[ChurnModel | None, str]:
    try:
        return load(open_bundle(bundle_of(version))), ""
    except (BundleError, MlflowException, OSError, KeyError) as error:  # of an earlier version, or its files are gone
        return None, str(error)
