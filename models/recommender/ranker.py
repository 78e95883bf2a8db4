"""The learned order of candidates: a LightGBM booster over what is known of user, item and both."""

from dataclasses import dataclass
from functools import cached_property

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from models.recommender.past import Floats


@dataclass(frozen=True)
class Ranker:
    """names: the columns that the booster reads, in its order. text: the booster in LightGBM's own format."""

    names: tuple[str, ...]
    text: str

    @cached_property
    def booster(self) -> lgb.Booster:
        """The booster, parsed once."""
        return lgb.Booster(model_str=self.text)

    def scores(self, rows: NDArray[np.float32]) -> Floats:
        """A score in (0, 1) a row; higher is likelier to be bought."""
        if not len(rows):
            return np.zeros(0)
        margin = self.booster.predict(rows, raw_score=True, num_threads=1, validate_features=False)
        odds: Floats = 1.0 / (1.0 + np.exp(-np.asarray(margin, np.float64)))
        return odds
