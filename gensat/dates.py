"""Dates of which any part may be unknown."""

from __future__ import annotations

import calendar
import datetime
import re
from dataclasses import dataclass

from gensat.errors import InputError

YEARS = (1900, 2100)
"""First and last year a date may have: aerial photography on one side, scenario years on the other."""

_DATE = re.compile(r"(\d{4}|-)(?:-(\d{1,2})|(-)(?=-))?(?:-(\d{1,2}))?")
_TIME = re.compile(r"[T ]\d{2}:?\d{2}.*")


@dataclass(frozen=True)
class PartialDate:
    """A date of which each part may be unknown on its own; false when nothing is known.

    Args:
        year: 1900 to 2100, or None.
        month: 1 to 12, or None.
        day: 1 to 31, or None; checked against the calendar as far as month and year are known.

    ``str(date)`` writes ISO 8601 with a dash for an unknown part (``2017``, ``2017-08``, ``2017-08-31``, ``--08``,
    ``--08-31``, ``---31``, ``2017--31``; nothing known is the empty string) and :meth:`parse` reads it back.

    Raises:
        InputError: a part is out of range or the day does not exist in that month.
    """

    year: int | None = None
    month: int | None = None
    day: int | None = None

    def __post_init__(self) -> None:
        if self.year is not None and not YEARS[0] <= self.year <= YEARS[1]:
            raise InputError(f"year {self.year} is outside {YEARS[0]} to {YEARS[1]}; give a four-digit year")
        if self.month is not None and not 1 <= self.month <= 12:
            raise InputError(f"month {self.month} is outside 1 to 12; write dates as YYYY-MM-DD")
        if self.day is not None:
            # In an unknown year February may have 29 days (2000 was a leap year); in an unknown month there may be 31.
            last = calendar.monthrange(self.year or 2000, self.month)[1] if self.month is not None else 31
            if not 1 <= self.day <= last:
                raise InputError(f"date {self} does not exist; the day must be 1 to {last}")

    def __bool__(self) -> bool:
        return (self.year, self.month, self.day) != (None, None, None)

    def __str__(self) -> str:
        year = f"{self.year:04d}" if self.year is not None else "-" if self else ""
        month = f"-{self.month:02d}" if self.month is not None else "-" if self.day is not None else ""
        return year + month + (f"-{self.day:02d}" if self.day is not None else "")

    @classmethod
    def parse(cls, value: str | int | datetime.date | PartialDate | None) -> PartialDate:
        """Reads a date: ISO 8601 text (a time of day is dropped), a year, a ``datetime.date``, or None for unknown.

        Raises:
            InputError: the text is no date, or the date does not exist.
        """
        if isinstance(value, PartialDate):
            return value
        if isinstance(value, datetime.date):
            return cls(value.year, value.month, value.day)
        text = "" if value is None else str(value).strip()
        if not text:
            return cls()
        match = _DATE.match(text)
        rest = text[match.end() :] if match else text
        if not match or (rest and not (match[4] and _TIME.fullmatch(rest))) or text == "-":
            raise InputError(f"date {text!r} is not understood; write YYYY, YYYY-MM or YYYY-MM-DD (--MM: year unknown)")
        year, month, day = match[1], match[2], match[4]
        return cls(None if year == "-" else int(year), int(month) if month else None, int(day) if day else None)
