"""Who becomes champion: the gate, its reasons and tags, rollback. Runs with figures made up for the purpose."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from features.errors import UserError
from features.events.store import Store
from models.bundle import open_bundle
from models.churn import load
from tests.shop import AS_OF, bundle_of, churn_recipe, trained_churn
from training import offers, paired, promotion, tracking
from training.churn import ChurnRun
from training.promotion import champion, promote, rollback
from training.record import record_churn
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
        assert version.tags["gate"].startswith(f"passed: {verdict.reason}")


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


def test_the_newest_version_is_the_challenger_until_it_is_champion(made: Registry) -> None:
    def aliases() -> dict[str, str]:
        found = made.client.get_registered_model(CHURN).aliases
        return {alias: str(version) for alias, version in found.items()}

    first = made.churn(0.8).version
    assert aliases() == {"challenger": first}
    assert promote(CHURN).passed
    assert aliases() == {"champion": first}
    worse = made.churn(0.7).version
    assert not promote(CHURN).passed
    assert aliases() == {"champion": first, "challenger": worse}


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


# ------------------------------------------------------------------- runs that kept the scores of their backtest


def scores(skill: float, seed: int = 0, moments: Sequence[int] = (AS_OF,), users: int = 1_500) -> pa.Table:
    """A backtest of the same users every time: `ours` and `recency` know so much, and 0.3, of who leaves."""
    parts = []
    for moment in moments:
        truth = np.random.default_rng(moment % 1_000 + 1)
        churned = truth.random(users) < 0.4
        recency = 0.3 * churned + truth.normal(size=users)
        ours = skill * churned + np.random.default_rng((seed, moment % 1_000)).normal(size=users)
        columns = {"ours": ours, "recency": recency}
        parts.append(
            pa.table(
                {
                    paired.MOMENT: np.full(users, moment, np.int64),
                    paired.USER: np.arange(users, dtype=np.uint64),
                    paired.CHURNED: churned,
                    **columns,
                }
            )
        )
    return pa.concat_tables(parts)


def kept(made: Registry, table: pa.Table, folder: Path, **more: Any) -> Tracked:
    """A version whose run kept a backtest's scores, beside figures that would win by themselves."""
    tracked = made.churn(0.9, **more)
    pq.write_table(table, folder / paired.FILE)
    made.client.log_artifact(tracked.run_id, str(folder / paired.FILE))
    return tracked


def test_a_better_challenger_replaces_the_champion_and_says_by_how_much(made: Registry, tmp_path: Path) -> None:
    first = kept(made, scores(1.0), tmp_path)
    verdict = promote(CHURN)
    assert verdict.passed
    assert verdict.reason.startswith("beats every baseline: auc 0.7")
    assert "over recency" in verdict.reason
    better = kept(made, scores(1.6, seed=1), tmp_path)
    verdict = promote(CHURN)
    assert verdict.passed
    assert f"no worse than champion {first.version}" in verdict.reason
    assert "on the same 1,500 users, 1 moment" in verdict.reason
    assert made.champion() == better.version


def test_a_challenger_worse_beyond_chance_is_refused_and_the_champion_keeps_serving(
    made: Registry, tmp_path: Path
) -> None:
    first = kept(made, scores(1.6), tmp_path)
    assert promote(CHURN).passed
    worse = kept(made, scores(1.0, seed=1), tmp_path)
    verdict = promote(CHURN)
    assert not verdict.passed
    assert f"is worse than that of champion {first.version} (0.8" in verdict.reason
    assert made.tag(worse).startswith(f"failed: {verdict.reason}")
    assert made.champion() == first.version
    assert str(promotion.resolve(CHURN, None)[0].version) == first.version


def test_worse_by_chance_only_is_no_reason_to_refuse(made: Registry, tmp_path: Path) -> None:
    """Equal skill with other noise: one of the two is ahead, and neither is refused."""
    one, other = kept(made, scores(1.0, seed=1), tmp_path), kept(made, scores(1.0, seed=2), tmp_path)
    for version in (one, other, one):
        assert promote(CHURN, version.version).passed
        assert made.champion() == version.version


def test_a_model_that_loses_to_a_baseline_beyond_chance_is_refused(made: Registry, tmp_path: Path) -> None:
    kept(made, scores(0.0), tmp_path)
    verdict = promote(CHURN)
    assert not verdict.passed
    assert "does not beat recency (0.6" in verdict.reason
    assert "over 1,500 users" in verdict.reason
    assert made.champion() is None


def test_only_shared_moments_are_compared(made: Registry, tmp_path: Path) -> None:
    """The champion shone at a moment that the challenger was not tested at; at the shared one it is the worse."""
    easy = scores(3.0, moments=[AS_OF - 7])
    kept(made, pa.concat_tables([easy, scores(1.0)]), tmp_path)
    assert promote(CHURN).passed
    kept(made, scores(1.6, seed=1), tmp_path)
    verdict = promote(CHURN)
    assert verdict.passed
    assert "users, 1 moment" in verdict.reason


def test_without_shared_moments_the_margins_decide(made: Registry, tmp_path: Path) -> None:
    kept(made, scores(1.0), tmp_path)
    assert promote(CHURN).passed
    kept(made, scores(1.0, moments=[AS_OF - 7]), tmp_path, best=0.8, moment=AS_OF - 7)
    verdict = promote(CHURN)
    assert not verdict.passed
    assert "auc margin over the best baseline (they were tested at other moments) 0.1000 is worse" in verdict.reason


