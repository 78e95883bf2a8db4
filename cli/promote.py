"""`ebbtide promote`."""

from typing import Annotated

import typer

from cli.options import say

ModelArgument = Annotated[str, typer.Argument(help="churn or cross-sell.")]


def registered(model: str) -> str:
    """Registered name of `churn` or `cross-sell`."""
    from features.errors import UserError
    from training.tracking import CHURN, CROSS_SELL

    names = {name.removeprefix("ebbtide-"): name for name in (CHURN, CROSS_SELL)}
    if model.removeprefix("ebbtide-") not in names:
        raise UserError(f"no model {model!r}; there are {', '.join(names)}")
    return names[model.removeprefix("ebbtide-")]


def promote(
    model: ModelArgument,
    version: Annotated[str | None, typer.Option(help="Version to promote; without it the newest.")] = None,
) -> None:
    """Make a version champion if it passes the gate; else exit 1.

    Example: ebbtide promote churn
    """
    from training.promotion import promote as promote_version

    verdict = promote_version(registered(model), version)
    say(f"{verdict.name}/{verdict.version} {'is champion' if verdict.passed else 'is refused'}: {verdict.reason}")
    if not verdict.passed:
        raise typer.Exit(1)
