"""How long an environment for CI takes: made, removed, eight at once, against the floor."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Final

import docker

from pandom.ci import cache
from pandom.runtime.naming import BASE_IMAGE
from tests.bench import floor
from tests.bench.stack import manifest, run

ROUNDS: Final = 3
MANY: Final = 8


@dataclass(frozen=True)
class Figure:
    """Seconds of each round, and how many were wanted at most."""

    name: str
    wanted: float | None
    seconds: tuple[float, ...]
    processor: float | None = None  # of pandom, Pulumi and its plugins

    @property
    def median(self) -> float:
        """The middle round, in seconds."""
        return median(self.seconds)


def create(*options: str) -> tuple[float, float, str]:
    """Seconds, those of the processor, and the new environment's id."""
    done = run("ci", "create", "--ttl=30m", "--format=json", *options)
    return done.seconds, done.processor, str(json.loads(done.printed)["PANDOM_CI_ID"])


def destroy(name: str) -> float:
    """Seconds until nothing of an environment is left."""
    return run("ci", "destroy", name).seconds


def measure(show: Callable[[str], None]) -> list[Figure]:
    """All figures."""
    show("preparing")
    destroy(create()[2])  # images and the prepared cluster
    base = str(docker.from_env().api.inspect_image(BASE_IMAGE)["Id"])
    found = cache.find(cache.key({}, base))
    if found is None:
        raise SystemExit("No cluster was prepared.")
    warm, cold, down, bare, used = [], [], [], [], []
    for number in range(ROUNDS):
        show(f"round {number + 1} of {ROUNDS}")
        seconds, processor, name = create()
        warm.append(seconds)
        used.append(processor)
        down.append(destroy(name))
        with manifest() as path:
            bare.append(floor.run_prepared(found.cluster, path))
        seconds, _, name = create("--cold")
        cold.append(seconds)
        destroy(name)
    show(f"{MANY} at once")
    started = time.monotonic()
    with ThreadPoolExecutor(MANY) as beside:
        made = [one.result()[2] for one in [beside.submit(create) for _ in range(MANY)]]
    many = time.monotonic() - started
    for name in made:
        destroy(name)
    return [
        Figure("floor", None, tuple(bare)),
        Figure("create, with a prepared cluster", 8.0, tuple(warm), median(used)),
        Figure("create --cold", None, tuple(cold)),
        Figure("destroy", 3.0, tuple(down)),
        Figure(f"create, {MANY} at once", 40.0, (many,)),
    ]


def page(figures: list[Figure]) -> str:
    """The figures as Markdown."""
    base = figures[0].median
    rows = []
    for one in figures:
        wanted = "" if one.wanted is None else f"≤ {one.wanted:.0f}"
        verdict = ""
        if one.wanted is not None:
            verdict = "reached" if one.median <= one.wanted else "**not reached**"
        rows.append(
            f"| {one.name} | {wanted} | {one.median:.1f} | {min(one.seconds):.1f} to "
            f"{max(one.seconds):.1f} | {one.median / base:.1f} | {verdict} |"
        )
    used = next(one.processor for one in figures if one.processor is not None)
    return (
        f"Medians of {ROUNDS} rounds, images built. The floor: keys, and both servers on the same "
        "files, by plain docker until they are healthy. Load of the machine at the end: "
        f"{os.getloadavg()[0]:.1f}.\n\n"
        "| | wanted, s | seconds | lowest to highest | × floor | |\n|---|---|---|---|---|---|\n"
        + "\n".join(rows)
        + f"\n\nOf a create the processor spends {used:.1f} s in pandom, Pulumi and its plugins; "
        "containers and the engine come on top.\n"
    )
