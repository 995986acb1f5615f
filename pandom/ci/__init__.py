"""Environments for CI: a whole stack for one test run, and nothing left of it.

    with pandom.ci.environment() as env:
        psycopg.connect(env.dsn())
        with env.database() as database:      # a fresh clone, for one test
            alice = database.user("alice@example.com")
            with alice.transaction() as connection: ...

The same as `pandom ci create` and `pandom ci destroy`, which it runs: whatever this process has of
variables, threads and signals, the environment is made by a process of its own. It lives as long
as this process; whoever kills that leaves it to the next `create` or `reap`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from pandom.ci import durations
from pandom.ci.client import Database, Place, Service, Serving, command_line
from pandom.runtime import paths
from pandom.runtime.errors import USAGE_ERROR, Failure, PandomError, UsageError
from pandom.runtime.progress import say

# How long an environment of a test run that failed is kept, if at all: PANDOM_CI_KEEP=2h
KEEP_VARIABLE: Final = "PANDOM_CI_KEEP"
# Where it is kept what the servers of a test run that failed said, if at all.
LOG_VARIABLE: Final = "PANDOM_CI_LOG"
# The format of `create` for us: the settings of each login, as one JSON object.
EVERY_ROLE: Final = "roles"


@dataclass(frozen=True)
class Environment:
    """An environment that is up. ``settings`` is what `pandom env` prints, as strings."""

    id: str
    settings: Mapping[str, str] = field(repr=False)
    roles: Mapping[str, Mapping[str, str]] = field(repr=False)
    service: Service | None = field(default=None, repr=False)

    def dsn(self, role: str = "pandom_app") -> str:
        """Return a libpq URL for a login; raises UsageError for one whose secret is not shared."""
        if role not in self.roles:
            raise UsageError(f"{role} is no login of this environment: {', '.join(self.roles)}.")
        return self.roles[role]["DATABASE_URL"]

    @contextmanager
    def database(self) -> Iterator[Database]:
        """Give a database that nobody had before, with the environment's content."""
        with self._serving().database() as database:
            yield database

    @contextmanager
    def bucket(self) -> Iterator[Place]:
        """Give a prefix of the bucket, with a user of the store that reaches no other."""
        with self._serving().bucket() as place:
            yield place

    def _serving(self) -> Service:
        if self.service is None:
            raise UsageError(
                f"Nobody hands out databases of {self.id}.\n"
                f"Next: `.venv/bin/pandom ci serve {self.id}`"
            )
        return self.service


@contextmanager
def environment(
    ttl: str = "2h", settings: Mapping[str, str] | None = None, keep: str | None = None
) -> Iterator[Environment]:
    """Make an environment for the block, and remove it after; ``settings`` are keys of Pulumi.yaml.

    If the block raises, it is kept for ``keep`` (or $PANDOM_CI_KEEP), how to get in is said on
    stderr, and $PANDOM_CI_LOG gets what its servers said. Raises UsageError or Failure with what
    the command said.
    """
    kept = kept_for(keep)
    env = begin(ttl, settings, os.getpid())
    try:
        with Serving(env.id) as serving:
            yield replace(env, service=serving)
    except BaseException:
        try:
            save_logs(env.id)
        finally:
            try:
                finish(env.id, kept)
            except PandomError as error:  # the block's own error is the one to see
                say(f"Environment {env.id}: {error}")
        raise
    finish(env.id, None)


def kept_for(keep: str | None = None) -> str | None:
    """Return how long an environment is kept that something fails in, None for not at all.

    Raises UsageError for what is no such time.
    """
    option, text = ("keep", keep) if keep else (KEEP_VARIABLE, os.environ.get(KEEP_VARIABLE))
    if text:
        durations.parse(text, option)
    return text or None


def begin(ttl: str, settings: Mapping[str, str] | None, owner: int) -> Environment:
    """Make an environment that lives for a process; raises UsageError or Failure."""
    options = [f"--ttl={ttl}", f"--owner={owner}", f"--format={EVERY_ROLE}"]
    options += [f"--set={name}={value}" for name, value in (settings or {}).items()]
    return _environment(_pandom("create", *options))


def existing(name: str) -> Environment:
    """Return an environment that somebody made before; raises UsageError or Failure."""
    return _environment(_pandom("env", name, f"--format={EVERY_ROLE}"))


def save_logs(name: str) -> None:
    """Write what its servers said and were asked last to the file that $PANDOM_CI_LOG names."""
    if file := os.environ.get(LOG_VARIABLE):
        try:
            Path(file).write_text(_pandom("logs", name), encoding="utf-8")
        except (PandomError, OSError) as error:
            say(f"{file} was not written: {error}")


def finish(name: str, kept: str | None) -> None:
    """Remove an environment, or keep it for so long and say how to get in."""
    if kept:
        _pandom("keep", name, f"--for={kept}")
        say(_way_in(name))
    else:
        _pandom("destroy", name)


def _environment(printed: str) -> Environment:
    made = json.loads(printed)
    return Environment(made["settings"]["PANDOM_CI_ID"], made["settings"], made["roles"])


def _way_in(name: str) -> str:
    return (
        f"Environment {name} is kept. Next: .venv/bin/pandom ci psql {name}\n"
        f"      .venv/bin/pandom ci logs {name}\n"
        f"      .venv/bin/pandom ci destroy {name}"
    )


def _pandom(command: str, *arguments: str) -> str:
    """Run a command to its end, also when this process is interrupted; what it printed."""
    with subprocess.Popen(
        command_line(command, *arguments),
        cwd=paths.ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a terminal's Ctrl-C reaches it by us, and once
    ) as child:
        try:
            printed, said = child.communicate()
        except BaseException:
            child.send_signal(signal.SIGINT)
            raise  # after its end, which the block waits for
    if child.returncode:
        raise (UsageError if child.returncode == USAGE_ERROR else Failure)(said.strip())
    return printed
