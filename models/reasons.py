"""Why a probability is what it is: what it would be if a theme of the user's behaviour were as usual.

A reason replaces all signals of one theme by the user's own norm, their medians at earlier moments, and scores again:
its effect is the difference. Where the user was always like this, the norm is that of customers instead, and the text
says so. Nothing of it is about one model: it asks for scores only.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from features.events.columns import DAY
from features.matrix import evaluate, moments_of
from features.signals import Signal
from features.timeline import Array, Timeline
from models import words

Norm = Literal["own", "customers"]
Score = Callable[[Array], Array]

EARLIER: Final = (30, 75, 120)  # days before the moment at which the own norm is taken: each costs a matrix of its own
LEAST = 0.005  # an effect of less explains nothing …
PERSONAL = 3.0  # an effect against the own norm ranks as one so many times as large: it tells what has changed
SOME = 1e-6  # … but of the first reason any is told
CANDIDATES = 6  # signals of a theme that are tried as its leading one
TOLD_APART = 0.05  # of the larger: closer than this a value is as usual
PLAIN = 2.0  # a signal with a text of its own leads unless another moves the probability so many times as much
CHUNK = 2_000  # users scored at once
# Families that tell of the same behaviour are replaced together: half a replacement would be a user who cannot be.
THEMES: Final[Mapping[str, str]] = {
    "recency": "silence",
    "rhythm": "silence",
    "frequency": "buying",
    "monetary": "buying",
    "breadth": "buying",
    "newest": "browsing",
}
AGELESS: Final = ("season",)  # families that tell of the calendar


@dataclass(frozen=True)
class Reason:
    """A theme's part in a probability, told by its leading signal.

    Attributes:
        usual: the leading signal's norm.
        norm: whose it is: the user's own, or that of customers (the median in training).
        effect: probability less what it would be with the theme as usual.
    """

    signal: str
    family: str
    value: float
    usual: float
    norm: Norm
    effect: float
    text: str


def norms(timeline: Timeline, as_of: int, signals: tuple[Signal, ...], earlier: Sequence[int] = EARLIER) -> Array:
    """Each user's own norm: the median of each signal at earlier moments at which they had bought before.

    Args:
        earlier: days before the moment.

    Returns:
        float32[users, signals], NaN where there is no such moment, or the signal was not observed at any.
    """
    moments = moments_of(timeline, [as_of - days * DAY for days in earlier], signals)
    everybody = np.ones(len(timeline), bool)
    seen = np.stack([evaluate(moment, signals, everybody) for moment in moments])
    for values, moment in zip(seen, moments, strict=True):
        values[:, ~(moment.count("purchase") > 0)] = np.nan
    return np.ascontiguousarray(_median(seen).T)


def _median(values: Array) -> Array:
    """Of the first axis, without NaN; the lower of two in the middle, which is a value that was there."""
    known = np.isfinite(values).sum(axis=0)
    middle = np.maximum(known - 1, 0) // 2
    return np.asarray(np.take_along_axis(np.sort(values, axis=0), middle[None], axis=0)[0])


def can_be_usual(signal: Signal) -> bool:
    """Whether a signal has a usual value: not if it only counts the user's age or tells the date."""
    aged = signal.name.startswith("days_since_first") or signal.name.endswith("_ever")
    return not aged and signal.family not in AGELESS


def reasons(
    score: Score,
    signals: Sequence[Signal],
    values: Array,
    own: Array,
    usual: Array,
    base_rate: float,
    count: int,
    language: words.Language = "en",
) -> list[list[Reason]]:
    """Up to `count` reasons a user: what raises the probability most, or for users below the base rate what lowers it.

    What differs from the user's own past comes before what differs as much from other customers.

    Args:
        score: float32[rows, signals] → float64[rows], a row at a time independent of the others.
        values: float32[users, signals].
        own: float32[users, signals], `norms`.
        usual: float64[signals], medians in training.
    """
    if count == 0:
        return [[] for _ in values]
    out: list[list[Reason]] = []
    for start in range(0, len(values), CHUNK):
        rows = slice(start, start + CHUNK)
        out += _Users(score, signals, values[rows], own[rows], usual, base_rate).reasons(count, words.load(language))
    return out


