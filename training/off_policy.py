"""What would another recommender have earned? Told from the exposure log, without showing its lists to anybody.

A policy's value is the expected number of items in a list that are rewarded: bought (or viewed, or the like) by the
user within some days of being shown the list. What would have been bought anyway counts too: this is not what lists
cause.

Two things are taken to be true. The log's propensities are those that lists were made with (`models.exposure` states
them). And what an item earns depends on the user, the item and its slot, not on the other items of the list: the
item-position model of Li, Abbasi-Yadkori, Kveton, Muthukrishnan, Vinay and Wen, Offline Evaluation of Ranking Policies
with Click Models (2018). Without the latter only whole lists could be weighed, of which hardly any is seen twice. The
unit "item" goes further and takes the slot not to matter either: weights are smaller then and intervals shorter, and
the answer is off where the slot does matter.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.errors import UserError
from features.events import columns as c
from features.events.store import Store
from features.timeline import Array, Timeline
from models.batch import each_bucket
from training.backtest import show
from training.metrics import (
    Interval,
    doubly_robust,
    effective_sample_size,
    importance_weights,
    inverse_propensity,
    percentiles,
    resampled_sums,
    self_normalised,
)

# Users; see `Evaluation.effective_users`. In simulations where 2 % of the items shown earned something, intervals held
# the truth in 49 of 100 logs worth 40 users, in 76 at 94, in 91 to 95 at 190. Where 20 % did, 40 users were enough.
LEAST_EFFECTIVE = 200
DEVIATIONS = 3.29  # standard errors that chance exceeds once in a thousand

Unit = Literal["slot", "item"]


class Context(NamedTuple):
    """What was asked when a list was shown. `as_of` in µs; `slots` is how many items the list had, `limits` as in
    `models.exposure.Exposure`."""

    user_id: str
    as_of: int
    mode: str
    scene: str
    slots: int
    limits: str = ""


Policy = Callable[[Context], Sequence[str]]
"""Item ids, best first: what another recommender would have shown."""

Direct = Callable[[Context, Sequence[str]], Sequence[float]]
"""A model's expected reward of each of some items if they were shown in this order. It must not have learned from the
rewards that it is to correct."""

# ---------------------------------------------------------------------------------------------- what was earned


def with_outcome(exposures: pa.Table, store: Store, days: int) -> pa.Table:
    """The exposures whose `days` after being shown have passed by the end of the store's log.

    Raises:
        UserError: there are none.
    """
    last = store.span[1]
    old = exposures.filter(pc.less_equal(exposures["time"], last - days * c.DAY))
    if not old.num_rows:
        first = f", the first list was shown at {show(pc.min(exposures['time']).as_py())}" if len(exposures) else ""
        raise UserError(
            f"no exposure has its outcome yet: the store's log ends at {show(last)}{first}, and {days} days must pass: "
            "ingest newer events, or count fewer days"
        )
    return old


def rewards(exposures: pa.Table, store: Store, *, days: int, kind: str = "purchase") -> Array:
    """Whether the user has an event of the kind with the item in `[time, time + days)`, bool[rows].

    An event counts for each list that showed the item within the days before it. Users and items that the store does
    not know earned nothing. Rows without an outcome yet must be left out before (`with_outcome`).

    Raises:
        UserError: the log has no such kind.
    """
    if kind not in store.facts.kinds:
        known = ", ".join(sorted(store.facts.kinds))
        raise UserError(f"the store has no event of the kind {kind!r}; its kinds are: {known}")
    codes = store.words[c.ITEM_ID].codes
    # Each distinct id is looked up once, then the rows take what it gave.
    ids, users = _distinct(exposures["user_id"])
    names, items = _distinct(exposures["item_id"])
    item = np.array([codes.get(name, -1) for name in names], np.int64)[items]
    time = exposures["time"].to_numpy()
    out = np.zeros(len(exposures), np.bool_)
    order = np.argsort(users, kind="stable")
    done = 0
    for _, timeline in each_bucket(store, ids):
        stop = done + len(timeline)
        rows = order[slice(*np.searchsorted(users[order], [done, stop]))]
        out[rows] = _has_event(timeline, kind, users[rows] - done, item[rows], time[rows], days * c.DAY)
        done = stop
    return out


def _distinct(column: pa.ChunkedArray) -> tuple[list[str], Array]:
    """The distinct texts, and which of them each row has."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def _has_event(timeline: Timeline, kind: str, user: Array, item: Array, start: Array, width: int) -> Array:
    """Has each row's user an event of the kind with the row's item in `[start, start + width)`? bool[rows]"""
    stream, items = timeline.stream(kind), timeline.values(kind, c.ITEM_ID)
    owner = np.repeat(np.arange(len(timeline)), np.diff(stream.offsets))
    instants = np.unique(stream.ts)
    size = int(items.max(initial=-1)) + 1

    def key(users: Array, items: Array, places: Array) -> Array:
        """Orders by user, item and place among the instants."""
        return (users * size + items) * (instants.size + 1) + places

    events = np.sort(key(owner, items, np.searchsorted(instants, stream.ts))[items >= 0])
    low, high = (
        np.searchsorted(events, key(user, item, np.searchsorted(instants, edge))) for edge in (start, start + width)
    )
    return (high > low) & (item >= 0) & (item < size)


