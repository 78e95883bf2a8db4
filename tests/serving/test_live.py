"""A newer bundle or store is taken over while requests run, and none fails; a bad one is refused and the old stays."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest

from features.errors import UserError
from features.events.ingest import ingest
from features.events.sources import Source
from models import churn
from models.bundle import deploy, write_bundle
from serving.answers import ENDPOINTS
from serving.guard import Refused
from serving.live import Live
from serving.run import command, serve
from serving.settings import Settings
from tests.features.support import NOW, write_log
from tests.serving.conftest import Shop
from tests.serving.shop import AS_OF, Asking, Server, deploy_bundle, make_bundle, trained_churn

USERS = [{"user_id": "u1"}, {"user_id": "u2"}]


@pytest.fixture
def asking(server: Server) -> Iterator[Callable[[], list[str]]]:
    """Both questions asked without pause beside the test; the call ends that, and gives the bundles that answered."""
    asked = [Asking(server.client.base_url, f"/v1/{path}", {"users": USERS}) for path in ("churn", "recommend")]
    for one in asked:
        one.start()

    def ended() -> list[str]:
        answers = [answer for one in asked for answer in one.stop()]
        assert {status for status, _ in answers} == {200}
        return [body["bundle"] for _, body in answers]

    yield ended
    for one in asked:
        one.stop()


@pytest.fixture
def restored(shop: Shop, server: Server) -> Iterator[None]:
    """The first bundle is in force again afterwards."""
    yield
    start = len(server.log)
    deploy(shop.bundle, shop.settings.deployed)
    server.wait_for("took over", start)


@pytest.mark.usefixtures("restored")
def test_a_new_bundle_is_taken_over_while_requests_run(
    shop: Shop, server: Server, asking: Callable[[], list[str]], tell: Callable[..., None]
) -> None:
    old, start = server.ask("churn", users=USERS), len(server.log)
    other = trained_churn(shop.store, seed=2)
    new = deploy_bundle(shop.settings.deployed, other, shop.recommender, version=2)
    server.wait_for("took over", start)
    answer = server.ask("churn", users=USERS)
    assert (answer["model"], answer["bundle"]) == ("ebbtide-churn/2", f"sha256:{new.name}")
    assert answer["results"] != old["results"]
    bundles = asking()
    assert set(bundles) == {old["bundle"], answer["bundle"]}
    tell(requests=len(bundles), failed=0)


def flipped(shop: Shop, root: Path) -> Path:
    """A bundle with one byte of the booster changed after it was written."""
    path = make_bundle(root, trained_churn(shop.store, seed=3), None)
    text = bytearray((path / "churn" / "booster.txt").read_bytes())
    text[len(text) // 2] ^= 1
    (path / "churn" / "booster.txt").write_bytes(text)
    return path


def other_signals(shop: Shop, root: Path) -> Path:
    """A bundle whose signals were defined otherwise."""
    described = json.loads(json.dumps(shop.churn.description()))
    described["signals"][0]["definition"] = "another"
    return write_bundle(root, {churn.PART: ({"model": "ebbtide-churn/9", **described}, shop.churn.save)})


def not_answering(shop: Shop, root: Path) -> Path:
    """A bundle whose digests fit and whose slopes do not."""
    return make_bundle(root, replace(shop.churn, slopes=np.zeros((1, 2))), None)


def missing(shop: Shop, root: Path) -> Path:
    """A bundle that is not there."""
    return root / ("0" * 64)


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("bad", [flipped, other_signals, not_answering, missing])
def test_a_bad_bundle_is_refused_and_the_old_stays(
    bad: Callable[[Shop, Path], Path], shop: Shop, server: Server, asking: Callable[[], list[str]]
) -> None:
    old, start = server.ask("churn", users=USERS), len(server.log)
    path = bad(shop, shop.settings.deployed)
    deploy(path, shop.settings.deployed)
    server.wait_for("refused", start)
    assert server.ask("churn", users=USERS) == old
    assert set(asking()) == {old["bundle"]}
    assert server.log[start:].count("refused") == 1


def test_a_part_that_is_not_deployed(shop: Shop, tmp_path: Path) -> None:
    deploy_bundle(tmp_path, shop.churn, None)
    held = Live(replace(shop.settings, deployed=tmp_path)).held
    body = json.dumps({"users": USERS}).encode()
    assert json.loads(ENDPOINTS["/v1/churn"](body, held))["results"]
    with pytest.raises(Refused, match="no cross_sell model but churn") as refused:
        ENDPOINTS["/v1/recommend"](body, held)
    assert refused.value.status == 404


def test_newly_ingested_events_count_without_a_restart(
    shop: Shop, server: Server, asking: Callable[[], list[str]], tmp_path: Path
) -> None:
    newcomer = [{"user_id": "a newcomer"}]
    assert server.ask("churn", users=newcomer)["results"][0]["status"] == "unknown_user"
    start = len(server.log)
    rows = [{"user_id": "a newcomer", "ts": pd.Timestamp("2024-05-20"), "kind": "purchase", "item_id": "i3"}]
    ingest(Source(write_log(pd.DataFrame(rows), tmp_path / "more.parquet")), shop.settings.store, now=NOW)
    server.wait_for("took over", start)
    assert server.ask("churn", users=newcomer)["results"][0]["status"] == "ok"
    assert server.ask("recommend", users=newcomer)["results"][0]["status"] == "ok"
    asking()


def test_a_store_that_breaks_stays_as_it_was(shop: Shop, tmp_path: Path) -> None:
    settings = replace(shop.settings, store=tmp_path / "store")
    shutil.copytree(shop.settings.store, settings.store)
    live = Live(settings)
    held = live.held
    for text in ("{", '{"format": 99}'):
        (settings.store / "manifest.json").write_text(text)
        live.look()
        assert live.held is held
    (settings.store / "manifest.json").unlink()
    live.look()
    assert live.held is held
    shutil.copy(shop.settings.store / "manifest.json", settings.store)
    live.look()
    assert live.held is not held


def test_nothing_starts_without_store_bundle_or_address(shop: Shop, server: Server, tmp_path: Path) -> None:
    store, deployed = shop.settings.store, shop.settings.deployed
    with pytest.raises(UserError, match="no store at"):
        serve(Settings(tmp_path, deployed))
    with pytest.raises(UserError, match="nothing is deployed"):
        serve(Settings(store, tmp_path))
    taken = httpx.URL(server.client.base_url).port
    assert taken is not None
    with pytest.raises(UserError, match="choose another --port"):
        serve(Settings(store, deployed), port=taken)


def test_settings_survive_the_environment() -> None:
    a, b = Path("a"), Path("b")
    for settings in (Settings(a, b, AS_OF), Settings(a, b), Settings(a, b, AS_OF, Path("c"), 0.1)):
        assert Settings.from_env(command(settings, "127.0.0.1", 1)[1]) == settings
    with pytest.raises(UserError, match="EBBTIDE_STORE is not set"):
        Settings.from_env({})
