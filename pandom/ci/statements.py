"""What a server was asked last, for people who look for the cause of a test that failed.

The server's log has no statement, because one can hold a password. Here a statement is shown
without anything that a value could be: literals and numbers are `?`, comments go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psycopg

# A file of failures grows to about so much and no further, bytes.
_MOST: Final = 1 << 20
_LONGEST: Final = 1000
_VALUE: Final = re.compile(
    r"""
    (?P<kept> "(?:[^"]|"")*" )                           # a quoted name
    | (?P<comment> --[^\n]* | /\*.*?(?:\*/|\Z) )
    | \$(?P<tag>[^\W0-9]\w*|)\$ .*? (?:\$(?P=tag)\$|\Z)   # the end may be cut off
    | (?<!\w)[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z)
    | (?P<plain> '(?:[^']|'')*(?:'|\Z) )
    | (?<![\w$%])\.?[0-9][\w.]*
    """,
    re.VERBOSE | re.DOTALL,
)
_LAST: Final = """
select a.query_start, a.usename, a.datname, a.state, a.wait_event_type, a.query
from pg_catalog.pg_stat_activity as a
where a.backend_type = 'client backend' and a.pid <> pg_catalog.pg_backend_pid()
    and a.query <> '' and (a.datname = %(name)s or %(name)s::text is null)
order by a.query_start
"""


def without_values(text: str) -> str:
    """Return a statement on one line, with `?` for each value."""
    parts, end = [], 0
    for found in _VALUE.finditer(text):
        parts.append(text[end : found.start()])
        end = found.end()
        if found["plain"] and "\\" in found["plain"]:
            # Where it ends depends on a setting of the session.
            parts.append("? …")
            end = len(text)
            break
        parts.append(found["kept"] or (" " if found["comment"] else "?"))
    shown = " ".join("".join([*parts, text[end:]]).split())
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"


def last(connection: psycopg.Connection, database: str | None = None) -> list[str]:
    """Return the last statement of each session, of one database or all; by the superuser."""
    rows = connection.execute(_LAST, {"name": database}).fetchall()
    return [_line(*row) for row in rows]


def _line(
    at: datetime | None, role: str, database: str, state: str, waiting: str | None, query: str
) -> str:
    when = f"{at.astimezone(UTC):%H:%M:%S.%f}"[:-3] if at else ""
    wait = f", waits for {waiting}" if state == "active" and waiting else ""
    return f"{when} {role}@{database} ({state}{wait}): {without_values(query)}"


def note(file: Path, test: str, lines: Iterable[str]) -> None:
    """Keep what a test that failed had asked, for `pandom ci logs`."""
    if file.exists() and file.stat().st_size > _MOST:
        return
    text = "".join(f"  {one}\n" for one in lines)
    with file.open("a", encoding="utf-8") as sink:
        sink.write(f"{datetime.now(UTC):%H:%M:%S} {' '.join(test.split())}\n{text}")


def noted(file: Path) -> list[str]:
    """Return what was kept."""
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []
