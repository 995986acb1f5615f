"""`pandom ci create`: a stack of the ephemeral profile, in a state home of its own.

It is made by the program that makes every stack. Here is what goes around it: who it is for, how
long, where its state is, and that a making which fails leaves nothing.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import docker
import docker.errors
import psycopg

from pandom.ci import EVERY_ROLE, cache, durations, prepared, reap, records, room
from pandom.ci.cache import Prepared
from pandom.ci.records import Record
from pandom.ci.remove import remove
from pandom.config.settings import PORT_KEYS, SECRET_KEYS, Settings, SettingsError, load
from pandom.host import access, formats, lock, ports, superuser, up
from pandom.host import stack as files
from pandom.host.engine import Engine, connect
from pandom.host.language_host import LanguageHost
from pandom.host.pulumi_cli import Pulumi
from pandom.runtime import passphrase, paths
from pandom.runtime.errors import Failure, PandomError, UsageError
from pandom.runtime.naming import (
    BASE_IMAGE,
    LABEL_EXPIRES,
    LABEL_PROCESS,
    LABEL_VARIABLES,
    PROJECT,
)
from pandom.runtime.process import Process
from pandom.runtime.progress import say, shorten, step

ID_NAME: Final = "PANDOM_CI_ID"
_GITHUB: Final = "GITHUB_ENV"
# The state is written once, at the end: what a killed run had made is found by its labels.
_QUICK: Final = {"PULUMI_EXPERIMENTAL": "true", "PULUMI_SKIP_CHECKPOINTS": "true"}
_SAME: Final = "every environment is of the ephemeral profile, without protection"
# What --set does not give.
_OWN: Final = {
    **dict.fromkeys(PORT_KEYS.values(), "an environment takes ports that nobody has"),
    **dict.fromkeys(SECRET_KEYS, "its secrets are made anew for each environment"),
    **dict.fromkeys(("profile", "protect"), _SAME),
}
# How long an environment lives that a cluster is taken from, should nobody end it.
_PREPARING: Final = timedelta(minutes=30)


def run(ttl: str, form: str, owner: int | None, chosen: Sequence[str], cold: bool = False) -> None:
    """Make one, and print what its clients need; progress goes to stderr.

    Raises UsageError, before anything is touched, for a wrong time, process or setting, and where
    there is no Docker or no room.
    """
    started = time.monotonic()
    life = durations.parse(ttl, "--ttl")
    process = None if owner is None else Process.of(owner)
    values = chosen_settings(chosen)
    if form == "github" and not os.environ.get(_GITHUB):
        raise UsageError(
            f"--format github writes to the file that ${_GITHUB} names, and there is none: this is "
            "no step\nof GitHub Actions. Nothing was touched. Next: another --format."
        )
    record = make(life, process, values, functools.partial(_print, form), cold)
    say(
        f"\nEnvironment {record.id} is up and healthy ({time.monotonic() - started:.1f} s), until "
        f"{record.expires:%H:%M} UTC{f' or the end of process {owner}' if process else ''}.\n"
        f"Next: .venv/bin/pandom ci psql {record.id}      (as pandom_user)\n"
        f"      .venv/bin/pandom ci destroy {record.id}   (leaves nothing)"
    )


def chosen_settings(chosen: Sequence[str]) -> dict[str, str]:
    """Return what --set gives, which an environment can have; raises UsageError."""
    pairs = [one.partition("=") for one in chosen]
    values = {name: value for name, _, value in pairs}
    if wrong := [name for name, sign, _ in pairs if not sign or not name.isalnum()]:
        problems = [f"{', '.join(wrong)}: expected KEY=VALUE, as in sampleData=true"]
    elif len(values) < len(pairs):
        problems = ["expected each key once"]
    else:
        problems = [f"{name}: {_OWN[name]}" for name in sorted(values.keys() & _OWN)]
        try:
            settings_of({name: value for name, value in values.items() if name not in _OWN})
        except SettingsError as error:
            problems += [one.replace(f"{PROJECT}:", "") for one in error.problems]
    if not problems:
        return values
    raise UsageError(
        "--set cannot be used; nothing was touched:\n"
        + "".join(f"  {one}\n" for one in problems)
        + "Every key is described in Pulumi.yaml."
    )


def settings_of(values: Mapping[str, str]) -> Settings:
    """Return the settings of an environment; raises SettingsError."""
    return load("ci", {"profile": "ephemeral", **values})


def make(
    life: timedelta,
    owner: Process | None,
    values: Mapping[str, str],
    hand_over: Callable[[Record, Mapping[str, Any]], None],
    cold: bool = False,
) -> Record:
    """Make an environment; ``hand_over`` gets it with the outputs of its stack in clear.

    If that fails, nobody knows of it, and it is removed. ``cold`` neither uses nor makes a
    prepared cluster.
    """
    paths.refuse_newer_homes()
    client = connect()
    variables = up.toolchain_variables()
    with contextlib.ExitStack() as held:
        # It takes a second to begin, while this looks and lays the cluster.
        if host := LanguageHost.start(variables):
            held.enter_context(host)
        reap.reap(client)
        found = None if cold else _prepared(client, variables, values)
        record = held.enter_context(_made(life, owner, client, values))
        outputs = _bring_up(record, variables, values, client, found, host)
        if owner and owner.lives() is False:
            raise Failure(f"Process {owner.number} ended before its environment was ready.")
        record = replace(record, ready=True)
        record.write()
        hand_over(record, outputs)
    return record


@contextlib.contextmanager
def _made(
    life: timedelta, owner: Process | None, client: docker.DockerClient, values: Mapping[str, str]
) -> Iterator[Record]:
    """Hold a new environment while it is made; a block that raises leaves nothing of it."""
    name = records.new_id()
    with records.held(name, wait_s=0):
        record = _begin(name, life, owner, client, values)
        try:
            yield record
        except BaseException as error:
            _take_back(record, client, error)
            raise


def _prepared(
    client: docker.DockerClient, variables: Mapping[str, str], values: Mapping[str, str]
) -> Prepared | None:
    """Return the prepared cluster; whoever comes first makes it, the others wait for it."""
    key = cache.key(values, _base(client))
    if found := _usable(cache.find(key), client):
        return found
    with cache.held(key):
        if found := _usable(cache.find(key), client):
            return found
        cache.forget_old()
        with _made(_PREPARING, Process.of(os.getpid()), client, values) as record:
            say("  preparing a cluster for this and later environments, once")
            _bring_up(record, variables, values, client, None, None)
            try:
                with step("taking the cluster"):
                    _keep(key, record, client)
            except (PandomError, OSError, psycopg.Error, docker.errors.DockerException) as error:
                # The environment that is wanted needs it to be quick, and for nothing else.
                say(f"  no cluster was prepared: {shorten(str(error))}")
            remove(record, client)
        return _usable(cache.find(key), client)


def _keep(key: str, record: Record, client: docker.DockerClient) -> None:
    """Empty an environment's cluster, and put it into the cache."""
    with record.entered():
        exported = superuser.exported(record.stack)
    resources = prepared.known(exported)
    prepared.empty(exported)
    take = functools.partial(prepared.take, Engine(record.id, client))
    cache.keep(key, record.id, resources, take)


def _base(client: docker.DockerClient) -> str:
    try:
        return str(client.api.inspect_image(BASE_IMAGE)["Id"])
    except docker.errors.ImageNotFound:
        raise UsageError(
            f"There is no image {BASE_IMAGE}. Nothing was touched. Next: `make tools`"
        ) from None


def _usable(found: Prepared | None, client: docker.DockerClient) -> Prepared | None:
    """Return it if the engine still has the images that it says were built."""
    if found is None:
        return None
    engine = Engine("", client)
    there = all(engine.has_image(one) for one in prepared.images(found.resources).values())
    return found if there else None


def _begin(
    name: str,
    life: timedelta,
    owner: Process | None,
    client: docker.DockerClient,
    values: Mapping[str, str],
) -> Record:
    """Note that there will be one, with its ports, before anything of it is made."""
    now = datetime.now(UTC).replace(microsecond=0)
    with ports.chosen() as found:
        room.refuse(client, records.every(), settings_of(values))
        record = Record(
            id=name,
            home=records.folder() / name,
            created=now,
            expires=now + life,
            owner=owner,
            ready=False,
            clone=paths.ROOT,
            ports=found,
        )
        record.write()
    return record


def _bring_up(
    record: Record,
    variables: Mapping[str, str],
    values: Mapping[str, str],
    client: docker.DockerClient,
    found: Prepared | None,
    host: LanguageHost | None,
) -> Mapping[str, Any]:
    """Make the stack, in the environment's state home; its outputs in clear."""
    told = {
        LABEL_EXPIRES: record.expires.isoformat(),
        LABEL_PROCESS: str(record.owner or ""),
    }
    os.environ.update({LABEL_VARIABLES[label]: value for label, value in told.items()})
    os.environ.update(_QUICK)
    stack = record.stack
    with record.entered(), lock.of_stack(stack):
        passphrase.ensure()
        files.prepare_file(stack, "ephemeral")
        files.set_values(stack, {**values, **record.ports})
        if found is None:
            return up.for_environment(stack, variables, host)
        try:
            with ThreadPoolExecutor() as beside:
                filled = _lay(found, record, Pulumi(stack, variables), client, beside)
                return up.for_environment(stack, variables, host, filled.result)
        except Failure:
            cache.forget(found)  # it may be the reason, and is made again
            raise


