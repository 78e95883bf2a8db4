"""Campaigns on a fixed schedule with random arms, and what users make of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from training.simulation import dice
from training.simulation.parameters import ARMS, Parameters
from training.simulation.people import People, response_of

Array = npt.NDArray[Any]

HOLD_OUT, COUPON = ARMS.index("hold_out"), ARMS.index("coupon")


@dataclass(frozen=True)
class Messages:
    """One element a user and campaign; times in days of the log, inf where it did not happen."""

    user: Array
    key: Array
    campaign: Array
    arm: Array  # ARMS; a hold-out was chosen and sent nothing
    sent: Array
    opened: Array
    opted_out: Array
    returned: Array  # the start of the visit that the message caused
    quiet: Array  # bool: the message keeps the user away for a while


def make_messages(p: Parameters, people: People, days: int) -> Messages:
    """All messages of some users. Nobody is written to before registering or after opting out; who is gone is still
    written to, as the shop does not know."""
    m = p.messages
    planned = np.arange(3.0, days, m.every_days)
    user, campaign = np.nonzero(planned > people.registered[:, None])
    key = dice.child(dice.child(people.key[user], 1), campaign)
    chosen = dice.uniform(key, "reach") < m.reach
    user, campaign, key = user[chosen], campaign[chosen], key[chosen]
    sent = planned[campaign] + (9 + 2 * dice.uniform(key, "sent")) / 24
    arm = dice.choice(key, "arm", np.array([getattr(m, name) for name in ARMS]))
    out = answered(p, people, user=user, key=key, campaign=campaign, arm=arm, sent=sent)
    first_out = np.full(people.number.size, np.inf)
    opts_out = np.isfinite(out.opted_out)
    np.minimum.at(first_out, user[opts_out], sent[opts_out])
    kept = (sent <= first_out[user]) & (sent < days)
    return Messages(**{name: values[kept] for name, values in vars(out).items()})


def answered(
    p: Parameters, people: People, *, user: Array, key: Array, campaign: Array, arm: Array, sent: Array
) -> Messages:
    """Messages (one element each; `sent` in days of the log) and what users make of them: the stated response.

    An arm adds a chance of a visit within `messages.within_days`, by the state the user is in, or keeps her away.
    Nothing comes of a hold-out, or of who is gone or not yet registered.
    """
    m = p.messages
    alive = (sent < people.gone[user]) & (sent >= people.registered[user])
    treated = (arm != HOLD_OUT) & alive
    drifting = people.drifting(user, sent)
    leave = m.opt_out * people.factor(user, sent, "opt_out")
    opts_out = treated & (dice.uniform(key, "opt out") < leave)
    effect = response_of(p)[np.where(drifting, people.cause[user], 0), arm]
    effect = np.clip(effect * np.exp(0.4 * dice.normal(people.key, "response"))[user], -1, 0.95)
    drawn = dice.uniform(key, "responds")
    returned = sent + 0.02 + m.within_days * dice.uniform(key, "returns")
    returns = treated & (drawn < effect) & (returned < people.gone[user])
    chance = np.minimum(people.opened[user] * people.factor(user, sent, "opened"), 0.98)
    opens = (dice.uniform(key, "opens") < chance) & treated
    opened = sent + 0.01 + 0.25 * dice.exponential(key, "opened")
    opened = np.where(returns, sent + (returned - sent) * 0.9, opened)
    return Messages(
        user=user,
        key=key,
        campaign=campaign,
        arm=arm,
        sent=sent,
        opened=np.where(opens | returns, opened, np.inf),
        opted_out=np.where(opts_out, sent + 0.01, np.inf),
        returned=np.where(returns, returned, np.inf),
        quiet=treated & (drawn < -effect),
    )


def quiet_days(p: Parameters, messages: Messages, users: int, days: int) -> Array:
    """bool[users, days]: days on which a message keeps the user away."""
    quiet = np.zeros((users, days), bool)
    first = np.ceil(messages.sent).astype(np.int64)
    for later in range(max(1, round(p.messages.within_days))):
        hit = messages.quiet & (first + later < days)
        quiet[messages.user[hit], first[hit] + later] = True
    return quiet
