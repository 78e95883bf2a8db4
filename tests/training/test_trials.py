"""The search for a recipe: goes on where it was stopped, looks at nothing that the backtest tests on, adopts only what
is better."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import TrialState

from features.errors import UserError
from features.events.columns import DAY
from features.events.store import Store
from tests.features.support import at
from tests.features.test_no_future import future_rows
from tests.shop import AS_OF, LOOKBACK, churn_recipe, ingested, shop_log
from training import tracking, trials
from training.backtest import show
from training.churn import ChurnRun, train_churn
from training.promotion import gate, newest
from training.trials import Search, record_trials, search, searched, space

QUICK = {"rounds": 8, "stride_days": 15, "horizons": [14], "test_moments": 3}
DAYS, TRIALS = 14, 10


def tried(store: Store, count: int, **settings: Any) -> Search:
    options: dict[str, Any] = {"as_of": AS_OF, "horizon": DAYS, "lookback": LOOKBACK}
    return search(store, **options, recipe=churn_recipe(**{**QUICK, **settings}), trials=count)


def outcome(found: Search) -> list[tuple[Any, ...]]:
    return [(t.state, t.value, t.params, t.user_attrs["auc"]) for t in found.trials]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty MLflow store of one test."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'tracking' / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "tracking"


@pytest.fixture(scope="module")
def whole(shop: Store, tmp_path_factory: pytest.TempPathFactory) -> Search:
    """Ten trials at three moments in one go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path_factory.mktemp('whole') / 'mlflow.db'}")
        return tried(shop, TRIALS)


def test_a_study_goes_on_and_ends_as_if_never_stopped(shop: Store, whole: Search, elsewhere: Path) -> None:
    first = tried(shop, 2)
    assert len(first.trials) == 3
    assert outcome(first) == outcome(whole)[:3]
    # One more is begun, and its process is killed.
    path = elsewhere / trials.FILE
    (name,) = optuna.get_all_study_names(f"sqlite:///{path}")
    optuna.load_study(study_name=name, storage=f"sqlite:///{path}").ask(space(churn_recipe(**QUICK)))
    again = tried(shop, TRIALS)
    assert again.trials[:3] == first.trials  # with the instants at which they were run
    assert outcome(again) == outcome(whole)
    assert again.recipe == whole.recipe
    assert tried(shop, TRIALS).trials == again.trials
    assert tried(shop, 2).trials == first.trials
    assert [file.name for file in elsewhere.iterdir()] == [trials.FILE]


def test_trials_are_around_the_recipe_as_given_and_judged_against_it(whole: Search) -> None:
    given, *others = whole.trials
    assert whole.recipes[0] == churn_recipe(**QUICK)
    assert given.value == 0
    assert len({str(searched(recipe)) for recipe in whole.recipes}) == TRIALS + 1
    for trial in others:
        seen = trial.user_attrs["auc"]
        for step, mean in enumerate(seen):
            assert trial.intermediate_values[step] == pytest.approx(mean - given.user_attrs["auc"][step])
        if trial.state == TrialState.PRUNED:
            assert 2 <= len(seen) < len(whole.moments)
        else:
            assert len(seen) == len(whole.moments)
    assert TrialState.PRUNED in {trial.state for trial in others}
    values = [-1.0 if t.state == TrialState.PRUNED else float(t.value or 0) for t in whole.trials]
    assert values[whole.best] == max(values)
    assert whole.recipe == whole.recipes[whole.best]


@pytest.mark.slow
def test_what_is_not_better_is_not_taken(shop: Store, elsewhere: Path) -> None:
    """Where only the plain score counts, no booster is better than another."""
    found = tried(shop, 2, plain_shares=[1.0])
    assert found.best == 0
    assert found.recipe == churn_recipe(**QUICK, plain_shares=[1.0])
    assert "it is kept" in found.told()[-1]


