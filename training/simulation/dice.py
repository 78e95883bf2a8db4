"""Random numbers that depend on who they are for and on nothing else.

A key is a 64-bit number a thing: a user, a session of hers, a view in it. A draw hashes the key with the name of what
is drawn (splitmix64: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"). So a user's life is
the same whoever else is simulated, in whatever chunks and in whatever order.
"""

from functools import cache
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

Array = npt.NDArray[Any]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def root(seed: int, what: str) -> Array:
    """The key of all keys of one kind: shape (1,)."""
    return _mixed(np.array([seed % 2**64], np.uint64) ^ _salt(what))


def child(keys: Array, index: Array | int) -> Array:
    """Keys of the things with these numbers that belong to the things with these keys, broadcast."""
    return _mixed(keys + (np.atleast_1d(index).astype(np.uint64) + np.uint64(1)) * _GOLDEN)


def uniform(keys: Array, what: str) -> Array:
    """Between 0 and 1, both exclusive."""
    mixed = _mixed(keys ^ _salt(what))
    mixed >>= np.uint64(11)
    return (mixed + 0.5) * 2.0**-53


def normal(keys: Array, what: str) -> Array:
    """Standard normal."""
    drawn: Array = ndtri(uniform(keys, what))
    return drawn


def exponential(keys: Array, what: str) -> Array:
    """Exponential with mean 1."""
    return -np.log(uniform(keys, what))


def choice(keys: Array, what: str, weights: Array) -> Array:
    """An index into `weights`, with a probability in proportion to its weight; all weights 0: the first."""
    edges = np.cumsum(weights)
    found = np.searchsorted(edges, uniform(keys, what) * edges[-1], side="right")
    return np.minimum(found, len(weights) - 1)


@cache
def _salt(what: str) -> np.uint64:
    return np.uint64(int.from_bytes(blake2b(what.encode(), digest_size=8).digest()))


def _mixed(x: Array) -> Array:
    x = x ^ (x >> np.uint64(30))
    x *= _FIRST
    x ^= x >> np.uint64(27)
    x *= _SECOND
    x ^= x >> np.uint64(31)
    return x
