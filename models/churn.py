"""The churn model: signals in, the probability of no purchase within any horizon out, with reasons."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
from scipy import special

from features import signals as catalogue
from features.errors import UserError
from features.signals import Signal
from features.timeline import Array
from models.alarm import AlarmSettings
from models.bundle import Bundle, BundleError
from models.levels import Levels
from models.plain import PlainScore, columns_of
from models.reference import Reference

PART = "churn"
RISKS = ("low", "medium", "high")
HORIZON = "horizon_days"  # the booster's last input
SURE = 1e-9  # a probability is kept this far from 0 and 1 where its logarithm is taken
STEPS = 64  # of the sum behind `expected_days`


@dataclass(frozen=True)
class ChurnModel:
    """One score for all horizons, a slope and a level a horizon to make it a probability, and what explains it.

    Attributes:
        booster_text: LightGBM's native text; its inputs are the signals, in order, and the horizon in days.
        plain: the score from recency, frequency and money.
        plain_share: of it in the margin; the rest is the booster's.
        horizons: days, rising; those that were trained on. Between them the probability is interpolated.
        slopes: float64[horizons], log-odds for a unit of margin.
        levels: what is added to the log-odds at a moment.
        usual: float64[signals], median in training.
        risk_cuts: probabilities at which risk becomes medium and high, for the horizon asked for in training.
        base_rates: float64[horizons], leavers at the newest training moment; the answer for users without a purchase.
        horizon, lookback: days.
        as_of: the moment of training, µs.
        cause_usual: float64, `causes.usual_of` the users of training.
        reference: the users of training, to compare others with.
    """

    booster_text: str
    plain: PlainScore
    plain_share: float
    signals: tuple[Signal, ...]
    horizons: tuple[int, ...]
    slopes: Array
    levels: Levels
    usual: Array
    risk_cuts: tuple[float, float]
    base_rates: Array
    horizon: int
    lookback: int
    as_of: int
    alarm: AlarmSettings
    cause_usual: Array
    reference: Reference

    @cached_property
    def booster(self) -> lgb.Booster:
        return lgb.Booster(model_str=self.booster_text)

    @cached_property
    def names(self) -> list[str]:
        return [signal.name for signal in self.signals]

    def margins(self, values: Array, horizons: Sequence[int]) -> Array:
        """Scores before slope and level, float64[users, horizons], of float32[users, signals]."""
        boosted = booster_margins(self.booster, values, horizons)
        plain = self.plain.margins(columns_of(values, self.names), horizons)
        return (1 - self.plain_share) * boosted + self.plain_share * plain

    def curve(self, values: Array, as_of: int | None = None, longest: int | None = None) -> Array:
        """Probability of no purchase within each of `horizons`, float64[users, horizons]; it never rises with them.

        Args:
            as_of: the moment of the values, µs; that of training if None.
            longest: leave out the horizons after the first that is at least so long.
        """
        count = len(self.horizons) if longest is None else int(np.searchsorted(self.horizons, longest)) + 1
        level = self.levels.at(self.as_of if as_of is None else as_of)[:count]
        margins = self.margins(values, self.horizons[:count])
        return np.minimum.accumulate(special.expit(self.slopes[:count] * margins + level), axis=1)

    def score(self, values: Array, as_of: int | None = None, horizon: float | None = None) -> Array:
        """Probability of no purchase within a horizon (days), float64[users], of float32[users, signals].

        Raises:
            UserError: the horizon is not from 1 day to the longest of training.
        """
        days = self.horizon if horizon is None else self.checked(horizon)
        return self.within(self.curve(values, as_of, int(np.ceil(days))), days)

    def within(self, curve: Array, days: float) -> Array:
        """Probability of no purchase within so many days, float64[users], of a `curve`."""
        return self._between(curve, [days])[:, 0]

    def expected_days(self, curve: Array) -> Array:
        """Mean days until the next purchase, counting no more than the longest horizon, float64[users], of a `curve`.

        It is the area under the curve (restricted mean survival time, Royston and Parmar 2013), so a user who will not
        come back has the longest horizon.
        """
        days = np.linspace(0, self.horizons[-1], STEPS + 1)
        silent = np.column_stack([np.ones(len(curve)), self._between(curve, days[1:])])
        return np.asarray(np.trapezoid(silent, days, axis=1))

    def checked(self, horizon: float) -> float:
        """A horizon that the model can answer for.

        Raises:
            UserError: it cannot.
        """
        if not 1 <= horizon <= self.horizons[-1]:
            raise UserError(
                f"horizon is {horizon:g} days, and the model tells of 1 to {self.horizons[-1]}: ask for one of those, "
                "or train on a longer log"
            )
        return horizon

    def base_rate(self, horizon: float | None = None) -> float:
        """Share of leavers at the newest training moment."""
        days = self.horizon if horizon is None else self.checked(horizon)
        return float(self._between(self.base_rates[None, :], [days])[0, 0])

    def _between(self, curve: Array, days: Sequence[float] | Array) -> Array:
        """The curve at any days, float64[users, days]: the cumulative hazard is a power of time between two horizons.

        Before the first horizon the hazard is constant.
        """
        known = np.log(self.horizons[: curve.shape[1]])
        wanted = np.log(np.asarray(days, np.float64))
        hazard = np.log(-np.log(np.clip(curve, SURE, 1 - SURE)))
        right = np.clip(np.searchsorted(known, wanted), 1, max(known.size - 1, 1))
        if known.size == 1:
            between = hazard + (wanted - known)
        else:
            left, right_hazard = hazard[:, right - 1], hazard[:, right]
            part = (wanted - known[right - 1]) / (known[right] - known[right - 1])
            between = left + part * (right_hazard - left)
            between = np.where(wanted < known[0], hazard[:, :1] + (wanted - known[0]), between)
        # Rounding may not make a probability rise with the horizon, so it stays between those of the two horizons.
        after = np.searchsorted(known, wanted)
        before = np.column_stack([np.ones(len(curve)), curve])[:, after]
        return np.clip(np.exp(-np.exp(between)), curve[:, after], before)

    def risk(self, probability: Array) -> list[str]:
        """low, medium or high, a user each."""
        return [RISKS[i] for i in np.searchsorted(self.risk_cuts, probability, side="right")]

    def save(self, folder: Path) -> None:
        """Write the model's files; the same model gives the same bytes."""
        (folder / "booster.txt").write_text(self.booster_text)
        for name in ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)
        np.save(folder / "level_moments.npy", self.levels.as_of, allow_pickle=False)
        np.save(folder / "levels.npy", self.levels.values, allow_pickle=False)
        self.reference.save(folder / "reference.npz")

    def description(self) -> dict[str, Any]:
        """What the bundle's manifest says of this model."""
        return {
            "signals": [{"name": signal.name, "definition": signal.digest()} for signal in self.signals],
            "plain": self.plain.to_dict(),
            "alarm": self.alarm.to_dict(),
            "trained_until": self.as_of,
            **{name: getattr(self, name) for name in NUMBERS},
        }


