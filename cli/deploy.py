"""`ebbtide deploy`."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DeployedOption, say
from features.errors import UserError


def deploy(
    deployed: DeployedOption = Path("var/deployed"),
    operations: Annotated[
        Path | None,
        typer.Option(
            help="Folder with any of stages, segments, needs and playbook.toml; without one, that stays as deployed."
        ),
    ] = None,
) -> None:
    """Put the champions and the operator's tables into one bundle and into service.

    Example: ebbtide deploy --operations sources/her_shop
    """
    from models.bundle import Bundle, combine, open_bundle
    from models.bundle import deploy as make_current
    from models.operations import PART, Operations, changed, shipped_texts
    from training.promotion import bundle_of, champion
    from training.tracking import CHURN, CROSS_SELL, connect

    base = _deployed_texts(deployed, operations) or shipped_texts()
    tables, given = (Operations.of_texts(base), []) if operations is None else changed(base, operations)
    client = connect()
    champions = [version for name in (CHURN, CROSS_SELL) if (version := champion(client, name)) is not None]
    if not champions:
        raise UserError("there is no champion yet: `ebbtide promote churn` or `ebbtide promote cross-sell` first")
    parts: dict[str, tuple[Bundle, dict[str, str]]] = {}
    for version in champions:
        bundle = open_bundle(bundle_of(version))
        parts |= {part: (bundle, {"model": f"{version.name}/{version.version}"}) for part in bundle.parts}
    deployed.mkdir(parents=True, exist_ok=True)
    folder = combine(deployed, parts, {PART: ({}, tables.write)})
    make_current(folder, deployed)
    say(f"deployed {', '.join(f'{v.name}/{v.version}' for v in champions)} as {folder}")
    changes = [name for name, text in tables.texts.items() if text != base[name]]
    if operations is not None:
        say(f"read {', '.join(given)} from {operations}; changed: {', '.join(changes) or 'nothing'}")


def _deployed_texts(root: Path, operations: Path | None) -> dict[str, str] | None:
    """The operator's tables in force; None if there are none.

    Raises:
        UserError: what is deployed is damaged, and `operations` has not all of them: ours must not take their place
            unasked.
    """
    from models.bundle import BundleError, deployed, open_bundle
    from models.operations import NAMES, texts_of

    if not (root / "current").exists():
        return None
    try:
        return texts_of(open_bundle(deployed(root)))
    except BundleError as error:
        if operations is not None and all((operations / name).is_file() for name in NAMES):
            return None
        raise UserError(
            f"the tables deployed in {root} cannot be taken over ({error}): give all of {', '.join(NAMES)} with "
            "--operations"
        ) from error
