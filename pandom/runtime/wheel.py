"""Of a wheel: the program is data in it, and runs from a copy in the user's cache.

The copy is what a clone is: it has an environment of its own with the pinned packages, whatever
the one has into which the wheel was installed, and `python -m toolchain` provides it. Each
stack gets a copy of that copy, from which Pulumi runs it (``paths.work_folder``). Standard
library only: the wheel needs next to nothing beside itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from pandom import __version__
from pandom.runtime import paths
from pandom.runtime.errors import UsageError

_PACKAGE: Final = Path(__file__).resolve().parents[1]
_PROGRAM: Final = _PACKAGE / "program"
# In a copy for which all tools were provided once.
_PROVIDED: Final = ".provided"
# The copy of a wheel that nobody used for so long is removed.
_KEPT_S: Final = 14 * 86_400.0
_IGNORED: Final = shutil.ignore_patterns("__pycache__", "*.pyc")
_MAKE: Final = re.compile(r"\bmake (tools|up|health|audit|shell|down|preview)( STACK=)?")
_SETTINGS: Final = re.compile(r"(?<!/)stacks/Pulumi\.([\w-]+)\.yaml")


def installed() -> bool:
    """Return whether this package is that of a wheel, which runs nothing by itself."""
    return _PROGRAM.is_dir()


def copied() -> bool:
    """Return whether this is a wheel's copy of the program, and no clone."""
    return (paths.ROOT / paths.MARK).is_file()


def advice(text: str) -> str:
    """Return a message as it is right here: of a wheel there are neither clone nor make."""
    if not (installed() or copied()):
        return text
    text = text.replace(".venv/bin/pandom", "pandom")
    if copied():
        text = _SETTINGS.sub(lambda found: str(paths.stack_file(found[1])), text)
    return _MAKE.sub(lambda found: f"pandom {found[1]}{' --stack ' if found[2] else ''}", text)


def refuse_to_edit(command: str) -> None:
    """Raise UsageError for a command that edits the program, which only a clone can do."""
    if installed() or copied():
        raise UsageError(
            f"`pandom {command}` edits the program, and this one was installed from a wheel.\n"
            "Nothing was touched. Next: run it in a clone of the repository."
        )


def run(arguments: Sequence[str], provide: bool) -> NoReturn:
    """Become the same command in the wheel's copy; ``provide`` looks for each tool again."""
    paths.refuse_newer_homes()
    root = _copy()
    if provide or not (root / _PROVIDED).exists() or not (root / ".venv" / "bin").exists():
        _provide(root)
        (root / _PROVIDED).touch()
    program = root / ".venv" / "bin" / "pandom"
    os.execv(program, [str(program), *arguments])  # noqa: S606 - no shell is meant


def _copy() -> Path:
    """Return the copy of this wheel for this Python; made whole or not at all."""
    sources = {path.relative_to(_PACKAGE): path for path in _sources()}
    found = hashlib.sha256(f"{platform.python_version()} {sys.base_prefix}".encode())
    for name in sorted(sources):
        found.update(f"\0{name}\0".encode() + sources[name].read_bytes())
    folder = paths.cache_home() / "programs"
    root = folder / f"{__version__}-{found.hexdigest()[:16]}"
    if (root / paths.MARK).is_file():
        os.utime(root / paths.MARK)
        return root
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _forget_old(folder)
    new = Path(tempfile.mkdtemp(dir=folder, prefix=".new-"))
    try:
        shutil.copytree(_PROGRAM, new, ignore=_IGNORED, dirs_exist_ok=True)
        own = shutil.ignore_patterns("__pycache__", "*.pyc", _PROGRAM.name)
        shutil.copytree(_PACKAGE, new / _PACKAGE.name, ignore=own)
        (new / paths.MARK).write_text(root.name)
        with contextlib.suppress(OSError):  # another process was first
            new.rename(root)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return root


def _sources() -> list[Path]:
    return [
        path
        for path in _PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    ]


def _forget_old(folder: Path) -> None:
    for place in (*folder.glob("*"), *folder.glob(".new-*")):
        mark = place / paths.MARK
        with contextlib.suppress(OSError):
            used = (mark if mark.exists() else place).stat().st_mtime
            if time.time() - used > _KEPT_S:
                shutil.rmtree(place, ignore_errors=True)


def _provide(root: Path) -> None:
    """Provide what the copy needs; ends this process with what that says if it cannot."""
    command = [sys.executable, "-E", "-X", "utf8", "-m", "toolchain", "--quiet"]
    with subprocess.Popen(
        command,
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        start_new_session=True,  # a terminal's Ctrl-C reaches it by us, and once
    ) as child:
        try:
            code = child.wait()
        except KeyboardInterrupt:
            child.send_signal(signal.SIGINT)
            raise
    if code:
        sys.exit(code)
