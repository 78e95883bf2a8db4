"""`ebbtide deploy`."""

from pathlib import Path

from cli.options import DeployedOption, say
from features.errors import UserError


def deploy(deployed: DeployedOption = Path("var/deployed")) -> None:
    """Put the champions into one bundle and into service.

    Example: ebbtide deploy
    """
    from models.bundle import Bundle, combine, open_bundle
    from models.bundle import deploy as make_current
    from training.promotion import bundle_of, champion
    from training.tracking import CHURN, CROSS_SELL, connect

    client = connect()
    champions = [version for name in (CHURN, CROSS_SELL) if (version := champion(client, name)) is not None]
    if not champions:
        raise UserError("there is no champion yet: `ebbtide promote churn` or `ebbtide promote cross-sell` first")
    parts: dict[str, tuple[Bundle, dict[str, str]]] = {}
    for version in champions:
        bundle = open_bundle(bundle_of(version))
        parts |= {part: (bundle, {"model": f"{version.name}/{version.version}"}) for part in bundle.parts}
    deployed.mkdir(parents=True, exist_ok=True)
    folder = combine(deployed, parts)
    make_current(folder, deployed)
    say(f"deployed {', '.join(f'{v.name}/{v.version}' for v in champions)} as {folder}")
