"""What a job is told: settings in its environment, secrets in files that only it can read."""

from __future__ import annotations

import os
from pathlib import Path

from pandom.runtime.errors import Failure
from pandom.runtime.naming import KEYS_MOUNT


def setting(name: str) -> str:
    """Return a setting from the environment; raises Failure if the container was not given it."""
    value = os.environ.get(name, "")
    if not value:
        raise Failure(
            f"{name} is not set in this container.\n"
            "Next: a job is started by `make up`, which sets it; by hand, pass --env."
        )
    return value


def secret_file(name: str) -> Path:
    """Return the path of a secret or certificate; raises Failure if it is not there."""
    path = Path(os.environ.get("PANDOM_KEYS", KEYS_MOUNT)) / name
    if not os.access(path, os.R_OK):
        raise Failure(
            f"{path} is missing or not readable by uid {os.getuid()}.\n"
            "Next: the keys job writes it; run `make up` again, which repeats the job."
        )
    return path


def optional_secret(name: str) -> str | None:
    """Return a secret that containers of an earlier version were not given."""
    try:
        return secret(name)
    except Failure:
        return None


def secret(name: str) -> str:
    """Return a secret; raises Failure if it is not there or empty."""
    path = secret_file(name)
    value = path.read_text().rstrip("\n")
    if not value:
        raise Failure(f"{path} is empty.\nNext: run `make up` again, which writes it anew.")
    return value
