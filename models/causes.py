"""Why a user leaves: the need has ended (natural), they forget (soft), or we failed them (experience); or unknown.

Four accounts of the newest visits and orders compete: what each expects stands in `causes.toml`, and how likely each
makes what was seen is a sum over signs (`models.signs`). When things changed is not known, so the likelihood of an
account is its mean over several windows of newest visits. A user's own answer to a survey outweighs all of it.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from features.errors import UserError
from features.timeline import Array
from models import words
from models.signs import ANSWERS, SIGNALS, Past, Sign, of_orders, of_visits

CauseName = Literal["natural", "soft", "experience", "unknown"]
CAUSES: Final[tuple[CauseName, ...]] = ("natural", "soft", "experience")
OF: Final[Mapping[str, CauseName]] = {
    "natural": "natural",
    "soft": "soft",
    "failed": "experience",
    "unmet": "experience",
}
# Windows of newest visits within which each account's change may have begun; the signs of its kind have these.
ACCOUNTS: Final[Mapping[str, tuple[int, ...]]] = {
    "natural": (1, 2, 4, 8),
    "soft": (4,),
    "failed": (4, 16),
    "unmet": (4, 16),
}
OF_VISITS = ("need", "dwell", "opened", "gaps", "empty", "dislikes", "searches", "carts")
OF_ORDERS = ("troubles", "late", "opted_out")
SHOWN = 3  # pieces of evidence a user
TELLING = 0.15  # a sign that speaks less than this for the cause, as a logarithm, is not shown
CHUNK = 20_000  # users worked on at once

__all__ = ["CAUSES", "SIGNALS", "Cause", "CauseSettings", "infer_causes", "load_settings", "usual_of"]


@dataclass(frozen=True)
class Cause:
    """A cause of leaving, its probability, and what speaks for it in words."""

    cause: CauseName
    confidence: float
    evidence: list[str]


@dataclass(frozen=True)
class CauseSettings:
    """The tables of `causes.toml`: `accounts` are what each account expects of each sign."""

    settings: Mapping[str, float]
    prior: Mapping[str, float]
    weights: Mapping[str, float]
    accounts: Mapping[str, Mapping[str, float]]


@cache
def load_settings(path: Path | None = None) -> CauseSettings:
    """The shipped settings, or those of a file, which has the same tables and keys.

    Raises:
        UserError: the file is none, or a table, key or number in it is wrong.
    """
    shipped = tomllib.loads((files("models") / "causes.toml").read_text("utf-8"))
    if path is None:
        return _settings(shipped)
    try:
        given = tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path} cannot be read as TOML: {error}") from error
    for table, keys in given.items():
        if table not in shipped:
            raise UserError(f"{path} has a table [{table}]: give {', '.join(f'[{name}]' for name in shipped)}")
        if not isinstance(keys, dict):
            raise UserError(f"{path}: {table} must be a table [{table}]")
        # Accounts may speak of any sign, each in its own terms.
        known = {*OF_VISITS, *OF_ORDERS} if table in ACCOUNTS else set(shipped[table])
        for key, value in keys.items():
            if key not in known:
                raise UserError(f"{path}: [{table}] has no {key}: it has {', '.join(sorted(known))}")
            if problem := _problem(table, key, value):
                raise UserError(f"{path}: {key} in [{table}] is {value!r}: {problem}")
    merged = {name: {**keys, **given.get(name, {})} for name, keys in shipped.items()}
    return _settings(merged)


def _problem(table: str, key: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        return "give a number"
    if table == "prior":
        return ""
    shares = table == "weights" or key in ("confidence", "answer_right", "empty", "dislikes")
    if shares:
        return "" if 0 <= value < 1 or (table == "weights" and value == 1) else "give a share from 0 to below 1"
    if key == "need":
        return "" if 0 < value <= 1 else "give more than 0 and at most 1"
    if key == "troubles" or table == "settings":
        return "" if value >= 0 else "give 0 or more"
    return "" if value > 0 else "give more than 0"


def _settings(tables: Mapping[str, Mapping[str, float]]) -> CauseSettings:
    accounts = {name: tables[name] for name in ACCOUNTS}
    return CauseSettings(tables["settings"], tables["prior"], tables["weights"], accounts)


def usual_of(values: Array) -> Array:
    """The shop's means for `infer_causes`, float64[signals], of float32[users, SIGNALS]; NaN where nobody has any."""
    seen = np.isfinite(values)
    sums = np.where(seen, values, 0).sum(axis=0, dtype=np.float64)
    return np.divide(sums, seen.sum(axis=0), out=np.full(values.shape[1], np.nan), where=seen.any(axis=0))


def infer_causes(
    values: Array, usual: Array, settings: CauseSettings | None = None, language: words.Language = "en"
) -> list[Cause]:
    """A cause a user, for users who may be leaving: of others it says what it would be, if they did.

    Args:
        values: float32[users, signals], the signals in the order of `SIGNALS`.
        usual: float64[signals], `usual_of` the users of training.
    """
    settings = settings or load_settings()
    out: list[Cause] = []
    for start in range(0, len(values), CHUNK):
        out += _infer(values[start : start + CHUNK], usual, settings, language)
    return out


