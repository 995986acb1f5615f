"""One run at a time for each stack, and the end of what a killed run left behind.

The kernel releases a file lock with its process. A killed run leaves Pulumi's plugins, which would
go on working on the stack, and Pulumi's own lock file.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from pandom.host.stack import Stack
from pandom.runtime import paths
from pandom.runtime.errors import Failure
from pandom.runtime.naming import PROJECT
from pandom.runtime.process import Process as Owner
from pandom.runtime.progress import say

WAIT_S: Final = 300.0  # a cold `up` of somebody else may build images first
GRACE_S: Final = 20.0  # for a Pulumi without its pandom to write its state

# Set for Pulumi and its plugins: the stack they work on, and the pandom that started them.
MARK: Final = "PANDOM_RUN"
STARTED_BY: Final = "PANDOM_RUN_BY"


def _take(handle: IO[str], place: Path) -> bool:
    """Lock the file, and check that it is still the one of that name, which may be removed."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(handle.fileno()).st_ino == place.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


@contextlib.contextmanager
def held(place: Path, what: str, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold the lock file ``place``, waiting at most ``wait_s`` seconds; it is removed after.

    Raises Failure that names the holder's process.
    """
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    deadline, told = time.monotonic() + wait_s, False
    while True:
        with place.open("a+") as handle:
            if _take(handle, place):
                handle.truncate(0)
                handle.write(str(os.getpid()))
                handle.flush()
                try:
                    yield
                finally:
                    place.unlink(missing_ok=True)
                return
            handle.seek(0)
            holder = handle.read().strip() or "unknown"
        if time.monotonic() > deadline:
            raise Failure(
                f"{what} is in use by process {holder}"
                f"{f' for more than {wait_s:.0f} s' if wait_s else '; nothing was touched'}.\n"
                f"Next: wait for it, or look at it (ps -fp {holder}) and end it; then again."
            )
        if not told:
            say(f"  {what} is in use by process {holder}; waiting (at most {wait_s:.0f} s)")
            told = True
        time.sleep(0.2)


@contextlib.contextmanager
def of_stack(stack: Stack, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold the stack, after ending what a killed run left behind.

    The lock files are not in the stacks' folders, which `down` removes while it holds the lock.
    """
    with held(paths.state_home() / "locks" / stack.name, f"Stack {stack.name}", wait_s):
        end_former_run(stack)
        release_pulumi_lock(stack)
        yield


def mark(stack: Stack) -> dict[str, str]:
    """Return the variables by which the processes of a run are found again."""
    return {MARK: str(stack.home), STARTED_BY: str(Owner.of(os.getpid()))}


@dataclass(frozen=True)
class Process:
    """A process of this host."""

    pid: int
    name: str
    owner: Owner | None = None  # the pandom that started it, where it is known

    @property
    def left_behind(self) -> bool:
        """Whether no other pandom waits for it: its own is this one, dead, or nobody knows."""
        owner = self.owner
        return owner is None or owner.number == os.getpid() or owner.lives() is False

    def ended(self) -> bool:
        """Return whether it is gone or only waits for its parent to notice."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return True
        return stat.rpartition(")")[2].split()[0] in "ZX"

    def signal(self, number: int) -> None:
        """Send a signal; that it is gone already is fine."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


def marked(stack: Stack) -> list[Process]:
    """Return the processes that work on the stack for some run of pandom."""
    return with_mark(mark(stack)[MARK])


def with_mark(value: str) -> list[Process]:
    """Return the processes whose mark is this."""
    wanted = f"{MARK}={value}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
            if wanted not in variables:
                continue
            process = Process(
                int(folder.name), (folder / "comm").read_text().strip(), _owner(variables)
            )
        except OSError:  # it ended, or is another user's
            continue
        if process.pid != os.getpid() and not process.ended():
            found.append(process)
    return found


def _owner(variables: list[bytes]) -> Owner | None:
    start = f"{STARTED_BY}=".encode()
    found = next((one for one in variables if one.startswith(start)), start)
    return Owner.parse(found.removeprefix(start).decode(errors="replace"))


def _wait(processes: list[Process], seconds: float) -> list[Process]:
    deadline = time.monotonic() + seconds
    while (
        left := [process for process in processes if not process.ended()]
    ) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def end_former_run(stack: Stack) -> None:
    """End processes of a killed run: first Pulumi, gently, because it writes the state.

    Those of another pandom that lives only read: whoever changes something holds the lock.
    """
    processes = [process for process in marked(stack) if process.left_behind]
    if not processes:
        return
    say(f"  ending {len(processes)} processes that an interrupted run left behind")
    pulumi = [process for process in processes if process.name == "pulumi"]
    for process in pulumi:
        process.signal(signal.SIGINT)
    for process in _wait(pulumi, GRACE_S):
        process.signal(signal.SIGKILL)
    for process in processes:
        process.signal(signal.SIGTERM)
    for process in _wait(processes, 3.0):
        process.signal(signal.SIGKILL)
    left = _wait(processes, 5.0)
    if left:
        pids = " ".join(str(process.pid) for process in left)
        raise Failure(
            f"Processes of an interrupted run of stack {stack.name} cannot be ended: {pids}.\n"
            f"Next: look at them (ps -fp {pids}), end them, and run this again."
        )


def release_pulumi_lock(stack: Stack) -> None:
    """Remove Pulumi's lock if its process on this host is dead.

    Raises Failure when somebody works on the stack by hand, or on another host.
    """
    folder = paths.backend() / ".pulumi" / "locks" / "organization" / PROJECT / stack.name
    for path in sorted(folder.glob("*.json")):
        try:
            found = json.loads(path.read_text())
            pid, host = int(found["pid"]), str(found["hostname"])
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError):
            pid, host = 0, socket.gethostname()  # half written: its writer was killed
        here = host == socket.gethostname()
        if here and not _runs_pulumi(pid):
            path.unlink(missing_ok=True)
            path.with_name(path.name + ".attrs").unlink(missing_ok=True)
            say(f"  removed the Pulumi lock of process {pid}, which is dead")
            continue
        raise Failure(
            f"Stack {stack.name} is locked by Pulumi: process {pid} on {host}.\n"
            "Next: let it finish, or end it there and run this again.\n"
            f"If {host} is gone for good: delete {path}"
        )


def _runs_pulumi(pid: int) -> bool:
    """Return whether the process lives and is Pulumi; a number is used again some day."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return False
    return name == "pulumi" and not Process(pid, name).ended()
