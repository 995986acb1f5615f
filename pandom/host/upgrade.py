"""`pandom upgrade`: the database's cluster as one of the next major version, and the way back.

The server's new image makes it beside the served cluster, which stays whole; then the two are
exchanged as after a restore, and `up` replaces the containers.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from datetime import UTC, datetime
from typing import Final

from pandom.config.settings import UPGRADING, applied_version
from pandom.host import backup, exchange, explain, identity, point_in_time, repair, superuser, up
from pandom.host import stack as files
from pandom.host.access import require
from pandom.host.display import Display
from pandom.host.engine import RESTORE, Container, Engine
from pandom.host.exchange import UNDO, UPGRADE, Beside, ask
from pandom.host.pulumi_cli import Pulumi, PulumiFailed
from pandom.host.stack import Stack
from pandom.host.state import IMAGE, State
from pandom.runtime.errors import Failure, PandomError, UsageError
from pandom.runtime.naming import POSTGRES_VERSIONS, image_name
from pandom.runtime.progress import say, step
from schema.storage import archives

PROGRAM: Final = "pandom-upgrade"
KEY: Final = "postgresVersion"
_LIMIT_S: Final = 4 * 3600.0
_READY: Final = "database system is ready to accept connections"


def run(name: str, then: str | None) -> None:
    """Upgrade, or do what comes after it. Raises PandomError, before anything is touched for
    what cannot be."""
    stack, engine = Stack(name), Engine(name)
    require(stack)
    identity.refuse(name, engine.things(), stack.recorded())
    with point_in_time.alone(stack):
        one = _Upgrade(stack, engine)
        {None: one.forward, "undo": one.back, "discard": one.discard}[then]()


class _Upgrade:
    """One run, with the stack's lock held."""

    def __init__(self, stack: Stack, engine: Engine) -> None:
        self._stack, self._engine, self._name = stack, engine, stack.name
        self._tools = up.toolchain_variables()
        self._exported = superuser.exported(stack)
        self._began = time.monotonic()
        self._applied = applied_version(State(self._exported).environment) or POSTGRES_VERSIONS[0]
        self._found = engine.container("postgres")
        self._look()
        lacking = self._beside.lacking(self._name)
        if lacking and not self._beside.of_upgrade:
            raise UsageError(lacking)

    def _look(self) -> None:
        """Ask the volume what is served, and what lies beside it."""
        self._beside = Beside()
        # Without a container, of a run that was killed when it had written what is served.
        self._version = files.settings(self._stack).postgres_version
        if self._found:
            self._beside = exchange.of_volume(self._engine, self._found)
            if self._beside.version is None:
                raise UsageError(
                    "The stack was brought up by an earlier version, whose image cannot do this.\n"
                    f"Next: `pandom up --stack {self._name}`, then this again"
                )
            self._version = self._beside.version

    @property
    def _server(self) -> Container:
        """The database's container. Raises Failure if it is gone."""
        if self._found is None:
            raise Failure(
                f"Stack {self._name} has no server.\n"
                f"Next: `.venv/bin/pandom up --stack {self._name}`"
            )
        return self._found

    def discard(self) -> None:
        """Remove the other version's cluster, if that is confirmed."""
        point_in_time.discard(self._engine, self._server, self._name)

    # -- to the next version --------------------------------------------------------------------

    def forward(self) -> None:
        """Upgrade to the newest version; go on where a killed run ended."""
        if self._beside.begun or self._version != self._applied:
            self._serve(None)
            return
        newest = POSTGRES_VERSIONS[-1]
        if self._version == newest:
            files.set_values(self._stack, {KEY: newest})  # a way back was begun
            print(f"Stack {self._name} has PostgreSQL {newest} already; nothing to do.")
            return
        if taken := self._beside.taken(self._name):
            raise UsageError(taken)
        # From a stack that is as declared, by this very program; a killed run may have left it
        # without a server.
        files.set_values(self._stack, {KEY: self._version})
        up.verify(self._stack, self._tools)
        self._exported = superuser.exported(self._stack)
        self._start_server()
        try:
            files.set_values(self._stack, {KEY: newest})
            image = self._image()
            self._check(image)
        except BaseException:
            self._set_back()
            raise
        stopped = self._stop()
        try:
            self._make(image)
        except BaseException:
            self._start_server()
            self._set_back()
            say(f"  PostgreSQL {self._version} runs again, with what it had")
            raise
        self._exchange(UPGRADE)
        self._serve(stopped)

    def _set_back(self) -> None:
        files.set_values(self._stack, {KEY: self._version})
        with contextlib.suppress(PandomError):
            self._image()  # or the audit would find containers of others than the state's

    def _image(self) -> str:
        """Build the images of the settings' version, while the server runs; the server's id."""
        images = [one.urn for one in State(self._exported).of_type(IMAGE)]
        display = Display("images: ")
        since = datetime.now(UTC)
        try:
            Pulumi(self._stack, {**self._tools, UPGRADING: "true"}).operate(
                "up", "--yes", "--skip-preview", *repair.options(images, ()), show=display
            )
        except PulumiFailed as error:
            raise explain.failure(
                self._stack, error, self._engine, since, ".venv/bin/pandom upgrade"
            ) from error
        finally:
            display.close()
        tag = image_name("postgres", files.settings(self._stack).postgres_version)
        return str(self._engine.client.api.inspect_image(tag)["Id"])

    def _start_server(self) -> None:
        """Start it, if a killed run left it stopped."""
        now = self._engine.container("postgres") or self._server
        if now.status != "running":
            self._engine.start(now)
        found = self._engine.wait_until_healthy("postgres", up.READY_S)
        if found is None or not found.is_healthy:
            raise explain.not_ready(self._engine, found, "postgres")
        self._found = found

    def _check(self, image: str) -> None:
        """Refuse what can be known while the server runs: room, backups, the release."""
        _, out, _ = self._engine.run(
            self._server, ["du", "-sb", f"{self._engine.folder(self._server)}/data"]
        )
        point_in_time.refuse_full(
            self._engine, self._server, int(out.split()[0]), "upgrade beside the running database"
        )
        if archives(str(State(self._exported).outputs.get("backup"))):
            place = backup.open_place(self._name)
            every = place.repository.backups()
            newest = f"the newest is {every[-1].label}" if every else "there is none"
            say(f"  backups: {newest}")
            backup.archive_all(place)
        else:
            say("  backups: none by this program; the former cluster is kept beside the new one")
        with step("a new cluster, empty"):
            self._in_new(image, "begin", network=f"container:{self._server.id}")

    def _stop(self) -> datetime:
        """Stop the server; the moment from which on clients are without it."""
        stopped = datetime.now(UTC)
        with step(f"stopping PostgreSQL {self._version}"):
            self._engine.stop(self._server)
        return stopped

    def _make(self, image: str) -> None:
        began = time.monotonic()
        for line in self._in_new(image, "run", network="none").splitlines():
            if line.startswith("step: ") and "rows, as" in line:
                say(f"  {line.removeprefix('step: ')} ({time.monotonic() - began:.1f} s)")

    def _in_new(self, image: str, word: str, network: str) -> str:
        """Return what the upgrade's program says in the new image; raises PandomError with it."""
        api = self._engine.client.api
        with self._engine.like(
            self._server.id, [word], RESTORE, entrypoint=PROGRAM, network=network, image=image
        ) as made:
            code = int(api.wait(made, timeout=_LIMIT_S)["StatusCode"])
            said = api.logs(made).decode(errors="replace").strip()
        if code:
            words = said.replace(f"{PROGRAM}: ", "")
            older = "older release" in words
            raise (UsageError if older else Failure)(
                f"{words[-1500:]}\n"
                + (
                    "Nothing was touched. Next: again once Debian's mirror has a later one"
                    if older
                    else "Next: correct what it names, then `pandom upgrade` again"
                )
            )
        return str(said)

    def _exchange(self, way: str) -> None:
        with step("exchanging the two clusters"):
            ask(self._engine, self._server, "exchange", way)
        self._look()

    def _serve(self, stopped: datetime | None) -> None:
        """Let `up` bring up the version that is served now, and say how long nobody was."""
        files.set_values(self._stack, {KEY: self._version})
        try:
            up.bring_up(self._stack, self._tools, None, self._began, upgrading=True)
        finally:
            if stopped and (ready := self._ready()):
                say(f"  without a server for {(ready - stopped).total_seconds():.1f} s")
        back = "--undo` serves it again, `--" if self._version == POSTGRES_VERSIONS[-1] else "--"
        say(
            f"  PostgreSQL {self._version} is served; the other version's cluster lies beside it: "
            f"`pandom upgrade --stack {self._name} {back}discard` removes it"
        )

    def _ready(self) -> datetime | None:
        """Return when the new server was ready, by its own log."""
        found = self._engine.container("postgres")
        if found is None:
            return None
        log = self._engine.client.api.logs(found.id, timestamps=True).decode(errors="replace")
        at = re.search(rf"^(\S{{19}})\S*Z .*{_READY}", log, re.MULTILINE)
        return datetime.fromisoformat(f"{at[1]}+00:00") if at else None

    # -- and back ---------------------------------------------------------------------------------

    def back(self) -> None:
        """Serve the former version's cluster again, if what that leaves behind is confirmed."""
        there = self._beside
        former = there.other if there.is_older and there.was_served else None
        if there.begun == UNDO or (self._version != self._applied and former is None):
            self._serve(None)
            return
        if former is None:
            raise UsageError(
                f"Beside the database of stack {self._name} lies none of a former version "
                f"(found: {there.what}). Nothing was touched"
            )
        self._tell_changes()
        if os.environ.get("CONFIRM") != self._name:
            raise UsageError(
                f"What was committed since the upgrade stays in the cluster of {self._version}, "
                "which lies beside until it is discarded,\nand is served no longer. Next: "
                f"`CONFIRM={self._name} pandom upgrade --undo --stack {self._name}`, if you mean it"
            )
        if archives(str(State(self._exported).outputs.get("backup"))):
            with contextlib.suppress(PandomError):
                backup.archive_all(backup.open_place(self._name))
        # As on the way there: after the exchange `up` goes on, too.
        files.set_values(self._stack, {KEY: former})
        stopped = self._stop()
        self._exchange(UNDO)
        self._serve(stopped)

    def _tell_changes(self) -> None:
        """Say what the former cluster lacks."""
        former = f"PostgreSQL {self._beside.other}"
        if self._engine.version(self._server) != self._version:
            return  # a killed run's: nobody was let in yet
        try:
            self._start_server()
            code, out, err = self._engine.run(self._server, [PROGRAM, "since"])
            if code:
                raise Failure(err.strip()[-300:])
        except PandomError as error:  # which may be why one goes back
            say(f"  {former} lacks what was committed since the upgrade, which cannot be told:")
            say(f"  {error}")
            return
        changed = [line.replace("\t", ": ") for line in out.splitlines()]
        if changed:
            say(f"  {former} lacks what was committed since the upgrade. Rows:")
            for line in changed:
                say(f"    {line}")
