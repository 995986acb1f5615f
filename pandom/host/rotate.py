"""`pandom rotate`: new secrets while the stack runs.

A new secret is put into the state; the ordinary `up` carries it to the server and to
every reader, also when this was killed in between. Before, the stack must be well; after,
the new one must open and the old one be refused.
"""

from __future__ import annotations

import secrets
import string
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from pandom.config.backup import KEY_SECRET
from pandom.config.outputs import APPLICATION, UNSHARED
from pandom.config.readers import GIVEN, SECRET_LENGTH, store_secret
from pandom.config.settings import Settings
from pandom.host import explain, keys, lock, passphrases, superuser, up, verdict
from pandom.host import stack as files
from pandom.host.access import outputs_of
from pandom.host.adopt import with_secrets
from pandom.host.engine import Engine
from pandom.host.health import connection
from pandom.host.pulumi_cli import Pulumi, PulumiFailed
from pandom.host.stack import Stack
from pandom.host.state import State, clear_outputs
from pandom.runtime.errors import DRIFT, Drift, Failure, UsageError
from pandom.runtime.paths import ca_certificate
from pandom.runtime.progress import say
from schema.access import SUPERUSER, roles
from schema.storage import AUDITOR, BACKUP, COPIER, EVIDENCE

_LETTERS: Final = string.ascii_letters + string.digits
EVERY_LOGIN: Final = "all-logins"
HASH_KEY: Final = "password-hash-key"
PASSPHRASE: Final = "passphrase"  # noqa: S105 - its name
_NOT: Final = {
    "admin": "; ADMIN_PASSWORD is a user's of the application",
    KEY_SECRET: "; the backups that are there open with no other key",
    store_secret(BACKUP): " yet; the server's archiving uses it all the time",
}
_EVIDENCE: Final = {store_secret(user): user.name for user in (AUDITOR, EVIDENCE)}

# The logins that only containers of the stack use.
_CONTAINERS: Final = frozenset({"pandom_backup", "pandom_janitor", "pandom_metrics", *UNSHARED})

_LOGIN: Final = "open connections stay; a new one needs the new password (pandom env)"
_STORE: Final = "requests with the old secret are refused from then on (pandom env)"
_INSIDE: Final = "nobody outside has it; open connections stay"


@dataclass
class _Rotation:
    """A stack that is well and locked; ``exported`` is its state, secrets in clear."""

    stack: Stack
    variables: Mapping[str, str]
    started: float
    exported: Mapping[str, Any] = field(repr=False)

    @property
    def outputs(self) -> dict[str, Any]:
        return clear_outputs(self.exported)

    @property
    def pulumi(self) -> Pulumi:
        return Pulumi(self.stack, self.variables)

    def bring_up(self) -> None:
        """Run the ordinary `up`, and read the state as it is then."""
        up.bring_up(self.stack, self.variables, None, self.started)
        self.exported = self.pulumi.export(secrets=True)


@dataclass(frozen=True)
class Kind:
    """Something that can be rotated: the secrets that are made anew, what clients see of it."""

    secrets: tuple[str, ...]
    effect: str
    carry_out: Callable[[_Rotation], None] | None = None


def kinds(opt_in: frozenset[str], backups: bool = True) -> dict[str, Kind]:
    """Return everything that `pandom rotate` takes, by name; some of a stack with ``backups``."""
    logins = [role.name for role in roles(opt_in) if role.login]
    return {
        **{name: Kind((name,), _INSIDE if name in _CONTAINERS else _LOGIN) for name in logins},
        EVERY_LOGIN: Kind(tuple(logins), _LOGIN),
        SUPERUSER: Kind((SUPERUSER,), _INSIDE),
        **{
            name: Kind((name,), _STORE)
            for name in superuser.ACCOUNTS
            if backups or name != store_secret(COPIER)
        },
        "minio-root": Kind(("minio-root",), "the object store starts again: some seconds"),
        "context-key": Kind((), "open contexts end: repeat the transaction", _context_key),
        HASH_KEY: Kind((HASH_KEY,), "with encryptPasswordHash, sign-ins need the new key"),
        "certificates": Kind((), "nothing: connections stay", _certificates),
        "ca": Kind((), "two steps: give clients ca.crt after each", _authority),
        PASSPHRASE: Kind((), "nothing; of every stack of this state folder"),
    }


