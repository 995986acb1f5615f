"""Durations as Go writes them: ``1m0s``, ``500ms``. The engine counts nanoseconds."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}


def nanoseconds(text: str) -> int:
    """Return the duration in nanoseconds; the text was checked before."""
    if text in ("", "0"):
        return 0
    return sum(
        round(float(number) * _UNITS[unit])
        for number, unit in re.findall(r"([\d.]+)(ns|us|ms|s|m|h)", text)
    )


def text(nanoseconds: int) -> str:
    """Return the duration as Go prints it; anything else would be drift after every refresh."""
    if nanoseconds == 0:
        return "0s"
    if nanoseconds < _UNITS["s"]:
        unit = next(name for name in ("ms", "us", "ns") if nanoseconds >= _UNITS[name])
        return f"{_trimmed(nanoseconds, _UNITS[unit])}{unit}"
    hours, rest = divmod(nanoseconds, _UNITS["h"])
    minutes, rest = divmod(rest, _UNITS["m"])
    seconds = f"{_trimmed(rest, _UNITS['s'])}s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _trimmed(amount: int, unit: int) -> str:
    whole, fraction = divmod(amount, unit)
    if not fraction:
        return str(whole)
    digits = str(fraction).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}"
