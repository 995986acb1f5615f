"""How a sub-command finds what does its work."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from typing import Any

Commands = Any  # argparse has no public name for the result of add_subparsers


def call(module: str, function: str = "run", *names: str) -> Callable[[argparse.Namespace], Any]:
    """Return a handler that imports ``module`` when called and passes the arguments ``names``."""

    def handler(args: argparse.Namespace) -> Any:
        target = getattr(importlib.import_module(module), function)
        return target(*(getattr(args, name) for name in names))

    return handler
