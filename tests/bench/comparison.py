"""What other tools find of the same hand-made drift: pg_permissions, and Pulumi's preview.

`python -m tests.bench comparison --pg-permissions FOLDER`, where the folder holds the
extension's SQL file (Debian: postgresql-17-pg-permissions); some fifteen minutes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal

import psycopg

from pandom.audit.findings import Finding, script
from pandom.audit.run import run
from pandom.database.drift import catalog
from schema import access
from tests.audit.conftest import Shipped
from tests.audit.drift import DRIFT, Drift, independent
from tests.fixtures.server import server_of
from tests.fixtures.stack import RunningStack, running

Show = Callable[[str], None]
Verdict = Literal["found", "not found", "cannot", "fails"]

# What a tool says something about, as the beginning of our findings' names. A class
# outside of it that the tool notices all the same counts as found.
_PERMISSIONS: Final = re.compile(
    r"privilege-\w+:(table|view|column|sequence|function|schema|database \{db\}:)"
)
_STATE: Final = re.compile(
    r"role-(different|missing|setting-\w+:pandom_)|membership-|owner-different:database|"
    r"privilege-\w+:(database \{db\}:|schema public:)|default-privilege-"
)
_PREVIEW_CHANGES: Final = 2

# Every effective privilege that it can see, as its targets; and of each type of object a
# target for a role that does not exist, which makes it look at all objects, new ones too.
_TARGETS: Final = """
insert into permission_target
(role_name, permissions, object_type, schema_name, object_name, column_name)
select
    role_name, array_agg(permission), object_type, schema_name, object_name, column_name
