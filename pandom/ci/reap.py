"""What may be removed without asking, and why: `pandom ci reap`, and each `create` before it makes.

Of this state home an environment whose time is over, whose process is gone, or whose making was
interrupted. Of what Docker has beside that, only what this user made on this host in a state home
that has no record of it any more. Whatever is another user's, was made by `pandom up`, or lives
for a process that lives, is left alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import docker

from pandom.ci import durations, records
from pandom.ci.records import Record
from pandom.ci.remove import objects, remove
from pandom.host import identity
from pandom.host.engine import connect, listed
from pandom.host.identity import Thing
from pandom.runtime.naming import LABEL_EXPIRES, LABEL_OWNER, LABEL_PROCESS, LABEL_STACK
from pandom.runtime.process import Process
from pandom.runtime.progress import say

Lives = Callable[[Process], bool | None]


def over(expires: datetime, now: datetime) -> str:
    """Return the words for a time that is over."""
    return f"expired {durations.words(now - expires)} ago"


def due(record: Record, now: datetime, lives: Lives = Process.lives) -> str | None:
    """Return why an environment that nobody holds may be removed; None if it may not.

    A process that lives keeps its environment beyond its time: removing it under a test that runs
    would be worse than one that stays.
    """
    if record.unread:
        return None  # it may be another version's, and live: its labels tell
    if not record.ready:
        return "its making was interrupted"
    living = lives(record.owner) if record.owner else None
    if record.owner and living is False:
        return f"its process {record.owner.number} is gone"
    if living is None and record.expires <= now:
        return over(record.expires, now)
    return None


@dataclass(frozen=True)
class Stray:
    """An environment that Docker has and this state home does not know."""

    id: str
    owner: str  # user@host:state home of its stack
    expires: datetime | None
    process: Process | None

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> Stray:
        """Read it from the labels of one of its objects."""
        expires = None
        with contextlib.suppress(ValueError):
            expires = datetime.fromisoformat(labels[LABEL_EXPIRES])
        return cls(
            labels.get(LABEL_STACK, ""),
            labels.get(LABEL_OWNER, ""),
            expires if expires and expires.tzinfo else None,
            Process.parse(labels.get(LABEL_PROCESS, "")),
        )

    @property
    def home(self) -> Path:
        """The folder in which its record would be."""
        return Path(self.owner.partition(":")[2]).parent


def stray(
    one: Stray, who: str, folder: Path, now: datetime, lives: Lives = Process.lives
) -> str | None:
    """Return why it may be removed; ``who`` is user@host here, ``folder`` this home's records."""
    if not records.ID.fullmatch(one.id) or one.owner.partition(":")[0] != who:
        return None
    if one.home.name != one.id:
        return None  # no environment's
    record, ours = records.read(one.home), one.home.parent == folder
    if record and not (ours and record.unread):
        return None  # which decides, of another state home too
    if ours and record is None:
        return "its record is gone"
    living = lives(one.process) if one.process else None
    if living is False and one.process and record is None:
        return f"its process {one.process.number} and its state home are gone"
    if living is not True and one.expires and one.expires <= now:
        lost = "its record cannot be read" if record else "its state home is gone"
        return f"{over(one.expires, now)}, and {lost}"
    return None


def strays(things: Iterable[Thing]) -> list[Stray]:
    """Return the environments that have objects in Docker, each once."""
    found = {Stray.of(one.labels) for one in things if one.labels.get(LABEL_STACK)}
    return sorted(found, key=lambda one: (one.id, one.owner))


def run(dry_run: bool = False) -> None:
    """Remove what is due, and say so on stdout; with ``dry_run`` only say it."""
    if not reap(connect(), print, dry_run):
        print("nothing to remove")


def reap(
    client: docker.DockerClient, tell: Callable[[str], None] = say, dry_run: bool = False
) -> int:
    """Remove what is due; the number of environments that were, or with ``dry_run`` would be."""
    count, gone = 0, set[str]()
    for record in records.every():
        count += _reap(record, client, tell, dry_run)
    now, who = datetime.now(UTC), identity.owner_here().partition(":")[0]
    for one in strays(listed(client, {"label": LABEL_EXPIRES})):
        if why := stray(one, who, records.folder(), now):
            count += 1
            gone.add(one.id)
            tell(_line(one.id, why, dry_run))
            if not dry_run:
                _remove(one, client)
    for record in records.every():
        if record.unread and record.id not in gone:
            tell(
                f"  leaving environment {record.id}, of which nobody knows whether it is over: "
                f"{record.home / records.FILE}: {record.unread}"
            )
    return count


def _remove(one: Stray, client: docker.DockerClient) -> None:
    """Remove what Docker has of it, and its folder if there is a record that cannot be read."""
    record = records.read(one.home)
    if record is None:
        objects(one.id, client, one.owner.__eq__)
        return
    with contextlib.suppress(records.Held), records.held(one.id, wait_s=0):
        remove(record, client)


def _line(name: str, why: str, dry_run: bool) -> str:
    return f"  {'would remove' if dry_run else 'removing'} environment {name}: {why}"


def _reap(
    record: Record, client: docker.DockerClient, tell: Callable[[str], None], dry_run: bool
) -> bool:
    if due(record, datetime.now(UTC)) is None:
        return False
    try:
        with records.held(record.id, wait_s=0):
            # It may have been kept, or removed, since.
            now = records.read(record.home) or record
            why = due(now, datetime.now(UTC)) if record.home.exists() else None
            if why is None:
                return False
            tell(_line(record.id, why, dry_run))
            if not dry_run:
                remove(now, client)
            return True
    except records.Held:
        return False  # somebody makes or removes it
