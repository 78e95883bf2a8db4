"""Recipes: the shipped TOML files, and what a user's own file overrides."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.errors import UserError

Recipe = Mapping[str, Any]


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
        if isinstance(value, dict) != isinstance(recipe[key], dict):
            raise UserError(f"{path} sets {key} to {value!r}; it is {recipe[key]!r} in the shipped recipe")
        recipe[key] = {**recipe[key], **value} if isinstance(value, dict) else value
    return recipe
