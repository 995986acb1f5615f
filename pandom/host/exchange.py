"""What lies beside the served cluster, and what an exchange of the two still lacks.

Each cluster's folder says of itself what it is, and the exchange is one step, so whoever comes
next, `pandom restore`, `upgrade` or `up`, sees where a killed one was and goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pandom.host import superuser
from pandom.host.engine import RESTORE, Container, Engine
from pandom.host.migrate import run_in_job
from pandom.runtime.errors import Failure, UsageError
from pandom.runtime.numbers import is_number
from pandom.runtime.progress import say
from schema.access import DATABASE

PROGRAM: Final = "pandom-restore"
_WORD_S: Final = 900.0  # to remove a large database
SWITCH: Final = "switch"
UNDO: Final = "undo"
UPGRADE: Final = "upgrade"
RESTORED: Final = "restored"
FORMER: Final = "former"
UNDONE: Final = "undone"  # one that was restored or upgraded, served, and taken back
_WORDS: Final = {
    FORMER: "the former database, the way back",
    UNDONE: "the database that was restored, served and taken back",
}


@dataclass(frozen=True)
class Beside:
    """The cluster that is not served. ``begun`` is of the served one: by what it came to be
    served, until that was carried to its end. ``left``: objects were being brought to the other
    moment, and the exchange did not follow. ``version`` is of the served one, None if its image
    does not say; ``other`` of the one beside, where an upgrade made the two differ."""

    what: str = "nothing"
    begun: str | None = None
    left: bool = False
    version: int | None = None
    other: int | None = None

    def __str__(self) -> str:
        if self.other and self.was_served:
            way = "the way back" if self.is_older else "served and taken back"
            return f"the database of PostgreSQL {self.other}, {way}"
        return _WORDS.get(self.what, f"the {self.what} database")

    @property
    def was_served(self) -> bool:
        """Whether it is the one to go back to."""
        return self.what in (FORMER, UNDONE)

    @property
    def is_older(self) -> bool:
        """Whether it is of the version before an upgrade."""
        return bool(self.other and self.version and self.other < self.version)

    @property
    def of_upgrade(self) -> bool:
        """Whether the two are of different versions."""
        return self.begun == UPGRADE or self.other is not None

    @property
    def command(self) -> str:
        """The command that deals with it."""
        return UPGRADE if self.of_upgrade else "restore"

    def taken(self, stack: str) -> str | None:
        """Return why nothing may be put beside the served cluster now, and the next step."""
        if not self.was_served:
            return self.lacking(stack)
        back = f"`pandom {self.command} --undo --stack {stack}` serves it again"
        away = f"`pandom {self.command} --discard --stack {stack}` removes it"
        following = away if self.other and not self.is_older else f"{back}, --discard removes it"
        return self.lacking(stack) or (
            f"Beside the database of stack {stack} lies {self}.\nNext: {following}; then this again"
        )

    def lacking(self, stack: str) -> str | None:
        """Return what was begun and not carried to its end, and the next step."""
        if self.begun:
            step = self.step(self.begun)
            return (
                f"`{step}` was not carried to its end. "
                f"Next: `pandom {step} --stack {stack}` goes on with it, and so does `pandom up`"
            )
        if self.left:
            step, back = (UNDO, SWITCH) if self.was_served else (SWITCH, UNDO)
            return (
                f"`restore --{step}` was interrupted; documents and media may be of another moment "
                f"than the database. Next: `pandom restore --{step} --stack {stack}` goes on with "
                f"it, --{back} takes it back"
            )
        return None

    def step(self, word: str) -> str:
        """Return the command that an exchange is a step of."""
        return UPGRADE if word == UPGRADE else f"{self.command} --{word}"


def parse(said: str) -> Beside:
    """Return what the volume's program says."""
    what, *more = said.split() or [Beside.what]
    begun = next((one for one in more if one in (SWITCH, UPGRADE, UNDO)), None)
    version, other, *_ = *(int(one) for one in more if is_number(one)), None, None
    return Beside(what, begun, "left" in more, version, other)


def ask(engine: Engine, server: Container, word: str, *more: str) -> str:
    """Return what the volume's own program says, in a container without network. Raises Failure."""
    with engine.like(server.id, [word, *more], RESTORE, entrypoint=PROGRAM, network="none") as made:
        code = int(engine.client.api.wait(made, timeout=_WORD_S)["StatusCode"])
        said = engine.client.api.logs(made).decode(errors="replace").strip()
    if code:
        raise Failure(f"`{PROGRAM} {word}` failed: {said[-300:]}")
    return str(said)


def of_volume(engine: Engine, server: Container) -> Beside:
    """Ask what there is, once nothing works at it any more whose caller was killed; the server may
    be stopped, or of the other version."""
    for one in engine.containers():
        if one.part == RESTORE:
            engine.remove_container(one.id)
    return parse(ask(engine, server, "state"))


def look(engine: Engine, server: Container) -> Beside:
    """Ask a server that runs; one of an earlier version has nothing to say."""
    code, said, _ = engine.run(server, [PROGRAM, "state"])
    return Beside() if code else parse(said)


def refuse_begun(engine: Engine, stack: str) -> None:
    """Raise UsageError with the next step for what was begun and not carried to its end."""
    server = engine.container("postgres")
    running = server is not None and server.is_healthy
    if running and server and (lacking := look(engine, server).lacking(stack)):
        raise UsageError(lacking)


def go_on(
    engine: Engine, server: Container, name: str, exported: Mapping[str, Any]
) -> Beside | None:
    """Do what a cluster that came to be served lacks before anybody may get in.

    A backup of it comes next, and then `settle`. Return what lies beside if there was anything.
    """
    found = look(engine, server)
    if found.begun is None:
        return None
    say(f"  {found.step(found.begun)}: the other database is served; doing what it lacks")
    superuser.set_passwords(exported)
    if found.begun == SWITCH and DATABASE in superuser.restores(exported):
        run_in_job(engine, name, "migration", ["job", "migrate"], "applying later revisions")
        run_in_job(engine, name, "cluster", ["job", "finish", DATABASE], "closing the database")
    return found


def settle(engine: Engine, server: Container) -> None:
    """Note that nothing is lacking any more."""
    engine.run(server, [PROGRAM, "settled"])
