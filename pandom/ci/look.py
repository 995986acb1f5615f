"""What environments there are, and how to look into one: `list`, `env`, `psql`, `logs`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from pandom.ci import EVERY_ROLE, create, durations, end, reap, records, statements
from pandom.ci.records import Record
from pandom.host import access, formats, superuser
from pandom.host.engine import Engine, connect
from pandom.host.identity import owner_here
from pandom.runtime.errors import UsageError
from pandom.runtime.naming import LABEL_STACK

_COLUMNS: Final = ("id", "state", "age", "left", "ports", "size", "who")


def listed(form: str) -> None:
    """Print the environments of this state home, the oldest first."""
    every = records.every()
    sizes = sizes_of(connect().df()) if every else {}
    rows = [_row(one, sizes.get(one.id, 0)) for one in every]
    if form == "json":
        print(json.dumps(rows, indent=2))
        return
    for line in table([_words(row) for row in rows]):
        print(line)


def _row(record: Record, size: int) -> dict[str, Any]:
    now = datetime.now(UTC)
    state = "ready" if record.ready else "not complete"
    if record.unread:
        state = "unknown: its record cannot be read"
    user = owner_here().partition(":")[0]
    process = record.owner
    return {
        "id": record.id,
        "state": reap.due(record, now) or state if record.ready else state,
        "created": record.created.isoformat(),
        "expires": record.expires.isoformat(),
        "age_s": int((now - record.created).total_seconds()),
        "left_s": int((record.expires - now).total_seconds()),
        "ports": sorted(record.ports.values()),
        "size_bytes": size,
        "who": user if process is None else f"{user}, process {process.number} {process.command}",
    }


def _words(row: Mapping[str, Any]) -> list[str]:
    now = datetime.now(UTC)
    age = now - datetime.fromisoformat(row["created"])
    left = datetime.fromisoformat(row["expires"]) - now
    return [
        row["id"],
        row["state"],
        durations.words(age),
        durations.words(left),
        " ".join(map(str, row["ports"])),
        f"{row['size_bytes'] / 2**20:.0f} MB",
        row["who"].strip(),
    ]


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table with its header, each column as wide as its widest cell."""
    every = [_COLUMNS, *rows]
    widths = [max(len(row[index]) for row in every) for index in range(len(_COLUMNS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in every
    ]


def sizes_of(used: Mapping[str, Any]) -> dict[str, int]:
    """Return what each stack takes on the engine's disk, in bytes: volumes and containers."""
    found: dict[str, int] = {}
    for one in used.get("Containers") or ():
        _add(found, one, one.get("SizeRw") or 0)
    for one in used.get("Volumes") or ():
        _add(found, one, max((one.get("UsageData") or {}).get("Size") or 0, 0))
    return found


def _add(found: dict[str, int], one: Mapping[str, Any], size: int) -> None:
    if stack := (one.get("Labels") or {}).get(LABEL_STACK):
        found[stack] = found.get(stack, 0) + size


def env(name: str, role: str | None, form: str) -> None:
    """Print what `create` printed, also for another login."""
    record = end.living(name)
    record.enter()
    outputs = access.outputs_of(record.stack)
    if form == EVERY_ROLE:
        print(create.every_role(name, outputs))
    else:
        print(formats.render(create.contract(name, outputs, role), form), end="")


def psql(name: str, arguments: Sequence[str]) -> None:
    """Become psql, signed in as pandom_user."""
    record = end.living(name)
    record.enter()
    access.shell(name, ("psql", *arguments))


def logs(name: str, part: str | None) -> None:
    """Print what the containers said, and what they were asked last; no secret is in any of it."""
    record = records.find(name)
    engine = Engine(name)
    found = {one.part: one for one in engine.containers()}
    if part and part not in found:
        raise UsageError(f"Environment {name} has no {part!r}; there are: {', '.join(found)}.")
    for one in found.values():
        if part in (None, one.part):
            print(f"==> {one.part} ({one.state})")
            for line in engine.last_lines(one, _LINES):
                print(line)
    if part is None:
        _print_statements(record)


def _print_statements(record: Record) -> None:
    """Print what tests that failed had asked, and each session's last statement, without values."""
    if found := statements.noted(record.failures):
        print("==> tests that failed, and what they asked last")
        print("\n".join(found))
    if not record.ready:
        return
    print("==> the last statement of each session")
    with record.entered(), superuser.database(superuser.exported(record.stack)) as server:
        if server is None:
            print("the server does not answer")
            return
        print("\n".join(statements.last(server)))


_LINES: Final = 100_000
