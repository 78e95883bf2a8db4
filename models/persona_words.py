"""A persona in words: sentences about a user for those who run the shop, and a report of a month or year to the user.

The texts stand in `persona.toml`; numbers are filled in by `models.words`.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from features.audience.persona import Persona, Share, time_of
from features.audience.persona_past import HOURS
from features.audience.persona_reports import Change, Report
from features.events import columns as c
from models import words
from models.words import Language

Sentence = tuple[str, dict[str, float | str]]  # a text's name and what fills its holes

LISTED = 3  # favourites named in a sentence
NEW_LISTED = 5  # new categories named
HABIT = 2  # what was so on one day only is none


@dataclass(frozen=True)
class PersonaWords:
    """The texts of a language."""

    texts: Mapping[str, Any]
    words: words.Words
    language: Language

    def fill(self, text: str, **values: float | str) -> str:
        """A text of the file by its name, or within a part as "part.name"."""
        part, _, name = text.rpartition(".")
        template = self.texts[part][name] if part else self.texts[name]
        return self.words.filled(template, values)

    def said(self, part: str, sentences: Iterator[Sentence]) -> str:
        """Sentences one after the other."""
        filled = (self.fill(f"{part}.{name}", **values) for name, values in sentences)
        return str(self.texts["between"]).join(text[:1].upper() + text[1:] for text in filled)

    def date(self, instant: int) -> str:
        """The UTC day of an instant (µs)."""
        day = time_of(instant)
        return self.fill("date", day=str(day.day), month=self.texts["months"][day.month - 1], year=str(day.year))

    def period(self, period: str) -> str:
        """A month "2017-11" or a year "2017"."""
        year, _, month = period.partition("-")
        if not month:
            return self.fill("year", year=year)
        return self.fill("month", year=year, month=self.texts["months"][int(month) - 1])

    def hour(self, hour: int) -> str:
        """An hour of the day, as from when to when."""
        return self.fill("hour", **{"from": str(hour), "to": str((hour + 1) % HOURS or HOURS)})

    def listed(self, names: Sequence[str]) -> str:
        """Names in a row."""
        *first, last = names
        return f"{self.texts['comma'].join(first)}{self.texts['and']}{last}" if first else last

    def shares(self, shares: Sequence[Share]) -> str:
        """The first favourites with their shares."""
        return self.listed([self.fill("shared", name=s.name, share=s.share) for s in shares[:LISTED]])

    def who(self, user_id: str) -> str:
        """A user or a device by id."""
        is_device = user_id.startswith(c.ANONYMOUS)
        return self.fill("device" if is_device else "user", id=user_id.removeprefix(c.ANONYMOUS))


@cache
def load(language: Language) -> PersonaWords:
    """The texts of a language."""
    texts = tomllib.loads((files("models") / "persona.toml").read_text("utf-8"))[language]
    return PersonaWords(texts, words.load(language), language)


def persona_text(persona: Persona, language: Language) -> str:
    """What is known of a user, in a few sentences for those who run the shop."""
    texts = load(language)
    return texts.said("persona", _about(persona, texts)).strip()


def report_text(persona: Persona, period: str, language: Language) -> str:
    """A user's month ("2017-11") or year ("2017"), in a few sentences to the user.

    Raises:
        UserError: there is no report of that period.
    """
    texts = load(language)
    return texts.said("report", _told(persona, persona.report(period), texts)).strip()


def amount(value: float) -> str:
    """Money, to the cent."""
    return f"{value:,.2f}"


def _about(persona: Persona, texts: PersonaWords) -> Iterator[Sentence]:
    who = texts.who(persona.user_id)
    if persona.first_seen is None or persona.last_seen is None:
        yield "unseen", {"who": who}
    else:
        first, last = texts.date(persona.first_seen), texts.date(persona.last_seen)
        yield "seen_once" if first == last else "seen", {"who": who, "first": first, "last": last}
        yield from _money(persona)
        yield from _rhythm(persona, texts)
        yield from _likes(persona, texts)
        yield from _habits(persona, texts)


def _money(persona: Persona) -> Iterator[Sentence]:
    orders: dict[str, float | str] = {"orders": persona.orders, "items": persona.items}
    if not persona.orders:
        yield "no_orders", {}
    elif not persona.spend:
        yield "orders", orders
    else:
        orders |= {"spend": amount(persona.spend), "each": amount(persona.spend / persona.orders)}
        yield "spent_once" if persona.orders == 1 else "spent", orders
    if persona.saved and persona.spend is not None:
        share = persona.saved / (persona.saved + persona.spend)
        yield "saved" if share >= 0.01 else "saved_little", {"saved": amount(persona.saved), "share": share}
    if persona.coupons_used:
        yield "coupons", {"coupons": persona.coupons_used}
    if persona.refunded:
        yield "refunded", {"refunded": amount(persona.refunded)}
    if band := persona.price_band:
        prices: dict[str, float | str] = {name: amount(price) for name, price in vars(band).items()}
        yield "price" if prices["low"] == prices["high"] else "prices", prices


def _rhythm(persona: Persona, texts: PersonaWords) -> Iterator[Sentence]:
    rhythm = persona.rhythm
    if rhythm is None or rhythm.usual_days is None or rhythm.next_expected is None:
        return
    if persona.orders == 2:
        yield "apart", {"days": float(max(round(rhythm.usual_days), 1))}
    elif rhythm.usual_days < 1:
        yield "often", {"last": texts.date(rhythm.last_order)}
    else:
        is_over = rhythm.next_expected < persona.as_of
        every: dict[str, float | str] = {
            "every": float(round(rhythm.usual_days)),
            "next": texts.date(rhythm.next_expected),
        }
        yield "rhythm_over" if is_over else "rhythm", every


def _likes(persona: Persona, texts: PersonaWords) -> Iterator[Sentence]:
    if persona.by_spend:
        yield "by_spend", {"list": texts.shares(persona.by_spend)}
    if persona.by_views:
        yield "by_views", {"list": texts.shares(persona.by_views)}
    if len(persona.brands) == 1:
        yield "brand", {"list": persona.brands[0].name}
    elif persona.brands:
        yield "brands", {"list": texts.shares(persona.brands)}
    breadth = persona.breadth
    if breadth and breadth.bought:
        newest = breadth.grew_by[-1]
        values: dict[str, float | str] = {"bought": breadth.bought, "of": breadth.of}
        values |= {"newest": newest.category, "since": texts.date(newest.since)}
        yield "breadth_one" if breadth.bought == 1 else "breadth", values


def _habits(persona: Persona, texts: PersonaWords) -> Iterator[Sentence]:
    weekday, hour = int(np.argmax(persona.weekdays)), int(np.sum(persona.hours, axis=0).argmax())
    values = {"weekday": texts.texts["weekdays"][weekday], "hour": texts.hour(hour)}
    by_day = persona.weekdays[weekday] >= HABIT
    by_hour = sum(row[hour] for row in persona.hours) >= HABIT
    if by_day or by_hour:
        yield "habits" if by_day and by_hour else "habits_day" if by_day else "habits_hour", values


def _told(persona: Persona, report: Report, texts: PersonaWords) -> Iterator[Sentence]:
    period = texts.period(report.period)
    if not report.complete:
        period = texts.fill("so_far", period=period, date=texts.date(persona.as_of - 1))
    if report.orders:
        orders: dict[str, float | str] = {"period": period, "orders": report.orders, "items": report.items}
        orders |= {"spend": amount(report.spend or 0)}
        yield "spent" if report.spend else "orders", orders
    else:
        yield "nothing", {"period": period}
    if report.change and report.orders:
        yield from _changed(report, report.change, texts)
    if report.saved:
        yield "saved", {"saved": amount(report.saved)}
    if report.coupons_used:
        yield "coupons", {"coupons": report.coupons_used}
    if report.favourite_category:
        yield "favourite_category", {"name": report.favourite_category}
    if (most := report.most_bought) and most.times > 1:
        yield "most_bought", {"name": most.name or most.item_id, "times": most.times}
    if report.new_categories and not _first_order_in(persona, report.period):
        yield "new", {"list": _named(report.new_categories, texts)}
    if report.views:
        yield "views", {"views": report.views}
    if report.active_days and report.busiest_hour is not None:
        yield "days", {"days": report.active_days, "hour": texts.hour(report.busiest_hour)}


def _first_order_in(persona: Persona, period: str) -> bool:
    """Then everything is new, and it goes without saying."""
    return next((month.period for month in persona.months if month.orders), "").startswith(period)


def _changed(report: Report, change: Change, texts: PersonaWords) -> Iterator[Sentence]:
    if change.spend is None:
        return
    before = texts.period(str(np.datetime64(report.period) - 1))
    before = before if report.complete else texts.fill("report.same_days", period=before)
    name = "more" if change.spend > 0 else "less" if change.spend < 0 else "same"
    yield name, {"by": amount(abs(change.spend)), "before": before}


def _named(names: Sequence[str], texts: PersonaWords) -> str:
    if len(names) <= NEW_LISTED + 1:
        return texts.listed(names)
    shown = texts.texts["comma"].join(names[:NEW_LISTED])
    return texts.fill("more", list=shown, more=len(names) - NEW_LISTED, all=len(names))
