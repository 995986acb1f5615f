"""Deviations that someone answers for, until a date (schema/accepted.toml)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

from pandom.audit.findings import Finding
from pandom.errors import UserMistake
from pandom.paths import ROOT

FILE: Final = ROOT / "schema" / "accepted.toml"
_KEYS: Final = frozenset({"id", "actual", "reason", "owner", "expires"})


@dataclass(frozen=True)
class Acceptance:
    """One accepted finding. ``actual`` is what was accepted: anything else is drift again."""

    id: str
    actual: str
    reason: str
    owner: str
    expires: date


def load(path: Path = FILE) -> tuple[Acceptance, ...]:
    """The acceptances of a file. Raises UserMistake that names the entry and the key."""
    try:
        entries = tomllib.loads(path.read_text()).get("accepted", [])
    except OSError as error:
        raise UserMistake(f"{path}: cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise UserMistake(f"{path}: {error}") from error
    return tuple(_acceptance(path, number, entry) for number, entry in enumerate(entries, 1))


def _acceptance(path: Path, number: int, entry: dict[str, Any]) -> Acceptance:
    place = f"{path}, entry {number}"
    if wrong := sorted(_KEYS ^ entry.keys()):
        raise UserMistake(f"{place}: needs exactly {', '.join(sorted(_KEYS))}; look at {wrong}")
    if type(entry["expires"]) is not date:
        raise UserMistake(f"{place}: expires must be a date such as 2027-01-31, without quotes")
    for key in ("reason", "owner"):
        if not str(entry[key]).strip():
            raise UserMistake(f"{place}: {key} must not be empty")
    return Acceptance(**entry)


def divide(
    found: Iterable[Finding], given: Iterable[Acceptance], today: date
) -> tuple[list[Finding], list[tuple[Finding, Acceptance]], list[Acceptance]]:
    """Findings that stand, findings that are accepted, and acceptances that excuse nothing.

    The date itself still counts: the finding is back on the day after.
    """
    valid = {(one.id, one.actual): one for one in given if today <= one.expires}
    kept: list[Finding] = []
    excused: list[tuple[Finding, Acceptance]] = []
    for finding in found:
        acceptance = valid.pop((finding.id, finding.actual), None)
        if acceptance is None:
            kept.append(finding)
        else:
            excused.append((finding, acceptance))
    used = {acceptance for _, acceptance in excused}
    return kept, excused, [one for one in given if one not in used]