@pytest.mark.slow
def test_another_seed_or_recipe_is_another_study(shop: Store, elsewhere: Path) -> None:
    first = outcome(tried(shop, 1))
    assert outcome(tried(shop, 1, seed=2))[1][2] != first[1][2]
    assert outcome(tried(shop, 1, rounds=9))[0][3] != first[0][3]


@pytest.mark.slow
def test_the_backtest_stays_unseen(shop: Store, whole: Search) -> None:
    run = train_churn(shop, as_of=AS_OF, horizon=DAYS, lookback=LOOKBACK, recipe=whole.recipe)
    tested = [result.matrix.as_of for result in run.backtest]
    assert len(tested) == 3
    assert whole.until == min(tested)
    assert max(whole.moments) + DAYS * DAY <= whole.until
    assert run.recipe["booster"] == whole.recipe["booster"]


@pytest.mark.slow
def test_nothing_at_or_after_the_backtests_oldest_moment_is_read(whole: Search, elsewhere: Path) -> None:
    log = shop_log()
    log = log[log["ts"].astype("int64") < whole.until]
    store = ingested(log, elsewhere.parent / "store")
    ingested(future_rows(1, whole.until, log), elsewhere.parent / "store")
    found = tried(Store.open(store.path), 3)
    assert outcome(found) == outcome(whole)[:4]


def test_a_short_log_leaves_fewer_moments_to_the_backtest_and_says_so(shop: Store, elsewhere: Path) -> None:
    found = tried(shop, 1, test_moments=14)
    left, wanted = found.tests
    assert 0 < left < wanted
    assert found.recipe["test_moments"] == left
    assert len(found.moments) >= trials.LEAST_MOMENTS
    assert f"too short to search before a backtest of {wanted} moments: it has {left}" in "\n".join(found.told())


def test_mistakes(shop: Store, elsewhere: Path) -> None:
    with pytest.raises(UserError, match="--trials is -1: ask for 1 or more"):
        tried(shop, -1)
    with pytest.raises(UserError, match=r"not enough log before --as-of 2023-10-15 to search on.*leave --trials out"):
        search(shop, as_of=at("2023-10-15"), horizon=DAYS, lookback=LOOKBACK, recipe=churn_recipe(**QUICK), trials=1)
    assert not (elsewhere / trials.FILE).exists()


def children(client: MlflowClient, run: Run) -> list[Run]:
    found = client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{run.info.run_id}'")
    return [child for child in found if child.data.tags["contender"].startswith("trial")]


def test_trials_are_child_runs_and_leave_the_gate_alone(registry: Path, whole: Search, churn_run: ChurnRun) -> None:
    client = tracking.connect()
    version = newest(client, tracking.CHURN)
    before = gate(client, version)
    record_trials(whole, str(version.run_id))
    run = client.get_run(str(version.run_id))
    found = {child.data.tags["contender"][:9]: child for child in children(client, run)}
    assert sorted(found) == [f"trial {number:03}" for number in range(TRIALS + 1)]
    for number, trial in enumerate(whole.trials):
        child = found[f"trial {number:03}"]
        pruned = trial.state == TrialState.PRUNED
        assert child.info.status == ("KILLED" if pruned else "FINISHED")
        assert child.data.tags["state"] == ("pruned" if pruned else "complete")
        assert child.data.tags["taken"] == str(number == whole.best).lower()
        history = client.get_metric_history(child.info.run_id, trials.AUC)
        assert [point.value for point in sorted(history, key=lambda p: p.step)] == trial.user_attrs["auc"]
        assert child.data.params["rounds"] == str(whole.recipes[number]["rounds"])
        assert child.data.params["booster.num_leaves"] == str(whole.recipes[number]["booster"]["num_leaves"])
        assert child.data.params["as of"] == show(whole.until)
    assert run.data.metrics[trials.AUC] == whole.auc(whole.best)
    assert run.data.params["trials"] == str(TRIALS)
    assert gate(client, version) == before
