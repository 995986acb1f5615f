"""Where things are kept outside the clone, so that every clone sees the same stacks."""

from __future__ import annotations

import os
from pathlib import Path

from pandom.naming import PROJECT

ROOT = Path(__file__).resolve().parent.parent


def _home(variable: str, default: str) -> Path:
    value = os.environ.get(variable, "")
    base = Path(value) if value.startswith("/") else Path.home() / default
    return base / "pandom-stack"


def state_home() -> Path:
    """State, passphrase and certificates: losing it loses the stacks."""
    return _home("XDG_STATE_HOME", ".local/state")


def cache_home() -> Path:
    """Built tools and downloaded packages: may be deleted at any time."""
    return _home("XDG_CACHE_HOME", ".cache")


def backend() -> Path:
    """Pulumi's file backend."""
    return state_home() / "backend"


def states() -> Path:
    """The folder with one state file for each stack."""
    return backend() / ".pulumi" / "stacks" / PROJECT


def every_stack() -> list[str]:
    """The names of the stacks that have a state, sorted."""
    return sorted(path.stem for path in states().glob("*.json"))


def passphrase_file() -> Path:
    """The passphrase that encrypts every secret in the state (mode 0600)."""
    return state_home() / "passphrase"


def stack_home(stack: str) -> Path:
    """The files of one stack: ca.crt, lock, and the copy of its configuration."""
    return state_home() / stack


def ca_certificate(stack: str) -> Path:
    """The certificate of the stack's own CA, for ``sslmode=verify-full``."""
    return stack_home(stack) / "ca.crt"


def stack_file(stack: str) -> Path:
    """The live configuration of a stack in this clone; git ignores it."""
    return ROOT / "stacks" / f"Pulumi.{stack}.yaml"
