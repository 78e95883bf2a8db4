"""What a run keeps of its backtest, and how two runs are compared by it."""

import numpy as np
import pyarrow as pa
import pytest

from features.events.intake import hash_array
from tests.features.support import Array
from training.churn import MODEL, ChurnRun
from training.metrics import auc, auc_of_resamples
from training.paired import CHURNED, MOMENT, USER, backtest_table, compare, contenders


def scored(users: Array, moments: list[int], noise: float, seed: int = 1) -> pa.Table:
    """Users whose truth and score do not depend on who else is there; `good` is always a better score than `bad`."""
    parts = []
    for moment in moments:
        rng = np.random.default_rng(moment)
        risk, luck = rng.random(2_000), rng.random(2_000)
        with_noise = risk + np.random.default_rng((seed, moment)).normal(0, noise, 2_000)
        parts.append(
            pa.table(
                {
                    MOMENT: np.full(len(users), moment, np.int64),
                    USER: users.astype(np.uint64),
                    CHURNED: (luck < risk)[users],
                    "good": with_noise[users],
                    "bad": (with_noise + rng.normal(0, 1, 2_000))[users],
                }
            )
        )
    return pa.concat_tables(parts)


def test_the_table_holds_the_backtest_and_nobodys_id(churn_run: ChurnRun) -> None:
    table = backtest_table(churn_run)
    assert contenders(table) == [MODEL, *churn_run.baselines]
    assert len(table) == sum(len(result.matrix) for result in churn_run.backtest)
    assert not any(pa.types.is_string(field.type) for field in table.schema)
    for result in churn_run.backtest:
        mine = table.filter(pa.compute.equal(table[MOMENT], result.matrix.as_of))
        assert mine[USER].to_pylist() == hash_array(result.matrix.user_ids).tolist()
        assert mine[CHURNED].to_pylist() == result.matrix.churned.tolist()
        for name, score in result.scores.items():
            assert mine[name].to_pylist() == score.tolist()


def test_contenders_of_one_run_as_its_figures_say(churn_run: ChurnRun) -> None:
    table = backtest_table(churn_run)
    found = compare(table, MODEL, table, "recency", auc_of_resamples)
    assert found is not None
    assert found.ours == pytest.approx(churn_run.mean(MODEL, "auc"))
    assert found.theirs == pytest.approx(churn_run.mean("recency", "auc"))
    assert found.difference.value == pytest.approx(found.ours - found.theirs)
    assert found.moments == len(churn_run.backtest)


def test_only_users_and_moments_that_both_have_count() -> None:
    a = scored(np.arange(0, 1_500), [1, 2, 3], noise=0.1)
    shuffled = np.random.default_rng(4).permutation(np.arange(500, 2_000))
    b = scored(shuffled, [2, 3, 4], noise=0.5, seed=2)
    found = compare(a, "good", b, "good", auc_of_resamples)
    assert found is not None
    assert (found.moments, found.users) == (2, 1_000)
    both = np.arange(500, 1_500)
    by_hand = [
        auc(t[CHURNED].to_numpy(), t["good"].to_numpy())
        for t in (scored(both, [m], noise, seed) for noise, seed in ((0.1, 1), (0.5, 2)) for m in (2, 3))
    ]
    assert (found.ours, found.theirs) == pytest.approx((np.mean(by_hand[:2]), np.mean(by_hand[2:])))
    assert found.difference.low > 0
    assert "to" in str(found)


def test_none_where_nothing_is_shared() -> None:
    a, b = scored(np.arange(200), [1], 0.1), scored(np.arange(200), [2], 0.1)
    assert compare(a, "good", b, "good", auc_of_resamples) is None
    strangers = scored(np.arange(200, 300), [1], 0.1)
    assert compare(a, "good", strangers, "good", auc_of_resamples) is None
