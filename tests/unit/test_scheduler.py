"""The scheduler with real processes, in a folder of its own; no server, no container."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pandom.audit import scheduled
from pandom.backups import scheduled as backups
from pandom.backups.inside import OwnRepository
from pandom.host import operations
from pandom.operations import records, run, scheduler, standing, work
from pandom.operations.records import Damaged, Record, Run, Store, now
from pandom.operations.run import Runner
from pandom.operations.scheduler import Scheduler
from pandom.operations.tasks import TASKS, Task
from pandom.runtime import errors
from pandom.runtime.errors import Busy, UsageError

pytestmark = pytest.mark.requirement("D2")

LIMIT_S = 20.0
HOURLY = "0 * * * *"


def until(what: Callable[[], Any], limit_s: float = LIMIT_S) -> Any:
    deadline = time.monotonic() + limit_s
    while not (found := what()):
        assert time.monotonic() < deadline, f"still {found!r} after {limit_s} s"
        time.sleep(0.02)
    return found


def task(name: str = "one", **changed: Any) -> Task:
    values: dict[str, Any] = {"reader": "janitor", "schedule": HOURLY, "limit_s": 60}
    return Task(**{"name": name, "what": "", "work": "", **values, **changed})


SEAL, AUDIT = TASKS["seal"], TASKS["audit"]


class Log(list[dict[str, Any]]):
    """The lines of the container's log."""

    def __call__(self, line: Mapping[str, Any]) -> None:
        self.append(json.loads(json.dumps(line)))

    def results(self) -> list[tuple[str, str]]:
        return [(line["task"], line["result"]) for line in self if "result" in line]

    def messages(self) -> str:
        return "\n".join(line["message"] for line in self)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    found = Log()
    monkeypatch.setattr(scheduler, "emit", found)
    return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def runner(store: Store, log: Log, program: str) -> Runner:
    """Runs a Python program, whose sys.argv[1] is the task's name, instead of `pandom`."""
    return Runner(store, log, (sys.executable, "-c", program))


@contextmanager
def scheduling(
    store: Store, log: Log, program: str, *tasks: Task, off: tuple[str, ...] = ()
) -> Iterator[Scheduler]:
    planned = {one.name: one.schedule for one in tasks if one.schedule and one.name not in off}
    place = store.path("x").parent
    made = Scheduler(planned, runner(store, log, program), {one.name: one for one in tasks}, place)
    made.start()
    made.beat()
    try:
        yield made
    finally:
        made.stop()


def ran(at: datetime, result: str = "ok", **changed: Any) -> Run:
    return Run("before", at, at, **{"result": result, "exit_code": 0, "seconds": 0.1, **changed})


def test_a_run_is_recorded_and_logged_as_json(store: Store, log: Log) -> None:
    made = runner(store, log, "import sys; print('first'); print(sys.argv[1], 'last')")
    ended = made.run(task())
    assert store.read("one") == Record("one", None, ended)
    assert (ended.result, ended.exit_code, ended.message) == ("ok", 0, "first one last")
    assert [line["message"].strip() for line in log] == ["first", "one last", "first one last"]
    assert set(log[-1]) == {"time", "task", "run", "result", "exit_code", "seconds", "message"}
    assert {line["run"] for line in log} == {ended.run}


def test_a_failure_says_what_its_last_lines_were(store: Store, log: Log) -> None:
    ended = runner(store, log, "import sys; sys.exit('no way\\nNext: mend it')").run(task())
    assert (ended.result, ended.exit_code) == ("failed", 1)
    assert ended.message == "no way Next: mend it"
    ended = runner(store, log, "import os; os.kill(os.getpid(), 9)").run(task())
    assert (ended.result, ended.exit_code) == ("failed", None)
    assert ended.message.startswith("ended by signal 9")
    missing = Runner(store, log, ("no-such-program",)).run(task())
    assert "could not be started" in missing.message
    answer = runner(store, log, "import sys; print('drift: x'); sys.exit(2)")
    assert answer.run(TASKS["audit"]).result == "drift"


