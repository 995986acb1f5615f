"""`pandom adopt`: makes this state the owner of a stack that another state made.

The volumes stay as they are, with the data and the CA in them. All containers are made
again, and every login gets a password of this state: the server takes the superuser's
from the volume as it starts, the object store keeps its root's former one to read what
it encrypted, and the key that encrypts password hashes is replaced in every row.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any, Final

import docker.errors

from pandom import identity
from pandom.errors import Failure, UserMistake
from pandom.host import lock, ownership, superuser, up
from pandom.host import stack as files
from pandom.host.engine import Engine, Marked
from pandom.host.pulumi_cli import Pulumi
from pandom.host.stack import Stack
from pandom.host.state import RANDOM, State
from pandom.naming import KEYS_MOUNT, resource_name
from pandom.progress import say, step
from toolchain import environment

_KEY: Final = "password_hash_key"
# What a stack's file says, by what the jobs are told.
_SETTINGS: Final = {"bucket": "PANDOM_BUCKET", "adminEmail": "PANDOM_ADMIN_EMAIL"}


def run(name: str) -> None:
    """Take the stack over, bring it up and verify it; once it is ours, do nothing.

    Raises UserMistake when there is nothing to take over, or CONFIRM does not name it.
    """
    stack = Stack(name)
    with lock.of_stack(stack):
        engine = Engine(name)
        found = engine.marked()
        others = ownership.foreign(stack, found)
        if not found:
            raise UserMistake(
                f"Docker has nothing of a stack {name}.\n"
                f"Next: `.venv/bin/pandom up --stack {name}` makes it."
            )
        begun = _former_key(stack).exists() and not others
        if stack.exists() and not others and not begun:
            say(f"Stack {name} is this state's already.")
            return
        if not begun:
            _confirm(stack, others)
            _prepare(stack, engine)
            taken = {one.identity for one in found if one.identity}
            identity.keep(name, identity.renewed(identity.find(name), taken))
    up.run(name, adopting=True)
    _replace_hash_key(stack)


def _confirm(stack: Stack, others: list[Marked]) -> None:
    owners = sorted({one.owner for one in others if one.identity})
    whose = f"\nwhich belongs to {', '.join(owners)}" if owners else ""
    ownership.confirm(
        stack,
        f"This state would take over stack {stack.name}{whose}. The data stays. Every login gets\n"
        "a new password (`pandom env`); the former owner cannot work on the stack any more.",
        f".venv/bin/pandom adopt --stack {stack.name}",
    )


def _prepare(stack: Stack, engine: Engine) -> None:
    """Keep what only the present containers and volumes know."""
    if not (stack.file.exists() or stack.kept_file.exists()):
        _write_settings(stack, engine)
    key = _read(engine, "keys-superuser") or _read(engine, "keys-migrator")
    if key:
        files.write_atomically(_former_key(stack), key)


def _write_settings(stack: Stack, engine: Engine) -> None:
    """The stack's file, as the containers that are there were made."""
    told: dict[str, str] = {}
    for one in engine.containers():
        lines = engine.client.api.inspect_container(one.id)["Config"].get("Env") or ()
        told |= dict(line.split("=", 1) for line in lines if line.startswith("PANDOM_"))
    say(f"  {files.prepare_file(stack, told.get('PANDOM_PROFILE'))}")
    values: dict[str, int | bool | str] = {
        key: told[variable] for key, variable in _SETTINGS.items() if variable in told
    }
    for part, key in (("postgres", "postgresPort"), ("minio", "minioPort")):
        server = engine.container(part)
        if server is not None and server.ports:
            values[key] = server.ports[0]
    files.set_values(stack, values)


def _former_key(stack: Stack) -> Path:
    """Where the key is until no row needs it any more."""
    return stack.home / "former-password-hash-key"


def _read(engine: Engine, part: str) -> str | None:
    """The key in a reader's volume, through a container that never starts."""
    volume = resource_name(engine.stack, part)
    image = next((one.image for one in engine.containers()), None)
    if image is None or volume not in engine.volumes():
        return None
    api = engine.client.api
    binds = api.create_host_config(binds={volume: {"bind": str(KEYS_MOUNT), "mode": "ro"}})
    made = api.create_container(image, command=["true"], host_config=binds)["Id"]
    try:
        stream, _ = api.get_archive(made, f"{KEYS_MOUNT}/{_KEY}")
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
            content = archive.extractfile(_KEY)
            return content.read().decode() if content else None
    except docker.errors.NotFound:  # made by a release that had it only where it was used
        return None
    finally:
        engine.remove_container(made)


def _replace_hash_key(stack: Stack) -> None:
    """Encrypt with this state's key what the former one's encrypts; once."""
    place = _former_key(stack)
    if not place.exists():
        return
    exported = Pulumi(stack, environment.find().variables).export(secrets=True)
    new: Any = next(
        superuser.clear(one.outputs["result"])
        for one in State(exported).of_type(RANDOM)
        if one.urn.endswith("::password-hash-key-password")
    )
    with (
        step("encrypting password hashes with the new key"),
        superuser.database(exported) as server,
    ):
        if server is None:
            raise Failure(
                "PostgreSQL does not answer, so hashes still need the former key.\n"
                f"Next: `.venv/bin/pandom adopt --stack {stack.name}` again."
            )
        server.execute(
            """
            update public.auth_users
            set password_hash_encrypted = public.pgp_sym_encrypt(
                public.pgp_sym_decrypt(password_hash_encrypted, %s), %s,
                'cipher-algo=aes256, compress-algo=0')
            where password_hash_encrypted is not null
            """,
            (place.read_text(), new),
        )
    place.unlink()
