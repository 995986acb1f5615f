"""What pgBackRest is told: its configuration file, and the server's settings for archiving."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from pandom.config.settings import Backup
from pandom.objectstore import REGION
from pandom.runtime.naming import (
    BACKUP_CLIENT,
    HOST_BACKUP,
    HOST_MINIO,
    KEYS_MOUNT,
    STANZA,
    data_folder,
)
from pandom.runtime.repository_keys import number
from schema.storage import OWN_STORE, backup_bucket

# Files of the readers postgres, backup and dump; the repository key is there in every stack, so
# that `pandom adopt` finds it and a store that is used again can be read.
CA_FILE: Final = "backup-ca.crt"
# Of the reader backup-server; libpq reads it at each connection, so a rotation restarts nothing.
PASSWORD_FILE: Final = "pgpass"  # noqa: S105 - its name
KEY_FILE: Final = "repository_key"
KEY_SECRET: Final = "repository-key"  # noqa: S105 - its name
# What reads a repository of a former key; all else knows the present one only.
_READING: Final = ("info", "repo-ls", "verify", "restore", "archive-get", "repo-rm")

# A segment is archived at the latest after so many seconds, full or not: what is lost with the
# machine is younger than that, and than a push takes.
ARCHIVE_TIMEOUT_S: Final = 60
# A store that does not answer must not fill the data volume: from here on segments are dropped,
# oldest first, and the next backup begins anew. Health says so long before, and after.
QUEUE_MAX: Final = "4GiB"
# For one answer of the store; the default, 60 s, is also how long a wrong address hangs.
IO_TIMEOUT_S: Final = 10
SYSTEM_CA: Final = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True)
class Location:
    """Where a repository is."""

    host: str
    port: int
    bucket: str
    region: str
    ca: str


def location(backup: Backup, media: str, keys: PurePosixPath = KEYS_MOUNT) -> Location:
    """Return the repository's store; ``media`` is the name of the stack's own bucket, ``keys``
    where the reader finds its files."""
    if backup.kind == OWN_STORE:
        return Location(HOST_MINIO, 9000, backup_bucket(media), REGION, f"{keys}/ca.crt")
    host, _, port = backup.endpoint.rpartition(":")
    ca = f"{keys}/{CA_FILE}" if backup.ca else SYSTEM_CA
    return Location(host, int(port), backup.bucket, backup.region, ca)


def configuration(
    stack: str,
    version: int,
    backup: Backup,
    media: str,
    secret: str,
    access_key: str,
    secret_key: str,
    *,
    keys: PurePosixPath = KEYS_MOUNT,
) -> str:
    """Return the text of pgbackrest.conf, secrets in it, for a reader whose files are in ``keys``.

    ``secret`` has the repository's keys, the present one first. The stack's name is the
    repository's folder, so several stacks may share a bucket.
    """
    where = location(backup, media, keys)
    common = {
        "type": "s3",
        "s3-endpoint": where.host,
        "storage-port": where.port,
        "s3-bucket": where.bucket,
        "s3-region": where.region,
        "s3-uri-style": "path",
        "s3-key": access_key,
        "s3-key-secret": secret_key,
        "storage-ca-file": where.ca,
        "cipher-type": "aes-256-cbc",
    }
    opened: list[dict[str, object]] = []
    for index, key in enumerate(secret.split(), start=1):
        path = f"/{stack}" if number(key) == 1 else f"/{stack}/{number(key)}"
        of_key = {"path": path, **common, "cipher-pass": key}
        opened.append({f"repo{index}-{name}": value for name, value in of_key.items()})
    values = {
        **opened[0],
        "repo1-retention-full": backup.keep_fulls,
        "repo1-bundle": "y",
        "repo1-block": "y",
        "compress-type": "zst",
        "process-max": 2,
        "start-fast": "y",
        # What `pandom restore` notes of a cluster is not of the next one.
        "exclude": "pandom-restore",
        "io-timeout": IO_TIMEOUT_S,
        "archive-push-queue-max": QUEUE_MAX,
        "log-level-console": "warn",
        "log-level-file": "off",
    }
    former = "".join(_lines(one) for one in opened[1:])
    reading = "".join(f"\n[global:{one}]\n{former}" for one in _READING if former)
    return f"[global]\n{_lines(values)}\n{_of_database(version)}{reading}"


def asking(keys: PurePosixPath) -> str:
    """Return what the container that makes backups has besides: how it reaches the database.

    Only what concerns the served cluster goes there; a restore is of files of its own.
    """
    values = {
        "pg1-host": HOST_BACKUP,
        "pg1-host-type": "tls",
        "pg1-host-ca-file": keys / "ca.crt",
        "pg1-host-cert-file": keys / "client.crt",
        "pg1-host-key-file": keys / "client.key",
    }
    return "".join(
        f"\n[{STANZA}:{command}]\n{_lines(values)}"
        for command in ("backup", "check", "stanza-create", "stanza-upgrade")
    )


def serving(version: int) -> str:
    """Return pgbackrest.conf of the container that reads the database's files; no secret in it."""
    values = {
        "tls-server-address": "*",
        "tls-server-auth": f"{BACKUP_CLIENT}={STANZA}",
        "tls-server-ca-file": KEYS_MOUNT / "ca.crt",
        "tls-server-cert-file": KEYS_MOUNT / "server.crt",
        "tls-server-key-file": KEYS_MOUNT / "server.key",
        "log-level-console": "warn",
        "log-level-file": "off",
    }
    return f"[global]\n{_lines(values)}\n{_of_database(version)}"


def _of_database(version: int) -> str:
    return f"[{STANZA}]\n" + _lines({"pg1-path": data_folder(version), "pg1-user": "postgres"})


def _lines(values: Mapping[str, object]) -> str:
    return "".join(f"{key}={value}\n" for key, value in values.items())


def server_settings(backup: Backup) -> dict[str, str]:
    """Return what the server is started with."""
    if not backup.archives:
        return {}
    return {
        "archive_mode": "on",
        "archive_command": f'pgbackrest --stanza={STANZA} archive-push "%p"',
        "archive_timeout": f"{ARCHIVE_TIMEOUT_S}s",
    }
