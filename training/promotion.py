"""Which registered version serves: champion, challenger, gate and rollback, kept as MLflow aliases and tags."""

import getpass
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from features.errors import UserError
from training import offers, paired
from training.metrics import auc_of_resamples
from training.paired import Comparison
from training.tracking import CHALLENGER, CHURN, CROSS_SELL, connect, run_of

CHAMPION = "champion"
NOT_THERE = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}  # no such model; no such alias of a model
MAIN = {CHURN: ("auc",), CROSS_SELL: ("all_recall_at_20", "new_recall_at_20")}
FILES = {CHURN: paired.FILE, CROSS_SELL: offers.FILE}  # what a run keeps of its backtest, user by user


def _auc(ours: pa.Table, contender: str, theirs: pa.Table, other: str) -> Comparison | None:
    return paired.compare(ours, contender, theirs, other, auc_of_resamples)


COMPARED: Mapping[str, Callable[[pa.Table, str, pa.Table, str], Comparison | None]] = {
    "auc": _auc,
    "all_recall_at_20": partial(offers.compare, aim="all"),
    "new_recall_at_20": partial(offers.compare, aim="new"),
}
CONTENDERS = {CHURN: paired.contenders, CROSS_SELL: offers.contenders}
NOT_TESTED = {
    "auc": "its backtest has no moment at which some users left and some stayed, or no baseline",
    "all_recall_at_20": "its backtest has no user who bought something, or no baseline",
    "new_recall_at_20": "its backtest has no user who bought something new, or no baseline",
}


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
    return _by_alias(client, name, CHAMPION)


