"""Every container of a stack as plain data: what the program makes, and the audit compares.

Nothing here knows Pulumi: what only exists while the program runs (the digest of an image,
the name of a volume that was made) is added by the components.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pandom.config import backup
from pandom.config.readers import keys_volume, readers
from pandom.config.settings import Settings
from pandom.operations import scheduler
from pandom.operations.records import FOLDER
from pandom.operations.tasks import AUDIT, TASKS
from pandom.runtime.naming import (
    HOST_BACKUP,
    HOST_MINIO,
    HOST_POSTGRES,
    KEYS_MOUNT,
    UID_METRICS,
    UID_MINIO,
    UID_OPERATIONS,
    UID_POSTGRES,
    resource_name,
)
from schema.access import DATABASE

# Processes and threads. The provider has no pids limit; every image has a user of
# its own, so the limit per user is one per kind of container.
PROCESS_LIMIT: Final = 4096

# The only writable place of a read-only root.
TMP: Final = {"/tmp": "mode=1777,size=64m"}  # noqa: S108 - a tmpfs inside the container


@dataclass(frozen=True)
class Mount:
    """A volume of the stack at a path; read-only unless somebody must write there."""

    volume: str
    path: str
    writable: bool = False


@dataclass(frozen=True)
class Port:
    """A port of the container on 127.0.0.1 of the host."""

    inside: int
    outside: int


@dataclass(frozen=True)
class Health:
    """A health check; durations as Go prints them (``1m0s``), or refresh shows a change."""

    command: tuple[str, ...]
    # Also how long `up` waits for the first verdict: this engine has no start interval. A check
    # that rests costs no more for it.
    interval: str = "250ms"
    timeout: str = "15s"  # with the rest of a check that rests
    start_period: str = "30s"
    retries: int = 5


# A check every second would take more of an idle machine than the servers do. Who is
# well is looked at after a rest; who starts or is not well, at each interval.
REST_S: Final = 8
_WELL: Final = "/tmp/well"  # noqa: S108 - a tmpfs inside the container, empty after each start


def resting(*command: str, well: str = _WELL) -> tuple[str, ...]:
    """Return the check, which waits before it looks if the last one was good."""
    script = f'rm {well} 2> /dev/null && sleep {REST_S}; "$@" && : > {well}'
    return ("sh", "-c", script, "check", *command)


# Whether the database answers the exporter; if not, the container's log says why.
METRICS_HEALTH: Final = Health(
    ("sh", "-c", "curl -fs --max-time 4 http://127.0.0.1:9187/metrics | grep -qx 'pg_up 1'"),
    interval="15s",
    retries=3,
)
# Where the task `audit` writes its last verdict for the exporter.
VERDICT: Final = "verdict"
VERDICT_MOUNT: Final = "/run/pandom/verdict"
_TOLD: Final = scheduler.PLACE / scheduler.VERDICT
# The scheduler writes its verdict on all tasks every few seconds; an old one is as bad as a bad
# one: work that silently never runs is the usual fault.
OPERATIONS_HEALTH: Final = Health(
    (
        "sh",
        "-c",
        f'read code said < {_TOLD}; echo "$said"; test "$code" = 0 '
        f'&& test -n "$(find {_TOLD} -mmin -1)"',
    ),
    interval="15s",
    retries=1,
)


@dataclass(frozen=True)
class ContainerSpec:
    """One container; ``image`` is a folder of app_image, ``memory_mb`` in MiB.

    ``uid`` None runs as root, which only the keys job needs. Without ``networked`` it has no
    network at all. A root that is not read-only is for uploads, which Docker refuses else.
    """

    stack: str
    part: str
    image: str
    uid: int | None
    memory_mb: int
    command: tuple[str, ...] = ()
    networked: bool = True
    alias: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    tmpfs: Mapping[str, str] = field(default_factory=lambda: TMP)
    read_only: bool = True
    ports: tuple[Port, ...] = ()
    health: Health | None = None
    health_wait_s: int = 90  # 0: made without waiting for the first verdict
    restart: str = "no"
    stop_s: int = 30
    shm_mb: int | None = None
    capabilities: tuple[str, ...] = ()
    one_shot: bool = False

    @property
    def name(self) -> str:
        """Its name in Docker."""
        return resource_name(self.stack, self.part)

    @property
    def user(self) -> str:
        """User and group, as Docker takes them."""
        return "0:0" if self.uid is None else f"{self.uid}:{self.uid}"


def secrets_of(reader: str) -> Mount:
    """Return the volume with what one reader may know."""
    return Mount(keys_volume(reader), str(KEYS_MOUNT))


def container_specs(settings: Settings) -> dict[str, ContainerSpec]:
    """Return the containers of a stack with these settings, by part."""
    every = [
        _keys(settings),
        _postgres(settings),
        *([_backup_server(settings)] if settings.backup.archives else []),
        _job(settings, "cluster", "superuser", 256),
        # Alembic and the models; bcrypt of the administrator's password.
        _job(settings, "migration", "migrator", 512, command=("job", "migrate")),
        _minio(settings),
        _job(settings, "storage", "storage", 256),
        _scheduler(settings),
    ]
    if settings.metrics_port is not None:
        every.append(_metrics(settings, settings.metrics_port))
    return {spec.part: spec for spec in every}


def job_environment(settings: Settings) -> dict[str, str]:
    """Return what ``pandom job …`` reads, never a secret; pandom/jobs documents the names."""
    return {
        "PANDOM_STACK": settings.stack,
        "PANDOM_PROFILE": settings.profile_name,
        "PANDOM_DB_VERSION": str(settings.postgres_version),
        "PANDOM_DB_HOST": HOST_POSTGRES,
        "PANDOM_DB_PORT": "5432",
        "PANDOM_DB_NAME": DATABASE,
        "PANDOM_OPT_IN": ",".join(sorted(settings.opt_in)),
        "PANDOM_ADMIN_EMAIL": settings.admin_email,
        "PANDOM_SAMPLE_DATA": str(settings.sample_data).lower(),
        "PANDOM_ENCRYPT_PASSWORD_HASH": str(settings.encrypt_password_hash).lower(),
        "PANDOM_SIGNED_CONTEXT": str(settings.signed_context).lower(),
        "PANDOM_BCRYPT_COST": str(settings.bcrypt_cost),
        "PANDOM_RETENTION_MONTHS": str(settings.audit_retention_months),
        "PANDOM_MINIO_HOST": HOST_MINIO,
        "PANDOM_MINIO_PORT": "9000",
        "PANDOM_BUCKET": settings.bucket,
        "PANDOM_BACKUP": settings.backup.kind,
        "PANDOM_BACKUP_MAX_AGE_DAYS": str(settings.backup.max_age_days),
        "PANDOM_DRILL_MAX_AGE_DAYS": str(settings.drill_max_age_days),
        "PANDOM_DUMP_KEEP": str(settings.backup.keep_dumps),
    }


def server_settings(settings: Settings) -> tuple[str, ...]:
    """Return what profile, memory limit and the stack's file decide; all else is in the image."""
    memory = settings.postgres_memory_mb
    values = {
        "shared_buffers": f"{memory // 4}MB",
        "effective_cache_size": f"{memory // 2}MB",
        "maintenance_work_mem": f"{max(memory // 16, 16)}MB",
    }
    if not settings.profile.durable:
        values |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
    values |= backup.server_settings(settings.backup) | dict(settings.postgres_settings)
    return tuple(word for key, value in values.items() for word in ("-c", f"{key}={value}"))


