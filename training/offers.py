"""How good a recommender's lists are: figures by user, intervals, groups, and what accuracy leaves out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.events.intake import hash_array
from features.timeline import Array
from models.recommender import AIMS, Aim, Ask, Mode, Past
from models.recommender.ask import MODES
from training.cross_sell import BLEND, MODEL, CrossSellRun, K, Lists, MomentResult
from training.cross_sell_fit import spread
from training.metrics import Interval, Pair, paired_bootstrap, percentiles, resampled_sums
from training.paired import MOMENT, USER, Comparison
from training.ranking import figures_by_user
from training.withheld import RULES, lists_without

FILE = "offers.parquet"
AIM, ORDERS, WANTED = "aim", "orders", "wanted"
FIGURES = ("recall", "ndcg")
GROUPS: Mapping[str, tuple[int, float]] = {"no order": (0, 1), "cold": (1, 3), "warm": (3, 10), "heavy": (10, np.inf)}
"""Orders before the moment, from and to (without)."""
WITHOUT = "without "
WITHHELD_USERS = 300  # a moment and aim, evenly spread: their lists are made once more for each head
MODE_USERS = 60  # of the newest moment, asked in every mode


# ------------------------------------------------------------------------------------------------ figures by user


def by_user(run: CrossSellRun) -> pa.Table:
    """A row a moment (µs), aim and user of the backtest: hash of the user's id, orders before the moment, items wanted,
    and `recall: NAME` and `ndcg: NAME` of each contender. `NAME` is also `without HEAD` for the model when what a head
    alone found is withheld (NaN for users who were not asked). Nobody's id is in it."""
    parts = [_rows(result, aim) for result in run.backtest for aim in AIMS]
    return pa.concat_tables(parts, promote_options="default")  # a head outside the blend is not withheld


def _rows(result: MomentResult, aim: Aim) -> pa.Table:
    truth, past = result.taught.truth[aim], result.taught.past
    users = list(truth)
    columns: dict[str, Any] = {
        MOMENT: np.full(len(users), result.as_of, np.int64),
        AIM: pa.array([aim] * len(users)),
        USER: hash_array(pa.array([str(past.user_ids[user]) for user in users], pa.string())),
        ORDERS: orders_of(result, users),
        WANTED: np.array([len(wanted) for wanted in truth.values()], np.int64),
    }
    for name, lists in result.lists[aim].items():
        columns |= _columns(name, figures_by_user(lists, truth, K))
    asked = spread(truth, WITHHELD_USERS)
    places = np.searchsorted(users, list(asked))  # a truth ascends by user
    for head, lists in lists_without(result.model, result.taught, aim, list(asked)).items():
        values = np.full((len(users), len(FIGURES)), np.nan)
        values[places] = figures_by_user(lists, asked, K)
        columns |= _columns(WITHOUT + head, values)
    return pa.table(columns)


def _columns(name: str, values: Array) -> dict[str, Array]:
    return {f"{figure}: {name}": values[:, place] for place, figure in enumerate(FIGURES)}


def orders_of(result: MomentResult, users: Sequence[int]) -> NDArray[np.int64]:
    """Orders of some users before a moment of the backtest."""
    return Past.of(result.taught.past.some(list(users)), result.as_of).bought.orders.astype(np.int64)


def group_of(orders: int) -> str:
    """The group of a user with so many orders."""
    return next(name for name, (low, high) in GROUPS.items() if low <= orders < high)


def contenders(table: pa.Table) -> list[str]:
    """Whose figures a table holds, the model's without a head left out."""
    names = [name.removeprefix("recall: ") for name in table.column_names if name.startswith("recall: ")]
    return [name for name in names if not name.startswith(WITHOUT)]