class _Users:
    """Some users, and what they would score if they were otherwise."""

    def __init__(
        self, score: Score, signals: Sequence[Signal], values: Array, own: Array, usual: Array, base_rate: float
    ) -> None:
        self.score, self.signals, self.values = score, signals, values
        everybody = np.broadcast_to(usual.astype(np.float32), values.shape)
        usable = np.array([can_be_usual(signal) for signal in signals])
        # No norm: the value stays as it is.
        self.norm = {
            "own": np.where(usable & np.isfinite(own), own, values),
            "customers": np.where(usable & np.isfinite(everybody), everybody, values),
        }
        theme = [THEMES.get(signal.family, signal.family) for signal in signals]
        self.themes = [np.flatnonzero([one == name for one in theme]) for name in dict.fromkeys(theme)]
        self.probability = score(values)
        self.sign = np.where(self.probability >= base_rate, 1.0, -1.0)

    def reasons(self, count: int, texts: words.Words) -> list[list[Reason]]:
        users, themes = len(self.values), len(self.themes)
        effect = {name: self._effects(name) for name in ("own", "customers")}
        signed = self.sign[:, None] * effect["own"]
        norm = np.where(signed >= LEAST, 0, 1)
        best = np.where(norm == 0, effect["own"], effect["customers"])
        signed = self.sign[:, None] * best
        rank = np.where(norm == 0, PERSONAL, 1.0) * signed
        order = np.argsort(-rank, axis=1, kind="stable")[:, : min(count, themes)]
        chosen = [
            (u, t)
            for u in range(users)
            for t in order[u].tolist()
            if signed[u, t] >= (LEAST if t != order[u, 0] else SOME)
        ]
        leading = self._leading(chosen, norm, texts)
        out: list[list[Reason]] = [[] for _ in range(users)]
        names = [signal.name for signal in self.signals]
        for (u, t), i in zip(chosen, leading, strict=True):
            whose: Norm = "own" if norm[u, t] == 0 else "customers"
            signal, value, usual = self.signals[i], float(self.values[u, i]), float(self.norm[whose][u, i])
            others = dict(zip(names, self.values[u].tolist(), strict=True))
            text = texts.reason(signal, value, usual, whose, others)
            out[u].append(Reason(signal.name, signal.family, value, usual, whose, float(best[u, t]), text))
        return out

    def _effects(self, norm: str) -> Array:
        """float64[users, themes]: probability less that with the theme as usual."""
        rows = np.repeat(self.values[:, None, :], len(self.themes), axis=1)
        for t, columns in enumerate(self.themes):
            rows[:, t, columns] = self.norm[norm][:, columns]
        scored = self.score(rows.reshape(-1, rows.shape[2])).reshape(rows.shape[:2])
        return np.asarray(self.probability[:, None] - scored)

    def _leading(self, chosen: Sequence[tuple[int, int]], norm: Array, texts: words.Words) -> list[int]:
        """The signal of each chosen theme whose own replacement moves the probability most the theme's way.

        Only those are tried that differ most from their norm, relative to both.
        """
        plain = np.array([PLAIN if texts.has(signal) else 1.0 for signal in self.signals])
        tried: list[tuple[int, int, int]] = []
        rows = []
        for place, (u, t) in enumerate(chosen):
            columns = self.themes[t]
            value = self.values[u, columns].astype(np.float64)
            usual = self.norm["own" if norm[u, t] == 0 else "customers"][u, columns].astype(np.float64)
            with np.errstate(divide="ignore", invalid="ignore"):
                apart = np.abs(value - usual) / np.maximum(np.abs(value), np.abs(usual))
            apart = np.nan_to_num(np.where(apart >= TOLD_APART, apart, 0.0))
            for i in np.argsort(-apart * plain[columns], kind="stable")[:CANDIDATES]:
                row = self.values[u].copy()
                row[columns[i]] = usual[i]
                # What is as usual, or not observed, leads only where nothing else does.
                rows.append(row)
                tried.append((place, int(columns[i]), int(apart[i] > 0)))
        if not rows:
            return []
        user = [chosen[place][0] for place, _, _ in tried]
        moved = self.sign[user] * (self.probability[user] - self.score(np.stack(rows)))
        moved *= plain[[column for _, column, _ in tried]]
        best: dict[int, tuple[int, float, int]] = {}
        for (place, column, differs), by in zip(tried, moved.tolist(), strict=True):
            if place not in best or (differs, by) > best[place][:2]:
                best[place] = (differs, by, column)
        return [best[place][2] for place in range(len(chosen))]
