"""Moments as people write them, as µs since 1970."""

from datetime import UTC, datetime, timedelta

from features.errors import UserError


def instant(moment: str | datetime | int) -> int:
    """µs of an ISO date or time or of a datetime, UTC without a zone; µs are left as they are.

    Raises:
        UserError: the text is neither a date nor a time.
    """
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError as error:
            example = "2011-09-10 or 2011-09-10T12:00:00+01:00"
            raise UserError(f"--as-of {moment!r} is not an ISO date or time; write {example}") from error
    if isinstance(moment, datetime):
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return moment
