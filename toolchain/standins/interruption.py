"""Failing and being interrupted: what every operation of a stand-in may do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


class OperationFailed(Exception):
    """The operation did not work; the message is shown to the user."""


class Cancelled(OperationFailed):
    """The user interrupted the operation."""

    def __init__(self) -> None:
        super().__init__("cancelled")


@dataclass
class Interruption:
    """Lets a blocking call be ended from the thread that receives the cancellation."""

    _happened: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _abort: list[Callable[[], None]] = field(default_factory=list)

    def check(self) -> None:
        """Raise ``Cancelled`` if the user interrupted."""
        if self._happened.is_set():
            raise Cancelled

    def sleep(self, seconds: float) -> None:
        """Wait, or raise ``Cancelled`` as soon as the user interrupts."""
        if self._happened.wait(seconds):
            raise Cancelled

    @contextmanager
    def aborting(self, abort: Callable[[], None]) -> Iterator[None]:
        """Call ``abort`` when the user interrupts during the block."""
        self.check()
        with self._lock:
            self._abort.append(abort)
        try:
            yield
        except Exception as error:
            if self._happened.is_set():
                raise Cancelled from error
            raise
        finally:
            with self._lock:
                self._abort.remove(abort)

    def happen(self) -> None:
        """Abort everything that is running; nothing new starts."""
        self._happened.set()
        with self._lock:
            pending = list(self._abort)
        for abort in pending:
            abort()


def deadline(seconds: float) -> Callable[[], bool]:
    """Return a function that says whether that time has passed."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end
