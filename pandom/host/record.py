"""`pandom audit record`: schema/catalog.json anew, from what the revisions make."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pandom.database import declaration, revisions
from pandom.database.drift import catalog, declared, recorded
from pandom.host import lock, scratch
from pandom.host.access import outputs_of
from pandom.host.pulumi_cli import Pulumi
from pandom.host.stack import Stack
from pandom.runtime.errors import UsageError
from pandom.runtime.progress import say
from schema import access
from toolchain import environment


def run(name: str, output: Path | None) -> None:
    """Record, show what changes, and write the file.

    Raises UsageError for a production stack: its server is no place to try revisions.
    """
    revisions.every()
    declaration.check()
    stack = Stack(name)
    outputs = outputs_of(stack)
    if outputs["profile"] == "production":
        raise UsageError(
            f"Stack {name} is in production; a recording needs a database of its own there.\n"
            "Next: `.venv/bin/pandom audit record --stack dev`"
        )
    with lock.of_stack(stack):
        exported = Pulumi(stack, environment.find().variables).export(secrets=True)
        text = record(exported)
    file = output or recorded.FILE
    before = recorded.FILE.read_text() if recorded.FILE.exists() else ""
    lines = difflib.unified_diff(before.splitlines(), text.splitlines(), n=0)
    shown = [one for one in lines if not one.startswith(("---", "+++", "@@"))]
    for line in shown:
        say(line)
    file.write_text(text)
    say(f"{file.name}: {len(shown)} lines differ" if shown else f"{file.name}: as it was")


def record(exported: Mapping[str, Any]) -> str:
    """Return the recording of a database that was just migrated, with every setting on."""
    with scratch.migrated(exported, access.OPT_IN) as dsn, catalog.connect(dsn) as connection:
        return recorded.record(catalog.read(connection, declared.OWNERS))
