"""Errors that are messages for people, and their exit codes.

A message says what was expected, what was found, where, and what to do next.
"""

from __future__ import annotations

from typing import Final

DONE: Final = 0
FAILED: Final = 1
USAGE_ERROR: Final = 2
DRIFT: Final = 2  # something is not as declared
BUSY: Final = 75  # of a task: the same was being done, so it has not run
INTERRUPTED: Final = 130


class PandomError(Exception):
    """Base of every error that ``pandom`` shows as a message."""

    exit_code: int = FAILED


class Failure(PandomError):
    """Something that should have worked did not (exit code 1)."""


class Drift(PandomError):
    """Something is not as declared, and a person decides what becomes of it (exit code 2)."""

    exit_code = DRIFT


class UsageError(PandomError):
    """Input or a request that is refused before anything is touched (exit code 2)."""

    exit_code = USAGE_ERROR


class Busy(UsageError):
    """Refused because the same is being done already; asked again later, it works."""