def compare(ours: pa.Table, contender: str, theirs: pa.Table, other: str, aim: Aim) -> Comparison | None:
    """Recall@20 of a contender of one backtest less that of a contender of another (or of the same), by users that both
    asked at the same moments. None if there are none.
    """
    a, b = (_by_moment(*one, aim) for one in ((ours, contender), (theirs, other)))
    pairs = []
    for moment in sorted(a.keys() & b.keys()):
        users, i, j = np.intersect1d(a[moment][0], b[moment][0], assume_unique=True, return_indices=True)
        if len(users):
            pairs.append(Pair(users, np.zeros(len(users), np.bool_), a[moment][1][i], b[moment][1][j]))
    if not pairs:
        return None
    return Comparison(
        float(np.mean([pair.ours.mean() for pair in pairs])),
        float(np.mean([pair.theirs.mean() for pair in pairs])),
        paired_bootstrap(_mean_of_resamples, pairs),
        len(pairs),
        len(np.unique(np.concatenate([pair.users for pair in pairs]))),
    )


def _by_moment(table: pa.Table, contender: str, aim: Aim) -> dict[int, tuple[Array, Array]]:
    """Moment → users and their recall."""
    moment, user, recall = (table[name].to_numpy() for name in (MOMENT, USER, f"recall: {contender}"))
    asked = table[AIM].to_numpy(zero_copy_only=False) == aim
    return {
        int(one): (user[asked & (moment == one)], recall[asked & (moment == one)]) for one in np.unique(moment[asked])
    }


def _mean_of_resamples(_: Array, value: Array, drawn: Array) -> Array:
    """Mean of each resample; NaN where none of these users was drawn."""
    with np.errstate(invalid="ignore"):
        return np.asarray((drawn @ value) / drawn.sum(axis=1))


# ------------------------------------------------------------------------------------------------------ intervals


@dataclass(frozen=True)
class Mean:
    """A mean over users, then over moments; and what it is in each resample of users, float64[resamples]."""

    value: float
    resampled: Array

    def __sub__(self, other: "Mean") -> "Mean":
        return Mean(self.value - other.value, self.resampled - other.resampled)

    @property
    def interval(self) -> Interval:
        """With its 95 % interval (percentiles; Efron and Tibshirani 1993)."""
        return percentiles(self.value, self.resampled)


ByFigure = Mapping[str, Interval]
"""recall@20 and NDCG@20, by name."""


@dataclass(frozen=True)
class Group:
    """One group of users: how many (each once a moment), the figures of the model, the blend and the best head, and the
    model's margins over the other two."""

    users: int
    figures: Mapping[str, ByFigure]
    margins: Mapping[str, ByFigure]


@dataclass(frozen=True)
class AimFigures:
    """All figures of an aim: means over moments with 95 % intervals over users.

    Attributes:
        users: distinct ones.
        figures: of each contender.
        margins: of the model over each other one.
        worth: head → what the model loses when what this head alone found is withheld.
        hits_lost: head → that loss as a share of all hits of the same users.
        rules: what the model loses without the rules on what may be shown; below 0 they cost.
        best_head: by recall + NDCG.
    """

    users: int
    figures: Mapping[str, ByFigure]
    margins: Mapping[str, ByFigure]
    worth: Mapping[str, ByFigure]
    hits_lost: Mapping[str, float]
    rules: ByFigure
    groups: Mapping[str, Group]
    best_head: str


def summarised(table: pa.Table, seed: int = 0) -> dict[Aim, AimFigures]:
    """The figures of each aim from the figures by user.

    Users are resampled once: whoever is drawn is drawn at every moment, for every aim and every contender, so that any
    difference of two means is paired.
    """
    known, place = np.unique(table[USER].to_numpy(), return_inverse=True)
    aims = table[AIM].to_numpy(zero_copy_only=False)
    return {aim: _of_aim(table.filter(aims == aim), place[aims == aim], len(known), seed) for aim in AIMS}


