"""Which secrets and certificates each container may read: one volume a reader."""

from __future__ import annotations

from typing import Final

from pandom.config import backup
from pandom.runtime.naming import (
    BACKUP_CLIENT,
    HOST_BACKUP,
    HOST_MINIO,
    HOST_POSTGRES,
    UID_METRICS,
    UID_MINIO,
    UID_OPERATIONS,
    UID_POSTGRES,
)
from schema.storage import AUDITOR, COPIER, EVIDENCE, MEDIA, USERS, User


def store_secret(user: User) -> str:
    """Return name the secret of an object store user; a database login may have the user's name."""
    return user.name.replace("pandom-", "minio-")


# Of a generated secret, letters and digits only: they pass unquoted through URLs, dotenv and
# connection strings, and 32 of them are 190 bits.
SECRET_LENGTH: Final = 32
# The secrets that a stack's file may give, and by which key.
GIVEN: Final = {
    "admin": "adminPassword",
    "pandom_app": "appPassword",
    "pandom_user": "userPassword",
    store_secret(MEDIA): "minioSecretKey",
}
# A reader's uid, and the generated secret that each of its files holds.
Reader = tuple[int, dict[str, str]]
READERS: Final[dict[str, Reader]] = {
    "postgres": (
        UID_POSTGRES,
        {"superuser_password": "postgres", backup.KEY_FILE: backup.KEY_SECRET},
    ),
    "minio": (UID_MINIO, {"root_user": "minio-root-user", "root_password": "minio-root"}),
    # The superuser's job and the migrator apply settings: after a restore, and at each `up`.
    "superuser": (
        UID_OPERATIONS,
        {"postgres_password": "postgres", "password_hash_key": "password-hash-key"},
    ),
    "migrator": (
        UID_OPERATIONS,
        {
            "pandom_migrator_password": "pandom_migrator",
            "admin_password": "admin",
            "password_hash_key": "password-hash-key",
        },
    ),
    "storage": (
        UID_OPERATIONS,
        {
            "minio_root_user": "minio-root-user",
            "minio_root_password": "minio-root",
            **{user.secret_file: store_secret(user) for user in (*USERS, COPIER)},
        },
    ),
    "janitor": (UID_OPERATIONS, {"pandom_janitor_password": "pandom_janitor"}),
    "auditor": (
        UID_OPERATIONS,
        {
            "pandom_auditor_password": "pandom_auditor",
            **{user.secret_file: store_secret(user) for user in (AUDITOR, EVIDENCE)},
        },
    ),
    # With backup: own-store or s3 it gets the repository, and how to reach the database's files.
    "backup": (
        UID_OPERATIONS,
        {
            "pandom_backup_password": "pandom_backup",
            **{user.secret_file: store_secret(user) for user in (COPIER, EVIDENCE)},
        },
    ),
    "backup-server": (UID_POSTGRES, {}),
    "dump": (
        UID_OPERATIONS,
        {"pandom_user_password": "pandom_user", "pandom_backup_password": "pandom_backup"},
    ),
    "operator": (UID_OPERATIONS, {"pandom_user_password": "pandom_user"}),
    "metrics": (UID_METRICS, {"pandom_metrics_password": "pandom_metrics"}),
}
# The names in each reader's certificate; the first one is the common name, by which
# the backup server knows its client.
_LOCAL: Final = ("127.0.0.1", "localhost")
CERTIFICATES: Final[dict[str, list[str]]] = {
    "postgres": [*_LOCAL, HOST_POSTGRES],
    "minio": [*_LOCAL, HOST_MINIO],
    "backup-server": [*_LOCAL, HOST_BACKUP],
    "backup": [BACKUP_CLIENT],
}
# Readers that exist with a setting only.
OPT_IN: Final = {"metrics": "monitoring"}


def readers(opt_in: frozenset[str] = frozenset()) -> dict[str, Reader]:
    """Return the readers that a stack with these settings has."""
    return {name: one for name, one in READERS.items() if OPT_IN.get(name) in (None, *opt_in)}


def keys_volume(reader: str) -> str:
    """Return the part that a reader's volume is; its name in Docker is made from it."""
    return f"keys-{reader}"
