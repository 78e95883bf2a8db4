"""A chunk of users' lives, from who they are to the rows of the log."""

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.events.columns import (
    ARRIVED_AT,
    CATEGORY,
    DAY,
    DEVICE_ID,
    ITEM_ID,
    KIND,
    KINDS,
    NOT_BY_USER,
    USER_ID,
)
from training.simulation import dice, needs
from training.simulation.catalogue import Catalogue, named, names
from training.simulation.messages import COUPON, Messages, make_messages, quiet_days
from training.simulation.orders import Orders, add_orders, coupons_used, make_lines, make_orders
from training.simulation.parameters import ARMS, CAUSES, Parameters
from training.simulation.people import NONE, People
from training.simulation.rhythm import clock_time, order_days, present, season, visit_days
from training.simulation.rows import CHANNELS, COLUMNS, KIND_CODES, PAGES, Rows, to_table
from training.simulation.visits import Visits, add_visits, make_visits

Array = npt.NDArray[Any]

BEFORE_GONE = 0.1  # days: an order begun later would not be finished


def start_of(day: date) -> int:
    """The first midnight of a log, µs."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000


def make_events(
    p: Parameters, catalogue: Catalogue, people: People, days: int, messages: Messages | None = None
) -> pa.Table:
    """The events of some users, sorted by user and time.

    Args:
        messages: those of somebody else; None for the shop's own campaigns. Nothing that given messages cause lies
            before them: nobody looks around before an order that they lead to.
    """
    given = messages is not None
    messages = messages or make_messages(p, people, days)
    activity, here = season(p, days), present(people, days)
    orders = _orders(p, people, messages, activity, here)
    looks = dice.uniform(orders.key, "look around") < p.orders.look_around
    if given:
        looks &= ~np.isin(orders.key, _order_key(messages)[_led_to_order(p, people, messages)])
    visits = _visits(p, people, messages, orders, looks, activity, here)
    lines = make_lines(p, catalogue, people, orders)
    coupon = coupons_used(p, messages, orders)
    rows = Rows()
    new = np.flatnonzero(people.registered >= 0)
    rows.add("register", new, _micros(people.registered[new]), channel=people.channel[new])
    end = add_visits(rows, p, catalogue, people, visits)
    ends_in_order = np.flatnonzero(visits.order >= 0)
    visit = np.empty(orders.user.size, np.int64)
    visit[visits.order[ends_in_order]] = ends_in_order
    shared = visits.columns(visit) | {"user_id": orders.user, "late": np.full(visit.size, -1)}
    add_orders(rows, p, catalogue, people, orders, lines, coupon, end[visit], shared)
    _add_messages(rows, messages)
    _add_survey(rows, p, people.planned, days)
    return _sorted_table(rows, p, catalogue, people, days)


def _orders(p: Parameters, people: People, messages: Messages, activity: Array, here: Array) -> Orders:
    """Orders of the users' own rhythm and those that messages led to."""
    own = order_days(p, people, activity, here)
    key = dice.child(dice.child(people.key[own.user], 2), own.number)
    led = _led_to_order(p, people, messages)
    user = np.concatenate([own.user, messages.user[led]])
    day = np.concatenate([own.day + clock_time(p, people, own.user, key), messages.returned[led]])
    key = np.concatenate([key, _order_key(messages)[led]])
    ends = np.minimum(people.gone - BEFORE_GONE, activity.size)
    lives = (day >= np.maximum(people.registered, 0)[user]) & (day < ends[user])
    return make_orders(people, user[lives], day[lives], key[lives])


def _led_to_order(p: Parameters, people: People, messages: Messages) -> Array:
    buys = (dice.uniform(messages.key, "buys") < p.messages.buys) & np.isfinite(people.gap[messages.user])
    return np.isfinite(messages.returned) & buys


def _order_key(messages: Messages) -> Array:
    """Of the order that each message may lead to."""
    return dice.child(messages.key, 0)


