"""Where things are kept outside the clone, so that every clone sees the same stacks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from pandom import __version__
from pandom.runtime.errors import UsageError
from pandom.runtime.naming import PROJECT

ROOT = Path(__file__).resolve().parents[2]
# In a copy of the program that came with a wheel: which one it is.
MARK: Final = ".wheel"
# Raised when an older program would misread what is kept in the state or the cache.
FORMAT: Final = 1


def home() -> Path:
    """Return the user's home. Raises UsageError for a user who has none."""
    try:
        found = Path.home()
    except RuntimeError:  # no HOME, and no entry in /etc/passwd
        found = Path()
    if not found.is_absolute():
        raise UsageError(
            f"There is no home folder for state and tools: HOME is {os.environ.get('HOME')!r}, and "
            f"user {os.getuid()}\nhas no other. Next: set HOME, or XDG_STATE_HOME and "
            "XDG_CACHE_HOME, to folders of yours,\nthen run this again."
        )
    return found


def _home(variable: str, default: str, forbidden: str) -> Path:
    value = os.environ.get(variable, "")
    base = Path(value) if value.startswith("/") else home() / default
    if set(forbidden) & set(str(base)):
        raise UsageError(
            f"{str(base)!r} cannot be used: its name has one of {forbidden!r}, which stands for\n"
            f"something else in search paths or lists. Next: {variable}=/another/folder"
        )
    return base / "pandom-stack"


def state_home() -> Path:
    """State, passphrase and certificates: losing it loses the stacks."""
    return _home("XDG_STATE_HOME", ".local/state", "\n")


def cache_home() -> Path:
    """Built tools and downloaded packages: may be deleted at any time."""
    return _home("XDG_CACHE_HOME", ".cache", ":\n")


def mark_homes() -> None:
    """Note in state and cache which program made what is there, unless a newer one did."""
    for home in (state_home(), cache_home()):
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _format(home)[0] < FORMAT:
            (home / "format").write_text(f"{FORMAT} {__version__}\n")


def refuse_newer_homes() -> None:
    """Raise UsageError if a newer program made what is in the state or the cache."""
    for home in (state_home(), cache_home()):
        number, version = _format(home)
        if number > FORMAT:
            raise UsageError(
                f"{home} was made by pandom-stack {version}; this is {__version__}, which is older "
                f"and cannot\nread it. Nothing was touched. Next: install {version}, or choose "
                "other places with XDG_STATE_HOME\nand XDG_CACHE_HOME."
            )


def _format(home: Path) -> tuple[int, str]:
    try:
        number, _, version = (home / "format").read_text().strip().partition(" ")
        return int(number), version
    except (OSError, ValueError):
        return 0, ""


def backend() -> Path:
    """Pulumi's file backend."""
    return state_home() / "backend"


def backend_url() -> str:
    """Return the same for Pulumi, which reads it as a URL: ``%`` and others are escaped."""
    return backend().as_uri()


def states() -> Path:
    """Return the folder with one state file for each stack."""
    return backend() / ".pulumi" / "stacks" / PROJECT


def list_stacks() -> list[str]:
    """Return the names of the stacks that have a state, sorted."""
    return sorted(path.stem for path in states().glob("*.json"))


def passphrase_file() -> Path:
    """Return the passphrase that encrypts every secret in the state (mode 0600)."""
    return state_home() / "passphrase"


def stack_home(stack: str) -> Path:
    """Return the files of one stack: ca.crt, lock, and the copy of its configuration."""
    return state_home() / stack


def ca_certificate(stack: str) -> Path:
    """Return the certificate of the stack's own CA, for ``sslmode=verify-full``."""
    return stack_home(stack) / "ca.crt"


def work_folder(stack: str) -> Path:
    """Return where a stack's program runs: the clone, or of a wheel a copy of the stack's own."""
    return stack_home(stack) / "program" if (ROOT / MARK).is_file() else ROOT


def is_stack_file(path: Path) -> bool:
    """Return whether it is some stack's live configuration, or the next version of one, which
    is gone the moment after: such files are no part of the program."""
    return path.parent.name == "stacks" and path.name.lstrip(".").startswith("Pulumi.")


def stack_file(stack: str) -> Path:
    """Return the live configuration of a stack in its work folder; git ignores it."""
    return work_folder(stack) / "stacks" / f"Pulumi.{stack}.yaml"
