"""How a task stands: what `pandom status` and `health` say, and the container's health check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pandom.operations.records import Record, Run, moment, text
from pandom.operations.schedule import following
from pandom.operations.tasks import FAILED, INTERRUPTED, OK, Task
from pandom.runtime.progress import age

_GRACE: Final = timedelta(minutes=1)  # for what starts, and what is written down at its end
_STEADY: Final = timedelta(minutes=1)  # a service that ran that long is no crash loop


@dataclass(frozen=True)
class Times:
    """A task's schedule as the scheduler follows it, ``since`` it began to; after ``late`` it is
    overdue."""

    schedule: str
    next: datetime
    late: datetime
    since: datetime

    def as_json(self) -> dict[str, str]:
        """For the plan that the host reads."""
        moments = {"next": self.next, "late": self.late, "since": self.since}
        return {"schedule": self.schedule, **{key: text(one) for key, one in moments.items()}}


def times(found: Mapping[str, str]) -> Times:
    """Return what `as_json` wrote."""
    return Times(found["schedule"], *(moment(found[key]) for key in ("next", "late", "since")))


def late(schedule: str, since: datetime) -> datetime:
    """Return when a task that started last at ``since`` has missed two times."""
    return following(schedule, following(schedule, since)) + _GRACE


@dataclass(frozen=True)
class Standing:
    """Whether a task is as it should be, in words; ``settled`` is False while that may change
    in a moment."""

    well: bool
    words: str
    settled: bool = True


def of(task: Task, record: Record, planned: Times | None, now: datetime) -> Standing:
    """Judge a task by its record and the scheduler's plan."""
    return _service(record, now) if task.is_service else _scheduled(task, record, planned, now)


def _service(record: Record, now: datetime) -> Standing:
    last, running = record.last, record.running
    ended = f"it ended {ago(last.ended, now)}: {last.message or last.result}" if last else ""
    if running is None:
        return Standing(False, f"does not run; {ended or 'it was never started'}", settled=False)
    recently = last and last.ended and running.started - last.ended < _STEADY
    if last and recently and last.result == FAILED and now - running.started < _STEADY:
        return Standing(False, f"ends again and again; {ended}", settled=False)
    return Standing(True, f"runs since {text(running.started)}")


def _scheduled(task: Task, record: Record, planned: Times | None, now: datetime) -> Standing:
    last, running = record.last, record.running
    going = f"runs since {text(running.started)}" if running else ""
    prompt = task.is_prompt
    if running and now > running.started + timedelta(seconds=task.limit_s or 0) + _GRACE:
        return Standing(False, f"{going}, longer than its limit of {task.limit_s} s")
    overdue = planned is not None and now > planned.late and not running
    if last is None:
        words = f"{going}, for the first time" if going else "has not run yet"
        return Standing(not prompt and not overdue, words, settled=not prompt)
    if last.result != OK:
        # What the task itself says, where it is an answer and no failure.
        answer = last.result in task.results.values()
        words = last.message if answer else f"{last.result} {ago(last.ended, now)}: {last.message}"
        if last.result == INTERRUPTED and going and not prompt:
            return Standing(True, f"{going}, again after it was interrupted")
        settled = not going and last.result != INTERRUPTED
        return Standing(False, f"{words}; {going}" if going else words, settled)
    if planned and overdue:
        missed = text(following(planned.schedule, last.started))
        return Standing(False, f"overdue: {_ended(last, now)}, missed {missed}", not prompt)
    # A result of before the container was started may be of another time altogether.
    fresh = not prompt or planned is None or last.started >= planned.since
    return Standing(True, going or _ended(last, now), fresh)


def _ended(last: Run, now: datetime) -> str:
    return f"{last.result} {ago(last.ended, now)} in {last.seconds or 0:.1f} s"


def ago(then: datetime | None, now: datetime) -> str:
    """Return how long ago something was, in one unit."""
    if then is None:
        return "at an unknown time"
    return f"{age((now - then).total_seconds())} ago"
