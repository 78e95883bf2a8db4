"""A deployed bundle with its models loaded: verified once, then only read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from features.audience.learn import Learned, learn
from features.errors import UserError
from features.events.store import Store
from models import audience, churn, operations
from models.bundle import Bundle, BundleError, deployed, open_bundle
from models.churn import ChurnModel
from models.operations import Operations
from models.recommender import Recommender

CROSS_SELL = "cross_sell"


@dataclass(frozen=True)
class Deployed:
    """The models of one bundle, what was learned of the shop, and what operators decide; None: it lacks that part."""

    bundle: Bundle
    churn: ChurnModel | None
    recommender: Recommender | None
    learned: Learned | None = None
    operations: Operations | None = None

    def name(self, part: str) -> str:
        """Registered name and version of a part's model, such as `ebbtide-churn/7`."""
        return str(self.bundle.parts[part].get("model", part))


def load_bundle(path: Path) -> Deployed:
    """Verify the bundle at `path` and load what it holds.

    Raises:
        BundleError: it is damaged, or does not fit this version of the code.
    """
    bundle = open_bundle(path)
    model = churn.load(bundle) if churn.PART in bundle.parts else None
    recommender = load_recommender(bundle) if CROSS_SELL in bundle.parts else None
    texts = operations.texts_of(bundle)
    decided = None if texts is None else _operations(bundle, texts)
    return Deployed(bundle, model, recommender, audience.load(bundle), decided)


def load_current(root: Path) -> Deployed:
    """The bundle in force under a deployment folder."""
    return load_bundle(deployed(root))


def load_recommender(bundle: Bundle) -> Recommender:
    """The cross-sell part of a verified bundle."""
    if CROSS_SELL not in bundle.parts:
        raise BundleError(f"{bundle.path} holds no recommender: `ebbtide train cross-sell`, promote and deploy")
    try:
        return Recommender.load(bundle.path / CROSS_SELL)
    except ValueError as error:
        raise BundleError(f"{bundle.path}: {error}; train again, promote and deploy") from error


def in_force(root: Path, store: Store, as_of: int) -> tuple[Operations, Learned, str]:
    """The operator's tables, the facts of the shop, and where they are from: the bundle deployed under a folder, else
    those that come with Ebbtide and what the store tells at a moment (µs).

    Raises:
        BundleError: what is deployed there is damaged.
    """
    if not (root / "current").exists():
        return operations.shipped(), learn(store, as_of), "learned from the log, with the tables that come with Ebbtide"
    bundle = open_bundle(deployed(root))
    texts, learned = operations.texts_of(bundle), audience.load(bundle)
    tables = operations.shipped() if texts is None else _operations(bundle, texts)
    whose = f"those deployed in {root}"
    if learned is None:
        return tables, learn(store, as_of), f"learned from the log, with {whose}"
    return tables, learned, whose


def _operations(bundle: Bundle, texts: Mapping[str, str]) -> Operations:
    """The operator's tables of a bundle, which may be of an older version of the code."""
    try:
        return Operations.of_texts(texts)
    except UserError as error:
        raise BundleError(
            f"{bundle.path} no longer holds: {error}; mend it and `ebbtide deploy --operations`"
        ) from error
