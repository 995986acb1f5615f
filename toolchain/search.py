"""Looking for programs on PATH, past our own, and asking them for their version once."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pandom.runtime.paths import cache_home
from toolchain import pins, process

_STANDINS: Final = ("toolchain", "standins", "bin")


def is_ours(path: Path) -> bool:
    """Return whether a program is a stand-in (of any clone) or came from our cache.

    The caller may already have our PATH, and must not take what we put there
    for something that the user installed.
    """
    resolved = path.resolve()
    return resolved.parts[-4:-1] == _STANDINS or resolved.is_relative_to(cache_home().resolve())


def on_path(program: str, search: str | None = None) -> Path | None:
    """Return the first program of that name on PATH which is not ours."""
    for folder in (os.environ.get("PATH", "") if search is None else search).split(os.pathsep):
        candidate = Path(folder or ".") / program
        # A program in a folder that this user may not read does not count.
        if not os.access(candidate, os.X_OK) or not candidate.is_file():
            continue
        if not is_ours(candidate):
            return candidate.absolute()
    return None


def version(path: Path, *arguments: str) -> pins.Version | None:
    """Ask a program for its version."""
    return pins.version(remembered(path, lambda: process.output([path, *arguments]) or ""))


def remembered(path: Path, ask: Callable[[], str]) -> str:
    """Return what was asked about a program; the answer is kept until the file changes.

    Starting the CLI takes 0.3 s, which every ``pandom`` command would pay.
    """
    stat = path.stat()
    stamp = [stat.st_mtime_ns, stat.st_size]
    answers = _answers()
    known = answers.get(str(path))
    if known and known[0] == stamp:
        return str(known[1])
    answer = ask()
    _keep({**answers, str(path): [stamp, answer]})
    return answer


def _file() -> Path:
    return cache_home() / "versions.json"


def _answers() -> dict[str, Sequence[object]]:
    try:
        answers = json.loads(_file().read_text())
    except (OSError, ValueError):
        return {}
    return answers if isinstance(answers, dict) else {}


def _keep(answers: dict[str, Sequence[object]]) -> None:
    partial = _file().with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time only
        _file().parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(answers, indent=1))
        partial.replace(_file())
