"""What a user's newest visits and orders were like, against the user's own past: the raw evidence for a cause.

A sign is a number of the newest visits (or orders) beside what was usual before. `likelihood` says, as a logarithm, how
many times likelier the number is if things had changed by a stated factor than if they had not. What was usual is the
user's own past, drawn towards the shop's mean as far as that past is short (a Gamma prior worth `OWN` events).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from features.timeline import Array

TASTE_VISITS, FAIL_VISITS, ORDERS = (1, 2, 4, 8), (4, 16), 3  # windows that the signals have
OWN: Final = 5.0
PER_VIEW = 1.2  # variance of the logarithm of one view's seconds, and more for what differs between users

_EVER = (
    *("views", "visits", "order_days", "browse_minutes", "searches", "empty_searches", "not_interested", "carts"),
    *("purchases", "refunds", "complaints", "failed_payments", "delivery_days", "messages_sent", "messages_opened"),
)
_OF_TASTE = ("views_in", "browse_minutes_in", "favourite_category_before", "favourite_category_in")
_OF_MESSAGES = ("messages_sent_in", "messages_opened_in")
_OF_FAILURE = ("searches_in", "empty_searches_in", "not_interested_in", "carts_in", "purchases_in")
_OF_ORDERS = ("refunds_in", "complaints_in", "failed_payments_in", "delivery_days_in")
ANSWERS = ("natural", "soft", "experience", "other")

SIGNALS: Final = (
    *(f"{name}_ever" for name in _EVER),
    *(f"{name}_{n}v" for name in (*_OF_TASTE, *_OF_MESSAGES) for n in TASTE_VISITS),
    *(f"{name}_{n}v" for name in _OF_FAILURE for n in FAIL_VISITS),
    "views_in_16v",
    *(f"days_since_visits_{n}v" for n in (*TASTE_VISITS, 16)),
    *(f"{name}_{ORDERS}o" for name in _OF_ORDERS),
    *("days_since_first_seen", "days_since_opt_out"),
    *(f"days_since_answer_{answer}" for answer in ANSWERS),
)


@dataclass(frozen=True)
class Sign:
    """A sign in one window; float64[users] each, NaN where not known.

    Attributes:
        seen: what is counted or measured in the newest visits.
        of: out of how many (views, searches, orders …); for a level, how many it is the mean of.
        usual: what was usual for each of those.
        likelihood: factor (or added share) → log-likelihood ratio to no change.
    """

    seen: Array
    of: Array
    usual: Array
    likelihood: Callable[[float], Array]


class Past:
    """The signals of some users by name, and the shop's means."""

    def __init__(self, values: Array, usual: Array) -> None:
        self._of = dict(zip(SIGNALS, values.astype(np.float64).T, strict=True))
        self._usual: Mapping[str, float] = dict(zip(SIGNALS, np.nan_to_num(usual).tolist(), strict=True))

    def __getitem__(self, name: str) -> Array:
        return self._of[name]

    def sum(self, *names: str) -> Array:
        """Not observed adds nothing; NaN where nothing is observed."""
        columns = np.stack([self._of[name] for name in names])
        return np.where(np.isnan(columns).all(axis=0), np.nan, np.nansum(columns, axis=0))

    def mean(self, *names: str) -> float:
        """In the shop."""
        return max(sum(self._usual[name] for name in names), 1e-6)

    def rate(self, seen: Array, of: Array, ever: Array, chances: Array, shop: float) -> Array:
        """Events a chance before the newest, drawn towards the shop's."""
        return np.asarray((np.maximum(ever - seen, 0) + OWN) / (np.maximum(chances - of, 0) + OWN / shop))


def count(seen: Array, of: Array, usual: Array) -> Sign:
    """A count with a rate: Poisson, and the rate may be `times` the usual one."""
    return Sign(seen, of, usual, lambda times: seen * np.log(times) - (times - 1) * usual * of)


def raised_count(seen: Array, of: Array, usual: Array) -> Sign:
    """A count whose rate may be higher by so much a chance."""
    return Sign(seen, of, usual, lambda added: seen * np.log1p(added / usual) - added * of)


def share(seen: Array, of: Array, usual: Array) -> Sign:
    """A count out of a number: binomial, and so much of the rest may have been added to the share."""
    usual, seen = np.clip(usual, 1e-4, 0.95), np.minimum(seen, of)

    def likelihood(added: float) -> Array:
        raised = usual + (1 - usual) * added
        return np.asarray(seen * np.log(raised / usual) + (of - seen) * np.log((1 - raised) / (1 - usual)))

    return Sign(seen, of, usual, likelihood)


def faded_share(seen: Array, of: Array, usual: Array) -> Sign:
    """A count out of a number: binomial, and the share may be `times` (under 1) the usual one."""

    def likelihood(times: float) -> Array:
        return np.asarray(seen * np.log(times) + (of - seen) * np.log((1 - usual * times) / (1 - usual)))

    return Sign(seen, of, usual, likelihood)


def level(seen: Array, of: Array, usual: Array, variance: Array) -> Sign:
    """A mean that is about lognormal, whose median may be `times` the usual one; the variance is of its logarithm."""

    def likelihood(times: float) -> Array:
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(times) * (np.log(seen / usual) - np.log(times) / 2) / variance)

    return Sign(seen, of, usual, likelihood)


