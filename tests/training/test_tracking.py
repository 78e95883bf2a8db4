"""What a run leaves in MLflow, and that the registered model answers as the model that was trained."""

import json
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from features.engines.local import matrices
from features.errors import UserError
from features.events.store import Store
from models.bundle import open_bundle
from models.recommender import AIMS, History
from models.recommender.history import PURCHASE
from tests.features.support import DAY_US, as_micros
from tests.shop import AS_OF, HORIZON, LOOKBACK, shop_log
from training import tracking
from training.backtest import show
from training.churn import ChurnRun, select
from training.cross_sell import BLEND, MODEL, CrossSellRun
from training.promotion import bundle_of, resolve

PICKLES = {".pkl", ".pickle", ".joblib", ".cloudpickle", ".dill"}
CHURN_PLOTS = {"auc_by_moment", "calibration", "importance", "level", "lift", "precision_recall", "profit"}


@pytest.fixture
def client(registry: Path) -> MlflowClient:
    return tracking.connect()


def parent(client: MlflowClient, name: str) -> Run:
    return client.get_run(str(client.get_model_version(name, "1").run_id))


def children(client: MlflowClient, run: Run) -> dict[str, Run]:
    found = client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{run.info.run_id}'")
    return {child.data.tags["contender"]: child for child in found}


def paths(client: MlflowClient, run_id: str, folder: str | None = None) -> list[str]:
    found = []
    for entry in client.list_artifacts(run_id, folder):
        found += paths(client, run_id, entry.path) if entry.is_dir else [entry.path]
    return found


def by_step(client: MlflowClient, run: Run, metric: str) -> dict[int, float]:
    return {point.step: point.value for point in client.get_metric_history(run.info.run_id, metric)}


def test_a_run_has_a_child_a_contender_with_every_figure(client: MlflowClient, churn_run: ChurnRun) -> None:
    run = parent(client, tracking.CHURN)
    found = children(client, run)
    assert set(found) == {"churn-model", *churn_run.baselines}
    assert {child.info.status for child in [run, *found.values()]} == {"FINISHED"}
    steps = {(result.matrix.as_of - AS_OF) // DAY_US: result for result in churn_run.backtest}
    assert len(steps) == 2
    for name, child in {**found, "churn-model": run}.items():
        for figure in churn_run.backtest[0].figures[name]:
            assert by_step(client, child, figure) == {s: result.figures[name][figure] for s, result in steps.items()}
            assert child.data.metrics[f"{figure}_mean"] == pytest.approx(churn_run.mean(name, figure))
        assert by_step(client, child, "auc_low").keys() == steps.keys()
        assert child.data.metrics["auc_mean_low"] <= child.data.metrics["auc_mean"]
        assert child.data.metrics["auc_mean"] <= child.data.metrics["auc_mean_high"]
        assert child.data.metrics["segment_active_users"] > 0
    assert "auc_low_mean" not in run.data.metrics
    best = max(churn_run.mean(name, "auc") for name in churn_run.baselines)
    margins = [run.data.metrics[f"auc_over_{name}"] for name in churn_run.baselines]
    for name, margin in zip(churn_run.baselines, margins, strict=True):
        low, high, worst = (run.data.metrics[f"auc_over_{name}_{side}"] for side in ("low", "high", "worst"))
        assert low < margin < high
        assert worst <= margin
    assert min(margins) == pytest.approx(churn_run.mean("churn-model", "auc") - best)


def test_params_and_data_say_how_to_make_it_again(client: MlflowClient, shop: Store, churn_run: ChurnRun) -> None:
    run = parent(client, tracking.CHURN)
    wanted = {"horizon": HORIZON, "lookback": LOOKBACK, "as of": show(AS_OF), "seed": 1, "rounds": 40}
    wanted |= {"booster.num_leaves": 15, "data digest": shop.digest(AS_OF), "training rows": churn_run.rows}
    assert {key: run.data.params[key] for key in wanted} == {key: str(value) for key, value in wanted.items()}
    for one in (run, *children(client, run).values()):
        assert one.inputs is not None
        (used,) = one.inputs.dataset_inputs
        assert used.dataset.digest == shop.digest(AS_OF)
        assert str(shop.path) in used.dataset.source


def test_the_note_begins_with_the_verdict(client: MlflowClient) -> None:
    note = parent(client, tracking.CHURN).data.tags["mlflow.note.content"]
    assert note.startswith("The model ")
    assert "mean AUC" in note.splitlines()[0]
    assert "`report.html`" in note


def test_plots_are_there(client: MlflowClient) -> None:
    churn = [Path(path) for path in paths(client, parent(client, tracking.CHURN).info.run_id) if "plots" in path]
    assert all(any(word in path.name for path in churn) for word in CHURN_PLOTS)
    lists = paths(client, parent(client, tracking.CROSS_SELL).info.run_id)
    assert "plots/recall_by_head.png" in lists
    folder = Path(client.download_artifacts(parent(client, tracking.CHURN).info.run_id, "plots"))
    for plot in folder.iterdir():
        assert plot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("name", [tracking.CHURN, tracking.CROSS_SELL])
def test_no_pickle_is_among_the_files(client: MlflowClient, name: str, tell: Callable[..., None]) -> None:
    version = client.get_model_version(name, "1")
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version.version}"))
    files = [path for path in folder.rglob("*") if path.is_file()]
    files += [Path(path) for path in paths(client, str(version.run_id))]
    assert [path for path in files if path.suffix in PICKLES or "pickle" in path.name] == []
    allowed = {".txt", ".npy", ".npz", ".parquet", ".html", ".json", ".py", ".yaml", ".yml", ".png", ".pyc", ""}
    assert {path.suffix for path in files} <= allowed
    for path in files:
        if path.is_absolute() and path.suffix in (".npy", ".txt", ""):
            assert path.read_bytes()[:1] != b"\x80"  # the first byte of a pickle
        if path.is_absolute() and path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                assert all(arrays[key].dtype != object for key in arrays)
    assert "python_model.pkl" not in json.dumps([str(path) for path in files])
    tell(files=len(files))


