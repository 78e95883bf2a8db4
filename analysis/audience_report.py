"""The page on which operators see their user base: who is where, who moved, who stays, and how the measures stand."""

from analysis.audience_groups import (
    FEW,
    cohorts_part,
    flows_part,
    newcomers_part,
    returns_part,
    structure_part,
    targets_part,
)
from analysis.audience_material import Material, audience_material
from analysis.audience_people import leaving_part, penetration_part, rfm_part, tiers_part
from analysis.audience_words import day, moved, said, share
from analysis.lifecycle import KPIS, RETURN_DAYS
from analysis.page import Html, Section, listing, page, paragraph
from features.audience.stages import STAGES

FILE = "audience.html"

__all__ = ["FILE", "Material", "audience_material", "audience_report", "verdict"]


def audience_report(about: Material) -> Html:
    """The whole page."""
    borders = about.rules.borders
    lead = [
        paragraph(
            f"Data: {about.name}, as known on {day(about.as_of)}. Dormant: no purchase for more than "
            f"{borders.dormant_days:.0f} days; lost: for more than {borders.lost_days:.0f}; mature: "
            f"{borders.maturity_orders} orders or more. A period is {RETURN_DAYS} days.",
            "soft",
        ),
        *(paragraph(text, "verdict") for text in verdict(about)),
        *(paragraph(" ".join(told), "warning") for told in (_fallback(about), about.lifecycle.not_seen) if told),
    ]
    sections = [
        Section("structure", "Who is where", structure_part(about)),
        Section("flows", "Who moved", flows_part(about)),
        Section("targets", "Measures against targets", targets_part(about)),
        Section("newcomers", "Newcomers", newcomers_part(about)),
        Section("returns", "Who comes back", returns_part(about)),
        Section("cohorts", "Who stays", cohorts_part(about.structure.cohorts)),
        Section("rfm", "Recency, frequency, money", rfm_part(about)),
        Section("tiers", "Tiers and levels", tiers_part(about)),
        Section("penetration", "What they buy", penetration_part(about.structure)),
        Section("leaving", "About to leave, and left", leaving_part(about)),
        Section("definitions", "What the measures mean", [listing([(said(n), text) for n, text in KPIS.items()])]),
    ]
    return page(f"User base, {day(about.as_of)}", lead, sections)


def verdict(about: Material) -> list[str]:
    """The page in a few sentences."""
    found = about.structure
    registered, paying = int(found.registered[-1]), int(found.paying[-1])
    count = dict(zip(STAGES, found.stages[-1].tolist(), strict=True))
    part = f" ({share(paying, registered)})" if registered else ""
    says = [
        f"{registered:,} registered users, of whom {paying:,}{part} paid in the last period. "
        f"{count['introduction'] + count['growth'] + count['maturity']:,} are customers in introduction, growth or "
        f"maturity; {count['dormancy'] + count['lost']:,} have left ({count['dormancy']:,} dormant, {count['lost']:,} "
        f"lost); {count['registered']:,} never bought."
    ]
    if len(found.moments) > 1:
        says.append(moved(found))
    known = [t for t in about.lifecycle.against(about.stages) if t.met is not None and t.users >= FEW]
    missed = [t for t in known if not t.met]
    if known:
        text = f"{len(known) - len(missed)} of {len(known)} measures reach their targets"
        if missed:
            worst = max(missed, key=lambda t: 1 - t.reached / t.target)
            off = f"{worst.reached:.1%} where {worst.target:.0%} is meant"
            text += f"; furthest off: {said(worst.kpi)} in {worst.stage}, {off}"
        says.append(f"{text}.")
    return says


def _fallback(about: Material) -> list[str]:
    wanting = about.learned.wanting
    return [f"Borders are the fallback of the settings, not learned: {wanting}."] if wanting else []