def _of_aim(table: pa.Table, place: Array, users: int, seed: int) -> AimFigures:
    names = contenders(table)
    heads = [name for name in names if name not in (MODEL, BLEND)]
    values = {name: table[name].to_numpy() for name in table.column_names if ": " in name}
    best_head = max(heads, key=lambda name: sum(_moment_mean(table, values[f"{f}: {name}"]) for f in FIGURES))
    chosen = [name for name in names if name in (MODEL, BLEND, best_head)]
    withheld = [name for name in heads if np.isfinite(values.get(f"recall: {WITHOUT}{name}", np.nan)).any()]
    orders = table[ORDERS].to_numpy()
    columns = {("", name): values[name] for name in values if WITHOUT not in name}
    for figure in FIGURES:
        for head in [*withheld, RULES]:
            columns["lost", f"{figure}: {head}"] = values[f"{figure}: {MODEL}"] - values[f"{figure}: {WITHOUT}{head}"]
    sizes = {}
    for group, (low, high) in GROUPS.items():
        inside = (orders >= low) & (orders < high)
        sizes[group] = int(inside.sum())
        if inside.any():
            for name in (f"{figure}: {one}" for figure in FIGURES for one in chosen):
                columns[group, name] = np.where(inside, values[name], np.nan)
    means = _means(table[MOMENT].to_numpy(), place, users, columns, seed)

    def figures(part: str, name: str) -> ByFigure:
        return {figure: means[part, f"{figure}: {name}"].interval for figure in FIGURES}

    def margins(part: str, name: str) -> ByFigure:
        ours = {figure: means[part, f"{figure}: {MODEL}"] for figure in FIGURES}
        return {figure: (ours[figure] - means[part, f"{figure}: {name}"]).interval for figure in FIGURES}

    groups = {
        group: Group(
            size,
            {name: figures(group, name) for name in chosen},
            {name: margins(group, name) for name in chosen if name != MODEL},
        )
        for group, size in sizes.items()
        if size
    }
    wanted = table[WANTED].to_numpy()
    hits = {name: np.nansum(values[f"recall: {name}"] * wanted) for name in (WITHOUT + head for head in withheld)}
    asked = {head: ~np.isnan(values[f"recall: {WITHOUT}{head}"]) for head in withheld}
    whole = {head: float((values[f"recall: {MODEL}"] * wanted)[asked[head]].sum()) for head in withheld}
    return AimFigures(
        users=len(np.unique(place)),
        figures={name: figures("", name) for name in names},
        margins={name: margins("", name) for name in names if name != MODEL},
        worth={head: figures("lost", head) for head in withheld},
        hits_lost={head: float(1 - hits[WITHOUT + head] / whole[head]) if whole[head] else 0.0 for head in withheld},
        rules=figures("lost", RULES),
        groups=groups,
        best_head=best_head,
    )


def _moment_mean(table: pa.Table, values: Array) -> float:
    moment = table[MOMENT].to_numpy()
    return float(np.mean([values[moment == one].mean() for one in np.unique(moment)]))


Key = tuple[str, str]


def _means(moment: Array, place: Array, users: int, columns: Mapping[Key, Array], seed: int) -> dict[Key, Mean]:
    """The mean of each column over users, then over moments; NaN are users who do not count.

    place: of each row's user among all users, who are resampled.
    """
    stacked = np.stack(list(columns.values()), axis=1)
    some = np.isfinite(stacked)
    values, resampled = [], []
    for one in np.unique(moment):
        rows = moment == one
        sums = np.zeros((users, 2 * len(columns)))
        sums[place[rows]] = np.hstack([np.where(some[rows], stacked[rows], 0.0), some[rows]])
        with np.errstate(invalid="ignore"):
            total = sums.sum(axis=0)
            values.append(total[: len(columns)] / total[len(columns) :])
            drawn = resampled_sums(sums, seed=seed)
            resampled.append(drawn[:, : len(columns)] / drawn[:, len(columns) :])
    value, by_resample = _nan_mean(np.stack(values)), _nan_mean(np.stack(resampled))
    return {key: Mean(float(value[place]), by_resample[:, place]) for place, key in enumerate(columns)}


