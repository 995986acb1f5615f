"""Secrets and certificates: generated once, and carried to their readers by one channel.

A container gets a secret by no environment variable and no label, both of which
``docker inspect`` shows, and by no upload, which a read-only root refuses. A
short-lived job gets them all and writes each, mode 0400 and owned by its reader,
into that reader's own volume.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_random as random

from pandom import certificates
from pandom.naming import (
    HOST_MINIO,
    HOST_POSTGRES,
    MINIO_ROOT_USER,
    UID_MINIO,
    UID_OPERATIONS,
    UID_POSTGRES,
)
from schema.access import roles
from schema.storage import AUDITOR, EVIDENCE, MEDIA, USERS, User
from stacks.container import ContainerArgs, Mount
from stacks.job import Job
from stacks.settings import Settings
from stacks.volume import volume

SECRET_LENGTH: Final = 32


def store_secret(user: User) -> str:
    """The name of the secret of a user of the object store; a login may be called like it."""
    return user.name.replace("pandom-", "minio-")


# What a reader's file holds is the name of a generated secret.
READERS: Final[dict[str, tuple[int, dict[str, str]]]] = {
    "postgres": (UID_POSTGRES, {"superuser_password": "postgres"}),
    "minio": (UID_MINIO, {"root_user": "minio-root-user", "root_password": "minio-root"}),
    # Both apply the settings: the one at each `up`, the other at the end of a restore.
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
            **{user.secret_file: store_secret(user) for user in USERS},
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
    "operator": (UID_OPERATIONS, {"pandom_user_password": "pandom_user"}),
}
SERVERS: Final = {"postgres": HOST_POSTGRES, "minio": HOST_MINIO}


@dataclass(frozen=True)
class KeysArgs:
    """What the keys job needs."""

    settings: Settings
    image: pulumi.Input[str]


class Keys(pulumi.ComponentResource):
    """``secrets`` by name, ``volumes`` by reader, ``job`` that put the ones into the
    others, and the certificate of the stack's own CA."""

    secrets: dict[str, pulumi.Output[str]]
    volumes: dict[str, pulumi.Output[str]]
    certificate: pulumi.Output[str]
    job: Job

    def __init__(
        self, name: str, args: KeysArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("pandom-stack:index:Keys", name, None, opts)
        settings = args.settings
        self.secrets = self._secrets(settings)
        child = pulumi.ResourceOptions(parent=self)
        # Without these nobody could open the data that is protected.
        held = pulumi.ResourceOptions(parent=self, protect=settings.protect)
        self.volumes = {
            reader: volume(f"keys-{reader}-volume", settings.stack, f"keys-{reader}", held).name
            for reader in ("ca", *READERS)
        }
        self.job = Job(
            "keys",
            ContainerArgs(
                stack=settings.stack,
                part="keys",
                image=args.image,
                # The one root user of the stack: it alone gives files to other users.
                uid=None,
                memory_mb=128,
                command=("job", "keys"),
                capabilities=("CHOWN", "DAC_OVERRIDE", "FOWNER"),
                mounts=tuple(
                    Mount(volume_name, f"/keys/{reader}", writable=True)
                    for reader, volume_name in self.volumes.items()
                ),
                uploads={"/run/pandom-keys.json": self._manifest()},
            ),
            child,
        )
        self.certificate = pulumi.Output.all(self.job.succeeded, self.job.logs).apply(
            lambda result: write_certificate(settings.stack, result[1])
        )
        self.register_outputs({"certificate": self.certificate})

    def _secrets(self, settings: Settings) -> dict[str, pulumi.Output[str]]:
        config = pulumi.Config()
        overrides = {
            "admin": "adminPassword",
            "pandom_app": "appPassword",
            "pandom_user": "userPassword",
            store_secret(MEDIA): "minioSecretKey",
        }
        every_login = [role for role in roles(settings.opt_in) if role.login]
        logins = [role.name for role in every_login]
        # These may go: with a login that is switched off, or for a secret that is given.
        free = {*overrides, *(role.name for role in every_login if role.opt_in)}
        names = ["postgres", *logins, "admin", "minio-root", *map(store_secret, USERS)]
        # Also where hashes are not encrypted: switching it off takes the key, and so does
        # a dump from the time before.
        names.append("password-hash-key")
        secrets: dict[str, pulumi.Output[str]] = {}
        for name in names:
            override = overrides.get(name)
            if override and settings.overrides[override]:
                secrets[name] = config.require_secret(override)
                continue
            secrets[name] = random.RandomPassword(
                f"{name.replace('_', '-')}-password",
                length=SECRET_LENGTH,
                # Letters and digits only: they pass unquoted through URLs, dotenv and
                # connection strings, and 32 of them are 190 bits.
                special=False,
                opts=pulumi.ResourceOptions(
                    parent=self, protect=settings.protect and name not in free
                ),
            ).result
        secrets["minio-root-user"] = pulumi.Output.from_input(MINIO_ROOT_USER)
        return secrets

    def _manifest(self) -> pulumi.Output[str]:
        """What the job writes where, as JSON; secret as a whole."""
        readers: dict[str, object] = {}
        for reader, (uid, files) in READERS.items():
            content = {file: self.secrets[secret] for file, secret in files.items()}
            readers[reader] = {"uid": uid, "files": content}
            if reader in SERVERS:
                readers[reader] = {"uid": uid, "files": content, "certificate": reader}
        sans = {name: ["127.0.0.1", "localhost", host] for name, host in SERVERS.items()}
        return pulumi.Output.secret(pulumi.Output.json_dumps({"sans": sans, "readers": readers}))


def write_certificate(stack: str, logs: str) -> str:
    """The CA's certificate from the keys job's output; also written to the stack's
    folder, where clients and the provider's ``sslrootcert`` expect it.

    Raises ``pulumi.RunError`` when the output holds none.
    """
    found = certificates.printed(logs)
    if found is None:
        raise pulumi.RunError(
            "The keys job printed no CA certificate; expected a PEM block in its output. "
            f"Run it again: pulumi up --stack {stack} --replace '**keys-container'"
        )
    certificates.keep(stack, found.authority)
    return found.authority
