"""The learned order of candidates: a LightGBM booster over what is known of user, item and both.

A request asks about some hundred rows. LightGBM's own `predict` takes longer for that than all heads together, so the
trees are walked by a compiled loop, to the same bits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.recommender import loops
from models.recommender.past import Floats


@dataclass(frozen=True)
class Ranker:
    """names: the columns that the booster reads, in its order. text: the booster in LightGBM's own format."""

    names: tuple[str, ...]
    text: str

    @cached_property
    def _trees(self) -> tuple[NDArray[Any], ...]:
        """The trees as `loops.forest` takes them."""
        trees = [_fields(part) for part in self.text.split("\nTree=")[1:]]
        if any(tree.get("num_cat", "0") != "0" for tree in trees):
            raise ValueError("the ranker's booster splits by categories, which is not known here")

        def joined(name: str, kind: type) -> NDArray[Any]:
            return np.array([one for tree in trees for one in tree.get(name, "").split()], np.float64).astype(kind)

        def bounds(size: Callable[[int], int]) -> NDArray[np.int64]:
            return np.cumsum([0, *(size(int(tree["num_leaves"])) for tree in trees)]).astype(np.int64)

        splits = (joined("split_feature", np.int32), joined("threshold", np.float64), joined("decision_type", np.uint8))
        children = (joined("left_child", np.int32), joined("right_child", np.int32))
        return bounds(lambda n: n - 1), bounds(lambda n: n), *splits, *children, joined("leaf_value", np.float64)

    @property
    def trees(self) -> int:
        """How many trees there are."""
        return len(self._trees[0]) - 1

    def margins(self, rows: NDArray[np.float32]) -> Floats:
        """LightGBM's raw score a row."""
        return np.asarray(loops.forest(rows, *self._trees))

    def scores(self, rows: NDArray[np.float32]) -> Floats:
        """A score in (0, 1) a row; higher is likelier to be bought."""
        odds: Floats = 1.0 / (1.0 + np.exp(-self.margins(rows)))
        return odds


def _fields(tree: str) -> dict[str, str]:
    """The lines `name=value` of one tree."""
    lines = tree.split("\n\n", 1)[0].splitlines()[1:]
    return dict(line.split("=", 1) for line in lines if "=" in line)
