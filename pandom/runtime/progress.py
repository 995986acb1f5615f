"""One line a step on stderr, with its time; results and JSON go to stdout.

On a terminal the last line names what runs; elsewhere a line appears when its step ends.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pandom.runtime import streams, wheel

WIDTH: Final = 80


def say(line: str = "") -> None:
    """Print one line for people; that nobody reads it fails nothing."""
    _write(f"{wheel.advice(line)}\n")


def _write(text: str) -> None:
    try:
        print(text, end="", file=sys.stderr, flush=True)
    except OSError:
        streams.silence(sys.stderr)


def live() -> bool:
    """Return whether a line may be left open while its step runs."""
    quiet = os.environ.get("CI", "").lower() in ("true", "1")
    return sys.stderr.isatty() and not quiet and os.environ.get("TERM", "dumb") != "dumb"


def middle(text: str, width: int) -> str:
    """Return the text on one line, cut in its middle: of an error the end is the cause."""
    line = " ".join(text.split())
    if len(line) <= width:
        return line
    end = width // 2
    return f"{line[: width - end - 3]} … {line[-end:]}"


def shorten(text: str, width: int = WIDTH) -> str:
    """Return the text on one line of at most ``width`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def age(seconds: float) -> str:
    """Return a time for people, in one unit; of a clock that was set back 0 s."""
    whole = max(int(seconds), 0)
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if whole >= 2 * length:
            return f"{whole // length} {unit}"
    return f"{whole} s"


class Lines:
    """Steps that may overlap: a line for each when it ends; on a terminal one for running ones."""

    def __init__(self) -> None:
        """Begin with no step open."""
        self._live = live()
        self._open: list[str] = []

    def begin(self, text: str) -> None:
        """Show that a step runs."""
        self._open.append(text)
        self._draw()

    def end(self, text: str, seconds: float, result: str = "") -> None:
        """Show that a step is done: its time in seconds, and what came of it."""
        if text in self._open:
            self._open.remove(text)
        self._wipe()
        say(f"  {text} … {result + ', ' if result else ''}{seconds:.1f} s")
        self._draw()

    def replace(self, text: str, by: str) -> None:
        """Show that a step that runs has come further; only a terminal sees it."""
        self._open = [by if one == text else one for one in self._open]
        self._draw()

    def close(self) -> None:
        """Leave no line open, before something else is printed."""
        self._open.clear()
        self._wipe()

    def _draw(self) -> None:
        if self._live and self._open:
            running = shorten(f"{', '.join(self._open)} …", WIDTH - 3)
            _write(f"\r\x1b[K  {running}")

    def _wipe(self) -> None:
        if self._live:
            _write("\r\x1b[K")


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
