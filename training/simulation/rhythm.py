"""On which days users visit and order: rates a user and day, from season, pauses and drift."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from training.simulation import dice
from training.simulation.parameters import Parameters
from training.simulation.people import People

Array = npt.NDArray[Any]

GAP = 1_000_000_000  # clock units of one order gap; whole numbers, so that sums do not depend on what is beside them
MOST_VISITS = 3  # a user and day


def season(p: Parameters, days: int) -> Array:
    """Activity of each day of the log, around 1: weekday, summer, and the weeks before and after Christmas."""
    dates = [p.shop.start + timedelta(days=day) for day in range(days)]
    of_year = np.array([date.timetuple().tm_yday for date in dates], float)
    weekday = np.array(p.shop.weekday)[[date.weekday() for date in dates]]
    activity = 1 + p.shop.summer * _bump(of_year, 196, 25)
    activity += p.shop.christmas * (_bump(of_year, 346, 11) - 0.4 * _bump(of_year, 362, 4))
    return weekday * np.maximum(activity, 0.05)


def _bump(day: Array, centre: float, width: float) -> Array:
    return np.exp(-0.5 * ((day - centre) / width) ** 2)


def present(people: People, days: int) -> Array:
    """bool[users, days]: registered, not gone and not on a pause."""
    day = np.arange(days)
    here = (day + 1 > people.registered[:, None]) & (day < people.gone[:, None])
    for slot in range(people.pauses.shape[1]):
        begin, end = people.pauses[:, slot, 0], people.pauses[:, slot, 1]
        rows = np.flatnonzero(begin < days)
        here[rows] &= (day < begin[rows, None]) | (day >= end[rows, None])
    return here


def visit_days(people: People, activity: Array, here: Array, quiet: Array) -> tuple[Array, Array, Array]:
    """User and day of each visit that is not to order, and its number within the day.

    Args:
        quiet: bool[users, days]: days on which a message keeps the user away.
    """
    rate = people.visits[:, None] * activity * _left(people, activity.size, "visits") * here
    rate[quiet] = 0.0
    drawn = dice.uniform(dice.child(people.key[:, None], np.arange(activity.size)), "visits")
    none = np.exp(-rate)
    count = (drawn > none).astype(np.int64)
    often = np.nonzero(count)
    at, draw, chance = rate[often], drawn[often], none[often]
    for more in range(1, MOST_VISITS):  # Poisson by its cumulative distribution
        chance = chance + none[often] * at**more / (1 if more == 1 else 2)
        count[often] += draw > chance
    cell = np.repeat(np.flatnonzero(count), count.ravel()[count.ravel() > 0])
    number = np.arange(cell.size) - np.searchsorted(cell, cell, side="left")
    return cell // activity.size, cell % activity.size, number


@dataclass(frozen=True)
class OrderDays:
    """User and day of each order of the user's own rhythm, and its number of hers."""

    user: Array
    day: Array
    number: Array


def order_days(p: Parameters, people: People, activity: Array, here: Array) -> OrderDays:
    """A renewal process in each user's own time, which runs slower in quiet seasons and in the drift, and rests in
    pauses. Gaps are lognormal around the user's mean."""
    days = activity.size
    rate = activity * here * _left(people, days, "buying", p.leaving.lead_days) / people.gap[:, None]
    clock = np.cumsum(np.round(rate * GAP).astype(np.int64), axis=1)
    sigma = np.minimum(p.people.rhythm_noise * np.exp(0.4 * dice.normal(people.key, "rhythm noise")), 1.5)[:, None]
    new = people.registered >= 0
    first = np.where(new, p.orders.first, dice.uniform(people.key, "phase"))
    due = np.empty((people.number.size, 0), np.int64)
    most = int(clock[:, -1].max(initial=0) // GAP) + 4
    while True:
        key = dice.child(people.key[:, None], np.arange(most))
        gaps = np.exp(sigma * dice.normal(key, "gap") - sigma**2 / 2)
        gaps[:, 0] *= first
        due = np.cumsum(np.round(gaps * GAP).astype(np.int64), axis=1)
        if np.all(due[:, -1] > clock[:, -1]):
            break
        most *= 2
    # One search for all users: each user's clock and orders are shifted beyond those of the user before.
    shift = np.arange(people.number.size)[:, None] * (int(max(clock.max(initial=0), 0)) + 1)
    user, number = np.nonzero(due <= clock[:, -1:])
    day = np.searchsorted((clock + shift).ravel(), (due + shift)[user, number], side="left") - user * days
    return OrderDays(user, day, number)


def clock_time(p: Parameters, people: People, user: Array, key: Array) -> Array:
    """A time of day (0 to 1) around the user's usual hour."""
    hour = people.hour[user] + p.people.hours_spread * dice.normal(key, "hour")
    return hour % 24 / 24


def _left(people: People, days: int, name: str, lag: float = 0.0) -> Array:
    """float64[users, days]: what the drift leaves of a rate."""
    left = np.ones((people.number.size, days))
    rows = np.flatnonzero(people.onset < days)
    left[rows] = people.fallen(rows[:, None], np.arange(days) + 0.5, name, lag)
    return left
