"""`pandom recovery-kit` and `pandom recover`: what the loss of this host would take.

One file, encrypted by age (https://age-encryption.org), holds a stack's state, the
passphrase of its secrets and its settings. The data is not in it: that is the backups' to bring
back. `age --decrypt FILE` opens it too, and shows JSON.
"""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyrage

from pandom.host import lock
from pandom.host.access import require
from pandom.host.stack import Stack, prepare_file, settings, with_values, write_atomically
from pandom.runtime import passphrase, paths
from pandom.runtime.errors import UsageError
from pandom.runtime.progress import say

FORMAT: Final = 1
_MAGIC: Final = (b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED FILE-----")
_LEAST: Final = 16  # characters of a passphrase: whoever has the file may guess for years


@dataclass(frozen=True)
class Kit:
    """``files`` by their place below the state's folder; ``made`` is a time in UTC."""

    stack: str
    made: str
    files: Mapping[str, str]

    def as_json(self) -> bytes:
        """Return the content that is encrypted."""
        document = {
            "format": FORMAT,
            "what": "recovery kit of a pandom-stack; `pandom recover` reads it",
            "stack": self.stack,
            "made": self.made,
            "files": dict(self.files),
        }
        return json.dumps(document, indent=1).encode()


def write(
    name: str, file: str, recipients: Sequence[str] = (), passphrase_file: str | None = None
) -> None:
    """Write a stack's kit, for the holders of these keys, or for whoever knows a passphrase.

    Raises UsageError for a stack, key or place that cannot be used; an older kit is replaced.
    """
    stack, target = Stack(name), Path(file)
    require(stack)
    passphrase.require()
    if target.exists() and not _is_kit(target):
        raise UsageError(f"{target} is there and is no kit; it was left alone. Name another file.")
    if not target.parent.is_dir():
        # A medium that is not mounted has none; made here, it would be lost with this host.
        raise UsageError(f"There is no folder {target.parent}. Nothing was written.")
    if paths.state_home() in target.resolve().parents:
        raise UsageError(
            f"{target} would be lost together with what it is to bring back: the folder\n"
            f"{paths.state_home()}. Next: name a place on another machine or medium."
        )
    known = _recipients(recipients)
    if known and passphrase_file:
        raise UsageError("Expected --recipient or --passphrase-file, found both.")
    word = None if known else _new_passphrase(passphrase_file)
    with lock.of_stack(stack):
        kit = Kit(name, datetime.now(UTC).isoformat(timespec="seconds"), _collect(stack))
    content = kit.as_json()
    sealed = pyrage.encrypt(content, known) if known else pyrage.passphrase.encrypt(content, word)
    try:
        write_atomically(target, sealed)
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}.") from error
    opened = "the identity of one of the keys" if known else "its passphrase"
    say(
        f"Wrote {target}: state, passphrase and settings of stack {name}.\n"
        f"  keep it     on another machine, and {opened} in a third place\n"
        f"  write again after a change of a secret or of the stack's file\n"
        f"  not in it   the data: database and objects come from backups\n"
        f"Next: on a new host, in a clone: .venv/bin/pandom recover {target.name}"
    )


def recover(file: str, identities: Sequence[str] = (), passphrase_file: str | None = None) -> None:
    """Put a kit's state, passphrase and settings back on a host that has none of them.

    Raises UsageError for a kit that cannot be opened, and before it would replace anything
    else. Repeating it is harmless.
    """
    kit = _open(Path(file), identities, passphrase_file)
    stack = Stack(kit.stack)
    files = {paths.state_home() / name: text for name, text in kit.files.items()}
    if unknown := files.keys() - set(_places(stack)):
        raise UsageError(
            f"{file} has files that no kit of stack {stack.name} has: "
            f"{', '.join(map(str, sorted(unknown)))}.\nNothing was touched. Next: another copy."
        )
    with lock.of_stack(stack):
        _refuse_others(stack, files)
        for path in _places(stack):
            if path in files and not path.exists():
                write_atomically(path, files[path])
        # Since the first run here may have made it from a template.
        said = prepare_file(stack)
    say(
        f"Recovered stack {stack.name} as of {kit.made}: state, passphrase and settings."
        + (f"\n  {said}" if said else "")
        + "\nIts containers and volumes are not on this host. Next:\n"
        f"  CONFIRM={stack.name} .venv/bin/pandom up --stack {stack.name}\n"
        "makes them, empty and with the same secrets, and says that the backups are of another\n"
        f"database. `pandom restore --stack {stack.name}`, then with --switch, brings that back\n"
        "(docs/runbook.md, The host is lost)."
    )


def _places(stack: Stack) -> list[Path]:
    """Return what a kit may hold, in the order of its restore: without a state there is no
    stack yet, so that comes last."""
    return [
        paths.passphrase_file(),
        stack.kept_file,
        paths.ca_certificate(stack.name),
        paths.backend() / ".pulumi" / "meta.yaml",
        stack.checkpoint,
    ]


def _collect(stack: Stack) -> dict[str, str]:
    found = {path: path.read_text() for path in _places(stack) if path.exists()}
    if stack.file.exists():  # newer than the copy of the last run
        found[stack.kept_file] = _complete(stack)
    return {str(path.relative_to(paths.state_home())): text for path, text in found.items()}


