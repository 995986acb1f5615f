"""`pandom env` and `pandom shell`: how people and programs reach a stack."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from pandom.errors import Failure, UserMistake
from pandom.host import client_version, explain, formats, passphrase
from pandom.host.engine import Engine
from pandom.host.pulumi_cli import Pulumi, PulumiFailed
from pandom.host.stack import Stack
from pandom.naming import KEYS_MOUNT, UID_OPERATIONS, resource_name
from pandom.paths import every_stack
from pandom.progress import say
from toolchain import environment

# What only one reader has: naming them says why the others cannot have them.
_WITHHELD: Final = {
    "pandom_migrator": "its password is in the migration job only",
    "postgres": "the superuser's password is for the provider and the cluster job only",
}


def outputs_of(stack: Stack) -> dict[str, Any]:
    """The outputs with secrets in clear; raises UserMistake when there is no such stack."""
    if not stack.exists():
        others = ", ".join(every_stack()) or "none"
        raise UserMistake(
            f"There is no stack {stack.name}; there are: {others}.\n"
            f"Next: `.venv/bin/pandom up --stack {stack.name}`"
        )
    passphrase.there()
    try:
        found = Pulumi(stack, environment.find().variables).outputs(secrets=True)
    except PulumiFailed as error:
        raise explain.short(error) from error
    if "db_password" not in found:
        raise Failure(
            f"Stack {stack.name} was never brought up completely, so it has no outputs yet.\n"
            f"Next: `.venv/bin/pandom up --stack {stack.name}` goes on from where it stopped."
        )
    return found


def variables(outputs: Mapping[str, Any], role: str | None) -> dict[str, str]:
    """What a client of one login is handed (D1), by the names of ``stacks.outputs.ENV``.

    Raises UserMistake for a login that is not shared, and Failure for outputs of an
    earlier version that lack something.
    """
    from stacks.outputs import ENV_NAMES, database_url

    if lacking := [name for name in ENV_NAMES if name.lower() not in outputs]:
        raise Failure(
            f"The stack has no {', '.join(lacking)}: it was brought up by an earlier version.\n"
            "Next: `.venv/bin/pandom up`, which adds them."
        )
    values = {name: outputs[name.lower()] for name in ENV_NAMES}
    if role is not None:
        passwords = outputs["passwords"]
        if role not in passwords:
            why = _WITHHELD.get(role, "it is no login of this stack")
            raise UserMistake(f"--role {role}: {why}.\nThere are: {', '.join(sorted(passwords))}.")
        values["DB_USERNAME"], values["DB_PASSWORD"] = role, passwords[role]
        values["DATABASE_URL"] = database_url(
            role,
            passwords[role],
            int(outputs["db_port"]),
            outputs["db_sslmode"],
            outputs["db_sslrootcert"],
        )
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in values.items()
    }


def hidden(values: Mapping[str, str]) -> list[str]:
    """The secrets among them, the password as the URL spells it too."""
    from stacks.outputs import ENV

    found = [value for name, value in values.items() if ENV[name]]
    return [*found, quote(values["DB_PASSWORD"], safe="")]


def env(name: str, role: str | None, form: str) -> None:
    """Print the block, and nothing else, on stdout; for GitHub the masks on stderr."""
    values = variables(outputs_of(Stack(name)), role)
    block = formats.render(values, form)
    if form == "github":
        print(formats.masks(hidden(values)), end="", file=sys.stderr, flush=True)
    print(block, end="")
    # Whoever asks for the operator's login is about to dump or restore with it.
    if role == "pandom_user" and (warning := client_version.warning(name)):
        say(warning)


def shell(name: str) -> None:
    """Replace this process by a shell in the operations image, logged in as pandom_user.

    It shares the server's network, so that `-h localhost` is the server and the
    source document's commands work as typed (D3).
    """
    stack = Stack(name)
    engine = Engine(name)
    server, job = engine.container("postgres"), engine.container("migration")
    if server is None or not server.good or job is None:
        raise Failure(f"Stack {name} is not running. Next: `.venv/bin/pandom up --stack {name}`")
    docker = shutil.which("docker")
    if docker is None:
        raise Failure("The docker command is not on PATH. Next: `make tools`")
    terminal = ["-it"] if os.isatty(0) else ["-i"]
    options = {
        "--name": f"{resource_name(stack.name, 'shell')}-{os.getpid()}",
        "--network": f"container:{server.name}",
        "--user": f"{UID_OPERATIONS}:{UID_OPERATIONS}",
        "--volume": f"{resource_name(stack.name, 'keys-operator')}:{KEYS_MOUNT}:ro",
        "--cap-drop": "ALL",
        "--security-opt": "no-new-privileges:true",
    }
    tmpfs = ("/tmp:mode=1777", f"/home/pandom:uid={UID_OPERATIONS},mode=0700")  # noqa: S108
    command = [docker, "run", "--rm", "--read-only", *terminal]
    command += [word for pair in options.items() for word in pair]
    command += [word for place in tmpfs for word in ("--tmpfs", place)]
    command += [job.image, "job", "shell"]
    os.execv(docker, command)  # noqa: S606 - no shell is wanted between the terminal and docker
