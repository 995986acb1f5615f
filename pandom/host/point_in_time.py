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

from pandom.backups.repository import SHARE, AnotherCluster, Backup
from pandom.backups.scratch import AIR, READY, REPLAYED, SHORT
from pandom.backups.versions import Versions, after, changes, words
from pandom.database.named import first, unmatched
from pandom.host import backup, exchange, lock, up, versions
from pandom.host.backup import Place
from pandom.host.engine import RESTORE, RESTORE_IDLE, Container, Engine
from pandom.host.exchange import PROGRAM, RESTORED, SWITCH, UNDO, Beside, ask
from pandom.host.migrate import run_in_job
from pandom.host.stack import Stack
from pandom.runtime import paths
from pandom.runtime.errors import Failure, PandomError, UsageError
from pandom.runtime.naming import resource_name
from pandom.runtime.progress import Lines, say, step

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
    with contextlib.suppress(ValueError, OverflowError):  # the latter in the years 1 and 9999
        read = datetime.fromisoformat(text.strip())
        found = read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)
    if found is None or not re.match(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}", text.strip()
    ):
        raise UsageError(
            f"--to {text!r} is no time: expected 2026-11-25 14:05, seconds and an offset (+01:00) "
            "if you like; without one it is UTC"
        )
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
    if then is not None and (to or label or form == "json"):
        raise UsageError(f"--{then} takes what lies beside: no --to, no --backup, no --format")
    if then is not None:
        if then == "discard":
            _discard(name)
        else:
            _serve(name, then)
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
    with engine.like(server.id, ["infinity"], RESTORE_IDLE, entrypoint="sleep"):
        idle = engine.container(RESTORE_IDLE)
        assert idle is not None  # noqa: S101 - it was just made
        yield replace(place, repository=replace(repository, server=idle))


def _restore(place: Place, to: str | None, label: str | None, form: str) -> None:
    repository, name = place.repository, place.repository.stack
    engine, server = repository.engine, repository.server
    there = exchange.of_volume(engine, server)
    if lacking := there.lacking(name):  # nobody may sign in until it is done
        raise UsageError(lacking)
    runs, lost = server.part != RESTORE_IDLE, False
    try:
        every = repository.backups(backup.system(place.outputs) if runs else None)
    except AnotherCluster as error:
        every, lost = error.backups, True
    wanted = aim(every, to, label, datetime.now(UTC))
    if taken := there.taken(name):
        raise UsageError(taken)
    if lost:
        say("  the backups are of a database that was lost; the empty one here goes on meanwhile")
    elif runs:
        # A commit after the moment must be in the store, or its replay would find no end.
        backup.archive_all(place)
        if lacking := backup.unbacked(place, every):
            raise UsageError(
                f"What is committed now would be lost: {lacking}.\n"
                f"Nothing was touched. Next: `pandom backup --stack {name}`, then this again"
            )
    _refuse_gap(place, wanted)
    _refuse_full(engine, server, wanted)
    with engine.like(
        server.id,
        ["from", *wanted.options()],
        RESTORE,
        name=resource_name(name, RESTORE),
        entrypoint=PROGRAM,
    ):
        made = engine.container(RESTORE)
        if made is None:
            raise Failure("The restore's container was removed. Next: again")
        reached = _follow(place, made, wanted)
        found = _look(place, made)
        objects = _objects(place, wanted, found.pop("named"), lost)
        _remember(engine, made, wanted, reached, found, objects)
        engine.stop(made, signal="SIGINT")
    ends = max(repository.segments(wanted.backup).values()) if lost else None
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
    stopped, timeline = wanted.backup.stopped, wanted.backup.first_wal[:8]
    others = [
        (when, segment[:8])
        for segment, when in place.repository.segments(wanted.backup).items()
        if segment[:8] != timeline and when > stopped
    ]
    if others:
        when, other = max(others)
        raise UsageError(
            f"After {wanted.backup.label} another history was served, of which the store has the "
            f"log up to {when:%Y-%m-%d %H:%M:%S} UTC and no backup (timeline {int(other, 16)}).\n"
            f"Nothing was touched. Next: `pandom backup` where that is served; else --backup "
            f"{wanted.backup.label} or --to says that it is to be lost"
        )
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
    folder = engine.folder(server)
    script = f"df --output=avail -B1 {folder} | tail -n 1; du -sb {folder}/beside 2> /dev/null"
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
    _keep_history(place, made)
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


def _keep_history(place: Place, made: Container) -> None:
    """Put the history that begins with the restored cluster into the store.

    So none that is restored later gets its number, whatever becomes of this one.
    """
    cluster = f"{place.repository.engine.folder(made)}/beside"
    folder = f"{cluster}/pg_wal"
    code, out, err = place.repository.engine.run(made, ["ls", folder])
    if code:
        raise Failure(f"{folder} cannot be read: {err.strip()[-300:]}")
    newest = max((one for one in out.split() if one.endswith(".history")), default="")
    if newest[:8] in place.repository.histories():
        raise Failure(
            f"The restored database began the history {newest}, which the store has of another "
            "one: the store\ndid not say so in time. The running database is as it was. Next: again"
        )
    if newest:
        beside = replace(place.repository, server=made)
        beside.run(f"--pg1-path={cluster}", "archive-push", f"{folder}/{newest}")


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
    script = 'mkdir -p "${2%/*}" && printf %s "$1" > "$2.new" && sync "$2.new" && mv "$2.new" "$2"'
    place = f"{engine.folder(made)}/beside/{MARK}"
    code, _, err = engine.run(made, ["sh", "-c", script, "sh", text, place])
    if code:
        raise Failure(f"{place} could not be written: {err.strip()}")


