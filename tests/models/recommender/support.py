"""Small shops for the recommender's tests: acts as plain rows, which the slow twins read and histories are made of."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.recommender import AIMS, DAY_US, Attributes, Catalogue, History, Past, Recommender, Shop
from models.recommender.history import ACTS
from models.recommender.scenes import shipped
from training.cross_sell_fit import (
    RankerSettings,
    fit_unranked,
    lesson,
    rows_of,
    searched_blends,
    with_rankers,
)
from training.heads_fit import HeadSettings

NOW = 1_000 * DAY_US
HEADS_SMALL = HeadSettings(als_factors=8, als_iterations=3, neighbours=20, least_together=2)
RANKER_SMALL = RankerSettings(
    moments=2,
    users_least=5,
    search_moments=1,
    search_users=20,
    rounds=12,
    booster={**RankerSettings().booster, "num_leaves": 7, "learning_rate": 0.2, "min_data_in_leaf": 10},
)
CATEGORIES = ("food > bread", "food > fruit", "home", "home > light", "home > paint")
BRANDS = ("acme", "bolt", "calm")


class Act(NamedTuple):
    """A row of a log: the user's row, what, which item, at which µs, and, of a purchase, the rest."""

    user: int
    kind: str
    item: int
    ts: int
    order: int = 0
    price: float = float("nan")
    quantity: float = 1.0

    @property
    def age(self) -> float:
        """Days before NOW."""
        return (NOW - self.ts) / DAY_US


def ago(days: float) -> int:
    """µs of so many days before NOW."""
    return NOW - round(days * DAY_US)


def act(kind: str, item: int, days: float, user: int = 0, **more: float) -> Act:
    """An act of so many days before NOW."""
    return Act(user, kind, item, ago(days), **more)  # type: ignore[arg-type]


def history_of(acts: Sequence[Act], users: int = 1, names: Sequence[str] | None = None) -> History:
    """Acts as a history of so many users."""
    return History.of(
        names or [f"u{number:03d}" for number in range(users)],
        np.array([a.user for a in acts], np.int64),
        np.array([a.item for a in acts], np.int32),
        np.array([ACTS.index(a.kind) for a in acts], np.uint8),
        np.array([a.ts for a in acts], np.int64),
        np.array([a.order for a in acts], np.int64),
        np.array([a.price for a in acts], np.float64),
        np.array([a.quantity for a in acts], np.float64),
    )


def past_of(acts: Sequence[Act], users: int = 1) -> Past:
    """The past of so many users at NOW."""
    return Past.of(history_of(acts, users), NOW)


def ids(items: int) -> tuple[str, ...]:
    """Item ids in the order of their codes."""
    return tuple(f"i{number:03d}" for number in range(items))


def plain_shop(items: int, **known: object) -> Shop:
    """A shop of which nothing is known but what is given: names of attributes and their values an item."""
    fields = vars(Attributes.unknown(items)) | known
    return Shop(Catalogue(ids(items)), Attributes(**fields))


def rich_shop(seed: int, items: int) -> Shop:
    """A shop with categories, brands, prices, stock and names, some of each missing."""
    random = np.random.default_rng([seed, 1])
    words = ["RED", "BLUE", "LAMP", "BREAD", "APPLE", "OLD", "BIG", "PAINT"]
    return plain_shop(
        items,
        categories=CATEGORIES,
        category=random.integers(-1, len(CATEGORIES), items).astype(np.int32),
        brands=BRANDS,
        brand=random.integers(-1, len(BRANDS), items).astype(np.int32),
        price=np.where(random.random(items) < 0.1, np.nan, np.round(random.uniform(1, 20, items), 2)),
        in_stock=random.random(items) < 0.85,
        names=tuple("" if random.random() < 0.1 else " ".join(random.choice(words, 2)) for _ in range(items)),
    )


def random_acts(seed: int, users: int, items: int, lines: int = 1_500, later: float = 0.0) -> list[Act]:
    """Acts of all kinds in 400 days before NOW and some `later`; many share an instant, and some users do nothing.

    Of every ten users one does nothing, one buys nothing, one is new. Some acts are of the last two hours.
    """
    random = np.random.default_rng(seed)
    out = []
    shares = np.array([0.45, 0.1, 0.05, 0.25, 0.05, 0.03, 0.04, 0.03])
    kinds = random.choice(len(ACTS), lines, p=shares / shares.sum())
    for number in range(lines):
        user = int(random.integers(users))
        kind = ACTS[kinds[number]]
        if user % 10 == 9 or (user % 10 == 8 and kind in ("purchase", "refund")):
            continue
        # Steps of seven minutes: instants coincide, and no pause is exactly half an hour.
        roll = random.random()
        step = int(random.integers(1, 18 if roll < 0.08 else 205 if roll < 0.16 else 400 * 205))
        step -= round(later * 205) if roll >= 0.16 else 0
        if user % 10 == 7 and step > 60 * 205:
            continue
        favourite = (user * 7 + int(random.integers(5))) % items
        item = favourite if random.random() < 0.5 else int(random.integers(items))
        order = int(random.integers(1, 4)) + 10 * (step // 200) if random.random() < 0.7 else 0
        price = float(np.round(random.uniform(1, 20), 2)) if random.random() < 0.9 else float("nan")
        out.append(Act(user, kind, item, NOW - step * 7 * 60_000_000, order, price, float(random.integers(1, 4))))
        if kind == "purchase" and random.random() < 0.5:
            out.append(out[-1]._replace(item=(item ^ 1) % items))  # even items go with the odd ones after them
    return out


def fitted(shop: Shop, acts: History, seed: int = 1, as_of: int = NOW) -> Recommender:
    """A recommender of everything before a moment, its rankers taught by the 60 days before it."""
    earlier = as_of - 60 * DAY_US
    first = fit_unranked(acts.before(earlier), shop, earlier, HEADS_SMALL, shipped(), seed)
    one = lesson(first, acts.before(as_of), 60)
    blends, _ = searched_blends([one], RANKER_SMALL)
    rows = {aim: [found] for aim in AIMS if (found := rows_of(one, blends, aim, RANKER_SMALL, seed)) is not None}
    model = fit_unranked(acts.before(as_of), shop, as_of, HEADS_SMALL, shipped(), seed)
    return with_rankers(model, blends, rows, RANKER_SMALL, seed)


def bits(values: NDArray[np.floating]) -> bytes:
    """All bits of an array, for comparisons that no rounding may pass."""
    return np.ascontiguousarray(values).tobytes()
