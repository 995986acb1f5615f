"""Node's clients: their packages once per lock file in the user's cache, and how to run code."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from pandom.runtime import paths

HERE: Final = Path(__file__).parent / "node"
EXAMPLE: Final = paths.ROOT / "examples" / "typescript"
LIMIT_S: Final = 300

needs_node = pytest.mark.skipif(
    shutil.which("npm") is None,
    reason="Node.js is not here; the product does without it, these clients do not",
)


def run(command: list[str], place: Path, variables: dict[str, str], code: int = 0) -> str:
    """What it prints; on stderr when it is expected to fail."""
    done = subprocess.run(
        command,
        cwd=place,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code else done.stdout


def module(text: str, place: Path, variables: dict[str, str]) -> str:
    """What an ES module prints, which finds the packages of ``place``."""
    return run(["node", "--input-type=module", "--eval", text], place, variables)


@pytest.fixture(scope="session")
def packages() -> Path:
    """The packages and the compiled client."""
    return compiled(HERE)


def compiled(source: Path) -> Path:
    """A folder's packages and its compiled files, kept by what they are made of."""
    files = sorted(path for path in source.iterdir() if path.is_file())
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    place = paths.cache_home() / "clients" / f"node-{digest}"
    if not any(place.glob("*.js")):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for path in files:
            shutil.copy(path, place)
        install = ("--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--silent")
        run(["npm", "ci", *install], place, {})
        run([str(place / "node_modules" / ".bin" / "tsc")], place, {})
    return place
