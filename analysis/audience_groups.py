"""Parts of the audience report on the base as a whole: who is where, who moved, who comes back, who stays."""

from typing import get_args

import numpy as np

from analysis import audience_plots as plots
from analysis.audience_material import Material
from analysis.audience_words import day, moved, number, percent, said, share
from analysis.cohorts import Cohorts
from analysis.lifecycle import NEWCOMER_DAYS, NEWCOMER_KPIS, RETURN_DAYS, Newcomers
from analysis.page import Cell, Html, paragraph, picture, table
from analysis.structure import NEW_STAGES, Structure
from features.audience.segments import Newcomer
from features.audience.stages import STAGES

SHOWN = 15  # rows of the longer tables
FEW = 30  # a share of fewer users says little
RETURNS = ("opened_again", "bought_again", "kept_buying")


def structure_part(about: Material) -> list[Html]:
    """Users by stage at each moment, active and paying, new against old."""
    found = about.structure
    rows: list[list[Cell]] = []
    for row in found.to_table().to_pylist()[::-1]:
        rows.append(
            [
                str(row["as_of"].date()),
                *(number(row[name]) for name in ("registered", "active", "paying", "new", "old")),
                None if row["new_per_old"] is None else f"{row['new_per_old']:.3f}",
                *(number(row[name]) for name in ("new_buyers", "old_buyers", "stage_dormancy", "stage_lost")),
                number(row["stage_anonymous"]),
            ]
        )
    head = ["", "registered", "active", "paying", "new", "old", "new : old", "new buyers", "old buyers", "dormant"]
    unknown = ""
    if (found.new < 0).any() or (found.new_buyers < 0).any():
        unknown = "A dash: not known, as the log does not go back far enough to say who is new. "
    return [
        picture(plots.structure_plot(found), _structure_said(found)),
        _stages(about),
        table([*head, "lost", "devices"], rows, caption="By period of 30 days that ends on the day"),
        paragraph(
            "Active: an event of their own in the period. Paying: a purchase in it. New: registered in it, or first "
            f"seen where no registration is known; old: all others registered. {unknown}Devices "
            "are those whose user is not known; they stand aside.",
            "soft",
        ),
    ]


def _stages(about: Material) -> Html:
    now = about.structure.stages[-1]
    rows: list[list[Cell]] = []
    for stage, count in zip(STAGES, now.tolist(), strict=True):
        text = about.stages.text(stage)
        rows.append([text.en, f"{count:,}", share(count, int(now.sum())), text.goal_en])
    caption = f"On {day(about.as_of)}; the share is of all users and devices"
    return table(["", "users", "share", "goal"], rows, caption=caption)


def _structure_said(found: Structure) -> str:
    first, last = found.registered[0], found.registered[-1]
    paying = found.paying
    return (
        f"Registered users by stage: {first:,} on {day(found.moments[0])}, {last:,} on {day(found.moments[-1])}; "
        f"between {paying.min():,} and {paying.max():,} of them paid in a period."
    )


def flows_part(about: Material) -> list[Html]:
    """Who went from which stage to which in the last period."""
    found = about.structure
    if len(found.moments) < 2:
        return [paragraph("The log is too short for two moments: nobody can have moved yet.")]
    flow = found.flows[-1]
    rows: list[list[Cell]] = [
        [stage, *(f"{users:,}" if users else None for users in row.tolist()), f"{row.sum():,}"]
        for stage, row in zip(NEW_STAGES, flow, strict=True)
        if row.any()
    ]
    rows.append(["all", *(f"{users:,}" for users in flow.sum(axis=0).tolist()), f"{flow.sum():,}"])
    return [
        picture(plots.flow_plot(found), moved(found)),
        table(
            ["from", *STAGES, "all"],
            rows,
            caption=f"Users by stage on {day(found.moments[-2])} (rows) and on {day(found.moments[-1])} (columns)",
            own="all",
        ),
    ]


def targets_part(about: Material) -> list[Html]:
    """Every target of the stages file beside what was reached."""
    rows: list[list[Cell]] = []
    for target in about.lifecycle.against(about.stages):
        met = "not known" if target.met is None else "reached" if target.met else "missed"
        few = ", of few" if target.met is not None and target.users < FEW else ""
        rows.append(
            [
                target.stage,
                said(target.kpi),
                percent(target.reached),
                f"{target.target:.0%}",
                met + few,
                f"{target.users:,}",
            ]
        )
    missed, unknown = (sum(str(row[4]).startswith(word) for row in rows) for word in ("missed", "not known"))
    return [
        paragraph(
            f"{missed} of {len(rows)} targets are missed{f', {unknown} are not known' if unknown else ''}. What each "
            "measure is stands at the end of the page."
        ),
        table(["stage", "measure", "reached", "target", "", "of users"], rows),
        paragraph("Targets are the operator's, from the stages file.", "soft"),
    ]


