"""`pandom operations`: starts each task at its time, inside the container `operations`.

APScheduler decides when; what ran last is in the records (`records`), from which a time that was
missed while the container was down is found again: it leads to one run, however many were missed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pandom.operations import schedule, standing
from pandom.operations.records import Damaged, Record, Store, cut, now, text
from pandom.operations.run import Runner, emit
from pandom.operations.tasks import BUSY, INTERRUPTED, OK, SCHEDULED, TASKS, Task, find
from pandom.runtime.errors import FAILED, Busy, Failure, UsageError
from pandom.runtime.inputs import setting

SCHEDULES_VARIABLE: Final = "PANDOM_SCHEDULES"
# The next times of all tasks, and the verdict on them for the container's health check; they are
# true only while this runs.
PLAN: Final = "operations-plan"
VERDICT: Final = "operations-verdict"
PLACE: Final = Path("/tmp")  # noqa: S108 - a tmpfs inside the container, empty after each start
BEAT_S: Final = 5.0
_LOOK_S: Final = 1.0
SERVICE_PAUSE_S: Final = 5.0


def schedules(given: str) -> dict[str, str]:
    """Return the schedules that the container was given; raises UsageError."""
    try:
        found = {str(name): str(text) for name, text in json.loads(given).items()}
    except (ValueError, AttributeError) as error:
        raise UsageError(f"{SCHEDULES_VARIABLE} must be JSON, task by task: {error}") from error
    for name, expression in found.items():
        find(name)
        if expected := schedule.problem(expression):
            raise UsageError(
                f"{SCHEDULES_VARIABLE}: {name}: expected {expected}, found {expression!r}"
            )
    return found


class Scheduler:
    """Runs tasks at their times until it is stopped."""

    def __init__(
        self,
        planned: Mapping[str, str],
        runner: Runner,
        tasks: Mapping[str, Task] = TASKS,
        place: Path = PLACE,
    ) -> None:
        """``planned`` has the schedule of each task that is not off."""
        from apscheduler.executors.pool import ThreadPoolExecutor
        from apscheduler.schedulers.background import BackgroundScheduler

        logging.getLogger("apscheduler").setLevel(logging.CRITICAL + 1)
        # In the registry's order, in which tasks of one reader wait for each other.
        self._planned = {name: planned[name] for name in tasks if name in planned}
        self._tasks, self._runner, self._place = tasks, runner, place
        self._services = [task for task in tasks.values() if task.is_service]
        self._stopped = threading.Event()
        self._again: set[str] = set()  # tasks whose next run is a repetition
        self._busy: set[str] = set()  # tasks that a thread of ours is at
        self._since = now()
        readers = {tasks[name].reader for name in self._planned}
        self._clock = BackgroundScheduler(
            executors={reader: ThreadPoolExecutor(1) for reader in readers},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone="UTC",
        )

    def start(self) -> None:
        """Start the services, every task whose time was missed, and those that are tried again
        soon: what they found may be of before an `up`. Plan the others."""
        from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MAX_INSTANCES

        self._clock.add_listener(self._left_out, EVENT_JOB_MAX_INSTANCES)
        self._clock.add_listener(self._broke, EVENT_JOB_ERROR)
        for name, expression in self._planned.items():
            record, why = self._found(self._tasks[name]), None
            if record.last is None and self._tasks[name].at_once:
                why = "it has not run yet"
            elif record.last is None:
                known = self._runner.store.known_since(name)
                if schedule.following(expression, known) <= now():
                    why = "its first time was missed"
            elif record.last.result == INTERRUPTED:
                why = "it was interrupted"
            elif (missed := schedule.following(expression, record.last.started)) <= now():
                why = f"missed at {text(missed)}"
            elif self._tasks[name].again_s is not None and record.last.result != OK:
                why = "it failed"
            elif self._tasks[name].is_prompt:
                why = "the container was started"
            if why:
                self._note(name, f"runs at once: {why}")
            first = {"next_run_time": datetime.now(self._clock.timezone)} if why else {}
            self._clock.add_job(
                self._work,
                schedule.trigger(expression),
                args=(name,),
                id=name,
                executor=self._tasks[name].reader,
                **first,
            )
        self._clock.start()
        for task in self._services:
            self._found(task)
            threading.Thread(target=self._serve, args=(task,), daemon=True).start()

    def beat(self) -> None:
        """Tell how things stand; look for what happened without us."""
        self._runner.reap()
        self._clock.wakeup()  # a clock that was set, a host that slept
        records = {name: self._read(name) for name in (*self._planned, *self._names())}
        moment, unwell = now(), []
        plan: dict[str, standing.Times] = {}
        for name, record in records.items():
            if name in self._planned:
                self._repeat(self._tasks[name], record)
                plan[name] = self._times(name, record)
            found = standing.of(self._tasks[name], record, plan.get(name), moment)
            unwell += [] if found.well else [f"{name}: {found.words}"]
        entries = {name: one.as_json() for name, one in plan.items()}
        try:
            _replace(self._place / PLAN, json.dumps({"time": text(moment), "tasks": entries}))
            verdict = f"1 {cut('; '.join(unwell))}" if unwell else "0 well"
            _replace(self._place / VERDICT, verdict)
        except OSError as error:
            emit({"time": text(moment), "message": f"how things stand is not told: {error}"})

    def run(self) -> None:
        """Work until SIGTERM."""
        try:
            self.start()
            while True:
                self.beat()
                changed, silent = self._runner.store.changed(), time.monotonic()
                # A run by hand is told of as soon as one of the schedule.
                while self._runner.store.changed() == changed:
                    self._stopped.wait(_LOOK_S)
                    if time.monotonic() - silent > BEAT_S:
                        break
        except KeyboardInterrupt:
            self.stop()

    def stop(self) -> None:
        """End what runs, and start nothing more."""
        self._stopped.set()
        if self._clock.running:
            self._clock.shutdown(wait=False)
        self._runner.stop()

    def _names(self) -> list[str]:
        return [task.name for task in self._services]

    def _found(self, task: Task) -> Record:
        """Return a task's record as it is at the start: nothing of the last container runs."""
        try:
            return self._runner.store.settle(task.name)
        except Damaged as damage:
            self._note(task.name, f"its record is set aside, as if it had never run: {damage}")
            self._runner.store.set_aside(task.name)
            return Record(task.name)

    def _read(self, name: str) -> Record:
        try:
            return self._runner.store.settle(name)
        except Damaged:
            return Record(name)

    def _times(self, name: str, record: Record) -> standing.Times:
        expression = self._planned[name]
        job = self._clock.get_job(name)
        since = record.last.started if record.last else self._since
        planned = getattr(job, "next_run_time", None) or schedule.following(expression, now())
        return standing.Times(expression, planned, standing.late(expression, since), self._since)

    def _work(self, name: str) -> None:
        due = name not in self._again
        self._again.discard(name)
        last = self._read(name).last
        if not due and last is not None and last.result == OK:
            return  # run by hand meanwhile
        self._busy.add(name)
        try:
            if self._runner.run(self._tasks[name], due).result == BUSY:
                self._start_by(name, self._tasks[name].again_s)
        except Busy as busy:
            self._note(name, f"left out: {busy}")
        finally:
            self._busy.discard(name)
        if not self._stopped.is_set():
            self.beat()

    def _repeat(self, task: Task, record: Record) -> None:
        """Run a task that failed again soon, unless its time comes before; also one by hand."""
        last = record.last
        if last is None or last.result in (OK, INTERRUPTED):
            return
        waits = record.running or task.name in self._again | self._busy
        if not waits and self._start_by(task.name, task.pause_s(last.seconds or 0)):
            self._again.add(task.name)

    def _start_by(self, name: str, pause_s: float | None) -> bool:
        """Start a task after a pause, unless its time comes before."""
        job = self._clock.get_job(name)
        if pause_s is None or job is None or self._stopped.is_set():
            return False
        when = datetime.now(self._clock.timezone) + timedelta(seconds=pause_s)
        if sooner := when < job.next_run_time:
            job.modify(next_run_time=when)
        return bool(sooner)

    def _serve(self, task: Task) -> None:
        while not self._stopped.is_set():
            try:
                self._runner.run(task)
            except Exception as error:  # noqa: BLE001 - one that ends would be silent
                self._note(task.name, f"could not be started: {error}")
            self._stopped.wait(SERVICE_PAUSE_S)

    def _note(self, name: str, message: str) -> None:
        emit({"time": text(now()), "task": name, "message": cut(message)})

    def _left_out(self, event: Any) -> None:
        self._note(event.job_id, "left out: the run before has not ended")

    def _broke(self, event: Any) -> None:
        self._note(event.job_id, f"could not be run: {event.exception}")


def _replace(path: Path, content: str) -> None:
    beside = path.with_suffix(f".{threading.get_ident()}.new")
    beside.write_text(content + "\n")
    beside.replace(path)


def _told_twice(line: Mapping[str, Any]) -> None:
    """Write a line for whoever asked, and into the container's log."""
    emit(line)
    with contextlib.suppress(OSError), Path("/proc/1/fd/1").open("a") as log:
        log.write(json.dumps(line, ensure_ascii=False) + "\n")


def run() -> None:
    """Run the container's tasks; raises UsageError for schedules that cannot be read."""
    Scheduler(schedules(setting(SCHEDULES_VARIABLE)), Runner(Store())).run()


def run_now(name: str) -> int:
    """`pandom operations run`: one task, now; its exit code. Raises UsageError (also Busy)."""
    planned = schedules(setting(SCHEDULES_VARIABLE))
    task = find(name, {one: SCHEDULED[one] for one in planned})
    try:
        ended = Runner(Store(), _told_twice).run(task)
    except OSError as error:
        raise Failure(f"{name} could not be run: {error}") from error
    if ended.result == BUSY:
        return UsageError.exit_code
    return FAILED if ended.exit_code is None else ended.exit_code
