"""Running other programs: output into a log file, failure as a message with its last lines."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pandom.runtime.paths import cache_home
from toolchain.errors import ToolMissing

_TAIL_LINES: Final = 8
_children: set[subprocess.Popen[bytes]] = set()
_ending = threading.Event()


def run(
    what: str,
    command: Sequence[str | Path],
    *,
    hint: str,
    cwd: Path | None = None,
    variables: Mapping[str, str] | None = None,
    keep: Sequence[int] = (),
    limit_s: float = 1500.0,
) -> None:
    """Run a program that must succeed; its output goes to a log that the error names.

    ``keep`` are descriptors that the child inherits (a lock it must go on
    holding when we are killed). Raises ToolMissing with the log's end and ``hint``.
    """
    log = cache_home() / "logs" / f"{what.lower().replace(' ', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    check_interrupt()
    with log.open("wb") as sink:
        try:
            child = subprocess.Popen(
                [str(part) for part in command],
                cwd=cwd,
                env={**os.environ, **(variables or {})},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                pass_fds=tuple(keep),
                process_group=0,  # so that its own children can be ended with it
            )
        except OSError as error:
            raise ToolMissing(f"{what}: {command[0]} cannot be run: {error}.\n{hint}") from None
        _children.add(child)
        try:
            code = child.wait(limit_s)
        except subprocess.TimeoutExpired:
            _end(child, signal.SIGKILL)
            child.wait()
            raise ToolMissing(
                f"{what}: no end after {limit_s:.0f} s.\n{_tail(log)}{hint}"
            ) from None
        finally:
            _children.discard(child)
    check_interrupt()
    if code:
        raise ToolMissing(f"{what} failed (exit code {code}).\n{_tail(log)}{hint}")


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return "".join(f"    {line}\n" for line in [*lines[-_TAIL_LINES:], f"(all of it: {log})"])


def output(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    variables: Mapping[str, str] | None = None,
    limit_s: float = 20.0,
) -> str | None:
    """Return what a program prints, or None if it cannot be run, fails or takes too long."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
            cwd=cwd,
            env={**os.environ, **(variables or {})},
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def check_interrupt() -> None:
    """Raise KeyboardInterrupt if the run is to end; for threads, which get no signals."""
    if _ending.is_set():
        raise KeyboardInterrupt


def end_all() -> None:
    """End the programs that other threads wait for; used when the user interrupts."""
    _ending.set()
    for child in list(_children):
        _end(child, signal.SIGTERM)


def _end(child: subprocess.Popen[bytes], how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, how)
