"""How long a stack takes: up, no-change up, preview, destroy, against the floor."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any, Final

import docker

from pandom.runtime.naming import resource_name
from pandom.runtime.paths import ROOT
from tests.bench import floor

STACK: Final = f"test-{os.getpid()}-be7c"
ROUNDS: Final = 3


@dataclass(frozen=True)
class Figure:
    """Seconds of each round, lowest first."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle round, in seconds."""
        return median(self.seconds)


@dataclass(frozen=True)
class Done:
    """One `pandom` command: seconds on the clock and of the processor, and what it printed."""

    seconds: float
    processor: float
    printed: str


def run(*arguments: str) -> Done:
    """Run one `pandom` command; its messages are shown only if it fails."""
    started, before = time.monotonic(), os.times()
    done = subprocess.run(
        [sys.executable, "-m", "pandom", *arguments],
        cwd=ROOT,
        env={**os.environ, "CI": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"pandom {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    after = os.times()
    used = sum(after[2:4]) - sum(before[2:4])
    return Done(time.monotonic() - started, used, done.stdout)


def pandom(*arguments: str) -> float:
    """Seconds of one `pandom` command."""
    return run(*arguments).seconds


def _when(text: str) -> datetime:
    return datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00")


def container_seconds(stack: str) -> dict[str, float]:
    """How long each job ran, and each server took to its first good health check."""
    client = docker.from_env()
    found: dict[str, float] = {}
    for part in ("keys", "cluster", "migration", "storage", "postgres", "minio"):
        state: dict[str, Any] = client.api.inspect_container(resource_name(stack, part))["State"]
        begun = _when(state["StartedAt"])
        if "Health" in state:
            good = [_when_local(e["End"]) for e in state["Health"]["Log"] if e["ExitCode"] == 0]
            # Docker keeps the last five checks; the first good one is among them only
            # while the container is young.
            if good:
                found[f"{part}: start to healthy"] = (min(good) - begun).total_seconds()
        else:
            found[f"{part} job"] = (_when(state["FinishedAt"]) - begun).total_seconds()
    return found


def _when_local(text: str) -> datetime:
    stamp, zone = (text[:26], "+00:00") if text.endswith("Z") else (text[:26], text[-6:])
    return datetime.fromisoformat(stamp + zone)


def program_seconds() -> float:
    """Importing everything that the program imports, in a fresh interpreter."""
    started = time.monotonic()
    code = "import stacks.outputs, stacks.access, stacks.operations, stacks.storage"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    return time.monotonic() - started


@contextmanager
def manifest() -> Iterator[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(floor.manifest())
        file.flush()
        yield file.name


def measure(show: Callable[[str], None]) -> tuple[list[Figure], dict[str, float], int]:
    """All figures, where the time of the last `up` went, and the peak memory in MiB."""
    up, again, preview, down, bare = [], [], [], [], []
    where: dict[str, float] = {}
    sql = ""
    for number in range(ROUNDS):
        show(f"round {number + 1} of {ROUNDS}")
        try:
            up.append(pandom("up", "--stack", STACK))
            where = container_seconds(STACK)
            again.append(pandom("up", "--stack", STACK))
            preview.append(pandom("preview", "--stack", STACK))
            sql = sql or floor.same_sql(STACK)
        finally:
            down.append(pandom("down", "--stack", STACK))
        with manifest() as path:
            bare.append(floor.run(sql, path))
    where["the program's imports"] = program_seconds()
    figures = [
        Figure("floor", tuple(sorted(bare))),
        Figure("up, warm", tuple(sorted(up))),
        Figure("up, nothing changed", tuple(sorted(again))),
        Figure("preview", tuple(sorted(preview))),
        Figure("down", tuple(sorted(down))),
    ]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    return figures, where, peak


def page(figures: list[Figure], where: dict[str, float], peak: int) -> str:
    """The figures as Markdown."""
    base = figures[0].median
    rows = "\n".join(
        f"| {one.name} | {one.median:.1f} | {one.seconds[0]:.1f} to {one.seconds[-1]:.1f} | "
        f"{one.median / base:.1f} |"
        for one in figures
    )
    parts = "\n".join(f"| {name} | {seconds:.1f} |" for name, seconds in where.items())
    return (
        f"Medians of {ROUNDS} rounds, images built, tools there. The floor: the same images by "
        "plain docker, the same SQL by psql.\n\n"
        "| | seconds | lowest to highest | × floor |\n|---|---|---|---|\n"
        f"{rows}\n\nPeak memory of the largest process: {peak} MiB.\n\n"
        "Where the time of a warm `up` goes (parts overlap):\n\n"
        f"| | seconds |\n|---|---|\n{parts}\n"
    )
