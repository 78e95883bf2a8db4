"""Whether a trained model still fits the users of today: drift of its signals, and calibration where it is known."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analysis.drift import Drift, drift
from features.engines.local import THREADS, matrices
from features.errors import UserError
from features.events.columns import DAY
from features.events.store import Store
from features.matrix import Matrix
from features.timeline import Array
from models.churn import ChurnModel
from training.backtest import show
from training.metrics import calibration_error_limit, expected_calibration_error

TOLERATED = 0.05  # of probability: so far off, an answer is wrong for those who act on it
CHANCE = 0.001  # of a false alarm if the probabilities are right
DEVIATIONS = 3.29  # standard errors that chance exceeds so rarely
DRAWS = 2_000


@dataclass(frozen=True)
class LiveCalibration:
    """Predictions made at a moment beside what has happened since.

    Attributes:
        as_of: the moment predicted at, µs.
        error: expected calibration error; see `training.metrics`.
        observed, predicted: share of users who left.
    """

    as_of: int
    users: int
    error: float
    error_limit: float
    observed: float
    predicted: float
    share_limit: float

    @property
    def alarm(self) -> bool:
        return self.error > self.error_limit or abs(self.observed - self.predicted) > self.share_limit


@dataclass(frozen=True)
class Watched:
    """What a look at the live users has shown.

    Attributes:
        drifts: worst first.
        calibration: None if no outcome is known yet that the model was not trained on.
        not_calibrated: why there is none.
    """

    as_of: int
    users: int
    drifts: list[Drift]
    calibration: LiveCalibration | None
    not_calibrated: str

    @property
    def alarm(self) -> bool:
        return any(d.alarm for d in self.drifts) or (self.calibration is not None and self.calibration.alarm)


def monitor(
    store: Store,
    model: ChurnModel,
    *,
    as_of: int,
    threads: int = THREADS,
    progress: Callable[[float], None] | None = None,
) -> Watched:
    """Compare the users of a moment with those of training, and predictions of a horizon ago with their outcomes.

    Args:
        as_of: the moment, µs; nothing at or after it is read.

    Raises:
        UserError: no user had a purchase in the model's look-back.
    """
    live = matrices(
        store, [as_of], model.signals, lookback=model.lookback, known_before=as_of, threads=threads, progress=progress
    )[0]
    if len(live) == 0:
        raise UserError(
            f"no user of {store.path} had a purchase in the {model.lookback} days before {show(as_of)}, the model's "
            "look-back: there is nothing to compare; ingest newer events or choose another --as-of"
        )
    values, probability = _scored(live, model)
    drifts = drift(model.reference, as_of, values, probability)
    end = min(as_of, (store.span[1] // DAY + 1) * DAY)  # after its end the log tells of no outcome
    before = end - model.horizon * DAY
    if before < model.as_of:
        why = f"outcomes are known up to {show(before)} only, and the model was trained on the log before"
        return Watched(as_of, len(live), drifts, None, f"{why} {show(model.as_of)}")
    past = matrices(
        store,
        [before],
        model.signals,
        lookback=model.lookback,
        horizon=model.horizon,
        known_before=end,
        threads=threads,
        progress=progress,
    )[0]
    if len(past) == 0:
        why = f"no user had a purchase in the {model.lookback} days before {show(before)}"
        return Watched(as_of, len(live), drifts, None, why)
    return Watched(as_of, len(live), drifts, live_calibration(past.churned, _scored(past, model)[1], before), "")


def live_calibration(churned: Array, probability: Array, as_of: int) -> LiveCalibration:
    """Predictions bool[users] beside float64[users], with the limits that tell error from chance."""
    deviation = float(np.sqrt((probability * (1 - probability)).sum())) / len(probability)
    return LiveCalibration(
        as_of,
        len(churned),
        expected_calibration_error(churned, probability),
        max(TOLERATED, calibration_error_limit(probability, draws=DRAWS, level=1 - CHANCE)),
        float(churned.mean()),
        float(probability.mean()),
        max(TOLERATED, DEVIATIONS * deviation),
    )


def _scored(matrix: Matrix, model: ChurnModel) -> tuple[Array, Array]:
    values = np.ascontiguousarray(matrix.values)
    return values, model.score(values, matrix.as_of)
