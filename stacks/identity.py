"""Whose stack this is: made once, kept in the state, and shown on everything in Docker."""

from __future__ import annotations

import functools
import os
import uuid
from pathlib import Path

import pulumi

from pandom.host.identity import owner_here
from pandom.host.state import State
from pandom.runtime import paths
from pandom.runtime.naming import (
    LABEL_IDENTITY,
    LABEL_OWNER,
    LABEL_PROTECTED,
    LABEL_VARIABLES,
    PROJECT,
)


def identity_labels(stack: str) -> dict[str, str]:
    """Return the labels that name the owner and the protection of the running stack."""
    checkpoint = paths.states() / f"{stack}.json"
    identity, owner = _made_once(checkpoint)
    protected = bool(pulumi.Config(PROJECT).get_bool("protect"))
    return {
        LABEL_IDENTITY: identity,
        LABEL_OWNER: owner,
        LABEL_PROTECTED: "true" if protected else "false",
        **_of_environment(checkpoint),
    }


@functools.cache
def _made_once(checkpoint: Path) -> tuple[str, str]:
    """Return identity and owner from the state; new ones for a state that has none.

    The first resource that is made puts them into the state, begun or done.
    """
    state = State.of_file(checkpoint)
    identity = state.label(LABEL_IDENTITY)
    owner = state.label(LABEL_OWNER, beside=LABEL_IDENTITY)
    if identity is None or owner is None:
        return str(uuid.uuid4()), owner_here()
    return identity, owner


@functools.cache
def _of_environment(checkpoint: Path) -> dict[str, str]:
    """Return the labels that only an environment for CI has, as they were when it was made."""
    state = State.of_file(checkpoint)
    found = {
        label: state.label(label) or os.environ.get(variable)
        for label, variable in LABEL_VARIABLES.items()
    }
    return {label: value for label, value in found.items() if value is not None}
