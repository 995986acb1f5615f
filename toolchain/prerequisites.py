"""What must be there before anything is provided, and the system changes that come first."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys

from pandom.runtime import wheel
from pandom.runtime.errors import UsageError
from pandom.runtime.paths import ROOT
from toolchain import base_image, golang, minio, network, pins, process
from toolchain import docker_daemon as docker
from toolchain import pulumi_cli as pulumi
from toolchain.errors import ToolMissing
from toolchain.report import Step


def go_needed() -> str | None:
    """Return what Go has to build or fetch here, or None."""
    needed = []
    archive = pulumi.archive_url()
    if pulumi.find() is None and not (archive and network.allowed(archive)):
        needed.append("the Pulumi CLI")
    if minio.find() is None:
        needed.append("MinIO")
    if pulumi.find_exec() is None:
        needed.append("Pulumi's Python launcher")
    return ", ".join(needed) or None


def missing() -> list[tuple[str, str | None]]:
    """Return what is missing, as (what and why, Debian package or None)."""
    if set(":\n") & set(str(ROOT)):
        raise UsageError(
            f"The clone's path {str(ROOT)!r} has a colon or a line break, which no search path "
            "can hold.\nNext: move the clone to another folder."
        )
    found: list[tuple[str, str | None]] = [
        (f"{tool}: not on PATH", tool)
        for tool in (() if wheel.copied() else ("git", "make"))
        if shutil.which(tool) is None
    ]
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        found.append((f"venv and pip for {python}: not installed", f"{python}-venv"))
    purpose = go_needed()
    if purpose and golang.compiler() is None:
        package = golang.debian_package()
        found.append(
            (
                f"Go {pins.format_version(pins.GO)}, or "
                f"{pins.format_version(pins.GO_FETCHING)} which fetches it, for {purpose}: "
                "not on PATH"
                + ("" if package else ", and this Debian's is older: https://go.dev/dl"),
                package,
            )
        )
    return found


def message(lacking: list[tuple[str, str | None]]) -> str:
    """Say in one message all that is missing and how to get it."""
    lines = ["This machine lacks:", *(f"  - {what}" for what, _ in lacking)]
    packages = [package for _, package in lacking if package]
    if packages:
        lines += ["Install with:", f"  apt-get install {' '.join(packages)}"]
    return "\n".join([*lines, "Then run the same command again."])


def check() -> None:
    """Raise ToolMissing, once and for everything together, if something is missing."""
    lacking = missing()
    if lacking:
        raise ToolMissing(message(lacking))


def changes() -> tuple[list[str], bool]:
    """Return the Debian packages to install, and whether a Docker engine is to be started."""
    running = docker.serving() is not None
    if not running:
        reason = docker.refusal()
        if reason:
            # Of a wheel it is no tool that was to be provided.
            raise UsageError(reason) if wheel.copied() else ToolMissing(reason)
    install = [] if running else docker.packages()
    # Only a running engine knows whether the image exists.
    if not (running and base_image.present()):
        install += base_image.packages()
    return install, not running


def question(install: list[str], start: bool) -> str:
    """Spell out the system changes."""
    lines = ["`make tools` is going to change this system:"]
    if install:
        lines.append(f"  - apt-get install {' '.join(install)}")
    if start:
        lines.append("  - start a Docker engine (dockerd) in the background")
    return "\n".join(lines)


def consent(text: str) -> None:
    """Ask on a terminal; YES=1 or no terminal is a yes (the text is printed all the same).

    Raises UsageError of a wheel: what pip brought leaves the system alone.
    """
    if wheel.copied():
        raise UsageError(
            f"{text}\nThat needs somebody's consent, and nothing was changed. Next: make these "
            "changes yourself,\nthen run this again."
        )
    print(text, file=sys.stderr, flush=True)
    if os.environ.get("YES") == "1" or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ToolMissing("Nothing was changed. Make these changes yourself, or answer with YES=1.")


def install(step: Step, packages: list[str]) -> None:
    """Install Debian packages; raises ToolMissing."""
    if os.geteuid() != 0:
        raise ToolMissing(
            "These Debian packages are needed, and only root can install them:\n"
            f"  sudo apt-get install --yes {' '.join(packages)}"
        )
    step.working(f"apt-get install {' '.join(packages)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    hint = "Is a Debian mirror reachable? apt's own settings apply."
    # Another apt may be running (unattended upgrades): wait for it, but not for ever.
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=120", "--yes"]
    process.run("apt-get update", [*apt, "update"], hint=hint, variables=quiet)
    if "docker.io" in packages and process.output(["apt-cache", "show", "docker-cli"]):
        # In trixie the client is a package of its own, which docker.io only recommends.
        packages = [*packages, "docker-cli"]
    process.run(
        "apt-get install",
        [*apt, "install", "--no-install-recommends", *packages],
        hint=hint,
        variables=quiet,
    )
    step.source = f"{' '.join(packages)}, from Debian"
