"""The page of one user: where they stand, what they did month by month, what they like, and when they come."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from analysis.page import Cell, Html, Section, listing, page, paragraph, picture, pictures, table
from features.audience.needs_table import Need, NeedsTable
from features.audience.persona import Breadth, Persona, Share, time_of
from features.audience.persona_past import HOURS, WEEKDAYS
from features.audience.persona_reports import Report
from features.audience.segments import Named, SegmentTable
from features.audience.stages import STAGES, StageTable, StageText
from features.timeline import Array
from models.audience import Profile
from models.persona_words import PersonaWords, amount, load, persona_text, report_text
from models.words import Language

COLOUR, LIGHT, HEAT = "#0b6e8a", "#85b6c4", "GnBu"
SHOWN_MONTHS = 24  # the newest, in the table and the pictures
NEWEST = 8  # new categories listed


def names_of(stages: StageTable, segments: SegmentTable, needs: NeedsTable, language: Language) -> dict[str, str]:
    """What the operators call the codes of a profile, by code."""
    own = segments.names
    named: list[tuple[str, StageText | Named | Need]] = [(stage, stages.text(stage)) for stage in STAGES]
    named += [*own.segments.items(), *own.tiers.items(), *own.newcomers.items()]
    named += [*((level.name, level) for level in segments.levels), *((need.name, need) for need in needs.needs)]
    return {code: of.zh if language == "zh" else of.en for code, of in named}


def user_page(
    persona: Persona, profile: Profile | None, language: Language, names: Mapping[str, str] | None = None
) -> Html:
    """The whole page.

    Args:
        names: what codes of the profile are called (`names_of`); a code without a name stands as it is.
    """
    texts = load(language)
    moment = time_of(persona.as_of)
    told = texts.fill("page.as_of", date=texts.date(persona.as_of), time=f"{moment:%H:%M}")
    lead = [paragraph(persona_text(persona, language), "verdict"), paragraph(told, "soft")]
    parts = {
        "glance": _glance(persona, texts),
        "state": _state(profile, texts, names or {}) if profile else [],
        "needs": _needs(profile, texts, names or {}) if profile else [],
        "months": _months(persona, texts),
        "report": _last_month(persona, texts),
        "years": [_periods(persona.years, texts)] if len(persona.years) > 1 else [],
        "likes": _likes(persona, texts),
        "habits": _habits(persona, texts),
    }
    sections = [Section(name, _label(texts, name), made) for name, made in parts.items() if made]
    title = texts.fill("page.title", id=texts.who(persona.user_id).strip(" ,"))
    return page(title, lead, sections, language)


def _label(texts: PersonaWords, name: str) -> str:
    return str(texts.texts["page"][name])


def _glance(persona: Persona, texts: PersonaWords) -> list[Html]:
    rhythm, band, breadth = persona.rhythm, persona.price_band, persona.breadth
    each = persona.spend / persona.orders if persona.spend is not None and persona.orders else None
    found: dict[str, str | None] = {
        "orders": f"{persona.orders:,}",
        "items": _count(persona.items or None),
        "spend": _money(persona.spend or None),
        "each": _money(each),
        "saved": _money(persona.saved or None),
        "refunded": _money(persona.refunded or None),
        "coupons_used": _count(persona.coupons_used or None),
        "views": _count(persona.views),
        "categories": texts.fill("page.categories_of", bought=breadth.bought, of=breadth.of)
        if breadth and breadth.bought
        else None,
        "price_band": " · ".join(amount(price) for price in vars(band).values()) if band else None,
        "usual_days": f"{rhythm.usual_days:.1f}" if rhythm and rhythm.usual_days is not None else None,
        "last_order": texts.date(rhythm.last_order) if rhythm else None,
        "next_expected": texts.date(rhythm.next_expected) if rhythm and rhythm.next_expected else None,
    }
    return [listing([(_label(texts, name), value) for name, value in found.items() if value is not None])]


def _state(profile: Profile, texts: PersonaWords, names: Mapping[str, str]) -> list[Html]:
    def called(code: str | None) -> str | None:
        return None if code is None else _called(code, texts, names)

    risk, cause = called(profile.risk), called(profile.cause)
    if risk is not None and profile.probability is not None:
        risk = texts.fill("page.risk_probability", risk=risk, probability=profile.probability)
    if cause is not None and profile.cause_confidence is not None:
        cause = texts.fill("page.cause_confidence", cause=cause, confidence=profile.cause_confidence)
    points = f"{profile.points:,}"
    if profile.to_next is not None:
        points = texts.fill("page.points_next", points=points, next=f"{profile.to_next:,}")
    found: dict[str, str | None] = {
        "stage": called(profile.stage),
        "leaving": called(profile.leaving),
        "status": called(profile.status) if profile.status != "ok" else None,
        "risk": risk,
        "alarm": None if profile.alarm is None else called("yes" if profile.alarm else "no"),
        "cause": cause,
        "evidence": texts.texts["between"].join(profile.evidence) or None,
        "segment": called(profile.segment),
        "rfm": " · ".join(map(str, profile.rfm)) if profile.rfm else None,
        "tier": called(profile.tier),
        "newcomer": called(profile.newcomer),
        "decile": _count(profile.decile),
        "level": called(profile.level),
        "points": points if profile.level is not None else None,
    }
    return [listing([(_label(texts, name), value) for name, value in found.items() if value is not None])]


def _called(code: str, texts: PersonaWords, names: Mapping[str, str]) -> str:
    own: Mapping[str, str] = texts.texts["codes"]
    return names.get(code) or own.get(code) or code.replace("_", " ")


def _needs(profile: Profile, texts: PersonaWords, names: Mapping[str, str]) -> list[Html]:
    if not profile.needs:
        return []
    head = [_label(texts, name) for name in ("need", "strength", "since", "ends", "events")]
    rows = [
        [
            _called(need.name, texts, names),
            f"{need.strength:.2f}",
            _day(need.since),
            _day(need.ends),
            ", ".join(f"{e.kind} {e.category or e.item_id or ''} {_day(e.ts)}" for e in need.evidence),
        ]
        for need in profile.needs
    ]
    return [table(head, rows)]


def _months(persona: Persona, texts: PersonaWords) -> list[Html]:
    months = persona.months[-SHOWN_MONTHS:]
    if not any(month.active_days for month in months):
        return []
    drawn = []
    if len(months) > 1 and any(month.orders for month in months):
        name = "spend" if any(month.spend for month in months) else "orders"
        lighter = "" if months[-1].complete else _label(texts, "lighter")
        drawn.append(picture(_bars(months, name), f"{_label(texts, f'{name}_picture')}{lighter}"))
    if len(months) > 1 and persona.breadth and persona.breadth.bought:
        drawn.append(picture(_breadth(persona.breadth, months), _label(texts, "breadth_picture")))
    return [*([pictures(drawn)] if drawn else []), _periods(months, texts)]


def _periods(reports: Sequence[Report], texts: PersonaWords) -> Html:
    """A row a month or year in which the user did anything, the newest first: in numbers, then in names."""
    reports = [report for report in reports if report.active_days]
    acts: dict[str, list[Cell]] = {
        "views": [r.views for r in reports],
        "active_days": [r.active_days for r in reports],
    }
    bought: dict[str, list[Cell]] = {
        "orders": [r.orders for r in reports],
        "spend": [_money(r.spend) for r in reports],
        "change": [_changed(r) for r in reports],
        "saved": [_money(r.saved or None) for r in reports],
        "coupons_used": [r.coupons_used or None for r in reports],
        **acts,
        "categories": [r.categories for r in reports],
        "new_categories": [None if r.categories is None else len(r.new_categories) for r in reports],
    }
    names: dict[str, list[Cell]] = {
        "favourite_category": [r.favourite_category for r in reports],
        "most_bought": [_most_bought(r, texts) for r in reports],
    }
    any_orders, goes_on = any(r.orders for r in reports), not reports[-1].complete
    notes = [name for name, is_true in (("change_note", any_orders), ("goes_on_note", goes_on)) if is_true]
    tables = [_columns(reports, columns, texts) for columns in ((bought, names) if any_orders else (acts,))]
    return Html("".join([*tables, *(paragraph(_label(texts, note), "soft") for note in notes)]))


def _columns(reports: Sequence[Report], columns: Mapping[str, list[Cell]], texts: PersonaWords) -> Html:
    """Without the columns, and then the rows, in which there is nothing."""
    told = {name: cells for name, cells in columns.items() if any(cell is not None for cell in cells)}
    if not told:
        return Html("")
    rows = [
        [report.period if report.complete else f"{report.period} *", *cells]
        for report, cells in zip(reports, zip(*told.values(), strict=True), strict=True)
        if any(cell is not None for cell in cells)
    ]
    return table([_label(texts, name) for name in ("period", *told)], rows[::-1])


def _changed(report: Report) -> str | None:
    change = report.change
    if change is None or change.spend is None or not (report.spend or change.spend):
        return None
    return f"{change.spend:+,.2f}"


def _most_bought(report: Report, texts: PersonaWords) -> str | None:
    most = report.most_bought
    return texts.fill("counted", name=most.name or most.item_id, times=most.times) if most else None


def _last_month(persona: Persona, texts: PersonaWords) -> list[Html]:
    """The newest month that is over and in which the user did anything; else the present one."""
    active = [month for month in persona.months if month.active_days]
    chosen = [month for month in active if month.complete][-1:] or active[-1:]
    return [paragraph(report_text(persona, month.period, texts.language)) for month in chosen]


def _likes(persona: Persona, texts: PersonaWords) -> list[Html]:
    """Names, which may be long, are not the first column: that one is never broken."""
    parts = []
    for name, shares in (("by_spend", persona.by_spend), ("by_views", persona.by_views), ("brands", persona.brands)):
        if shares:
            head = [_label(texts, "rank"), _label(texts, name), _label(texts, "share")]
            parts.append(table(head, [[str(n), s.name, _percent(s)] for n, s in enumerate(shares, 1)]))
    if persona.breadth and persona.breadth.bought:
        newest = persona.breadth.grew_by[-NEWEST:][::-1]
        head = [_label(texts, "since"), _label(texts, "newest")]
        parts.append(table(head, [[_day(new.since), new.category] for new in newest]))
    return parts


def _habits(persona: Persona, texts: PersonaWords) -> list[Html]:
    if not np.any(persona.hours):
        return []
    return [picture(_heat(np.array(persona.hours)), _label(texts, "heat_picture"))]


def _percent(share: Share) -> str:
    return f"{100 * share.share:.0f} %"


def _money(value: float | None) -> str | None:
    return None if value is None else amount(value)


def _count(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _day(instant: int) -> str:
    return f"{time_of(instant):%Y-%m-%d}"


# In pictures stand digits only: not every machine has letters for every language.


def _bars(months: Sequence[Report], name: str) -> Figure:
    figure, axes = _drawing(2.6)
    values = [getattr(month, name) or 0 for month in months]
    axes.bar(range(len(values)), values, color=[COLOUR if month.complete else LIGHT for month in months])
    _name_months(axes, months)
    return figure


def _breadth(breadth: Breadth, months: Sequence[Report]) -> Figure:
    since = np.array([_day(new.since)[:7] for new in breadth.grew_by])
    figure, axes = _drawing(2.6)
    reached = [int((since <= month.period).sum()) for month in months]
    axes.plot(range(len(months)), reached, color=COLOUR, marker="o", ms=4)
    _name_months(axes, months)
    return figure


def _heat(hours: Array) -> Figure:
    figure, axes = _drawing(2.4)
    axes.imshow(hours, cmap=HEAT, vmin=0, vmax=max(int(hours.max()), 4), aspect="auto")
    axes.set_xticks(range(0, HOURS, 3), [str(hour) for hour in range(0, HOURS, 3)])
    axes.set_yticks(range(WEEKDAYS), [str(day + 1) for day in range(WEEKDAYS)])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(HOURS) + 0.5, minor=True)
    axes.set_yticks(np.arange(WEEKDAYS) + 0.5, minor=True)
    axes.grid(which="minor", color="white", lw=1)
    axes.tick_params(which="minor", length=0)
    return figure


def _drawing(height: float) -> tuple[Figure, Axes]:
    """Small, so that its digits can be read on a telephone."""
    figure = Figure(figsize=(5.6, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _name_months(axes: Axes, months: Sequence[Report]) -> None:
    step = -(-len(months) // 5)
    shown = range(len(months) - 1, -1, -step)
    axes.set_xticks(list(shown), [months[place].period for place in shown])
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlim(-0.6, len(months) - 0.4)
    axes.set_ylim(bottom=0)
