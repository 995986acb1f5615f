"""Where an audit looks: a stack of this host, the stack around this container, or any database."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from psycopg.conninfo import make_conninfo

from pandom.audit.store import StoreClient
from pandom.database import pinned
from pandom.database import settings as row_settings
from pandom.database.connect import CONNECT_TIMEOUT_S, target_from_environment
from pandom.database.connect import opt_in as opt_in_from_environment
from pandom.database.settings import DatabaseSettings
from pandom.objectstore import Account, Endpoint
from pandom.runtime.errors import UsageError
from pandom.runtime.inputs import secret, secret_file, setting
from schema import access
from schema.storage import NO_BACKUP, User, archives

LOGIN: Final = "pandom_auditor"


def _no_store(_user: User) -> StoreClient:
    raise UsageError(
        "The object store needs --stack: a DSN does not say where it is and who may ask."
    )


@dataclass(frozen=True)
class AuditTarget:
    """A database, its opt-in settings, and the object store as one of its users.

    ``store`` raises UsageError, and ``settings`` is None, where there is no stack.
    ``backup_within`` is how old the newest backup may be, of a stack that makes its own, and
    ``drill_within`` the last drill that passed, of one that has them.
    """

    dsn: str
    opt_in: frozenset[str] = frozenset()
    store: Callable[[User], StoreClient] = _no_store
    outputs: Mapping[str, Any] | None = None
    settings: DatabaseSettings | None = None
    backup_within: timedelta | None = None
    drill_within: timedelta | None = None


def of_container() -> AuditTarget:
    """Return the stack that this container belongs to, with the secrets it was given.

    Raises Failure for a container that was not given the auditor's.
    """
    target = target_from_environment()
    dsn = _dsn(
        host=target.host,
        port=target.port,
        password=secret(f"{LOGIN}_password"),
        dbname=target.database,
        sslmode="verify-full",
        sslrootcert=str(target.ca),
    )
    return AuditTarget(
        dsn,
        opt_in_from_environment(),
        store_of_container,
        settings=row_settings.from_environment(),
        backup_within=_within(
            os.environ.get("PANDOM_BACKUP"), setting("PANDOM_BACKUP_MAX_AGE_DAYS")
        ),
        drill_within=_within(
            os.environ.get("PANDOM_BACKUP"), os.environ.get("PANDOM_DRILL_MAX_AGE_DAYS")
        ),
    )


def store_of_container(user: User) -> StoreClient:
    """Return the object store of the stack that this container belongs to, as one of its users."""
    endpoint = Endpoint(
        setting("PANDOM_MINIO_HOST"), int(setting("PANDOM_MINIO_PORT")), secret_file("ca.crt")
    )
    account = Account(user.name, secret(user.secret_file))
    backup = os.environ.get("PANDOM_BACKUP", NO_BACKUP)
    return StoreClient(endpoint, account, setting("PANDOM_BUCKET"), backup)


def _within(backup: object, days: object) -> timedelta | None:
    """Return an age in days; None where there are no backups, or 0 switches it off."""
    limit = int(str(days or 0))
    return timedelta(days=limit) if archives(str(backup)) and limit else None


def of_outputs(outputs: Mapping[str, Any], opt_in: frozenset[str] = frozenset()) -> AuditTarget:
    """Return a stack of this host, from its outputs."""
    passwords = outputs["passwords"]
    wanted = {role.opt_in for role in access.ROLES if role.opt_in and role.name in passwords}
    dsn = _dsn(
        host=outputs["db_host"],
        port=int(outputs["db_port"]),
        password=passwords[LOGIN],
        dbname=outputs["db_database"],
        sslmode=outputs["db_sslmode"],
        sslrootcert=outputs["db_sslrootcert"],
    )

    return AuditTarget(
        dsn,
        opt_in | {one for one in wanted if one},
        partial(store_of, outputs),
        outputs,
        row_settings.of_outputs(outputs),
        _within(outputs.get("backup"), outputs.get("backup_max_age_days")),
        _within(outputs.get("backup"), outputs.get("drill_max_age_days")),
    )


def _dsn(**given: Any) -> str:
    return make_conninfo(**pinned.ISOLATED, user=LOGIN, connect_timeout=CONNECT_TIMEOUT_S, **given)


def store_of(outputs: Mapping[str, Any], user: User) -> StoreClient:
    """Return the object store of a stack of this host, as one of the users that keep evidence."""
    secrets = outputs.get("store_secrets") or {}
    if user.name not in secrets:
        raise UsageError(
            f"This stack's object store has no user {user.name} yet: it was brought up by an "
            "earlier version.\nNext: `make up`"
        )
    return StoreClient(
        Endpoint(
            outputs["minio_endpoint"], int(outputs["minio_port"]), Path(outputs["db_sslrootcert"])
        ),
        Account(user.name, secrets[user.name]),
        outputs["minio_bucket_name"],
        str(outputs.get("backup", NO_BACKUP)),
    )