# -- serving it -----------------------------------------------------------------------------------


def _discard(name: str) -> None:
    """Remove what lies beside the served cluster; one that was served only if confirmed."""
    place = backup.open_place(name, healthy=False)
    with alone(Stack(name)):
        discard(place.repository.engine, place.repository.server, name)


def discard(engine: Engine, server: Container, name: str) -> None:
    """Do it, for whoever holds the stack."""
    there = exchange.of_volume(engine, server)
    if lacking := there.lacking(name):
        raise UsageError(lacking)
    if there.was_served and os.environ.get("CONFIRM") != name:
        raise UsageError(
            f"What lies beside is {there}.\nNext: "
            f"`CONFIRM={name} pandom {there.command} --discard --stack {name}`, if you mean it"
        )
    ask(engine, server, "discard")
    print("There was nothing." if there.what == Beside.what else f"Removed {there}.")


def _serve(name: str, way: str) -> None:
    """Serve the other cluster, or take back or go on with what a killed run began.

    `up` does what one that is newly served lacks (`exchange.go_on`), whoever calls it.
    """
    place, stack = backup.open_place(name, healthy=False), Stack(name)
    engine, server = place.repository.engine, place.repository.server
    variables, started = up.toolchain_variables(), time.monotonic()
    with alone(stack):
        there = exchange.of_volume(engine, server)
        exchanging = there.what == RESTORED if way == SWITCH else there.was_served
        if there.of_upgrade and (taken := there.taken(name)):
            raise UsageError(taken)  # an upgrade's
        if there.begun == way:
            exchanging = False  # it is served already, and lacks the rest
        elif not exchanging and not there.left:
            raise UsageError(_cannot(name, way, there))
        if exchanging:
            if there.begun is None and server.is_healthy:
                with contextlib.suppress(PandomError):  # or its last minute would be lost
                    if not backup.is_another(place):
                        backup.archive_all(place)
            _leave(place)
            _exchange(place, way)
        elif there.left:
            _stay(place)
        up.bring_up(stack, variables, None, started)


def _cannot(name: str, way: str, there: Beside) -> str:
    if way == SWITCH and there.was_served:
        return (
            f"Beside the database of stack {name} lies {there}, and no database that was restored "
            f"and verified.\nNext: nothing, if what is served is what you want; `pandom restore "
            f"--undo --stack {name}` serves the other one"
        )
    kind = "database that was restored and verified" if way == SWITCH else "former database"
    return (
        f"Beside the database of stack {name} lies no {kind} (found: {there.what}).\n"
        f"Next: `pandom restore --stack {name}`"
    )


def _leave(place: Place) -> None:
    """Bring documents and media to the moment of the database that is served next.

    Before the exchange: killed, the next run does it again, and the moment that was left is noted.
    """
    noted = _noted(place)
    if former := noted.get("former"):
        _bring_objects(place, former, {})
        return
    moment = json.loads(noted.get("verified", "{}")).get("objects")
    _bring_objects(place, moment, place.copies.every() if moment else {})


def _stay(place: Place) -> None:
    """Bring them back to the moment at which the served database was to be left."""
    _bring_objects(place, _noted(place).get("left"), {})
    ask(place.repository.engine, place.repository.server, "stay")


def _noted(place: Place) -> dict[str, str]:
    now = datetime.now(UTC).isoformat()
    said = ask(place.repository.engine, place.repository.server, "leave", now)
    return dict(line.split("\t", 1) for line in said.splitlines())


def _bring_objects(place: Place, moment: str | None, copied: Versions) -> None:
    """Without ``copied`` versions on the way back: the bucket has all of what there was."""
    if moment is None:
        say("  objects stay as they are")
        return
    bucket = versions.of_stack(place.exported)
    with versions.answering():
        planned = list(changes(bucket.every(), datetime.fromisoformat(moment), copied))
    with step(f"objects: {words(planned)}"):
        lost = versions.carry_out(bucket, planned, place.copies)
    if lost:
        listed = first(f"{name}: {why}" for name, why in sorted(lost.items()))
        say(f"  {len(lost):,} objects could not come back: {listed}")


def _exchange(place: Place, way: str) -> None:
    """Stop the server, exchange the two clusters in one step, start it again."""
    engine, server = place.repository.engine, place.repository.server
    with step("exchanging the two databases"):
        engine.stop(server)
        try:
            ask(engine, server, "exchange", way)
        finally:
            engine.start(replace(server, status="exited"))
        found = engine.wait_until_healthy("postgres", up.READY_S)
    if found is None or not found.is_healthy:
        back = UNDO if way == SWITCH else SWITCH
        raise Failure(
            f"The server does not start with it: {' '.join(engine.last_lines(server, 2))}\n"
            f"Next: `pandom restore --{back} --stack {place.repository.stack}`"
        )
    back = f"`pandom restore --undo --stack {place.repository.stack}`"
    say(f"  the other database lies beside it: {back} serves it again")
