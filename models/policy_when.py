"""When a contact may go out, and the occasions that set ladders off."""

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from features.audience.directory import Entry
from features.events import columns as c
from models.contacts import Contacts
from models.playbook import Playbook
from models.playbook_parts import Day, Quiet, Trigger

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR = 60 * c.MINUTE


class Calendar:
    """Dates and quiet hours of a zone. A date is its ordinal, so that dates can be subtracted."""

    def __init__(self, zone: str, quiet: Quiet | None = None) -> None:
        self._zone = ZoneInfo(zone)
        self._is_utc = zone == "UTC"
        self._quiet = quiet

    def local(self, ts: int) -> datetime:
        """An instant (µs) as the zone's clocks show it."""
        return (_EPOCH + timedelta(microseconds=ts)).astimezone(self._zone)

    def date(self, ts: int) -> int:
        """The date of an instant (µs)."""
        return ts // c.DAY + _EPOCH.toordinal() if self._is_utc else self.local(ts).toordinal()

    def begins(self, day: int, hour: int = 0) -> int:
        """The instant (µs) of a date's hour."""
        at = datetime.combine(date.fromordinal(day), time(hour), self._zone)
        return (at - _EPOCH) // timedelta(microseconds=1)

    def send_at(self, as_of: int) -> int:
        """The instant itself or, in quiet hours, their end (µs)."""
        if self._quiet is None:
            return as_of
        start, end, hour = self._quiet.from_hour, self._quiet.to_hour, self.local(as_of).hour
        past_midnight = start > end
        if not ((hour >= start or hour < end) if past_midnight else start <= hour < end):
            return as_of
        return self.begins(self.date(as_of) + (past_midnight and hour >= start), end)


def occasion(
    trigger: Trigger, contact: Contacts, entry: Entry, at: int, as_of: int, calendar: Calendar, book: Playbook
) -> int | None:
    """The instant (µs) from which the newest occasion counts that is open at an instant; None if there is none.

    A ladder is set off once by each: not if one of its messages was sent at that instant or later.
    """
    if trigger.on == "registered":
        # What the users table tells may lie ahead; a contact goes out at `at`, but is decided on before.
        known = [ts for ts in (contact.registered_at, entry.registered_at) if ts is not None and ts < as_of]
        return _after(min(known, default=None), trigger, at)
    if trigger.on == "abandoned_order":
        return _after(contact.abandoned_at, trigger, at)
    if trigger.on == "benefit":
        valid, before = trigger.valid_days * c.DAY, trigger.days_before * c.DAY
        near = [ts + valid - before for ts in contact.benefits if ts + valid - before <= at < ts + valid]
        return max(near, default=None)
    today = calendar.date(at)
    if trigger.on == "birthday":
        days = _birthdays(entry.birthday, today) if entry.birthday else ()
    else:
        days = _days(book.days[trigger.day or ""], today, trigger.days_before)
    near = [day - trigger.days_before for day in days if day - trigger.days_before <= today <= day]
    return calendar.begins(max(near)) if near else None


def _after(anchor: int | None, trigger: Trigger, at: int) -> int | None:
    if anchor is None:
        return None
    is_open = anchor + trigger.after_hours * _HOUR <= at < anchor + trigger.within_days * c.DAY
    return anchor if is_open else None


def _birthdays(birthday: date, today: int) -> tuple[int, ...]:
    """Of this year and the next; of those born on 29 February, the 28th in other years."""
    year = date.fromordinal(today).year
    return tuple(_in_year(y, birthday.month, birthday.day) for y in (year, year + 1))


def _in_year(year: int, month: int, day: int) -> int:
    try:
        return date(year, month, day).toordinal()
    except ValueError:
        return date(year, month, 28).toordinal()


@cache
def _named(dates: tuple[str, ...], year: int) -> tuple[int, ...]:
    """Dates of a list, those without a year in this one and the next."""
    out = []
    for text in dates:
        if len(text) > 5:
            out.append(date.fromisoformat(text).toordinal())
        else:
            out += [_in_year(y, int(text[:2]), int(text[3:])) for y in (year, year + 1)]
    return tuple(out)


def _days(day: Day, today: int, before: int) -> tuple[int, ...]:
    """The day's dates from today on for so many days, and those that are further away in the list."""
    near = range(today, today + before + 1)
    monthly = tuple(on for on in near if date.fromordinal(on).day in day.days_of_month)
    return _named(day.dates, date.fromordinal(today).year) + monthly
