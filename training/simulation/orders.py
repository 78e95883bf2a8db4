"""What is bought, and what follows: payment, delivery, refunds, complaints, reviews."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.events.columns import DAY
from training.simulation import dice
from training.simulation.catalogue import Catalogue
from training.simulation.messages import COUPON, Messages
from training.simulation.parameters import Parameters
from training.simulation.people import STAPLES, People
from training.simulation.rows import Rows
from training.simulation.visits import SECOND, pick_group, pick_item

Array = npt.NDArray[Any]

PAYMENT_FAILED, LATE, REFUND, COMPLAINT = range(4)
MOST_LINES = 60  # an order


@dataclass(frozen=True)
class Orders:
    """Orders of some users, sorted by user and time (`day`, in days of the log)."""

    user: Array
    day: Array
    key: Array
    id: Array


@dataclass(frozen=True)
class Lines:
    """Order lines, sorted by order."""

    order: Array
    item: Array
    key: Array


def make_orders(people: People, user: Array, day: Array, key: Array) -> Orders:
    """Orders from their times."""
    sorted_ = np.lexsort((day, user))
    user, day, key = user[sorted_], day[sorted_], key[sorted_]
    ordinal = np.arange(user.size) - np.searchsorted(user, user, side="left")
    return Orders(user, day, key, people.number[user] * 2**20 + ordinal)


def make_lines(p: Parameters, catalogue: Catalogue, people: People, orders: Orders) -> Lines:
    """What is in each order: consumables that ran out, something new, and what goes with it."""
    user, day, key = orders.user, orders.day, orders.key
    due = _ran_out(people, orders)
    mean = max(p.orders.new_lines, 1e-9)
    new = np.floor(dice.exponential(key, "new lines") / np.log1p(1 / mean)).astype(np.int64)
    new = np.clip(new, ~due.any(axis=1), MOST_LINES)
    at = np.repeat(np.arange(user.size), new)
    number = np.arange(at.size) - (np.cumsum(new) - new)[at]
    line = dice.child(dice.child(key[at], 0), number)
    group = pick_group(p, catalogue, people, user[at], day[at], line)
    item = pick_item(p, catalogue, people, user[at], day[at], group, line)
    with_it = catalogue.complement[item]
    more = (with_it >= 0) & (dice.uniform(line, "complement") < p.orders.complement)
    complement = catalogue.available(np.maximum(with_it, 0), day[at])[more]
    fresh = Lines(
        order=np.concatenate([at, at[more]]),
        item=np.concatenate([item, complement]),
        key=np.concatenate([line, dice.child(line[more], 0)]),
    )
    fresh = _bought_once(catalogue, user, fresh)
    old, slot = np.nonzero(due)
    lines = Lines(
        order=np.concatenate([old, fresh.order]),
        item=np.concatenate([people.staples[user[old], slot], fresh.item]),
        key=np.concatenate([dice.child(dice.child(key[old], 1), slot), fresh.key]),
    )
    sorted_ = np.argsort(lines.order, kind="stable")
    return Lines(lines.order[sorted_], lines.item[sorted_], lines.key[sorted_])


def _ran_out(people: People, orders: Orders) -> Array:
    """bool[orders, STAPLES]: which consumables ran out since the user's order before."""
    user, day = orders.user, orders.day
    first = np.diff(user, prepend=-1) != 0
    before = np.where(first, day, np.roll(day, 1))
    cycle = people.cycles[user]
    phase = dice.uniform(dice.child(people.key[user][:, None], np.arange(STAPLES)), "phase")
    due = np.floor(day[:, None] / cycle + phase) > np.floor(before[:, None] / cycle + phase)
    # The first and the last are of the user's first group and end with that need.
    of_need = np.arange(STAPLES) % 3 == 0
    wanted = (day < people.need_ends[user]) & (dice.uniform(orders.key, "need") < people.factor(user, day, "need"))
    return due & (wanted[:, None] | ~of_need)


def _bought_once(catalogue: Catalogue, user: Array, lines: Lines) -> Lines:
    """A durable is followed by the next dearer one of its group; at the end of the chain by some consumable."""
    durable = np.flatnonzero(catalogue.durable[catalogue.group[lines.item]])
    group = catalogue.group[lines.item[durable]]
    sorted_ = np.lexsort((lines.order[durable], group, user[lines.order[durable]]))
    durable, group = durable[sorted_], group[sorted_]
    whose = user[lines.order[durable]]
    starts = (np.diff(whose, prepend=-1) != 0) | (np.diff(group, prepend=-1) != 0)
    begin = np.maximum.accumulate(np.where(starts, np.arange(durable.size), 0))
    tier = lines.item[durable][begin] - catalogue.first[group] + np.arange(durable.size) - begin
    item = lines.item.copy()
    last = catalogue.size[group] - 1
    item[durable] = catalogue.first[group] + np.minimum(tier, last)
    consumables = np.flatnonzero(np.isfinite(catalogue.cycle) & ~np.isfinite(catalogue.launched))
    if consumables.size:
        over = durable[tier > last]
        drawn = dice.uniform(lines.key[over], "instead")
        item[over] = consumables[(drawn * consumables.size).astype(np.int64)]
    return Lines(lines.order, item, lines.key)