def run(what: str, name: str, listed: bool) -> None:
    """Rotate ``what``, or show what there is.

    Raises UsageError, before anything is touched, for what cannot be rotated.
    """
    started = time.monotonic()
    stack = Stack(name)
    if listed:
        there = stack.file.exists()
        for one, kind in kinds(files.settings(stack).opt_in if there else frozenset()).items():
            print(f"{one:20}{kind.effect}")
        return
    if what == PASSPHRASE:
        passphrases.rotate(up.toolchain_variables())
        return
    outputs_of(stack)  # says what is missing
    files.prepare_file(stack)
    settings = files.settings(stack)
    kind = chosen(what, stack, settings)
    variables = up.toolchain_variables()
    try:
        with lock.of_stack(stack, wait_s=0):
            rotation = _Rotation(stack, variables, started, Pulumi(stack, variables).export(True))
            if not _unfinished(rotation.exported, kind.secrets):
                _refuse_unwell(
                    rotation, "Nothing was touched: a rotation begins with a stack that is well."
                )
            (kind.carry_out or _by_state(kind.secrets))(rotation)
    except PulumiFailed as error:
        raise explain.short(error) from error


def chosen(what: str, stack: Stack, settings: Settings) -> Kind:
    """Return what to rotate; raises UsageError for an unknown name or a given secret."""
    known = kinds(settings.opt_in, settings.backup.archives)
    if what not in known:
        raise UsageError(
            f"{what}: nothing that can be rotated{_NOT.get(what, '')}.\n"
            f"There are: {', '.join(known)}.\n"
            "Next: `.venv/bin/pandom rotate --list` says what each does to clients."
        )
    for one in known[what].secrets:
        if settings.overrides.get(key := GIVEN.get(one, ""), "") != "":  # None: it is encrypted
            raise UsageError(
                f"{one}: its secret is given by {key} in stacks/{stack.file.name}; nothing was "
                f"touched.\nNext: pulumi config set --stack {stack.qualified} --secret {key}\n"
                f"then `{up.AGAIN} --stack {stack.name}`"
            )
    return known[what]


def _refuse_unwell(rotation: _Rotation, when: str) -> None:
    """Raise unless health and audit find nothing."""
    engine = Engine(rotation.stack.name)
    found = verdict.look(rotation.stack, engine, rotation.outputs, State(rotation.exported))
    if words := found.explanation(up.AGAIN):
        found.show()
        raise (Drift if found.exit_code == DRIFT else Failure)(f"{words}\n{when}")


def _named(secret: str) -> str:
    return secret.replace("_", "-")


def _applied(exported: Mapping[str, Any]) -> dict[str, str]:
    """Return the secrets that the last complete run carried out, by the names of the state."""
    found = {**keys.written(exported), **superuser.passwords(exported)}
    outputs = clear_outputs(exported)
    if outputs:  # They come last in a run.
        found |= outputs["passwords"]
        found |= {one: outputs["store_secrets"][user] for one, user in _EVIDENCE.items()}
        found |= {
            "minio-media": outputs["minio_secret_key"],
            HASH_KEY: outputs["password_hash_key"],
        }
    if given := superuser.login(exported):
        found[SUPERUSER] = given["password"]
    return {_named(key): value for key, value in found.items()}


def _unfinished(exported: Mapping[str, Any], names: tuple[str, ...]) -> bool:
    """Return whether the state has a new secret for each of them that is not carried out yet."""
    made, applied = superuser.generated(exported), _applied(exported)
    there = made.keys() & applied.keys()
    if absent := [one for one in names if _named(one) not in there]:
        raise UsageError(
            f"{', '.join(absent)}: declared and not there yet; nothing was touched.\n"
            f"Next: `{up.AGAIN}`, which makes it."
        )
    waiting = {one for one in names if made[_named(one)] != applied[_named(one)]}
    # Written to the volumes, and not in the store yet.
    waiting |= {*superuser.refused_by_store(exported)} & {*names} if not waiting else set()
    return bool(names) and waiting == {*names}


