"""The image that all of the project's images are made from: Debian trixie, minimal."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from pandom.runtime.naming import BASE_IMAGE
from pandom.runtime.paths import cache_home
from toolchain import cache, network, process
from toolchain.errors import ToolMissing
from toolchain.report import Step

SUITE: Final = "trixie"
# debian:trixie-slim of 2026-08-24 (13.6), all architectures. A tag moves, a digest does not.
OFFICIAL: Final = "debian@sha256:d7e12182ce18b85b93007c1dedf31f2d29e01ccf3182cc4017c709b6259bc132"
_HUB: Final = "https://registry-1.docker.io/v2/"
# The whole folder: an older Debian's own keyring lacks the next release's keys.
_KEYRING: Final = "--keyring=/usr/share/keyrings"
PACKAGES: Final = ("mmdebstrap", "debian-archive-keyring")
# The time of files made while bootstrapping; any fixed time will do.
_EPOCH: Final = "1756684800"


def _root() -> Path:
    return cache_home() / "base" / SUITE


def present() -> bool:
    """Return whether the engine has the base image."""
    return bool(process.output(["docker", "image", "inspect", "--format={{.Id}}", BASE_IMAGE]))


def packages() -> list[str]:
    """Return the Debian packages that making the image needs and this machine lacks."""
    if cache.complete(_root()) or shutil.which("mmdebstrap") or network.allowed(_HUB):
        return []
    return list(PACKAGES)


def provide(step: Step) -> None:
    """Provide the tag: kept if present → pulled by digest → bootstrapped from Debian's packages."""
    step.source = f"{BASE_IMAGE}, already there"
    if present():
        return
    if network.allowed(_HUB) and _pull(step):
        return
    made = cache.entry(_root(), "base image", lambda path, lock: _bootstrap(step, path, lock))
    if not made:
        step.working("importing the cached archive")
    process.run(
        "base image import",
        ["docker", "import", _root() / "base.tar", BASE_IMAGE],
        hint="Is there space for Docker's data? See `docker system df`.",
    )
    step.source = f"{BASE_IMAGE}, from Debian's packages, {_root() / 'base.tar'}"


def _pull(step: Step) -> bool:
    step.working(f"pulling {OFFICIAL}")
    try:
        process.run("base image pull", ["docker", "pull", OFFICIAL], hint="", limit_s=180)
        process.run("base image tag", ["docker", "tag", OFFICIAL, BASE_IMAGE], hint="")
    except ToolMissing as error:
        step.working(f"not pulled ({error}); it is bootstrapped instead")
        return False
    step.source = f"{BASE_IMAGE}, pulled as {OFFICIAL}"
    return True


def _bootstrap(step: Step, path: Path, lock: int) -> None:
    step.working(f"bootstrapping Debian {SUITE} with mmdebstrap")
    process.run(
        "base image",
        ["mmdebstrap", "--variant=minbase", _KEYRING, SUITE, path / "base.tar"],
        hint="Is a Debian mirror reachable? apt's own settings apply.",
        variables={"SOURCE_DATE_EPOCH": _EPOCH},
        keep=[lock],
    )
