"""The tasks `backup` and `backup-full`: as `pandom backup` does, without anybody there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pandom.backups import inside, objects
from pandom.backups.inside import say
from pandom.backups.repository import SHARE, Repository

_STEPS: Final = 4  # of a backup, that the log shows


def in_steps(tell: Callable[[str], None]) -> Callable[[str], None]:
    """Return what shows pgBackRest's lines as some steps of the whole."""
    shown = 0

    def show(line: str) -> None:
        nonlocal shown
        if found := SHARE.search(line):
            step = int(found[1]) * _STEPS // 100
            if step > shown:
                shown = step
                tell(f"{int(found[1])} %")

    return show


def make(repository: Repository, kind: str) -> None:
    """Make one backup, note it in the trail, and let those leave that are older than the kept;
    then copy documents and media.

    Raises PandomError with cause and next step.
    """
    if not repository.backups(inside.system()):
        repository.create()
    newest = repository.back_up(kind, in_steps(say))
    inside.note("backup_made", repository.event(newest))
    repository.expire(say)
    objects.bring_up_to_date(repository, kind == "full", say)
    say(f"{newest.type} {newest.label}, {newest.size >> 20} MB, {newest.stored >> 20} MB stored")


def full() -> None:
    """Run the task `backup-full`."""
    make(inside.repository(), "full")


def incremental() -> None:
    """Run the task `backup`."""
    make(inside.repository(), "incr")
