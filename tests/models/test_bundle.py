"""Law 5: a loaded bundle answers to the bit as the models that were saved, and a damaged one is refused unparsed."""

import hashlib
import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest

from features import signals
from features.events.store import Store
from models import churn
from models.answers import CatalogueCodes, ChurnQuestion, churn_answers, recommend_answers
from models.bundle import BundleError, combine, deploy, deployed, open_bundle
from models.churn import ChurnModel
from models.deployed import CROSS_SELL, load_bundle, load_current
from models.recommender import Ask, Mode, Recommender
from tests.features.support import folder_bytes
from tests.killed import Killed, Step
from tests.models.deploying import deploy_again
from tests.shop import AS_OF, bundle_of
from training.churn import ChurnRun
from training.cross_sell import CrossSellRun

FLIPS = 50  # at random, beside three of each file


def churn_bits(store: Store, model: ChurnModel) -> list[str]:
    """Every user's churn answer; the text of a float tells all its bits, also where it is not a number."""
    return [
        repr(a)
        for timeline in store.timelines()
        for a in churn_answers(timeline, AS_OF, model, ChurnQuestion(reasons=5))
    ]


def list_bits(store: Store, recommender: Recommender) -> list[str]:
    """Every user's lists."""
    modes: list[Mode] = ["all", "cross_sell", "bundle"]
    codes = CatalogueCodes(store, recommender).of_store
    return [
        repr(a)
        for mode in modes
        for timeline in store.timelines()
        for a in recommend_answers(timeline, AS_OF, recommender, codes, Ask(mode, cart=("i1",)))
    ]


