"""What a backtest comes down to: every figure with its interval over users, and the margins over the others."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import special

from features.events.intake import hash_array
from features.timeline import Array
from training.churn import MODEL, ChurnRun, MomentResult
from training.metrics import CELLS_AT_ONCE, RESAMPLES, Interval, auc_of_resamples
from training.money import Offer
from training.paired import Comparison, compare

MOST_CELLS = 20_000_000  # of resamples × users: a large log has fewer resamples, and needs fewer
FEWEST_RESAMPLES = 40
NODES = 40  # of the integral over the share of leavers who accept
CUTS = 500  # numbers of users to contact that are tried for the best profit

Figures = Mapping[str, Mapping[str, Interval]]  # contender → figure → its interval


@dataclass(frozen=True)
class Headline:
    """The backtest in numbers.

    Attributes:
        means: of every contender's figures over the moments.
        moments: the same at each moment (µs).
        margins: AUC of the model over each baseline.
        worst: baseline → the moment (µs) of the model's smallest margin of AUC, and that margin.
        over_champion: None if there is no champion, or nothing that both were tested on.
    """

    means: Figures
    moments: Mapping[int, Figures]
    margins: Mapping[str, Comparison]
    worst: Mapping[str, tuple[int, float]]
    over_champion: Comparison | None

    @property
    def closest(self) -> str:
        """The baseline that comes closest."""
        return min(self.margins, key=lambda name: self.margins[name].difference.value)

    def summary(self) -> dict[str, dict[str, float]]:
        """Contender → metric → value, as a run keeps them: the bounds of means and margins, the worst margins."""
        out = {
            name: _bounds({f"{figure}_mean": interval for figure, interval in figures.items()})
            for name, figures in self.means.items()
        }
        for name, compared in self.margins.items():
            out[MODEL] |= _bounds({f"auc_over_{name}": compared.difference})
            out[MODEL][f"auc_over_{name}_worst"] = self.worst[name][1]
        if self.over_champion is not None:
            difference = self.over_champion.difference
            out[MODEL] |= {"auc_over_champion": difference.value} | _bounds({"auc_over_champion": difference})
        return out

    def bounds(self) -> dict[int, dict[str, dict[str, float]]]:
        """Moment → contender → `<figure>_low` and `<figure>_high`."""
        return {
            moment: {name: _bounds(figures) for name, figures in contenders.items()}
            for moment, contenders in self.moments.items()
        }


def _bounds(intervals: Mapping[str, Interval]) -> dict[str, float]:
    lows = {f"{name}_low": interval.low for name, interval in intervals.items()}
    return lows | {f"{name}_high": interval.high for name, interval in intervals.items()}


def headline(run: ChurnRun, scores: pa.Table, champion: tuple[pa.Table, str] | None = None) -> Headline:
    """All of it.

    Args:
        scores: the run's `paired.backtest_table`.
        champion: the same of the champion's run, and the champion's name in it.
    """
    means, moments = intervals(run)
    margins = {
        name: found
        for name in run.baselines
        if (found := compare(scores, MODEL, scores, name, auc_of_resamples)) is not None
    }
    worst = {name: _worst(run, name) for name in run.baselines}
    over = compare(scores, MODEL, *champion, auc_of_resamples) if champion else None
    return Headline(means, moments, margins, worst, over)


def _worst(run: ChurnRun, name: str) -> tuple[int, float]:
    margins = [(r.figures[MODEL]["auc"] - r.figures[name]["auc"], r.matrix.as_of) for r in run.backtest]
    margin, moment = min(margins)
    return moment, margin


def intervals(run: ChurnRun, seed: int = 0) -> tuple[Figures, Mapping[int, Figures]]:
    """Figures with 95 % intervals over resampled users: their means over the moments, and each moment's own.

    A user who is drawn is drawn at every moment.
    """
    offer = Offer(**run.recipe["money"])
    known, place = np.unique(np.concatenate([hash_array(r.matrix.user_ids) for r in run.backtest]), return_inverse=True)
    places = np.split(place, np.cumsum([len(r.matrix) for r in run.backtest])[:-1])
    ranked = {
        (result.matrix.as_of, name): Ranked.of(result, name, users)
        for result, users in zip(run.backtest, places, strict=True)
        for name in result.scores
    }
    values: dict[tuple[int, str], dict[str, list[Array]]] = {key: {} for key in ranked}
    for drawn in _drawn(len(known), np.random.default_rng(seed)):
        for key, users in ranked.items():
            for figure, resampled in users.figures(drawn, offer).items():
                values[key].setdefault(figure, []).append(resampled)
    joined = {key: {figure: np.concatenate(v) for figure, v in found.items()} for key, found in values.items()}
    moments = {
        result.matrix.as_of: {
            name: {
                figure: _interval(result.figures[name][figure], resampled)
                for figure, resampled in joined[result.matrix.as_of, name].items()
            }
            for name in result.scores
        }
        for result in run.backtest
    }
    return {name: _means(run, name, joined) for name in run.backtest[0].scores}, moments


def _means(run: ChurnRun, name: str, joined: Mapping[tuple[int, str], Mapping[str, Array]]) -> dict[str, Interval]:
    return {
        figure: _interval(
            float(np.mean([r.figures[name][figure] for r in run.backtest])),
            np.mean([joined[r.matrix.as_of, name][figure] for r in run.backtest], axis=0),
        )
        for figure in joined[run.backtest[0].matrix.as_of, name]
    }


def _interval(value: float, resampled: Array) -> Interval:
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    return Interval(value, float(low), float(high))


def _drawn(users: int, rng: np.random.Generator) -> Iterator[Array]:
    """How often each user is in each resample, int64[some resamples, users] at a time."""
    left = int(np.clip(MOST_CELLS // users, FEWEST_RESAMPLES, RESAMPLES))
    while left:
        some = min(left, max(1, CELLS_AT_ONCE // users))
        yield rng.multinomial(users, np.full(users, 1 / users), some)
        left -= some


@dataclass(frozen=True)
class Ranked:
    """One contender's users of one moment, highest score first.

    Attributes:
        place: int64[users], their numbers among all users.
        left: float64[users], 1 for leavers.
        squared: float64[users], of the probability's error; None if the score is none.
        ends: int64[scores], the last user of each score.
    """

    place: Array
    left: Array
    squared: Array | None
    ends: Array

    @classmethod
    def of(cls, result: MomentResult, name: str, place: Array) -> "Ranked":
        """A contender at a moment; `place` as in the attributes, but in the matrix's order."""
        score = result.scores[name]
        order = np.argsort(-score, kind="stable")
        left = result.matrix.churned[order].astype(np.float64)
        squared = (score[order] - left) ** 2 if "brier" in result.figures[name] else None
        return cls(place[order], left, squared, np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1))

    def figures(self, drawn: Array, offer: Offer) -> dict[str, Array]:
        """Each figure of `training.metrics` on resamples, float64[resamples] each; NaN where it has no value.

        Args:
            drawn: int64[resamples, all users], how often each user is in each.
        """
        times = drawn[:, self.place].astype(np.float64)
        users, leavers = np.cumsum(times, axis=1), np.cumsum(times * self.left, axis=1)
        everyone, all_left = users[:, -1], leavers[:, -1]
        with np.errstate(invalid="ignore", divide="ignore"):
            wanted = np.maximum(1, np.round(everyone / 10))
            taken = np.clip(wanted[:, None] - (users - times), 0, times)
            lift = (taken @ self.left) / wanted / (all_left / everyone)
            users, leavers = users[:, self.ends], leavers[:, self.ends]
            stayers = users - leavers
            found, passed = (np.diff(cumulated, axis=1, prepend=0) for cumulated in (leavers, stayers))
            auc = (passed * (leavers - found / 2)).sum(axis=1) / (all_left * stayers[:, -1])
            precision = np.where(users > 0, leavers / users, 0)
            out = {
                "auc": auc,
                "average_precision": (found * precision).sum(axis=1) / all_left,
                "lift_top_tenth": lift,
                "expected_maximum_profit": _profit(leavers, stayers, everyone, offer),
            }
            if self.squared is not None:
                out["brier"] = (times @ self.squared) / everyone
        return out


def _profit(leavers: Array, stayers: Array, everyone: Array, offer: Offer) -> Array:
    """`metrics.expected_maximum_profit` by midpoints of the distribution of acceptance; float64[resamples]."""
    some = np.unique(np.linspace(0, leavers.shape[1] - 1, CUTS).astype(np.int64))
    hits, alarms = (counts[:, some] / everyone[:, None] for counts in (leavers, stayers))
    gain = (offer.lifetime_value - offer.offer_cost) * hits
    cost = offer.contact_cost * hits + (offer.offer_cost + offer.contact_cost) * alarms
    accepted = special.betaincinv(offer.alpha, offer.beta, (np.arange(NODES) + 0.5) / NODES)
    best = [np.maximum((share * gain - cost).max(axis=1), 0) for share in accepted]
    return np.asarray(np.mean(best, axis=0))
