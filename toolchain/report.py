"""One line a step on stderr: what was provided, from which source, how long it took."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pandom.runtime import progress

# Steps run side by side; a line must come out whole.
_printing = threading.Lock()


def say(line: str) -> None:
    """Print one line for people."""
    with _printing:
        progress.say(line)


@dataclass
class Step:
    """A tool that is being provided; ``source`` is set by the one who knows it."""

    name: str
    source: str = "already there"
    started: float = field(default_factory=time.monotonic)
    worked: bool = False

    def working(self, what: str) -> None:
        """Say what is being done, before something that takes longer than a blink."""
        self.worked = True
        say(f"  {self.name}: {what} …")


class Report:
    """Prints the steps of one run; with ``quiet`` only those in which work was done."""

    def __init__(self, quiet: bool) -> None:
        """Say whether a step that found everything in place is passed over."""
        self.quiet = quiet
        self.worked = False

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Time a step and print its line when it succeeds; an error says enough itself."""
        step = Step(name)
        yield step
        self.worked = self.worked or step.worked
        if step.worked or not self.quiet:
            say(f"  {name}: {step.source} ({time.monotonic() - step.started:.1f} s)")
