"""Whether there is room for one more environment; counted before anything is made."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import docker

from pandom.ci.records import Record
from pandom.config.container_specs import container_specs
from pandom.config.settings import Settings, load
from pandom.runtime.errors import UsageError

# What one takes while it is made: its servers, and Pulumi with its plugins. Eight that were made at
# once took 4 GB; the limits of its containers are three times that. What settings add to those
# limits is meant to be used.
MEMORY_MB: Final = 600
DISK_MB: Final = 600


def refuse(client: docker.DockerClient, records: Iterable[Record], settings: Settings) -> None:
    """Raise UsageError where the host of the engine has too little memory or disk left.

    Of an engine on another host only the total is known, and nothing is refused.
    """
    if not client.api.base_url.startswith("http+docker"):
        return
    others = sum(not one.ready for one in records)
    problems = []
    if (memory := _memory_mb()) is not None:
        problems += lacking("memory", MEMORY_MB, others, memory, more_mb(settings))
    if (disk := _disk_mb(client.info())) is not None:
        problems += lacking("disk", DISK_MB, others, disk)
    if problems:
        raise UsageError(
            "There is no room for another environment; nothing was touched:\n"
            + "".join(f"  {one}\n" for one in problems)
            + "Next: `.venv/bin/pandom ci list` shows what there is; `pandom ci destroy ID`, or\n"
            "`docker system prune`, makes room."
        )


def more_mb(settings: Settings) -> int:
    """Return by how much its servers may grow beyond those without any setting."""
    usual = load("ci", {"profile": settings.profile_name})
    return max(_limits_mb(settings) - _limits_mb(usual), 0)


def _limits_mb(settings: Settings) -> int:
    every = container_specs(settings).values()
    return sum(one.memory_mb for one in every if not one.one_shot)


def lacking(what: str, each_mb: int, others: int, free_mb: int, more: int = 0) -> list[str]:
    """Return what is too little for one more, which needs ``more`` than each of the others that
    are being made."""
    needed = each_mb * (others + 1) + more
    if free_mb >= needed:
        return []
    beside = f", with {others} being made beside it" if others else ""
    return [f"{what}: expected {needed} MB free{beside}, found {free_mb} MB"]


def _memory_mb() -> int | None:
    try:
        found = re.search(r"^MemAvailable: +([0-9]+) kB", Path("/proc/meminfo").read_text(), re.M)
    except OSError:
        return None
    return int(found[1]) // 1024 if found else None


def _disk_mb(info: dict[str, Any]) -> int | None:
    """Return what is free where the engine keeps containers and volumes; None if not to be seen."""
    try:
        found = os.statvfs(info["DockerRootDir"])
    except (OSError, KeyError):
        return None
    return found.f_bavail * found.f_frsize // 2**20
