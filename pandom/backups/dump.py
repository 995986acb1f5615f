"""The task `dump`: a dated dump of the database, encrypted, in the store of the backups.

A physical backup needs this program and PostgreSQL of the same major version; a dump is what every
PostgreSQL takes, and a person can read. Beside each lies a JSON object, written last, with its
checksum: one without it was interrupted, and is removed by the next run.

    NAME/dumps/pandom_db-2026-11-26T03-00-00Z.dump.age    encrypted by age, for the repository's key
    NAME/dumps/pandom_db-2026-11-26T03-00-00Z.json        what it is
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import IO, Any, Final

from pandom.backups import inside
from pandom.backups.inside import say
from pandom.backups.place import Hashed, Place, answering, place
from pandom.database.connect import target_from_environment
from pandom.runtime.errors import Failure, PandomError, UsageError
from pandom.runtime.inputs import secret, setting
from pandom.runtime.progress import shorten

LOGIN: Final = "pandom_user"
KIND: Final = "dumps"
_DUMP: Final = ".dump.age"


@dataclass(frozen=True)
class Dump:
    """One dump; sizes in bytes, ``sha256`` is of the dump itself."""

    name: str
    made: str
    database: str
    size: int
    stored: int
    sha256: str


def _answering(stack: str) -> contextlib.AbstractContextManager[None]:
    return answering(
        "The store of the backups", f"`pandom backups --stack {stack}` says what is wrong with it"
    )


# -- making one -----------------------------------------------------------------------------------


def run() -> None:
    """Make a dump, note it in the trail, and remove those that are older than the kept."""
    stack, keep = setting("PANDOM_STACK"), int(setting("PANDOM_DUMP_KEEP"))
    with _answering(stack):
        where = place(KIND)
        _remove_halves(where)
        made = _make(where)
    inside.note("dump_made", {"name": made.name, "sha256": made.sha256})
    say(f"{made.name}, {made.size >> 10} KB, {made.stored >> 10} KB stored")
    try:
        with _answering(stack):
            for old in every(where)[:-keep]:
                _remove(where, old.name)
                say(f"{old.name} removed, {keep} are kept")
    except PandomError as error:
        say(f"older dumps were not removed: {str(error).splitlines()[0]}")


def _make(where: Place) -> Dump:
    target, now = target_from_environment(), datetime.now(UTC).replace(microsecond=0)
    name = f"{target.database}-{now:%Y-%m-%dT%H-%M-%SZ}"
    with subprocess.Popen(
        [
            *("pg_dump", "--format=custom", "--no-password", "--lock-wait-timeout=60s"),
            *("--host", target.host, "--port", str(target.port)),
            *("--username", LOGIN, "--dbname", target.database),
        ],
        env={
            **os.environ,
            "PGPASSWORD": secret(f"{LOGIN}_password"),
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(target.ca),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        source = _OfProcess(process)
        stored = where.encrypt(f"{name}{_DUMP}", source)
    made = Dump(name, now.isoformat(), target.database, source.size, stored, source.sha256)
    where.put(f"{name}.json", json.dumps(asdict(made), indent=1).encode())
    return made


class _OfProcess(Hashed):
    """What `pg_dump` writes; an error at its end if that failed, so that nothing half is stored."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(process.stdout)
        self._process = process

    def ended(self) -> None:
        """Raise Failure with what it said."""
        if self._process.wait():
            said = (
                self._process.stderr.read().decode(errors="replace") if self._process.stderr else ""
            )
            raise Failure(f"pg_dump failed: {shorten(' '.join(said.split()), 400)}")


# -- what there is --------------------------------------------------------------------------------


def every(where: Place) -> list[Dump]:
    """Return every complete dump, the oldest first."""
    found = []
    for one in where.names():
        if one.endswith(".json"):
            with where.reading(one) as answer:
                found.append(Dump(**json.loads(answer.read())))
    return sorted(found, key=lambda dump: dump.made)


def _remove(where: Place, name: str) -> None:
    # Its description first: what is left of a removal is removed as a half.
    for end in (".json", _DUMP):
        where.remove(f"{name}{end}")


def _remove_halves(where: Place) -> None:
    names = where.names()
    for one in names:
        name = one.removesuffix(_DUMP)
        if name != one and f"{name}.json" not in names:
            with contextlib.suppress(Exception):  # denied, perhaps, and not in the way
                _remove(where, name)


def listed() -> None:
    """Print every dump as JSON, for the host."""
    with _answering(setting("PANDOM_STACK")):
        print(json.dumps([asdict(one) for one in every(place(KIND))]))


def get(name: str) -> None:
    """Write a dump to stdout, as it was.

    Raises UsageError for one that there is not, Failure for one that is damaged or cut off.
    """
    _read(name, sys.stdout.buffer)


def verify(name: str) -> None:
    """Read a dump back, compare its checksum, and have `pg_restore` read its list."""
    with subprocess.Popen(
        ["pg_restore", "--list"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None  # noqa: S101 - a pipe
        dump = _read(name, _Lenient(process.stdin))
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        said = process.stderr.read().decode(errors="replace") if process.stderr else ""
    if process.returncode:
        raise Failure(f"{name} is no dump that pg_restore reads: {shorten(said, 300)}")
    print(f"{name} is whole: {dump.size} bytes, SHA-256 {dump.sha256}")


class _Lenient:
    """Goes on when `pg_restore` has read what it needs."""

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink

    def write(self, content: bytes) -> int:
        with contextlib.suppress(BrokenPipeError):
            self._sink.write(content)
        return len(content)

    def flush(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._sink.flush()


def _read(name: str, sink: Any) -> Dump:
    import pyrage

    stack = setting("PANDOM_STACK")
    with _answering(stack):
        where = place(KIND)
        found = {one.name: one for one in every(where)}
        if name not in found:
            there = "\n".join(f"  {one}" for one in found) or "  none"
            raise UsageError(f"There is no dump {name}. There are:\n{there}")
        dump = found[name]
        try:
            read = where.decrypt(f"{name}{_DUMP}", sink)
        except (pyrage.DecryptError, OSError) as error:
            raise Failure(
                f"{name} is damaged, cut off, or of another key: {error}.\n"
                f"Next: an older one (`pandom dumps --stack {stack}`), or a backup"
            ) from None
    if (read.sha256, read.size) != (dump.sha256, dump.size):
        raise Failure(f"{name} is not what was stored: its checksum differs.\nNext: an older one")
    return dump