def test_a_task_is_told_where_its_own_secrets_are_and_no_other(
    store: Store, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PANDOM_KEYS", raising=False)
    program = "import os; print(*(f'{k}={v}' for k, v in os.environ.items()))"
    said = runner(store, log, program).run(task(reader="auditor")).message
    assert "PANDOM_KEYS=/run/pandom/keys/auditor" in said
    assert "janitor" not in said


def test_the_audit_knows_whether_its_report_is_due(store: Store, log: Log) -> None:
    program = "import os; print(*(os.environ[f'PANDOM_TASK_{k}'] for k in ('DUE', 'LAST')))"
    made = runner(store, log, program)
    assert made.run(task()).message == "yes"
    assert made.run(task(), due=False).message == "no yes"


# Each starts two more: one in its group, and one that leaves it and takes no SIGTERM.
FAMILY = """
import os, signal, subprocess, sys, time
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
for leaves in (False, True):
    child = subprocess.Popen([sys.executable, "-c", stubborn], start_new_session=leaves)
    print(child.pid, flush=True)
time.sleep({seconds})
"""


def alive(log: Log) -> list[int]:
    pids = [int(line["message"]) for line in log if line["message"].strip().isdigit()]
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        found += [pid] if state != "Z" else []
    return found


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "GRACE_S", 0.3)


@pytest.mark.usefixtures("_hasty")
def test_a_time_limit_ends_a_task_and_all_that_it_started(store: Store, log: Log) -> None:
    ended = runner(store, log, FAMILY.format(seconds=60)).run(task(limit_s=1))
    assert (ended.result, ended.exit_code) == ("time limit", None)
    assert ended.message.startswith("ended after 1 s, its time limit")
    assert ended.seconds is not None
    assert ended.seconds < 10
    assert until(lambda: alive(log) == [])


@pytest.mark.usefixtures("_hasty")
def test_nothing_outlives_a_run_that_ends_by_itself(store: Store, log: Log) -> None:
    assert runner(store, log, FAMILY.format(seconds=0)).run(task()).result == "ok"
    assert until(lambda: alive(log) == [])


def test_control_without_a_limit_they_live(store: Store, log: Log) -> None:
    made = runner(store, log, FAMILY.format(seconds=60))
    beside = threading.Thread(target=made.run, args=(task(),))
    beside.start()
    assert until(lambda: len(alive(log)) == 2)
    made.stop()
    beside.join(LIMIT_S)
    assert until(lambda: alive(log) == [])
    assert store.read("one").last == replace(
        store.read("one").last or ran(now()), result="interrupted"
    )


def test_a_task_never_overlaps_itself_whoever_starts_it(store: Store, log: Log) -> None:
    made = runner(store, log, "import time; time.sleep(60)")
    beside = threading.Thread(target=made.run, args=(task(),))
    beside.start()
    until(lambda: store.path("one").exists() and store.read("one").running)
    with pytest.raises(Busy, match="one runs already, since 20") as busy:
        runner(store, log, "").run(task())
    assert busy.value.exit_code == 2
    # Another task of the same moment is not held up.
    assert runner(store, log, "").run(task("two")).result == "ok"
    # The time comes while it runs: left out, and said.
    with scheduling(store, log, "", task()):
        until(lambda: "left out: one runs already" in log.messages())
    made.stop()
    beside.join(LIMIT_S)
    assert log.results() == [("two", "ok"), ("one", "interrupted")]


REFUSED = f"import sys; print('another one'); sys.exit({errors.BUSY})"


@pytest.mark.parametrize("result", ["ok", "failed"])
def test_one_that_was_refused_as_busy_has_not_run(store: Store, log: Log, result: str) -> None:
    before = Record("one", None, ran(now() - timedelta(minutes=1), result))
    store.write(before)
    ended = runner(store, log, REFUSED).run(task())
    assert (ended.result, ended.message) == ("busy", "another one")
    assert store.read("one") == before
    # As a failure it would be one.
    runner(store, log, "import sys; sys.exit(2)").run(task())
    assert (store.read("one").last or ran(now())).result == "failed"


