"""The churn model: signals in, the probability of no purchase within the horizon out, with reasons."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np

from features import signals as catalogue
from features.signals import Signal
from features.timeline import Array
from models.bundle import Bundle, BundleError

PART = "churn"
RISKS = ("low", "medium", "high")


@dataclass(frozen=True)
class Reason:
    """One signal's part in a probability.

    Attributes:
        usual: the signal's median among the users of training; NaN if mostly not observed.
        effect: how much the probability would change without this signal's contribution.
    """

    signal: str
    value: float
    usual: float
    effect: float
    text: str


@dataclass(frozen=True)
class ChurnModel:
    """A LightGBM booster, a monotone calibration table and what is needed to explain it.

    Attributes:
        booster_text: LightGBM's native text.
        signals: the booster's inputs, in order.
        calibration: float64[2, knots], booster margin → probability, both rising; linear between, flat beyond.
        usual: float64[signals], median in training.
        risk_cuts: probabilities at which risk becomes medium and high.
        base_rate: share of leavers at the newest training moment; the answer for users without a purchase.
        horizon, lookback: days.
    """

    booster_text: str
    signals: tuple[Signal, ...]
    calibration: Array
    usual: Array
    risk_cuts: tuple[float, float]
    base_rate: float
    horizon: int
    lookback: int

    @cached_property
    def booster(self) -> lgb.Booster:
        return lgb.Booster(model_str=self.booster_text)

    @property
    def names(self) -> list[str]:
        return [signal.name for signal in self.signals]

    def margin(self, values: Array) -> Array:
        """The booster's raw log-odds, float64[users], of float32[users, signals]."""
        out = self.booster.predict(values, raw_score=True, num_threads=1, validate_features=False)
        return np.asarray(out, np.float64)

    def score(self, values: Array) -> Array:
        """Probability of no purchase within the horizon, float64[users], of float32[users, signals]."""
        return self._calibrated(self.margin(values))

    def _calibrated(self, margin: Array) -> Array:
        return np.interp(margin, self.calibration[0], self.calibration[1])

    def risk(self, probability: Array) -> list[str]:
        """low, medium or high, a user each."""
        return [RISKS[i] for i in np.searchsorted(self.risk_cuts, probability, side="right")]

    def reasons(self, values: Array, count: int) -> list[list[Reason]]:
        """The signals that move each user's probability most, up to `count`, strongest first."""
        if count == 0 or len(values) == 0:
            return [[] for _ in values]
        parts = self.booster.predict(values, pred_contrib=True, num_threads=1, validate_features=False)
        contributions = np.asarray(parts, np.float64)[:, :-1]
        margin = self.margin(values)
        order = np.argsort(-np.abs(contributions), axis=1, kind="stable")[:, :count]
        effects = self._calibrated(margin)[:, None] - self._calibrated(
            margin[:, None] - np.take_along_axis(contributions, order, 1)
        )
        return [
            [
                self._reason(i, float(values[row, i]), float(effect))
                for i, effect in zip(chosen, effects[row], strict=True)
            ]
            for row, chosen in enumerate(order)
        ]

    def _reason(self, index: int, value: float, effect: float) -> Reason:
        signal, usual = self.signals[index], float(self.usual[index])
        shown = "not observed" if np.isnan(value) else _amount(value, signal.unit)
        norm = "" if np.isnan(usual) else f" (usually {_amount(usual, signal.unit)})"
        return Reason(signal.name, value, usual, effect, f"{signal.description.rstrip('.')}: {shown}{norm}.")

    def save(self, folder: Path) -> None:
        """Write the model's files; the same model gives the same bytes."""
        (folder / "booster.txt").write_text(self.booster_text)
        np.save(folder / "calibration.npy", self.calibration, allow_pickle=False)
        np.save(folder / "usual.npy", self.usual, allow_pickle=False)

    def description(self) -> dict[str, Any]:
        """What the bundle's manifest says of this model."""
        return {
            "signals": [{"name": signal.name, "definition": signal.digest()} for signal in self.signals],
            "risk_cuts": list(self.risk_cuts),
            "base_rate": self.base_rate,
            "horizon": self.horizon,
            "lookback": self.lookback,
        }


def load(bundle: Bundle) -> ChurnModel:
    """The churn part of a verified bundle.

    Raises:
        BundleError: there is none, or its signals are defined otherwise in this version of the code.
    """
    if PART not in bundle.parts:
        raise BundleError(f"{bundle.path} holds no churn model: `ebbtide train churn`, promote and deploy")
    described, folder = bundle.parts[PART], bundle.path / PART
    return ChurnModel(
        (folder / "booster.txt").read_text(),
        _same_signals(described["signals"], bundle.path),
        np.load(folder / "calibration.npy", allow_pickle=False),
        np.load(folder / "usual.npy", allow_pickle=False),
        tuple(described["risk_cuts"]),
        described["base_rate"],
        described["horizon"],
        described["lookback"],
    )


def _same_signals(wanted: Sequence[dict[str, str]], path: Path) -> tuple[Signal, ...]:
    known = {signal.name: signal for signal in catalogue.all_signals()}
    changed = [w["name"] for w in wanted if w["name"] not in known or known[w["name"]].digest() != w["definition"]]
    if changed:
        raise BundleError(
            f"{path} was trained with other definitions of {', '.join(changed[:5])}"
            f"{' and more' if len(changed) > 5 else ''}: train again, promote and deploy"
        )
    return catalogue.by_name([w["name"] for w in wanted])


def _amount(value: float, unit: str) -> str:
    number = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return number if unit in ("ratio", "share") else f"{number} {unit}"
