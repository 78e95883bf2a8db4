"""A deployed bundle with its models loaded: verified once, then only read."""

from dataclasses import dataclass
from pathlib import Path

from models import churn
from models.bundle import Bundle, BundleError, deployed, open_bundle
from models.churn import ChurnModel
from models.recommender import Recommender

CROSS_SELL = "cross_sell"


@dataclass(frozen=True)
class Deployed:
    """The models of one bundle; a part that it lacks is None."""

    bundle: Bundle
    churn: ChurnModel | None
    recommender: Recommender | None

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
    return Deployed(bundle, model, load_recommender(bundle) if CROSS_SELL in bundle.parts else None)


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
