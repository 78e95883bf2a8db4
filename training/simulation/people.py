"""Who the users are: rhythm, taste and habits, and when, why and how plainly they leave. This is the ground truth."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from training.simulation import dice
from training.simulation.catalogue import Catalogue
from training.simulation.parameters import ARMS, CAUSES, Parameters, Signs

Array = npt.NDArray[Any]

NONE, NATURAL, SOFT, EXPERIENCE = range(len(CAUSES))
YEAR = 365.25
QUARTER = YEAR / 4
STAPLES = 4
# Signs that go with bad orders, and those that go with unmet taste; `crossover` says how much of the other kind shows.
OF_ORDERS = ("trouble",)
OF_TASTE = ("views", "carts", "searches", "empty", "not_interested")
EARLY = ("searches", "need")  # factors that hold before the onset already, as what is added does
HABITS = ("views", "dwell", "carts", "searches", "opened")  # change with any drift, this way or that
ADDED = ("trouble", "empty", "not_interested")  # to a chance; every other sign is a factor


@dataclass(frozen=True)
class People:
    """Some users; arrays of one element a user, times in days of the log (0: its first midnight)."""

    number: Array
    key: Array
    registered: Array  # negative: before the log
    inviter: Array  # another user's number; -1 for none
    gap: Array  # mean days between orders while engaged; inf for who never buys
    visits: Array  # a day, while engaged
    views: Array  # factors of the shop's means
    dwell: Array
    searches: Array
    carts: Array
    opened: Array  # chances
    trouble: Array
    hour: Array
    channel: Array
    band: Array  # place in the price range of a group, 0 to 1
    groups: Array  # int64[users, 4]: first, second, third; the fourth replaces the first when that need ends
    need_ends: Array  # when
    pauses: Array  # float64[users, slots, 2]: from, to; inf for none
    staples: Array  # int64[users, STAPLES]: items bought again and again
    cycles: Array  # days that each lasts; inf for none
    cause: Array  # CAUSES
    shown: Array  # the cause whose signs she shows: hers, but for a few
    taste_unmet: Array  # bool: of `experience`
    onset: Array  # of the drift; inf for never
    gone: Array  # inf for never
    warned: Array  # from when the early signs hold …
    warned_until: Array  # … and to when
    signs: dict[str, Array]  # factor or added chance at the end of the drift, as it is for each user
    fall: Array

    @property
    def planned(self) -> "People":
        """These people as they would live if nobody's contacts changed them."""
        return self

    def fallen(self, user: Array, day: Array, left: str, lag: float = 0.0) -> Array:
        """What is left of a rate at a time: from 1 at the onset (and `lag` days) to its sign when gone."""
        begins = self.onset[user] + lag
        with np.errstate(invalid="ignore"):  # inf - inf of who never leaves
            share = (day - begins) / np.maximum(self.gone[user] - begins, 1.0)
        share = np.clip(np.nan_to_num(share, nan=0.0), 0.0, 1.0)
        return 1 - (1 - self.signs[left][user]) * share ** self.fall[user]

    def drifting(self, user: Array, day: Array) -> Array:
        """Between onset and gone."""
        return (self.onset[user] <= day) & (day < self.gone[user])

    def factor(self, user: Array, day: Array, name: str) -> Array:
        """A sign's factor at a time: 1 before the drift."""
        begins = self.warned if name in EARLY else self.onset
        return np.where(day >= begins[user], self.signs[name][user], 1.0)

    def added(self, user: Array, day: Array, name: str) -> Array:
        """A sign's added chance at a time: 0 before it begins."""
        holds = (day >= self.warned[user]) & (day < self.warned_until[user])
        return np.where(holds, self.signs[name][user], 0.0)


