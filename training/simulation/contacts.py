"""How simulated users answer to contacts that somebody else chose: a coupon, a reminder, a repair on a certain day.

The truth is that of the shop's own campaigns (`response_*` in `default.toml`): a contact adds a chance of a visit
within `messages.within_days`, by the state the user is in and by the arm, or keeps her away; a visit ends in an order
with `messages.buys`. What a contact changes lies after it, and in her own life only. The dice of a contact depend on
the user and the day it is sent, so that two policies that do the same are answered the same.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.events.columns import DAY
from training.simulation import dice
from training.simulation.catalogue import Catalogue
from training.simulation.messages import HOLD_OUT, Messages, answered, make_messages
from training.simulation.parameters import ARMS, Parameters
from training.simulation.people import EXPERIENCE, SOFT, People
from training.simulation.shop import make_events

Array = npt.NDArray[Any]

REPAIR = ARMS.index("repair")


@dataclass(frozen=True)
class Contacts:
    """Contacts of some users, one element each, at most one a user and day.

    Attributes:
        user: place among the users.
        sent: µs since the log began, int64.
        arm: code into `ARMS`, none of them the hold-out.
        campaign, channel: texts as the log is to name them.
    """

    user: Array
    sent: Array
    arm: Array
    campaign: list[str]
    channel: list[str]

    def __post_init__(self) -> None:
        if (self.arm == HOLD_OUT).any():
            raise ValueError("a hold-out is no contact: leave it out")
        if len({*zip(self.user.tolist(), (self.sent // DAY).tolist(), strict=True)}) < self.user.size:
            raise ValueError("a user is contacted twice on a day; the answers to both would be the same")


@dataclass(frozen=True)
class Back(People):
    """People some of whom have come back to stay: from `back` (day of the log; inf for never) on nothing of the drift
    that they were in is left. `before` are the same people without it."""

    back: Array
    before: People

    @property
    def planned(self) -> People:
        return self.before

    def fallen(self, user: Array, day: Array, left: str, lag: float = 0.0) -> Array:
        return np.where(day >= self.back[user], 1.0, self.before.fallen(user, day, left, lag))

    def drifting(self, user: Array, day: Array) -> Array:
        return self.before.drifting(user, day) & (day < self.back[user])

    def factor(self, user: Array, day: Array, name: str) -> Array:
        return np.where(day >= self.back[user], 1.0, self.before.factor(user, day, name))

    def added(self, user: Array, day: Array, name: str) -> Array:
        return np.where(day >= self.back[user], 0.0, self.before.added(user, day, name))


def some_of(people: People, index: Array) -> People:
    """The users at these places."""
    return People(**{f.name: _taken(getattr(people, f.name), index) for f in fields(People)})


def _taken(value: Any, index: Array) -> Any:
    return {name: values[index] for name, values in value.items()} if isinstance(value, dict) else value[index]


def live(
    p: Parameters,
    catalogue: Catalogue,
    people: People,
    days: int,
    start: float,
    contacts: Contacts | None = None,
    stays: float = 0.0,
) -> pa.Table:
    """The events of some users, sorted by user and time, where the shop's own campaigns end and contacts take over.

    Args:
        days: length of the log.
        start: day of the log from which on there are no campaigns; no contact is earlier.
        contacts: None for nobody's.
        stays: chance that a return ends the drift: of who merely forgets, and of whom we failed where it was a repair.
            0, as in the shop's own campaigns: who is recalled comes once and goes on drifting.
    """
    planned = make_messages(p, people, days)
    campaigns = int(planned.campaign.max(initial=-1)) + 1
    before = planned.sent < start
    own = Messages(**{name: values[before] for name, values in vars(planned).items()})
    if contacts is None or not contacts.user.size:
        return make_events(p, catalogue, people, days, own)
    more, people = answers(p, people, contacts, stays)
    more = replace(more, campaign=more.campaign + campaigns)
    both = {name: np.concatenate([values, getattr(more, name)]) for name, values in vars(own).items()}
    return _named(make_events(p, catalogue, people, days, Messages(**both)), campaigns, contacts)


def answers(p: Parameters, people: People, contacts: Contacts, stays: float = 0.0) -> tuple[Messages, People]:
    """What each contact leads to, in the order user and time, and the people with whoever came back to stay.

    `campaign` is the contact's place among the contacts.
    """
    order = np.lexsort((contacts.sent, contacts.user))
    if not stays:
        return _answered(p, people, contacts, order), people
    user = contacts.user[order]
    nth = np.arange(order.size) - np.searchsorted(user, user, side="left")
    people = Back(**vars(people), back=np.full(people.number.size, np.inf), before=people)
    parts = []
    for n in range(int(nth.max(initial=-1)) + 1):  # who came back to stay at the first answers the second as engaged
        part = _answered(p, people, contacts, order[nth == n])
        parts.append(part)
        people = _stay(people, part, stays)
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])}
    order = np.lexsort((joined["sent"], joined["user"]))
    return Messages(**{name: values[order] for name, values in joined.items()}), people


def _answered(p: Parameters, people: People, contacts: Contacts, index: Array) -> Messages:
    """The answers to some contacts."""
    user = contacts.user[index]
    key = dice.child(dice.child(people.key[user], 7), contacts.sent[index] // DAY)
    sent = (contacts.sent[index] + 0.5) / DAY  # in days; back in whole µs it is what it was
    return answered(p, people, user=user, key=key, campaign=index, arm=contacts.arm[index], sent=sent)


def _stay(people: Back, met: Messages, stays: float) -> Back:
    """The people, those back to stay who returned in a drift that such a return can end."""
    user, when = met.user, met.returned
    cause = people.cause[user]
    ends = (cause == SOFT) | ((cause == EXPERIENCE) & (met.arm == REPAIR))
    stay = np.isfinite(when) & ends & people.drifting(user, met.sent)
    stay &= dice.uniform(met.key, "stays") < stays
    back, gone = people.back.copy(), people.gone.copy()
    back[user[stay]], gone[user[stay]] = when[stay], np.inf
    return replace(people, back=back, gone=gone)


def _named(table: pa.Table, campaigns: int, contacts: Contacts) -> pa.Table:
    """The table with the contacts' own names of campaigns and channels in place of numbers."""
    number = {f"campaign {campaigns + i + 1:02d}": i for i in range(len(contacts.campaign))}
    column = table["campaign_id"].combine_chunks().dictionary_encode()
    found = [number.get(text, -1) for text in column.dictionary.to_pylist()]
    at = np.append(np.array(found, np.int64), -1)[np.asarray(column.indices.fill_null(len(found)))]
    ours = pa.array(at >= 0)
    place = pa.array(np.maximum(at, 0))
    message = pc.is_in(table["kind"], pa.array(["message_sent", "message_opened", "opt_out"]))
    for name, texts, chosen in (
        ("campaign_id", contacts.campaign, ours),
        ("channel", contacts.channel, pc.and_(ours, message.combine_chunks())),
    ):
        given = pa.array(texts, pa.string()).take(place)
        values = pc.if_else(chosen, given, table[name].combine_chunks())
        table = table.set_column(table.schema.get_field_index(name), name, values)
    return table