def test_other_data_is_told(made: Registry, tmp_path: Path) -> None:
    kept(made, scores(1.0), tmp_path)
    assert promote(CHURN).passed
    kept(made, scores(1.0, seed=1), tmp_path, digest="other data")
    assert promote(CHURN).reason.endswith("their data differ by digest")


# --------------------------------------------------------------- recommenders: recall@20 of two aims, user by user


def recalls(all_of: float, new: float, seed: int = 0, moments: Sequence[int] = (AS_OF,), users: int = 800) -> pa.Table:
    """A backtest of the same users every time: `ours` finds so much more than `blend` of what each user wants."""
    parts = []
    for moment in moments:
        for aim, ahead in (("all", all_of), ("new", new)):
            blend = np.random.default_rng((moment % 1_000, len(aim))).beta(2, 5, users)
            ours = blend + ahead + np.random.default_rng((seed, moment % 1_000)).normal(0, 0.05, users)
            columns = {f"recall: {name}": values for name, values in (("ours", ours), ("blend", blend))}
            parts.append(
                pa.table(
                    {
                        paired.MOMENT: np.full(users, moment, np.int64),
                        offers.AIM: [aim] * users,
                        paired.USER: np.arange(users, dtype=np.uint64),
                        **columns,
                        "recall: without repeat": np.ones(users),  # no contender
                    }
                )
            )
    return pa.concat_tables(parts)


def kept_recalls(made: Registry, table: pa.Table, folder: Path, **more: Any) -> Tracked:
    """A recommender whose run kept its figures by user, beside means that would win by themselves."""
    all_of, new = promotion.MAIN[CROSS_SELL]
    figures = {"ours": {all_of: 0.9, new: 0.9}, "blend": {all_of: 0.1, new: 0.1}}
    tracked = made.add(figures, name=CROSS_SELL, **more)
    pq.write_table(table, folder / offers.FILE)
    made.client.log_artifact(tracked.run_id, str(folder / offers.FILE))
    return tracked


@pytest.mark.parametrize(("all_of", "new", "lost"), [(-0.02, 0.05, "all"), (0.05, -0.02, "new")])
def test_a_recommender_must_hold_in_both_aims(
    made: Registry, tmp_path: Path, all_of: float, new: float, lost: str
) -> None:
    kept_recalls(made, recalls(all_of, new), tmp_path)
    verdict = promote(CROSS_SELL)
    assert not verdict.passed
    assert verdict.reason.startswith(f"{lost}_recall_at_20 0.2")
    assert "does not beat blend" in verdict.reason
    assert "over 800 users" in verdict.reason


def test_a_better_recommender_replaces_the_champion_and_says_by_how_much(made: Registry, tmp_path: Path) -> None:
    first = kept_recalls(made, recalls(0.02, 0.02), tmp_path)
    verdict = promote(CROSS_SELL)
    assert verdict.passed
    assert verdict.reason.startswith("beats every baseline: all_recall_at_20 0.3")
    assert "; beats every baseline: new_recall_at_20 0.3" in verdict.reason
    kept_recalls(made, recalls(0.04, 0.02, seed=1), tmp_path)
    verdict = promote(CROSS_SELL)
    assert verdict.passed
    assert verdict.reason.count(f"no worse than champion {first.version}") == 2
    assert "on the same 800 users, 1 moment" in verdict.reason


def test_a_recommender_worse_than_the_champion_in_one_aim_is_refused(made: Registry, tmp_path: Path) -> None:
    first = kept_recalls(made, recalls(0.05, 0.05), tmp_path)
    assert promote(CROSS_SELL).passed
    worse = kept_recalls(made, recalls(0.08, 0.03, seed=1), tmp_path)
    verdict = promote(CROSS_SELL)
    assert not verdict.passed
    assert f"is worse than that of champion {first.version}" in verdict.reason
    assert verdict.reason.startswith("new_recall_at_20")
    assert made.champion(CROSS_SELL) == first.version != worse.version


def test_a_recommender_worse_by_chance_only_may_serve(made: Registry, tmp_path: Path) -> None:
    one, other = (kept_recalls(made, recalls(0.05, 0.05, seed=seed), tmp_path) for seed in (1, 2))
    for version in (one, other, one):
        assert promote(CROSS_SELL, version.version).passed
        assert made.champion(CROSS_SELL) == version.version


def test_recommenders_are_compared_at_shared_moments_only(made: Registry, tmp_path: Path) -> None:
    easy = recalls(0.4, 0.4, moments=[AS_OF - 7])
    kept_recalls(made, pa.concat_tables([easy, recalls(0.02, 0.02)]), tmp_path)
    assert promote(CROSS_SELL).passed
    kept_recalls(made, recalls(0.04, 0.04, seed=1), tmp_path)
    verdict = promote(CROSS_SELL)
    assert verdict.passed
    assert "users, 1 moment" in verdict.reason


def test_a_model_trained_badly_on_purpose_is_refused(
    client: MlflowClient, shop: Store, churn_run: ChurnRun, registry: Path
) -> None:
    """Real runs: a booster of one tree with a single split against the model of the shop, which goes on serving."""
    assert promote(CHURN, "1").passed
    bad = trained_churn(shop, rounds=1, booster={**churn_recipe()["booster"], "num_leaves": 2, "learning_rate": 0.01})
    tracked = record_churn(bad, shop)
    verdict = promote(CHURN)
    assert not verdict.passed
    assert verdict.version == tracked.version
    assert "auc" in verdict.reason
    version, chosen = promotion.resolve(CHURN, None)
    assert (str(version.version), chosen) == ("1", "the champion")
    assert load(open_bundle(promotion.bundle_of(version))).booster_text == churn_run.model.booster_text
