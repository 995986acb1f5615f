"""One line a step on stderr, with the time it took; results and JSON go to stdout.

On a terminal the line stands there while the step runs and gets its time when it
ends; elsewhere (CI=true, a pipe) it appears once, complete.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

WIDTH: Final = 80


def say(line: str = "") -> None:
    """Print one line for people."""
    print(line, file=sys.stderr, flush=True)


def live() -> bool:
    """Whether a line may be left open while its step runs."""
    return sys.stderr.isatty() and os.environ.get("CI", "").lower() not in ("true", "1")


def shorten(text: str, width: int = WIDTH) -> str:
    """The text on one line of at most ``width`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


class Lines:
    """Steps that may overlap, each on its own line.

    Only the step that was opened last has an open line on a terminal; one that
    ends later is printed again, whole.
    """

    def __init__(self) -> None:
        """Begin with no step open."""
        self._live = live()
        self._open: str | None = None

    def begin(self, text: str) -> None:
        """Show that a step runs."""
        if self._live:
            self._break()
            print(f"  {text} … ", end="", file=sys.stderr, flush=True)
            self._open = text

    def end(self, text: str, seconds: float, result: str = "") -> None:
        """Show that a step is done: its time in seconds, and what came of it."""
        tail = f"{result + ', ' if result else ''}{seconds:.1f} s"
        if self._open == text:
            print(tail, file=sys.stderr, flush=True)
            self._open = None
            return
        self._break()
        say(f"  {text} … {tail}")

    def close(self) -> None:
        """Leave no line open, before something else is printed."""
        self._break()

    def _break(self) -> None:
        if self._open is not None:
            print(file=sys.stderr, flush=True)
            self._open = None


@contextmanager
def step(text: str) -> Iterator[None]:
    """Time one step; on an error its line is closed and the error says the rest."""
    lines, started = Lines(), time.monotonic()
    lines.begin(text)
    try:
        yield
    except BaseException:
        lines.close()
        raise
    lines.end(text, time.monotonic() - started)
