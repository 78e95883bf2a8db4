"""What a run leaves in MLflow: a parent run with the model, a child run a contender, and a registered version."""

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.sources import LocalArtifactDatasetSource  # type: ignore[attr-defined]
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from features.events.columns import DAY

CHURN, CROSS_SELL = "ebbtide-churn", "ebbtide-cross-sell"
CHALLENGER = "challenger"  # the alias of the newest version, until it becomes champion
MOST_AT_ONCE = 1_000  # metrics that MLflow takes in one request
Figures = Mapping[int, Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True)
class Evidence:
    """What is told of a trained model.

    Attributes:
        name: registered model name, also the experiment's.
        contender: the model's name among the contenders of `figures`.
        figures: moment (µs) → contender → metric → value.
        main: metrics that decide, higher is better.
        bounds: moment (µs) → contender → metric → value: of each moment like `figures`, but without a mean.
        summary: contender → metric → value, over all moments.
        tables, pages: file name → table, HTML.
        verdict: what a reviewer reads first.
        bundle: folder of the written bundle.
    """

    name: str
    contender: str
    as_of: int
    params: Mapping[str, Any]
    figures: Figures
    main: tuple[str, ...]
    plots: Mapping[str, Figure]
    bundle: Path
    store: Path
    data_digest: str
    signature: ModelSignature
    bounds: Figures = field(default_factory=dict)
    summary: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    tables: Mapping[str, pa.Table] = field(default_factory=dict)
    pages: Mapping[str, str] = field(default_factory=dict)
    verdict: str = ""

    def means(self) -> dict[str, dict[str, float]]:
        """Contender → metric → mean over the moments at which it has the metric."""
        out: dict[str, dict[str, list[float]]] = {}
        for contenders in self.figures.values():
            for contender, metrics in contenders.items():
                for metric, value in metrics.items():
                    out.setdefault(contender, {}).setdefault(metric, []).append(value)
        return {name: {m: float(np.mean(v)) for m, v in metrics.items()} for name, metrics in out.items()}


@dataclass(frozen=True)
class Tracked:
    """Where a run went."""

    run_id: str
    name: str
    version: str


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, else the SQLite store under `mlruns/` of the working folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _default_uri()


def _default_uri() -> str:
    return f"sqlite:///{Path('mlruns').resolve() / 'mlflow.db'}"


def connect() -> MlflowClient:
    """Point MLflow at the tracking store, creating the default one if need be."""
    uri = tracking_uri()
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    if uri.startswith("sqlite:///"):
        _create(Path(uri.removeprefix("sqlite:///")))
    mlflow.set_tracking_uri(uri)
    return MlflowClient()


