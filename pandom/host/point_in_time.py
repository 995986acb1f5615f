"""`pandom restore`: the database of a moment, beside the one that is served, then instead of it.

The files come back beside the running cluster, in the same volume; a server in a container
of its own replays the log to the moment and is looked at. Serving it instead is one rename,
and so is the way back: Pulumi's state knows of nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from pandom.backups.repository import SHARE, Backup
from pandom.backups.scratch import AIR, READY, REPLAYED, SHORT
from pandom.backups.versions import after, changes, words
from pandom.database.named import first, unmatched
from pandom.host import backup, lock, superuser, up, versions
from pandom.host.backup import Place
from pandom.host.engine import Container, Engine
from pandom.host.migrate import run_in_job
from pandom.host.stack import Stack
from pandom.runtime import paths
from pandom.runtime.errors import Failure, PandomError, UsageError
from pandom.runtime.naming import resource_name
from pandom.runtime.progress import Lines, say, step
from schema.access import DATABASE

PART: Final = "restore"
IDLE: Final = "restore-idle"  # in the place of a server that does not run
PROGRAM: Final = "pandom-restore"
FOLDER: Final = "/var/lib/postgresql/$PG_MAJOR"  # in a container of the server's image
_WORD_S: Final = 900.0  # to remove a large database
MARK: Final = "pandom-restore/verified"
_LAST: Final = re.compile(r"last completed transaction was at log time (\S+ \S+)")


@dataclass(frozen=True)
class Aim:
    """What is to come back: a moment, a backup as it was made, or everything."""

    backup: Backup
    moment: datetime | None = None
    as_made: bool = False

    def __str__(self) -> str:
        if self.moment:
            return f"{self.moment:%Y-%m-%d %H:%M:%S} UTC"
        return f"backup {self.backup.label}" if self.as_made else "the latest"

    @property
    def objects_at(self) -> datetime | None:
        """The moment that the objects go back to; None leaves them as they are."""
        return self.moment or (self.backup.stopped if self.as_made else None)

    def options(self) -> list[str]:
        """Return options of pgBackRest. A moment is of the history that its backup is of:
        whenever another one is served, a backup is made of it."""
        chosen = [f"--set={self.backup.label}"]
        if not self.as_made:
            chosen += ["--target-timeline=current"]
        if self.moment:
            chosen += ["--type=time", f"--target={self.moment:%Y-%m-%d %H:%M:%S.%f}+00"]
        elif self.as_made:
            chosen += ["--type=immediate"]
        return [*chosen, "--target-action=promote"] if self.moment or self.as_made else chosen


def moment(text: str, now: datetime) -> datetime:
    """Return the moment that a person means; UTC unless it says otherwise. Raises UsageError."""
    found = None
    with contextlib.suppress(ValueError):
        found = datetime.fromisoformat(text.strip())
    if found is None or not re.match(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}", text.strip()
    ):
        raise UsageError(
            f"--to {text!r} is no time: expected 2026-11-25 14:05, seconds and an offset (+01:00) "
            "if you like; without one it is UTC"
        )
    found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    if found > now:
        raise UsageError(f"--to {text}: that is in the future; it is {now:%Y-%m-%d %H:%M:%S} UTC")
    return found


def aim(every: Sequence[Backup], to: str | None, label: str | None, now: datetime) -> Aim:
    """Return what was asked for. Raises UsageError for what no backup can give."""
    if not every:
        raise UsageError("There is no backup to restore. Next: `pandom backup`")
    if label is not None:
        chosen = next((one for one in every if one.label == label), None)
        if chosen is None:
            known = "\n".join(f"  {one.label}" for one in every)
            raise UsageError(f"--backup {label}: there is none of this name. There are:\n{known}")
        return Aim(chosen, as_made=True)
    if to is None:
        return Aim(every[-1])
    wanted = moment(to, now)
    before = [one for one in every if one.stopped <= wanted]
    if not before:
        raise UsageError(
            f"--to {to}: the oldest backup was finished at {every[0].stopped:%Y-%m-%d %H:%M:%S} "
            "UTC; what came before it cannot be restored"
        )
    return Aim(before[-1], wanted)


# -- restoring ------------------------------------------------------------------------------------


@contextlib.contextmanager
def alone(stack: Stack) -> Iterator[None]:
    """Hold the stack, and refuse a second restore at once rather than let it wait."""
    with contextlib.ExitStack() as held:
        place = paths.state_home() / "locks" / f"{stack.name}.restore"
        try:
            held.enter_context(lock.held(place, "The restore", wait_s=0))
        except Failure:
            raise UsageError(
                f"Another restore of stack {stack.name} is running. Next: wait for it"
            ) from None
        held.enter_context(lock.of_stack(stack))
        yield


def run(name: str, to: str | None, label: str | None, then: str | None, form: str) -> None:
    """Restore, or do what comes after it. Raises UsageError for both at once."""
    if then is not None and (to or label):
        raise UsageError(f"--{then} takes what lies beside: no --to, no --backup")
    if then is not None:
        {"switch": _switch, "undo": _undo, "discard": _discard}[then](name)
        return
    if to is not None and label is not None:
        raise UsageError("--to and --backup: one of them; a backup is restored as it was made")
    with alone(Stack(name)), _answering(backup.open_place(name, healthy=False)) as place:
        _restore(place, to, label, form)


@contextlib.contextmanager
def _answering(place: Place) -> Iterator[Place]:
    """Give the repository a container that runs: a server that cannot start is why one restores."""
    repository = place.repository
    engine, server = repository.engine, repository.server
    if server.is_healthy:
        yield place
        return
    say("  the server is not running: what it did not archive is not restored")
    with engine.like(server.id, ["infinity"], IDLE, entrypoint="sleep"):
        idle = engine.container(IDLE)
        assert idle is not None  # noqa: S101 - it was just made
        yield replace(place, repository=replace(repository, server=idle))


def _restore(place: Place, to: str | None, label: str | None, form: str) -> None:
    repository, name = place.repository, place.repository.stack
    engine, server = repository.engine, repository.server
    wanted = aim(repository.backups(), to, label, datetime.now(UTC))
    refuse_beside(name, state(engine, server)[1])
    lost = server.part != IDLE and backup.is_another(place)
    if lost:
        say("  the backups are of a database that was lost; the empty one here goes on meanwhile")
    elif server.part != IDLE:
        # A commit after the moment must be in the store, or its replay would find no end.
        backup.archive_all(place)
    _refuse_gap(place, wanted)
    _refuse_full(engine, server, wanted)
    for one in engine.containers():
        if one.part == PART:  # of a restore whose caller was killed
            engine.remove_container(one.id)
    with engine.like(
        server.id,
        ["from", *wanted.options()],
        PART,
        name=resource_name(name, PART),
        entrypoint=PROGRAM,
    ):
        made = engine.container(PART)
        if made is None:
            raise Failure("The restore's container was removed. Next: again")
        reached = _follow(place, made, wanted)
        found = _look(place, made)
        objects = _objects(place, wanted, found.pop("named"), lost)
        _remember(engine, made, wanted, reached, found, objects)
        engine.stop(made, signal="SIGINT")
    ends = max(repository.segments().values()) if lost else None
    if form == "json":
        told = {"aim": str(wanted), "reached": reached, **found, "objects": objects}
        print(json.dumps({"stack": name, **told, "log_ends": ends and ends.isoformat()}, indent=2))
        return
    rows = ", ".join(f"{count:,} {table}" for table, count in found["rows"].items())
    print(f"Restored beside the served database: {wanted}, last commit {reached}.")
    print(
        f"  revision {found['revision']}, {found['blocks']:,} blocks of the trail in order; {rows}"
    )
    for line in objects["told"]:
        print(f"  objects: {line}")
    if ends:
        print(f"  lost: what was committed later. The log in the store ends {ends:%H:%M:%S} UTC")
    print(f"Next: `pandom restore --switch --stack {name}` serves it instead; --discard removes it")


def refuse_beside(name: str, beside: str) -> None:
    """Raise UsageError where the place beside the served cluster is taken by what may be wanted."""
    if beside in ("nothing", "unfinished", "restored"):
        return
    command = "restore" if beside == "former" else "upgrade"
    raise UsageError(
        f"Beside the database of stack {name} lies another one ({beside}).\n"
        f"Next: `pandom {command} --undo --stack {name}` serves it again, --discard removes it; "
        "then this again"
    )


def _objects(place: Place, wanted: Aim, named: dict[str, str], lost: bool) -> dict[str, Any]:
    """Return the moment that --switch brings objects to, None for where they are, what it changes,
    and what will not match the rows.

    Where all was lost the latest is what was copied last. Raises PandomError only then: on the
    same host the database comes back without a look at the objects, too.
    """
    try:
        copied = place.copies.every() if lost or wanted.objects_at else {}
        bucket = versions.of_stack(place.exported)
        with versions.answering():
            here = bucket.every()
    except PandomError as error:
        if lost:
            raise
        moment = wanted.objects_at
        told = [f"could not be looked at. {str(error).splitlines()[0]}"]
        return {"moment": moment and moment.isoformat(), "told": told}
    moment = wanted.objects_at or (versions.newest(copied) if lost else None)
    planned = list(changes(here, moment, copied)) if moment else []
    matched = unmatched(named, after(here, planned))
    told = [f"{words(planned)} by --switch" if moment else "stay as they are"]
    if lost:
        told.append(f"the last was copied {moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "no copy")
    return {
        "moment": moment and moment.isoformat(),
        "changed": sum(one.version is not None for one in planned),
        "deleted": sum(one.version is None for one in planned),
        "from_copies": sum(not one.here for one in planned),
        **matched.as_json(),
        "told": [*told, *matched.lines],
    }


def _refuse_gap(place: Place, wanted: Aim) -> None:
    """Refuse a hole: a replay would stop there without a word, and lack what came after it."""
    if wanted.moment or wanted.as_made:
        return  # the server itself says when it does not reach its target
    if missing := place.repository.holes(wanted.backup):
        raise UsageError(
            f"Log is missing in the store: {missing[0]}. What came after it cannot be restored "
            f"from {wanted.backup.label}.\nNothing was touched. Next: --to a time before, or "
            "--backup; `pandom backups` lists both"
        )


def _refuse_full(engine: Engine, server: Container, wanted: Aim) -> None:
    refuse_full(engine, server, wanted.backup.size, "restore beside the running database")


def refuse_full(engine: Engine, server: Container, size: int, what: str) -> None:
    """Raise Failure for a volume without room for so many bytes beside the served cluster."""
    script = f"df --output=avail -B1 {FOLDER} | tail -n 1; du -sb {FOLDER}/beside 2> /dev/null"
    _, out, _ = engine.run(server, ["bash", "-c", script])
    numbers = [int(line.split()[0]) for line in out.splitlines() if line.strip()]
    free, needed = sum(numbers), size + AIR
    if free < needed:
        raise Failure(
            f"The volume has {free >> 20} MB free, {needed >> 20} MB are needed to {what}.\n"
            "Nothing was touched. Next: make room on the host's disk"
        )


def _follow(place: Place, made: Container, wanted: Aim) -> str:
    """Wait until the log is replayed; the time of the last commit. Raises what went wrong."""
    engine, title = place.repository.engine, f"restoring {wanted}"
    lines, started, shown, log = Lines(), time.monotonic(), title, ""
    lines.begin(title)
    try:
        for part in engine.client.api.logs(made.id, stream=True, follow=True):
            for line in part.decode(errors="replace").splitlines():
                log = f"{log}{line}\n"[-20_000:]
                now = shown
                if found := SHARE.search(line):
                    now = f"{title}: files {found[1]} %"
                elif found := REPLAYED.search(line):
                    now = f"{title}: log {found[1]}"
                lines.replace(shown, now)
                shown = now
            if READY in log:
                break
    finally:
        lines.close()
    last = _LAST.search(log)
    if READY not in log:
        code = int(engine.client.api.wait(made.id)["StatusCode"])
        raise _unreached(place, wanted, last[1] if last else None, code, log)
    lines.end(title, time.monotonic() - started)
    return f"{last[1][:19]} UTC" if last else "as the backup has it"


def _unreached(place: Place, wanted: Aim, last: str | None, code: int, log: str) -> PandomError:
    if SHORT in log:
        missing = place.repository.holes(wanted.backup)
        why = f": {missing[0]} is missing in the store" if missing else ""
        until = f"--to '{last[:19]}'" if last else f"--backup {wanted.backup.label}"
        return UsageError(
            f"The log ends before {wanted}{why}. The last commit that can be restored is of "
            f"{f'{last[:19]} UTC' if last else 'the backup itself'}.\n"
            f"The running database is as it was. Next: `pandom restore {until}`"
        )
    said = [line for line in log.splitlines() if re.search(r"FATAL:|ERROR:|^pandom-|<Code>", line)]
    error = place.repository.explained(code, "\n".join(said) or log)
    return type(error)(f"{error}\nThe running database is as it was.")


def _look(place: Place, made: Container) -> dict[str, Any]:
    """Return what the restored cluster holds, once its trail was verified; it is closed by that."""
    engine = place.repository.engine
    code, _, err = engine.run(made, [PROGRAM, "open"])
    if code:
        raise Failure(f"The restored server could not be opened: {err.strip()[-300:]}")
    output = run_in_job(
        engine,
        place.repository.stack,
        "cluster",
        ["job", "restored"],
        "verifying what was restored",
        network=f"container:{made.id}",
        variables={"PANDOM_DB_HOST": "127.0.0.1"},
    )
    *pairs, last = output.splitlines()
    named = dict(json.loads(one) for one in pairs if one.startswith("["))
    return {**json.loads(last), "named": named}


def _remember(
    engine: Engine,
    made: Container,
    wanted: Aim,
    reached: str,
    found: dict[str, Any],
    objects: dict[str, Any],
) -> None:
    """Note beside the files that they are whole: only such a cluster is ever served."""
    known = {"aim": str(wanted), "reached": reached, "objects": objects["moment"]}
    text = json.dumps({**known, **found})
    place = f"{FOLDER}/beside/{MARK}"
    script = (
        f'file="{place}"; mkdir -p "${{file%/*}}" && printf %s "$1" > "$file.new" '
        '&& sync "$file.new" && mv "$file.new" "$file"'
    )
    code, _, err = engine.run(made, ["sh", "-c", script, "sh", text])
    if code:
        raise Failure(f"{place} could not be written: {err.strip()}")


# -- serving it -----------------------------------------------------------------------------------


def ask(engine: Engine, server: Container, word: str, *more: str) -> str:
    """Return what the volume's own program says, in a container without network. Raises Failure."""
    with engine.like(server.id, [word, *more], PART, entrypoint=PROGRAM, network="none") as made:
        code = int(engine.client.api.wait(made, timeout=_WORD_S)["StatusCode"])
        said = engine.client.api.logs(made).decode(errors="replace").strip()
    if code:
        raise Failure(f"`{PROGRAM} {word}` failed: {said[-300:]}")
    return str(said)