def gap(days: Array, visits: int, rate: Array) -> Sign:
    """Days from visit to visit: exponential, and their mean may be `times` the usual one."""

    def likelihood(times: float) -> Array:
        return -(visits - 1) * np.log(times) + days * rate * (1 - 1 / times)

    return Sign(days / max(visits - 1, 1), np.full(len(days), float(visits)), 1 / rate, likelihood)


def of_visits(past: Past, visits: int) -> dict[str, Sign]:
    """The signs of the newest visits, those for which there are signals with this window."""
    with np.errstate(divide="ignore", invalid="ignore"):
        out = {"gaps": _gaps(past, visits)}
        if visits in TASTE_VISITS:
            out |= _of_taste(past, visits)
        if visits in FAIL_VISITS:
            out |= _of_failure(past, visits)
        return out


def _gaps(past: Past, visits: int) -> Sign:
    nth = past[f"days_since_visits_{visits}v"]
    before, room = past["visits_ever"] - visits, past["days_since_first_seen"] - nth
    shop = past.mean("days_since_first_seen") / past.mean("visits_ever")
    rate = (np.maximum(before, 0) + 1) / (np.maximum(room, 0) + shop)
    return gap(np.maximum(nth - past["days_since_visits_1v"], 0), visits, rate)


def _of_taste(past: Past, visits: int) -> dict[str, Sign]:
    views, minutes = past[f"views_in_{visits}v"], past[f"browse_minutes_in_{visits}v"]
    before = past["views_ever"] - views
    share_before, share_in = past[f"favourite_category_before_{visits}v"], past[f"favourite_category_in_{visits}v"]
    usual = share_before * before / (before + 1.5)
    variance = 0.1 + PER_VIEW / views + PER_VIEW / before
    seconds = 60 * (past["browse_minutes_ever"] - minutes) / before
    opened, sent = past[f"messages_opened_in_{visits}v"], past[f"messages_sent_in_{visits}v"]
    shop = past.mean("messages_opened_ever") / past.mean("messages_sent_ever")
    rate = past.rate(opened, sent, past["messages_opened_ever"], past["messages_sent_ever"], shop)
    return {
        "need": faded_share(share_in * views, views, usual),
        "dwell": level(60 * minutes / views, views, seconds, variance),
        "opened": count(opened, sent, rate),
    }


def _of_failure(past: Past, visits: int) -> dict[str, Sign]:
    views, searches = past[f"views_in_{visits}v"], past[f"searches_in_{visits}v"]
    empty, dislikes = past[f"empty_searches_in_{visits}v"], past[f"not_interested_in_{visits}v"]
    # What is bought was put in the cart on the way: what is left tells liking apart from ordering less.
    carts = np.maximum(past[f"carts_in_{visits}v"] - past[f"purchases_in_{visits}v"], 0)
    carts_ever = np.maximum(past["carts_ever"] - past["purchases_ever"], 0)
    shop_carts = max(past.mean("carts_ever") - past.mean("purchases_ever"), 1e-6)

    def rate(seen: Array, of: Array, ever: Array, chances: str, shop: float) -> Array:
        return past.rate(seen, of, ever, past[chances], shop / past.mean(chances))

    return {
        "empty": share(
            *(empty, searches),
            rate(empty, searches, past["empty_searches_ever"], "searches_ever", past.mean("empty_searches_ever")),
        ),
        "dislikes": share(
            *(dislikes, views),
            rate(dislikes, views, past["not_interested_ever"], "views_ever", past.mean("not_interested_ever")),
        ),
        "searches": count(
            *(searches, views), rate(searches, views, past["searches_ever"], "views_ever", past.mean("searches_ever"))
        ),
        "carts": count(carts, views, rate(carts, views, carts_ever, "views_ever", shop_carts)),
    }


def of_orders(past: Past) -> dict[str, Sign]:
    """The signs of the newest orders."""
    kinds = ("refunds", "complaints", "failed_payments")
    seen = past.sum(*(f"{kind}_in_{ORDERS}o" for kind in kinds))
    ever = past.sum(*(f"{kind}_ever" for kind in kinds))
    of = np.minimum(past["order_days_ever"], ORDERS)
    shop = past.mean(*(f"{kind}_ever" for kind in kinds)) / past.mean("order_days_ever")
    days = past[f"delivery_days_in_{ORDERS}o"]
    usual = (past["delivery_days_ever"] + past.mean("delivery_days_ever")) / 2
    delay = level(days, of, usual, np.full(len(days), 0.3))
    return {
        "troubles": raised_count(seen, of, past.rate(seen, of, ever, past["order_days_ever"], shop)),
        # Being on time proves nothing.
        "late": Sign(days, of, usual, lambda times: np.maximum(delay.likelihood(times), 0)),
        "opted_out": _opted_out(past),
    }


def _opted_out(past: Past) -> Sign:
    """Refused further messages in the time of the newest visits or since: so many times likelier than usual."""
    since, window = past["days_since_opt_out"], past["days_since_visits_8v"]
    recent = np.where(since <= np.nan_to_num(window, nan=np.inf), 1.0, 0.0)
    return Sign(since, np.ones(len(since)), np.zeros(len(since)), lambda times: recent * np.log(times))
