"""The passphrase that encrypts every secret in the states: made once, never again.

A new one could not read the old states. `make tools` makes it, too: standard library only.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from pandom.runtime import paths
from pandom.runtime.errors import UsageError


def require() -> bool:
    """Return whether the passphrase exists.

    Raises UsageError if stacks need a missing one, and in the middle of its rotation.
    """
    place = paths.passphrase_file()
    if coming().exists():
        raise UsageError(
            "A rotation of the passphrase was interrupted: some states need the old one, some\n"
            f"{coming()}. Nothing was touched.\n"
            "Next: `.venv/bin/pandom rotate passphrase`, which goes on from there."
        )
    if place.exists() and place.read_bytes().strip():
        if place.stat().st_mode & 0o077:
            place.chmod(0o600)
        return True
    stacks = paths.list_stacks()
    if stacks:
        raise UsageError(lost(stacks))
    return False


def coming() -> Path:
    """Return the file of the next passphrase, while states are being encrypted with it."""
    return paths.passphrase_file().with_name("passphrase.new")


def ensure() -> bool:
    """Make the passphrase if there is none; return whether it was made.

    It is written completely or not at all, and the first of two runs wins.
    """
    if require():
        return False
    place = paths.passphrase_file()
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if place.exists() and not place.read_bytes().strip():
        place.unlink()
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=".passphrase.")  # mode 0600
    try:
        with os.fdopen(handle, "w") as sink:
            sink.write(secrets.token_urlsafe(32) + "\n")
            sink.flush()
            os.fsync(sink.fileno())
        place.hardlink_to(name)
    except FileExistsError:
        return False
    finally:
        Path(name).unlink()
    return True


def lost(stacks: list[str]) -> str:
    """Return the message for a passphrase that is gone while states exist."""
    names = ", ".join(stacks)
    return (
        f"The passphrase file {paths.passphrase_file()} is gone, and without it\n"
        f"nobody can read the secrets of the stacks that exist: {names}.\n"
        "Nothing was touched, and no new passphrase was made.\n"
        "Next: put the file back from your backup. If there is none, the data and its secrets\n"
        "are still in Docker's volumes: move the states away and take each stack over\n"
        "(docs/runbook.md, Lost passphrase):\n"
        f"  mv {paths.backend()} {paths.backend()}.lost\n"
        "  CONFIRM=NAME .venv/bin/pandom adopt --stack NAME"
    )
