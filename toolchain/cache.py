"""The per-user cache: each entry is made once, under a lock, and is whole or absent."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pandom.runtime.paths import cache_home
from toolchain import process
from toolchain.errors import ToolMissing
from toolchain.report import say

# Longer than the longest build on a slow machine.
LOCK_LIMIT_S: Final = 1800.0
_COMPLETE: Final = ".complete"


def key(*parts: str | bytes) -> str:
    """Return a short name for content: the same content has the same name in every clone."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def complete(path: Path) -> bool:
    """Return whether an entry was made to its end."""
    return (path / _COMPLETE).is_file()


@contextmanager
def locked(path: Path, what: str) -> Iterator[int]:
    """Hold a lock file that the kernel frees when its holder ends, however it ends.

    Yields the descriptor: a child that inherits it keeps the lock when we are
    killed, so that the next run waits for the child instead of writing beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(descriptor, path, what)
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, what: str) -> None:
    deadline = time.monotonic() + LOCK_LIMIT_S
    waiting = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not waiting:
                say(f"  {what}: another run, or what is left of a killed one, is at it; waiting …")
                waiting = True
            if time.monotonic() > deadline:
                raise ToolMissing(
                    f"{what}: another run has held {path} for {LOCK_LIMIT_S / 60:.0f} minutes.\n"
                    f"See who holds it with `fuser -v {path}`, end it and run `make tools` again."
                ) from None
            process.check_interrupt()
            time.sleep(0.2)
        else:
            return


def entry(path: Path, what: str, make: Callable[[Path, int], None]) -> bool:
    """Provide the folder ``path`` by ``make(path, lock)`` unless it is complete.

    What a killed run left is thrown away first. The folder is made in place,
    because a Python environment cannot be moved; the marker comes last.
    Returns whether it was made now.
    """
    if complete(path):
        return False
    with locked(cache_home() / "locks" / f"{path.name}.lock", what) as lock:
        if complete(path):
            return False
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        make(path, lock)
        (path / _COMPLETE).touch()
        return True


def place(source: Path, target: Path) -> None:
    """Put a cached file into the clone: a hard link, or a copy across file systems.

    The mode comes with it, which the build cache of Docker compares.
    """
    if target.exists() and target.stat().st_size == source.stat().st_size:
        if os.path.samestat(target.stat(), source.stat()):
            return
        if target.stat().st_mtime_ns == source.stat().st_mtime_ns:
            return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    try:
        partial.hardlink_to(source)
    except OSError:
        shutil.copy2(source, partial)
    partial.replace(target)
    # Renaming a hard link over another one of the same file leaves both names.
    partial.unlink(missing_ok=True)
