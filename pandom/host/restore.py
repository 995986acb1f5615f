"""`pandom db prepare` and `pandom db finish`: before and after a restore as typed."""

from __future__ import annotations

import os

from pandom.database.restore.aside import check_name
from pandom.host import backup, client_version, exchange, superuser
from pandom.host.engine import Engine
from pandom.host.migrate import in_job
from pandom.host.stack import Stack
from pandom.runtime.errors import PandomError
from pandom.runtime.progress import say
from schema.access import DATABASE


def prepare(stack: str, name: str) -> None:
    """Make an empty database that pandom_user may restore a dump into.

    One that is not empty is refused or, when CONFIRM names it, kept under another name.
    """
    check_name(name)
    if os.environ.get("CONFIRM") == name:
        in_job(stack, "cluster", ["job", "aside", name], f"keeping the present {name}")
    in_job(stack, "cluster", ["job", "prepare", name], f"preparing {name}")
    if warning := client_version.warning(stack):
        say(warning)


def finish(stack: str, name: str) -> None:
    """Close what ``prepare`` opened, check the restored database, and see that backups go on.

    Raises UsageError for one that `pandom restore` serves: that goes on by itself.
    """
    check_name(name)
    engine = Engine(stack)
    if name == DATABASE:
        exchange.refuse_begun(engine, stack)
    in_job(stack, "cluster", ["job", "finish", name], f"finishing {name}")
    if name == DATABASE:
        try:
            backup.begin_if_ours(engine, stack, superuser.exported(Stack(stack)))
        except PandomError as error:  # which health goes on saying; the database is finished
            say(f"  backups: {error}")
