"""Shields this process and its children from the caller's environment.

``settle`` runs first in every command. Standard library only, because `make tools` uses it.
"""

from __future__ import annotations

import os
import pwd
import signal
from collections.abc import MutableMapping
from types import FrameType
from typing import Final, NoReturn

# libpq's variables change where a connection goes, as whom, and how a session answers.
_LIBPQ: Final = "PG"
# Those that change how a session answers; they are not given back.
_SESSION: Final = frozenset(
    {"PGOPTIONS", "PGDATESTYLE", "PGTZ", "PGGEQO", "PGCLIENTENCODING", "PGAPPNAME"}
)
# Python's variables: library path, warnings as errors, encoding, assertions.
_PYTHON: Final = "PYTHON"
_HARMLESS: Final = frozenset({"PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"})
_UMASK: Final = 0o022

_given: dict[str, str] = {}


def settle(environ: MutableMapping[str, str] = os.environ) -> None:
    """Take out of the environment what would bend this process and its children."""
    _given.clear()
    for name in list(environ):
        if name.startswith(_LIBPQ):
            _given[name] = environ.pop(name)
        elif name.startswith(_PYTHON) and name not in _HARMLESS:
            del environ[name]
    # Files are UTF-8, whatever the locale says.
    environ["PYTHONUTF8"] = "1"
    _name_user(environ)
    os.umask(_UMASK)


def give_back(environ: MutableMapping[str, str] = os.environ) -> None:
    """Give libpq the caller's variables, for a database that they name on purpose."""
    environ.update({name: value for name, value in _given.items() if name not in _SESSION})


def given(name: str) -> str:
    """Return the caller's value of one of libpq's variables, empty if there was none."""
    return _given.get(name, "")


def interrupt_by(*numbers: signal.Signals) -> None:
    """Let these signals end a command as Ctrl-C does, unless they are ignored, as by `nohup`."""
    for number in numbers:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _name_user(environ: MutableMapping[str, str]) -> None:
    """Set HOME and USER, which Go programs need, also for a user without a passwd entry."""
    try:
        entry = pwd.getpwuid(os.getuid())
        home, name = entry.pw_dir, entry.pw_name
    except KeyError:
        home, name = "", f"uid-{os.getuid()}"
    if not environ.get("HOME") and home:
        environ["HOME"] = home
    if not environ.get("USER"):
        environ["USER"] = name
