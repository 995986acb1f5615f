"""Ports of the host: who has one, and free ones for stacks that live for one run."""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pandom.config.settings import PORT_KEYS, Settings
from pandom.host import lock
from pandom.host.engine import Engine
from pandom.host.stack import Stack, read_file, set_values
from pandom.runtime import paths
from pandom.runtime.errors import UsageError
from pandom.runtime.naming import PROJECT

# Below the kernel's ephemeral ports (32768 and up).
_RESERVED: Final = range(20000, 30000)
_KEYS: Final = tuple(PORT_KEYS.values())
_claims: Final[list[socket.socket]] = []


def free(port: int) -> bool:
    """Return whether nobody listens on the port of 127.0.0.1 (or of every address)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def refuse_taken(stack: Stack, settings: Settings, engine: Engine) -> None:
    """Raise UsageError, before anything is touched, if somebody else has a port of the stack."""
    own = {
        port
        for container in engine.containers()
        if container.holds_ports
        for port in container.ports
    }
    problems, others = [], []
    for part, port in settings.ports.items():
        key = PORT_KEYS[part]
        if port in own or free(port):
            continue
        container = engine.publisher(port)
        holder = f"container {container}" if container else listener(port) or "an unknown process"
        problems.append(f"  {PROJECT}:{key}: port {port} of 127.0.0.1 is in use by {holder}")
        others.append(f"  {PROJECT}:{key}: {_another(port)}")
    if problems:
        raise UsageError(
            "\n".join(["Nothing was touched, because a port is taken:", *problems])
            + f"\nNext: free it, or choose another in stacks/{stack.file.name}, such as:\n"
            + "\n".join(others)
        )


def _another(port: int) -> int:
    """Return a free port whose number resembles the one that is taken."""
    return next((one for one in range(port % 10_000 + 10_000, 32_768) if free(one)), port)


def listener(port: int) -> str | None:
    """Return the process that listens on a TCP port, as far as this user may see it."""
    inodes = set(_inodes(port))
    if not inodes:
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(str(fd.readlink()) in wanted for fd in (folder / "fd").iterdir()):
                return f"process {folder.name} ({(folder / 'comm').read_text().strip()})"
    return None


def _inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def reserve(stack: Stack) -> None:
    """Give a short-lived stack ports that no other stack has, unless its file names them."""
    if any(f"{PROJECT}:{key}" in read_file(stack) for key in _KEYS):
        return
    with chosen() as found:
        set_values(stack, found)
        stack.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        stack.kept_file.write_text(stack.file.read_text())


@contextlib.contextmanager
def chosen() -> Iterator[dict[str, int]]:
    """Give ports that no stack has, by their keys; in the block they are noted where other runs
    of this state home read them.

    Until the process ends no run of another user or state home on this host chooses them.
    Raises UsageError when there are none.
    """
    with lock.held(paths.state_home() / "locks" / ".ports", "The list of ports", 30.0):
        taken = set(_recorded())
        candidates = (one for one in random.sample(_RESERVED, 200) if one not in taken)
        found = list(itertools.islice((one for one in candidates if _claim(one)), len(_KEYS)))
        if len(found) < len(_KEYS):
            raise UsageError(
                f"No free port from {_RESERVED.start} to {_RESERVED.stop - 1} on 127.0.0.1.\n"
                "Next: remove stacks that nobody needs (`.venv/bin/pandom status --all`,\n"
                "`.venv/bin/pandom ci list`)."
            )
        yield dict(zip(_KEYS, found, strict=True))


def _claim(port: int) -> bool:
    """Take a port for this process, until a container listens there; False if somebody has it.

    By a socket without a file, which all users of the host see and the kernel closes with the
    process.
    """
    if not free(port):
        return False
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0{PROJECT}/port/{port}")
    except OSError:
        claim.close()
        return False
    _claims.append(claim)
    return True


def _recorded() -> Iterator[int]:
    """Yield the ports in the files of every stack and environment that has one."""
    pattern = re.compile(rf"(?:{'|'.join(_KEYS)})[\"']?: *['\"]?([0-9]+)")
    home = paths.state_home()
    for path in (*home.glob("*/Pulumi.*.yaml"), *home.glob("environments/*/environment.json")):
        with contextlib.suppress(OSError):
            yield from (int(port) for port in pattern.findall(path.read_text(errors="replace")))