def state(engine: Engine, server: Container) -> tuple[int, str]:
    """Return the version of the served cluster, and what lies beside it: nothing, unfinished,
    restored, upgraded, former, or which other version it is of."""
    version, _, beside = ask(engine, server, "state").partition(" ")
    if not beside:
        raise UsageError(
            "The stack was brought up by an earlier version, whose image cannot do this.\n"
            "Next: `pandom up`, then this again"
        )
    return int(version), beside


def _switch(name: str) -> None:
    """Serve what was restored, close it to what the backup's readers may know, and verify."""
    with _exchanged(name, "restored", "no database that was restored and verified") as place:
        engine = place.repository.engine
        run_in_job(engine, name, "migration", ["job", "migrate"], "applying later revisions")
        run_in_job(engine, name, "cluster", ["job", "finish", DATABASE], "closing the database")
        say(f"  the former database lies beside it: `pandom restore --undo --stack {name}`")


def _undo(name: str) -> None:
    """Serve the former cluster again."""
    with _exchanged(name, "former", "no former database"):
        pass


def _discard(name: str) -> None:
    """Remove what lies beside the served cluster; the former one only if that is confirmed."""
    place = backup.open_place(name, healthy=False)
    with alone(Stack(name)):
        discard(place.repository.engine, place.repository.server, name, "restore")