def _nan_mean(values: Array) -> Array:
    """Mean over the first axis of what is a number; NaN where nothing is."""
    some = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(some, values, 0.0).sum(axis=0) / some.sum(axis=0))


# ------------------------------------------------------------------------------------------------ beyond accuracy


def beyond(result: MomentResult, aim: Aim) -> dict[str, dict[str, float]]:
    """Contender → figure, of one moment's lists: what recall and NDCG leave out.

    coverage_catalogue, coverage_sold: share of all items, and of those sold in the last 90 days, in any list.
    novelty: mean of −log₂(share of buyers who had bought the item) over lists (Zhou et al. 2010), one buyer at least.
    popularity_offered, popularity_bought: mean percentile of the items by buyers of the last 90 days; equal ones share
    theirs. categories_gained: with the aim `new`, categories a user that no order held before and that a hit opened;
    categories_offered: those that the list held.
    """
    table, truth = result.model.table, result.taught.truth[aim]
    sold, buyers = (table.column(name).astype(np.float64) for name in ("buyers_90", "buyers"))
    percentile = _percentiles(sold)
    shoppers = max(int((np.diff(result.taught.past.purchases().offsets) > 0).sum()), 1)
    surprise = -np.log2(np.maximum(buyers, 1) / shoppers)
    bought = float(np.mean([percentile[wanted].mean() for wanted in truth.values()]))
    categories = _categories_before(result) if aim == "new" else {}
    out = {}
    for name, lists in result.lists[aim].items():
        shown = np.zeros(len(sold), np.bool_)
        shown[[item for items in lists.values() for item in items]] = True
        some = [np.asarray(items) for items in lists.values() if len(items)]
        out[name] = {
            "coverage_catalogue": float(shown.mean()),
            "coverage_sold": float(shown[sold > 0].mean()) if (sold > 0).any() else float("nan"),
            "novelty": _mean([surprise[items].mean() for items in some]),
            "popularity_offered": _mean([percentile[items].mean() for items in some]),
            "popularity_bought": bought,
        }
        if categories:
            out[name] |= _categories(result, lists, categories)
    return out


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _percentiles(value: Array) -> Array:
    """Share of the others that are below, equal ones counted half."""
    order = np.sort(value)
    below, upto = np.searchsorted(order, value, "left"), np.searchsorted(order, value, "right")
    return np.asarray((below + upto) / 2 / max(len(value), 1))


def _categories_before(result: MomentResult) -> dict[int, set[int]]:
    """Categories of what each user bought before; none where the shop has no categories."""
    attributes, users = result.model.shop.attributes, list(result.taught.truth["new"])
    if not attributes.categories:
        return {}
    bought = result.taught.past.some(users).purchases()
    codes = attributes.category[bought.item]
    return {
        user: set(codes[start:end].tolist()) - {-1}
        for user, (start, end) in zip(users, pairwise(bought.offsets.tolist()), strict=True)
    }


def _categories(result: MomentResult, lists: Lists, before: Mapping[int, set[int]]) -> dict[str, float]:
    """Means over users."""
    category, truth = result.model.shop.attributes.category, result.taught.truth["new"]
    gained, offered = [], []
    for user, known in before.items():
        items = np.asarray(lists.get(user, ()), np.int64)
        known = known | {-1}  # an item without a category opens none
        offered.append(len(set(category[items].tolist()) - known))
        gained.append(len(set(category[np.intersect1d(items, truth[user])].tolist()) - known))
    had = [len(known) for known in before.values()]
    names = ("categories_before", "categories_offered", "categories_gained")
    return dict(zip(names, (_mean(had), _mean(offered), _mean(gained)), strict=True))


# --------------------------------------------------------------------------------------------- heads in the modes


@dataclass(frozen=True)
class Spoken:
    """In one mode: users asked, items shown, and of each head its share of these and of the hits."""

    users: int
    shown: int
    hits: int
    share_of_shown: Mapping[str, float]
    share_of_hits: Mapping[str, float]


