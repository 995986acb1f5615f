"""What became of each task, in files that outlive the container: one JSON object each.

A file is written whole or not at all, by whoever holds the task's lock, so no task overlaps itself
whoever starts it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pandom.operations.tasks import INTERRUPTED
from pandom.runtime.errors import Busy

FOLDER: Final = Path("/var/lib/pandom")
_AHEAD: Final = timedelta(minutes=1)  # of the clock, which may have been set back a little
MESSAGE_LENGTH: Final = 4000


class Damaged(Exception):
    """A record that cannot be used, with the reason."""


@dataclass(frozen=True)
class Run:
    """One run of a task; ``result`` is None while it runs."""

    run: str
    started: datetime
    ended: datetime | None = None
    result: str | None = None
    exit_code: int | None = None
    seconds: float | None = None
    message: str = ""

    def as_json(self) -> dict[str, Any]:
        """For machines: a file, or a line of the log."""
        times = {"started": text(self.started), "ended": text(self.ended) if self.ended else None}
        return {**asdict(self), **times}


@dataclass(frozen=True)
class Record:
    """The run that goes on, and the last one that ended."""

    task: str
    running: Run | None = None
    last: Run | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the content of the file."""
        return {
            "task": self.task,
            "running": self.running and self.running.as_json(),
            "last": self.last and self.last.as_json(),
        }

    def interrupted(self, now: datetime) -> Record:
        """Return the record of a task whose process is gone."""
        if self.running is None:
            return self
        last = replace(
            self.running, ended=now, result=INTERRUPTED, message="its process was killed"
        )
        return Record(self.task, None, last)


def now() -> datetime:
    """Return the time as it is written."""
    return datetime.now(UTC).replace(microsecond=0)


def text(moment: datetime) -> str:
    """Return a moment as it is written."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(value: str) -> datetime:
    """Return a moment that was written; raises ValueError or TypeError."""
    return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def cut(message: str) -> str:
    """Return a message on one line, as long as it is kept."""
    line = " ".join(message.split())
    return line if len(line) <= MESSAGE_LENGTH else line[: MESSAGE_LENGTH - 1] + "…"


def parse(content: str, task: str) -> Record:
    """Return the record that a file holds; raises Damaged."""
    try:
        found = json.loads(content)
        record = Record(task, _run(found["running"]), _run(found["last"]))
        if found["task"] != task:
            raise ValueError(f"it is of {found['task']}")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Damaged(f"no record: {error}") from error
    return record


def _run(found: Any) -> Run | None:
    if found is None:
        return None
    ended = moment(found["ended"]) if found["ended"] else None
    return Run(**{**found, "started": moment(found["started"]), "ended": ended})


class Store:
    """The records of all tasks in one folder."""

    def __init__(self, folder: Path = FOLDER) -> None:
        """Use a folder that is there."""
        self._folder = folder

    def path(self, task: str) -> Path:
        """Return where a task's record is."""
        return self._folder / f"{task}.json"

    def changed(self) -> int:
        """Return what differs after a record was replaced."""
        return self._folder.stat().st_mtime_ns

    def read(self, task: str) -> Record:
        """Return a task's record, an empty one if there is none.

        Raises Damaged for one that cannot be read or is from the future.
        """
        try:
            record = parse(self.path(task).read_text(), task)
        except FileNotFoundError:
            return Record(task)
        except (OSError, UnicodeDecodeError) as error:
            raise Damaged(str(error)) from error
        newest = record.running or record.last
        if newest and newest.started > now() + _AHEAD:
            raise Damaged(f"from the future: {text(newest.started)}")
        return record

    def known_since(self, task: str) -> datetime:
        """Return since when a task that never ran is known here: from now on, or earlier."""
        try:
            return datetime.fromtimestamp(self.path(task).stat().st_mtime, UTC)
        except OSError:
            with contextlib.suppress(OSError):
                self.write(Record(task))
            return now()

    def settle(self, task: str) -> Record:
        """Return a task's record; of a run whose process is gone it says so from now on.

        Raises Damaged as `read` does.
        """
        record = self.read(task)
        if record.running:
            with contextlib.suppress(Busy, OSError), self.lock(task):
                record = self.read(task).interrupted(now())
                self.write(record)
        return record

    def write(self, record: Record) -> None:
        """Replace a task's record; a kill or a full disk leaves the former one."""
        path = self.path(record.task)
        beside = path.with_suffix(f".{os.getpid()}.new")
        try:
            with beside.open("w") as file:
                file.write(json.dumps(record.as_json()) + "\n")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)

    def set_aside(self, task: str) -> None:
        """Keep what cannot be used under another name."""
        with contextlib.suppress(OSError):
            self.path(task).replace(self.path(task).with_suffix(".damaged"))

    @contextlib.contextmanager
    def lock(self, task: str) -> Iterator[int]:
        """Hold a task's lock; yield its descriptor, with which a child holds it, too.

        Raises Busy when somebody else does.
        """
        descriptor = os.open(self._folder / f"{task}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(f"{task} runs already{self._since(task)}") from None
            yield descriptor
        finally:
            os.close(descriptor)

    def _since(self, task: str) -> str:
        with contextlib.suppress(Damaged):
            if running := self.read(task).running:
                return f", since {text(running.started)}"
        return ""