# ---------------------------------------------------------------------------------------------- the other policy


@dataclass(frozen=True)
class Decisions:
    """The log's decisions beside another policy's, a row a slot; a list's rows stand together.

    `decisions` makes them of a policy that gives one list a context; one that draws has targets between 0 and 1.

    Attributes:
        user, answer: int64[rows], whose list and which; numbered in any way.
        reward: float64[rows], what the item shown earned.
        logged, target: float64[rows], with which probability each policy shows it (there, or anywhere in the list).
        filled: bool[rows], does the other policy fill the slot? Its list may be shorter.
        predicted, expected: float64[rows], a model's rewards of the item shown, and of what the other policy shows in
            the slot (0 if it shows nothing); None without a model.
    """

    user: Array
    answer: Array
    reward: Array
    logged: Array
    target: Array
    filled: Array
    predicted: Array | None = None
    expected: Array | None = None


def decisions(
    exposures: pa.Table, reward: Array, policy: Policy, direct: Direct | None = None, unit: Unit = "slot"
) -> Decisions:
    """The log's decisions beside those of a policy that gives one list a context.

    Args:
        exposures: as `models.exposure.read_exposures` gives them, or whole answers of them.
        reward: [rows], such as `rewards` gives.
        unit: whose probability weighs a row, the item's in its slot or the item's in the list.
    """
    answer, logged = exposures["answer"].to_numpy(), _LOGGED[unit]
    shown = exposures["item_id"].to_pylist()
    starts = [*_starts(exposures), len(answer)]
    target, filled = np.zeros(len(answer)), np.zeros(len(answer), np.bool_)
    predicted, expected = np.zeros(len(answer)), np.zeros(len(answer))
    for (start, stop), context in zip(pairwise(starts), contexts(exposures), strict=True):
        items, other = shown[start:stop], list(policy(context))[: context.slots]
        filled[start : start + len(other)] = True
        target[start:stop] = _same(items, other, unit)
        if direct is not None:
            predicted[start:stop] = direct(context, items)
            expected[start : start + len(other)] = direct(context, other)
    return Decisions(
        _distinct(exposures["user_id"])[1],
        answer,
        np.asarray(reward, np.float64),
        exposures[logged].to_numpy(),
        target,
        filled,
        *((predicted, expected) if direct is not None else (None, None)),
    )


def contexts(exposures: pa.Table) -> list[Context]:
    """What each answer was about, in their order."""
    starts = _starts(exposures)
    asked = exposures.select(_ASKED).take(pa.array(starts, pa.int64())).to_pylist()
    slots = np.diff([*starts, len(exposures)]).tolist()
    return [Context(**about, slots=size) for about, size in zip(asked, slots, strict=True)]


def _starts(exposures: pa.Table) -> list[int]:
    """The first row of each answer."""
    starts: list[int] = np.flatnonzero(np.diff(exposures["answer"].to_numpy(), prepend=-1)).tolist()
    return starts


_ASKED = ["user_id", "as_of", "mode", "scene", "limits"]
_LOGGED: dict[Unit, str] = {"slot": "slot_propensity", "item": "propensity"}


