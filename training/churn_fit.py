"""One churn model from matrices of training moments: a booster over all horizons, a plain score beside it, levels.

The booster ranks the users of one moment: it starts from the log-odds of that moment and horizon, so it never learns
which moments had many leavers. How many there are is the business of `models.levels`.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import lightgbm as lgb
import numpy as np
from scipy import optimize, special

from features.errors import UserError
from features.events.columns import DAY
from features.events.intake import hash_array
from features.matrix import Matrix
from features.signals import Signal
from features.timeline import Array
from models.alarm import AlarmSettings
from models.causes import SIGNALS as CAUSE_SIGNALS
from models.causes import usual_of
from models.churn import HORIZON, ChurnModel
from models.levels import Levels
from models.plain import LOGARITHMS, SIGNALS, PlainScore, columns_of, log_expected, logarithms
from models.reference import Reference, few
from training.bgnbd import fit_bgnbd, purchases_of
from training.calibration import fit_levels, fit_slope
from training.recipes import Recipe

RISK_QUANTILES = (0.5, 0.8)  # of the newest training moment: where risk becomes medium and high


@dataclass(frozen=True)
class Fitting:
    """What is fitted on: users at moments, with outcomes known until an instant.

    Attributes:
        train: newest first.
        known_until: µs; an outcome window must end at or before it.
        horizons: days, rising; `horizon` is one of them.
    """

    train: Sequence[Matrix]
    known_until: int
    horizons: tuple[int, ...]
    horizon: int
    lookback: int

    def told(self, matrix: Matrix) -> list[int]:
        """The horizons whose outcome is known at a moment."""
        return [days for days in self.horizons if matrix.as_of + days * DAY <= self.known_until]


@dataclass(frozen=True)
class Rows:
    """Training rows: a user at a moment for a horizon.

    Attributes:
        values: float32[rows, signals + 1], the horizon last.
        group: int64[rows], the number of moment and horizon.
        fold: int64[rows], of the user.
    """

    values: Array
    silent: Array
    group: Array
    fold: Array

    @property
    def start(self) -> Array:
        """Log-odds of leaving in the row's group, float64[rows]."""
        share = (np.bincount(self.group, self.silent) + 0.5) / (np.bincount(self.group) + 1.0)
        return np.asarray(special.logit(share)[self.group])


def fit(data: Fitting, recipe: Recipe, *, plain_share: float, alarm: AlarmSettings, threads: int) -> ChurnModel:
    """Fit all parts of a model.

    Args:
        plain_share: of the plain score in the margin.
    """
    signals, chosen = _useful(data.train)
    rows = sample_rows(data, chosen, recipe["seed"], recipe["folds"])
    names = [*(s.name for s in signals), HORIZON]
    # One thread a booster, several boosters at once: LightGBM's own threads stall each other on a busy machine. Every
    # call gets num_threads=1, the forecasts too: it is one number for the whole process, and LightGBM crashes if it
    # grows while another booster is fitted.
    with ThreadPoolExecutor(threads) as pool:
        whole = pool.submit(boost, rows, names, recipe)
        part = pool.submit(boost, _without(rows, 0), names, recipe)
        plain = fit_plain(rows, names, data)
        booster, unseen = whole.result(), part.result()
    model = ChurnModel(
        booster_text=booster.model_to_string(),
        plain=plain,
        plain_share=plain_share,
        signals=signals,
        horizons=data.horizons,
        slopes=np.ones(len(data.horizons)),
        levels=Levels(np.zeros(1, np.int64), np.zeros((1, len(data.horizons)))),
        usual=_medians(data.train[0].values[:, chosen]),
        risk_cuts=(0.0, 1.0),
        base_rates=_base_rates(data),
        horizon=data.horizon,
        lookback=data.lookback,
        as_of=data.known_until,
        alarm=alarm,
        cause_usual=usual_of(np.stack([data.train[0].column(name) for name in CAUSE_SIGNALS], axis=1)),
        reference=Reference((), np.empty(0, np.int64), (), ()),
    )
    return _described(_calibrated(model, unseen, data, chosen, recipe["folds"]), data, chosen)


