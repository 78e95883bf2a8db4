"""BG/NBD's expected purchases, against its own process played out and against what they are for."""

from collections.abc import Callable

import numpy as np

from models.bgnbd import BgNbd, Purchases
from tests.features.support import Array

MODEL = BgNbd(r=0.6, alpha=5.0, a=0.8, b=2.5)
AGE, AHEAD = 40.0, 20.0


def played(model: BgNbd, customers: int, seed: int) -> tuple[Purchases, Array]:
    """Customers since their first purchase, and what each buys in the time ahead: the process as the paper tells it."""
    rng = np.random.default_rng(seed)
    rate, drop = rng.gamma(model.r, 1 / model.alpha, customers), rng.beta(model.a, model.b, customers)
    time, last, repeats, ahead = (np.zeros(customers) for _ in range(4))
    alive = np.ones(customers, bool)
    while alive.any():
        time = time + rng.exponential(1 / np.maximum(rate, 1e-12))
        alive &= time < AGE + AHEAD
        past = alive & (time < AGE)
        repeats, last = repeats + past, np.where(past, time, last)
        ahead += alive & ~past
        alive &= rng.random(customers) >= drop
    return Purchases(repeats, last, np.full(customers, AGE)), ahead


def test_expected_purchases_are_those_of_the_process(tell: Callable[..., None]) -> None:
    """For customers alike in how many repeats there were and how long ago the last was."""
    past, ahead = played(MODEL, 400_000, 1)
    expected = MODEL.expected(past, AHEAD)
    kinds = (np.minimum(past.repeats, 4) * 10 + past.last // 10).astype(int)
    compared = 0
    for kind in np.unique(kinds):
        chosen = kinds == kind
        if chosen.sum() >= 1_000:
            error = ahead[chosen].std() / np.sqrt(chosen.sum())
            assert abs(expected[chosen].mean() - ahead[chosen].mean()) < 4 * error
            compared += 1
    assert compared >= 15
    tell(kinds_of_customers=compared)


def test_more_time_more_purchases_and_a_longer_silence_fewer() -> None:
    past, _ = played(MODEL, 2_000, 2)
    assert (np.diff([MODEL.expected(past, days) for days in (1, 7, 30, 90, 180)], axis=0) > 0).all()
    waited = [MODEL.expected(Purchases(past.repeats, past.last, past.age + days), 30) for days in (0, 10, 60, 300)]
    assert (np.diff(waited, axis=0) < 0).all()


def test_one_time_buyers_are_not_ranked_backwards() -> None:
    """The model takes all of them for customers still; what is expected of them is little, and less with time."""
    one = Purchases(np.zeros(3), np.zeros(3), np.array([10.0, 100.0, 300.0]))
    expected = MODEL.expected(one, 30)
    assert (np.diff(expected) < 0).all()
    regular = Purchases(np.array([9.0]), np.array([98.0]), np.array([100.0]))
    assert MODEL.expected(regular, 30)[0] > 5 * expected[1]


def test_hostile_histories_stay_finite() -> None:
    repeats = np.array([0.0, 1, 500, 3_000, 40])
    last = np.array([0.0, 0, 500, 3_000, 0])
    age = np.array([0.0, 4_000, 500, 3_000, 4_000])
    for model in (MODEL, BgNbd(1e-3, 1e-3, 1e-3, 1e3), BgNbd(2.9e3, 2.9e3, 3e-4, 2.9e3), BgNbd(0.5, 5, 0.999, 1)):
        expected = model.expected(Purchases(repeats, last, age), 180)
        assert np.isfinite(expected).all()
        assert (expected >= 0).all()
