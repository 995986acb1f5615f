"""What is known of each environment: a folder of its own in the state home, with one file.

    environments/ci-3f9a2b1c/environment.json   this record; the first that is made of an
                                                environment, and the last that goes
    environments/ci-3f9a2b1c/pandom-stack/      the state home of its stack
    environments/ci-3f9a2b1c/failures.log       what tests that failed had asked, without values

The record says when the environment ends: Docker's labels say it, too, and cannot be changed; they
count only where there is no record any more.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pandom.host import lock
from pandom.host.stack import Stack, write_atomically
from pandom.runtime import paths
from pandom.runtime.errors import Failure, UsageError
from pandom.runtime.naming import PROJECT
from pandom.runtime.process import Process

ID: Final = re.compile(r"ci-[0-9a-f]{8}")
FILE: Final = "environment.json"
_FOLDER: Final = "environments"


def folder() -> Path:
    """Return where the environments of this state home are."""
    return paths.state_home() / _FOLDER


@dataclass(frozen=True)
class Record:
    """One environment. ``id`` is its stack's name; ``owner`` the process that it lives for."""

    id: str
    home: Path  # its folder
    created: datetime
    expires: datetime
    owner: Process | None
    ready: bool  # False until it is made completely
    clone: Path  # the checkout that made it, which has the stack's file
    ports: dict[str, int] = field(default_factory=dict)
    unread: str = ""  # why its record cannot be read; all else is a guess then

    @property
    def stack(self) -> Stack:
        """Its stack, whose files are found after ``enter``."""
        return Stack(self.id)

    @property
    def state_home(self) -> Path:
        """The state home of its stack."""
        return self.home / PROJECT

    @property
    def failures(self) -> Path:
        """What tests that failed had asked the server."""
        return self.home / "failures.log"

    @property
    def stack_files(self) -> list[Path]:
        """The stack's file in the checkout, and what an editor or Pulumi left beside it."""
        return sorted((self.clone / "stacks").glob(f"Pulumi.{self.id}.yaml*"))

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Work in its state home, for the block."""
        before = os.environ.get("XDG_STATE_HOME")
        self.enter()
        try:
            yield
        finally:
            os.environ.pop("XDG_STATE_HOME")
            if before is not None:
                os.environ["XDG_STATE_HOME"] = before

    def enter(self) -> None:
        """Make its state home this process's, for the commands of its stack."""
        os.environ["XDG_STATE_HOME"] = str(self.home)

    def write(self) -> None:
        """Note it; a kill leaves the former note or this one."""
        document = asdict(self) | {
            "created": self.created.isoformat(),
            "expires": self.expires.isoformat(),
            "owner": str(self.owner or ""),
            "clone": str(self.clone),
        }
        del document["home"], document["unread"]
        write_atomically(self.home / FILE, json.dumps(document, indent=2) + "\n")

    def remove(self) -> None:
        """Remove every file of the environment, the record last."""
        for path in self.stack_files:
            path.unlink(missing_ok=True)
        for path in self.home.iterdir() if self.home.is_dir() else ():
            if path.name != FILE:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
        shutil.rmtree(self.home, ignore_errors=True)


def new_id() -> str:
    """Return an id that no other environment has, of this user or another."""
    return f"ci-{secrets.token_hex(4)}"


def read(home: Path) -> Record | None:
    """Return the record in an environment's folder; None if there is none."""
    try:
        document: dict[str, Any] = json.loads((home / FILE).read_text())
        return Record(
            id=home.name,
            home=home,
            created=datetime.fromisoformat(document["created"]),
            expires=datetime.fromisoformat(document["expires"]),
            owner=Process.parse(document["owner"]),
            ready=bool(document["ready"]),
            clone=Path(document["clone"]),
            ports={str(key): int(port) for key, port in document["ports"].items()},
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        why = str(error.strerror)
    except KeyError as error:
        why = f"it has no {error}"
    except (ValueError, TypeError, AttributeError):
        why = "it is no record of this version"
    return _without(home, why)


def _without(home: Path, unread: str = "") -> Record:
    begun = datetime.fromtimestamp(0, UTC)
    with contextlib.suppress(OSError):
        begun = datetime.fromtimestamp(home.stat().st_mtime, UTC)
    return Record(home.name, home, begun, begun, None, False, paths.ROOT, unread=unread)


def every() -> list[Record]:
    """Return the environments of this state home, the oldest first.

    A folder without a record is one whose making was interrupted before it had any.
    """
    found = []
    for home in sorted(folder().glob("ci-*")):
        if ID.fullmatch(home.name):
            found.append(read(home) or _without(home))
    return sorted(found, key=lambda one: one.created)


def find(name: str) -> Record:
    """Return the environment; raises UsageError for one that is not there."""
    found = {one.id: one for one in every()}
    if name not in found:
        there = ", ".join(found) or "none"
        raise UsageError(f"There is no environment {name!r}; there are: {there}.")
    return found[name]


def enter(name: str | None) -> None:
    """Make an environment's state home this process's if the stack's name is that of one."""
    if name and ID.fullmatch(name) and (found := read(folder() / name)):
        found.enter()


class Held(Failure):
    """Somebody else makes, keeps or removes the environment."""


@contextlib.contextmanager
def held(name: str, wait_s: float) -> Iterator[None]:
    """Hold an environment, as whoever makes, keeps or removes it does.

    Raises Held that names the process which has it for longer.
    """
    with contextlib.ExitStack() as stack:
        place = paths.state_home() / "locks" / name
        try:
            stack.enter_context(lock.held(place, f"Environment {name}", wait_s))
        except Failure as error:
            raise Held(str(error)) from None
        yield
