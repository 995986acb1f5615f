"""`pandom dumps`: the dated dumps of a stack, made by its task `dump`."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Final

from pandom.host import backup, operations
from pandom.host.engine import Engine
from pandom.operations.tasks import DUMP
from pandom.runtime.errors import Failure, UsageError
from pandom.runtime.naming import KEYS_MOUNT

# The container's command, with what its reader may know.
_COMMAND: Final = ("env", f"PANDOM_KEYS={KEYS_MOUNT / DUMP}", "pandom", "operations")


def run(name: str, form: str, get: str | None, verify: str | None) -> None:
    """List the dumps, or give or verify one."""
    backup.open_place(name)  # which says why there are none
    engine = Engine(name)
    container = operations.running(engine, name)
    if get is not None:
        if os.isatty(1):
            raise UsageError(f"A dump is no text. Next: `pandom dumps --get {get} > {get}.dump`")
        code, said = engine.stream(container, (*_COMMAND, "get-dump", get), sys.stdout.buffer)
        _refuse(code, said)
        return
    if verify is not None:
        code, out, said = engine.run(container, (*_COMMAND, "verify-dump", verify))
        _refuse(code, said)
        print(out.strip())
        return
    found = listed(engine, name)
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


def listed(engine: Engine, name: str) -> list[dict[str, Any]]:
    """Return every dump, the oldest first. Raises PandomError."""
    code, out, said = engine.run(operations.running(engine, name), (*_COMMAND, "dumps"))
    _refuse(code, said)
    return list(json.loads(out))


def _refuse(code: int, said: str) -> None:
    if code:
        kind = UsageError if code == UsageError.exit_code else Failure
        raise kind(said.strip() or f"the container's command ended with {code}")
