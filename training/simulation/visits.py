"""What happens in visits: views of lists and items, searches, favourites, carts and what else goes with them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.events.columns import DAY
from training.simulation import dice
from training.simulation.catalogue import Catalogue
from training.simulation.parameters import Parameters
from training.simulation.people import People
from training.simulation.rows import ADVERTS, CHANNELS, PAGES, Rows

Array = npt.NDArray[Any]

SECOND = 1_000_000  # µs
MOST_VIEWS = 200  # in a visit


@dataclass(frozen=True)
class Visits:
    """Visits of some users, sorted by user and start; all times in µs since the log began."""

    user: Array
    start: Array
    key: Array
    order: Array  # which order it ends in; -1 for none
    id: Array  # the session's
    device: Array  # the user's first or second, as a code: 2 x user + 0 or 1
    anonymous: Array  # bool: not logged in
    late: Array  # delay of its rows; -1 for none
    focus: Array  # the group of goods it is about; -1 for none

    def columns(self, index: Array | slice = slice(None)) -> dict[str, Any]:
        """What the rows of these visits have in common."""
        return {
            "session_id": self.id[index],
            "device_id": self.device[index],
            "user_id": np.where(self.anonymous[index], -1, self.user[index]),
            "late": self.late[index],
        }


def make_visits(
    p: Parameters, people: People, user: Array, day: Array, key: Array, order: Array, stranger: Array, focus: Array
) -> Visits:
    """Visits from their starts (`day`, in days of the log).

    Args:
        stranger: bool: before the user registered.
        focus: the group of goods that a visit is about; -1 for none.
    """
    start = np.floor(day * DAY).astype(np.int64)
    sorted_ = np.lexsort((start, user))
    user, start, key, order = user[sorted_], start[sorted_], key[sorted_], order[sorted_]
    stranger, focus = stranger[sorted_], focus[sorted_]
    ordinal = np.arange(user.size) - np.searchsorted(user, user, side="left")
    second = (dice.uniform(people.key, "two devices") < p.people.two_devices)[user]
    second &= dice.uniform(key, "device") < 0.35
    unknown = (dice.uniform(people.key, "anonymous") < p.visits.anonymous)[user] & (order < 0)
    unknown &= dice.uniform(key, "anonymous") < p.visits.anonymous_visits
    late = dice.uniform(key, "late") < p.visits.late
    delay = (60 + 3600 * p.visits.late_hours * dice.exponential(key, "delay")).astype(np.int64) * SECOND
    return Visits(
        user=user,
        start=start,
        key=key,
        order=order,
        id=people.number[user] * 2**20 + ordinal,
        device=2 * user + second,
        anonymous=stranger | unknown,
        late=np.where(late, delay, -1),
        focus=focus,
    )


def add_visits(rows: Rows, p: Parameters, catalogue: Catalogue, people: People, visits: Visits) -> Array:
    """Add the rows of visits, without their orders; the end of each visit, µs."""
    v, user = p.visits, visits.user
    day = visits.start / DAY
    mean = np.maximum(v.views * people.views[user] * people.factor(user, day, "views") - 1, 1e-6)
    count = 1 + np.floor(dice.exponential(visits.key, "views") / np.log1p(1 / mean)).astype(np.int64)
    count = np.minimum(count, MOST_VIEWS)
    at = np.repeat(np.arange(user.size), count)  # each view's visit
    first = np.cumsum(count) - count
    key = dice.child(visits.key[at], np.arange(at.size) - first[at])
    dwell = _dwell(p, people, visits, day, at, key)
    step = dwell + SECOND + (7 * SECOND * dice.uniform(key, "pause")).astype(np.int64)
    through = np.cumsum(step)
    ts = visits.start[at] + 10 * SECOND + through - step - (through - step)[first][at]
    end = visits.start + 10 * SECOND + through[first + count - 1] - (through - step)[first]

    owner, ofday = user[at], day[at]
    shared = visits.columns(at)
    group = pick_group(p, catalogue, people, owner, ofday, key)
    about = (visits.focus[at] >= 0) & (dice.uniform(key, "about the need") < p.needs.looks)
    group = np.where(about, visits.focus[at], group)
    item = pick_item(p, catalogue, people, owner, ofday, group, key)
    lists = dice.uniform(key, "list") < v.lists
    page = np.where(lists, PAGES.index("list"), PAGES.index("detail"))
    looked = {"item_id": np.where(lists, -1, item), "category": group, "dwell_s": dwell / SECOND, "page": page}
    rows.add("view", owner, ts, **looked, channel=people.channel[owner], **shared)

    def some(kind: str, chosen: Array, when: Array, **columns: Any) -> None:
        rows.add(kind, owner[chosen], when[chosen], **columns, **{name: x[chosen] for name, x in shared.items()})

    chance = np.minimum(v.search * (people.searches[user] * people.factor(user, day, "searches")), 0.95)[at]
    found = 1 + np.floor(30 * dice.exponential(key, "found")).astype(np.int64)
    nothing = 1 - (1 - v.empty) * (1 - people.added(user, day, "empty")[at])
    found[dice.uniform(key, "empty") < nothing] = 0
    searched = dice.uniform(key, "search") < chance
    some("search", searched, ts - 4 * SECOND, search_results=found[searched], page=PAGES.index("search"))

    seen = ~lists
    known = seen & ~visits.anonymous[at]
    liking = (people.carts[user] * people.factor(user, day, "carts"))[at]
    disliked = (1 - (1 - v.not_interested) * (1 - people.added(user, day, "not_interested")))[at]
    for kind, within, could, chance in (
        ("favourite", 0.8, known, v.favourite * liking),
        ("cart", 0.9, seen, v.cart * liking),
        ("share", 0.85, known, np.broadcast_to(v.share, at.shape)),
        ("not_interested", 0.7, known, disliked),
    ):
        chosen = could & (dice.uniform(key, kind) < chance)
        price = {"price": catalogue.price[item[chosen]]} if kind == "cart" else {}
        some(kind, chosen, ts + (dwell * within).astype(np.int64), item_id=item[chosen], **price)
    _add_arrivals(rows, p, visits, end)
    return end


def _dwell(p: Parameters, people: People, visits: Visits, day: Array, at: Array, key: Array) -> Array:
    """µs of each view, whole milliseconds, at most half an hour less what parts two sessions."""
    usual = p.visits.dwell_s * (people.dwell[visits.user] * people.factor(visits.user, day, "dwell"))[at]
    seconds = np.clip(usual * np.exp(p.visits.dwell_spread * dice.normal(key, "dwell")), 0.2, 1500.0)
    return np.round(seconds * 1000).astype(np.int64) * 1000


def _add_arrivals(rows: Rows, p: Parameters, visits: Visits, end: Array) -> None:
    """How a visit came about, and what closes some."""
    key, known = visits.key, ~visits.anonymous
    for kind, chance, ts in (
        ("login", p.visits.login, visits.start),
        ("touch", p.visits.touch, visits.start - (60 + 1500 * dice.uniform(key, "before")).astype(np.int64) * SECOND),
        ("invite", p.visits.invite, end),
    ):
        chosen = known & (dice.uniform(key, kind) < chance)
        columns = visits.columns(chosen)
        if kind == "touch":
            source = len(CHANNELS) - ADVERTS + (ADVERTS * dice.uniform(key[chosen], "source")).astype(np.int64)
            columns |= {"channel": source, "session_id": -1}
        rows.add(kind, visits.user[chosen], ts[chosen], **columns)


def pick_group(p: Parameters, catalogue: Catalogue, people: People, user: Array, day: Array, key: Array) -> Array:
    """A group for each look: the user's own, or any by popularity. A need that ends takes its group with it."""
    shares = p.people.taste
    main = shares[0] * people.factor(user, day, "need")
    rest = max(0.0, 1 - sum(shares))
    drawn = dice.uniform(key, "group") * (main + sum(shares[1:]) + rest)
    first = np.where(day < people.need_ends[user], people.groups[user, 0], people.groups[user, 3])
    any_group = catalogue.any_group(dice.uniform(key, "any group"))
    own = [first, people.groups[user, 1], people.groups[user, 2]]
    edges = [main, main + shares[1], main + shares[1] + shares[2]]
    return np.select([drawn < edge for edge in edges], own, any_group)


def pick_item(
    p: Parameters, catalogue: Catalogue, people: People, user: Array, day: Array, group: Array, key: Array
) -> Array:
    """An item of each group: near the user's place in its price range, or its best seller."""
    place = people.band[user] + p.people.price_bands * dice.normal(key, "place")
    item = catalogue.in_group(group, place)
    item = np.where(dice.uniform(key, "hit") < p.catalogue.hits, catalogue.hit[group], item)
    return catalogue.available(item, day)
