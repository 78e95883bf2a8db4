"""`ebbtide train churn --trials N`: says what was taken, shows the trials in MLflow, and is not there unless asked."""

from pathlib import Path

from features.events.store import Store
from tests.cli.conftest import Ebbtide
from training import tracking
from training.promotion import newest
from training.trials import FILE


def test_trials(ebbtide: Ebbtide, shop: Store, registry: Path, recipes: Path) -> None:
    store = ["--store", shop.path, "--as-of", "2024-06-01", "--lookback", 120]
    command = ["train", "churn", *store, "--recipe", recipes / "churn.toml"]
    wrong = ebbtide(*command, "--trials", -1)
    assert wrong.code == 2
    assert (
        wrong.err == "ebbtide: --trials is -1: ask for 1 or more, or leave it out to train with the recipe as it is\n"
    )
    plain = ebbtide(*command)
    assert plain.code == 0, plain.err
    assert not (registry.parent / FILE).exists()
    done = ebbtide(*command, "--trials", 2)
    assert done.code == 0, done.err
    assert "signals for the trials …" in done.out
    assert "2 trials (0 pruned) at 2 moments, 2024-02-02 to 2024-03-03" in done.out
    assert "of the recipe as given; rounds" in done.out or "it is kept" in done.out
    assert "[I " not in done.err  # Optuna's own lines
    assert (registry.parent / FILE).is_file()

    client = tracking.connect()
    run = client.get_run(str(newest(client, tracking.CHURN).run_id))
    of_run = f"tags.mlflow.parentRunId = '{run.info.run_id}' AND tags.contender LIKE 'trial %'"
    children = client.search_runs([run.info.experiment_id], of_run)
    assert len(children) == 3
    (taken,) = (child for child in children if child.data.tags["taken"] == "true")
    for name in ("rounds", "booster.num_leaves", "booster.learning_rate"):
        assert run.data.params[name] == taken.data.params[name]