def make_people(p: Parameters, catalogue: Catalogue, seed: int, days: int, number: Array) -> People:
    """The users with these numbers; each depends on the seed and her number only."""
    key = dice.child(dice.root(seed, "user"), number)

    def spread(what: str, sigma: float) -> Array:
        return np.exp(sigma * dice.normal(key, what))

    q = p.people
    registered = _registered(p, key, days)
    inviter = (dice.uniform(key, "inviter") * number).astype(np.int64)
    knows = _registered(p, dice.child(dice.root(seed, "user"), inviter), days) < registered
    inviter = np.where((dice.uniform(key, "invited") < q.invited) & (number > 0) & knows, inviter, -1)
    gap = np.maximum(q.order_gap_days * spread("gap", q.order_gap_spread), 0.7)
    visits = q.visits_a_week / 7 * spread("visits", q.visits_spread)
    visits *= (q.order_gap_days / gap) ** q.visits_with_orders
    joined = np.maximum(registered, 0.0)
    cause, shown, onset, gone = _leaving(p, key, registered, days)
    taste_unmet = (shown == EXPERIENCE) & (dice.uniform(key, "unmet taste") < p.leaving.taste)
    signs = _signs(p, key, shown, taste_unmet)
    all_signs = (p.natural, p.soft, p.experience)
    failing = np.where(_bad_spell(p, key), EXPERIENCE, shown)
    before = _by_cause(failing, 0.0, [s.before_days for s in all_signs])
    before += _by_cause(failing, 0.0, [s.before_orders for s in all_signs]) * np.minimum(gap, 90.0)
    # Who stays through a bad spell has it at any time, and it passes.
    ends = np.where(cause == NONE, joined + before + (days - joined) * dice.uniform(key, "bad spell at"), onset)
    groups = np.stack([catalogue.any_group(dice.uniform(key, f"group {k}")) for k in range(4)], axis=1)
    band = 0.1 + 0.8 * dice.uniform(key, "band")
    with np.errstate(divide="ignore"):
        need_ends = joined + dice.exponential(key, "need ends") * np.divide(YEAR, q.needs_end_a_year)
    slot = dice.child(key[:, None], np.arange(STAPLES))
    place = band[:, None] + q.price_bands * dice.normal(slot, "staple")
    staples = catalogue.in_group(groups[:, [0, 1, 2, 0]], place)
    return People(
        number=number,
        key=key,
        registered=registered,
        inviter=inviter,
        gap=np.where(dice.uniform(key, "never buys") < q.never_buy, np.inf, gap),
        visits=visits,
        views=spread("views", q.habits_spread),
        dwell=spread("dwell", q.habits_spread),
        searches=spread("searches", q.habits_spread),
        carts=spread("carts", q.habits_spread),
        opened=np.minimum(p.messages.opened * spread("opened", q.habits_spread), 0.95),
        trouble=np.minimum(p.friction.trouble * spread("trouble", p.friction.spread), 0.9),
        hour=np.array([8.0, 12.5, 20.5])[dice.choice(key, "hour", np.array([0.2, 0.3, 0.5]))],
        channel=dice.choice(key, "channel", np.array([0.5, 0.3, 0.2])),
        band=band,
        groups=groups,
        need_ends=need_ends,
        pauses=_pauses(p, key, days, onset),
        staples=staples,
        cycles=catalogue.cycle[staples] * np.exp(0.3 * dice.normal(slot, "cycle")),
        cause=cause,
        shown=shown,
        taste_unmet=taste_unmet,
        onset=onset,
        gone=gone,
        warned=np.maximum(ends - before, joined),
        warned_until=np.where(cause == NONE, ends, gone),
        signs=signs,
        fall=_by_cause(shown, 1.0, [s.fall for s in all_signs]),
    )


def response_of(p: Parameters) -> Array:
    """Added chance of a visit after a message: float64[CAUSES while drifting; row 0 is engaged, ARMS]."""
    rows = (p.response_engaged, p.response_natural, p.response_soft, p.response_experience)
    return np.array([[0.0, *(getattr(row, arm) for arm in ARMS[1:])] for row in rows])


def _registered(p: Parameters, key: Array, days: int) -> Array:
    new = dice.uniform(key, "registered") * days
    old = -1.0 - dice.exponential(key, "registered before") * YEAR
    return np.where(dice.uniform(key, "old") < p.people.old, old, new)


