"""The score from recency, frequency and money: it is what its weights say, and rises with silence."""

from collections.abc import Callable

import numpy as np
import pytest

from models.bgnbd import BgNbd
from models.plain import LOGARITHMS, SIGNALS, PlainScore, columns_of, log_expected
from tests.features.support import Array

MODEL = BgNbd(r=0.6, alpha=5.0, a=0.8, b=2.5)


def people(users: int = 300) -> dict[str, Array]:
    rng = np.random.default_rng(1)
    since = rng.uniform(0, 180, users)
    return {
        "days_since_purchase": since,
        "days_since_first_purchase": since + rng.uniform(0, 300, users),
        "orders_ever": rng.geometric(0.3, users).astype(float),
        "spend_ever": rng.gamma(2, 100, users),
        "orders_90d": rng.poisson(1, users).astype(float),
        "spend_180d": np.where(rng.random(users) < 0.5, np.nan, rng.gamma(2, 50, users)),
    }


def test_the_margin_by_hand() -> None:
    column = {name: np.array([np.e - 1]) for name in SIGNALS}
    assert PlainScore((1.0, 10, 100, 1_000, 10_000, 5), None).margins(column, [30])[:, 0] == pytest.approx([11_111])
    score = PlainScore((0.0,) * len(LOGARITHMS) + (1.0,), MODEL)
    for place, days in enumerate((7, 30)):
        assert (score.margins(people(), [7, 30])[:, place] == log_expected(people(), days, MODEL)).all()


def test_amounts_that_are_not_observed_are_none() -> None:
    score = PlainScore((1.0, 1, 1, 1, 1, -1), MODEL)
    column = people() | {"spend_ever": np.full(300, np.nan), "spend_180d": np.full(300, np.nan)}
    none = people() | {"spend_ever": np.zeros(300), "spend_180d": np.zeros(300)}
    assert (score.margins(column, [30])[:, 0] == score.margins(none, [30])[:, 0]).all()
    assert np.isfinite(score.margins(column, [30])[:, 0]).all()


@pytest.mark.parametrize("model", [MODEL, None])
def test_it_rises_with_silence(model: BgNbd | None, tell: Callable[..., None]) -> None:
    """With weights of the signs that training keeps to."""
    score, column = PlainScore((0.3, -1, -0.1, -1, -0.1, -0.8), model), people()
    before = score.margins(column, [30])[:, 0]
    for more in (0.5, 5.0, 100.0):
        after = score.margins(column | {"days_since_purchase": column["days_since_purchase"] + more}, [30])[:, 0]
        assert (after >= before).all()
        assert (after > before).mean() > 0.9
        before = after


def test_a_described_score_is_the_same_score() -> None:
    for model in (MODEL, None):
        score = PlainScore((0.1, 0.2, 1 / 3, 0.4, 0.5, -1e-17), model)
        assert PlainScore.from_dict(score.to_dict()) == score


def test_columns_are_found_by_name() -> None:
    names = ["other", *reversed(SIGNALS), "horizon_days"]
    values = np.arange(2 * len(names), dtype=np.float32).reshape(2, -1)
    found = columns_of(values, names)
    assert all((found[name] == values[:, names.index(name)]).all() for name in SIGNALS)


def test_a_users_score_does_not_depend_on_who_else_is_asked_about() -> None:
    rng = np.random.default_rng(2)
    column = {name: rng.gamma(1, 20, 101).astype(np.float32) for name in SIGNALS}
    column["days_since_first_purchase"] = column["days_since_purchase"] + 50
    plain = PlainScore((0.9, -0.3, -0.12, -0.7, -0.05, -0.8), BgNbd(0.4, 30.0, 0.8, 2.0))
    alone = [plain.margins({name: values[i : i + 1] for name, values in column.items()}, [30]) for i in range(101)]
    np.testing.assert_array_equal(np.concatenate(alone), plain.margins(column, [30]))
