"""When a task runs: cron expressions of five fields, in UTC.

Taken is only what means the same to every cron: days of the week by name (0 is Monday to some and
Sunday to others), and no day of the month together with a day of the week.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from apscheduler.triggers.cron import CronTrigger

OFF: Final = "off"
ALLOWED: Final = (
    "minute, hour, day, month and day of the week in UTC, such as '*/5 * * * *' or '30 2 * * sun'"
)
_DAY: Final = r"(?:mon|tue|wed|thu|fri|sat|sun)"
_MONTH: Final = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"


def _list(one: str) -> str:
    term = rf"(?:\*(?:/[0-9]{{1,2}})?|{one}(?:-{one}(?:/[0-9]{{1,2}})?)?)"
    return rf"{term}(?:,{term})*"


_NUMBERS: Final = _list(r"[0-9]{1,2}")
_FIELDS: Final = (_NUMBERS, _NUMBERS, _NUMBERS, f"{_NUMBERS}|{_list(_MONTH)}", _list(_DAY))
# Found by now, or never: the rarest day comes within eight years (29 February, 1900 and 2100).
_FROM: Final = datetime(2026, 1, 1, tzinfo=UTC)
_DAY_LONG: Final = timedelta(days=1)
_WEEK: Final = timedelta(days=7)
_YEARS: Final = timedelta(days=9 * 366)


def is_off(text: str) -> bool:
    """Return whether a task is switched off; YAML of 1.1 makes false of an `off` without quotes."""
    return text.lower() in (OFF, "false")


def problem(text: str) -> str | None:
    """Return what is expected instead of a schedule that cannot be used."""
    fields = text.lower().split()
    if len(fields) != len(_FIELDS):
        return f"five fields ({ALLOWED}) or {OFF}"
    if re.search(r"[0-9]", fields[4]):
        return "days of the week by name, mon to sun: numbers mean other days elsewhere"
    if not all(re.fullmatch(allowed, one) for allowed, one in zip(_FIELDS, fields, strict=True)):
        return ALLOWED
    if fields[2] != "*" and fields[4] != "*":
        return "a day of the month or a day of the week, not both: crons read that in two ways"
    try:
        comes = _trigger(text).get_next_fire_time(None, _FROM)
    except ValueError as error:
        return f"{ALLOWED} ({str(error).lower()})"
    return None if comes else "a time that comes"


@cache
def _trigger(text: str) -> CronTrigger:
    from apscheduler.triggers.cron import CronTrigger

    return CronTrigger.from_crontab(text.lower(), timezone=UTC)


def trigger(text: str) -> CronTrigger:
    """Return the scheduler's view of an expression that has no problem."""
    return _trigger(text)


@cache
def longest_gap_s(text: str) -> float:
    """Return the longest time between two of its times, in any of the years to come."""
    minute, hour, day, month, weekday = text.lower().split()
    times = _times(f"{minute} {hour} * * *", _DAY_LONG)
    # Days of the week come again after a week; a date may take eight years.
    span = 2 * _WEEK if day == month == "*" else _YEARS
    days = _times(f"0 0 {day} {month} {weekday}", span)
    inside = [after - before for before, after in pairwise(times)]
    between = [after - before - (times[-1] - times[0]) for before, after in pairwise(days)]
    return max(*inside, *between, timedelta()).total_seconds()


def _times(text: str, span: timedelta) -> list[datetime]:
    """Return the times from a midnight on, the one that ends the span included."""
    found = [following(text, _FROM - timedelta(seconds=1))]
    while found[-1] < _FROM + span:
        found.append(following(text, found[-1]))
    return found if span > _DAY_LONG else found[:-1]


def following(text: str, moment: datetime) -> datetime:
    """Return the first time of the schedule after a moment."""
    found = _trigger(text).get_next_fire_time(None, moment + timedelta(microseconds=1))
    if found is None:
        raise ValueError(f"{text} never comes")
    comes: datetime = found.astimezone(UTC)
    return comes