def _leaving(p: Parameters, key: Array, registered: Array, days: int) -> tuple[Array, Array, Array, Array]:
    """Cause, the cause whose signs show, onset and gone. The hazard of the onset is constant a user, and higher in her
    first days."""
    leaving = p.leaving
    rate = leaving.a_year / YEAR * np.exp(leaving.spread * dice.normal(key, "hazard"))
    used = dice.exponential(key, "onset")
    early = np.where(registered >= 0, rate * leaving.newcomers * leaving.newcomers_days, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        soon = used / (rate * leaving.newcomers)
        later = np.where(registered >= 0, leaving.newcomers_days, 0.0) + (used - early) / rate
    onset = np.maximum(registered, 0.0) + np.where(used < early, soon, later)
    weights = np.array([leaving.natural, leaving.soft, leaving.experience])
    cause = dice.choice(key, "cause", weights) + 1
    another = dice.choice(key, "shown", weights) + 1
    shown = np.where(dice.uniform(key, "atypical") < leaving.atypical, another, cause)
    all_signs = (p.natural, p.soft, p.experience)
    median = _by_cause(shown, 1.0, [s.days for s in all_signs])
    spread = _by_cause(shown, 0.0, [s.days_spread for s in all_signs])
    gone = onset + np.maximum(median * np.exp(spread * dice.normal(key, "drift")), 2.0)
    leaves = onset < days
    return (
        np.where(leaves, cause, NONE),
        np.where(leaves, shown, NONE),
        np.where(leaves, onset, np.inf),
        np.where(leaves, gone, np.inf),
    )


def _signs(p: Parameters, key: Array, shown: Array, taste_unmet: Array) -> dict[str, Array]:
    """Each sign as it is for each user: at strength 0 none of it, and no two users or signs alike."""
    leaving, signs = p.leaving, {}
    for field in fields(Signs):
        name = field.name
        if name.startswith(("days", "before", "fall")):
            continue
        strength = leaving.strength + leaving.strength_spread * dice.normal(key, f"strength of {name}")
        strength = np.clip(strength, 0.0, 2.0)
        other = taste_unmet if name in OF_ORDERS else ~taste_unmet if name in OF_TASTE else np.zeros(key.size, bool)
        strength = np.where((shown == EXPERIENCE) & other, leaving.crossover * strength, strength)
        neutral = 0.0 if name in ADDED else 1.0
        full = _by_cause(shown, neutral, [getattr(s, name) for s in (p.natural, p.soft, p.experience)])
        if name in ADDED:
            signs[name] = np.minimum(full * strength, 1.0)
        else:
            changes = np.exp(leaving.habits_change * dice.normal(key, f"change of {name}"))
            signs[name] = full**strength * (changes if name in HABITS else 1.0)
    spell = _bad_spell(p, key)
    signs["trouble"] = np.maximum(signs["trouble"], np.where(spell, p.experience.trouble * leaving.strength, 0.0))
    signs["trouble"] = np.minimum(signs["trouble"], 1.0)
    return signs


def _bad_spell(p: Parameters, key: Array) -> Array:
    """bool[users]: trouble with orders without being driven away by it; before the drift of who leaves anyhow."""
    return dice.uniform(key, "bad spell") < p.friction.bad_spell


def _pauses(p: Parameters, key: Array, days: int, onset: Array) -> Array:
    """At most one a quarter, and none that reaches into the drift."""
    slots = int(days / QUARTER) + 1
    slot = dice.child(key[:, None], np.arange(slots))
    low, high = p.people.pause_days
    begin = (np.arange(slots) + dice.uniform(slot, "pause from")) * QUARTER
    end = begin + low + (high - low) * dice.uniform(slot, "pause days")
    has = (dice.uniform(slot, "pauses") < p.people.pauses_a_year / 4) & (end < onset[:, None])
    return np.where(has[..., None], np.stack([begin, end], axis=-1), np.inf)


def _by_cause(cause: Array, none: float, values: list[float]) -> Array:
    return np.array([none, *values])[cause]
