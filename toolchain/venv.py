"""The Python packages: one environment per set of pins, shared by clones through ``.venv``."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Final

from pandom.runtime.paths import ROOT, cache_home
from toolchain import cache, pins, process
from toolchain.errors import ToolMissing
from toolchain.report import Step

LINK: Final = ROOT / ".venv"

# $0 is the textual path: `.venv` is a link into the shared cache, and only the
# text in front of it says which clone was meant. -I keeps out the working folder, which
# may be another clone, and the caller's PYTHON… variables; the clone is an argument,
# because a search path cannot hold every name.
LAUNCHER: Final = """\
#!/bin/sh
self=$0
while [ -L "$self" ]; do
    target=$(readlink "$self")
    case $target in
    /*) self=$target ;;
    *) self=$(dirname "$self")/$target ;;
    esac
done
bin=$(CDPATH= cd -L "$(dirname "$self")" && pwd -L) || exit 1
root=${bin%/.venv/bin}
if [ "$root" = "$bin" ]; then
    echo "pandom: run it as .venv/bin/pandom of a clone, not as $self" >&2
    exit 2
fi
exec "$bin/python" -I -X utf8 -c '
import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module("pandom", run_name="__main__", alter_sys=True)
' "$root" "$@"
"""


PIP_HINT: Final = "Is a package index reachable? pip's own settings and proxies apply."


def pip(environment: Path) -> list[str | Path]:
    """Return the start of a pip command that asks nothing and advertises nothing."""
    quiet = ("--no-input", "--disable-pip-version-check")
    return [environment / "bin" / "python", "-m", "pip", *quiet]


def location() -> Path:
    """Return where the environment of these pins and this Python is, or will be."""
    name = cache.key(
        pins.REQUIREMENTS.read_bytes(),
        pins.IMAGE_REQUIREMENTS.read_bytes(),
        LAUNCHER,
        platform.python_version(),
        os.path.realpath(sys.base_prefix),
    )
    return cache_home() / "venvs" / name


def provide(step: Step) -> None:
    """Make the environment if need be and point ``.venv`` at it."""
    path = location()

    def make(path: Path, lock: int) -> None:
        step.working(f"installing with pip into Python {platform.python_version()}")
        process.run(
            "Python environment",
            [sys.executable, "-m", "venv", path],
            hint="On Debian: apt-get install python3-venv",
            keep=[lock],
        )
        process.run(
            "Python packages",
            [*pip(path), "install", "-r", pins.REQUIREMENTS],
            hint=PIP_HINT,
            keep=[lock],
        )
        launcher = path / "bin" / "pandom"
        launcher.write_text(LAUNCHER)
        launcher.chmod(0o755)

    made = cache.entry(path, "Python packages", make)
    step.source = f"{'from the package index' if made else 'cached'}, {path}"
    _link(path)


def _link(path: Path) -> None:
    if LINK.is_symlink() and LINK.readlink() == path:
        return
    if LINK.exists() and not LINK.is_symlink():
        raise ToolMissing(
            f"{LINK} is a folder that `make tools` did not make; the project's environment "
            f"is linked there.\nMove it away and run `make tools` again."
        )
    fresh = LINK.with_name(".venv.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(path)
    fresh.replace(LINK)
