"""Which registered version serves: champion, challenger, gate and rollback, kept as MLflow aliases and tags."""

import getpass
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from features.errors import UserError
from training.tracking import CHURN, CROSS_SELL, connect, run_of

CHAMPION = "champion"
NOT_THERE = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}  # no such model; no such alias of a model
MAIN = {CHURN: ("auc",), CROSS_SELL: ("all_recall_at_20", "cross_sell_recall_at_20")}


@dataclass(frozen=True)
class Verdict:
    """Whether a version may serve, and why."""

    name: str
    version: str
    passed: bool
    reason: str


def newest(client: MlflowClient, name: str) -> ModelVersion:
    """The newest version of a registered model."""
    found = client.search_model_versions(f"name='{name}'")
    if not found:
        raise UserError(
            f"no version of {name} is registered: run `ebbtide train {name.removeprefix('ebbtide-')}` first"
        )
    return max(found, key=lambda v: int(v.version))


def champion(client: MlflowClient, name: str) -> ModelVersion | None:
    """The version that serves, if any."""
    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code not in NOT_THERE:  # a store that cannot be read is not one without a champion
            raise
        return None


def gate(client: MlflowClient, challenger: ModelVersion) -> Verdict:
    """A version passes if it beats every baseline of its own backtest and is no worse than the champion.

    Two versions backtested at the same moments on the same data are compared by the mean of each main metric; otherwise
    by its margin over their own best baseline, since moments differ in difficulty. A champion of another horizon
    answers another question: only the baselines are asked then.
    """
    name = str(challenger.name)
    main = MAIN[name]
    ours, baselines = _means(client, challenger)
    for metric in main:
        for baseline, theirs in baselines.items():
            if metric in theirs and not ours[metric] > theirs[metric]:  # not a number is no win
                reason = f"{metric} {ours[metric]:.4f} does not beat {baseline} ({theirs[metric]:.4f})"
                return Verdict(name, str(challenger.version), False, reason)
    margins = ", ".join(f"{metric} {ours[metric]:.4f} ({_margin(ours, baselines, metric):+.4f})" for metric in main)
    won = f"beats every baseline: {margins} over the best of them"
    present = champion(client, name)
    if present is None or present.version == challenger.version:
        return Verdict(name, str(challenger.version), True, won)
    if not _alike(client, challenger, present, "horizon"):
        return Verdict(name, str(challenger.version), True, f"{won}; champion {present.version} has another horizon")
    theirs, their_baselines = _means(client, present)
    same = _alike(client, challenger, present, "data digest", "test moments", "lookback")
    for metric in main:
        a, b = ours[metric], theirs[metric]
        if not same:
            a, b = _margin(ours, baselines, metric), _margin(theirs, their_baselines, metric)
        if not a >= b:
            what = metric if same else f"{metric} margin over the best baseline (they were tested at other moments)"
            reason = f"{what} {a:.4f} is worse than that of champion {present.version} ({b:.4f})"
            return Verdict(name, str(challenger.version), False, reason)
    return Verdict(name, str(challenger.version), True, f"{won}; no worse than champion {present.version}")


def promote(name: str, version: str | None = None) -> Verdict:
    """Make a version (by default the newest) champion if it passes the gate; tagged with the verdict either way."""
    client = connect()
    challenger = newest(client, name) if version is None else _version(client, name, version)
    verdict = gate(client, challenger)
    present = champion(client, name)
    _tag(client, challenger, "gate", f"{'passed' if verdict.passed else 'failed'}: {verdict.reason}")
    if verdict.passed and (present is None or present.version != challenger.version):
        if present is not None:
            client.set_model_version_tag(name, challenger.version, "replaced", present.version)
        client.set_registered_model_alias(name, CHAMPION, challenger.version)
    return verdict


def rollback(name: str) -> tuple[str, str]:
    """Make the version that the champion replaced champion again; gives both versions, old and new."""
    client = connect()
    present = champion(client, name)
    before = present.tags.get("replaced") if present is not None else None
    if present is None or before is None:
        raise UserError(f"{name} has no earlier champion to go back to; `ebbtide runs` lists its versions")
    _tag(client, present, "rollback", f"champion again: {before}")
    client.set_registered_model_alias(name, CHAMPION, before)
    return str(present.version), str(before)


def bundle_of(version: ModelVersion) -> Path:
    """The bundle inside a registered version, fetched if it is kept elsewhere."""
    folder = mlflow.artifacts.download_artifacts(f"models:/{version.name}/{version.version}")
    return next(path for path in Path(folder, "artifacts").iterdir() if (path / "manifest.json").is_file())


def resolve(name: str, uri: str | None) -> tuple[ModelVersion, str]:
    """The version that a model URI (`models:/NAME/7`, `models:/NAME@champion`) names, and how it was chosen.

    Without one: the champion, else the newest version.
    """
    client = connect()
    if uri is None:
        found = champion(client, name)
        return (found, "the champion") if found else (newest(client, name), "the newest version, there is no champion")
    text = uri.removeprefix("models:/")
    try:
        if "@" in text:
            return client.get_model_version_by_alias(*text.split("@", 1)), uri
        model, number = text.rsplit("/", 1)
        return client.get_model_version(model, number), uri
    except (MlflowException, ValueError, TypeError) as error:
        raise UserError(f"no model {uri}: write models:/{name}/VERSION or models:/{name}@champion") from error


def _version(client: MlflowClient, name: str, version: str) -> ModelVersion:
    try:
        return client.get_model_version(name, version)
    except MlflowException as error:
        raise UserError(f"{name} has no version {version}; `ebbtide runs` lists them") from error


def _children(client: MlflowClient, run: Run) -> list[Run]:
    query = f"tags.mlflow.parentRunId = '{run.info.run_id}'"
    return list(client.search_runs([run.info.experiment_id], query))


def _means(client: MlflowClient, version: ModelVersion) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Mean metrics over the backtest: the model's own, and each baseline's."""
    run = run_of(client, version)
    means = {child.data.tags["contender"]: _mean_metrics(child) for child in _children(client, run)}
    return means.pop(run.data.tags["contender"]), means


def _mean_metrics(run: Run) -> dict[str, float]:
    return {key.removesuffix("_mean"): value for key, value in run.data.metrics.items() if key.endswith("_mean")}


def _margin(ours: Mapping[str, float], baselines: Mapping[str, Mapping[str, float]], metric: str) -> float:
    return ours[metric] - max(theirs[metric] for theirs in baselines.values() if metric in theirs)


def _alike(client: MlflowClient, a: ModelVersion, b: ModelVersion, *params: str) -> bool:
    one, other = run_of(client, a).data.params, run_of(client, b).data.params
    return all(one.get(key) == other.get(key) for key in params)


def _tag(client: MlflowClient, version: ModelVersion, key: str, text: str) -> None:
    when = datetime.fromtimestamp(time.time(), UTC)
    client.set_model_version_tag(
        version.name, version.version, key, f"{text} ({when:%Y-%m-%d %H:%M}Z, {getpass.getuser()})"
    )
