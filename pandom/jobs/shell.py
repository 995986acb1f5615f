"""The operator's shell: psql, pg_dump and pg_restore of the server's version, signed in.

The container shares the server's network, so that the source document's commands with ``localhost``
work as typed. The password is in a file on a tmpfs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from pandom.runtime.inputs import secret, secret_file
from schema.access import DATABASE

USER: Final = "pandom_user"


def run(instead: Sequence[str] = ()) -> NoReturn:
    """Become bash, or another command; commands come from the terminal, or from standard input
    without one."""
    passwords = Path.home() / ".pgpass"
    password = secret(f"{USER}_password").replace("\\", "\\\\").replace(":", "\\:")
    passwords.touch(mode=0o600)
    passwords.write_text(f"localhost:5432:*:{USER}:{password}\n")
    os.environ.update(
        PGHOST="localhost",
        PGPORT="5432",
        PGUSER=USER,
        PGDATABASE=DATABASE,
        PGPASSFILE=str(passwords),
        PGSSLMODE="verify-full",
        PGSSLROOTCERT=str(secret_file("ca.crt")),
        PGCONNECT_TIMEOUT="5",
        PS1=f"{USER}@{DATABASE}:\\w$ ",
    )
    os.chdir(Path.home())  # the only place where `> backup.sql` can write
    if instead:
        os.execvp(instead[0], list(instead))  # noqa: S606 - as its caller asked
    if sys.stdin.isatty():
        print(f"psql, pg_dump and pg_restore are signed in as {USER}. Leave with `exit`.")
    os.execvp("bash", ["bash", "--norc"])  # noqa: S606 - the shell is what was asked for
