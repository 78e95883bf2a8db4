"""Who becomes champion: the gate, its reasons and tags, rollback. Runs with figures made up for the purpose."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from features.errors import UserError
from features.events.store import Store
from tests.shop import AS_OF, bundle_of
from training import promotion, tracking
from training.churn import ChurnRun
from training.promotion import champion, promote, rollback
from training.tracking import CHURN, CROSS_SELL, Evidence, Tracked

NAN = float("nan")


@pytest.fixture
def client(registry: Path) -> MlflowClient:
    return tracking.connect()


class Registry:
    """Registers versions that claim to have reached given figures."""

    def __init__(self, client: MlflowClient, bundle: Path, store: Store) -> None:
        self.client, self._bundle, self._store = client, bundle, store

    def add(
        self, main: Mapping[str, Mapping[str, float]], name: str = CHURN, moment: int = AS_OF, digest: str = "d"
    ) -> Tracked:
        """A version; `main`: contender → metric → value, `ours` first."""
        evidence = Evidence(
            name=name,
            contender="ours",
            as_of=moment,
            params={"as of": "x", "data digest": digest, "test moments": str(moment), "horizon": 30},
            figures={moment: main},
            main=promotion.MAIN[name],
            plots={},
            bundle=self._bundle,
            store=self._store.path,
            data_digest=digest,
            signature=tracking.churn_signature(["spend_30d"]),
        )
        return tracking.track(evidence)

    def churn(self, ours: float, best: float = 0.7, **more: Any) -> Tracked:
        """A churn version with its AUC and the better baseline's."""
        figures = {"ours": {"auc": ours}, "recency": {"auc": 0.6}, "rfm-logistic": {"auc": best}}
        return self.add(figures, **more)

    def tag(self, tracked: Tracked, key: str = "gate") -> str:
        return str(self.client.get_model_version(tracked.name, tracked.version).tags.get(key, ""))

    def champion(self, name: str = CHURN) -> str | None:
        found = champion(self.client, name)
        return None if found is None else str(found.version)


@pytest.fixture
def made(client: MlflowClient, churn_run: ChurnRun, shop: Store, tmp_path: Path) -> Registry:
    return Registry(client, bundle_of(tmp_path / "bundles", churn_run.model, None), shop)


def test_the_real_runs_pass_and_are_champions(client: MlflowClient) -> None:
    for name in (CHURN, CROSS_SELL):
        verdict = promote(name)
        assert verdict.passed, verdict.reason
        version = client.get_model_version_by_alias(name, "champion")
        assert str(version.version) == "1"
        assert version.tags["gate"].startswith("passed: beats every baseline")


def test_the_tag_says_when_and_who(made: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    version = made.churn(0.8)
    verdict = promote(CHURN)
    assert made.tag(version).startswith(f"passed: {verdict.reason} (2")
    assert made.tag(version).endswith("Z, ann)")


@pytest.mark.parametrize("ours", [0.65, 0.7, NAN])
def test_who_does_not_beat_every_baseline_is_refused(made: Registry, ours: float) -> None:
    version = made.churn(ours)
    verdict = promote(CHURN)
    assert not verdict.passed
    assert "does not beat rfm-logistic (0.7000)" in verdict.reason
    assert made.champion() is None
    assert made.tag(version).startswith("failed: auc")
    assert made.tag(version, "replaced") == ""


def test_one_lost_main_figure_is_enough(made: Registry) -> None:
    all_of, new = promotion.MAIN[CROSS_SELL]
    figures = {"ours": {all_of: 0.3, new: 0.09}, "popular": {all_of: 0.1, new: 0.1}, "repeat": {all_of: 0.2, new: 0.0}}
    made.add(figures, name=CROSS_SELL)
    verdict = promote(CROSS_SELL)
    assert not verdict.passed
    assert new in verdict.reason
    assert "popular" in verdict.reason


def test_a_worse_challenger_is_refused_and_the_champion_stays(made: Registry) -> None:
    first = made.churn(0.80)
    assert promote(CHURN).passed
    worse = made.churn(0.79)
    verdict = promote(CHURN)
    assert not verdict.passed
    assert verdict.reason == f"auc 0.7900 is worse than that of champion {first.version} (0.8000)"
    assert made.champion() == first.version
    assert made.tag(worse).startswith(f"failed: {verdict.reason}")
    equal = made.churn(0.80)
    assert promote(CHURN).passed
    assert made.champion() == equal.version
    assert made.tag(equal, "replaced") == first.version


def test_other_moments_are_compared_by_the_margin(made: Registry) -> None:
    made.churn(0.80, best=0.70)
    assert promote(CHURN).passed
    made.churn(0.76, best=0.68, moment=AS_OF - 1_000_000)
    verdict = promote(CHURN)
    assert not verdict.passed
    assert "margin over the best baseline" in verdict.reason
    harder = made.churn(0.76, best=0.65, digest="other data")
    assert promote(CHURN).passed
    assert made.champion() == harder.version


def test_a_version_can_be_named(made: Registry) -> None:
    good, bad = made.churn(0.8), made.churn(0.6)
    assert promote(CHURN, good.version).passed
    assert not promote(CHURN, bad.version).passed
    assert made.champion() == good.version
    with pytest.raises(UserError, match="has no version 77"):
        promote(CHURN, "77")


def test_promoting_the_champion_again_changes_nothing(made: Registry) -> None:
    first, second = made.churn(0.8), made.churn(0.81)
    assert promote(CHURN, first.version).passed
    assert promote(CHURN, second.version).passed
    assert promote(CHURN, second.version).passed
    assert made.tag(second, "replaced") == first.version
    assert made.champion() == second.version


def test_rollback_goes_back_step_by_step(made: Registry) -> None:
    versions = [made.churn(0.8 + step / 100).version for step in range(3)]
    for version in versions:
        assert promote(CHURN, version).passed
    assert rollback(CHURN) == (versions[2], versions[1])
    assert rollback(CHURN) == (versions[1], versions[0])
    assert made.champion() == versions[0]
    with pytest.raises(UserError, match="no earlier champion"):
        rollback(CHURN)
    assert "champion again" in made.client.get_model_version(CHURN, versions[2]).tags["rollback"]


def test_nothing_registered_says_what_to_run(tmp_path: Path, registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = tracking.connect()
    client.delete_registered_model(CHURN)
    with pytest.raises(UserError, match="run `ebbtide train churn` first"):
        promote(CHURN)
    assert champion(client, CHURN) is None


def test_a_registry_that_cannot_be_read_is_not_one_without_a_champion(
    made: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a challenger would pass without having been compared."""
    first = made.churn(0.8)
    assert promote(CHURN).passed

    def unreachable(*_: Any) -> None:
        raise MlflowException("no connection")

    monkeypatch.setattr(MlflowClient, "get_model_version_by_alias", unreachable)
    made.churn(0.75)
    with pytest.raises(MlflowException, match="no connection"):
        promote(CHURN)
    monkeypatch.undo()
    assert str(made.client.get_model_version_by_alias(CHURN, "champion").version) == first.version