def _lay(
    found: Prepared,
    record: Record,
    pulumi: Pulumi,
    client: docker.DockerClient,
    beside: ThreadPoolExecutor,
) -> Future[None]:
    """Give the stack the prepared cluster, in its state, and in its volume as this goes on."""
    given = prepared.labels(record)
    image = prepared.images(found.resources)["postgres"]
    filled = beside.submit(prepared.fill, client, record, given, image, found.cluster)
    pulumi.init(prepared.state(found.resources, found.former, record, given))
    return filled


def _take_back(record: Record, client: docker.DockerClient, error: BaseException) -> None:
    """Remove what was made, and say the error without its own advice, which is to go on."""
    say(f"  removing environment {record.id}, which was not made completely")
    remove(record, client)
    nothing = f"Nothing of environment {record.id} is left."
    if isinstance(error, KeyboardInterrupt):
        raise KeyboardInterrupt(f"Interrupted. {nothing}") from None
    if isinstance(error, PandomError):
        kind = UsageError if isinstance(error, UsageError) else Failure
        said = str(error).partition("\nNext:")[0]
        raise kind(
            f"{said}\n{nothing}\nNext: correct the cause, then `.venv/bin/pandom ci create` again."
        ) from error


def contract(name: str, outputs: Mapping[str, Any], role: str | None = None) -> dict[str, str]:
    """Return what a client of an environment is handed: its id, and what `pandom env` prints."""
    return {ID_NAME: name, **access.variables(outputs, role)}


def every_role(name: str, outputs: Mapping[str, Any]) -> str:
    """Return the settings of every login as JSON."""
    every = {role: contract(name, outputs, role) for role in outputs["passwords"]}
    return json.dumps({"settings": contract(name, outputs), "roles": every})


def _print(form: str, record: Record, outputs: Mapping[str, Any]) -> None:
    values = contract(record.id, outputs)
    if form == EVERY_ROLE:
        print(every_role(record.id, outputs))
    elif form == "github":
        hidden = access.hidden(access.variables(outputs, None))
        print(formats.masks(hidden), end="", file=sys.stderr, flush=True)
        with Path(os.environ[_GITHUB]).open("a", encoding="utf-8") as sink:
            sink.write(formats.render(values, form))
        print(record.id)
    else:
        print(formats.render(values, form), end="")
    sys.stdout.flush()  # a pipe that is closed is a failure of this, too
