"""The registered model as MLflow loads it (models from code): a bundle, no pickle."""

from pathlib import Path
from typing import Any

import mlflow.models
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel

from models.churn import PART
from models.deployed import Deployed, load_bundle
from models.recommender import History
from models.recommender.history import PURCHASE


class BundleModel(PythonModel):
    """Scores signals (churn) or purchase lines (cross-sell) with the models of a bundle."""

    def load_context(self, context: Any) -> None:
        self.deployed: Deployed = load_bundle(Path(context.artifacts["bundle"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """`churn_probability` a row of signals, or a ranked list of 20 a user of purchase lines as of the last one."""
        if PART in self.deployed.bundle.parts:
            return self._churn(model_input)
        return self._recommend(model_input)

    def _churn(self, signals: pd.DataFrame) -> pd.DataFrame:
        assert self.deployed.churn is not None
        values = signals.reindex(columns=self.deployed.churn.names).to_numpy(np.float32)
        return pd.DataFrame({"churn_probability": self.deployed.churn.score(np.ascontiguousarray(values))})

    def _recommend(self, lines: pd.DataFrame) -> pd.DataFrame:
        recommender = self.deployed.recommender
        assert recommender is not None
        ts = pd.to_datetime(lines["ts"], utc=True).to_numpy("datetime64[us]").astype(np.int64)
        as_of = int(ts.max()) + 1 if len(ts) else recommender.as_of
        codes = recommender.catalogue.codes(lines["item_id"].astype(str).tolist())
        ids, user = np.unique(lines["user_id"].astype(str), return_inverse=True)
        history = History.of(ids.tolist(), user, codes, np.full(len(ts), PURCHASE, np.uint8), ts)
        rows = [
            (name, i + 1, recommender.catalogue.ids[s.item], s.score, s.head)
            for name, found in zip(ids, recommender.recommend(history, as_of), strict=True)
            for i, s in enumerate(found)
        ]
        return pd.DataFrame(rows, columns=["user_id", "rank", "item_id", "score", "head"])


mlflow.models.set_model(BundleModel())
