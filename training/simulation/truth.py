"""The tables about users: what the shop knows of them, and what only the simulation does."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.events.columns import DAY
from training.simulation import dice
from training.simulation.catalogue import Catalogue, names
from training.simulation.needs import NEEDS, STAGE, needs_of
from training.simulation.parameters import ARMS, CAUSES, Parameters
from training.simulation.people import EXPERIENCE, NONE, People, response_of

Array = npt.NDArray[Any]

SOURCES = ("direct", "search ad", "social", "invitation")
REGIONS = ("north", "east", "south", "west", "centre")
# What a user drifts in, by CAUSES; "engaged" before, "gone" after.
DRIFTS = ("engaged", "needless", "drifting", "failed by us")


def users_table(people: People, start: int) -> pa.Table:
    """The shop's own table of its users; `start` is the first day, µs."""
    key, invited = people.key, people.inviter >= 0
    source = np.where(invited, 3, dice.choice(key, "source", np.array([0.45, 0.35, 0.2])))
    born = np.floor((-52 + 33 * dice.uniform(key, "born")) * 365.25).astype(np.int32) + 18_628
    return pa.table(
        {
            "user_id": names("u", key.size, int(people.number[0])),
            "registered_at": _instants(people.registered, start),
            "acquisition_channel": pa.array(SOURCES).take(pa.array(source)),
            "invited_by": pa.array([f"u{n:05d}" if n >= 0 else None for n in people.inviter.tolist()], pa.string()),
            "region": pa.array(REGIONS).take(pa.array(dice.choice(key, "region", np.ones(len(REGIONS))))),
            "birthday": pa.array(born, pa.date32()),
        }
    )


def truth_table(p: Parameters, catalogue: Catalogue, people: People, start: int, days: int) -> pa.Table:
    """One row a user: cause, onset and end of leaving, own norms, signs and response, as the simulation had them.

    `cause` is none for who had not begun to drift by the end of the log; `gone` is null for who was not gone by then.
    `gone_later` is the instant of a drift that outlasts the log. Signs are factors or added chances at full drift.
    Responses are added chances of a visit in the user's last living state.
    """
    gone = people.gone < days
    response = response_of(p)[people.cause]
    kind = np.where(people.shown == EXPERIENCE, np.where(people.taste_unmet, "unmet taste", "bad orders"), "")
    signs = {f"sign_{name}": values for name, values in people.signs.items()}
    categories = pa.array(catalogue.categories)
    return pa.table(
        {
            "user_id": names("u", people.number.size, int(people.number[0])),
            "cause": pa.array(CAUSES).take(pa.array(people.cause)),
            "shows_as": pa.array(CAUSES).take(pa.array(people.shown)),
            "experience": pa.array(kind, mask=people.shown != EXPERIENCE),
            "state": np.where(gone, "gone", np.array(DRIFTS)[people.cause]),
            "onset": _instants(people.onset, start),
            "gone": _instants(np.where(gone, people.gone, np.inf), start),
            "gone_later": _instants(np.where(gone, np.inf, people.gone), start),
            "signs_from": _instants(np.where(people.cause != NONE, people.warned, np.inf), start),
            "order_gap_days": pa.array(people.gap, mask=~np.isfinite(people.gap)),
            "visits_a_week": people.visits * 7,
            "trouble": people.trouble,
            "fall": people.fall,
            **signs,
            **{f"response_{arm}": response[:, i] for i, arm in enumerate(ARMS) if i},
            **{f"taste_{k + 1}": categories.take(pa.array(people.groups[:, k])) for k in range(4)},
            "need_ends": _instants(np.where(people.need_ends < days, people.need_ends, np.inf), start),
        }
    )


def states_table(people: People, start: int, days: int) -> pa.Table:
    """One row a user and state within the log: from when, which. A pause is a row of its own, then engaged again."""
    number = np.arange(people.number.size)
    begin, end = people.pauses[..., 0], people.pauses[..., 1]
    user, slot = np.nonzero((begin > np.maximum(people.registered, 0)[:, None]) & np.isfinite(begin))
    parts = [
        (number, np.maximum(people.registered, 0.0), np.full(number.size, "engaged")),
        (user, begin[user, slot], np.full(user.size, "on a pause")),
        (user, end[user, slot], np.full(user.size, "engaged")),
        (number, people.onset, np.array(DRIFTS)[people.cause]),
        (number, people.gone, np.full(number.size, "gone")),
    ]
    who, when, state = (np.concatenate([part[i] for part in parts]) for i in range(3))
    index = np.flatnonzero(when < days)
    index = index[np.lexsort((when[index], who[index]))]
    ids = names("u", number.size, int(people.number[0]))
    return pa.table(
        {
            "user_id": ids.take(pa.array(who[index])),
            "from": _instants(when[index], start),
            "state": pa.array(state[index].tolist(), pa.string()),
        }
    )


def needs_table(p: Parameters, people: People, start: int, days: int) -> pa.Table:
    """One row a user with a need that began within the log: which, from when until when, and when it moved on to the
    next stage of life; null for what lies after the end of the log, and where there is no next stage."""
    need = needs_of(p, people, days)
    index = np.flatnonzero(need.needed)
    moved = np.where((need.number == STAGE) & (need.turn < need.until), need.turn, np.inf)
    return pa.table(
        {
            "user_id": names("u", people.number.size, int(people.number[0])).take(pa.array(index)),
            "need": pa.array(NEEDS).take(pa.array(need.number[index])),
            "from": _instants(need.begin[index], start),
            "until": _instants(np.where(need.until < days, need.until, np.inf)[index], start),
            "moved_at": _instants(np.where(moved < days, moved, np.inf)[index], start),
        }
    )


def _instants(day: Array, start: int) -> pa.Array:
    """Times in days of the log; null where there is none."""
    known = np.isfinite(day)
    micros = np.floor(np.where(known, day, 0) * DAY).astype(np.int64) + start
    return pa.array(micros, pa.timestamp("us"), mask=~known)
