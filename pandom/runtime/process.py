"""A process that something was made for, and whether it still lives.

A number is used again some day, and after a restart of the host at once: so the process's start
and the boot belong to it. Containers number their processes themselves: so does the namespace.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pandom.runtime.errors import UsageError
from pandom.runtime.numbers import is_number


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _namespace() -> str:
    return Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")


def _started(number: int) -> str | None:
    """Return when the process began, in ticks since the boot; None if there is none."""
    try:
        text = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


@dataclass(frozen=True)
class Process:
    """One process of some host, by what no other process has."""

    number: int
    started: str
    boot: str
    namespace: str

    @classmethod
    def of(cls, number: int) -> Process:
        """Return a process that runs here; raises UsageError if there is none."""
        started = _started(number)
        if started is None:
            raise UsageError(
                f"--owner {number}: expected a process that runs on this host, found none.\n"
                "Nothing was touched."
            )
        return cls(number, started, _boot(), _namespace())

    @classmethod
    def parse(cls, text: str) -> Process | None:
        """Read what ``str`` gives; None for anything else, and for no process."""
        parts = text.split(":")
        if len(parts) != 4 or not is_number(parts[0]):
            return None
        return cls(int(parts[0]), *parts[1:])

    def __str__(self) -> str:
        return f"{self.number}:{self.started}:{self.boot}:{self.namespace}"

    def lives(self) -> bool | None:
        """Return whether it runs; None if nobody can tell from here."""
        if self.boot != _boot() or self.namespace != _namespace():
            return None
        return _started(self.number) == self.started

    @property
    def command(self) -> str:
        """What it is called, "" when it is gone."""
        try:
            return Path(f"/proc/{self.number}/comm").read_text().strip() if self.lives() else ""
        except OSError:
            return ""
