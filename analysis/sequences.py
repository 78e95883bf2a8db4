"""Frequent sequences of categories, proposed as needs to the operator; nothing applies them by itself.

Each day on which a user had any event about a category is a transaction of what was of that day ("first") and of what
came on the days after ("then"). The frequent pairs of such transactions and the rules between them (mlxtend) tell how
often one category is followed by another, and how surely. Chance is what follows any day of users' activity in as long
a time, so who is often there gains no lift by that.
"""

import json
import re
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import pandas as pd
from mlxtend.frequent_patterns import apriori, association_rules

from features.errors import UserError
from features.events import columns as c
from features.events.intake import hash_array
from features.events.store import Store
from features.timeline import Array

KINDS: Final = ("view", "favourite", "cart", "purchase")
LOOKBACK: Final = 365  # days of the log that are read
MOST_USERS: Final = 3_000
MOST_CATEGORIES: Final = 60  # those of most users
MOST_DAYS: Final = 50_000  # of activity, all together: fewer users are read where each has many
LEAST_USERS: Final = 30  # who did one and then the other
LEAST_LIFT: Final = 1.5
MOST: Final = 20  # suggestions


@dataclass(frozen=True)
class Suggestion:
    """First one category, then another on one of the next days.

    Attributes:
        users: who did so.
        support: share of the days of activity.
        confidence: share of the days with the first category after which the other came.
        lift: confidence over the share of any days of activity after which the other came.
    """

    first: str
    then: str
    users: int
    support: float
    confidence: float
    lift: float


@dataclass(frozen=True)
class Mined:
    """What was found, the highest lift first, and in how much of the log.

    Attributes:
        users: whose days of activity were read, of so many users and devices of the log.
        categories: those looked at, of so many.
        days: of activity, all users together.
    """

    suggestions: list[Suggestion]
    within_days: int
    users: int
    of_users: int
    categories: int
    of_categories: int
    days: int


@dataclass(frozen=True)
class _Days:
    """Events as distinct (user, day, category), sorted; users by number."""

    user: Array
    day: Array
    category: Array