def test_the_bundle_in_the_registry_is_the_one_trained(
    client: MlflowClient, churn_run: ChurnRun, cross_sell_run: CrossSellRun, shop: Store
) -> None:
    found = open_bundle(bundle_of(client.get_model_version(tracking.CHURN, "1")))
    assert (found.path / "churn" / "booster.txt").read_text() == churn_run.model.booster_text
    assert found.parts["churn"]["data_digest"] == shop.digest(AS_OF)
    assert found.parts["churn"]["as_of"] == show(AS_OF)
    lists = open_bundle(bundle_of(client.get_model_version(tracking.CROSS_SELL, "1")))
    factors = np.load(lists.path / "cross_sell" / "head.similar_als.item_factors.npy")
    assert (factors == cross_sell_run.model.heads["similar_als"].tables()["item_factors"]).all()
    for aim, ranker in cross_sell_run.model.rankers.items():
        assert (lists.path / "cross_sell" / f"ranker.{aim}.txt").read_text() == ranker.text


def test_pyfunc_scores_as_the_model(client: MlflowClient, shop: Store, churn_run: ChurnRun) -> None:
    loaded = mlflow.pyfunc.load_model(f"models:/{tracking.CHURN}/1")
    signature = loaded.metadata.signature
    assert signature.inputs.input_names() == churn_run.model.names
    assert signature.outputs.input_names() == ["churn_probability"]
    matrix = matrices(shop, [AS_OF], lookback=LOOKBACK)[0]
    expected = churn_run.model.score(select(matrix, churn_run.model))
    frame = matrix.to_pandas()[churn_run.model.names]
    assert (loaded.predict(frame)["churn_probability"].to_numpy() == expected).all()
    # Columns in another order, and more of them, as a reviewer would pass them.
    assert (loaded.predict(matrix.to_pandas().iloc[:, ::-1])["churn_probability"].to_numpy() == expected).all()


def test_pyfunc_recommends_as_the_model(client: MlflowClient, cross_sell_run: CrossSellRun) -> None:
    loaded = mlflow.pyfunc.load_model(f"models:/{tracking.CROSS_SELL}/1")
    log = shop_log()
    bought = log[(log["kind"] == "purchase") & log["user_id"].isin(["u1", "u2", "u7"])]
    lines = bought[["user_id", "item_id", "ts"]].astype({"user_id": str, "item_id": str}).reset_index(drop=True)
    found = loaded.predict(lines)
    model, as_of = cross_sell_run.model, int(as_micros(lines["ts"]).max()) + 1
    for user, part in lines.groupby("user_id"):
        codes, row = model.catalogue.codes(part["item_id"].tolist()), np.zeros(len(part), np.int64)
        history = History.of([str(user)], row, codes, np.full(len(part), PURCHASE, np.uint8), as_micros(part["ts"]))
        (wanted,) = model.recommend(history, as_of)
        mine = found[found["user_id"] == user]
        assert mine["item_id"].tolist() == [model.catalogue.ids[s.item] for s in wanted]
        assert mine["score"].tolist() == [s.score for s in wanted]
        assert mine["rank"].tolist() == list(range(1, len(wanted) + 1))
    assert isinstance(found, pd.DataFrame)