def newcomers_part(about: Material) -> list[Html]:
    """Activation and retention, for all, by channel and by surface; what became of the newest."""
    life, now = about.lifecycle, about.people.newcomer
    if not life.newcomers.users and not (now >= 0).any():
        return [paragraph(f"Nobody came in the {NEWCOMER_DAYS} days before the moment.")]
    head = ["", "came", *(said(name) for name in NEWCOMER_KPIS), "days to first order"]
    parts = [paragraph(_newcomers_said(life.newcomers))]
    parts.append(table(head, [_newcomer_row(life.newcomers)]))
    for caption, groups in (("By acquisition channel", life.by_channel), ("By surface", life.by_surface)):
        if groups:
            parts.append(table(head, [_newcomer_row(group) for group in groups[:SHOWN]], caption=caption))
    days, named = about.rules.table.newcomers.days, about.rules.table.names.newcomers
    rows: list[list[Cell]] = [
        [named[name].en, f"{(now == code).sum():,}"] for code, name in enumerate(get_args(Newcomer))
    ]
    parts.append(table(["", "users"], rows, caption=f"Users who came in the last {days} days"))
    parts.append(
        paragraph(
            f"Newcomers came in the {NEWCOMER_DAYS} days before the moment; a share is of those for whom its days are "
            "over. Surface: where in the shop (app, web …) a user was first seen.",
            "soft",
        )
    )
    return parts


def _newcomers_said(found: Newcomers) -> str:
    if np.isnan(found.activation):
        return f"{found.users:,} users came in the last {NEWCOMER_DAYS} days. How many of them buy is not known."
    half = "" if np.isnan(found.first_order_days) else f", half of these within {found.first_order_days:.1f} days"
    return (
        f"{found.activation:.0%} of newcomers buy within {RETURN_DAYS} days{half}; {percent(found.retention[0])} are "
        f"back the next day, {percent(found.retention[2]) or 'a share not yet known'} on the 30th."
    )


def _newcomer_row(found: Newcomers) -> list[Cell]:
    shares = [percent(found.kpi(name)[0]) for name in NEWCOMER_KPIS]
    days = None if np.isnan(found.first_order_days) else f"{found.first_order_days:.1f}"
    return [found.name, f"{found.users:,}", *shares, days]


def returns_part(about: Material) -> list[Html]:
    """What users of each stage did since."""
    life = about.lifecycle
    rows: list[list[Cell]] = []
    for stage in STAGES[1:]:
        found = life.returns[stage]
        shares = [percent(getattr(found, name)) for name in ("active_7d", *RETURNS)] if found.users else [None] * 4
        rows.append([stage, f"{found.users:,}", *shares])
    dormant, lost = life.returns["dormancy"], life.returns["lost"]
    return [
        paragraph(
            f"Of {dormant.users:,} dormant users {RETURN_DAYS} days ago {percent(dormant.bought_again) or 'none'} "
            f"bought since; of {lost.users:,} lost ones {percent(lost.bought_again) or 'none'}, and "
            f"{percent(lost.kept_buying) or 'none'} twice or more. Nobody's doing is claimed here: only a control "
            "group tells what contacts did."
        ),
        table(["stage before", "users", "active in 7 days", "opened", "bought", "two or more orders"], rows),
    ]


def cohorts_part(found: Cohorts) -> list[Html]:
    """Retention by month or week of the first purchase."""
    mean = found.mean
    known = [step for step in (1, 3, 6, 12) if step < mean.size and np.isfinite(mean[step])]
    shares = ", ".join(f"{mean[step]:.0%} in {found.unit} {step}" for step in known)
    text = (
        f"Of all customers, counted from the {found.unit} of their first purchase, {shares} buy."
        if shares
        else f"No {found.unit} after a first purchase is over yet."
    )
    return [
        picture(plots.cohort_plot(found), text),
        paragraph(
            f"A cohort is those whose first known purchase fell into a calendar {found.unit} (UTC); the log's first "
            f"cohort holds whoever bought already before the log began. A {found.unit} that is not over is left blank.",
            "soft",
        ),
    ]
