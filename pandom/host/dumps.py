"""`pandom dumps`: the dated dumps of a stack, made by its task `dump`."""

from __future__ import annotations

import json
import os
import sys

from pandom.host import backup, operations
from pandom.host.engine import Engine
from pandom.operations.tasks import DUMP
from pandom.runtime.errors import UsageError


def run(name: str, form: str, get: str | None, verify: str | None) -> None:
    """List the dumps, or give or verify one."""
    backup.open_place(name)  # which says why there are none
    engine = Engine(name)
    container = operations.running(engine, name)
    if get is not None:
        if os.isatty(1):
            raise UsageError(f"A dump is no text. Next: `pandom dumps --get {get} > {get}.dump`")
        command = operations.within(DUMP, "get-dump", get)
        operations.refuse(*engine.stream(container, command, sys.stdout.buffer))
        return
    if verify is not None:
        code, out, said = engine.run(container, operations.within(DUMP, "verify-dump", verify))
        operations.refuse(code, said)
        print(out.strip())
        return
    code, out, said = engine.run(container, operations.within(DUMP, "dumps"))
    operations.refuse(code, said)
    found = json.loads(out)
    if form == "json":
        print(json.dumps({"stack": name, "dumps": found}, indent=2))
        return
    if not found:
        print(f"Stack {name} has no dump yet. Next: `.venv/bin/pandom run dump --stack {name}`")
        return
    width = max(len(one["name"]) for one in found)
    print(f"{'dump':{width}}  {'size':>8}  {'stored':>8}  SHA-256")
    for one in found:
        print(
            f"{one['name']:{width}}  {backup.size(one['size']):>8}  "
            f"{backup.size(one['stored']):>8}  {one['sha256'][:16]}…"
        )