def _infer(values: Array, usual: Array, settings: CauseSettings, language: words.Language) -> list[Cause]:
    past = Past(values, usual)
    windows = {n: of_visits(past, n) for n in sorted({n for many in ACCOUNTS.values() for n in many})}
    orders = of_orders(past)
    parts = {name: _parts(name, windows, orders, settings) for name in ACCOUNTS}
    total = np.stack([_total(name, *parts[name]) + settings.prior[name] for name in ACCOUNTS])
    total -= total.max(axis=0)
    probability = np.exp(total)
    probability /= probability.sum(axis=0)
    of_cause = np.stack([probability[0], probability[1], probability[2] + probability[3]])
    best = of_cause.argmax(axis=0)
    account = np.where(best == 2, 2 + (probability[3] > probability[2]), best)
    enough = np.nan_to_num(past["visits_ever"]) + np.nan_to_num(past["order_days_ever"])
    known = (of_cause.max(axis=0) >= settings.settings["confidence"]) & (enough >= settings.settings["visits"])
    answer, days = _answers(past, settings)
    texts = words.load(language)
    out = []
    for user in range(len(values)):
        shown = _evidence(user, int(account[user]), parts, windows, orders, texts) if known[user] else []
        confidence = float(of_cause[best[user], user])
        cause: CauseName = CAUSES[best[user]] if known[user] else "unknown"
        if answer[user] >= 0:
            said = ANSWERS[answer[user]]
            told = texts.evidence("answer", value=float(days[user]), said=texts.answer(said))
            agrees = said == cause
            cause = CAUSES[answer[user]] if said in CAUSES else "unknown"
            right = settings.settings["answer_right"]
            confidence = max(right, confidence) if agrees else right
            shown = [told, *(shown if agrees else [])]
        out.append(Cause(cause, confidence, shown[:SHOWN]))
    return out


def _parts(
    account: str, windows: Mapping[int, Mapping[str, Sign]], orders: Mapping[str, Sign], settings: CauseSettings
) -> tuple[dict[int, dict[str, Array]], dict[str, Array]]:
    """What each sign says for an account, weighted log-likelihood ratios: by window, and of orders."""
    expects, weights, cap = settings.accounts[account], settings.weights, settings.settings["cap"]

    def says(name: str, sign: Sign) -> Array:
        told = np.nan_to_num(sign.likelihood(expects[name]), nan=0.0, posinf=0.0, neginf=0.0)
        return weights[name] * np.clip(told, -cap, cap)

    with np.errstate(divide="ignore", invalid="ignore"):
        of_windows = {
            n: {name: says(name, sign) for name, sign in windows[n].items() if name in expects}
            for n in ACCOUNTS[account]
        }
        return of_windows, {name: says(name, sign) for name, sign in orders.items() if name in expects}


def _total(account: str, of_windows: Mapping[int, Mapping[str, Array]], of_orders: Mapping[str, Array]) -> Array:
    """float64[users]: the logarithm of the mean likelihood over the windows, and what the orders say."""
    sums = np.stack([np.sum(list(signs.values()), axis=0) for signs in of_windows.values()])
    top = sums.max(axis=0)
    return np.asarray(
        top + np.log(np.exp(sums - top).mean(axis=0)) + np.sum([np.zeros_like(top), *of_orders.values()], axis=0)
    )


def _answers(past: Past, settings: CauseSettings) -> tuple[Array, Array]:
    """Which of `ANSWERS` each user gave last and how many days ago; -1 for none in time."""
    days = np.stack([past[f"days_since_answer_{answer}"] for answer in ANSWERS])
    days = np.where(days <= settings.settings["answer_days"], days, np.inf)
    newest = days.argmin(axis=0)
    return np.where(np.isfinite(days.min(axis=0)), newest, -1), days.min(axis=0)


def _evidence(
    user: int,
    account: int,
    parts: Mapping[str, tuple[dict[int, dict[str, Array]], dict[str, Array]]],
    windows: Mapping[int, Mapping[str, Sign]],
    orders: Mapping[str, Sign],
    texts: words.Words,
) -> list[str]:
    """The signs that speak most for an account against the others, in words."""

    def best(name: str) -> tuple[int, dict[str, float]]:
        of_windows, of_orders = parts[name]
        n = max(of_windows, key=lambda n: sum(float(part[user]) for part in of_windows[n].values()))
        return n, {sign: float(part[user]) for sign, part in (of_windows[n] | of_orders).items()}

    each = {name: best(name) for name in ACCOUNTS}
    chosen = list(ACCOUNTS)[account]
    n, own = each[chosen]
    rivals = [said for name, (_, said) in each.items() if OF[name] != OF[chosen]]
    speaks = {
        name: own.get(name, 0.0) - sum(rival.get(name, 0.0) for rival in rivals) / len(rivals)
        for name in (*OF_VISITS, *OF_ORDERS)
    }
    out: list[str] = []
    for name in sorted(speaks, key=lambda name: -speaks[name])[:SHOWN]:
        found = next((k for k in (n, 4, 8, 16) if name in windows.get(k, {})), n)
        sign = orders[name] if name in OF_ORDERS else windows[found][name]
        values = {"value": float(sign.seen[user]), "of": float(sign.of[user]), "usual": float(sign.usual[user])}
        if speaks[name] <= (TELLING if out else 0) or not np.isfinite([*values.values()]).all():
            continue
        out.append(texts.evidence(name, **values, visits=str(found)))
    return out
