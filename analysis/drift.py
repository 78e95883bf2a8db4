"""Whether the users of today still look like those of training: the population stability index and its limit.

The index of a signal compares the shares of users in its bins then (p) and now (q): PSI = Σ (q - p) ln(q / p), a
symmetric Kullback-Leibler divergence (Lewis 1994; Siddiqi 2006, who calls less than 0.1 no change). Without any change
PSI / (1/n + 1/m) is about χ² with bins - 1 degrees of freedom for n users then and m now (Yurdakul and Naranjo 2020),
so few users alone give a large index, and the limit has to know them. It also has to know what moves by nature: days
since the first purchase grow with the log, the calendar turns, a shop writes to everybody on one day. No list of names
says which; training's own moments do. So the alarm rings where the index is greater than each of

- `TOLERATED`,
- what chance alone gives once in ten thousand checks of all signals together,
- a quarter more than any two moments of training differ that lie no further apart than now and the newest of them.

"Observed or not" and the values of those observed are two questions, so that a change among few users is not
drowned by the many of whom nothing is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from features.timeline import Array
from models.reference import Reference

TOLERATED = 0.1
CHANCE = 0.0001  # of a false alarm in one check of all signals, if nothing has changed
BEYOND = 1.25  # times what training's own moments moved


@dataclass(frozen=True)
class Drift:
    """How far one signal has moved.

    Attributes:
        of: whether it is the values that are compared, or the share of users that have one.
        psi, limit: the index, and beyond what it is an alarm.
        users_then, users_now: how many are compared.
    """

    signal: str
    of: Literal["values", "observed"]
    psi: float
    limit: float
    users_then: int
    users_now: int

    @property
    def alarm(self) -> bool:
        return self.psi > self.limit


def drift(reference: Reference, as_of: int, values: Array, probability: Array) -> list[Drift]:
    """Every signal, and the predicted probability, of users at a moment against training; worst first.

    Args:
        as_of: the users' moment, µs; the further from training, the more natural change is allowed for.
        values: float32[users, signals], the signals of the reference in its order.
        probability: float64[users].
    """
    apart = abs(as_of - int(reference.as_of[0]))
    pairs = _pairs(reference.as_of, apart)
    now = reference.count(values, probability)
    questions = [
        (name, of, then, live)
        for name, counts, users in zip(reference.names, reference.counts, now, strict=True)
        for of, then, live in _questions(counts, users)
    ]
    chance = CHANCE / max(1, len(questions))
    out = []
    for name, of, then, live in questions:
        natural = max((psi(then[a], then[b]) for a, b in pairs), default=0.0)
        limit = max(TOLERATED, chance_limit(then[0], live, chance), BEYOND * natural)
        out.append(Drift(name, of, psi(then[0], live), limit, int(then[0].sum()), int(live.sum())))
    return sorted(out, key=lambda d: -d.psi / d.limit)


def psi(then: Array, now: Array) -> float:
    """Population stability index of two rows of counts, int64[bins]; half a user more in each, so that none is empty.

    0 if there is nobody in one of them.
    """
    used = (then + now) > 0
    if not then.sum() or not now.sum():
        return 0.0
    p, q = (counts[used] + 0.5 for counts in (then, now))
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())


def chance_limit(then: Array, now: Array, chance: float) -> float:
    """The index that rows of counts without any change exceed with this chance."""
    if not then.sum() or not now.sum():
        return 0.0
    bins = int(((then + now) > 0).sum())
    return float(special.chdtri(max(1, bins - 1), chance) * (1 / then.sum() + 1 / now.sum()))


def _questions(counts: Array, users: Array) -> list[tuple[Literal["values", "observed"], Array, Array]]:
    """The values of those observed, and how many are; counts int64[moments, bins + 1], users int64[bins + 1].

    Not asked where no one is, or where everyone is.
    """
    seen = np.stack([counts[:, :-1].sum(axis=1), counts[:, -1]], axis=1)
    seen_now = np.array([users[:-1].sum(), users[-1]])
    out: list[tuple[Literal["values", "observed"], Array, Array]] = []
    if seen[0, 0] and seen_now[0]:
        out.append(("values", counts[:, :-1], users[:-1]))
    if seen[0, 1] or seen_now[1]:
        out.append(("observed", seen, seen_now))
    return out


def _pairs(as_of: Sequence[int] | Array, apart: int) -> list[tuple[int, int]]:
    """Places of the moments of training that lie no further apart than this, or if none do, than the nearest two."""
    if apart == 0:
        return []
    found = [(i, j, abs(int(as_of[i] - as_of[j]))) for i in range(len(as_of)) for j in range(i)]
    reach = max(apart, min((gap for _, _, gap in found), default=0))
    return [(i, j) for i, j, gap in found if gap <= reach]
