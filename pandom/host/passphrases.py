"""A new passphrase for every state that the old one encrypts: complete, or it goes on later.

The new one lies beside the old one until every state is encrypted with it; so at each
moment each state is opened by one of the two files.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from pandom.host import lock
from pandom.host import stack as files
from pandom.host.pulumi_cli import Pulumi, PulumiFailed
from pandom.host.stack import Stack
from pandom.runtime import passphrase, paths
from pandom.runtime.errors import UsageError
from pandom.runtime.naming import PROJECT
from pandom.runtime.progress import say, step


def rotate(variables: Mapping[str, str]) -> None:
    """Encrypt every stack's state and file anew.

    Raises UsageError, before anything is touched, when a state cannot be read; Failure
    when somebody works on a stack.
    """
    stacks = [Stack(name) for name in paths.list_stacks()]
    former, new = paths.passphrase_file(), passphrase.coming()
    with contextlib.ExitStack() as held:
        for one in stacks:
            held.enter_context(lock.of_stack(one, wait_s=0))
        waiting = [one for one in stacks if not (new.exists() and _opens(one, variables, new))]
        if shut := [one.name for one in waiting if not _opens(one, variables, former)]:
            raise UsageError(
                f"{former} does not open the state of {', '.join(shut)}; nothing was touched.\n"
                "Next: put the passphrase that does into its place, or take the stack down."
            )
        if new.exists():
            say("  going on with an interrupted rotation of the passphrase")
        else:
            files.write_atomically(new, secrets.token_urlsafe(32) + "\n")
        for one in waiting:
            with step(f"stack {one.name}: encrypted with the new passphrase"):
                _change(one, variables, new)
        new.replace(former)
        for one in stacks:
            # Only the old one opens them.
            for kind in ("history", "backups"):
                folder = paths.backend() / ".pulumi" / kind / PROJECT / one.name
                shutil.rmtree(folder, ignore_errors=True)
    say(
        f"\nRotated: passphrase of {', '.join(one.name for one in stacks) or 'no stack'}.\n"
        f"Next: put {former} into your backup, and make new recovery kits.\n"
        "Copies of states from before need the old one, and whoever has both has the secrets of\n"
        "that time: `rotate` those, too."
    )


def _opens(stack: Stack, variables: Mapping[str, str], place: Path) -> bool:
    try:
        Pulumi(stack, variables, place).export(secrets=True)
    except PulumiFailed:
        return False
    return True


def _change(stack: Stack, variables: Mapping[str, str], new: Path) -> None:
    """Pulumi writes the stack's file first: one that a kill left belongs to no state yet."""
    before = stack.home / "before-passphrase.yaml"
    if before.exists():
        files.write_atomically(stack.file, before.read_bytes(), 0o644)
    files.prepare_file(stack)
    files.write_atomically(before, stack.file.read_bytes())
    Pulumi(stack, variables).change_passphrase(new.read_text())
    files.keep_copy(stack)
    before.unlink()
