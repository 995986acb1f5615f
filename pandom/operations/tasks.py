"""The registry of tasks. A new one is an entry here, and the function that it names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pandom.runtime.errors import DONE, DRIFT, UsageError

OK: Final = "ok"
FAILED: Final = "failed"
INTERRUPTED: Final = "interrupted"
TIME_LIMIT: Final = "time limit"


@dataclass(frozen=True)
class Task:
    """Something that runs again and again, with the secrets of one ``reader``.

    ``work`` is the function that a process of its own calls, ``schedule`` what a stack has that
    says nothing else; without one it is a service: it never ends, and is started again if it does.
    After a failure it is tried again ``again_s`` later, or ``again_times`` as long as it took if
    that is more; None waits for the next time. One that is tried again also runs when the
    container starts, and whoever looks waits for what comes of it, unless ``at_once`` is False.
    """

    name: str
    what: str
    reader: str
    work: str
    schedule: str | None
    limit_s: int | None
    again_s: int | None = None
    at_once: bool = True  # or only at its times, those that were missed among them
    of_backups: bool = False  # only where this program makes the backups
    again_times: int = 1
    off: Literal["anywhere", "not in production", "never"] = "anywhere"  # where it may be off
    every_s: int | None = None  # the longest time between two runs that others can live with
    results: Mapping[int, str] = field(default_factory=lambda: {DONE: OK})  # by exit code

    def pause_s(self, took_s: float) -> float | None:
        """Return how long to wait after a failure, None until its next time."""
        return None if self.again_s is None else max(self.again_s, self.again_times * took_s)

    @property
    def is_prompt(self) -> bool:
        """Whether it has a result soon after the container started."""
        return self.again_s is not None and self.at_once

    @property
    def is_service(self) -> bool:
        """Whether it runs all the time."""
        return self.schedule is None


AUDIT: Final = "audit"
DRILL: Final = "drill"
BACKUP: Final = "backup"
BACKUP_FULL: Final = "backup-full"
DUMP: Final = "dump"
_OF_BACKUPS: Final[dict[str, Any]] = {
    "reader": "backup",
    "at_once": False,
    "of_backups": True,
    "off": "not in production",
    "again_s": 900,
    "again_times": 20,
}
# Tasks of one reader wait for each other, in this order; those of others run beside them.
TASKS: Final[dict[str, Task]] = {
    task.name: task
    for task in (
        Task(
            "partitions",
            "partitions of the trail, made ahead",
            "janitor",
            "pandom.database.janitor:make_partitions",
            "17 * * * *",
            600,
            again_s=10,
        ),
        Task(
            "expiry",
            "expired sessions, tokens and messages, deleted",
            "janitor",
            "pandom.database.janitor:delete_expired",
            "*/15 * * * *",
            600,
            again_s=10,
        ),
        Task(
            "seal",
            "new rows of the trail, sealed",
            "janitor",
            "pandom.database.janitor:seal",
            "*/5 * * * *",
            1800,
            again_s=10,
            off="never",
            every_s=1200,  # health says after half an hour that events wait to be sealed
        ),
        Task(
            AUDIT,
            "access, object store and trail, compared with what is declared",
            "auditor",
            "pandom.audit.scheduled:run",
            "0 * * * *",
            3 * 3600,
            again_s=30,
            again_times=20,  # a trail of years takes long to read
            off="not in production",
            results={DONE: OK, DRIFT: "drift"},
        ),
        Task(
            BACKUP_FULL,
            "a full backup, after which older ones may leave",
            work="pandom.backups.scheduled:full",
            schedule="30 1 * * sun",
            limit_s=12 * 3600,
            **_OF_BACKUPS,
        ),
        Task(
            BACKUP,
            "a backup of what changed since the last one",
            work="pandom.backups.scheduled:incremental",
            schedule="30 2 * * *",
            limit_s=12 * 3600,
            **_OF_BACKUPS,
        ),
        Task(
            "objects",
            "documents and media, copied beside the backups",
            work="pandom.backups.objects:run",
            schedule="*/15 * * * *",
            limit_s=12 * 3600,
            **_OF_BACKUPS,
        ),
        Task(
            DUMP,
            "a dated dump, encrypted, beside the backups",
            "dump",
            "pandom.backups.dump:run",
            "0 3 * * *",
            6 * 3600,
            again_s=900,
            at_once=False,
            of_backups=True,
        ),
        Task(
            DRILL,
            "the newest backup, restored into a copy that is looked at",
            work="pandom.backups.drill:run",
            schedule="30 4 * * sun",
            limit_s=6 * 3600,
            **_OF_BACKUPS,
        ),
        Task(
            "watch",
            "sessions that block everybody, ended",
            "janitor",
            "pandom.database.janitor:watch",
            None,
            None,
        ),
    )
}
SCHEDULED: Final = {name: task for name, task in TASKS.items() if not task.is_service}


def find(name: str, among: Mapping[str, Task] = SCHEDULED) -> Task:
    """Return a task by its name; raises UsageError that lists what there is."""
    if name in among:
        return among[name]
    raise UsageError(f"{unknown(name, among)}\nNothing was started.")


def unknown(name: str, among: Mapping[str, Task] = SCHEDULED) -> str:
    """Return what to say about a name that no task has."""
    if name in TASKS:
        return f"{name} is no task of the schedule: it runs all the time"
    near = difflib.get_close_matches(name, among, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{name} is no task; {hint}there are {', '.join(among)}"
