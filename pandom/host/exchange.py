"""What lies beside the served cluster, and what an exchange of the two still lacks.

Each cluster's folder says of itself what it is, and the exchange is one step, so whoever comes
next, `pandom restore` or `pandom up`, sees where a killed one was and goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pandom.host import superuser
from pandom.host.engine import Container, Engine
from pandom.host.migrate import run_in_job
from pandom.runtime.errors import UsageError
from pandom.runtime.progress import say
from schema.access import DATABASE

PROGRAM: Final = "pandom-restore"
SWITCH: Final = "switch"
UNDO: Final = "undo"
RESTORED: Final = "restored"
FORMER: Final = "former"
UNDONE: Final = "undone"  # one that was restored, served, and taken back
_WORDS: Final = {
    FORMER: "the former database, the way back",
    UNDONE: "the database that was restored, served and taken back",
}


@dataclass(frozen=True)
class Beside:
    """The cluster that is not served. ``begun`` is of the served one: by what it came to be
    served, until that was carried to its end. ``left``: objects were being brought to the other
    moment, and the exchange did not follow."""

    what: str = "nothing"
    begun: str | None = None
    left: bool = False

    def __str__(self) -> str:
        return _WORDS.get(self.what, f"the {self.what} database")

    @property
    def was_served(self) -> bool:
        """Whether it is the one to go back to."""
        return self.what in (FORMER, UNDONE)

    def lacking(self, stack: str) -> str | None:
        """Return what was begun and not carried to its end, and the next step."""
        if self.begun:
            return (
                f"`restore --{self.begun}` was not carried to its end. "
                f"Next: `pandom restore --{self.begun} --stack {stack}` goes on with it, and so "
                "does `pandom up`"
            )
        if self.left:
            step, back = (UNDO, SWITCH) if self.was_served else (SWITCH, UNDO)
            return (
                f"`restore --{step}` was interrupted; documents and media may be of another moment "
                f"than the database. Next: `pandom restore --{step} --stack {stack}` goes on with "
                f"it, --{back} takes it back"
            )
        return None


def parse(said: str) -> Beside:
    """Return what the volume's program says."""
    what, *more = said.split() or [Beside.what]
    begun = next((one for one in more if one in (SWITCH, UNDO)), None)
    return Beside(what, begun, "left" in more)


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


def go_on(engine: Engine, server: Container, name: str, exported: Mapping[str, Any]) -> bool:
    """Do what a cluster that came to be served lacks before anybody may get in.

    A backup of it comes next, and then `settle`. Return whether there was anything.
    """
    begun = look(engine, server).begun
    if begun is None:
        return False
    say(f"  restore --{begun}: the other database is served; doing what it lacks")
    superuser.set_passwords(exported)
    if begun == SWITCH and DATABASE in superuser.restores(exported):
        run_in_job(engine, name, "migration", ["job", "migrate"], "applying later revisions")
        run_in_job(engine, name, "cluster", ["job", "finish", DATABASE], "closing the database")
    return True


def settle(engine: Engine, server: Container) -> None:
    """Note that nothing is lacking any more."""
    engine.run(server, [PROGRAM, "settled"])
