"""The scheduled tasks as the host sees them: for health, `pandom status`, `schedule` and `run`."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pandom.host import identity
from pandom.host.access import require
from pandom.host.engine import Container, Engine
from pandom.host.stack import Stack
from pandom.operations import records, schedule, standing
from pandom.operations.records import FOLDER, Damaged, Record
from pandom.operations.scheduler import BEAT_S, PLACE, PLAN
from pandom.operations.standing import Standing, Times
from pandom.operations.tasks import DRILL, INTERRUPTED, OK, SCHEDULED, TASKS, find
from pandom.runtime.errors import Failure, UsageError
from pandom.runtime.naming import KEYS_MOUNT
from pandom.runtime.numbers import is_number
from pandom.runtime.progress import Lines, say, shorten

PART: Final = "operations"
WAIT_S: Final = 30.0  # for news of tasks whose result is to come in a moment
_TURNS: Final = 4  # so often; three tasks of one login wait for each other
_SOON_S: Final = 15
_STEP_S: Final = 0.3
_SILENT_S: Final = 60  # without a word, the scheduler is no scheduler
# The container's own time first: a remote host's clock may differ.
_TELL: Final = (
    "sh",
    "-c",
    # A damaged file may have no end of line.
    f'date -u +%s; for one in {PLACE / PLAN} {FOLDER}/*.json; do cat "$one"; echo; done',
)


@dataclass(frozen=True)
class Seen:
    """What the container says: its time, the plan's age in seconds, and each task's record."""

    now: datetime
    silent_s: float | None
    plan: Mapping[str, Times]
    records: Mapping[str, Record]

    def standing(self, name: str) -> Standing:
        """Judge one task."""
        record = self.records.get(name, Record(name))
        return standing.of(TASKS[name], record, self.plan.get(name), self.now)

    def failed(self, name: str) -> str | None:
        """Return the last run of a task if it failed, and said nothing about the stack."""
        last = self.records.get(name, Record(name)).last
        answers = (*TASKS[name].results.values(), INTERRUPTED)
        return last.run if last and last.result not in answers else None

    def is_tried_soon(self, name: str) -> bool:
        """Whether a task starts in a moment."""
        planned = self.plan.get(name)
        return planned is not None and (planned.next - self.now).total_seconds() < _SOON_S


def parse(output: str) -> Seen:
    """Return what was said; lines that cannot be read are left out, as if the task never ran."""
    first, *lines = output.splitlines() or [""]
    now = datetime.fromtimestamp(int(first), UTC) if is_number(first) else records.now()
    silent, plan, found = None, {}, {}
    for line in lines:
        try:
            document = json.loads(line)
            if "tasks" in document:
                silent = (now - records.moment(document["time"])).total_seconds()
                plan = {name: standing.times(one) for name, one in document["tasks"].items()}
            elif document["task"] in TASKS:
                name = document["task"]
                found[name] = records.parse(line, name)
        except (Damaged, ValueError, TypeError, KeyError, AttributeError):
            continue
    return Seen(now, silent, plan, found)


def _look(engine: Engine, container: Container) -> Seen:
    code, said = engine.ask(container, _TELL)
    if code:
        raise Failure(f"does not answer; see docker logs {container.name}")
    return parse(said)


def running(engine: Engine, name: str) -> Container:
    """Return the container that runs the tasks; raises Failure if it does not run."""
    found = engine.container(PART)
    if found is None or found.status != "running":
        state = found.state if found else "gone"
        raise Failure(
            f"No task of stack {name} runs: container {PART} is {state}.\n"
            f"Next: `.venv/bin/pandom up --stack {name}`"
        )
    return found


def within(reader: str, *words: str) -> tuple[str, ...]:
    """Return a command of the container, with what one reader may know."""
    return ("env", f"PANDOM_KEYS={KEYS_MOUNT / reader}", "pandom", "operations", *words)


def refuse(code: int, said: str) -> None:
    """Raise what such a command said in the end, if it failed."""
    if code:
        kind = UsageError if code == UsageError.exit_code else Failure
        raise kind(said.strip() or f"the container's command ended with {code}")


# -- health ---------------------------------------------------------------------------------------


def standings(
    engine: Engine, stack: str, schedules: Mapping[str, str] | None
) -> Iterator[tuple[str, bool, str]]:
    """Yield name, verdict and words of the container and of each task, once they are settled.

    ``schedules`` is of the stack's outputs: None of one that an earlier version brought up.
    """
    wanted = [
        name
        for name, task in TASKS.items()
        if task.is_service or not schedule.is_off((schedules or {}).get(name, schedule.OFF))
    ]
    last, news = time.monotonic() + _TURNS * WAIT_S, time.monotonic()
    before: Mapping[str, Record] = {}
    tries: dict[str, set[str]] = {name: set() for name in wanted}
    while True:
        container, seen = engine.container(PART), None
        well, words = _container(engine, container)
        if well and container is not None:
            with contextlib.suppress(Failure):  # it ends at this moment
                seen = _look(engine, container)
            if seen is None or seen.silent_s is None or seen.silent_s > _SILENT_S:
                well, words = False, "its scheduler says nothing" + _last(engine, container)
        found = {name: seen.standing(name) for name in wanted} if well and seen else {}
        given_up = container is None or container.status in ("exited", "dead")
        given_up |= container is not None and container.is_crash_looping and container.restarts >= 3
        settled = well and all(
            _settled(seen, name, one, tries[name]) for name, one in found.items() if seen
        )
        if seen and seen.records != before:
            before, news = seen.records, time.monotonic()
        if settled or given_up or time.monotonic() > min(news + WAIT_S, last):
            break
        time.sleep(_STEP_S)
    yield f"container {PART}", well, words
    for name, one in found.items():
        yield f"task {name}", one.well, one.words if one.well else _with_next(stack, name, one)


def _settled(seen: Seen, name: str, one: Standing, tries: set[str]) -> bool:
    """Return whether to judge a task now: what was in its way may be gone at its next try, but
    one of these is enough. ``tries`` are its failures since somebody waits."""
    if (failed := seen.failed(name)) is None:
        return one.settled
    tries.add(failed)
    return len(tries) > 1 or (one.settled and not seen.is_tried_soon(name))


def _container(engine: Engine, found: Container | None) -> tuple[bool, str]:
    if found is None:
        return False, "there is no such container"
    if found.status != "running" or found.is_crash_looping:
        return False, found.state + _last(engine, found)
    return True, "runs the tasks"


def _last(engine: Engine, found: Container) -> str:
    lines = [line for line in engine.last_lines(found, 1) if line.strip()]
    return f"; last log line: {lines[0].strip()}" if lines else ""


def _with_next(stack: str, name: str, one: Standing) -> str:
    if TASKS[name].is_service or one.words.startswith("drift: "):
        return one.words
    return f"{shorten(one.words, 300)}. Next: mend it, then `pandom run {name} --stack {stack}`"


def look_again(engine: Engine) -> None:
    """Have tasks that failed run at once: what was in their way may be gone. Only those that are
    tried again soon anyway; a scheduler that is not well is started again."""
    found = engine.container(PART)
    if found is None:
        return
    well, _ = _container(engine, found)
    seen = None
    if well:
        with contextlib.suppress(Failure):
            seen = _look(engine, found)
    if seen is None or seen.silent_s is None or seen.silent_s > _SILENT_S:
        young = found.status == "running" and (
            found.started is None or (records.now() - found.started).total_seconds() < _SILENT_S
        )
        if not young or found.is_crash_looping:
            engine.restart(found)
        return
    asked = {}
    for name in seen.plan:
        record, task = seen.records.get(name, Record(name)), SCHEDULED[name]
        idle = record.running is None and record.last is not None
        if idle and task.again_s is not None and not seen.standing(name).well:
            asked[name] = record
            engine.begin(found, _command(name))
    deadline = time.monotonic() + 2 * BEAT_S
    while asked and time.monotonic() < deadline:
        time.sleep(_STEP_S)
        now = _look(engine, found).records  # raises when it ends: health says so then
        asked = {name: one for name, one in asked.items() if now.get(name, one) == one}


# -- `pandom status` and `schedule` ---------------------------------------------------------------


def lines(engine: Engine) -> list[str]:
    """Return a line for each task: how it stands, and its next time."""
    found = engine.container(PART)
    if found is None or found.status != "running":
        return []
    try:
        seen = _look(engine, found)
    except Failure as failure:
        return [str(failure)]
    shown = [name for name, task in TASKS.items() if task.is_service or name in seen.plan]
    return [_line(seen, name) for name in shown]


def _line(seen: Seen, name: str) -> str:
    one = seen.standing(name)
    planned = seen.plan.get(name)
    following = f"; next {_short(planned.next)}" if planned else ""
    return f"{name:<11} {'' if one.well else 'FAILED: '}{shorten(one.words, 200)}{following}"


def _short(moment: datetime) -> str:
    soon = moment - datetime.now(UTC) < timedelta(days=6)
    return f"{moment:{'%a' if soon else '%Y-%m-%d'} %H:%M} UTC"


def show(name: str, form: str) -> None:
    """Print when tasks run, and what became of them last (`pandom schedule`)."""
    engine = Engine(name)
    seen = _look(engine, running(engine, name))
    if form == "json":
        print(json.dumps({"stack": name, "tasks": [*_documents(seen)]}, indent=2))
        return
    for task, entry in TASKS.items():
        planned = seen.plan.get(task)
        when = "always" if entry.is_service else planned.schedule if planned else schedule.OFF
        print(f"{task:<12}{when:<15}{entry.what}")
        if planned or entry.is_service:
            record, one = seen.records.get(task, Record(task)), seen.standing(task)
            print(f"{'':12}{'' if one.well else 'FAILED: '}{one.words}")
            if record.last and record.last.message and one.well and not entry.is_service:
                print(f"{'':12}it said: {shorten(record.last.message, 100)}")
            if planned:
                print(f"{'':12}next {records.text(planned.next)}")


def _documents(seen: Seen) -> Iterator[dict[str, Any]]:
    for name in TASKS:
        one, planned = seen.standing(name), seen.plan.get(name)
        yield {
            **seen.records.get(name, Record(name)).as_json(),
            "schedule": planned.schedule if planned else None,
            "next": records.text(planned.next) if planned else None,
            "well": one.well if planned or TASKS[name].is_service else None,
        }


# -- `pandom run` ---------------------------------------------------------------------------------


def _command(name: str) -> list[str]:
    return ["pandom", "operations", "run", name]


def drill(name: str) -> int:
    """Run the drill now (`pandom drill`)."""
    return run(DRILL, name)


def run(task: str, name: str) -> int:
    """Run a task now, and show what it says; return its exit code.

    Raises UsageError, before anything is started, for one that there is not or that runs already.
    """
    find(task)
    stack, engine = Stack(name), Engine(name)
    require(stack)
    identity.refuse(name, engine.things(), stack.recorded())
    container = running(engine, name)
    seen = _look(engine, container)
    if task not in seen.plan:
        raise UsageError(
            f"{task} is off in stack {name}: it was given no secrets for it. Nothing was started.\n"
            f"Next: set it in `schedules` of stacks/Pulumi.{name}.yaml, then `pandom up`"
        )
    record = seen.records.get(task, Record(task))
    if record.running:
        raise UsageError(
            f"{task} runs already, since {records.text(record.running.started)}. Nothing was "
            f"started.\nNext: `.venv/bin/pandom status --stack {name}` shows its end"
        )
    shown, started = Lines(), time.monotonic()
    title = f"{task} of {name}"
    last: dict[str, Any] = {}

    def show(line: str) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            said = {"message": line}
        if "result" in said:
            last.update(said)
        else:
            shown.close()
            say(f"  {said['message'].strip()}")
            shown.begin(title)

    shown.begin(title)
    try:
        code, _, complaint = engine.run(container, _command(task), show=show)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"Not waiting any more; {task} goes on, and `pandom status` shows its end."
        ) from None
    finally:
        shown.close()
    if not last:
        raise (UsageError if code == UsageError.exit_code else Failure)(complaint.strip())
    shown.end(title, time.monotonic() - started, str(last["result"]))
    if last["result"] != OK:
        say(f"\n{last['message']}")
    return code