def by_mode(result: MomentResult) -> dict[Mode, Spoken]:
    """Which heads speak for what is shown in every mode, to some users who bought something after the moment."""
    truth = spread(result.taught.truth["all"], MODE_USERS)
    past = result.taught.past.some(list(truth))
    out = {}
    for mode in MODES:
        shown: dict[str, int] = {}
        hit: dict[str, int] = {}
        answers = result.model.recommend(past, result.as_of, Ask(mode, K))
        for picks, wanted in zip(answers, truth.values(), strict=True):
            true = set(wanted.tolist())
            for pick in picks:
                shown[pick.head] = shown.get(pick.head, 0) + 1
                hit[pick.head] = hit.get(pick.head, 0) + (pick.item in true)
        out[mode] = Spoken(len(truth), sum(shown.values()), sum(hit.values()), _shares(shown), _shares(hit))
    return out


def _shares(count: Mapping[str, int]) -> dict[str, float]:
    total = sum(count.values())
    return {name: number / total if total else 0.0 for name, number in count.items()}


# ------------------------------------------------------------------------------------------------ all of a backtest


@dataclass(frozen=True)
class Offers:
    """A backtest of lists in numbers: figures with intervals, what accuracy leaves out (means over moments), and the
    heads in each mode (at the newest moment)."""

    table: pa.Table
    figures: Mapping[Aim, AimFigures]
    beyond: Mapping[Aim, Mapping[str, Mapping[str, float]]]
    modes: Mapping[Mode, Spoken]

    def summary(self) -> dict[str, dict[str, float]]:
        """Contender → metric → value, as a run keeps them."""
        out: dict[str, dict[str, float]] = {name: {} for name in contenders(self.table)}
        for aim, found in self.figures.items():
            ours = out[MODEL]
            for name, figures in found.figures.items():
                out[name] |= _bounds({f"{aim}_{f}_at_{K}_mean": i for f, i in figures.items()})
                out[name] |= {f"{aim}_{key}": value for key, value in self.beyond[aim][name].items()}
            for name, figures in found.margins.items():
                named = {f"{aim}_{f}_at_{K}_over_{name}": i for f, i in figures.items()}
                ours |= _bounds(named) | {key: i.value for key, i in named.items()}
            for head, figures in found.worth.items():
                named = {f"{aim}_{f}_at_{K}_worth_of_{head}": i for f, i in figures.items()}
                ours |= _bounds(named) | {key: i.value for key, i in named.items()}
                ours[f"{aim}_hits_lost_without_{head}"] = found.hits_lost[head]
            named = {f"{aim}_{f}_at_{K}_worth_of_rules": i for f, i in found.rules.items()}
            ours |= _bounds(named) | {key: i.value for key, i in named.items()}
            for group, of_group in found.groups.items():
                key = f"{aim}_{group.replace(' ', '_')}"
                ours[f"{key}_users"] = float(of_group.users)
                named = {f"{key}_{f}_at_{K}": i for f, i in of_group.figures[MODEL].items()}
                ours |= _bounds(named) | {key: i.value for key, i in named.items()}
        return {
            name: {key: value for key, value in metrics.items() if np.isfinite(value)} for name, metrics in out.items()
        }


def _bounds(intervals: Mapping[str, Interval]) -> dict[str, float]:
    lows = {f"{name}_low": interval.low for name, interval in intervals.items()}
    return lows | {f"{name}_high": interval.high for name, interval in intervals.items()}


def judged(run: CrossSellRun) -> Offers:
    """All of it."""
    table = by_user(run)
    outside: dict[Aim, dict[str, dict[str, float]]] = {}
    for aim in AIMS:
        moments = [beyond(result, aim) for result in run.backtest]
        outside[aim] = {
            name: {key: _mean([moment[name][key] for moment in moments]) for key in moments[0][name]}
            for name in moments[0]
        }
    return Offers(table, summarised(table), outside, by_mode(run.backtest[0]))
