"""The passphrase that encrypts every secret in the states: made once, never again.

A new passphrase could not read the old states, and Pulumi's own message about
that names neither the file nor a way out.
"""

from __future__ import annotations

import os
import secrets

from pandom import paths
from pandom.errors import UserMistake
from pandom.host.stack import every_stack


def there() -> bool:
    """Whether the passphrase exists.

    Raises UserMistake when it does not although there are stacks that need it.
    """
    place = paths.passphrase_file()
    if place.exists() and place.read_text().strip():
        if place.stat().st_mode & 0o077:
            place.chmod(0o600)
        return True
    stacks = every_stack()
    if stacks:
        raise UserMistake(lost(stacks))
    return False


def ensure() -> bool:
    """Make the passphrase if there is none yet; True if it was made now."""
    if there():
        return False
    place = paths.passphrase_file()
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as sink:
        sink.write(secrets.token_urlsafe(32) + "\n")
        sink.flush()
        os.fsync(sink.fileno())
    return True


def lost(stacks: list[str]) -> str:
    """The message for a passphrase that is gone while states exist."""
    names = ", ".join(stacks)
    return (
        f"The passphrase file {paths.passphrase_file()} is gone, and without it\n"
        f"nobody can read the secrets of the stacks that exist: {names}.\n"
        "Nothing was touched, and no new passphrase was made.\n"
        "Next: put the file back from your backup. If there is none, the data is still in\n"
        "the volumes, but the stack must be given up (docs/runbook.md, Lost passphrase):\n"
        "  CONFIRM=NAME .venv/bin/pandom down --without-state --stack NAME"
    )
