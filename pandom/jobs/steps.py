"""One line per step of a job, with its time, on stdout: what `docker logs` shows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def step(text: str) -> Iterator[list[str]]:
    """Print ``text: result (1.2 s)`` when the block ends; the block appends results."""
    results: list[str] = []
    started = time.monotonic()
    try:
        yield results
    except BaseException:
        print(f"{text}: failed ({time.monotonic() - started:.1f} s)", flush=True)
        raise
    result = ", ".join(results) or "done"
    print(f"{text}: {result} ({time.monotonic() - started:.1f} s)", flush=True)