def _same(shown: Sequence[str], other: Sequence[str], unit: Unit) -> list[bool]:
    """Does the other list have each item too: in its slot, or anywhere?"""
    if unit == "item":
        there = set(other)
        return [item in there for item in shown]
    padded = [*other, *[None] * (len(shown) - len(other))]
    return [item == at_slot for item, at_slot in zip(shown, padded, strict=True)]


# ---------------------------------------------------------------------------------------------- the estimate


@dataclass(frozen=True)
class Evaluation:
    """What another policy would have earned: rewarded items a list, with 95 % bootstrap intervals over users.

    Attributes:
        earned: by the lists that were shown.
        inverse_propensity, self_normalised, doubly_robust: by the other policy's (`training.metrics`); the last is None
            without a model.
        effective_users: so many users of equal weight would tell as much.
        mean_weight: about 1 if all is well; the share of the other policy's items that the log could speak of.
        warnings: why not to rely on this.
    """

    users: int
    lists: int
    earned: Interval
    inverse_propensity: Interval
    self_normalised: Interval
    doubly_robust: Interval | None
    effective_users: float
    mean_weight: float
    warnings: tuple[str, ...]


def evaluate(made: Decisions, *, seed: int = 0) -> Evaluation:
    """All estimates of the other policy's value.

    Raises:
        UserError: there is no decision.
        ValueError: a logged probability is not in (0, 1].
    """
    if not len(made.reward):
        raise UserError(
            "there is no exposure to learn from: let the service answer with exploration on, then ask again"
        )
    weight = importance_weights(made.logged, made.target)
    user = np.unique(made.user, return_inverse=True)[1]
    first = np.diff(made.answer, prepend=made.answer[0] - 1) != 0  # of its list
    earns = made.reward * weight
    columns = [first, made.reward, earns, weight, made.filled]
    logged = (made.reward, made.logged, made.target)
    robust = None
    if made.predicted is not None and made.expected is not None:
        columns.append(made.expected + weight * (made.reward - made.predicted))
        robust = doubly_robust(*logged, made.predicted, made.expected)
    sums = np.column_stack([np.bincount(user, column) for column in columns])
    slots, filled = len(first) / first.sum(), made.filled.sum() / first.sum()

    drawn = resampled_sums(sums, seed=seed).T
    lists, rewarded, weighted, weights, fills = drawn[:5]
    with np.errstate(invalid="ignore"):  # 0 / 0 in resamples where nothing has weight
        normalised = weighted / weights * fills / lists
    return Evaluation(
        len(sums),
        int(first.sum()),
        percentiles(float(made.reward.mean() * slots), rewarded / lists),
        percentiles(inverse_propensity(*logged) * slots, weighted / lists),
        percentiles(self_normalised(*logged) * filled, normalised),
        None if robust is None else percentiles(robust * slots, drawn[5] / lists),
        effective_sample_size(sums[:, 3]),
        float(weight.sum() / max(made.filled.sum(), 1)),
        tuple(_warnings(sums[:, 3], sums[:, 4])),
    )


def _warnings(weight: Array, filled: Array) -> list[str]:
    """Of what users weigh, and how many slots the other policy fills for them, float64[users] each."""
    out = []
    effective = effective_sample_size(weight)
    if effective < LEAST_EFFECTIVE:
        out.append(
            f"the log is worth {effective:.0f} users of equal weight, and with fewer than {LEAST_EFFECTIVE} the "
            "intervals are too short: explore more, log for longer, or ask about a policy nearer to the log's"
        )
    # Weights sum to the slots filled but for chance, if the log's policy shows now and then whatever the other does.
    excess = weight - filled
    share, beyond_chance = weight.sum() / max(filled.sum(), 1), DEVIATIONS * np.sqrt((excess**2).sum())
    if excess.sum() < -beyond_chance:
        out.append(
            f"the log can speak of {share:.0%} of the other policy's items only, the rest lie outside the pool or came "
            "up too seldom: inverse propensity takes these to earn nothing, self-normalised to earn as the others, "
            "doubly robust to earn what the model says; widen the pool or explore more"
        )
    if excess.sum() > beyond_chance:
        out.append(
            f"the weights sum to {share:.0%} of what they should: the propensities in the log are too small, or the "
            "other policy's probabilities too large"
        )
    return out
