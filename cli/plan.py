"""`ebbtide plan`."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer
from rich.markup import escape

from cli.options import (
    AsOfOption,
    DeployedOption,
    LanguageOption,
    StoreOption,
    UsersOption,
    moment_in,
    progress,
    say,
    table,
    user_list,
)
from cli.tables import Column, checked_out, table_of, write_table
from features.errors import UserError
from features.events.store import Store
from models.audience import UNKNOWN
from models.batch import each_bucket
from models.decisions import Decided, Operator
from models.deployed import load_current
from training.backtest import show

TEXT, NUMBER = pa.string(), pa.float64()
COLUMNS = (
    Column("contact_id", TEXT, lambda d: d.decision.contact_id),
    Column("user_id", TEXT, lambda d: d.profile.user_id),
    Column("send_at", pa.timestamp("us"), lambda d: d.decision.send_at),
    Column("campaign_id", TEXT, lambda d: d.decision.campaign_id),
    Column("ladder", TEXT, lambda d: d.decision.ladder),
    Column("step", pa.int32(), lambda d: d.decision.step),
    Column("channel", TEXT, lambda d: d.decision.channel),
    Column("offer", TEXT, lambda d: d.decision.offer),
    Column("reason", TEXT, lambda d: d.reason),
    Column("items", pa.list_(TEXT), lambda d: [item.item_id for item in d.items]),
    Column("items_evidence", pa.list_(TEXT), lambda d: [item.evidence for item in d.items]),
    Column("cost", NUMBER, lambda d: d.decision.cost),
    Column("expected_gain", NUMBER, lambda d: d.decision.expected_gain),
    *(
        Column(name, TEXT, lambda d, n=name: getattr(d.profile, n))
        for name in ("stage", "leaving", "segment", "tier", "risk", "cause")
    ),
    Column("churn_probability", NUMBER, lambda d: d.profile.probability),
    Column("evidence", pa.list_(TEXT), lambda d: d.profile.evidence),
    Column("needs", pa.list_(TEXT), lambda d: [need.name for need in d.profile.needs]),
)


def plan(
    store: StoreOption,
    as_of: AsOfOption,
    out: Annotated[Path | None, typer.Option(help="CSV or Parquet file to write: one row a contact.")] = None,
    deployed: DeployedOption = Path("var/deployed"),
    users: UsersOption = None,
    explain: Annotated[
        str | None, typer.Option(help="A user id: print how the decision came about, rule by rule.")
    ] = None,
    language: LanguageOption = "en",
) -> None:
    """Write whom to contact now, how and with what, for a CRM to send.

    Example: ebbtide plan --store var/store --as-of 2018-01-01 --out var/contacts.csv
    """
    if (out is None) == (explain is None):
        raise UserError("give either --out, to plan for all users, or --explain and a user id")
    opened = Store.open(store)
    operator = Operator(opened, load_current(deployed))
    moment = moment_in(opened, as_of)
    if explain is not None:
        _explain(operator.decide(opened.timeline_of([explain]), moment, language, explain=True)[0])
        return
    assert out is not None
    checked_out(out)
    decided: list[Decided] = []
    with progress() as told:
        for share, timeline in each_bucket(opened, user_list(users)):
            decided += operator.decide(timeline, moment, language)
            told("deciding", share)
    contacts = sorted((d for d in decided if d.decision.action == "contact"), key=lambda d: d.profile.user_id)
    write_table(out, table_of(COLUMNS, contacts))
    _tell(decided)
    if not operator.recommends:
        say("no recommender is deployed: the contacts have no items")
    cost = sum(d.decision.cost for d in contacts)
    gain = sum(d.decision.expected_gain or 0.0 for d in contacts)
    say(f"expected cost {cost:,.2f}; expected gain by the playbook's assumptions {gain:,.2f}")
    say(f"wrote {out}: {len(contacts):,} contacts among {len(decided):,} users as of {show(moment)}")


def _tell(decided: list[Decided]) -> None:
    """Contacts by step, and the others by what speaks against one."""
    known = [d.decision for d in decided if d.profile.stage != UNKNOWN]
    steps = Counter(d.campaign_id for d in known if d.action == "contact")
    table(("contacts", "users"), [(str(name), count) for name, count in steps.most_common()])
    others = Counter(d.reason for d in known if d.action != "contact")
    table(("no contact", "users"), list(others.most_common()))


def _explain(decided: Decided) -> None:
    who, decision = decided.profile, decided.decision
    if who.stage == UNKNOWN:
        raise UserError(f"nothing is known of user {who.user_id} before this moment")
    say(f"[bold]{escape(who.user_id)}[/]: {who.stage}, {who.leaving.replace('_', ' ')}")
    facts = {
        "segment": who.segment,
        "tier": who.tier,
        "newcomer": who.newcomer,
        "risk": who.risk,
        "cause": who.cause,
        "churn probability": None if who.probability is None else f"{who.probability:.2f}",
        "days since purchase": None if who.days_since_purchase is None else f"{who.days_since_purchase:.0f}",
        "needs": ", ".join(f"{need.name} ({need.strength:.2f})" for need in who.needs) or None,
        "value": f"{who.value:,.2f}",
    }
    say("; ".join(f"{name} {value}" for name, value in facts.items() if value is not None))
    for line in (*who.evidence, *decision.why):
        say(f"  {escape(line)}")
    if decision.action == "contact":
        say(f"[bold]contact[/] {decision.campaign_id} by {decision.channel}, {decision.offer or 'no offer'}")
        say(f"  not before {show(decision.send_at or 0)}, contact_id {decision.contact_id}")
        for item in decided.items:
            say(escape(f"  {item.item_id}: {item.evidence}"))
    else:
        say(f"[bold]no contact[/]: {decision.reason}")
