"""One run of a task: a process of its own, with a time limit and one reader's secrets in view."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final

from pandom.operations.records import Damaged, Record, Run, Store, cut, now, text
from pandom.operations.tasks import FAILED, INTERRUPTED, TIME_LIMIT, Task
from pandom.runtime.naming import KEYS_MOUNT
from pandom.runtime.numbers import is_number

# What a run's process and all that it starts are told by; it names them when they must end.
RUN_VARIABLE: Final = "PANDOM_TASK_RUN"
# Whether a run is of the schedule's time (or asked for), or a repetition; what the last one said.
DUE_VARIABLE: Final = "PANDOM_TASK_DUE"
LAST_VARIABLE: Final = "PANDOM_TASK_LAST"
COMMAND: Final = ("pandom", "operations", "task")
GRACE_S: Final = 5.0  # between SIGTERM and SIGKILL
_KEPT_LINES: Final = 5  # of the output, for the message
_PIPE_S: Final = 2.0  # for output that somebody outside the run holds open

Emit = Callable[[Mapping[str, Any]], None]


def emit(line: Mapping[str, Any]) -> None:
    """Write one line of the container's log."""
    print(json.dumps(line, ensure_ascii=False), flush=True)


def result_line(task: str, run: Run) -> dict[str, Any]:
    """Return the line of the log that says what became of a run."""
    said = run.as_json()
    order = ("run", "result", "exit_code", "seconds", "message")
    return {"time": said["ended"], "task": task, **{key: said[key] for key in order}}


@dataclass
class _Running:
    """A process that runs; ``why`` is set by whoever ends it."""

    run: str
    process: subprocess.Popen[str]
    why: str | None = None

    def end(self, why: str) -> None:
        """End it and all that it started."""
        self.why = self.why or why
        signalled = _signal(self, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        while signalled and time.monotonic() < deadline and _members(self.run):
            time.sleep(0.05)
        _signal(self, signal.SIGKILL)


class Runner:
    """Runs tasks, and ends those that run when it is stopped."""

    def __init__(
        self,
        store: Store,
        emit: Emit = emit,
        command: Sequence[str] = COMMAND,
    ) -> None:
        """Keep records in ``store``; ``command`` is followed by the task's name."""
        self.store, self._emit, self._command = store, emit, tuple(command)
        self._running: dict[str, _Running] = {}
        self._stopping = False
        # Held while a process is started: reap() must not take one for a stranger's.
        self._starting = threading.Lock()

    def run(self, task: Task, due: bool = True) -> Run:
        """Run a task to its end, and record it; raises Busy when it runs already."""
        with self.store.lock(task.name) as lock:
            before = self._before(task)
            begun = Run(secrets.token_hex(4), now())
            self._record(Record(task.name, begun, before.last))
            started = time.monotonic()
            try:
                ended = self._to_its_end(task, begun, before, due, lock)
            except OSError as error:
                ended = replace(begun, result=FAILED, message=cut(f"could not be started: {error}"))
            except KeyboardInterrupt:
                said = replace(begun, ended=now(), result=INTERRUPTED, message="by hand")
                self._record(Record(task.name, None, said))
                raise
            ended = replace(ended, ended=now(), seconds=round(time.monotonic() - started, 3))
            self._record(Record(task.name, None, ended))
        self._emit(result_line(task.name, ended))
        return ended

    def stop(self) -> None:
        """End everything that runs, and start nothing more."""
        with self._starting:
            self._stopping = True
            ending = [
                threading.Thread(target=one.end, args=(INTERRUPTED,))
                for one in self._running.values()
            ]
        for one in ending:
            one.start()
        for one in ending:
            one.join()

    def reap(self) -> None:
        """Take note of the end of processes that their parents left to us."""
        with self._starting, contextlib.suppress(ChildProcessError):
            known = {one.process.pid for one in self._running.values()}
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if found.si_pid in known:
                    return  # its own thread waits for it
                os.waitpid(found.si_pid, os.WNOHANG)

    def _before(self, task: Task) -> Record:
        try:
            return self.store.read(task.name)
        except Damaged:
            return Record(task.name)

    def _record(self, record: Record) -> None:
        """Without its record a run is still a run: a full disk must not stop the sealing."""
        try:
            self.store.write(record)
        except OSError as error:
            self._note(record.task, f"the record could not be written: {error}")

    def _note(self, task: str, message: str, **more: Any) -> None:
        self._emit({"time": text(now()), "task": task, **more, "message": cut(message)})

    def _to_its_end(self, task: Task, begun: Run, before: Record, due: bool, lock: int) -> Run:
        with self._starting:
            if self._stopping:
                return replace(begun, result=INTERRUPTED, message="the container ends")
            process = subprocess.Popen(
                [*self._command, task.name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=_environment(task, begun.run, due, before.last.message if before.last else ""),
                start_new_session=True,
                pass_fds=(lock,),
            )
            running = self._running[begun.run] = _Running(begun.run, process)
        said: deque[str] = deque(maxlen=_KEPT_LINES)
        reading = threading.Thread(
            target=self._read, args=(process.stdout, task.name, begun.run, said), daemon=True
        )
        reading.start()
        limit = threading.Timer(task.limit_s, running.end, (TIME_LIMIT,)) if task.limit_s else None
        if limit:
            limit.daemon = True
            limit.start()
        try:
            # Not taken note of yet, so that the group's number is not somebody else's.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        finally:
            if limit:
                limit.cancel()
            # What it left behind would hold its output, its lock and the server's sessions.
            _signal(running, signal.SIGKILL)
            code = process.wait()
            with self._starting:
                del self._running[begun.run]
        reading.join(_PIPE_S)
        return replace(begun, **_outcome(task, running, code, [*said]))

    def _read(self, pipe: IO[str], task: str, run: str, said: deque[str]) -> None:
        with contextlib.suppress(ValueError), pipe:
            for line in pipe:
                if line.strip():
                    said.append(cut(line))
                    self._note(task, line, run=run)


def _environment(task: Task, run: str, due: bool, last: str) -> dict[str, str]:
    """Return what a task is told: the container's settings, and where its own secrets are."""
    keys = Path(os.environ.get("PANDOM_KEYS", KEYS_MOUNT)) / task.reader
    return {
        **os.environ,
        "PANDOM_KEYS": str(keys),
        RUN_VARIABLE: run,
        DUE_VARIABLE: "yes" if due else "no",
        LAST_VARIABLE: last,
    }


def _outcome(task: Task, running: _Running, code: int, said: Sequence[str]) -> dict[str, Any]:
    message = " ".join(said)
    if running.why == TIME_LIMIT:
        message = f"ended after {task.limit_s} s, its time limit. {message}"
    elif running.why is None and code < 0:
        message = f"ended by signal {-code} ({signal.strsignal(-code)}). {message}"
    result = running.why or task.results.get(code, FAILED)
    return {"result": result, "exit_code": code if code >= 0 else None, "message": cut(message)}


def _members(run: str) -> list[int]:
    """Return the processes of a run, also those that left its group."""
    mark = f"{RUN_VARIABLE}={run}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if is_number(folder.name):
            with contextlib.suppress(OSError):  # gone, or somebody else's
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found


def _signal(running: _Running, number: signal.Signals) -> bool:
    """Send a signal to all that a run started; return whether anything was there."""
    there = False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(running.process.pid, number)
        there = True
    for pid in _members(running.run):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            there = True
    return there
