"""How long an environment lives, as people write it: `30m`, `2h`, `1h30m`, `2d`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from pandom.runtime.errors import UsageError

LEAST: Final = timedelta(minutes=1)
MOST: Final = timedelta(days=7)
_TEXT: Final = re.compile(
    r"(?:([0-9]{1,5})d)?(?:([0-9]{1,5})h)?(?:([0-9]{1,5})m)?(?:([0-9]{1,5})s)?"
)


def parse(text: str, option: str) -> timedelta:
    """Return the time that an option gives; raises UsageError that names the option."""
    matched = _TEXT.fullmatch(text.strip())
    days, hours, minutes, seconds = map(int, matched.groups("0") if matched else "0000")
    found = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not LEAST <= found <= MOST:
        raise UsageError(
            f"{option} {text!r}: expected {words(LEAST)} to {words(MOST)}, as in 30m, 2h, 1h30m or "
            "2d.\nNothing was touched."
        )
    return found


def words(duration: timedelta) -> str:
    """Return a time for people, in its two largest units."""
    seconds = max(int(duration.total_seconds()), 0)
    parts = []
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2]) or "0s"