def discard(engine: Engine, server: Container, name: str, command: str) -> None:
    """Do it, for whoever holds the stack; ``command`` is what was asked for."""
    _, beside = state(engine, server)
    if beside not in ("nothing", "unfinished", "restored") and os.environ.get("CONFIRM") != name:
        raise UsageError(
            "What lies beside is the former database, the way back.\n"
            f"Next: `CONFIRM={name} pandom {command} --discard --stack {name}`, if you mean it"
        )
    ask(engine, server, "discard")
    print("There was nothing." if beside == "nothing" else f"Removed the database {beside}.")


@contextlib.contextmanager
def _exchanged(name: str, expected: str, lacking: str) -> Iterator[Place]:
    """Serve the other cluster; then a backup of the history that begins, and `up`'s verdict."""
    place, stack = backup.open_place(name, healthy=False), Stack(name)
    variables, started = up.toolchain_variables(), time.monotonic()
    with alone(stack):
        _, found = state(place.repository.engine, place.repository.server)
        if found != expected:
            raise UsageError(
                f"Beside the database of stack {name} lies {lacking} (found: {found}).\n"
                f"Next: `pandom restore --stack {name}`"
            )
        with contextlib.suppress(PandomError):  # or nobody could come back to its last minute
            if not backup.is_another(place):
                backup.archive_all(place)
        _bring_objects(place)
        _exchange(place)
        superuser.set_passwords(place.exported)
        yield place
        _begin_anew(place)
        up.bring_up(stack, variables, None, started)