def _keys(settings: Settings) -> ContainerSpec:
    return ContainerSpec(
        stack=settings.stack,
        part="keys",
        image="operations",
        # The one root user of the stack: it alone gives files to other users.
        uid=None,
        memory_mb=128,
        command=("job", "keys"),
        networked=False,
        capabilities=("CHOWN", "DAC_OVERRIDE", "FOWNER"),
        mounts=tuple(
            Mount(keys_volume(reader), f"/keys/{reader}", writable=True)
            for reader in ("ca", *readers(settings.opt_in))
        ),
        tmpfs={},
        read_only=False,
        one_shot=True,
    )


def _postgres(settings: Settings) -> ContainerSpec:
    return ContainerSpec(
        stack=settings.stack,
        part="postgres",
        image="postgres",
        uid=UID_POSTGRES,
        memory_mb=settings.postgres_memory_mb,
        command=server_settings(settings),
        alias=HOST_POSTGRES,
        mounts=(Mount("data", "/var/lib/postgresql", writable=True), secrets_of("postgres")),
        shm_mb=256,
        ports=(Port(5432, settings.postgres_port),),
        # pg_isready over TCP, but not each time: with connections logged, every
        # probe is a line in the log.
        health=Health(resting("pandom-healthy")),
        restart=settings.profile.restart,
    )