def _useful(train: Sequence[Matrix]) -> tuple[tuple[Signal, ...], Array]:
    """The signals that vary, and those that the plain score reads; with their places."""
    low = np.nanmin([np.nanmin(m.values, axis=0, initial=np.inf) for m in train], axis=0)
    high = np.nanmax([np.nanmax(m.values, axis=0, initial=-np.inf) for m in train], axis=0)
    names = train[0].names
    chosen = np.array([i for i, name in enumerate(names) if high[i] > low[i] or name in SIGNALS])
    return tuple(train[0].signals[i] for i in chosen), chosen


def _medians(values: Array) -> Array:
    """Of each column, float64[signals], without what is not observed; NaN where nothing is."""
    seen = [column[~np.isnan(column)] for column in values.T]
    return np.array([np.median(column) if column.size else np.nan for column in seen], np.float64)


def sample_rows(data: Fitting, chosen: Array, seed: int, folds: int) -> Rows:
    """Each user at each moment once for the horizon asked for and once for another, where their outcome is known."""
    values, silent, group, fold = [], [], [], []
    groups: dict[tuple[int, int], int] = {}
    for matrix in data.train:
        told = data.told(matrix)
        hashes = hash_array(matrix.user_ids)
        others = [days for days in told if days != data.horizon]
        picks = [np.full(len(matrix), data.horizon)] if data.horizon in told else []
        if others:
            rng = np.random.default_rng([seed, matrix.as_of // DAY])
            picks.append(np.array(others)[rng.integers(0, len(others), len(matrix))])
        for days in picks:
            values.append(np.column_stack([matrix.values[:, chosen], days.astype(np.float32)]))
            silent.append(matrix.silent(days))
            number = {d: groups.setdefault((matrix.as_of, d), len(groups)) for d in told}
            group.append(np.vectorize(number.__getitem__, otypes=[np.int64])(days))
            fold.append((hashes % np.uint64(folds)).astype(np.int64))
    return Rows(*(np.concatenate(column) for column in (values, silent, group, fold)))


def _without(rows: Rows, fold: int) -> Rows:
    kept = rows.fold != fold
    _, group = np.unique(rows.group[kept], return_inverse=True)
    return Rows(rows.values[kept], rows.silent[kept], group, rows.fold[kept])


def boost(rows: Rows, names: list[str], recipe: Recipe) -> lgb.Booster:
    """A booster of the rows beyond each group's log-odds.

    Raises:
        UserError: LightGBM refuses a setting.
    """
    rising, falling = (set(recipe["monotone"][way]) for way in ("rises_with", "falls_with"))
    settings = {
        "objective": "binary",
        "verbose": -1,
        "seed": recipe["seed"],
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "monotone_constraints": [int(name in rising) - int(name in falling) for name in names],
        **recipe["booster"],
    }
    data = lgb.Dataset(rows.values, rows.silent.astype(np.float32), init_score=rows.start, feature_name=names)
    try:
        return lgb.train(settings, data, recipe["rounds"])
    except lgb.basic.LightGBMError as error:
        said = str(error).partition(" at ")[0]  # without the place in its own source
        raise UserError(f"LightGBM refuses [booster] of the recipe: {said}") from error


def fit_plain(rows: Rows, names: Sequence[str], data: Fitting) -> PlainScore:
    """Weights by maximum likelihood, all inputs relative to their group's mean; half of each are those of BG/NBD alone.

    Half, because on small logs of dates and amounts the likelihood trusts BG/NBD too little: 2,000 customers of Online
    Retail II then rank worse at 90 days than by its expected purchases. Silence may not lower the score, nor expected
    purchases raise it.
    """
    repeaters = (data.train[0].column("orders_ever") > 1).any()
    bgnbd = fit_bgnbd(purchases_of(data.train[0])) if repeaters else None
    column = columns_of(rows.values, list(names))
    x = np.column_stack([logarithms(column), np.zeros(len(rows.silent))])
    if bgnbd is not None:
        for days in np.unique(rows.values[:, -1]):
            at = rows.values[:, -1] == days
            x[at, -1] = log_expected({name: values[at] for name, values in column.items()}, float(days), bgnbd)
    size = np.maximum(np.bincount(rows.group), 1)  # of few users none may have drawn a horizon
    means = np.stack([np.bincount(rows.group, values) / size for values in x.T], axis=1)
    x -= means[rows.group]
    scale = x.std(axis=0) + 1e-9
    x /= scale
    bounds: list[tuple[float | None, float | None]] = [(None, None)] * len(scale)
    bounds[LOGARITHMS.index("days_since_purchase")] = (0, None)
    bounds[-1] = (None, 0)
    weights = _most_likely(x, rows, bounds)
    if bgnbd is not None:
        weights /= 2
        weights[-1:] += _most_likely(x[:, -1:], rows, bounds[-1:]) / 2
    return PlainScore(tuple(float(w) for w in weights / scale), bgnbd)


def _most_likely(x: Array, rows: Rows, bounds: Sequence[tuple[float | None, float | None]]) -> Array:
    """Logistic weights of inputs beyond each row's start, with a standard normal prior."""
    start, sign = rows.start, np.where(rows.silent, 1.0, -1.0)

    def loss(weights: Array) -> tuple[float, Array]:
        margin = sign * (start + x @ weights)
        value = np.logaddexp(0, -margin).sum() + 0.5 * (weights**2).sum()
        return float(value), -(special.expit(-margin) * sign) @ x + weights

    return np.asarray(optimize.minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds).x)


def _calibrated(model: ChurnModel, unseen: lgb.Booster, data: Fitting, chosen: Array, folds: int) -> ChurnModel:
    """With slopes from users that a booster was not fitted on, and levels from all users."""
    slopes = np.ones(len(data.horizons))
    levels = np.full((len(data.train), len(data.horizons)), np.nan)
    told = [data.told(matrix) for matrix in data.train]
    values = [np.ascontiguousarray(matrix.values[:, chosen]) for matrix in data.train]
    margins = [model.margins(v, t) if t else np.empty((len(v), 0)) for v, t in zip(values, told, strict=True)]
    held = [hash_array(matrix.user_ids) % np.uint64(folds) == 0 for matrix in data.train]
    out = replace(model, booster_text=unseen.model_to_string())
    fresh = [out.margins(v[h], t) if t else np.empty((0, 0)) for v, h, t in zip(values, held, told, strict=True)]
    for k, days in enumerate(data.horizons):
        at = [i for i, t in enumerate(told) if days in t and held[i].any()]
        slopes[k] = fit_slope(
            np.concatenate([fresh[i][:, told[i].index(days)] for i in at]),
            np.concatenate([data.train[i].silent(days)[held[i]] for i in at]),
            np.repeat(np.arange(len(at)), [int(held[i].sum()) for i in at]),
        )
        at = [i for i, t in enumerate(told) if days in t]
        levels[at, k] = fit_levels(
            slopes[k] * np.concatenate([margins[i][:, told[i].index(days)] for i in at]),
            np.concatenate([data.train[i].silent(days) for i in at]),
            np.repeat(np.arange(len(at)), [len(data.train[i]) for i in at]),
        )
    moments = np.array([matrix.as_of for matrix in data.train], np.int64)
    return replace(model, slopes=slopes, levels=Levels(moments, levels))


def _described(model: ChurnModel, data: Fitting, chosen: Array) -> ChurnModel:
    """With what is told of its own scores: where risk begins, and how the users of training were spread."""
    few_train = [(m.as_of, np.ascontiguousarray(m.values[:, chosen])) for m in few(data.train)]
    scored = [(as_of, values, model.score(values, as_of)) for as_of, values in few_train]
    medium, high = (float(cut) for cut in np.quantile(scored[0][2], RISK_QUANTILES))
    return replace(model, risk_cuts=(medium, high), reference=Reference.of(model.names, scored))


def _base_rates(data: Fitting) -> Array:
    """Share of leavers at the newest moment at which each horizon's outcome is known."""
    newest = [next(m for m in data.train if days in data.told(m)) for days in data.horizons]
    shares = [m.silent(days).mean() for m, days in zip(newest, data.horizons, strict=True)]
    return np.minimum.accumulate(np.array(shares))
