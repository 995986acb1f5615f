"""What changed between two reviews: two reports of `pandom audit --format json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pandom.audit.report_json import VERSION
from pandom.audit.report_json import text as json_text
from pandom.runtime.errors import UsageError

# Section of the report, the key of an entry, and the fields that are compared.
_LISTS: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    ("findings", "id", ("severity", "expected", "actual")),
    ("accepted", "id", ("actual", "reason", "owner", "expires")),
    ("controls", "number", ("state", "evidence")),
    ("logins", "name", ("becomes", "bypasses_row_security", "reads_passwords", "changes_trail")),
)
Change = Mapping[str, Any]


def read(path: Path) -> Mapping[str, Any]:
    """Return a report from its file; raises UsageError for anything else."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: expected a report as JSON, found: {error}") from None
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise UsageError(
            f"{path}: expected a report of `pandom audit --format json`, version {VERSION}"
        )
    return found


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Return what is new, gone or different, in the report's order."""
    found: list[Change] = []
    for part in ("server", "database", "scope"):
        if old.get(part) != new.get(part):
            found.append(_change(part, part, old.get(part), new.get(part)))
    for part, key, compared in _LISTS:
        before, after = _by(old.get(part, ()), key), _by(new.get(part, ()), key)
        for name in sorted(before.keys() | after.keys()):
            was, now = before.get(name), after.get(name)
            if was is None or now is None:
                found.append(_change(part, name, _of(was, compared), _of(now, compared)))
                continue
            found += [
                _change(part, f"{name}: {one.replace('_', ' ')}", was.get(one), now.get(one))
                for one in compared
                if was.get(one) != now.get(one)
            ]
    return found


def _by(entries: Sequence[Mapping[str, Any]], key: str) -> dict[str, Mapping[str, Any]]:
    return {str(entry[key]): entry for entry in entries}


def _of(entry: Mapping[str, Any] | None, compared: Iterable[str]) -> str | None:
    if entry is None:
        return None
    return "; ".join(str(entry.get(one)) for one in compared if entry.get(one))


def _change(part: str, name: str, was: Any, now: Any) -> Change:
    return {"part": part, "name": name, "old": was, "new": now}


def render(found: Sequence[Change], *, as_json: bool) -> str:
    """Render each change in three lines: what, before, after."""
    if as_json:
        return json_text({"changes": list(found)})
    if not found:
        return "No change between the two reports.\n"
    lines = []
    for one in found:
        lines.append(f"{one['part']} {one['name']}" if one["part"] != one["name"] else one["name"])
        lines.append(f"    before  {_shown(one['old'])}")
        lines.append(f"    after   {_shown(one['new'])}")
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        value = [f"{name}: {one}" if one else name for name, one in value.items()]
    if isinstance(value, list):
        value = "; ".join(map(str, value))
    return "nothing" if value in (None, "") else str(value)
