"""UTC as integers inside and as one fixed text on the wire, `YYYY-MM-DDTHH:MM:SS.mmmZ`.

Integer arithmetic only, and one spelling per moment: text is compared, hashed and sorted, so that a second spelling of
the same time (no milliseconds, `+00:00`, a leap second) is refused instead of being normalised. Before this come Unix
milliseconds of the clock port, after it every payload (wire format, section 2).
"""

import re
from functools import lru_cache

MS_PER_DAY = 86_400_000
MS_MAX = 253_402_300_799_999
"""The last millisecond of the year 9999."""

_TEXT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})\.([0-9]{3})Z")


def _days_of_civil(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 in the Gregorian calendar, counted in 400-year eras that begin in March."""
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468


def _civil_of_days(days: int) -> tuple[int, int, int]:
    """Year, month and day of a number of days from 1970-01-01; the inverse of `_days_of_civil`."""
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return era * 400 + year_of_era + (month <= 2), month, day_of_year - (153 * shifted + 2) // 5 + 1


@lru_cache(maxsize=512)
def text_of_ms(ms: int) -> str:
    """Write Unix milliseconds as UTC text.

    A batch tells each time twice, and the next one half of them again.

    Raises:
        ValueError: before 1970 or after 9999.
    """
    if not 0 <= ms <= MS_MAX:
        raise ValueError(f"{ms} ms is outside the years 1970 to 9999")
    days, of_day = divmod(ms, MS_PER_DAY)
    year, month, day = _civil_of_days(days)
    seconds, milli = divmod(of_day, 1_000)
    return (
        f"{year:04d}-{month:02d}-{day:02d}"
        f"T{seconds // 3_600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{milli:03d}Z"
    )


@lru_cache(maxsize=512)
def ms_of_text(text: str) -> int:
    """Read UTC text back to Unix milliseconds.

    A delta begins when the one before it ended, and a sweep reads many meters in one day: the same texts come again.

    Raises:
        ValueError: any other spelling, a day or time that does not exist, a year before 1970.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not UTC text of the form YYYY-MM-DDTHH:MM:SS.mmmZ")
    hour, minute, second, milli = (int(group) for group in match.groups()[1:])
    midnight = _midnight_ms(match[1])
    if midnight is None or hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"{text!r} is not a time between 1970 and 9999")
    return midnight + ((hour * 60 + minute) * 60 + second) * 1_000 + milli


@lru_cache(maxsize=64)
def _midnight_ms(date: str) -> int | None:
    """When a day given as `YYYY-MM-DD` begins; None for one that does not exist or lies before 1970."""
    year, month, day = int(date[:4]), int(date[5:7]), int(date[8:])
    if year < 1970 or not 1 <= month <= 12:
        return None
    days = _days_of_civil(year, month, day)
    return days * MS_PER_DAY if _civil_of_days(days) == (year, month, day) else None
