"""What the churn bundle keeps of its users: bins that see every value, and the same bytes for the same users."""

from pathlib import Path

import numpy as np
import pytest

from models.reference import BINS, MOMENTS, PROBABILITY, Reference, few
from tests.features.support import DAY_US, Array

NAMES = ["even", "mostly zero", "half unseen", "never seen", "constant"]


def users(seed: int, size: int = 1_000) -> tuple[Array, Array]:
    """Signals of five kinds, and a probability."""
    rng = np.random.default_rng(seed)
    half = np.where(rng.random(size) < 0.5, np.nan, rng.gamma(2.0, 3.0, size))
    zeros = rng.poisson(0.3, size)
    columns = [rng.normal(size=size), zeros, half, np.full(size, np.nan), np.full(size, 7.0)]
    return np.stack(columns, axis=1).astype(np.float32), rng.random(size)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.of(NAMES, [(30 * DAY_US, *users(1)), (0, *users(2, 900))])


def test_everyone_is_in_one_bin_at_every_moment(reference: Reference) -> None:
    assert reference.names == (*NAMES, PROBABILITY)
    assert reference.as_of.tolist() == [30 * DAY_US, 0]
    for cuts, counts in zip(reference.cuts, reference.counts, strict=True):
        assert counts.shape == (2, len(cuts) + 2)
        assert counts.sum(axis=1).tolist() == [1_000, 900]
        assert (np.diff(cuts) > 0).all()


def test_even_values_are_cut_into_tenths(reference: Reference) -> None:
    for place in (0, len(NAMES)):  # a signal, and the probability
        assert reference.counts[place][0].tolist() == [1_000 // BINS] * BINS + [0]


def test_a_frequent_value_has_a_bin_of_its_own(reference: Reference) -> None:
    values, _ = users(1)
    counts = reference.counts[1][0]
    for number in (0, 1):
        assert (values[:, 1] == number).sum() in counts
    for shift in (0.01, -0.01):
        moved = values.copy()
        moved[:, 1] += np.float32(shift)
        now = reference.count(moved, np.zeros(1_000))[1]
        assert not ((now > 0) & (counts > 0) & (counts == (values[:, 1] == 0).sum())).any()  # zeros have left their bin
    assert (reference.counts[4][0] > 0).sum() == 1
    moved = np.nextafter(values, np.float32(np.inf))
    assert not ((reference.count(moved, np.zeros(1_000))[4] > 0) & (reference.counts[4][0] > 0)).any()


def test_not_observed_is_a_bin_beside(reference: Reference) -> None:
    values, _ = users(1)
    unseen = int(np.isnan(values[:, 2]).sum())
    assert reference.counts[2][0].tolist()[-1] == unseen
    assert reference.counts[2][0][:-1].max() <= (1_000 - unseen) / BINS + 1
    assert reference.counts[3][0].tolist() == [0, 1_000]
    seen_now = reference.count(np.nan_to_num(values), np.zeros(1_000))
    assert seen_now[3].tolist() == [1_000, 0]


def test_values_beyond_those_of_training_are_counted(reference: Reference) -> None:
    values = np.array([[np.inf] * 5, [-np.inf] * 5, [1e30] * 5], np.float32)
    for counts in reference.count(values, np.array([0.0, 1.0, 0.5])):
        assert counts.sum() == 3
        assert counts[-1] == 0


def test_users_of_training_are_counted_alike(reference: Reference) -> None:
    for live, trained in zip(reference.count(*users(2, 900)), reference.counts, strict=True):
        assert live.tolist() == trained[1].tolist()


def test_it_is_loaded_as_it_was_saved(reference: Reference, tmp_path: Path) -> None:
    reference.save(tmp_path / "a.npz")
    loaded = Reference.load(tmp_path / "a.npz")
    assert loaded.names == reference.names
    assert (loaded.as_of == reference.as_of).all()
    for mine, theirs in ((loaded.cuts, reference.cuts), (loaded.counts, reference.counts)):
        assert [a.tolist() for a in mine] == [b.tolist() for b in theirs]
    loaded.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("size", [1, 2, MOMENTS, MOMENTS + 1, 40])
def test_few_moments_are_spread_from_the_newest(size: int) -> None:
    chosen = few(range(size))
    assert chosen[0] == 0
    assert len(chosen) <= MOMENTS
    assert len(set(np.diff(chosen))) <= 1
    assert chosen[-1] >= size - size / len(chosen) - 1
