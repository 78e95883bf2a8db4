"""The drift alarm is silent where nothing has changed, and rings where something has."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.drift import CHANCE, TOLERATED, Drift, chance_limit, drift, psi
from features.engines.local import matrices
from features.events.ingest import ingest
from features.events.sources import find_source
from features.events.store import Store
from models.reference import PROBABILITY, Reference
from tests.features.support import DAY_US, NOW, ROOT, Array, at

Tell = Callable[..., None]
USERS, NOISE = 2_500, 40
NEWEST = at("2024-06-01")


def shop(seed: int, users: int = USERS, age: float = 0.0) -> tuple[list[str], Array, Array]:
    """Many signals without meaning, of the shapes that signals have; `age` is by how many days one of them grew."""
    rng = np.random.default_rng(seed)
    shapes: dict[str, Array] = {
        "normal": rng.normal(50, 10, users),
        "money": rng.lognormal(4, 1.6, users),
        "orders": rng.poisson(2.0, users),
        "refunds": rng.poisson(0.05, users),
        "rare": np.where(rng.random(users) < 0.8, np.nan, rng.exponential(30, users)),
        "share": np.round(rng.beta(0.3, 0.3, users), 2),
        "age": rng.uniform(0, 300, users) + age,
        "constant": np.zeros(users),
    }
    shapes |= {f"noise {i}": rng.normal(size=users) for i in range(NOISE)}
    return list(shapes), np.stack(list(shapes.values()), axis=1).astype(np.float32), rng.beta(2, 3, users)


@pytest.fixture(scope="module")
def reference() -> Reference:
    """One moment."""
    names, values, probability = shop(0)
    return Reference.of(names, [(NEWEST, values, probability)])


def alarms(found: list[Drift]) -> set[str]:
    return {d.signal for d in found if d.alarm}


def shifted(values: Array, by: float) -> tuple[Array, Array]:
    """Every signal moved by so many of its standard deviations, and which signals vary at all."""
    known = values[:, ~np.isnan(values).all(axis=0)]
    deviations = np.zeros(values.shape[1])
    deviations[~np.isnan(values).all(axis=0)] = np.nanstd(known.astype(np.float64), axis=0)
    return (values + by * deviations).astype(np.float32), deviations > 0


def test_the_index_by_hand() -> None:
    then, now = np.array([50, 30, 20, 0]), np.array([20, 30, 50, 0])
    p, q = (then[:3] + 0.5) / 101.5, (now[:3] + 0.5) / 101.5
    assert psi(then, now) == pytest.approx(sum((q - p) * np.log(q / p)))
    assert psi(then, now) == pytest.approx(psi(now, then))
    assert psi(then, then) == 0.0
    assert psi(then, np.zeros(4, int)) == 0.0
    assert psi(np.array([100, 0]), np.array([0, 100])) > 5


@pytest.mark.parametrize(("then", "now"), [(3_000, 3_000), (20_000, 500), (400, 4_000)])
def test_chance_exceeds_the_limit_as_often_as_said(then: int, now: int) -> None:
    rng = np.random.default_rng(8)
    shares = [0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05]
    beyond = 0
    for _ in range(3_000):
        a, b = rng.multinomial(then, shares), rng.multinomial(now, shares)
        beyond += psi(a, b) > chance_limit(a, b, 0.02)
    assert stats.binomtest(beyond, 3_000, 0.02).pvalue > 1e-3


@pytest.mark.parametrize("users", [80, USERS])
def test_no_alarm_in_100_resamples_of_the_same_period(users: int, tell: Tell) -> None:
    """Against users drawn from the same shop, and against resamples of the very users of training."""
    names, values, probability = shop(0)
    rng = np.random.default_rng(users)
    reference = Reference.of(names, [(NEWEST, values, probability)])
    rung, worst = 0, 0.0
    for seed in range(100):
        some = rng.integers(0, USERS, users)
        for live in ((values[some], probability[some]), shop(1 + seed, users)[1:]):
            found = drift(reference, NEWEST, *live)
            rung += bool(alarms(found))
            worst = max(worst, max(d.psi / d.limit for d in found))
    tell(alarms=rung, worst_share_of_the_limit=round(worst, 2))
    assert rung == 0


@pytest.mark.parametrize("by", [0.5, -0.5])
def test_every_signal_moved_by_half_a_deviation_rings_100_of_100_times(reference: Reference, by: float) -> None:
    """Signals are judged one by one, so all are moved at once; the limit counts all of them either way."""
    for seed in range(100):
        names, values, probability = shop(1 + seed)
        moved, varies = shifted(values, by)
        found = drift(reference, NEWEST, moved, probability)
        assert alarms(found) == {name for name, does in zip(names, varies, strict=True) if does}


def test_one_signal_alone_is_named_and_comes_first(reference: Reference) -> None:
    names, values, probability = shop(3)
    values[:, names.index("money")] *= 2
    found = drift(reference, NEWEST, values, probability)
    assert alarms(found) == {"money"}
    assert (found[0].signal, found[0].of, found[0].users_then, found[0].users_now) == ("money", "values", USERS, USERS)
    assert [d.psi / d.limit for d in found] == sorted([d.psi / d.limit for d in found], reverse=True)


def test_the_probability_is_watched_too(reference: Reference) -> None:
    _, values, probability = shop(4)
    assert alarms(drift(reference, NEWEST, values, probability**2)) == {PROBABILITY}


@pytest.mark.parametrize("dead", [np.nan, 0.0])
def test_a_signal_that_died_rings(reference: Reference, dead: float) -> None:
    names, values, probability = shop(5)
    values[:, names.index("orders")] = dead
    (found,) = [d for d in drift(reference, NEWEST, values, probability) if d.alarm]
    assert (found.signal, found.of) == ("orders", "observed" if np.isnan(dead) else "values")


def test_a_signal_first_observed_now_rings() -> None:
    names, values, probability = shop(0)
    rare = names.index("rare")
    before = values.copy()
    before[:, rare] = np.nan
    found = drift(Reference.of(names, [(NEWEST, before, probability)]), NEWEST, values, probability)
    assert [(d.signal, d.of) for d in found if d.alarm] == [("rare", "observed")]


def test_few_users_need_more_than_the_tolerated(reference: Reference) -> None:
    _, values, probability = shop(6, 80)
    limits = {d.signal: d.limit for d in drift(reference, NEWEST, values, probability)}
    assert min(limits.values()) > TOLERATED
    many = drift(reference, NEWEST, *shop(6)[1:])
    assert {d.limit for d in many if d.of == "values" and d.signal != "rare"} == {TOLERATED}
    assert 0 < CHANCE < 0.01


def test_what_grows_with_the_log_is_allowed_for_and_a_jump_is_not() -> None:
    """Moments 30 days apart: who is 30 days older a month on is as expected; who is so the same day is not."""
    names = shop(0)[0]
    moments = [(NEWEST - back * 30 * DAY_US, *shop(90 + back, age=-30.0 * back)[1:]) for back in range(4)]
    reference = Reference.of(names, moments)
    older = shop(77, age=60.0)[1:]
    assert alarms(drift(reference, NEWEST + 60 * DAY_US, *older)) == set()
    assert alarms(drift(reference, NEWEST, *older)) == {"age"}
    assert alarms(drift(reference, NEWEST + 30 * DAY_US, *shop(78, age=150.0)[1:])) == {"age"}
    values, varies = shifted(older[0], 0.5)
    still = alarms(drift(reference, NEWEST + 60 * DAY_US, values, older[1]))
    assert still >= {name for name, does in zip(names, varies, strict=True) if does and name != "age"}


# --------------------------------------------------------------------------------------------- published data


@pytest.fixture(scope="module")
def complete_journey_store(complete_journey: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return ingested("complete_journey", tmp_path_factory.mktemp("cj"))


@pytest.fixture(scope="module")
def online_retail_store(online_retail: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONLINE_RETAIL_PARQUET", str(online_retail))
        return ingested("online_retail", tmp_path_factory.mktemp("orii"))


def ingested(source: str, folder: Path) -> Store:
    found = ingest(find_source(ROOT / "sources" / source), folder / "store", now=NOW).store
    assert found is not None
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "newest", "lookback"),
    [("online_retail_store", "2011-10-10", 180), ("complete_journey_store", "2017-11-17", 60)],
)
def test_on_published_data(data: str, newest: str, lookback: int, request: pytest.FixtureRequest, tell: Tell) -> None:
    """All signals of real users: silent on resamples, loud on shifts of each, calm a month on."""
    store: Store = request.getfixturevalue(data)
    moments = [at(newest) - back * 30 * DAY_US for back in range(-1, 8)]
    live, *trained = matrices(store, moments, lookback=lookback, threads=1)
    names = live.names

    def risk(values: Array) -> Array:  # stands for a model's probability
        return np.asarray(1 / (1 + np.exp(1 - values[:, names.index("days_since_purchase")] / 40.0)))

    reference = Reference.of(names, [(m.as_of, m.values, risk(m.values)) for m in trained])
    now, values = trained[0].as_of, np.ascontiguousarray(trained[0].values)
    rng = np.random.default_rng(1)
    rung = 0
    missed: dict[str, int] = {}
    for _ in range(100):
        some = values[rng.integers(0, len(values), len(values))]
        rung += bool(alarms(drift(reference, now, some, risk(some))))
        for by in (0.5, -0.5):
            moved, varies = shifted(some, by)
            found = alarms(drift(reference, now, moved, risk(some)))
            for name in (name for name, does in zip(names, varies, strict=True) if does and name not in found):
                missed[f"{name} {by:+}"] = missed.get(f"{name} {by:+}", 0) + 1
    month_on = drift(reference, live.as_of, live.values, risk(live.values))
    tell(alarms_in_resamples=rung, signals_moved=int(varies.sum()), missed=missed, a_month_on=alarms(month_on))
    assert rung == 0
    assert missed == {}
    assert len(alarms(month_on)) <= 2
