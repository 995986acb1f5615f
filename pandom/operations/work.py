"""`pandom operations task`: the process of one run; calls what the registry names."""

from __future__ import annotations

import importlib

from pandom.operations.tasks import TASKS, find


def run(name: str) -> int | None:
    """Do a task's work here and now; return its exit code, None for 0."""
    module, _, function = find(name, TASKS).work.partition(":")
    result: int | None = getattr(importlib.import_module(module), function)()
    return result