def test_resolve_takes_the_champion_else_the_newest(client: MlflowClient) -> None:
    assert str(resolve(tracking.CHURN, None)[0].version) == "1"
    assert "no champion" in resolve(tracking.CHURN, None)[1]
    client.set_registered_model_alias(tracking.CHURN, "champion", "1")
    assert resolve(tracking.CHURN, None)[1] == "the champion"
    for uri in (f"models:/{tracking.CHURN}/1", f"models:/{tracking.CHURN}@champion"):
        version, chosen = resolve(tracking.CHURN, uri)
        assert (str(version.version), chosen) == ("1", uri)


@pytest.mark.parametrize(
    "uri", ["models:/ebbtide-churn/99", "models:/ebbtide-churn@nobody", "models:/nothing/1", "nonsense", "a/b/c", "@"]
)
def test_a_model_that_is_not_there_is_named(client: MlflowClient, uri: str) -> None:
    with pytest.raises(UserError, match="write models:/ebbtide-churn/VERSION"):
        resolve(tracking.CHURN, uri)


def test_the_default_store_is_made_under_mlruns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert tracking.tracking_uri() == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert tracking.tracking_uri() == "http://127.0.0.1:1"
    assert not (tmp_path / "mlruns").exists()


def test_the_heads_of_a_recommender_are_its_contenders(client: MlflowClient, cross_sell_run: CrossSellRun) -> None:
    run = parent(client, tracking.CROSS_SELL)
    found = children(client, run)
    assert set(found) == {MODEL, BLEND, *cross_sell_run.model.heads}
    steps = {(result.as_of - AS_OF) // DAY_US: result for result in cross_sell_run.backtest}
    assert list(steps) == [-HORIZON]  # days from the moment of training
    for name, child in {**found, MODEL: run}.items():
        for aim, figure in ((aim, figure) for aim in AIMS for figure in ("recall", "ndcg")):
            metric = f"{aim}_{figure}_at_20"
            expected = {step: getattr(result.scores[aim][name], figure) for step, result in steps.items()}
            assert by_step(client, child, metric) == expected
            bounds = [child.data.metrics[f"{metric}_mean{side}"] for side in ("_low", "", "_high")]
            assert bounds == sorted(bounds)


def test_a_recommender_run_tells_margins_groups_worth_and_what_accuracy_leaves_out(
    client: MlflowClient, cross_sell_run: CrossSellRun
) -> None:
    metrics = parent(client, tracking.CROSS_SELL).data.metrics
    for aim in AIMS:
        key = f"{aim}_recall_at_20"
        margin = metrics[f"{key}_over_{BLEND}"]
        assert margin == pytest.approx(metrics[f"{key}_mean"] - metric_of(client, BLEND, f"{key}_mean"))
        assert metrics[f"{key}_over_{BLEND}_low"] <= margin <= metrics[f"{key}_over_{BLEND}_high"]
        heads = cross_sell_run.model.blends[aim].heads
        assert {f"{key}_worth_of_{head}" for head in (*heads, "rules")} <= metrics.keys()
        sizes = [metrics.get(f"{aim}_{group}_users", 0) for group in ("no_order", "cold", "warm", "heavy")]
        assert sum(sizes) == len(cross_sell_run.backtest[0].taught.truth[aim])
        for figure in ("coverage_catalogue", "coverage_sold", "novelty", "popularity_offered"):
            assert metrics[f"{aim}_{figure}"] > 0


def metric_of(client: MlflowClient, contender: str, metric: str) -> float:
    return children(client, parent(client, tracking.CROSS_SELL))[contender].data.metrics[metric]


def test_a_recommender_run_keeps_page_plots_and_figures_by_user(client: MlflowClient) -> None:
    run = parent(client, tracking.CROSS_SELL)
    found = set(paths(client, run.info.run_id))
    plots = {f"plots/{name}.png" for name in ("recall_by_head", "ndcg_by_head", "recall_by_group", "head_worth")}
    assert found >= {"report.html", "offers.parquet", *plots}
    table = pq.read_table(client.download_artifacts(run.info.run_id, "offers.parquet"))
    for aim in AIMS:
        recall = table.filter(pc.field("aim") == aim)[f"recall: {MODEL}"]
        assert run.data.metrics[f"{aim}_recall_at_20_mean"] == pytest.approx(np.mean(recall.to_numpy()))
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith("Everything bought: recall@20 0.")
    assert "`report.html`" in note
