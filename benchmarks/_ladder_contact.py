"""What one contact is worth to users in each true state: what a policy could gain that knew the truth."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks._ladder_log import BEFORE, Contact, Log, Shop
from benchmarks._ladder_outcomes import OUTCOMES, mean, outcomes, profits
from features.timeline import Array
from training.simulation.parameters import ARMS, CAUSES

STATES = ("engaged", *CAUSES[1:])
# (true state, arm) → [users, 1 + 2 x OUTCOMES]: profit gained, what they did without the contact, and with it
One = dict[tuple[str, str], Array]


def one_contact(shop: Shop) -> One:
    """Everybody who is known on the first day is written to once, by each arm in turn; it costs nothing to send."""
    users = np.arange(len(shop.ids))
    since = np.full(users.size, shop.at(0))
    state, known = shop.state(users, since), shop.people.registered < BEFORE
    before, alone = profits(shop, None), outcomes(shop, None, since)
    out: One = {}
    for arm in ARMS[1:]:
        log = Log(shop, 0.0)
        log.add([Contact(user, shop.at(0), arm, "once/1", "push", 0.0) for user in np.flatnonzero(known).tolist()])
        table = np.column_stack([profits(shop, log) - before, alone, outcomes(shop, log, since)])
        out |= {(name, arm): table[known & (state == name)] for name in STATES}
    return out


def told(each: Sequence[One]) -> dict[str, Any]:
    """Of several shops together: profit a contact with its interval, and return without and with it."""
    joined = {key: np.concatenate([one[key] for one in each]) for key in each[0]}
    out: dict[str, Any] = {}
    for (state, arm), rows in joined.items():
        if len(rows):
            gain, shares = mean(rows[:, 0]), rows[:, 1:].mean(axis=0).round(4).tolist()
            pairs = zip(shares[: len(OUTCOMES)], shares[len(OUTCOMES) :], strict=True)
            figures = {"users": len(rows), "profit": [round(x, 2) for x in (gain.value, gain.low, gain.high)]}
            out[f"{state}, {arm}"] = figures | dict(zip(OUTCOMES, map(list, pairs), strict=True))
    return out