def _bring_objects(place: Place) -> None:
    """Bring documents and media to the moment of the database that is served next.

    Before the exchange: killed, the next run does it again, and the moment that was left is noted.
    """
    now = datetime.now(UTC).isoformat()
    said = ask(place.repository.engine, place.repository.server, "leave", now)
    noted = dict(line.split("\t", 1) for line in said.splitlines())
    moment = noted.get("former") or json.loads(noted.get("verified", "{}")).get("objects")
    if moment is None:
        say("  objects stay as they are")
        return
    # What there was before it is in the bucket, all of it.
    copied = {} if noted.get("former") else place.copies.every()
    bucket = versions.of_stack(place.exported)
    with versions.answering():
        planned = list(changes(bucket.every(), datetime.fromisoformat(moment), copied))
    with step(f"objects: {words(planned)}"):
        lost = versions.carry_out(bucket, planned, place.copies)
    if lost:
        listed = first(f"{name}: {why}" for name, why in sorted(lost.items()))
        say(f"  {len(lost):,} objects could not come back: {listed}")


def _exchange(place: Place) -> None:
    """Stop the server, exchange the two clusters in one step, start it again."""
    engine, server = place.repository.engine, place.repository.server
    with step("exchanging the two databases"):
        engine.stop(server)
        try:
            ask(engine, server, "exchange")
        finally:
            engine.start(replace(server, status="exited"))
        found = engine.wait_until_healthy("postgres", up.READY_S)
    if found is None or not found.is_healthy:
        raise Failure(
            f"The server does not start with it: {' '.join(engine.last_lines(server, 2))}\n"
            f"Next: `pandom restore --undo --stack {place.repository.stack}`"
        )


def _begin_anew(place: Place) -> None:
    """Back up the history that begins now, and put its number into the store.

    Another restore must not begin one of the same number.
    """
    repository = place.repository
    with superuser.database(place.exported) as server:
        if server is None:
            raise Failure("The server does not answer its superuser. Next: `pandom health`")
        row = server.execute(
            "select timeline_id, current_setting('data_directory') from pg_control_checkpoint()"
        ).fetchall()[0]
    if row[0] > 1:
        history = f"{row[1]}/pg_wal/{row[0]:08X}.history"
        repository.run("archive-push", history)
    backup.make(place, backup.FULL)
    try:
        backup.copy_objects(place, backup.FULL)
    except PandomError as error:  # the task `objects` fails by it, too
        say(f"  documents and media were not copied: {error}")
