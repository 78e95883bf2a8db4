"""`ebbtide report`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cli.options import AsOfOption, DeployedOption, LanguageOption, StoreOption, moment_in, progress, say
from features.audience.directory import Directory
from features.audience.persona import personas
from features.durable import replace
from features.errors import UserError
from features.events.store import Store
from models import audience
from models.audience import Profile
from models.batch import risks
from models.deployed import in_force, load_current
from models.persona_words import persona_text, report_text
from models.words import Language
from training.backtest import show

KINDS = (".html", ".json", ".txt")


def report(
    store: StoreOption,
    as_of: AsOfOption,
    out: Annotated[Path, typer.Option("--out", help="HTML file to write; of a user also .txt or .json.")],
    user: Annotated[str | None, typer.Option(help="A user id: the page is about this user.")] = None,
    period: Annotated[
        str | None, typer.Option(help="Of a user's .txt: the month (2017-11) or year to tell of.")
    ] = None,
    deployed: DeployedOption = Path("var/deployed"),
    language: LanguageOption = "en",
) -> None:
    """Write the page on the user base, or on one user.

    Example: ebbtide report --store var/store --as-of 2018-01-01 --out var/audience.html
    """
    if out.suffix not in (KINDS if user else KINDS[:1]):
        raise UserError(f"--out {out}: end its name with {' or '.join(KINDS if user else KINDS[:1])}")
    if period is not None and (user is None or out.suffix != ".txt"):
        raise UserError(f"--period {period} is of a user's text: give --user, and an --out that ends with .txt")
    if user is None and language != "en":
        raise UserError(f"--language {language} is of a user's page: that on the user base is in English; leave it out")
    opened = Store.open(store)
    moment = moment_in(opened, as_of)
    if user is None:
        text = _of_all(opened, moment, deployed)
    else:
        text = _of_user(opened, moment, deployed, user, out.suffix, period, language)
    out.parent.mkdir(parents=True, exist_ok=True)
    replace(out, text)
    say(f"wrote {out}, as of {show(moment)}")


def _of_all(store: Store, moment: int, deployed: Path) -> str:
    from analysis.audience_report import audience_material, audience_report

    tables, learned, whose = in_force(deployed, store, moment)
    model = load_current(deployed).churn if (deployed / "current").exists() else None
    with progress() as told:
        scores = None if model is None else risks(store, moment, model, lambda share: told("risks", share))
        about = audience_material(
            store, moment, tables.stages, tables.segments, learned, scores, lambda share: told("user base", share)
        )
    say(f"borders: {whose}" + ("" if model else "; no churn model is deployed: nothing is said of risks"))
    return audience_report(about)


def _of_user(
    store: Store, moment: int, deployed: Path, user: str, kind: str, period: str | None, language: Language
) -> str:
    timeline, directory = store.timeline_of([user]), Directory(store)
    persona = personas(timeline, moment, directory)[0]
    if persona is None:
        raise UserError(f"nothing is known of user {user} before {show(moment)}")
    if kind == ".json":
        return json.dumps(persona.to_json(), indent=1, ensure_ascii=False) + "\n"
    if kind == ".txt":
        told = persona_text(persona, language) if period is None else report_text(persona, period, language)
        return told + "\n"
    from analysis.user_page import names_of, user_page

    tables, learned, _ = in_force(deployed, store, moment)
    model = load_current(deployed).churn if (deployed / "current").exists() else None
    profile: Profile = audience.Audience(learned, tables, model, directory).profiles(timeline, moment, language)[0]
    return user_page(persona, profile, language, names_of(tables.stages, tables.segments, tables.needs, language))