def _backup_server(settings: Settings) -> ContainerSpec:
    """Return the container that reads the database's files for a backup, and changes none.

    Not beside the server in its container: there the end of a second long process would be
    taken for that of a session (docs/adr/0027-proven-backups.md).
    """
    return ContainerSpec(
        stack=settings.stack,
        part="backup-server",
        image="postgres",
        uid=UID_POSTGRES,
        memory_mb=256,
        command=("backup-server",),
        alias=HOST_BACKUP,
        mounts=(Mount("data", "/var/lib/postgresql"), secrets_of("backup-server")),
        health=Health(resting("pgbackrest", "server-ping")),
        health_wait_s=0,
        restart=settings.profile.restart,
    )


def _minio(settings: Settings) -> ContainerSpec:
    check = ("curl", "--fail", "--silent", "--max-time", "4", "--cacert", f"{KEYS_MOUNT}/ca.crt")
    return ContainerSpec(
        stack=settings.stack,
        part="minio",
        image="minio",
        uid=UID_MINIO,
        memory_mb=settings.minio_memory_mb,
        alias=HOST_MINIO,
        mounts=(Mount("objects", "/data", writable=True), secrets_of("minio")),
        ports=(Port(9000, settings.minio_port),),
        health=Health(resting(*check, "https://127.0.0.1:9000/minio/health/cluster")),
        health_wait_s=0,  # its job waits for it, and starts meanwhile
        restart=settings.profile.restart,
    )


def _job(
    settings: Settings, part: str, reader: str, memory_mb: int, command: tuple[str, ...] = ()
) -> ContainerSpec:
    """Return a job of the operations image, with the settings and one reader's secrets."""
    return ContainerSpec(
        stack=settings.stack,
        part=part,
        image="operations",
        uid=UID_OPERATIONS,
        memory_mb=memory_mb,
        mounts=(secrets_of(reader),),
        command=command or ("job", part),
        environment=job_environment(settings),
        one_shot=True,
    )


def _scheduler(settings: Settings) -> ContainerSpec:
    """Return the container of the scheduled tasks; `up` waits for no first verdict.

    Each reader's secrets are at a path of their own, and a task is told the one of its reader.
    """
    planned = {name: text for name, text in settings.schedules.items() if name not in settings.off}
    every = {
        task.reader: None for task in TASKS.values() if task.is_service or task.name in planned
    }
    if settings.backup.archives:
        every["backup"] = None  # `pandom backup` makes them here, too
    published = settings.metrics_port is not None and AUDIT in planned
    metrics = {"PANDOM_AUDITOR_METRICS": f"{VERDICT_MOUNT}/audit.prom"} if published else {}
    told = [Mount(VERDICT, VERDICT_MOUNT, writable=True)] if published else []
    return ContainerSpec(
        stack=settings.stack,
        part="operations",
        image="operations",
        uid=UID_OPERATIONS,
        # The audit reads all of a catalog at once, a drill has a server of its own besides; the
        # other tasks are a connection each.
        memory_mb=768 if "backup" in every else 384 if AUDIT in planned else 128,
        command=("operations",),
        mounts=(
            Mount("records", str(FOLDER), writable=True),
            *(Mount(keys_volume(reader), f"{KEYS_MOUNT}/{reader}") for reader in every),
            *told,
        ),
        environment={
            **job_environment(settings),
            **metrics,
            scheduler.SCHEDULES_VARIABLE: json.dumps(planned, sort_keys=True),
        },
        health=OPERATIONS_HEALTH,
        health_wait_s=0,
        restart=settings.profile.restart,
    )


def _metrics(settings: Settings, port: int) -> ContainerSpec:
    # It sees how full the volumes with data are; its user cannot open their folders.
    told = [] if AUDIT in settings.off else [Mount(VERDICT, VERDICT_MOUNT)]
    return ContainerSpec(
        stack=settings.stack,
        part="metrics",
        image="metrics",
        uid=UID_METRICS,
        memory_mb=128,
        mounts=(
            secrets_of("metrics"),
            Mount("data", "/volumes/data"),
            Mount("objects", "/volumes/objects"),
            *told,
        ),
        ports=(Port(9187, port),),
        health=METRICS_HEALTH,
        health_wait_s=0,
        restart=settings.profile.restart,
    )
