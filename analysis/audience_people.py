"""Parts of the audience report on who users are: segments, tiers, what they buy, who is about to leave."""

from typing import get_args

import numpy as np

from analysis import audience_plots as plots
from analysis.audience_groups import SHOWN
from analysis.audience_material import Material
from analysis.audience_words import day, mean, percent, share
from analysis.page import Cell, Html, paragraph, picture, table
from analysis.people import CUSTOMERS, People
from analysis.structure import Structure
from features.audience.rfm import SEGMENTS, Segment
from features.audience.segments import Tier
from features.audience.stages import STAGES
from features.timeline import Array


def rfm_part(about: Material) -> list[Html]:
    """The map of recency and frequency, and the eight segments."""
    who, names = about.people, about.rules.table.names.segments
    bought = who.customers
    if not bought.any():
        return [paragraph("Nobody has bought yet.")]
    risks = bool(np.isfinite(who.probability).any())
    rows: list[list[Cell]] = []
    for code, segment in enumerate(get_args(Segment)):
        chosen = bought & (who.segment == code)
        customers: list[Cell] = [f"{chosen.sum():,}", share(chosen.sum(), bought.sum())]
        spent = share(who.spend[chosen].sum(), who.spend[bought].sum())
        risk = [percent(mean(who.probability[chosen]))] if risks else []
        rows.append([names[segment].en, *customers, spent, *risk])
    best = bought & (who.segment == SEGMENTS.index("important_value"))
    brought = share(who.spend[best].sum(), who.spend[bought].sum())
    text = f"{share(best.sum(), bought.sum())} of the {bought.sum():,} customers are high on all three" + (
        f" and bring {brought} of the last year's spend." if brought else "."
    )
    head = ["segment", "customers", "share", "of the year's spend", *["mean risk of leaving"][: int(risks)]]
    return [
        picture(plots.rfm_plot(who), text),
        table(head, rows),
        paragraph(
            f"Scores are fifths of customers, 5 the best; from {about.rules.table.rfm.high} on a score is high. "
            "Frequency and money are of the last 365 days. Important: money is high.",
            "soft",
        ),
    ]


def tiers_part(about: Material) -> list[Html]:
    """Customers by tier, registered users by level of growth."""
    who, named = about.people, about.rules.table
    bought, everybody = who.customers, who.stage != STAGES.index("anonymous")
    tiers: list[list[Cell]] = [
        [named.names.tiers[tier].en, *weight(who.tier == code, bought, who.value)]
        for code, tier in enumerate(get_args(Tier))
    ]
    levels: list[list[Cell]] = [
        [level.en, f"{level.points:,}", *weight(who.level == code, everybody, who.value)]
        for code, level in enumerate(named.levels)
    ]
    return [
        table(["tier", "customers", "share", "of spend so far"], tiers, caption="Customers by tier"),
        table(
            ["level", "from points", "users", "share", "of spend so far"],
            levels,
            caption="Registered users by level",
        ),
    ]


def weight(chosen: Array, of: Array, value: Array) -> list[Cell]:
    """How many of some users are chosen, their share, and their share of what was spent."""
    both = chosen & of
    return [f"{both.sum():,}", share(both.sum(), of.sum()), share(value[both].sum(), value[of].sum())]


def penetration_part(found: Structure) -> list[Html]:
    """Shares of the largest categories, and breadth."""
    if not found.categories:
        return [paragraph("The log and the items table name no categories, so what is bought is not known.")]
    first, last = (day(found.moments[place]) for place in (0, -1))
    rows: list[list[Cell]] = []
    for place, name in enumerate(found.categories[:SHOWN]):
        before, now = found.buyers[[0, -1], place].tolist()
        rows.append([name, f"{before:,}", f"{now:,}", percent(float(found.penetration[-1, place]))])
    breadth, most = found.breadth, float(found.penetration[-1, 0])
    text = (
        f"A buyer bought in {breadth[-1]:.1f} of {found.in_all[-1]:,} categories in the last period "
        f"({breadth[0]:.1f} in that to {first}); most buy in {found.categories[0]}, {most:.0%} of those who paid."
    )
    if not found.category_buyers[-1]:
        text = "Nobody bought in a category in the last period."
    return [
        picture(plots.penetration_plot(found), text),
        table(["category", f"buyers to {first}", f"to {last}", "of paying users"], rows),
    ]


def leaving_part(about: Material) -> list[Html]:
    """Who has left, and who is about to, which are two things."""
    who = about.people
    left = f"{int(who.left.sum()):,} have left: they are dormant or lost, and are to be won back."
    if not who.warned:
        unknown = "no churn model was given, and the log has no browsing from which the operators' alarm could be told"
        return [paragraph(f"{left} Who is about to leave is not known: {unknown}.")]
    rows: list[list[Cell]] = []
    for code in CUSTOMERS:
        chosen = who.stage == code
        counts = [f"{int(part.sum()):,}" for part in (chosen, chosen & who.risky, chosen & who.rings)]
        rows.append([STAGES[code], *counts, *weight(who.about_to_leave, chosen, who.value)])
    model, alarm = bool(np.isfinite(who.probability).any()), bool(who.alarm_known.any())
    signs = [
        *["the model calls their risk high"][: int(model)],
        *["the operators' alarm rings (unseen for a week after browsing had fallen by half)"][: int(alarm)],
    ]
    about_to = (
        f"{int(who.about_to_leave.sum()):,} are about to leave, and are to be kept: customers in introduction, growth "
        f"or maturity for whom {' or '.join(signs)}."
    )
    return [
        paragraph(f"{about_to} {left}"),
        *([picture(plots.risk_plot(who), _risk_said(who))] if model else []),
        table(["stage", "customers", "risk high", "alarm rings", "about to leave", "share", "of their spend"], rows),
    ]


def _risk_said(who: People) -> str:
    median = {
        name: float(np.nanmedian(who.probability[who.segment == code]))
        for code, name in enumerate(SEGMENTS)
        if np.isfinite(who.probability[who.segment == code]).any()
    }
    if not median:
        return "Nobody who bought has a probability of leaving."
    low, high = min(median, key=lambda name: median[name]), max(median, key=lambda name: median[name])
    return (
        f"Half of the segment {low.replace('_', ' ')} leave with a probability under {median[low]:.0%}, half of "
        f"{high.replace('_', ' ')} with one over {median[high]:.0%}."
    )
