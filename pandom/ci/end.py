"""When an environment ends: `pandom ci destroy` now, `pandom ci keep` later."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from pandom.ci import durations, reap, records
from pandom.ci.records import Record
from pandom.ci.remove import remove
from pandom.host.engine import connect
from pandom.runtime.errors import UsageError
from pandom.runtime.progress import say

_WAIT_S: Final = 30.0


def destroy(name: str) -> None:
    """Remove an environment and everything of it; raises UsageError for one that is not there."""
    started = time.monotonic()
    record = records.find(name)
    # Whoever makes it, removes it when it is ended.
    with records.held(name, _WAIT_S if record.ready else 0):
        remove(record, connect())
    say(
        f"Environment {name} is gone: no container, volume, network, state or file of it is left "
        f"({time.monotonic() - started:.1f} s)."
    )


def keep(name: str, longer: str) -> None:
    """Let an environment live for so long from now on, and never shorter than it would, without
    the process that it lived for."""
    life = durations.parse(longer, "--for")
    living(name)
    with records.held(name, _WAIT_S):
        found = living(name)  # it may have been removed since
        now = datetime.now(UTC).replace(microsecond=0)
        until = max(now + life, found.expires)
        replace(found, expires=until, owner=None).write()
    say(
        f"Environment {name} stays until {until:%Y-%m-%d %H:%M} UTC ({durations.words(until - now)}"
        f"{', as before' if until > now + life else ''})."
    )


def living(name: str) -> Record:
    """Return an environment that can be used; raises UsageError for any other."""
    found = records.find(name)
    if found.unread:
        raise UsageError(
            f"{found.home / records.FILE} cannot be used: {found.unread}.\n"
            f"Next: the version that made environment {name}, or `.venv/bin/pandom ci destroy "
            f"{name}`."
        )
    if not found.ready:
        raise UsageError(f"Environment {name} is not made completely.\n{_LISTED}")
    now = datetime.now(UTC)
    why = reap.due(found, now)
    if why and found.expires <= now:
        raise UsageError(f"Environment {name} {why}: the next `create` removes it.\n{_LISTED}")
    return found


_LISTED: Final = "Next: `.venv/bin/pandom ci list` shows those that there are."
