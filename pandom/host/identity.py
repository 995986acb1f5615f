"""Whose stack Docker has: this state's, another's, or nobody's.

Two states (of two users, or of before and after a loss) can have a stack of the same name. So each
state has an identity, which is a label on everything that it made.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pandom.host.state import VOLUME, State
from pandom.runtime import paths
from pandom.runtime.errors import UsageError
from pandom.runtime.naming import (
    LABEL_IDENTITY,
    LABEL_OWNER,
    LABEL_PROTECTED,
    LABEL_STACK,
    PROJECT,
)

PANDOM: Final = ".venv/bin/pandom"
_PROTECT: Final = re.compile(
    rf"^\s*[\"']?(?:{PROJECT}:)?protect[\"']?\s*:\s*[\"']?true\b", re.MULTILINE | re.IGNORECASE
)


@dataclass(frozen=True)
class Thing:
    """A container, network or volume of a stack of this name, whoever made it."""

    kind: str
    id: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> str | None:
        """The identity of the state that made it; the first releases wrote none."""
        return self.labels.get(LABEL_IDENTITY)


def owner_here() -> str:
    """Return who runs this, for people: user@host:state home."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    return f"{user}@{socket.gethostname()}:{paths.state_home()}"


def foreign(things: Iterable[Thing], state: State) -> list[Thing]:
    """Return the things that do not belong to this state.

    Things of the first releases have no identity: they belong to the state that knows any of them.
    Without an owner label a thing was not made by this program.
    """
    there = list(things)
    mine = state.label(LABEL_IDENTITY)
    volumes = {resource.name: resource for resource in state.of_type(VOLUME)}
    knows_some = any(thing.id in state.ids for thing in there)
    found = []
    for thing in there:
        if LABEL_OWNER not in thing.labels:
            continue
        known = thing.id in state.ids
        if thing.kind == "volume" and known and thing.identity is not None:
            # A volume's id is its name, which another state may use, too.
            resource = volumes.get(thing.name)
            recorded = _recorded(resource.inputs, resource.outputs) if resource else set()
            known = thing.identity in recorded or not recorded
        if known or (thing.identity is not None and thing.identity == mine):
            continue
        if thing.identity is None and knows_some:
            continue
        found.append(thing)
    return found


def _recorded(*documents: Mapping[str, object]) -> set[str]:
    found = set()
    for document in documents:
        entries = document.get("labels")
        for entry in entries if isinstance(entries, list) else ():
            if entry.get("label") == LABEL_IDENTITY:
                found.add(str(entry["value"]))
    return found


def protected(things: Iterable[Thing]) -> bool:
    """Return whether labels of the containers, or else of anything left, say so.

    Volumes and networks keep their first labels; containers are recreated when the setting changes.
    """
    there = list(things)
    containers = [
        thing for thing in there if thing.kind == "container" and LABEL_PROTECTED in thing.labels
    ]
    return any(thing.labels.get(LABEL_PROTECTED) == "true" for thing in containers or there)


def owners(things: Iterable[Thing]) -> list[str]:
    """Return their owners, for people."""
    return sorted({_owner(thing) for thing in things})


def _owner(thing: Thing) -> str:
    owner = thing.labels.get(LABEL_OWNER, PROJECT)
    return "unknown (made by an earlier release)" if owner == PROJECT else owner


def refuse(stack: str, things: Iterable[Thing], state: State) -> None:
    """Raise UsageError, before anything is touched, for a stack that is somebody else's."""
    there = list(things)
    others = foreign(there, state)
    if not others:
        return
    kinds = [
        f"{count} {kind}{'s' if count > 1 else ''}"
        for kind in ("container", "volume", "network")
        if (count := sum(thing.kind == kind for thing in others))
    ]
    guarded = ", and it is protected" if protected(there) else ""
    raise UsageError(
        f"Stack {stack} in Docker is not this state's ({', '.join(kinds)}){guarded}.\n"
        + "".join(f"  owner: {owner}\n" for owner in owners(others))
        + f"  you:   {owner_here()}, "
        + ("whose state knows nothing of it" if not state.resources else "with another stack")
        + f"\nNothing was touched. Next, one of:\n{_renamed(stack)}"
        "  work as its owner, with the owner's XDG_STATE_HOME;\n"
        "  take it over with its data, also after a state was lost:\n"
        f"    CONFIRM={stack} {PANDOM} adopt --stack {stack}\n"
        "  remove it and all of its data:\n"
        f"    CONFIRM={stack} {PANDOM} down --without-state --stack {stack}"
    )


def _renamed(stack: str) -> str:
    """Return the way back, if a state of this home is this stack's under another name."""
    for name in paths.list_stacks():
        with contextlib.suppress(UsageError):  # another state may be damaged
            state = State.of_file(paths.states() / f"{name}.json")
            if name != stack and state.label(LABEL_STACK) == stack:
                return (
                    f"  its state is here, renamed to {name}; give it its name back:\n"
                    f"    pulumi stack rename {stack} --stack organization/{PROJECT}/{name}\n"
                )
    return ""


def refuse_namesakes(namesakes: Iterable[Thing], state: State) -> None:
    """Raise UsageError, before anything is touched, for what somebody gave the stack's names.

    A volume that the state knows is the stack's: it was put back from a backup.
    """
    found = [thing for thing in namesakes if thing.id not in state.ids]
    if found:
        raise UsageError(
            "Docker has these under names of the stack, and pandom did not make them:\n"
            + "".join(f"  {thing.kind} {thing.name}\n" for thing in found)
            + "Nothing was touched. Next: remove or rename them (`docker rename`, "
            "`docker volume rm`,\n`docker network rm`), or give the stack another name."
        )


def refuse_renamed(stack: str, state: State) -> None:
    """Raise UsageError for a state that was renamed: every name in Docker would change."""
    former = state.label(LABEL_STACK)
    if former is None or former == stack:
        return
    raise UsageError(
        f"The state of stack {stack} is that of stack {former}: it was renamed, and what it\n"
        f"made in Docker is called {former}. A new name would make new, empty volumes, so\n"
        "nothing was touched. Next: give it its name back:\n"
        f"  pulumi stack rename {former} --stack organization/{PROJECT}/{stack}\n"
        f"  (`make tools` prints the lines to export; stacks/Pulumi.{former}.yaml is its file)"
    )


def file_protects(places: Iterable[Path]) -> bool:
    """Return whether a stack file says ``protect: true``, even if it is not valid YAML."""
    for place in places:
        with contextlib.suppress(OSError):
            if _PROTECT.search(place.read_text(errors="replace")):
                return True
    return False
