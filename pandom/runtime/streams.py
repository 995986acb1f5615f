"""stdin, stdout and stderr as the caller left them: closed, full, or a pipe that nobody reads.

A result that cannot be written fails a command, with a sentence; progress never does. Standard
library only, because `make tools` uses it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final, TextIO

from pandom.runtime.errors import Failure

# By number. Of stdout for reading, so that writing fails as it does to a number that is closed.
_CLOSED: Final = (
    ("stdin", os.O_RDONLY, "r"),
    ("stdout", os.O_RDONLY, "w"),
    ("stderr", os.O_WRONLY, "w"),
)


def settle() -> None:
    """Open what the caller closed: the next file would get its number, and its output."""
    for number, (name, flags, mode) in enumerate(_CLOSED):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # the lowest number that is free, which is this one
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def silence(stream: TextIO) -> None:
    """Lose what a stream that failed still holds, which Python would try once more as it ends."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)


def finish() -> Exception | None:
    """Write what stdout still holds; the error for people where that fails."""
    try:
        sys.stdout.flush()
    except OSError as error:
        silence(sys.stdout)
        if isinstance(error, BrokenPipeError):
            return error
        return Failure(
            f"The output could not be written to stdout: {error.strerror}.\n"
            "Next: make room there, or send it elsewhere; then run this again."
        )
    return None
