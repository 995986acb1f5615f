"""Deviations that someone answers for, until a date (schema/accepted.toml)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from pandom.runtime.errors import UsageError
from pandom.runtime.paths import ROOT

# Prefix of ids of the trail's audit; all other ids are of the access audit.
TRAIL: Final = "trail:"
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

    def terms(self) -> dict[str, str]:
        """Return what an accepted finding has beside its own values."""
        expires = self.expires.isoformat()
        return {"reason": self.reason, "owner": self.owner, "expires": expires}


class Deviation(Protocol):
    """A finding, or a problem of the trail."""

    @property
    def id(self) -> str:
        """Its stable name."""

    @property
    def actual(self) -> str:
        """What was found."""


D = TypeVar("D", bound=Deviation)


def load(path: Path = FILE) -> tuple[Acceptance, ...]:
    """Return the acceptances of a file. Raises UsageError that names the entry and the key."""
    try:
        entries = tomllib.loads(path.read_text()).get("accepted", [])
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise UsageError(f"{path}: {error}") from error
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise UsageError(f"{path}: each entry must begin with a line [[accepted]]")
    return tuple(_acceptance(path, number, entry) for number, entry in enumerate(entries, 1))


def _acceptance(path: Path, number: int, entry: dict[str, Any]) -> Acceptance:
    place = f"{path}, entry {number}"
    if wrong := sorted(_KEYS ^ entry.keys()):
        raise UsageError(f"{place}: needs exactly {', '.join(sorted(_KEYS))}; look at {wrong}")
    if type(entry["expires"]) is not date:
        raise UsageError(f"{place}: expires must be a date such as 2027-01-31, without quotes")
    for key in ("reason", "owner"):
        if not str(entry[key]).strip():
            raise UsageError(f"{place}: {key} must not be empty")
    return Acceptance(**entry)


def of_access(given: Iterable[Acceptance]) -> list[Acceptance]:
    """Return the acceptances of access findings. Only these can be reported as unused: those of
    a trail belong to one database, and the file to all."""
    return [one for one in given if not one.id.startswith(TRAIL)]


def divide(
    found: Iterable[D], given: Sequence[Acceptance], today: date
) -> tuple[list[D], list[tuple[D, Acceptance]], list[Acceptance]]:
    """Divide into findings that stand, accepted ones, and acceptances without a finding.

    The date itself still counts: the finding is back on the day after.
    """
    valid = {(one.id, one.actual): one for one in given if today <= one.expires}
    kept: list[D] = []
    excused: list[tuple[D, Acceptance]] = []
    for finding in found:
        acceptance = valid.pop((finding.id, finding.actual), None)
        if acceptance is None:
            kept.append(finding)
        else:
            excused.append((finding, acceptance))
    used = {acceptance for _, acceptance in excused}
    return kept, excused, [one for one in given if one not in used]
