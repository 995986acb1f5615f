"""Pulumi's own file of a stack: read, and begun, without starting Pulumi.

Each start of Pulumi takes 0.3 s of processor time, and so does the key that its passphrase gives;
here the key is made once for all that one command reads. Pulumi is asked for whatever does not look
as expected: another way of encrypting, another passphrase, no file.
"""

from __future__ import annotations

import base64
import functools
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from pandom.host.stack import Stack, write_atomically
from pandom.host.state import SECRET_MARK
from pandom.runtime import paths

# The kind of Pulumi's marked values that a secret is.
_SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - no secret
_PROVIDER: Final = "passphrase"
# Pulumi's figures: the salt is "v1:SALT:v1:NONCE:CIPHERTEXT", and what it encrypts is this word.
_FORM: Final = "v1"
_ITERATIONS: Final = 1_000_000
_PROOF: Final = b"pulumi"
_VERSION: Final = 3
# As Pulumi writes it for an imported state; the first operation fills it in.
_NO_MANIFEST: Final = {"time": "0001-01-01T00:00:00Z", "magic": "", "version": ""}


class _Unknown(Exception):
    """The file is not as this module knows it."""


def exported(stack: Stack, passphrase: Path | None) -> Mapping[str, Any] | None:
    """Return the state as `pulumi stack export` prints it; None if Pulumi has to be asked.

    With a ``passphrase`` its secrets are in clear, in memory only.
    """
    try:
        latest = json.loads(stack.checkpoint.read_text())["checkpoint"]["latest"]
        if passphrase is not None:
            provider = latest["secrets_providers"]
            if provider["type"] != _PROVIDER:
                return None
            latest = _opened(latest, AESGCM(_key(_read(passphrase), provider["state"]["salt"])))
    except (OSError, ValueError, LookupError, TypeError, InvalidTag, _Unknown):
        return None
    return {"version": _VERSION, "deployment": latest}


def begin(stack: Stack, passphrase: Path, resources: Iterable[Mapping[str, Any]] = ()) -> None:
    """Write the file of a new stack, and into its settings the salt, as `pulumi stack init` does.

    ``resources`` is what the state begins with, without secrets.
    """
    number = base64.b64encode(os.urandom(8)).decode()
    begun = f"{_FORM}:{number}"
    salt = f"{begun}:{_sealed(_PROOF, _derived(_read(passphrase), begun))}"
    folder = paths.backend() / ".pulumi"
    if not (folder / "meta.yaml").exists():
        write_atomically(folder / "meta.yaml", "version: 1\n")
    text = stack.file.read_text()
    ending = "" if text.endswith("\n") or not text else "\n"
    write_atomically(stack.file, f"{text}{ending}encryptionsalt: {salt}\n", 0o644)
    latest = {
        "manifest": _NO_MANIFEST,
        "secrets_providers": {"type": _PROVIDER, "state": {"salt": salt}},
        "resources": list(resources),
        "metadata": {},
    }
    written = {
        "version": _VERSION,
        "checkpoint": {"stack": stack.qualified, "latest": latest},
    }
    write_atomically(stack.checkpoint, json.dumps(written))


def _read(passphrase: Path) -> str:
    return passphrase.read_text().strip()


def _opened(value: Any, cipher: AESGCM) -> Any:
    """Return a part of the state with its secrets in clear."""
    if isinstance(value, list):
        return [_opened(one, cipher) for one in value]
    if not isinstance(value, dict):
        return value
    if value.get(SECRET_MARK) == _SECRET:
        plain = _unsealed(value["ciphertext"], cipher).decode()
        return {SECRET_MARK: _SECRET, "plaintext": plain}
    return {name: _opened(one, cipher) for name, one in value.items()}


def _unsealed(text: str, cipher: AESGCM) -> bytes:
    form, nonce, content = text.split(":")
    if form != _FORM:
        raise _Unknown
    return cipher.decrypt(base64.b64decode(nonce), base64.b64decode(content), None)


def _sealed(content: bytes, key: bytes) -> str:
    nonce = os.urandom(12)
    sealed = AESGCM(key).encrypt(nonce, content, None)
    return ":".join((_FORM, *(base64.b64encode(one).decode() for one in (nonce, sealed))))


def _key(passphrase: str, salt: str) -> bytes:
    """Return the key of a state. Raises InvalidTag for another passphrase."""
    form, number, proof = salt.split(":", 2)
    key = _derived(passphrase, f"{form}:{number}")
    if _unsealed(proof, AESGCM(key)) != _PROOF:
        raise _Unknown
    return key


@functools.lru_cache(maxsize=4)
def _derived(passphrase: str, salt: str) -> bytes:
    form, number = salt.split(":")
    if form != _FORM:
        raise _Unknown
    given = base64.b64decode(number)
    return PBKDF2HMAC(SHA256(), 32, given, _ITERATIONS).derive(passphrase.encode())