def test_one_that_was_refused_as_busy_is_tried_again_soon(store: Store, log: Log) -> None:
    missed = Record("one", None, ran(now() - timedelta(days=3)))
    store.write(missed)
    with scheduling(store, log, REFUSED, task(again_s=1)):
        until(lambda: log.results() == [("one", "busy")] * 2)
    assert store.read("one") == missed


@pytest.mark.parametrize(("code", "exit_code"), [(errors.BUSY, 2), (1, 1), (0, 0)])
def test_a_run_by_hand_that_is_refused_ends_with_2(
    code: int, exit_code: int, store: Store, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(scheduler.SCHEDULES_VARIABLE, json.dumps({"backup": HOURLY}))
    made = runner(store, log, f"import sys; sys.exit({code})")
    monkeypatch.setattr(scheduler, "Runner", lambda *_: made)
    monkeypatch.setattr(scheduler, "Store", lambda: store)
    assert scheduler.run_now("backup") == exit_code


def test_a_backup_that_meets_another_is_refused_as_busy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = OwnRepository("dev", "own-store").explained(50, "ERROR: [050]: unable to acquire lock")

    def refused() -> None:
        raise said

    monkeypatch.setattr(backups, "incremental", refused)
    assert work.run("backup") == errors.BUSY
    assert "Another backup of this stack is running" in capsys.readouterr().err


def test_who_holds_a_task_is_the_process_itself(store: Store, log: Log) -> None:
    """Also when whoever started it is gone."""
    with store.lock("one") as lock:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-c", "import time; time.sleep(60)"],
            {},
            file_actions=[(os.POSIX_SPAWN_DUP2, lock, 9)],
        )
    try:
        with pytest.raises(Busy):
            runner(store, log, "").run(task())
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert runner(store, log, "").run(task()).result == "ok"


def test_missed_times_lead_to_one_run(store: Store, log: Log) -> None:
    store.write(Record("one", None, ran(now() - timedelta(days=3))))
    with scheduling(store, log, "", task()):
        until(lambda: log.results() == [("one", "ok")])
        time.sleep(0.3)
    assert log.results() == [("one", "ok")]
    assert "runs at once: missed at" in log.messages()


def test_what_was_not_missed_waits_for_its_time(store: Store, log: Log, tmp_path: Path) -> None:
    store.write(Record("one", None, ran(now())))
    with scheduling(store, log, "", task(schedule="0 0 29 2 *")):
        time.sleep(0.3)
        plan = json.loads((tmp_path / scheduler.PLAN).read_text())
        assert plan["tasks"]["one"]["next"] == "2028-02-29T00:00:00Z"
        assert (tmp_path / scheduler.VERDICT).read_text() == "0 well\n"
    assert log.results() == []


@pytest.mark.parametrize(
    ("before", "why"),
    [
        (None, "it has not run yet"),
        (Record("one", Run("x", now())), "it was interrupted"),
        (Record("one", None, ran(now(), "interrupted")), "it was interrupted"),
        (Record("one", None, ran(now(), "failed")), "it failed"),
        (Record("one", None, ran(now())), "the container was started"),
    ],
)
def test_what_is_open_runs_at_once(store: Store, log: Log, before: Record | None, why: str) -> None:
    if before:
        store.write(before)
    with scheduling(store, log, "", task(schedule="0 0 29 2 *", again_s=600)):
        until(lambda: log.results() == [("one", "ok")])
    assert f"runs at once: {why}" in log.messages()


