"""Recipes: the shipped TOML files, and what a user's own file overrides."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.errors import UserError

Recipe = Mapping[str, Any]
OPEN = ("booster", "settings", "ranker", "scenes")  # tables that know more than is shipped; their users check the rest


def load_recipe(name: str, path: Path | None = None) -> dict[str, Any]:
    """The recipe shipped as `training/<name>.toml`, with what the file at `path` overrides.

    Raises:
        UserError: the file cannot be read, or sets what the recipe does not have.
    """
    recipe = tomllib.loads((Path(__file__).parent / f"{name}.toml").read_text())
    if path is None:
        return recipe
    try:
        own = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the recipe {path}: {error}") from error
    for key, value in own.items():
        if key not in recipe:
            raise UserError(f"{path} sets {key}; a recipe may set {', '.join(recipe)}")
        _check_type(path, key, value, recipe[key])
        if isinstance(value, dict):
            for name in value:
                if name in recipe[key]:
                    _check_type(path, f"{key}.{name}", value[name], recipe[key][name])
                elif key not in OPEN:
                    raise UserError(f"{path} sets {key}.{name}; [{key}] may set {', '.join(recipe[key])}")
        recipe[key] = {**recipe[key], **value} if isinstance(value, dict) else value
    return recipe


def _check_type(path: Path, name: str, value: Any, shipped: Any) -> None:
    if type(value) is not type(shipped) and not (type(shipped) is float and type(value) is int):
        raise UserError(f"{path} sets {name} to {value!r}; it is {shipped!r} in the shipped recipe")
