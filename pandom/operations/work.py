"""`pandom operations task`: the process of one run; calls what the registry names."""

from __future__ import annotations

import importlib
import sys

from pandom.operations.tasks import TASKS, find
from pandom.runtime.errors import BUSY, Busy


def run(name: str) -> int | None:
    """Do a task's work here and now; return its exit code, None for 0, BUSY for one refused."""
    module, _, function = find(name, TASKS).work.partition(":")
    try:
        result: int | None = getattr(importlib.import_module(module), function)()
    except Busy as busy:
        print(busy, file=sys.stderr)
        return BUSY
    return result