def _by_alias(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code not in NOT_THERE:  # a store that cannot be read is not one without a champion
            raise
        return None


def gate(client: MlflowClient, challenger: ModelVersion) -> Verdict:
    """A version passes if it is worse neither than a baseline of its own backtest nor than the champion: a churn model
    by its AUC, a recommender by its recall@20 in each of both aims.

    Where the runs kept their scores, both are compared on the same users at the same moments, and worse means that the
    95 % interval of the difference, over users, lies below 0. Without scores the means decide: every baseline must be
    beaten, and the champion equalled. A champion that was tested at other moments is compared by the margin over its
    own best baseline, since moments differ in difficulty. A champion of another horizon answers another question: only
    the baselines are asked then.
    """
    passed, reason = _against_baselines(client, challenger)
    present = champion(client, str(challenger.name))
    if passed and present is not None and present.version != challenger.version:
        if _alike(client, challenger, present, "horizon"):
            passed, more = _against_champion(client, challenger, present)
            reason = f"{reason}; {more}" if passed else more
        else:
            reason = f"{reason}; champion {present.version} has another horizon"
    return Verdict(str(challenger.name), str(challenger.version), passed, reason)


def _against_baselines(client: MlflowClient, challenger: ModelVersion) -> tuple[bool, str]:
    """Whether a version holds against every baseline of its own backtest, and how it does."""
    main = MAIN[str(challenger.name)]
    scores = kept_scores(client, challenger)
    if scores is not None:
        contender = _contender(client, challenger)
        others = [name for name in CONTENDERS[str(challenger.name)](scores) if name != contender]
        return _each(main, lambda metric: _by_scores(scores, contender, others, metric))
    ours, baselines = _means(client, challenger)
    for metric in main:
        for baseline, theirs in baselines.items():
            if metric in theirs and not ours[metric] > theirs[metric]:  # not a number is no win
                return False, f"{metric} {ours[metric]:.4f} does not beat {baseline} ({theirs[metric]:.4f})"
    margins = ", ".join(f"{metric} {ours[metric]:.4f} ({_margin(ours, baselines, metric):+.4f})" for metric in main)
    return True, f"beats every baseline: {margins} over the best of them"


def _each(metrics: Sequence[str], asked: Callable[[str], tuple[bool, str]]) -> tuple[bool, str]:
    """Every metric must pass; the first that does not says why."""
    said = []
    for metric in metrics:
        passed, reason = asked(metric)
        if not passed:
            return False, reason
        said.append(reason)
    return True, "; ".join(said)


def _by_scores(scores: pa.Table, contender: str, baselines: Sequence[str], metric: str) -> tuple[bool, str]:
    found = {
        other: compared
        for other in baselines
        if (compared := COMPARED[metric](scores, contender, scores, other)) is not None
    }
    for other, compared in found.items():
        if compared.difference.high < 0:
            figures = f"{metric} {compared.ours:.4f} does not beat {other} ({compared.theirs:.4f})"
            return False, f"{figures}: {compared} over {compared.users:,} users"
    if not found:
        return False, NOT_TESTED[metric]
    best = min(found, key=lambda other: found[other].difference.value)
    how = "beats every baseline" if found[best].difference.value > 0 else "no worse than any baseline beyond chance"
    return True, f"{how}: {metric} {found[best].ours:.4f}, {found[best]} over {best}"


def _against_champion(client: MlflowClient, challenger: ModelVersion, present: ModelVersion) -> tuple[bool, str]:
    """Whether a version holds against the champion, and how it does."""
    named = f"champion {present.version}"
    other_data = "" if _alike(client, challenger, present, "data digest") else "; their data differ by digest"
    scores, their_scores = kept_scores(client, challenger), kept_scores(client, present)
    if scores is not None and their_scores is not None:
        mine, theirs = _contender(client, challenger), _contender(client, present)
        main = MAIN[str(challenger.name)]
        found = {m: COMPARED[m](scores, mine, their_scores, theirs) for m in main}
        known = {metric: compared for metric, compared in found.items() if compared is not None}
        if len(known) == len(main):
            return _each(main, lambda metric: _beside(known[metric], metric, named, other_data))
    return _by_means(client, challenger, present, named, other_data)


def _beside(found: Comparison, metric: str, named: str, other_data: str) -> tuple[bool, str]:
    moments = f"{found.moments} moment{'s' if found.moments > 1 else ''}"
    where = f"{found} on the same {found.users:,} users, {moments}{other_data}"
    if found.difference.high < 0:
        return False, f"{metric} {found.ours:.4f} is worse than that of {named} ({found.theirs:.4f}): {where}"
    return True, f"no worse than {named} ({metric} {found.theirs:.4f}): {where}"


def _by_means(
    client: MlflowClient, challenger: ModelVersion, present: ModelVersion, named: str, other_data: str
) -> tuple[bool, str]:
    (ours, baselines), (theirs, their_baselines) = _means(client, challenger), _means(client, present)
    same = _alike(client, challenger, present, "data digest", "test moments", "lookback")
    for metric in MAIN[str(challenger.name)]:
        a, b = ours[metric], theirs[metric]
        if not same:
            a, b = _margin(ours, baselines, metric), _margin(theirs, their_baselines, metric)
        if not a >= b:
            what = metric if same else f"{metric} margin over the best baseline (they were tested at other moments)"
            return False, f"{what} {a:.4f} is worse than that of {named} ({b:.4f}){other_data}"
    return True, f"no worse than {named}{other_data}"


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
        asks = _by_alias(client, name, CHALLENGER)
        if asks is not None and asks.version == challenger.version:
            client.delete_registered_model_alias(name, CHALLENGER)
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


def _contender(client: MlflowClient, version: ModelVersion) -> str:
    """The model's name among the contenders of its run."""
    return str(run_of(client, version).data.tags["contender"])


def kept_scores(client: MlflowClient, version: ModelVersion) -> pa.Table | None:
    """The scores of a version's backtest (of a recommender: the figures), user by user, if its run kept them."""
    run, file = str(version.run_id), FILES[str(version.name)]
    if not any(entry.path == file for entry in client.list_artifacts(run)):
        return None
    return pq.read_table(client.download_artifacts(run, file))


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
