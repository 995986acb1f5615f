"""Secrets and certificates: generated once, and carried to their readers by one channel.

A container gets a secret by no environment variable and no label, both of which
``docker inspect`` shows, and by no upload, which a read-only root refuses. A
short-lived job gets them all and writes each, mode 0400 and owned by its reader,
into that reader's own volume.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

import pulumi
import pulumi_random as random

from pandom.config import backup
from pandom.config.container_specs import container_specs
from pandom.config.readers import (
    CERTIFICATES,
    GIVEN,
    OPT_IN,
    SECRET_LENGTH,
    keys_volume,
    readers,
    store_secret,
)
from pandom.config.settings import Settings
from pandom.runtime import certificates
from pandom.runtime.naming import BACKUP_CONFIG, KEYS_MOUNT, MINIO_ROOT_USER
from schema.access import SUPERUSER, roles
from schema.storage import BACKUP, COPIER, OWN_STORE, users
from stacks.container import Wiring
from stacks.job import Job
from stacks.volume import volume


@dataclass(frozen=True)
class KeysArgs:
    """What the keys job needs."""

    settings: Settings
    image: pulumi.Input[str]


class Keys(pulumi.ComponentResource):
    """``secrets`` by name, ``volumes`` by part, ``job`` that put the ones into the
    others, and the certificate of the stack's own CA."""

    secrets: dict[str, pulumi.Output[str]]
    volumes: dict[str, pulumi.Output[str]]
    certificate: pulumi.Output[str]
    job: Job

    def __init__(self, name: str, args: KeysArgs) -> None:
        super().__init__("pandom-stack:index:Keys", name)
        settings = args.settings
        self.secrets = self._secrets(settings)
        child = pulumi.ResourceOptions(parent=self)
        self._readers = readers(settings.opt_in)
        # Without these nobody could open protected data; what a setting brings goes with it.
        held = pulumi.ResourceOptions(parent=self, protect=settings.protect)
        self.volumes = {
            part: volume(
                f"{part}-volume", settings.stack, part, child if reader in OPT_IN else held
            ).name
            for reader in ("ca", *self._readers)
            for part in (keys_volume(reader),)
        }
        self.job = Job(
            "keys",
            container_specs(settings)["keys"],
            Wiring(
                args.image,
                volumes=self.volumes,
                uploads={"/run/pandom-keys.json": self._manifest(settings)},
            ),
            child,
        )
        self.certificate = pulumi.Output.all(self.job.succeeded, self.job.logs).apply(
            lambda result: write_certificate(settings.stack, result[1])
        )
        self.register_outputs({"certificate": self.certificate})

    def _secrets(self, settings: Settings) -> dict[str, pulumi.Output[str]]:
        config = pulumi.Config()
        every_login = [role for role in roles(settings.opt_in) if role.login]
        logins = [role.name for role in every_login]
        # These may go: with a login that is switched off, or for a secret that is given.
        free = {
            *GIVEN,
            store_secret(BACKUP),
            store_secret(COPIER),
            *(role.name for role in every_login if role.opt_in),
        }
        store_users = users(settings.backup.kind)
        names = ["postgres", *logins, "admin", "minio-root", *map(store_secret, store_users)]
        # Also where hashes are not encrypted: switching it off takes the key, and so does
        # a dump from the time before.
        names.append("password-hash-key")
        # Also without backups: a store that was used before opens with it again.
        names.append(backup.KEY_SECRET)
        secrets: dict[str, pulumi.Output[str]] = {}
        for name in names:
            override = GIVEN.get(name)
            if override and settings.overrides[override]:
                secrets[name] = config.require_secret(override)
                continue
            secrets[name] = random.RandomPassword(
                f"{name.replace('_', '-')}-password",
                length=SECRET_LENGTH,
                special=False,
                opts=pulumi.ResourceOptions(
                    parent=self, protect=settings.protect and name not in free
                ),
            ).result
        secrets["minio-root-user"] = pulumi.Output.from_input(MINIO_ROOT_USER)
        return secrets

    def _backup_files(self, settings: Settings) -> dict[str, dict[str, pulumi.Input[str]]]:
        """Return what readers get besides, where this program makes the backups."""
        chosen, config = settings.backup, pulumi.Config()
        if not chosen.archives:
            return {}
        own = chosen.kind == OWN_STORE
        secret_key = (
            self.secrets[store_secret(BACKUP)] if own else config.require_secret("backupSecretKey")
        )
        access_key = BACKUP.name if own else config.require_secret("backupAccessKey")
        known = pulumi.Output.all(self.secrets[backup.KEY_SECRET], access_key, secret_key)

        def configuration(keys: PurePosixPath, more: str = "") -> pulumi.Output[str]:
            return known.apply(
                lambda secrets: (
                    backup.configuration(
                        settings.stack,
                        settings.postgres_version,
                        chosen,
                        settings.bucket,
                        *secrets,
                        keys=keys,
                    )
                    + more
                )
            )

        scheduled = KEYS_MOUNT / "backup"
        found: dict[str, dict[str, pulumi.Input[str]]] = {
            "postgres": {BACKUP_CONFIG: configuration(KEYS_MOUNT)},
            "backup": {BACKUP_CONFIG: configuration(scheduled, backup.asking(scheduled))},
            "dump": {BACKUP_CONFIG: configuration(KEYS_MOUNT / "dump")},
            "backup-server": {
                BACKUP_CONFIG: backup.serving(settings.postgres_version),
                backup.PASSWORD_FILE: self.secrets[SUPERUSER].apply(
                    lambda password: f"*:*:*:{SUPERUSER}:{password}\n"
                ),
            },
        }
        if chosen.ca:
            for reader in ("postgres", "backup", "dump"):
                found[reader][backup.CA_FILE] = chosen.ca
        if own:
            found["storage"] = {BACKUP.secret_file: secret_key}
        return found

    def _manifest(self, settings: Settings) -> pulumi.Output[str]:
        """Return what the job writes where, as JSON; secret as a whole."""
        written: dict[str, object] = {}
        more = self._backup_files(settings)
        for reader, (uid, files) in self._readers.items():
            content: dict[str, pulumi.Input[str]] = {
                file: self.secrets[secret]
                for file, secret in files.items()
                if secret in self.secrets  # of a user that only backups need
            }
            content |= more.get(reader, {})
            written[reader] = {"uid": uid, "files": content}
            if reader in CERTIFICATES:
                written[reader] = {"uid": uid, "files": content, "certificate": reader}
        return pulumi.Output.secret(
            pulumi.Output.json_dumps({"sans": CERTIFICATES, "readers": written})
        )


def write_certificate(stack: str, logs: str) -> str:
    """Return the CA's certificate from the keys job's output; also written to the stack's
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