def _visits(
    p: Parameters, people: People, messages: Messages, orders: Orders, looks: Array, activity: Array, here: Array
) -> Visits:
    """Visits to look around, to order, after a message, on the day of registration, for what is needed and, unknown,
    before registering. `looks`: bool an order: another visit comes before it."""
    days = activity.size
    quiet = quiet_days(p, messages, people.number.size, days)
    user, day, number = visit_days(people, activity, here, quiet)
    key = dice.child(dice.child(dice.child(people.key[user], 3), day), number)
    before = dice.child(orders.key, 2)
    earlier = orders.day - 0.2 - 2.8 * dice.uniform(before, "before")
    came = np.isfinite(messages.returned) & ~_led_to_order(p, people, messages)
    new = np.flatnonzero(people.registered >= 0)
    parts = [
        (orders.user, orders.day, dice.child(orders.key, 3)),
        (user, day + clock_time(p, people, user, key), key),
        (orders.user[looks], earlier[looks], before[looks]),
        (messages.user[came], messages.returned[came], dice.child(messages.key[came], 1)),
        (new, people.registered[new] + 30 / 86_400, dice.child(people.key[new], 4)),
    ]
    needed = needs.looks_of(p, people, days)
    there = here[needed.user, needed.day]
    when = needed.day + clock_time(p, people, needed.user, needed.key)
    besides = sum(len(part[0]) for part in parts)
    parts.append((needed.user[there], when[there], needed.key[there]))
    known = sum(len(part[0]) for part in parts)
    for time in range(2):  # a device looks around before its user registers
        key = dice.child(dice.child(people.key[new], 5), time)
        came = dice.uniform(key, "anonymous before") < p.visits.anonymous_before
        parts.append((new[came], (people.registered[new] - 6 * dice.uniform(key, "before"))[came], key[came]))
    user, day, key = (np.concatenate([part[i] for part in parts]) for i in range(3))
    number = np.arange(user.size)
    order, stranger = np.where(number < orders.user.size, number, -1), number >= known
    focus = np.full(user.size, -1)
    focus[besides:known] = needed.group[there]
    begin, end = np.maximum(people.registered, 0)[user], np.minimum(people.gone, days)[user]
    lives = np.where(stranger, (day >= 0) & (day < begin), (day >= begin) & (day < end))
    return make_visits(p, people, user[lives], day[lives], key[lives], order[lives], stranger[lives], focus[lives])


def _add_messages(rows: Rows, messages: Messages) -> None:
    for kind, when, with_arm in (
        ("message_sent", messages.sent, True),
        ("message_opened", messages.opened, True),
        ("coupon_received", np.where(messages.arm == COUPON, messages.sent, np.inf), False),
        ("opt_out", messages.opted_out, False),
    ):
        chosen = np.isfinite(when)
        columns = {"campaign_id": messages.campaign[chosen]}
        if with_arm:
            columns["arm"] = messages.arm[chosen]
        rows.add(kind, messages.user[chosen], _micros(when[chosen]), **columns)


def _add_survey(rows: Rows, p: Parameters, people: People, days: int) -> None:
    """One answer each of some users: why they come less often, or that they do not."""
    key, leaves = people.key, people.cause != NONE
    begin = np.where(leaves, people.onset, np.maximum(people.registered, 0.0))
    end = np.where(leaves, people.gone, days)
    when = begin + (end - begin) * dice.uniform(key, "answers at")
    wrong = (people.cause + 1 + (3 * dice.uniform(key, "wrong answer")).astype(np.int64)) % 4
    answer = np.where(dice.uniform(key, "right") < p.survey.right, people.cause, wrong)
    page = np.array([PAGES.index("other" if cause == "none" else cause) for cause in CAUSES])[answer]
    chosen = np.flatnonzero(dice.uniform(key, "answers") < p.survey.share)
    rows.add("survey_answer", chosen, _micros(when[chosen]), page=page[chosen])


def _sorted_table(rows: Rows, p: Parameters, catalogue: Catalogue, people: People, days: int) -> pa.Table:
    """The rows that the shop's log holds at its end, by user and time."""
    owner, ts, kind, late = (rows.column(name) for name in ("owner", "ts", "kind", "late"))
    arrived = np.where(late >= 0, ts + late, -1)
    by_user = ~np.isin(kind, [KIND_CODES[name] for name in NOT_BY_USER])
    known = rows.column("user_id") >= 0
    gone, registered = _micros(np.minimum(people.gone, days)), _micros(np.maximum(people.registered, 0))
    kept = (ts >= 0) & (np.maximum(ts, arrived) < days * DAY)
    kept &= (~by_user | (ts < gone[owner])) & (~known | (ts >= registered[owner]))
    index = np.flatnonzero(kept)
    index = index[np.lexsort((ts[index], owner[index]))]
    columns = {name: rows.column(name)[index] for name in COLUMNS}
    columns[ARRIVED_AT] = arrived[index]
    item = columns[ITEM_ID]
    columns[CATEGORY] = np.where(item >= 0, catalogue.group[item], columns[CATEGORY])
    campaigns = int(columns["campaign_id"].max(initial=0)) + 1
    texts = {
        USER_ID: named("u", people.number.tolist()),
        KIND: pa.array(KINDS),
        ITEM_ID: names("i", catalogue.group.size),
        CATEGORY: pa.array(catalogue.categories),
        "channel": pa.array(CHANNELS),
        DEVICE_ID: devices(people),
        "page": pa.array(PAGES),
        "campaign_id": pa.array([f"campaign {number + 1:02d}" for number in range(campaigns)]),
        "arm": pa.array([arm.replace("_", "-") for arm in ARMS]),
    }
    return to_table(columns, start_of(p.shop.start), texts)


def devices(people: People) -> pa.Array:
    """Two devices a user, one after the other; their names tell nothing of the user."""
    keys = dice.child(dice.child(people.key, 6)[:, None], np.arange(2))
    return pa.array([f"d{key >> 16:012x}" for key in keys.ravel().tolist()])


def _micros(day: Array) -> Array:
    return np.floor(day * DAY).astype(np.int64)
