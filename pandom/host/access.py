"""`pandom env` and `pandom shell`: how people and programs reach a stack."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from pandom.host import client_version, explain, formats, identity
from pandom.host.engine import Engine
from pandom.host.pulumi_cli import Pulumi, PulumiFailed
from pandom.host.stack import Stack
from pandom.host.state import clear_outputs
from pandom.runtime import certificates, passphrase
from pandom.runtime.errors import Failure, UsageError
from pandom.runtime.naming import KEYS_MOUNT, UID_OPERATIONS, resource_name
from pandom.runtime.paths import list_stacks
from pandom.runtime.progress import say
from toolchain import environment

# Why these logins' secrets are not handed out.
_WITHHELD: Final = {
    "pandom_migrator": "its password is in the migration job only",
    "postgres": "the superuser's password is for the provider and the cluster job only",
    "pandom_metrics": "it exists with monitoring: true in the stack's file, after `pandom up`",
    "pandom_service": "it exists with serviceLogin: true in the stack's file, after `pandom up`",
}


def require(stack: Stack) -> None:
    """Raise UsageError when there is no such stack; one of another state is named."""
    if not stack.exists():
        identity.refuse(stack.name, Engine(stack.name).things(), stack.recorded())
        others = ", ".join(list_stacks()) or "none"
        raise UsageError(
            f"There is no stack {stack.name}; there are: {others}.\n"
            f"Next: `.venv/bin/pandom up --stack {stack.name}`"
        )


def outputs_of(stack: Stack) -> dict[str, Any]:
    """Return the outputs with secrets in clear; raises UsageError when there is no such stack."""
    require(stack)
    passphrase.require()
    try:
        found = clear_outputs(Pulumi(stack, environment.find().variables).export(secrets=True))
    except PulumiFailed as error:
        raise explain.short(error) from error
    if "db_password" not in found:
        raise Failure(
            f"Stack {stack.name} was never brought up completely, so it has no outputs yet.\n"
            f"Next: `.venv/bin/pandom up --stack {stack.name}` goes on from where it stopped."
        )
    # Without the file nobody could connect.
    certificates.keep(stack.name, found["ca_certificate"])
    return found


def variables(outputs: Mapping[str, Any], role: str | None) -> dict[str, str]:
    """Return what a client of one login is handed, by the names of ``pandom.config.outputs.ENV``.

    Raises UsageError for a login that is not shared, and Failure for outputs of an
    earlier version that lack something.
    """
    from pandom.config.outputs import APPLICATION, ENV_NAMES, HASH_KEY, database_url

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
            raise UsageError(f"--role {role}: {why}.\nThere are: {', '.join(sorted(passwords))}.")
        values["DB_USERNAME"], values["DB_PASSWORD"] = role, passwords[role]
        values["DATABASE_URL"] = database_url(
            role,
            passwords[role],
            int(outputs["db_port"]),
            outputs["db_sslmode"],
            outputs["db_sslrootcert"],
        )
    if role in (None, APPLICATION) and outputs.get("encrypt_password_hash"):
        # Callers of the account functions pass it; nobody else needs it.
        values[HASH_KEY] = outputs[HASH_KEY.lower()]
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in values.items()
    }


def hidden(values: Mapping[str, str]) -> list[str]:
    """Return the secrets among the values, and the password as the URL escapes it."""
    from pandom.config.outputs import ENV, HASH_KEY

    found = [value for name, value in values.items() if name == HASH_KEY or ENV[name]]
    return [*found, quote(values["DB_PASSWORD"], safe="")]


def env(name: str, role: str | None, form: str) -> None:
    """Print the block, and nothing else, on stdout; for GitHub the masks on stderr."""
    outputs = outputs_of(Stack(name))
    values = variables(outputs, role)
    doubt = administrator_doubt(outputs)
    if doubt and doubt.certain:
        values.pop("ADMIN_PASSWORD")
    block = formats.render(values, form)
    if form == "github":
        print(formats.masks(hidden(values)), end="", file=sys.stderr, flush=True)
    print(block, end="")
    if doubt:
        say(doubt.said)
    # Whoever asks for the operator's login is about to dump or restore with it.
    if role == "pandom_user" and (warning := client_version.warning(name)):
        say(warning)


@dataclass(frozen=True)
class Doubt:
    """Why ADMIN_PASSWORD may not sign in; if that is ``certain``, it is not handed out."""

    said: str
    certain: bool


def administrator_doubt(outputs: Mapping[str, Any]) -> Doubt | None:
    """Check whether ADMIN_EMAIL and ADMIN_PASSWORD still sign in: users change both."""
    import bcrypt
    import psycopg

    from pandom.host.health import connection

    email, password = outputs["admin_email"], outputs["admin_password"]
    try:
        with psycopg.connect(**connection(outputs, "pandom_user")) as client:
            row = client.execute(
                "select u.role = 'admin', u.is_active, u.password_hash "
                "from public.auth_users as u where lower(u.email) = lower(%s)",
                (email,),
            ).fetchone()
    except psycopg.Error:
        return Doubt("ADMIN_PASSWORD was not checked: the server does not answer.", certain=False)
    if row is None:
        why = f"no account has the e-mail {email}; it was changed or deleted"
    elif not row[0]:
        why = f"{email} is no administrator any more"
    elif not row[1]:
        why = f"{email} is deactivated"
    elif row[2] == "*":
        return _encrypted_doubt(outputs)
    elif not bcrypt.checkpw(password.encode(), row[2].encode()):
        why = f"the password of {email} was changed; the stack's is the first one only"
    else:
        return None
    return Doubt(
        f"ADMIN_PASSWORD is left out: {why}.\nNext: who has the mail resets it in the application "
        "(request_password_reset); docs/runbook.md, The administrator, has the other ways.",
        certain=True,
    )


def _encrypted_doubt(outputs: Mapping[str, Any]) -> Doubt | None:
    """Sign in and takes it back: only the functions of the application decrypt a hash."""
    import psycopg

    from pandom.config.outputs import APPLICATION
    from pandom.host.health import connection

    names = ("admin_email", "admin_password", "password_hash_key")
    try:
        with psycopg.connect(**connection(outputs, APPLICATION)) as client:
            row = client.execute(
                "select count(*) from public.sign_in(%s, %s, %s)",
                [outputs[name] for name in names],
            ).fetchone()
            client.rollback()
    except psycopg.Error as error:
        said = error.diag.message_primary or type(error).__name__
        return Doubt(f"ADMIN_PASSWORD was not checked: {said}.", certain=False)
    if row == (1,):
        return None
    return Doubt(
        "ADMIN_PASSWORD does not sign in at present: it was changed, or too many attempts failed.",
        certain=False,
    )


def shell(name: str, instead: Sequence[str] = ()) -> None:
    """Replace this process by a shell in the operations image, logged in as pandom_user, or by
    another command there.

    It shares the server's network, so that `-h localhost` is the server and the
    source document's commands work as typed.
    """
    stack = Stack(name)
    engine = Engine(name)
    identity.refuse(name, engine.things(), stack.recorded())
    server, job = engine.container("postgres"), engine.container("migration")
    if server is None or not server.is_healthy or job is None:
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
    command += [job.image, "job", "shell", *instead]
    os.execv(docker, command)  # noqa: S606 - no shell is wanted between the terminal and docker
