"""`ebbtide audience`."""

from collections import Counter
from pathlib import Path

import pyarrow as pa

from cli.options import (
    AsOfOption,
    DeployedOption,
    LanguageOption,
    StoreOption,
    TableOutOption,
    UsersOption,
    moment_in,
    progress,
    say,
    table,
    user_list,
)
from cli.tables import Column, checked_out, table_of, write_table
from features.audience.stages import STAGES
from features.events.store import Store
from models.audience import UNKNOWN, Profile
from models.batch import each_bucket
from models.decisions import Operator
from models.deployed import load_current
from training.backtest import show

TEXT, NUMBER, WHOLE = pa.string(), pa.float64(), pa.int64()
COLUMNS = (
    *(Column(name, TEXT, lambda p, n=name: getattr(p, n)) for name in ("user_id", "status", "stage", "leaving")),
    *(Column(name, TEXT, lambda p, n=name: getattr(p, n)) for name in ("segment", "tier", "newcomer", "level")),
    *(Column(f"rfm_{n}", WHOLE, lambda p, i=i: p.rfm[i] if p.rfm else None) for i, n in enumerate("rfm")),
    Column("points", WHOLE, lambda p: p.points),
    Column("points_to_next_level", WHOLE, lambda p: p.to_next),
    Column("value", NUMBER, lambda p: p.value),
    Column("value_decile", WHOLE, lambda p: p.decile),
    Column("orders", WHOLE, lambda p: p.orders),
    Column("days_since_purchase", NUMBER, lambda p: p.days_since_purchase),
    Column("needs", pa.list_(TEXT), lambda p: [need.name for need in p.needs]),
    Column("need_strength", pa.list_(NUMBER), lambda p: [need.strength for need in p.needs]),
    Column("churn_probability", NUMBER, lambda p: p.probability),
    Column("risk", TEXT, lambda p: p.risk),
    Column("alarm", pa.bool_(), lambda p: p.alarm),
    Column("cause", TEXT, lambda p: p.cause),
    Column("cause_confidence", NUMBER, lambda p: p.cause_confidence),
    Column("evidence", pa.list_(TEXT), lambda p: p.evidence),
)


def audience(
    store: StoreOption,
    as_of: AsOfOption,
    out: TableOutOption,
    deployed: DeployedOption = Path("var/deployed"),
    users: UsersOption = None,
    language: LanguageOption = "en",
) -> None:
    """Write who every user is: stage, segment, tier, needs, risk, cause, value.

    Example: ebbtide audience --store var/store --as-of 2018-01-01 --out var/audience.csv
    """
    checked_out(out)
    opened = Store.open(store)
    operator = Operator(opened, load_current(deployed))
    moment = moment_in(opened, as_of)
    named = user_list(users)
    profiles: list[Profile] = []
    with progress() as told:
        for share, timeline in each_bucket(opened, named):
            profiles += operator.audience.profiles(timeline, moment, language)
            told("profiles", share)
    if named is None:
        profiles = [profile for profile in profiles if profile.stage != UNKNOWN]
    write_table(out, table_of(COLUMNS, profiles))
    _tell(profiles)
    borders = operator.audience.borders
    say(
        f"dormant after {borders.dormant_days:g} days without a purchase, lost after {borders.lost_days:g}; "
        f"mature from {borders.maturity_orders} orders on"
    )
    say(f"wrote {out}: {len(profiles):,} users as of {show(moment)}")


def _tell(profiles: list[Profile]) -> None:
    """Users by stage, and by whether they leave."""
    counts = Counter[tuple[str, str]]((profile.stage, profile.leaving) for profile in profiles)
    leavings = ("staying", "about_to_leave", "left")
    rows = [(stage, *(counts[stage, leaving] for leaving in leavings)) for stage in (*STAGES, UNKNOWN)]
    table(("stage", *leavings), [row for row in rows if any(row[1:])])
