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

from pandom.config.container_specs import container_specs
from pandom.config.readers import OPT_IN, SERVERS, keys_volume, readers, store_secret
from pandom.config.settings import Settings
from pandom.runtime import certificates
from pandom.runtime.naming import MINIO_ROOT_USER
from schema.access import roles
from schema.storage import MEDIA, USERS
from stacks.container import Wiring
from stacks.job import Job
from stacks.volume import volume

SECRET_LENGTH: Final = 32


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

    def __init__(
        self, name: str, args: KeysArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("pandom-stack:index:Keys", name, None, opts)
        settings = args.settings
        self.secrets = self._secrets(settings)
        child = pulumi.ResourceOptions(parent=self)
        self._readers = readers(settings.opt_in)
        # Without these nobody could open the data that is protected; a setting's may go with it.
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
        for reader, (uid, files) in self._readers.items():
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
