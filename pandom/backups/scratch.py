"""A server of a drill's own: a restored cluster on a socket that only one user reaches.

It lies in the volume of the container `operations`, and goes with whoever began it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import psycopg

from pandom.database import pinned
from pandom.operations.records import FOLDER
from pandom.runtime.errors import Failure
from schema.access import DATABASE, SUPERUSER

PLACE: Final = FOLDER / "drill"
AIR: Final = 256 << 20  # for the log that is replayed, and what the server writes, in bytes
LOG_EVERY_S: Final = 15.0  # how often it is told how far the replay is
READY: Final = "database system is ready to accept connections"
SHORT: Final = "recovery ended before configured recovery target was reached"
REPLAYED: Final = re.compile(r'restored log file "([0-9A-F]{24})" from archive')
# Of the copy: it is read once, by one user, and thrown away. No setting of the served cluster
# that only loads code or opens doors is here.
_SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "",
    "shared_buffers": "32MB",
    "maintenance_work_mem": "32MB",
    "max_connections": "20",
    "hot_standby": "off",
    "archive_mode": "off",
    "autovacuum": "off",
    "fsync": "off",
    "full_page_writes": "off",
    "ssl": "off",
    "shared_preload_libraries": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
}


class Unreached(Failure):
    """The copy could not be started; ``log`` is what its server said."""

    def __init__(self, words: str, log: str) -> None:
        super().__init__(words)
        self.log = log


def refuse_full(needed: int, place: Path = PLACE) -> None:
    """Raise Failure, before anything is written, for a volume that has no room for a copy."""
    state = os.statvfs(place.parent)
    free = state.f_bavail * state.f_frsize
    if free < needed + AIR:
        raise Failure(
            f"The volume of the container operations has {free >> 20} MB free, "
            f"{(needed + AIR) >> 20} MB are needed to restore the backup there. Nothing was "
            "restored.\nNext: make room on the host's disk, then `pandom drill`"
        )


@contextlib.contextmanager
def folder(place: Path = PLACE) -> Iterator[Path]:
    """Yield the folder of the copy's files, empty; it is removed in the end.

    What a killed drill left is removed first. Its server has ended with the run that began it.
    """
    shutil.rmtree(place, ignore_errors=True)
    data = place / "data"
    data.mkdir(parents=True, mode=0o700)
    place.chmod(0o700)
    try:
        yield data
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def serving(data: Path, say: Callable[[str], None]) -> Iterator[Path]:
    """Start the server, wait until it has replayed its log, and yield the folder of its socket.

    Raises Unreached for one that does not come that far.
    """
    with tempfile.TemporaryDirectory(prefix="drill-") as private:
        sockets, log = Path(private), data.parent / "log"
        (data.parent / "hba.conf").write_text("local all all trust\n")
        values = {
            **_SETTINGS,
            "hba_file": data.parent / "hba.conf",
            "unix_socket_directories": sockets,
        }
        text = "".join(f"{key} = '{value}'\n" for key, value in values.items())
        (data.parent / "postgresql.conf").write_text(text)
        with log.open("w") as file:
            server = subprocess.Popen(
                ["postgres", "-D", str(data), "-c", f"config_file={data.parent}/postgresql.conf"],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        try:
            _until_ready(server, log, say)
            yield sockets
        finally:
            server.send_signal(signal.SIGQUIT)  # at once: nothing of it is kept
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(30)
            if server.poll() is None:
                server.kill()
                server.wait()


def _until_ready(server: subprocess.Popen[bytes], log: Path, say: Callable[[str], None]) -> None:
    told = time.monotonic()
    while True:
        ended = server.poll() is not None
        said = log.read_text(errors="replace")
        if ended:
            raise Unreached("The restored server did not start", said)
        if READY in said:
            return
        if time.monotonic() - told > LOG_EVERY_S and (found := REPLAYED.findall(said)):
            say(f"replayed up to {found[-1]}")
            told = time.monotonic()
        time.sleep(0.1)


def dsn(sockets: Path, role: str = SUPERUSER) -> str:
    """Return how to connect to the copy, as any role: there is nobody else in the folder."""
    return psycopg.conninfo.make_conninfo(
        **pinned.ISOLATED, host=str(sockets), dbname=DATABASE, user=role
    )