def coupons_used(p: Parameters, messages: Messages, orders: Orders) -> Array:
    """The coupon (its campaign) that each order uses; -1 for none. A coupon goes to the first order while it holds."""
    given = np.flatnonzero((messages.arm == COUPON) & (dice.uniform(messages.key, "coupon") < p.messages.coupon_used))
    user = messages.user[given]
    sent = np.floor(messages.sent[given] * DAY).astype(np.int64)
    far = 2**50  # µs: longer than any log, so that one search serves all users
    when = np.floor(orders.day * DAY).astype(np.int64) + orders.user * far
    found = np.searchsorted(when, sent + user * far, side="right")
    near = np.append(when, 2**62)[found] <= sent + user * far + int(p.messages.coupon_days * DAY)
    coupon = np.full(orders.user.size, -1)
    np.maximum.at(coupon, found[near], messages.campaign[given[near]])
    return coupon


def add_orders(
    rows: Rows,
    p: Parameters,
    catalogue: Catalogue,
    people: People,
    orders: Orders,
    lines: Lines,
    coupon: Array,
    begin: Array,
    shared: dict[str, Array],
) -> None:
    """Add the rows of orders.

    Args:
        coupon: the campaign of the coupon that each order uses; -1 for none.
        begin: µs at which each order's own part of its visit begins.
        shared: columns of each order's visit.
    """
    user, key = orders.user, orders.key
    of_visit = {name: shared[name] for name in ("session_id", "device_id")}
    at, item = lines.order, lines.item
    place = np.arange(at.size) - np.searchsorted(at, at, side="left")
    each = {"item_id": item, "order_id": orders.id[at]}
    seen = begin[at] + 30 * SECOND * place
    dwell = np.round(5 + 20 * dice.uniform(lines.key, "dwell"), 3)
    in_visit = {name: values[at] for name, values in shared.items()}
    rows.add("view", user[at], seen, item_id=item, dwell_s=dwell, channel=people.channel[user[at]], **in_visit)
    price = catalogue.price[item]
    rows.add("cart", user[at], seen + 26 * SECOND, item_id=item, price=price, **in_visit)
    placed = begin + 30 * SECOND * (np.bincount(at, minlength=user.size) + 1)
    rows.add("order_placed", user, placed, order_id=orders.id, channel=people.channel[user], **of_visit)

    trouble = _trouble(p, people, orders)
    failed = trouble == PAYMENT_FAILED
    rows.add("payment_failed", user[failed], placed[failed] + 30 * SECOND, order_id=orders.id[failed])
    lost = failed & (dice.uniform(key, "lost") < p.friction.lost)
    paid = placed + np.where(failed, 150, 60) * SECOND
    bought = ~lost[at]
    quantity = _quantity(p, catalogue, lines)
    full = np.round(price * quantity, 2)
    off = np.where(coupon[at] >= 0, np.round(full * p.messages.coupon_discount, 2), 0.0)
    purchase = {
        **each,
        "price": price,
        "quantity": quantity,
        "amount": np.round(full - off, 2),
        "discount": np.where(off > 0, off, -1),
        "channel": people.channel[user[at]],
        **{name: values[at] for name, values in of_visit.items()},
    }
    rows.add("purchase", user[at][bought], paid[at][bought], **{name: x[bought] for name, x in purchase.items()})
    used = ~lost & (coupon >= 0)
    rows.add("coupon_used", user[used], paid[used], campaign_id=coupon[used], order_id=orders.id[used])
    first_line = np.searchsorted(at, np.arange(user.size), side="left")
    first = {"item_id": item[first_line], "order_id": orders.id, "amount": purchase["amount"][first_line]}
    _add_aftermath(rows, p, orders, trouble, paid, lost, first)


def _trouble(p: Parameters, people: People, orders: Orders) -> Array:
    """What goes wrong with each order; -1 for nothing."""
    chance = 1 - (1 - people.trouble[orders.user]) * (1 - people.added(orders.user, orders.day, "trouble"))
    f = p.friction
    kind = dice.choice(orders.key, "kind", np.array([f.payment_failed, f.late, f.refund, f.complaint]))
    return np.where(dice.uniform(orders.key, "trouble") < chance, kind, -1)


def _quantity(p: Parameters, catalogue: Catalogue, lines: Lines) -> Array:
    drawn = dice.uniform(lines.key, "quantity")
    more = (drawn < p.orders.more).astype(np.int64) + (drawn < p.orders.more**2)
    return 1 + np.where(np.isfinite(catalogue.cycle[lines.item]), more, 0)


def _add_aftermath(
    rows: Rows, p: Parameters, orders: Orders, trouble: Array, paid: Array, lost: Array, first: dict[str, Array]
) -> None:
    """Delivery, and what the user makes of it."""
    user, key = orders.user, orders.key

    def after(what: str, least: float, mean: float) -> Array:
        """Days, as µs."""
        return np.floor((least + mean * dice.exponential(key, what)) * DAY).astype(np.int64)

    usual = p.orders.delivery_days
    late = np.where(trouble == LATE, after("late", 2.0, p.friction.late_days), 0)
    delivered = paid + after("delivery", 0.5 * usual, 0.5 * usual) + late

    def some(kind: str, chosen: Array, ts: Array, *columns: str) -> None:
        rows.add(kind, user[chosen], ts[chosen], **{name: first[name][chosen] for name in columns})

    some("delivered", ~lost, delivered, "order_id")
    some("refund", trouble == REFUND, delivered + after("refund", 0.3, 3.0), "order_id", "item_id", "amount")
    also = (trouble >= 0) & (dice.uniform(key, "complains too") < p.friction.complains_too)
    learnt = np.where(trouble == PAYMENT_FAILED, paid, delivered)
    some("complaint", (trouble == COMPLAINT) | also, learnt + after("complaint", 0.05, 1.5), "order_id")
    reviewed = ~lost & (dice.uniform(key, "review") < p.orders.review)
    some("review", reviewed, delivered + after("review", 0.5, 3.0), "order_id", "item_id")
