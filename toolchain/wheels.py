"""The Python packages of the jobs' image, fetched on the host.

Inside a build the package index may be out of reach: its proxy and the CA it
trusts are the host's. The same files with the same modes come out in every
clone, so that Docker's build cache serves all of them.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Final

from pandom.runtime.paths import ROOT, cache_home
from toolchain import cache, pins, process, venv
from toolchain.report import Step

TARGET: Final = ROOT / "app_image" / "artifacts" / "wheels"
PYTHON: Final = "3.13"  # Debian trixie's, which the image runs
# All that its glibc (2.41) can load; pip does not derive the older from the newer.
_GLIBC: Final = ("2014", "_2_17", "_2_24", "_2_26", "_2_27", "_2_28", "_2_31", "_2_34", "_2_39")


def provide(step: Step) -> None:
    """Download the wheels and put exactly these into the clone."""
    machine = platform.machine()
    name = cache.key(pins.IMAGE_REQUIREMENTS.read_bytes(), machine, PYTHON, *_GLIBC)
    path = cache_home() / "wheels" / name

    def make(path: Path, lock: int) -> None:
        step.working("downloading with pip")
        platforms = [f"--platform=manylinux{glibc}_{machine}" for glibc in _GLIBC]
        process.run(
            "wheels for the image",
            [
                *venv.pip(venv.location()),  # Debian's Python comes without a pip
                "download",
                "--only-binary=:all:",
                f"--python-version={PYTHON}",
                "--implementation=cp",
                *platforms,
                f"--dest={path}",
                f"--requirement={pins.IMAGE_REQUIREMENTS}",
            ],
            hint=venv.PIP_HINT,
            keep=[lock],
        )
        for wheel in path.iterdir():
            wheel.chmod(0o644)

    made = cache.entry(path, "wheels for the image", make)
    wanted = {wheel.name for wheel in path.glob("*.whl")}
    for wheel in sorted(wanted):
        cache.place(path / wheel, TARGET / wheel)
    for stale in {there.name for there in TARGET.iterdir()} - wanted:
        (TARGET / stale).unlink()
    TARGET.chmod(0o755)
    step.source = f"{len(wanted)} {'from the package index' if made else 'cached'}, {path}"
