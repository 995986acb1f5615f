"""A store elsewhere that is full, then slow: told with its cause, and healed when it is not."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from pandom.backups.repository import PROGRAM
from pandom.host.stack import Stack, set_values
from tests.fixtures.backups import drill, sql, written
from tests.fixtures.other_store import OtherStore
from tests.fixtures.slow_store import Slow
from tests.fixtures.stack import RunningStack

pytestmark = [
    pytest.mark.requirement("D5"),
    pytest.mark.soak,  # runs of `up`, and waiting for the server to try again
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system"),
]
DISK_MB = 400


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    place.mkdir()
    options = f"size={DISK_MB}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as sink, contextlib.suppress(OSError):
        while sink.write(bytes(1 << 20)):
            pass


def waiting_segment(stack: RunningStack) -> str:
    """End a segment that cannot be archived, and wait until the server noticed that; its name."""
    sql(stack, "select pg_logical_emit_message(true, 'test', 'something')")
    ((segment,),) = sql(stack, "select pg_walfile_name(pg_switch_wal())")
    until(lambda: str(sql(stack, "select last_failed_wal from pg_stat_archiver")[0][0]) >= segment)
    return str(segment)


def archived(stack: RunningStack) -> str:
    return str(sql(stack, "select last_archived_wal from pg_stat_archiver")[0][0])


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def told(stack: RunningStack, cause: str) -> None:
    """Health, a backup and a drill name the cause."""
    unwell = stack.pandom("health", "--stack", stack.name, code=1).stderr
    assert "archiving: FAILED" in unwell
    assert cause in unwell
    failed = stack.pandom("backup", "--stack", stack.name, code=1)
    assert cause in failed.stderr
    found = drill(stack)
    assert found["result"] == "failed"
    assert cause in found["message"]


def well(stack: RunningStack) -> None:
    assert drill(stack)["result"] == "ok"
    stack.pandom("backup", "--verify", "--stack", stack.name)
    stack.pandom("health", "--stack", stack.name)


def test_a_full_store_and_a_slow_one_are_told_and_healed(
    backed: RunningStack, tmp_path: Path
) -> None:
    name = backed.name
    with (
        small_disk(tmp_path / "disk") as disk,
        OtherStore(disk / "store", locked=False) as store,
        Slow(store) as front,
    ):
        store.take_backups_of(name)
        # Outlives the disk: the stack's file goes on naming it.
        authority = shutil.copy(store.ca, tmp_path / "ca.crt")
        set_values(Stack(name), {"backupEndpoint": front.address, "backupCa": str(authority)})
        backed.pandom("up", "--stack", name)
        backed.look_again()
        try:
            filler = disk / "filler"
            fill(filler)
            full = waiting_segment(backed)
            told(backed, "The store is full")
            # Beyond its limit the queue of segments is given up, so that it fills no volume.
            server = docker.from_env().containers.get(backed.container("postgres"))
            code, said = server.exec_run(
                [PROGRAM, "archive-push", f"/var/lib/postgresql/17/data/pg_wal/{full}"],
                environment={"PGBACKREST_ARCHIVE_PUSH_QUEUE_MAX": "1MiB"},
            )
            assert (code, b"dropped WAL file" in said) == (0, True), said
            filler.unlink()
            until(lambda: archived(backed) >= full)
            written(backed)
            well(backed)

            front.delay = 8
            first = waiting_segment(backed)
            told(backed, "The store does not answer")
            front.delay = 0
            until(lambda: archived(backed) >= first)
            well(backed)
        finally:
            front.delay = 0
            set_values(Stack(name), {"backup": "own-store"})
            backed.pandom("up", "--stack", name, code=None)
            backed.look_again()
