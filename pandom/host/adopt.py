"""`pandom adopt`: takes over a stack that another state made, with its data.

The data is in volumes, and so are the secrets that open it. These are put into this state; then an
ordinary `up` recreates everything around the volumes. Missing secrets are made anew.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Mapping
from typing import Any, Final

import bcrypt
import docker.errors

from pandom.config.readers import READERS
from pandom.database import revisions
from pandom.host import explain, identity, lock, ports, up
from pandom.host import stack as files
from pandom.host.display import Display
from pandom.host.engine import Engine
from pandom.host.pulumi_cli import Pulumi, PulumiFailed
from pandom.host.stack import Stack
from pandom.host.state import RANDOM, State
from pandom.runtime import passphrase
from pandom.runtime.errors import Failure, UsageError
from pandom.runtime.naming import BASE_IMAGE, UID_MINIO, resource_name
from pandom.runtime.progress import say, step

AGAIN: Final = ".venv/bin/pandom adopt"
_SECRETS_ONLY: Final = (
    "--target=**random:index/randomPassword:RandomPassword**",
    "--target=**pandom-stack:index:Keys::**",  # their parent
)
_JOB_S: Final = 120.0


def run(name: str, profile: str | None = None) -> None:
    """Take the stack over and bring it up.

    Raises UsageError, before anything is touched, unless somebody else's stack exists and CONFIRM
    names it.
    """
    started = time.monotonic()
    stack = Stack(name)
    revisions.every()
    variables = up.toolchain_variables()
    with lock.of_stack(stack):
        engine, recorded = Engine(name), stack.recorded()
        identity.refuse_renamed(name, recorded)
        things = engine.things()
        others = identity.foreign(things, recorded)
        if not others:
            why = "is this state's already" if things else "is not in Docker at all"
            raise UsageError(
                f"Stack {name} {why}; nothing to adopt, nothing was touched.\n"
                f"Next: .venv/bin/pandom up --stack {name}"
            )
        if os.environ.get("CONFIRM") != name:
            owner = ", ".join(identity.owners(others))
            raise UsageError(
                f"Stack {name} is owned by {owner}. Adopting it takes it\n"
                "away from there: its containers are made anew, its data and secrets stay.\n"
                f"Nothing was touched. Next, if you mean it: CONFIRM={name} {AGAIN} --stack {name}"
            )
        passphrase.ensure()
        if said := files.prepare_file(stack, profile):
            say(f"  {said}")
        if not files.forget_salt(stack):
            raise UsageError(
                f"stacks/{stack.file.name} holds secrets that another state's passphrase "
                "encrypted.\nNothing was touched. Next: take them out of the file (they are kept "
                f"with the data),\nthen CONFIRM={name} {AGAIN} --stack {name}"
            )
        if identity.protected(things):
            files.set_values(stack, {"protect": True})
        files.settings(stack)
        try:
            _take(stack, Pulumi(stack, variables), engine)
        except PulumiFailed as error:
            raise explain.short(error) from error
        up.bring_up(stack, variables, profile, started, adopting=True)


def _take(stack: Stack, pulumi: Pulumi, engine: Engine) -> None:
    with step("stopping the servers"):
        for container in engine.containers():
            if container.status == "running":
                engine.stop(container)
    with step("reading the secrets that are there"):
        found = _secrets_there(engine, stack.name)
    if not stack.exists():
        if stack.short_lived:
            ports.reserve(stack)
        pulumi.init()
    failed = _make_secrets(pulumi)
    exported = pulumi.export(secrets=True)
    made = {resource.urn.rpartition("::")[2] for resource in State(exported).of_type(RANDOM)}
    if not made:
        raise failed or Failure("Pulumi made no secret, and no error.")
    pulumi.restore(with_secrets(exported, found))
    # PostgreSQL sets the superuser's password from its secret at each start.
    volumes = set(engine.volumes())
    if "minio-root" not in found and resource_name(stack.name, "objects") in volumes:
        with step("users and policies of the object store, whose key is gone, made anew"):
            _forget_users(stack.name)
    # Last, so that a run that is interrupted before can be repeated.
    for container in engine.containers():
        engine.remove_container(container.id)
    for network in engine.networks():
        engine.remove_network(network)


def _make_secrets(pulumi: Pulumi) -> PulumiFailed | None:
    """Let Pulumi make the secrets only; the program then fails, but the state has them."""
    display = Display("secrets: ")
    try:
        pulumi.operate("up", "--yes", "--skip-preview", *_SECRETS_ONLY, show=display)
    except PulumiFailed as error:
        return error
    finally:
        display.close()
    return None


def with_secrets(exported: Mapping[str, Any], found: Mapping[str, str]) -> dict[str, Any]:
    """Return the state with the values that were found instead of those that were made."""
    document: dict[str, Any] = json.loads(json.dumps(exported))
    by_resource = {f"{name.replace('_', '-')}-password": value for name, value in found.items()}
    for one in document["deployment"].get("resources") or ():
        value = by_resource.get(one["urn"].rpartition("::")[2])
        if one["type"] == RANDOM and value is not None:
            one["outputs"]["result"]["plaintext"] = json.dumps(value)
            if "bcryptHash" in one["outputs"]:
                digest = bcrypt.hashpw(value.encode()[:72], bcrypt.gensalt(10)).decode()
                one["outputs"]["bcryptHash"]["plaintext"] = json.dumps(digest)
    return document


def _secrets_there(engine: Engine, stack: str) -> dict[str, str]:
    """Return secrets by name, from the volumes of their readers, as far as these are there."""
    volumes = set(engine.volumes())
    wanted = {
        reader: names
        for reader, (_, names) in READERS.items()
        if resource_name(stack, f"keys-{reader}") in volumes
    }
    if not wanted:
        return {}
    api = engine.client.api
    binds = [f"{resource_name(stack, f'keys-{reader}')}:/keys/{reader}:ro" for reader in wanted]
    # Created but never started: Docker can read its files anyway.
    made = api.create_container(
        BASE_IMAGE, ["true"], host_config=api.create_host_config(binds=binds)
    )
    found: dict[str, str] = {}
    try:
        for reader, names in wanted.items():
            for file, secret in names.items():
                with contextlib.suppress(docker.errors.NotFound):
                    stream, _ = api.get_archive(made["Id"], f"/keys/{reader}/{file}")
                    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
                        content = archive.extractfile(archive.getmembers()[0])
                        if content is not None and (text := content.read().decode().strip()):
                            found[secret] = text
    finally:
        api.remove_container(made["Id"], force=True)
    return found


def _forget_users(stack: str) -> None:
    """Remove the object store's users and policies, which its root's secret encrypts.

    Both are declared, so the storage job makes them again. Objects and buckets stay.
    """
    program = shutil.which("docker")
    if program is None:
        raise Failure("The docker command is not on PATH. Next: `make tools`")
    command = [program, "run", "--rm", "--network=none", f"--user={UID_MINIO}:{UID_MINIO}"]
    command += ["--cap-drop=ALL", "--security-opt=no-new-privileges:true", "--entrypoint=sh"]
    command += [f"--volume={resource_name(stack, 'objects')}:/data", BASE_IMAGE]
    command += ["-c", "rm -rf /data/d*/.minio.sys/config"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_JOB_S, check=False)
    if done.returncode:
        raise Failure(
            f"Volume {resource_name(stack, 'objects')}: {done.stderr.strip()[-300:]}\n"
            f"Next: fix the cause, then `{AGAIN}` again; it goes on from here."
        )
