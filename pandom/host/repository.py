"""A stack's backup repository, asked from the host through the stack's containers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pandom.backups import repository
from pandom.backups.repository import PROGRAM, Show
from pandom.host.engine import Container, Engine
from pandom.runtime.errors import Failure

MAKER: Final = "operations"


@dataclass(frozen=True)
class Repository(repository.Repository):
    """It is read in the container ``server``, the database's or one like it, so that a restore
    needs nothing else; backups are made where the scheduled ones are."""

    engine: Engine
    server: Container

    def ask(
        self, arguments: Sequence[str], show: Show | None, *, makes: bool
    ) -> tuple[int, str, str]:
        """Run pgBackRest in a container. Raises Failure without the one that makes backups."""
        where = self.maker() if makes else self.server
        return self.engine.run(where, [PROGRAM, *arguments], show)

    def maker(self) -> Container:
        """Return the container that makes backups; raises Failure if it does not run."""
        found = self.engine.container(MAKER)
        if found is None or found.status != "running":
            state = found.state if found else "not there"
            raise Failure(
                f"The container that makes the backups of stack {self.stack} is {state}.\n"
                f"Next: `.venv/bin/pandom up --stack {self.stack}`"
            )
        return found