from all_permissions where granted
group by role_name, object_type, schema_name, object_name, column_name
"""
_EVERYTHING: Final = """
insert into permission_target (role_name, permissions, object_type) values
('nobody', '{SELECT}', 'TABLE'), ('nobody', '{SELECT}', 'VIEW'), ('nobody', '{SELECT}', 'COLUMN'),
('nobody', '{SELECT}', 'SEQUENCE'), ('nobody', '{EXECUTE}', 'FUNCTION'),
('nobody', '{USAGE}', 'SCHEMA'), ('nobody', '{CONNECT}', 'DATABASE')
"""


@dataclass(frozen=True)
class Row:
    """One class of drift and what each tool made of it."""

    drift: Drift
    audit: Verdict
    permissions: Verdict
    preview: Verdict


@dataclass(frozen=True)
class Comparison:
    """The rows, and the version of pg_permissions that was loaded."""

    rows: tuple[Row, ...]
    permissions: str


def _verdict(noticed: bool, drift: Drift, reach: re.Pattern[str]) -> Verdict:
    if noticed:
        return "found"
    return "not found" if any(map(reach.match, drift.findings)) else "cannot"


def _each(reach: re.Pattern[str], noticed: Callable[[Sequence[Drift]], bool]) -> Mapping[str, bool]:
    """Whether a tool notices each class, in few questions: where it should, one at a time;
    elsewhere many at once that share nothing, and halves of those where it does."""
    found: dict[str, bool] = {}

    def ask(batch: Sequence[Drift]) -> None:
        if batch and not (answer := noticed(batch)):
            found.update((drift.name, False) for drift in batch)
        elif len(batch) == 1:
            found[batch[0].name] = answer
        elif batch:
            ask(batch[: len(batch) // 2])
            ask(batch[len(batch) // 2 :])

    left = [drift for drift in DRIFT if not any(map(reach.match, drift.findings))]
    while left:
        batch = independent(left)
        ask(batch)
        left = [drift for drift in left if drift.name not in found]
    for drift in DRIFT:
        if drift.name not in found:
            ask([drift])
    return found


# -- pg_permissions ---------------------------------------------------------------------------


def _newest(folder: Path) -> tuple[str, str]:
    """Version and text of the extension in a folder, as a script outside of an extension."""
    found = [
        (tuple(map(int, matched[1].split("."))), matched[1], path)
        for path in folder.rglob("pg_permissions--*.sql")
        if (matched := re.fullmatch(r"pg_permissions--([\d.]+)\.sql", path.name))
    ]
    if not found:
        raise SystemExit(f"{folder}: no pg_permissions--VERSION.sql in it")
    _, name, path = max(found)
    # The server's folder of extensions is read-only. The lines left out are psql's guard
    # against just this, and marks for pg_dump.
    lines = [
        line
        for line in path.read_text().splitlines()
        if not line.startswith("\\") and "pg_extension_config_dump" not in line
    ]
    return name, "\n".join(lines)


def _permissions(shipped: Shipped, text: str, show: Show) -> Mapping[str, bool]:
    """Whether it reports anything, by class; one transaction, rolled back."""
    with psycopg.connect(shipped.server.dsn("postgres", shipped.name)) as connection:
        connection.execute("create schema other_tool")
        connection.execute("set local search_path = other_tool")
        for statement in (text, _TARGETS, _EVERYTHING):
            connection.execute(statement.encode())
        connection.execute("set local search_path to default")

        def noticed(batch: Sequence[Drift]) -> bool:
            show(f"pg_permissions: {', '.join(drift.name for drift in batch)}")
            with connection.transaction(force_rollback=True):
                for drift in batch:
                    connection.execute(drift.sql.replace("{db}", shipped.name).encode())
                found = connection.execute(
                    "select exists (select from other_tool.permission_diffs())"
                ).fetchall()
            return bool(found[0][0])

        if noticed(()):
            raise RuntimeError("pg_permissions finds differences without drift")
        found = _each(_PERMISSIONS, noticed)
        connection.rollback()
    return found


# -- the audit and the preview ----------------------------------------------------------------


def _drift(shipped: Shipped) -> tuple[Finding, ...]:
    with catalog.connect(shipped.server.dsn("pandom_auditor", shipped.name)) as connection:
        return run(connection, shipped.opt_in, acceptances=()).drift


def _preview(stack: RunningStack) -> int:
    return stack.pandom(
        "preview", "--stack", stack.name, "--expect-no-changes", code=None
    ).returncode


def _committed(
    stack: RunningStack, shipped: Shipped, show: Show
) -> tuple[Mapping[str, bool], set[str], set[str]]:
    """What the preview notices, where it fails, and what the audit names; all is healed."""
    fails: set[str] = set()
    named: set[str] = set()

    def noticed(batch: Sequence[Drift]) -> bool:
        show(f"audit and preview: {', '.join(drift.name for drift in batch)}")
        for drift in batch:
            shipped.execute(drift.sql.replace("{db}", shipped.name))
        found = _drift(shipped)
        names = {one.id for one in found}
        named.update(one.name for one in batch if one.named(shipped.name, shipped.opt_in) <= names)
        code = _preview(stack)
        shipped.execute(script(found))
        if left := _drift(shipped):
            raise RuntimeError(f"not healed by its SQL: {[one.id for one in left]}")
        if code not in (0, _PREVIEW_CHANGES) and len(batch) == 1:
            fails.add(batch[0].name)
        return code != 0

    if noticed(()):
        raise RuntimeError("the stack is not clean to begin with")
    found = _each(_STATE, noticed)
    if _preview(stack):
        raise RuntimeError("the stack is not clean in the end")
    return found, fails, named


def measure(folder: Path, show: Show) -> Comparison:
    """Every class of drift, on a stack of its own."""
    name, text = _newest(folder)
    with running() as stack:
        there = stack.outputs["passwords"]
        opt_in = frozenset(r.opt_in for r in access.ROLES if r.opt_in and r.name in there)
        shipped = Shipped(access.DATABASE, server_of(stack), opt_in)
        permissions = _permissions(shipped, text, show)
        preview, fails, named = _committed(stack, shipped, show)
        shipped.superuser.close()
    rows = (
        Row(
            drift,
            "found" if drift.name in named else "not found",
            _verdict(permissions[drift.name], drift, _PERMISSIONS),
            "fails" if drift.name in fails else _verdict(preview[drift.name], drift, _STATE),
        )
        for drift in DRIFT
    )
    return Comparison(tuple(rows), name)


def page(found: Comparison) -> str:
    """The comparison as Markdown."""
    tools = [
        ("`pandom audit`", [row.audit for row in found.rows]),
        (f"pg_permissions {found.permissions}", [row.permissions for row in found.rows]),
        (f"preview (Pulumi {version('pulumi')})", [row.preview for row in found.rows]),
    ]
    words: tuple[Verdict, ...] = ("found", "not found", "fails", "cannot")
    counts = "\n".join(
        f"| {name} | " + " | ".join(str(verdicts.count(word)) for word in words) + " |"
        for name, verdicts in tools
    )
    rows = "\n".join(
        f"| {row.drift.name} | {row.audit} | {row.permissions} | {row.preview} |"
        for row in found.rows
    )
    return (
        f"| of {len(found.rows)} classes | {' | '.join(words)} |\n|---|---|---|---|---|\n{counts}"
        "\n\n<details><summary>Class by class</summary>\n\n"
        f"| class | {' | '.join(name for name, _ in tools)} |\n|---|---|---|---|\n{rows}\n\n"
        "</details>\n"
    )