DAMAGED = {
    "empty": ("", "no record"),
    "half a file": ('{"task": "one", "run', "no record"),
    "no object": ("[1]", "no record"),
    "another task's": (json.dumps(Record("two").as_json()), "it is of two"),
    "no text": ("\udcff", "can't decode"),
    "another shape": ('{"task": "one", "running": {"x": 1}, "last": null}', "no record"),
    "the future": (
        json.dumps(Record("one", None, ran(now() + timedelta(days=2))).as_json()),
        "from the future",
    ),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_record_that_cannot_be_used_is_said_and_stops_nothing(
    store: Store, log: Log, what: str
) -> None:
    content, why = DAMAGED[what]
    store.path("one").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(Damaged):
        store.read("one")
    with scheduling(store, log, "", task(schedule="0 0 29 2 *"), task("two")):
        until(lambda: sorted(log.results()) == [("one", "ok"), ("two", "ok")])
    assert why in log.messages()
    assert store.path("one").with_suffix(".damaged").exists()
    assert store.read("one").last is not None


def test_a_full_disk_stops_no_task(store: Store, log: Log, tmp_path: Path) -> None:
    with scheduling(store, log, "", task()):
        until(lambda: log.results() == [("one", "ok")])
    missing = Store(tmp_path)
    missing.path("one").unlink()
    missing.path("one").mkdir()  # nothing can take its place
    assert runner(missing, log, "").run(task()).result == "ok"
    assert "the record could not be written" in log.messages()


def test_one_that_failed_is_tried_again_soon_and_the_others_go_on(
    store: Store, log: Log, tmp_path: Path
) -> None:
    flag = tmp_path / "mended"
    program = (
        f"import os, sys; sys.exit(sys.argv[1] == 'one' and not os.path.exists({str(flag)!r}))"
    )
    tasks = (task(again_s=0), task("two"), task("three", reader="auditor"))
    with scheduling(store, log, program, *tasks):
        until(lambda: log.results().count(("one", "failed")) >= 2)
        assert {("two", "ok"), ("three", "ok")} < set(log.results())
        assert (tmp_path / scheduler.VERDICT).read_text().startswith("1 one: failed")
        flag.touch()
        until(lambda: ("one", "ok") in log.results())
        until(lambda: (tmp_path / scheduler.VERDICT).read_text() == "0 well\n")
    assert log.results().count(("two", "ok")) == 1


@pytest.mark.parametrize(
    ("one", "took", "pause"),
    [
        (TASKS["seal"], 0.5, 10),
        (TASKS["seal"], 90, 90),
        (AUDIT, 1, 30),
        (AUDIT, 60, 1200),
        (task(), 1, None),
    ],
)
def test_how_soon_is_soon(one: Task, took: float, pause: float | None) -> None:
    assert one.pause_s(took) == pause


def test_one_that_was_mended_by_hand_is_not_tried_again(store: Store, log: Log) -> None:
    once, program = task(again_s=3), "import sys; sys.exit(sys.argv[1] == 'one')"
    with scheduling(store, log, program, once) as scheduling_:
        until(lambda: scheduling_._again)
        ok = Run("by-hand", now(), now(), "ok", 0, 1.0)
        store.write(Record("one", None, ok))
        until(lambda: not scheduling_._again)
    assert log.results() == [("one", "failed")]
    assert store.read("one").last == ok


def test_one_that_failed_by_hand_is_tried_again_too(store: Store, log: Log) -> None:
    one = task(again_s=0)
    with scheduling(store, log, "", one) as made:
        until(lambda: log.results() == [("one", "ok")])
        runner(store, log, "raise SystemExit(1)").run(one)
        made.beat()
        until(lambda: log.results()[1:] == [("one", "failed"), ("one", "ok")])


def test_tasks_of_one_reader_wait_for_each_other(store: Store, log: Log, tmp_path: Path) -> None:
    program = (
        "import os, sys, time\n"
        f"path = os.path.join({str(tmp_path)!r}, 'inside')\n"
        "os.close(os.open(path, os.O_CREAT | os.O_EXCL)); time.sleep(0.2); os.unlink(path)"
    )
    with scheduling(store, log, program, task(), task("two"), task("three")):
        until(lambda: len(log.results()) == 3)
    assert log.results() == [("one", "ok"), ("two", "ok"), ("three", "ok")]


def test_a_service_is_started_again_when_it_ends(
    store: Store, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "SERVICE_PAUSE_S", 0.05)
    service = task("watch", schedule=None, limit_s=None)
    with scheduling(store, log, "raise SystemExit(3)", service):
        until(lambda: log.results().count(("watch", "failed")) >= 3)
        found = standing.of(service, store.read("watch"), None, now())
        assert not found.well


def test_a_run_whose_process_was_killed_is_over(store: Store) -> None:
    store.write(Record("one", Run("x", now())))
    found = store.settle("one")
    assert found.running is None
    assert found.last is not None
    assert found.last.result == "interrupted"
    store.write(Record("one", Run("x", now())))
    with store.lock("one"):
        assert store.settle("one").running is not None


def test_schedules_that_the_container_cannot_read_end_it() -> None:
    for given in ("", "[]", '{"seal": "never"}', '{"sael": "0 * * * *"}'):
        with pytest.raises(UsageError, match=r"PANDOM_SCHEDULES|no task"):
            scheduler.schedules(given)
    assert scheduler.schedules('{"seal": "0 * * * *"}') == {"seal": "0 * * * *"}


# -- the audit ------------------------------------------------------------------------------------


@pytest.mark.requirement("B5")
def test_the_audit_keeps_a_report_when_it_is_due_or_says_something_new(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept: list[str] = []
    found = [scheduled.Round(2, ("role-extra:evil",), "report")]
    monkeypatch.setattr(scheduled, "of_container", lambda: None)
    monkeypatch.setattr(scheduled, "audit_round", lambda _: found[0])
    monkeypatch.setattr(scheduled, "store_report", lambda _place, text, _now: kept.append(text))
    for due, last, stored in (
        ("yes", "drift: role-extra:evil", 1),
        ("no", "drift: role-extra:evil", 0),
        ("no", "clean", 1),
        ("no", "", 1),
    ):
        kept.clear()
        monkeypatch.setenv("PANDOM_TASK_DUE", due)
        monkeypatch.setenv("PANDOM_TASK_LAST", last)
        assert scheduled.run() == 2
        assert len(kept) == stored, (due, last)
        assert capsys.readouterr().out == "drift: role-extra:evil\n"
    monkeypatch.setattr(scheduled, "audit_round", lambda _: 1 / 0)
    assert scheduled.run() == 1
    assert capsys.readouterr().out.startswith("could not tell: ZeroDivisionError")


# -- how it stands --------------------------------------------------------------------------------

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
PLANNED = standing.Times(
    "*/5 * * * *", NOW + timedelta(minutes=5), NOW + timedelta(minutes=1), NOW - timedelta(hours=1)
)
STARTED = replace(PLANNED, since=NOW - timedelta(minutes=1))
LATE = replace(PLANNED, late=NOW - timedelta(minutes=1))
SLOW = task("one", again_s=None, limit_s=3600)
EARLIER = ran(NOW - timedelta(minutes=4))
GOES = Run("x", NOW - timedelta(seconds=20))


@pytest.mark.parametrize(
    ("one", "record", "planned", "well", "words", "settled"),
    [
        (SEAL, Record("seal", None, EARLIER), PLANNED, True, "ok 4 min ago in 0.1 s", True),
        (SEAL, Record("seal", GOES, EARLIER), PLANNED, True, "runs since", True),
        (SEAL, Record("seal", None, EARLIER), STARTED, True, "ok 4 min ago", False),
        (SLOW, Record("one", None, EARLIER), STARTED, True, "ok 4 min ago", True),
        (SEAL, Record("seal"), PLANNED, False, "has not run yet", False),
        (SEAL, Record("seal", GOES), PLANNED, False, "for the first time", False),
        (SEAL, Record("seal", None, EARLIER), LATE, False, "overdue: ok 4 min ago", False),
        (
            SEAL,
            Record("seal", None, ran(NOW, "failed", message="no")),
            PLANNED,
            False,
            "failed 0 s ago: no",
            True,
        ),
        (SEAL, Record("seal", GOES, ran(NOW, "failed")), PLANNED, False, "runs since", False),
        (SEAL, Record("seal", None, ran(NOW, "interrupted")), PLANNED, False, "interru", False),
        (
            AUDIT,
            Record("audit", None, ran(NOW, "drift", message="drift: role-extra:evil")),
            PLANNED,
            False,
            "drift: role-extra:evil",
            True,
        ),
        # One that takes long is not waited for.
        (SLOW, Record("one", GOES), PLANNED, True, "for the first time", True),
        (SLOW, Record("one"), PLANNED, True, "has not run yet", True),
        (SLOW, Record("one"), LATE, False, "has not run yet", True),
        (
            SLOW,
            Record("one", Run("x", NOW - timedelta(hours=2)), EARLIER),
            PLANNED,
            False,
            "longer than its limit",
            True,
        ),
    ],
)
def test_how_a_task_stands(
    one: Task, record: Record, planned: standing.Times, well: bool, words: str, settled: bool
) -> None:
    found = standing.of(one, record, planned, NOW)
    assert (found.well, found.settled) == (well, settled)
    assert words in found.words


def test_how_a_service_stands() -> None:
    ended = ran(NOW - timedelta(seconds=30), "failed", message="no")
    watch = TASKS["watch"]
    for record, well in (
        (Record("watch", GOES), True),
        (Record("watch"), False),
        (Record("watch", None, ended), False),
        (Record("watch", GOES, ended), False),
        (Record("watch", GOES, replace(ended, ended=NOW - timedelta(hours=1))), True),
    ):
        assert standing.of(watch, record, None, NOW).well == well


def test_the_host_reads_what_the_container_tells_and_leaves_out_the_rest(
    store: Store, log: Log, tmp_path: Path
) -> None:
    seal = replace(SEAL, again_s=None)
    with scheduling(store, log, "", seal):
        until(lambda: log.results() == [("seal", "ok")])
        until(lambda: store.read("seal").last)
    files = [(tmp_path / scheduler.PLAN).read_text(), store.path("seal").read_text()]
    clock = str(int(records.now().timestamp()))
    seen = operations.parse(
        "\n".join([clock, *files, "", '{"task": "audit', "[1]", "7", '{"a": 1}'])
    )
    assert set(seen.records) == {"seal"}
    assert set(seen.plan) == {"seal"}
    assert seen.silent_s is not None
    assert seen.silent_s < 60
    assert seen.standing("seal").well
    assert not seen.standing("audit").well
    assert operations.parse("").silent_s is None


def test_a_failure_waits_for_one_more_try_that_comes_soon() -> None:
    def seen(run: Run, soon: bool) -> operations.Seen:
        comes = NOW + timedelta(seconds=10 if soon else 300)
        plan = {"seal": replace(PLANNED, next=comes), "audit": replace(PLANNED, next=comes)}
        there = {name: Record(name, None, run) for name in plan}
        return operations.Seen(NOW, 1.0, plan, there)

    def settled(found: operations.Seen, tries: set[str], name: str = "seal") -> bool:
        return operations._settled(found, name, found.standing(name), tries)

    bad = ran(NOW, "failed")
    assert settled(seen(bad, soon=False), set())
    tries: set[str] = set()
    assert not settled(seen(bad, soon=True), tries)
    assert not settled(seen(bad, soon=True), tries)
    assert settled(seen(replace(bad, run="another"), soon=True), tries)
    # Drift is an answer, and not waited for.
    assert settled(seen(ran(NOW, "drift"), soon=True), set(), "audit")