def _by_state(names: tuple[str, ...]) -> Callable[[_Rotation], None]:
    """Return what carries out a rotation of secrets that the state holds."""

    def carry_out(rotation: _Rotation) -> None:
        exported, what = rotation.exported, ", ".join(names)
        former = _applied(exported)
        if _unfinished(exported, names):
            say(f"  going on with an interrupted rotation of {what}")
        else:
            new = {
                one: "".join(secrets.choice(_LETTERS) for _ in range(SECRET_LENGTH))
                for one in names
            }
            rotation.pulumi.restore(with_secrets(exported, new))
            say(f"  the state has a new secret for {what}")
        rotation.bring_up()
        made = superuser.generated(rotation.exported)
        for one in names:
            _prove(rotation, one, made[_named(one)], opens=True)
            if former[_named(one)] != made[_named(one)]:
                _prove(rotation, one, former[_named(one)], opens=False)
        said = "" if names == (HASH_KEY,) else " The new secret opens, the old one is refused."
        say(f"\nRotated: {what}.{said}")
        if told := _told(rotation.stack, names):
            say("Next: give clients the new settings:\n  " + "\n  ".join(told))

    return carry_out


def _prove(rotation: _Rotation, name: str, secret: str, opens: bool) -> None:
    """Raise Failure unless a secret is taken, or refused."""
    given = superuser.login(rotation.exported)
    if name == HASH_KEY:
        return  # nobody signs in with it
    if name in superuser.ACCOUNTS:
        taken = superuser.store_takes(rotation.exported, name, secret)
    else:
        taken = given is not None and not superuser.refuses(given, name, secret)
    if taken != opens:
        said = "the old secret still opens" if taken else "the new secret is refused"
        raise Failure(
            f"{name}: {said}.\nNext: `{up.AGAIN} --stack {rotation.stack.name}`, then this again."
        )


def _told(stack: Stack, names: tuple[str, ...]) -> list[str]:
    """Return the commands that print what clients need."""
    command = f".venv/bin/pandom env --stack {stack.name}"
    shared = [one for one in names if one.startswith("pandom_") and one not in _CONTAINERS]
    found = [f"{command} --role {one}" for one in shared if one != APPLICATION]
    return [command, *found] if {APPLICATION, "minio-media", HASH_KEY} & set(names) else found


def _context_key(rotation: _Rotation) -> None:
    with psycopg.connect(**connection(rotation.outputs, "pandom_user")) as operator:
        operator.execute("select public.rotate_context_key()")
    say("\nRotated: context-key. Contexts that were open are nobody's any more.")


def _certificates(rotation: _Rotation) -> None:
    engine = Engine(rotation.stack.name)
    keys.ask(engine, "certificates")
    keys.settle(rotation.stack, engine, keys.recorded(rotation.exported))
    _refuse_unwell(rotation, "The servers have new certificates.")
    say("\nRotated: certificates, of the same CA. Clients need nothing new.")


def _authority(rotation: _Rotation) -> None:
    """Take the next step of a new CA: trusted beside the old one, then in its place."""
    engine, before = Engine(rotation.stack.name), keys.recorded(rotation.exported)
    done = keys.ask(engine, "ca")
    keys.settle(rotation.stack, engine, before)
    if done == "signs":
        # The servers show its certificates now: nobody inside needs the former any more.
        done = keys.ask(engine, "ca")
        keys.settle(rotation.stack, engine, before)
    rotation.bring_up()
    place = ca_certificate(rotation.stack.name)
    if done == "trusted":
        say(
            f"\nA new CA is trusted beside the old one, which still signs.\nNext: give clients "
            f"{place}; when all have it,\n"
            f"`.venv/bin/pandom rotate ca --stack {rotation.stack.name}` again lets it sign."
        )
    else:
        say(f"\nRotated: ca. The old one is not trusted any more.\nNext: give clients {place}")
