"""Whether this host's own psql and pg_dump will do for the stack's server."""

from __future__ import annotations

import re
import shutil
import subprocess

from pandom.config.settings import applied_version
from pandom.host.stack import Stack
from pandom.runtime.naming import POSTGRES_VERSIONS


def warning(stack: str) -> str | None:
    """Return what to use instead, if there is a pg_dump on PATH and it is older than the server.

    pg_dump refuses a newer server with a message that names no way out.
    """
    program = shutil.which("pg_dump")
    if program is None:
        return None
    try:
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\(PostgreSQL\) ([0-9]+)", said)
    server = applied_version(Stack(stack).recorded().environment) or POSTGRES_VERSIONS[0]
    if found is None or int(found[1]) >= server:
        return None
    return (
        f"{program} is version {found[1]}, the server {server}: it will refuse to dump.\n"
        f"Next: `make shell STACK={stack}` has the right psql, pg_dump and pg_restore."
    )
