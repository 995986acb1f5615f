"""Whose stack it is: an identity made once, which the state, this user's files and every
container, volume and network of the stack carry.

A name alone does not tell two stacks apart that were made from two states (another user,
another state home, a state that was lost) on one Docker engine. Standard library only:
the program reads it as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pandom.naming import (
    LABEL_IDENTITY,
    LABEL_OWNER,
    LABEL_PART,
    LABEL_PROTECTED,
    LABEL_STACK,
)
from pandom.paths import stack_home, state_home, states

_FILE: Final = "identity.json"


@dataclass(frozen=True)
class Identity:
    """``id`` is on whatever is made now. ``former`` are those of earlier states, which
    `pandom adopt` took over: volumes keep the labels that they were made with."""

    id: str
    former: tuple[str, ...] = ()

    def includes(self, other: str) -> bool:
        """Whether a label names this identity, or one that was taken over."""
        return other == self.id or other in self.former


@dataclass(frozen=True)
class Marks:
    """What every container, volume and network of a stack is labelled with."""

    stack: str
    identity: str
    owner: str
    protected: bool

    def labels(self, part: str) -> dict[str, str]:
        """The labels of one part."""
        return {
            LABEL_STACK: self.stack,
            LABEL_PART: part,
            LABEL_OWNER: self.owner,
            LABEL_IDENTITY: self.identity,
            LABEL_PROTECTED: str(self.protected).lower(),
        }


def find(stack: str) -> Identity | None:
    """The stack's identity: from its file, or from the outputs in its state."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return _identity(json.loads((stack_home(stack) / _FILE).read_text("utf-8")))
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return _identity(_outputs(json.loads((states() / f"{stack}.json").read_text("utf-8"))))
    return None


def former_name(stack: str) -> str | None:
    """The name that the stack had before its state was renamed; None if it was not."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        checkpoint = json.loads((states() / f"{stack}.json").read_text("utf-8"))
        for one in checkpoint["checkpoint"]["latest"]["resources"]:
            if one["type"] == "docker:index/volume:Volume":
                name = str(one["inputs"]["name"]).removeprefix("pandom-")
                if (former := name.removesuffix("-data")) not in (name, stack):
                    return former
    return None


def renamed(stack: str, former: str) -> str:
    """The message for a renamed state."""
    return (
        f"The state of stack {former} was renamed to {stack}. Its containers, volumes and\n"
        f"certificates have the name {former}; under another one it would start without its\n"
        "data. Nothing was touched.\n"
        "Next: with the lines that `make tools` prints, rename it back:\n"
        f"  pulumi stack rename {former} --stack {stack}"
    )


def ensure(stack: str) -> Identity:
    """The stack's identity, made if it has none; in its file from now on."""
    found = find(stack) or Identity(secrets.token_hex(16))
    if not (stack_home(stack) / _FILE).exists():
        keep(stack, found)
    return found


def renewed(former: Identity | None, taken: set[str]) -> Identity:
    """A new identity that includes what is taken over."""
    known = {former.id, *former.former} if former else set()
    return Identity(secrets.token_hex(16), tuple(sorted(known | taken)))


def keep(stack: str, identity: Identity) -> None:
    """Write the file, at once or not at all."""
    place = stack_home(stack) / _FILE
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{_FILE}.")
    with os.fdopen(handle, "w", encoding="utf-8") as sink:
        json.dump({"identity": identity.id, "former_identities": list(identity.former)}, sink)
        sink.flush()
        os.fsync(sink.fileno())
    Path(name).replace(place)


def owner() -> str:
    """Who has the state: the user that its folder belongs to, and where it is."""
    home = state_home()
    uid = home.stat().st_uid if home.exists() else os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = "user"
    return f"{name} (uid {uid}), state in {home}"


def _identity(values: Mapping[str, Any]) -> Identity:
    return Identity(str(values["identity"]), tuple(values.get("former_identities") or ()))


def _outputs(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    resources = checkpoint["checkpoint"]["latest"]["resources"]
    found: Mapping[str, Any] = next(
        (one["outputs"] for one in resources if one["type"] == "pulumi:pulumi:Stack"), {}
    )
    return found