def _create(database: Path) -> None:
    """Make MLflow's tables beside and give the file its name when they are whole: it cannot read half of them."""
    if database.exists():
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    beside = database.with_name(f".{database.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    MlflowClient(f"sqlite:///{beside}").search_experiments()
    with suppress(FileExistsError):  # another process was quicker
        os.link(beside, database)
    beside.unlink()


def _experiment(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    location = Path("mlruns", "artifacts", name).resolve().as_uri() if tracking_uri() == _default_uri() else None
    kind = {"mlflow.experimentKind": "custom_model_development"}  # the UI then opens on runs, not on chats and prompts
    return str(client.create_experiment(name, artifact_location=location, tags=kind))


def track(evidence: Evidence) -> Tracked:
    """Log a run and register its model; the version appears only when all else is in place."""
    client = connect()
    experiment = _experiment(client, evidence.name)
    means = evidence.means()
    title = f"{evidence.params['horizon']} days as of {_day(evidence.as_of)}"
    tags = {"contender": evidence.contender, "mlflow.note.content": _note(evidence, means)}
    with _run(experiment, title, tags) as run_id:
        _log_params(client, run_id, evidence, evidence.params)
        _log_figures(client, run_id, evidence, evidence.contender, means)
        _log_margins(client, run_id, evidence, means)
        mlflow.log_input(_dataset(evidence), context="training")
        for file, text in evidence.pages.items():
            mlflow.log_text(text, file)
        for file, figure in evidence.plots.items():
            mlflow.log_figure(figure, f"plots/{file}")
        with scratch() as folder:
            for file, table in evidence.tables.items():
                pq.write_table(table, folder / file)
                mlflow.log_artifact(str(folder / file))
        for number, contender in enumerate([evidence.contender, *(n for n in means if n != evidence.contender)]):
            with _run(experiment, f"{number} {contender}", {"contender": contender}, nested=True) as child:
                _log_params(client, child, evidence, {"contender": contender})
                _log_figures(client, child, evidence, contender, means)
                mlflow.log_input(_dataset(evidence), context="evaluation")
        info = _log_model(evidence)
    client.set_registered_model_alias(evidence.name, CHALLENGER, str(info.registered_model_version))
    return Tracked(run_id, evidence.name, str(info.registered_model_version))


def _log_model(evidence: Evidence) -> Any:
    with warnings.catch_warnings():
        # The signature is given; an input example would only make MLflow load the model once more, for ten seconds.
        warnings.filterwarnings("ignore", message=".*input example.*")
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={"bundle": str(evidence.bundle)},
            signature=evidence.signature,
            pip_requirements=[f"{name}=={version(name)}" for name in ("lightgbm", "numpy", "pandas", "pyarrow")],
            registered_model_name=evidence.name,
        )


@contextmanager
def _run(experiment: str, name: str, tags: Mapping[str, str], nested: bool = False) -> Iterator[str]:
    with mlflow.start_run(experiment_id=experiment, run_name=name, nested=nested, tags=dict(tags)) as run:
        yield str(run.info.run_id)


COMMON_PARAMS = ("as of", "data digest", "horizon", "test moments")  # what makes contenders comparable


def _log_params(client: MlflowClient, run_id: str, evidence: Evidence, own: Mapping[str, Any]) -> None:
    values = {key: evidence.params[key] for key in COMMON_PARAMS} | dict(own)
    params = [Param(key, str(value)) for key, value in sorted(values.items())]
    client.log_batch(run_id, params=params, tags=[RunTag("data digest", evidence.data_digest)])


def _log_figures(
    client: MlflowClient, run_id: str, evidence: Evidence, contender: str, means: Mapping[str, Mapping[str, float]]
) -> None:
    """Each metric once a moment (step: days from the moment of training, below 0), its mean over moments, and what
    sums them up."""
    metrics = [
        Metric(name, value, moment // 1_000, (moment - evidence.as_of) // DAY)
        for figures in (evidence.figures, evidence.bounds)
        for moment in sorted(figures)
        for name, value in figures[moment].get(contender, {}).items()
    ]
    whole = {f"{name}_mean": value for name, value in means[contender].items()}
    whole |= evidence.summary.get(contender, {})
    metrics += [Metric(name, value, evidence.as_of // 1_000, 0) for name, value in whole.items()]
    for start in range(0, len(metrics), MOST_AT_ONCE):
        client.log_batch(run_id, metrics=metrics[start : start + MOST_AT_ONCE])


def _log_margins(
    client: MlflowClient, run_id: str, evidence: Evidence, means: Mapping[str, Mapping[str, float]]
) -> None:
    ours = means[evidence.contender]
    metrics = [
        Metric(f"{main}_over_{other}", ours[main] - theirs[main], evidence.as_of // 1_000, 0)
        for main in evidence.main
        for other, theirs in means.items()
        if other != evidence.contender and main in theirs
    ]
    client.log_batch(run_id, metrics=metrics)


def _note(evidence: Evidence, means: Mapping[str, Mapping[str, float]]) -> str:
    """What a reviewer reads first: the contenders by the metrics that decide, worst margin included."""
    head = ["contender", *(f"{main}, mean" for main in evidence.main), *(f"{main}, worst" for main in evidence.main)]
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    for contender, metrics in means.items():
        seen = [
            [m[contender][main] for m in evidence.figures.values() if main in m[contender]] for main in evidence.main
        ]
        cells = [*(f"{metrics[main]:.4f}" for main in evidence.main), *(f"{min(values):.4f}" for values in seen)]
        lines.append(f"| {contender} | {' | '.join(cells)} |")
    moments = ", ".join(_day(moment) for moment in sorted(evidence.figures))
    first = f"{evidence.verdict}\n\n" if evidence.verdict else ""
    return (
        f"{first}Backtest at {moments}: each model was fitted on earlier events only. Data: "
        f"`{evidence.store.name}` before {_day(evidence.as_of)}, digest `{evidence.data_digest}`.\n\n"
        + "\n".join(lines)
        + "\n\nPer moment: *Model metrics* (step = days from the moment of training). "
        + f"{_pages(evidence)}Pictures: *Artifacts*, `plots/`. Contenders: the child runs."
    )


def _pages(evidence: Evidence) -> str:
    return "".join(f"All on one page: *Artifacts*, `{file}`. " for file in evidence.pages)


def _dataset(evidence: Evidence) -> MetaDataset:
    source = LocalArtifactDatasetSource(str(evidence.store))
    return MetaDataset(  # type: ignore[abstract]
        source, name=f"{evidence.store.name} before {_day(evidence.as_of)}", digest=evidence.data_digest
    )


def _day(instant: int) -> str:
    return f"{datetime.fromtimestamp(instant / 1e6, UTC):%Y-%m-%d}"


def churn_signature(names: list[str]) -> ModelSignature:
    """One float column a signal in, the probability out."""
    inputs = Schema([ColSpec("float", name, required=False) for name in names])
    return ModelSignature(inputs, Schema([ColSpec("double", "churn_probability")]))


def cross_sell_signature() -> ModelSignature:
    """Purchase lines in (of any users), a ranked list a user out."""
    inputs = Schema([ColSpec("string", "user_id"), ColSpec("string", "item_id"), ColSpec("datetime", "ts")])
    columns = {"user_id": "string", "rank": "long", "item_id": "string", "score": "double", "head": "string"}
    return ModelSignature(inputs, Schema([ColSpec(kind, name) for name, kind in columns.items()]))


def run_of(client: MlflowClient, version: ModelVersion) -> Run:
    """The run that a registered version came from."""
    assert version.run_id is not None
    return client.get_run(version.run_id)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for what is logged and not kept."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
