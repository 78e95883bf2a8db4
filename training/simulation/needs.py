"""What users are after for a while: of which goods, from when until when, and on which days they look at them."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from training.simulation import dice
from training.simulation.parameters import Parameters
from training.simulation.people import People

Array = npt.NDArray[Any]

# Each need's name, and its goods: the groups looked at first and from its turn on, by department and group from 0.
NEEDS: Final = ("need_1", "need_2", "need_3", "pair_1", "pair_2", "stage_1")
STAGE: Final = NEEDS.index("stage_1")  # at its turn it becomes `NEXT_STAGE`; the others stay what they are
NEXT_STAGE: Final = "stage_2"
_GOODS: Final = (
    ((0, 0), (0, 0)),
    ((3, 1), (3, 1)),
    ((7, 4), (7, 4)),
    ((1, 0), (1, 1)),
    ((5, 2), (5, 3)),
    ((2, 0), (2, 2)),
)
_LONGEST = 14  # days of a burst
_PAIR_TURN = 12.0  # days from the first goods of a pair to the second, at most


@dataclass(frozen=True)
class Need:
    """The need of each user, one at most; times in days of the log.

    Attributes:
        number: of NEEDS.
        needed: bool: has it; `idle`: has it not, and looks at its goods for one burst.
        turn: from when on the second goods are looked at.
    """

    number: Array
    needed: Array
    idle: Array
    begin: Array
    turn: Array
    until: Array


@dataclass(frozen=True)
class Looks:
    """Visits for the sake of a need: user, whole day of the log, group of goods."""

    user: Array
    day: Array
    group: Array
    key: Array


def groups_of(p: Parameters, need: int) -> tuple[int, int]:
    """The groups of a need's goods, as numbers; in a small catalogue several needs share some."""
    c = p.catalogue
    first, second = (department % c.departments * c.groups + group % c.groups for department, group in _GOODS[need])
    return first, second


def needs_of(p: Parameters, people: People, days: int) -> Need:
    """Who needs what and when."""
    q, key = p.needs, dice.child(people.key, 7)
    drawn = dice.uniform(key, "need")
    number = dice.choice(key, "which", np.ones(len(NEEDS)))
    joined = np.maximum(people.registered, 0.0)
    begin = np.floor(joined + (days - joined) * dice.uniform(key, "from"))
    begin = np.maximum(begin, joined)
    length = q.days[0] + (q.days[1] - q.days[0]) * dice.uniform(key, "days")
    stage = q.stage_days * np.exp(np.clip(0.2 * dice.normal(key, "stage"), -0.6, 0.6))
    is_stage = number == STAGE
    until = np.minimum(begin + length + np.where(is_stage, stage, 0.0), people.gone)
    turn = begin + np.where(is_stage, stage, np.minimum(length / 3, _PAIR_TURN))
    lives = begin < np.minimum(people.gone, days)
    needed = lives & (drawn < q.share)
    return Need(number, needed, lives & ~needed & (dice.uniform(key, "idle") < q.idle), begin, turn, until)


def looks_of(p: Parameters, people: People, days: int) -> Looks:
    """Bursts of days running, the first at the begin of the need; of the idle one burst only."""
    q, need = p.needs, needs_of(p, people, days)
    user = np.flatnonzero(need.needed | need.idle)
    key, idle = dice.child(people.key[user], 8), need.idle[user]
    slots = int(min(days, q.days[1] + 2 * q.stage_days) / 2) + 2  # a burst and the pause after it take two days or more
    slot = dice.child(key[:, None], np.arange(slots))
    more = np.log1p(1 / max(q.burst_days - 1, 1e-9))
    size = 1 + np.floor(dice.exponential(slot, "burst") / more).astype(np.int64)
    size = np.minimum(np.where((dice.uniform(key, "little") < q.little)[:, None] & ~idle[:, None], 1, size), _LONGEST)
    size[idle, 1:] = 0
    pause = 1 + np.floor(q.every_days * dice.exponential(slot, "between")).astype(np.int64)
    first = np.cumsum(size + pause, axis=1) - size - pause + np.floor(need.begin[user]).astype(np.int64)[:, None]
    day = first[..., None] + np.arange(_LONGEST)
    visit = dice.child(slot[..., None], np.arange(_LONGEST))
    # The day on which a need begins is never missed, so that a need does begin.
    kept = (np.arange(_LONGEST) < size[..., None]) & (dice.uniform(visit, "missed") >= q.missed)
    kept[:, 0, 0] = True
    end = np.minimum(np.where(idle, np.inf, need.until[user]), days)
    at, *place = np.nonzero(kept & (day < end[:, None, None]))
    who, on = user[at], day[(at, *place)]
    goods = np.array([groups_of(p, number) for number in range(len(NEEDS))])
    second = (on + 1 > need.turn[who]) & need.needed[who]
    return Looks(who, on, goods[need.number[who], second.astype(np.int64)], visit[(at, *place)])