def _complete(stack: Stack) -> str:
    """Return the stack's file without the name of another file, which would be lost, too."""
    text = stack.file.read_text()
    ca = settings(stack).backup.ca
    return with_values(text, {"backupCa": ca}) if ca else text


def _refuse_others(stack: Stack, files: Mapping[Path, str]) -> None:
    """Refuse a present state or passphrase that is not the kit's; the rest may differ."""

    def differs(path: Path) -> bool:
        return path in files and path.exists() and path.read_text().strip() != files[path].strip()

    if differs(stack.checkpoint):
        raise UsageError(
            f"There is a stack {stack.name} here, with another state than the kit's. Nothing was\n"
            f"touched. Next: `.venv/bin/pandom up --stack {stack.name}`, which repairs it; the\n"
            "kit is for a host that has lost it."
        )
    if differs(paths.passphrase_file()):
        raise UsageError(
            f"{paths.passphrase_file()} is another passphrase than the kit's, and opens\n"
            f"other stacks: {', '.join(paths.list_stacks()) or 'none now'}. Nothing was touched.\n"
            "Next: recover into a folder of its own, for this command and all that follow:\n"
            "  export XDG_STATE_HOME=/another/folder"
        )


def _is_kit(path: Path) -> bool:
    try:
        with path.open("rb") as source:
            return source.read(64).startswith(_MAGIC)
    except OSError:  # a folder
        return False


def _recipients(keys: Sequence[str]) -> list[Any]:
    found = []
    for key in keys:
        kind = pyrage.ssh if key.startswith("ssh-") else pyrage.x25519
        try:
            found.append(kind.Recipient.from_str(key))
        except pyrage.RecipientError as error:
            raise UsageError(
                f"--recipient {key[:24]!r}: {error}. Expected age1… as `age-keygen` prints it, or "
                "the text of an\nSSH public key (ssh-ed25519 or ssh-rsa)."
            ) from None
    return found


def _new_passphrase(file: str | None) -> str:
    if file is None and not os.isatty(0):
        raise UsageError(
            "Who shall be able to open the kit? Expected --recipient KEY (of `age-keygen`, or an "
            "SSH\npublic key), or --passphrase-file FILE; without a terminal nobody can be asked."
        )
    word = _passphrase_of(file) if file else getpass.getpass("Passphrase of the kit: ")
    if len(word) < _LEAST:
        raise UsageError(
            f"The passphrase of the kit has {len(word)} characters, expected {_LEAST} or more: "
            "whoever finds\nthe file may try for years. Nothing was written."
        )
    if file is None and getpass.getpass("Once more: ") != word:
        raise UsageError("The two differ; nothing was written.")
    return word


def _passphrase_of(file: str) -> str:
    try:
        return Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--passphrase-file {file} cannot be read: {error}") from None


def _identities(files: Sequence[str]) -> list[Any]:
    found: list[Any] = []
    for file in files:
        try:
            text = Path(file).read_text()
            if "PRIVATE KEY-----" in text:
                found.append(pyrage.ssh.Identity.from_buffer(text.encode()))
                continue
            lines = [one.strip() for one in text.splitlines() if one.startswith("AGE-SECRET-KEY-")]
            found += [pyrage.x25519.Identity.from_str(one) for one in lines]
            if not lines:
                raise pyrage.IdentityError("no line begins with AGE-SECRET-KEY-")
        except (OSError, UnicodeDecodeError, pyrage.IdentityError) as error:
            raise UsageError(
                f"--identity {file} cannot be used: {error}.\n"
                "Expected a file of `age-keygen`, or an SSH private key without a passphrase."
            ) from None
    return found


def _open(path: Path, identities: Sequence[str], passphrase_file: str | None) -> Kit:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    if not content.startswith(_MAGIC):
        raise UsageError(f"{path} is no kit: expected a file that `pandom recovery-kit` wrote.")
    known = _identities(identities)
    if not known and passphrase_file is None and not os.isatty(0):
        raise UsageError(
            f"{path} is encrypted. Expected --identity FILE or --passphrase-file FILE; without a\n"
            "terminal nobody can be asked."
        )
    try:
        if known:
            clear = pyrage.decrypt(content, known)
        else:
            word = _passphrase_of(passphrase_file) if passphrase_file else None
            clear = pyrage.passphrase.decrypt(content, word or getpass.getpass("Passphrase: "))
        return _parsed(json.loads(clear))
    except pyrage.DecryptError as error:
        raise UsageError(
            f"{path} cannot be opened: {error}.\n"
            "Either it is damaged, or it was made for another key or passphrase. Nothing was\n"
            "touched. Next: another copy of the kit, or the identity that belongs to it."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} was opened and is no kit of format {FORMAT}: {error}.\n"
            "Next: recover with the version of pandom-stack that wrote it."
        ) from None


def _parsed(document: Mapping[str, Any]) -> Kit:
    if document["format"] != FORMAT:
        raise ValueError(f"it has format {document['format']}")
    files = {str(name): str(text) for name, text in document["files"].items()}
    return Kit(str(document["stack"]), str(document["made"]), files)
