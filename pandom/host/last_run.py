"""Whether Pulumi has anything to do: a digest of what its last complete run was given.

If program, settings, tools and state are the same, running Pulumi, half of an `up`, would find
nothing. Changes in Docker and the servers are found by the audit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pandom.host.lock import MARK, STARTED_BY
from pandom.host.stack import Stack, write_atomically
from pandom.runtime import paths

# All that the program, its plugins and the images' builds read of the clone.
_FOLDERS: Final = ("pandom", "stacks", "schema", "migrations", "app_image", "toolchain")
_FILES: Final = ("__main__.py", "Pulumi.yaml", "pyproject.toml", "requirements.txt")
_VARIABLES: Final = ("PULUMI_", "PANDOM_", "DOCKER_")
_LARGE: Final = 1 << 20  # such files are built by `make tools`: size and time tell them apart


def inputs(stack: Stack, variables: Mapping[str, str]) -> str:
    """Return a digest of everything but the state that decides what Pulumi would do.

    ``variables`` is the environment in which it would run.
    """
    found = hashlib.sha256()
    for name in sorted(variables):
        if name.startswith(_VARIABLES) and name not in (MARK, STARTED_BY):
            found.update(f"{name}={variables[name]}\0".encode(errors="surrogateescape"))
    # A tool's folder has its version in its name.
    found.update(variables["PATH"].partition(":")[0].encode(errors="surrogateescape"))
    found.update(str((paths.ROOT / ".venv").resolve()).encode(errors="surrogateescape"))
    for path in (*_sources(), stack.file, paths.passphrase_file()):
        status = path.stat()
        found.update(f"\0{path}\0{status.st_mode}\0{status.st_size}\0".encode(errors="replace"))
        if status.st_size > _LARGE:
            found.update(str(status.st_mtime_ns).encode())
        else:
            found.update(path.read_bytes())
    return found.hexdigest()


def remember(stack: Stack, given: str) -> None:
    """Note that the state is what a run with these inputs makes of it."""
    write_atomically(_note(stack), f"{given} {_state(stack)}\n")


def is_current(stack: Stack, given: str) -> bool:
    """Return whether the last complete run had these inputs, and nobody touched the state since."""
    try:
        return _note(stack).read_text() == f"{given} {_state(stack)}\n"
    except (OSError, UnicodeDecodeError):
        return False


def _note(stack: Stack) -> Path:
    return stack.home / "applied"


def _state(stack: Stack) -> str:
    return hashlib.sha256(stack.checkpoint.read_bytes()).hexdigest()


def _sources() -> Iterator[Path]:
    for name in _FILES:
        yield paths.ROOT / name
    for folder in _FOLDERS:
        for path in sorted((paths.ROOT / folder).rglob("*")):
            own = paths.is_stack_file(path) or "__pycache__" in path.parts
            if not own and path.is_file():
                yield path
