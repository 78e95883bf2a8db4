"""What a user's past says, by plain loops over their acts: the slow and obvious twins of `models.recommender.past`."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from models.recommender.history import ACTS
from models.recommender.past import INTEREST  # the weights are a choice, not a computation
from tests.models.recommender.support import NOW, Act

WEIGHT = {ACTS[code]: weight for code, weight in INTEREST.items()}
LOOKED = ("view", "cart", "favourite")


class Entry(NamedTuple):
    """An item in an order: days since, mean known unit price or None, pieces."""

    item: int
    order: int
    age: float
    price: float | None
    quantity: float


def of_user(acts: Iterable[Act], user: int) -> list[Act]:
    """A user's acts before NOW."""
    return [a for a in acts if a.user == user and a.ts < NOW]


def entries(mine: Sequence[Act]) -> list[Entry]:
    """Items of orders, by item, then oldest first; lines without an order make one of their instant."""
    lines: dict[tuple[int, int], list[Act]] = {}
    for a in mine:
        if a.kind == "purchase":
            lines.setdefault((a.item, a.order or a.ts), []).append(a)
    found = []
    for (item, order), rows in lines.items():
        paid = [a.price for a in rows if a.price == a.price]
        price = sum(paid) / len(paid) if paid else None
        found.append(Entry(item, order, max(a.age for a in rows), price, sum(a.quantity for a in rows)))
    return sorted(found, key=lambda e: (e.item, -e.age, e.order))


def orders(mine: Sequence[Act]) -> list[tuple[float, int]]:
    """Days since each order, and what tells it apart; newest first."""
    oldest: dict[int, float] = {}
    for entry in entries(mine):
        oldest[entry.order] = max(oldest.get(entry.order, 0.0), entry.age)
    return sorted((age, order) for order, age in oldest.items())


def own(mine: Sequence[Act]) -> dict[int, list[Entry]]:
    """Orders with each item, oldest first."""
    out: dict[int, list[Entry]] = {}
    for entry in entries(mine):
        out.setdefault(entry.item, []).append(entry)
    return out


def liking(mine: Sequence[Act], half_life: float) -> dict[int, float]:
    """Decayed interest in each item."""
    out: dict[int, float] = {}
    for a in mine:
        if a.kind in WEIGHT:
            out[a.item] = out.get(a.item, 0.0) + WEIGHT[a.kind] * 2 ** (-a.age / half_life)
    return out


def last(mine: Sequence[Act], *kinds: str) -> dict[int, float]:
    """Days since the newest act of these kinds on each item."""
    out: dict[int, float] = {}
    for a in mine:
        if a.kind in kinds:
            out[a.item] = min(out.get(a.item, a.age), a.age)
    return out


def bought_last(mine: Sequence[Act]) -> dict[int, float]:
    """Days since the newest order with each item; an order counts from its first line with the item."""
    return {item: some[-1].age for item, some in own(mine).items()}


def now(mine: Sequence[Act]) -> dict[int, float]:
    """Items of the visit that has not ended: no pause of half an hour, nor since."""
    out: dict[int, float] = {}
    before = NOW
    for a in sorted((a for a in mine if a.kind in LOOKED), key=lambda a: -a.ts):
        if before - a.ts > 30 * 60_000_000:
            break
        out.setdefault(a.item, 1 / (1 + a.age * 96))
        before = a.ts
    return out


def refunded(mine: Sequence[Act]) -> dict[int, float]:
    """Pieces given back since the newest order with each item, where that leaves none of its pieces."""
    newest = {item: some[-1] for item, some in own(mine).items()}
    back: dict[int, float] = {}
    for a in mine:
        if a.kind == "refund" and (a.item not in newest or a.age <= newest[a.item].age):
            back[a.item] = back.get(a.item, 0.0) + a.quantity
    return {item: n for item, n in back.items() if item not in newest or n >= newest[item].quantity}


def in_cart(mine: Sequence[Act]) -> set[int]:
    """Items put into the cart within a day and not bought since."""
    bought = bought_last(mine)
    return {
        a.item for a in mine if a.kind == "cart" and a.age < 1 and not (a.item in bought and bought[a.item] <= a.age)
    }
