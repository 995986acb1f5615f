"""Names and labels of everything a stack makes."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final

PROJECT: Final = "pandom-stack"

LABEL_STACK: Final = "pandom.stack"
LABEL_PART: Final = "pandom.part"
LABEL_OWNER: Final = "pandom.owner"  # user@host:state home, of who made or adopted it
LABEL_IDENTITY: Final = "pandom.identity"  # of the state that owns it
LABEL_PROTECTED: Final = "pandom.protected"  # true or false
# Of an environment for CI only: when it ends unless it was kept longer, and which process it
# lives for ("" for none).
LABEL_EXPIRES: Final = "pandom.expires"
LABEL_PROCESS: Final = "pandom.process"
LABEL_BUILD: Final = "pandom.build"  # set by the Dockerfiles: step, and in the end image
LABEL_HEAD: Final = "pandom.migration.head"

# Names roles and databases that a killed run made and did not record.
ADOPT_VARIABLE: Final = "PANDOM_ADOPT"
# Tell the program the values of these labels when it first makes something.
LABEL_VARIABLES: Final = {LABEL_EXPIRES: "PANDOM_EXPIRES", LABEL_PROCESS: "PANDOM_PROCESS"}

MINIO_ROOT_USER: Final = "pandom-root"

BASE_IMAGE: Final = "pandom-base:trixie"
# Major versions of PostgreSQL, and the images that have one of them.
POSTGRES_VERSIONS: Final = (17, 18)
OLDEST: Final = POSTGRES_VERSIONS[0]
WITH_POSTGRES: Final = ("postgres", "operations")

# Where a container finds the secrets of its reader, read-only.
KEYS_MOUNT: Final = PurePosixPath("/run/pandom/keys")

# One user per image, the same number on every machine, so that the keys job can
# give each secret to its reader and to nobody else.
UID_POSTGRES: Final = 5432
UID_MINIO: Final = 9000
UID_OPERATIONS: Final = 7000
UID_METRICS: Final = 9187

# The servers' names inside the stack's network, which are also in their certificates.
HOST_POSTGRES: Final = "postgres"
HOST_MINIO: Final = "minio"
HOST_BACKUP: Final = "backup-server"
# Who may ask it for the database's files, by the name in its certificate.
BACKUP_CLIENT: Final = "pandom-backup"
# What pgBackRest calls the database cluster.
BACKUP_CONFIG: Final = "pgbackrest.conf"  # of every reader that asks the repository
STANZA: Final = "pandom"


def resource_name(stack: str, part: str) -> str:
    """Return the Docker name of a stack's container, network or volume."""
    return f"pandom-{stack}-{part}"


def data_folder(version: int) -> str:
    """Return where the server's image has its cluster."""
    return f"/var/lib/postgresql/{version}/data"


def image_name(part: str, version: int = OLDEST) -> str:
    """Return the tag of an image; shared by all stacks, containers use its digest.

    ``version`` is PostgreSQL's, for the images that have it.
    """
    tag = "local" if version == OLDEST or part not in WITH_POSTGRES else f"local-{version}"
    return f"{PROJECT}/{part}:{tag}"