def suggest(store: Store, as_of: int, within_days: int = 14) -> Mined:
    """Sequences frequent before a moment (µs), of at most MOST_USERS users, chosen by a hash of their ids.

    Raises:
        UserError: no event before the moment is about a category.
    """
    found, of_users = _read(store, as_of)
    if not found.user.size:
        raise UserError(f"no event about a category in {store.path} before the moment: ingest an items table with them")
    codes, counts = np.unique(np.unique(np.stack([found.user, found.category]), axis=1)[1], return_counts=True)
    top = np.sort(codes[np.argsort(-counts, kind="stable")[:MOST_CATEGORIES]])
    first, then, who = _transactions(found, top, as_of // c.DAY, within_days)
    most = int(np.searchsorted(who, who[MOST_DAYS])) if len(who) > MOST_DAYS else len(who)  # no user by half
    first, then, who = first[:most], then[:most], who[:most]
    texts = store.words[c.CATEGORY].texts
    names = [texts[code] for code in top.tolist()]
    suggestions = _suggestions(first, then, who, names)
    return Mined(suggestions, within_days, int(np.unique(who).size), of_users, len(top), len(codes), len(who))


def _read(store: Store, as_of: int) -> tuple[_Days, int]:
    """Days of the users chosen, and of how many users and devices these are chosen."""
    hashes = store.user_hashes
    share = min(1.0, MOST_USERS / max(hashes.size, 1))
    limit = np.uint64(min(int(share * 2**64), 2**64 - 1))
    parts, number = [], 0
    for timeline in store.timelines():
        known = timeline.known_before(as_of)
        picked = hash_array(known.user_ids) <= limit
        user = np.repeat(np.arange(len(known)), np.diff(known.offsets))
        kinds = [code for code, kind in enumerate(known.facts.kinds) if kind in KINDS]
        ts, category = known.columns[c.TS], known.column(c.CATEGORY)
        rows = picked[user] & (category >= 0) & np.isin(known.columns[c.KIND], kinds)
        rows &= (ts < as_of) & (ts >= as_of - LOOKBACK * c.DAY)
        part = np.stack([user[rows] + number, ts[rows] // c.DAY, category[rows].astype(np.int64)])
        parts.append(np.unique(part, axis=1))
        number += len(known)
    user, day, category = np.concatenate([np.empty((3, 0), np.int64), *parts], axis=1)
    return _Days(user, day, category), number


def _transactions(found: _Days, top: Array, today: int, within: int) -> tuple[Array, Array, Array]:
    """bool[days of activity, categories] of the day itself and of the days after it, and whose each day is.

    Days whose `within` days after them are not over are left out.
    """
    key = found.user * 100_000 + found.day  # days since 1970 have five figures until 2243
    active = np.unique(key)
    shown = np.isin(found.category, top)
    at, column = key[shown], np.searchsorted(top, found.category[shown])
    first = np.zeros((active.size, top.size), bool)
    first[np.searchsorted(active, at), column] = True
    # An event is "then" for the user's days of activity in the `within` days before it: +1 where they begin, -1 after.
    begins = np.maximum(np.searchsorted(active, at - within), np.searchsorted(active, at // 100_000 * 100_000))
    steps = np.zeros((active.size + 1, top.size), np.int32)
    np.add.at(steps, (begins, column), 1)
    np.add.at(steps, (np.searchsorted(active, at), column), -1)
    then = np.cumsum(steps[:-1], axis=0) > 0
    over = active % 100_000 + within < today
    return first[over], then[over], active[over] // 100_000


def _suggestions(first: Array, then: Array, who: Array, names: list[str]) -> list[Suggestion]:
    if not who.size:
        return []
    size = len(names)
    table = pd.DataFrame(np.hstack([first, then]))  # columns 0…: first, then from `size` on
    # A pair of LEAST_USERS users is of as many days or more.
    frequent = apriori(table, min_support=min(LEAST_USERS / len(who), 1.0), max_len=2, low_memory=True)
    if frequent.empty or frequent["itemsets"].map(len).max() < 2:
        return []
    rules = association_rules(frequent, num_itemsets=len(who), metric="lift", min_threshold=LEAST_LIFT)
    out = []
    for rule in rules.itertuples():
        (one,), (other,) = rule.antecedents, rule.consequents
        if not one < size <= other or other - size == one:
            continue
        users = int(np.unique(who[first[:, one] & then[:, other - size]]).size)
        if users >= LEAST_USERS:
            figures = (float(rule.support), float(rule.confidence), float(rule.lift))
            out.append(Suggestion(names[one], names[other - size], users, *figures))
    return sorted(out, key=lambda s: (-s.lift, s.first, s.then))[:MOST]


def as_toml(mined: Mined) -> str:
    """The suggestions as a table of needs, to be pruned and named by people."""
    lines = ["# Proposed by the log and applied by nobody: keep what makes sense, and give it names of your own.", ""]
    taken: set[str] = set()
    for one in mined.suggestions:
        name = base = "_then_".join(_slug(path) for path in (one.first, one.then))
        while name in taken:
            name = f"{base}_{len(taken)}"
        taken.add(name)
        first, then = (json.dumps(path, ensure_ascii=False) for path in (one.first, one.then))
        lines += [
            f"# {one.users:,} users; support {one.support:.4f}, confidence {one.confidence:.3f}, lift {one.lift:.2f}",
            "[[needs]]",
            f'name = "{name}"',
            f"en = {json.dumps(f'{one.first}, then {one.then}', ensure_ascii=False)}",
            f"zh = {json.dumps(f'先{one.first}，后{one.then}', ensure_ascii=False)}",
            "[[needs.in_turn]]",
            f"first = {{ categories = [{first}] }}",
            f"then = {{ categories = [{then}] }}",
            f"within_days = {mined.within_days}",
            "",
        ]
    return "\n".join(lines)


def rows_of(mined: Mined) -> pd.DataFrame:
    """The suggestions as a table, one row each."""
    return pd.DataFrame([vars(one) for one in mined.suggestions], columns=[f.name for f in fields(Suggestion)])


def _slug(path: str) -> str:
    return re.sub(r"\W+", "_", path).strip("_").lower() or "category"
