"""Scenes: where a list is shown, as filters and weights in a table."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.resources import files
from typing import Any

from features.errors import UserError


@dataclass(frozen=True)
class Scene:
    """What `scenes.toml` says of one scene; its head tells what each number does."""

    price_at_most: float | None = None
    price_at_least: float | None = None
    new_only: bool = False
    again: float = 0.0
    weights: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def shipped() -> dict[str, Scene]:
    """The scenes that come with Ebbtide."""
    table = tomllib.loads((files("models.recommender") / "scenes.toml").read_text("utf-8"))
    return {name: scene(name, values) for name, values in table.items()}


def scene(name: str, values: Mapping[str, Any], heads: tuple[str, ...] | None = None) -> Scene:
    """A scene of a table.

    Raises:
        UserError: it sets what a scene does not have, or weighs a head that there is not.
    """
    known = [entry.name for entry in fields(Scene)]
    for key in values:
        if key not in known:
            raise UserError(f"scenes.{name} sets {key}; a scene may set {', '.join(known)}")
    for head in values.get("weights", {}):
        if heads is not None and head not in heads:
            raise UserError(f"scenes.{name}.weights names the head {head}; there are {', '.join(heads)}")
    return Scene(**values)