ARRAYS = ("slopes", "usual", "base_rates", "cause_usual")
NUMBERS = ("plain_share", "horizons", "risk_cuts", "horizon", "lookback")


def booster_margins(booster: lgb.Booster, values: Array, horizons: Sequence[int]) -> Array:
    """The booster's raw log-odds, float64[users, horizons], of float32[users, signals]."""
    rows = np.empty((len(values), len(horizons), values.shape[1] + 1), np.float32)
    rows[:, :, :-1] = values[:, None, :]
    rows[:, :, -1] = horizons
    out = booster.predict(rows.reshape(-1, rows.shape[2]), raw_score=True, num_threads=1, validate_features=False)
    return np.asarray(out, np.float64).reshape(len(values), len(horizons))


def load(bundle: Bundle) -> ChurnModel:
    """The churn part of a verified bundle.

    Raises:
        BundleError: there is none, or its signals are defined otherwise in this version of the code.
    """
    if PART not in bundle.parts:
        raise BundleError(f"{bundle.path} holds no churn model: `ebbtide train churn`, promote and deploy")
    described, folder = bundle.parts[PART], bundle.path / PART
    signals = _same_signals(described["signals"], bundle.path)
    arrays = {name: _array(folder, name) for name in ARRAYS}
    return ChurnModel(
        booster_text=(folder / "booster.txt").read_text(),
        plain=PlainScore.from_dict(described["plain"]),
        plain_share=described["plain_share"],
        signals=signals,
        horizons=tuple(described["horizons"]),
        slopes=arrays["slopes"],
        levels=Levels(_array(folder, "level_moments"), _array(folder, "levels")),
        usual=arrays["usual"],
        risk_cuts=tuple(described["risk_cuts"]),
        base_rates=arrays["base_rates"],
        horizon=described["horizon"],
        lookback=described["lookback"],
        as_of=described["trained_until"],
        alarm=AlarmSettings.from_dict(described["alarm"]),
        cause_usual=arrays["cause_usual"],
        reference=Reference.load(folder / "reference.npz"),
    )


def _array(folder: Path, name: str) -> Array:
    return np.asarray(np.load(folder / f"{name}.npy", allow_pickle=False))


def _same_signals(wanted: Sequence[dict[str, str]], path: Path) -> tuple[Signal, ...]:
    known = {signal.name: signal for signal in catalogue.all_signals()}
    changed = [w["name"] for w in wanted if w["name"] not in known or known[w["name"]].digest() != w["definition"]]
    if changed:
        raise BundleError(
            f"{path} was trained with other definitions of {', '.join(changed[:5])}"
            f"{' and more' if len(changed) > 5 else ''}: train again, promote and deploy"
        )
    return catalogue.by_name([w["name"] for w in wanted])