@pytest.fixture
def damaged(bundle: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(bundle, tmp_path / bundle.name)


@pytest.fixture
def nothing_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a model or a table is an error: a damaged model text would end the process."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("parsed before the digests were checked")

    monkeypatch.setattr(np, "load", refuse)
    monkeypatch.setattr(lgb, "Booster", refuse)
    monkeypatch.setattr(Recommender, "load", refuse)


def test_loaded_answers_as_saved_to_the_bit(
    shop: Store, churn_run: ChurnRun, cross_sell_run: CrossSellRun, bundle: Path, tell: Callable[..., None]
) -> None:
    loaded = load_bundle(bundle)
    assert loaded.churn is not None
    assert loaded.recommender is not None
    answers = churn_bits(shop, churn_run.model)
    assert churn_bits(shop, loaded.churn) == answers
    lists = list_bits(shop, cross_sell_run.model)
    assert list_bits(shop, loaded.recommender) == lists
    assert len(set(answers)) > 200
    tell(churn_answers_compared=len(answers), lists_compared=len(lists))


def test_the_same_models_give_the_same_folder(
    churn_run: ChurnRun, cross_sell_run: CrossSellRun, bundle: Path, tmp_path: Path
) -> None:
    loaded = load_bundle(bundle)
    again = bundle_of(tmp_path, loaded.churn, loaded.recommender)
    assert again.name == bundle.name
    assert folder_bytes(again) == folder_bytes(bundle)
    assert {file.suffix for file in bundle.rglob("*") if file.is_file()} == {".txt", ".npy", ".npz", ".json"}


@pytest.mark.usefixtures("nothing_is_parsed")
def test_a_flipped_byte_in_any_file_is_refused(damaged: Path, tell: Callable[..., None]) -> None:
    rng = random.Random(1)
    files = sorted(p for p in damaged.rglob("*") if p.is_file())
    places = [(file, place) for file in files for place in (0, file.stat().st_size // 2, file.stat().st_size - 1)]
    places += [(file, rng.randrange(file.stat().st_size)) for file in rng.choices(files, k=FLIPS)]
    for file, place in places:
        content = file.read_bytes()
        flipped = content[place] ^ (1 << rng.randrange(8))
        file.write_bytes(content[:place] + bytes([flipped]) + content[place + 1 :])
        with pytest.raises(BundleError, match="was changed"):
            load_bundle(damaged)
        file.write_bytes(content)
    assert open_bundle(damaged).parts.keys() == {churn.PART, CROSS_SELL}
    tell(files=len(files), flips_refused=len(places))


@pytest.mark.usefixtures("nothing_is_parsed")
@pytest.mark.parametrize("what", ["truncated", "emptied", "missing", "longer", "a folder"])
def test_every_file_cut_lost_or_grown_is_refused(damaged: Path, what: str, tell: Callable[..., None]) -> None:
    files = sorted(p for p in damaged.rglob("*") if p.is_file())
    for file in files:
        content = file.read_bytes()
        file.unlink()
        if what == "a folder":
            file.mkdir()
        elif what != "missing":
            file.write_bytes({"truncated": content[:-1], "emptied": b"", "longer": content + b"\n"}[what])
        with pytest.raises(BundleError, match="deploy"):
            load_bundle(damaged)
        if what == "a folder":
            file.rmdir()
        file.write_bytes(content)
    open_bundle(damaged)
    tell(files_refused=len(files))


@pytest.mark.usefixtures("nothing_is_parsed")
@pytest.mark.parametrize("name", ["more.txt", "churn/more.npy", "deep/er/x.json", ".hidden"])
def test_an_added_file_is_refused(damaged: Path, name: str) -> None:
    (damaged / name).parent.mkdir(parents=True, exist_ok=True)
    (damaged / name).write_bytes(b"{}")
    with pytest.raises(BundleError, match=r"not in the manifest"):
        load_bundle(damaged)


@pytest.mark.usefixtures("nothing_is_parsed")
def test_another_name_of_the_folder_is_refused(damaged: Path) -> None:
    for name in ("renamed", damaged.name[:-1], damaged.name.upper()):
        with pytest.raises(BundleError, match="deploy again"):
            load_bundle(damaged.rename(damaged.with_name(name)))
        damaged.with_name(name).rename(damaged)


def edited(bundle: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A bundle with another manifest, under the name that fits it."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    text = json.dumps(manifest, indent=1, sort_keys=True)
    (bundle / "manifest.json").write_text(text)
    return bundle.rename(bundle.with_name(hashlib.sha256(text.encode()).hexdigest()))


def test_an_edited_manifest_is_refused(damaged: Path) -> None:
    renamed = edited(damaged, lambda manifest: manifest["parts"]["churn"].update(base_rate=0.9))
    assert open_bundle(renamed).parts["churn"]["base_rate"] == 0.9  # under its own name it is another bundle
    renamed.rename(damaged)
    with pytest.raises(BundleError, match="its digest is"):
        open_bundle(damaged)


def test_another_format_is_refused(damaged: Path) -> None:
    renamed = edited(damaged, lambda manifest: manifest.update(format=99))
    with pytest.raises(BundleError, match="format 99"):
        open_bundle(renamed)


@pytest.mark.parametrize("change", [{"definition": "0" * 16}, {"name": "no_such_signal"}])
def test_other_definitions_of_signals_are_refused(damaged: Path, change: dict[str, str]) -> None:
    renamed = edited(damaged, lambda manifest: manifest["parts"]["churn"]["signals"][3].update(change))
    with pytest.raises(BundleError, match=r"other definitions of \w+: train again, promote and deploy"):
        load_bundle(renamed)


def test_changed_code_of_a_signal_is_another_definition(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_bundle(bundle)
    monkeypatch.setattr(signals, "_kernel_digest", lambda: "another kernel")
    with pytest.raises(BundleError, match="other definitions"):
        load_bundle(bundle)


def test_a_part_that_is_not_there_is_named(churn_run: ChurnRun, cross_sell_run: CrossSellRun, tmp_path: Path) -> None:
    only_churn = load_bundle(bundle_of(tmp_path, churn_run.model, None))
    assert only_churn.recommender is None
    only_lists = open_bundle(bundle_of(tmp_path, None, cross_sell_run.model))
    with pytest.raises(BundleError, match="holds no churn model"):
        churn.load(only_lists)


# ------------------------------------------------------------------------------------------------ deployment


def test_nothing_deployed_says_so(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="run `ebbtide deploy` first"):
        load_current(tmp_path)


def test_combine_takes_parts_from_several_bundles(
    churn_run: ChurnRun, cross_sell_run: CrossSellRun, tmp_path: Path
) -> None:
    one = open_bundle(bundle_of(tmp_path, churn_run.model, None, data_digest="d"))
    other = open_bundle(bundle_of(tmp_path, None, cross_sell_run.model))
    folder = combine(tmp_path, {"churn": (one, {"model": "m/7"}), "cross_sell": (other, {"model": "n/2"})})
    deploy(folder, tmp_path)
    both = load_current(tmp_path)
    assert (both.name("churn"), both.name("cross_sell")) == ("m/7", "n/2")
    assert both.bundle.parts["churn"]["data_digest"] == "d"
    assert folder_bytes(folder / "churn") == folder_bytes(one.path / "churn")
    assert combine(tmp_path, {"churn": (one, {"model": "m/7"}), "cross_sell": (other, {"model": "n/2"})}) == folder


def test_deploying_again_mends_a_damaged_bundle(bundle: Path, tmp_path: Path) -> None:
    source = open_bundle(bundle)
    parts: dict[str, Any] = {name: (source, {}) for name in source.parts}
    deploy(combine(tmp_path, parts), tmp_path)
    booster = deployed(tmp_path) / "churn" / "booster.txt"
    content = booster.read_bytes()
    booster.write_bytes(content[:1000])
    with pytest.raises(BundleError, match="deploy again"):
        load_current(tmp_path)
    deploy(combine(tmp_path, parts), tmp_path)
    assert load_current(tmp_path).churn is not None
    assert booster.read_bytes() == content


@dataclass
class Deployment:
    """A folder with or without an old bundle in force, and two champions to deploy there."""

    folder: Path
    sources: list[Path]
    old: str | None
    new: str = ""
    steps: Sequence[Step] = ()
    seen: Counter[str] = field(default_factory=Counter)

    def start(self, kill_at: int | None) -> Killed:
        root = shutil.copytree(self.folder / "before", self.folder / "now")
        work = Killed(partial(deploy_again, root, self.sources), root, kill_at)
        work.wait_until_it_writes()
        return work

    def in_force(self) -> str | None:
        """The bundle in force, verified."""
        root = self.folder / "now"
        return load_current(root).bundle.path.name if (root / "current").exists() else None

    def check(self) -> None:
        """Whole, old or new, and the next deploy works."""
        found = self.in_force()
        assert found in (self.old, self.new)
        self.seen["new" if found == self.new else "old"] += 1
        deploy_again(self.folder / "now", self.sources)
        assert self.in_force() == self.new
        shutil.rmtree(self.folder / "now")


@pytest.fixture(params=["old", "none"])
def deployment(
    request: pytest.FixtureRequest, churn_run: ChurnRun, cross_sell_run: CrossSellRun, tmp_path: Path
) -> Deployment:
    sources = [
        bundle_of(tmp_path / "sources", churn_run.model, None),
        bundle_of(tmp_path / "sources", None, cross_sell_run.model),
    ]
    before = tmp_path / "before"
    before.mkdir()
    old = bundle_of(before, churn_run.model, None, model="m/1").name if request.param == "old" else None
    if old is not None:
        deploy(before / old, before)
    made = Deployment(tmp_path, sources, old)
    whole = made.start(None)
    made.steps = whole.steps()
    assert not whole.join()
    made.new = made.in_force() or ""
    assert made.new not in ("", old)
    shutil.rmtree(tmp_path / "now")
    return made


def test_killed_while_deploying(deployment: Deployment, tell: Callable[..., None]) -> None:
    """Law 7: at the start, in the middle, and at the last step, which is the one that counts."""
    last = len(deployment.steps) - 1
    assert deployment.steps[last] == ("os.rename", "/current")
    for step in (0, last // 2, last):
        assert deployment.start(step).join()
        deployment.check()
    assert deployment.seen == {"old": 3}
    tell(kills_made=3, steps=len(deployment.steps), **deployment.seen)


@pytest.mark.slow
def test_killed_at_every_step_of_a_deploy_and_many_times(deployment: Deployment, tell: Callable[..., None]) -> None:
    for step in range(len(deployment.steps)):
        assert deployment.start(step).join()
        deployment.check()
    rng, begin = random.Random(4), time.monotonic()
    deployment.start(None).join()
    seconds = time.monotonic() - begin
    deployment.check()
    kills = 0
    for _ in range(20):
        work = deployment.start(None)
        time.sleep(rng.uniform(0, seconds))
        work.kill()
        kills += work.join()
        deployment.check()
    tell(kills_made=len(deployment.steps) + kills, steps=len(deployment.steps), **deployment.seen)
