"""`pandom backup` and `pandom backups`; the first backup that `up` makes; what health asks."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from pandom.backups.repository import SHARE, AnotherCluster, Backup, Gap, gaps
from pandom.host import exchange, identity, superuser
from pandom.host.access import require
from pandom.host.engine import Container, Engine
from pandom.host.health import Check, connection, made
from pandom.host.repository import Repository
from pandom.host.stack import Stack
from pandom.host.state import State, clear_outputs
from pandom.host.versions import Copies
from pandom.runtime.errors import Drift, Failure, PandomError, UsageError
from pandom.runtime.progress import Lines, age, say, step
from schema.storage import archives

FULL: Final = "full"
ARCHIVE_S: Final = 60.0  # for what waits to be archived, once the store answers
_ARCHIVER: Final = """
select last_archived_wal, last_archived_time, last_failed_wal, last_failed_time
from pg_catalog.pg_stat_archiver
"""
_TIMELINE: Final = "select left(pg_walfile_name(pg_current_wal_lsn()), 8)"
_SYSTEM: Final = "select system_identifier from pg_catalog.pg_control_system()"


@dataclass(frozen=True)
class Place:
    """A stack's repository, and its state with secrets in clear."""

    repository: Repository
    exported: Mapping[str, Any]

    @property
    def outputs(self) -> dict[str, Any]:
        """The stack's outputs in clear."""
        return clear_outputs(self.exported)

    @property
    def copies(self) -> Copies:
        """What is beside the backups of documents and media."""
        return Copies(self.repository.engine, self.repository.stack)


def _place(engine: Engine, name: str, exported: Mapping[str, Any], healthy: bool = True) -> Place:
    """Return a stack's repository; raise UsageError where backups are not this program's."""
    kind = str(State(exported).outputs.get("backup", "none"))
    if not archives(kind):
        whose = "somebody else makes them" if kind == "external" else "nobody makes any"
        raise UsageError(
            f"Stack {name} has backup: {kind}, so {whose}.\n"
            f"Next: backup: s3 (or own-store, which dies with the machine) in "
            f"stacks/Pulumi.{name}.yaml,\nthen `.venv/bin/pandom up --stack {name}`; "
            "docs/backup.md says what each needs"
        )
    server = engine.container("postgres")
    if server is None or (healthy and not server.is_healthy):
        raise Failure(f"Stack {name} is not running. Next: `.venv/bin/pandom up --stack {name}`")
    return Place(Repository(name, kind, engine, server), exported)


def open_place(name: str, healthy: bool = True) -> Place:
    """Return the repository of a stack, whose server must be ``healthy``; raises PandomError."""
    stack, engine = Stack(name), Engine(name)
    require(stack)
    identity.refuse(name, engine.things(), stack.recorded())
    return _place(engine, name, superuser.exported(stack), healthy)


# -- making one ---------------------------------------------------------------------------------


def run(name: str, kind: str | None, verify: bool) -> None:
    """Make a backup, or look at everything that is there."""
    place = open_place(name)
    if verify:
        _verify(place)
        return
    every = place.repository.backups(system(place.outputs))
    if lacking := unbacked(place, every):
        say(f"  {lacking}")
        kind = FULL
        _tell_history(place)
    kind = kind or "incr"
    one = make(place, kind)
    print(f"{one.label}: {one.type}, {size(one.size)}, {size(one.stored)} stored")
    copy_objects(place, kind)


def begin_if_ours(
    engine: Engine, name: str, exported: Mapping[str, Any], upgraded: bool = False
) -> bool:
    """Mend what `up` can: no repository, no backup with the present key or of what is served, a log
    that waits for a store that is back, or has a hole since the newest backup; or, ``upgraded``,
    the cluster is of another version and the repository's next one. Return whether something was
    done.

    Raises PandomError with the reason why there can be none; does nothing where the backups
    are not this program's.
    """
    if not archives(str(State(exported).outputs.get("backup"))):
        return False
    place = _place(engine, name, exported)
    repository = place.repository
    if upgraded and repository.is_made():
        repository.make("stanza-upgrade")
    try:
        every = repository.backups(system(place.outputs))
    except AnotherCluster:
        if not upgraded:
            raise
        every = []  # all are of before, with former keys
    present = bool(every) and every[-1].repository == 1
    if not present:
        repository.create()
    waited = _failing(_archiver(place.outputs)) is not None
    if waited:
        archive_all(place)
    lacking = unbacked(place, every)
    if lacking:
        say(f"  {lacking}")
    if lacking or upgraded:
        _tell_history(place, upgraded)
    last = _last_archived(place.outputs)
    if present and not lacking and not missing_log(repository, every[-1:], last):
        return waited
    make(place, FULL)
    copy_objects(place, FULL)
    return True


def unbacked(place: Place, every: Sequence[Backup]) -> str | None:
    """Return why nothing would bring back what is committed now, which a backup mends."""
    return place.repository.unbacked(every, _timeline(place.outputs))


def _tell_history(place: Place, upgraded: bool = False) -> None:
    """See that the store has the history that is served: no restore may begin one of its number.

    ``upgraded``: what the store has may be the other cluster's.
    """
    timeline = _timeline(place.outputs)
    if int(timeline, 16) > 1 and (upgraded or timeline not in place.repository.histories()):
        folder = place.repository.engine.folder(place.repository.server)
        place.repository.run("archive-push", f"{folder}/data/pg_wal/{timeline}.history")


def archive_all(place: Place) -> str:
    """See that what is committed now is in the store, at most a minute; returns the segment that
    it ended with, and says so if that is not archived."""
    with superuser.database(place.exported) as server:
        if server is None:
            raise Failure("The server does not answer its superuser. Next: `pandom health`")
        server.autocommit = True
        # Something to archive, which also wakes the archiver: it looks once a minute else.
        server.execute("select pg_logical_emit_message(true, 'pandom', 'archive')")
        segment = str(server.execute("select pg_walfile_name(pg_switch_wal())").fetchall()[0][0])
        deadline = time.monotonic() + ARCHIVE_S
        with step("archiving the server's log"):
            while time.monotonic() < deadline:
                last, *_ = server.execute(_ARCHIVER.encode()).fetchall()[0]
                if last is not None and last[:24] >= segment:
                    return segment
                time.sleep(0.1)
    say(f"  {segment} is not archived after {ARCHIVE_S:.0f} s")
    return segment


def make(place: Place, kind: str) -> Backup:
    """One backup, noted in the trail; an interrupted one is ended, and the next goes on."""
    repository = place.repository
    lines, started = Lines(), time.monotonic()
    title = f"backup of {repository.stack}"
    lines.begin(title)
    shown = title

    def show(line: str) -> None:
        nonlocal shown
        if found := SHARE.search(line):
            now = f"{title}: {found[1]} %"
            if now != shown:
                lines.replace(shown, now)
                shown = now

    try:
        newest = repository.back_up(kind, show)
    except KeyboardInterrupt:
        # The engine goes on with what was begun when its caller is gone.
        repository.engine.run(
            repository.maker(), ["pkill", "-TERM", "-f", r"^pgbackrest .* backup$"]
        )
        raise KeyboardInterrupt(
            "Interrupted; what was copied is kept, and the next backup goes on from it."
        ) from None
    finally:
        lines.close()
    lines.end(title, time.monotonic() - started, f"{newest.type} {newest.label}")
    _note(place, newest)
    repository.expire(lambda line: say(f"  {line}"))
    return newest


def copy_objects(place: Place, kind: str) -> None:
    """Copy documents and media, which come after each backup. Raises PandomError."""
    with step("copying documents and media"):
        place.copies.make(whole=kind == FULL)


def _note(place: Place, one: Backup) -> None:
    """Write into the trail that there is a backup: the audit knows it from there."""
    import psycopg
    from psycopg.types.json import Jsonb

    details = place.repository.event(one)
    try:
        with psycopg.connect(**connection(place.outputs, "pandom_backup")) as client:
            client.execute("select public.note_recovery('backup_made', %s)", (Jsonb(details),))
    except psycopg.Error as error:
        said = str(error).splitlines()[0]
        say(f"  the backup is not noted in the trail, where the audit looks for it: {said}")


# -- looking --------------------------------------------------------------------------------------


def missing_log(repository: Repository, every: list[Backup], until: str = "") -> list[Gap]:
    """Return what is missing of the log since the first of these backups."""
    return gaps(repository.segments(every[0]), every[0].first_wal, until) if every else []


def show(name: str, form: str) -> None:
    """Print the backups, and to which moments one can go back."""
    place = open_place(name)
    repository = place.repository
    every = repository.backups()
    missing = missing_log(repository, every)
    lacking = unbacked(place, every)
    try:
        copies: dict[str, Any] = place.copies.summary()
        shown = (
            f"{copies['objects']:,} documents and media, {copies['versions']:,} versions of "
            f"{size(copies['size'])}, are copied"
        )
    except PandomError as error:
        copies = {"error": str(error).splitlines()[0]}
        shown = f"Documents and media: {copies['error']}"
    if form == "json":
        document = {
            "stack": name,
            "store": repository.kind,
            "backups": [one.as_json() for one in every],
            "missing": [[gap.first, gap.last] for gap in missing],
            "unbacked": lacking,
            "objects": copies,
        }
        print(json.dumps(document, indent=2))
        return
    if not every:
        print(f"Stack {name} has no backup yet. Next: `.venv/bin/pandom backup --stack {name}`")
        return
    width = max(len(one.label) for one in every)
    print(f"{'backup':{width}}  type  finished (UTC)       database    stored")
    for one in every:
        more = "  damaged pages" if one.damaged else ""
        more += "  with a former key" if one.repository > 1 else ""
        print(
            f"{one.label:{width}}  {one.type:4}  {one.stopped:%Y-%m-%d %H:%M:%S}  "
            f"{size(one.size):>8}  {size(one.stored):>8}{more}"
        )
    print(f"\nAny moment since {every[0].stopped:%Y-%m-%d %H:%M:%S} UTC can be restored", end="")
    print(", except beyond what is missing:" if missing else ".")
    for gap in missing:
        print(f"  {gap}")
    if lacking:
        print(
            f"What is committed now cannot: {lacking}.\n"
            f"Next: `.venv/bin/pandom backup --stack {name}`"
        )
    print(shown + ".")


def _verify(place: Place) -> None:
    """Read everything back; raises Drift with what is damaged or missing."""
    repository, started = place.repository, time.monotonic()
    every = repository.backups()
    if not every:
        raise Drift(
            f"Stack {repository.stack} has no backup.\n"
            f"Next: `.venv/bin/pandom backup --stack {repository.stack}`"
        )
    with ThreadPoolExecutor() as beside:
        reading = beside.submit(repository.verify, every)
        objects = beside.submit(place.copies.verify)
        wal = _last_archived(place.outputs)
        missing = missing_log(repository, every, wal)
        damaged = reading.result()
        copies = objects.result()
    said = [f"damaged: {one}" for one in damaged] + [f"missing log: {gap}" for gap in missing]
    said += [f"object: {one}" for one in copies]
    if lacking := unbacked(place, every):
        said.append(f"no backup of what is served: {lacking}")
    if said:
        listed = "\n".join(f"  {one}" for one in said)
        raise Drift(
            f"The backups of stack {repository.stack} are not whole:\n{listed}\n"
            "What came before it can be restored. Next: find out what happened in the store;\n"
            f"`.venv/bin/pandom backup --stack {repository.stack}` begins anew"
        )
    print(
        f"{len(every)} backups and their log are whole, {every[0].first_wal} to "
        f"{wal or every[-1].last_wal} ({time.monotonic() - started:.1f} s)"
    )


def _last_archived(outputs: Mapping[str, Any]) -> str:
    """Return the segment that the server believes archived last, "" for none."""
    return _segment(_archiver(outputs))


def _archiver(outputs: Mapping[str, Any]) -> tuple[Any, ...]:
    return _row(outputs, _ARCHIVER)


def system(outputs: Mapping[str, Any]) -> int:
    """Return the system identifier of the cluster that is served."""
    return int(_row(outputs, _SYSTEM)[0])


def _timeline(outputs: Mapping[str, Any]) -> str:
    """Return the timeline that is served, as the names of its log have it."""
    return str(_row(outputs, _TIMELINE)[0])


def _row(outputs: Mapping[str, Any], query: str) -> tuple[Any, ...]:
    import psycopg

    try:
        with psycopg.connect(**connection(outputs, "pandom_user")) as client:
            return tuple(client.execute(query.encode()).fetchall()[0])
    except psycopg.Error as error:
        reason = error.diag.message_primary or str(error).strip()
        raise Failure(f"The database does not answer pandom_user: {reason}") from None


def is_another(place: Place) -> bool:
    """Return whether the backups are of another cluster than the one that is served."""
    try:
        place.repository.backups(system(place.outputs))
    except AnotherCluster:
        return True
    return False


def _segment(archiver: tuple[Any, ...]) -> str:
    """Return the segment of what was archived last, "" for what is none."""
    found = str(archiver[0] or "")
    return found[:24] if re.match(r"[0-9A-F]{24}", found) else ""


def _failing(archiver: tuple[Any, ...]) -> str | None:
    """Return the segment that could not be archived, while none could after it."""
    _, when, failed, failed_when = archiver
    failing = failed_when is not None and (when is None or failed_when > when)
    return str(failed) if failing else None


def checks(engine: Engine, name: str, outputs: Mapping[str, Any]) -> Iterator[Check]:
    """Yield what health says of the backups; nothing where they are not this program's."""
    kind = str(outputs.get("backup", "none"))
    if not archives(kind):
        return
    server = engine.container("postgres")
    if server is not None and server.status == "running":
        yield made("restore", lambda: _settled(engine, server, name))
    if server is None or not server.is_healthy:
        return  # which is a check of its own
    repository = Repository(name, kind, engine, server)
    listed = cache(lambda: repository.backups(system(outputs)))
    yield made("archiving", lambda: _archiving(repository, listed, outputs))
    yield made("backup", lambda: _newest(repository, listed, outputs))


def _settled(engine: Engine, server: Container, name: str) -> str:
    """Return what lies beside the served cluster, and that nothing of it was begun only."""
    found = exchange.look(engine, server)
    if lacking := found.lacking(name):
        raise Failure(lacking)
    return f"{found.what} beside"


def _archiving(
    repository: Repository, listed: Callable[[], list[Backup]], outputs: Mapping[str, Any]
) -> str:
    """Return how the server's log reaches the store, without a hole since the newest backup."""
    archiver = _archiver(outputs)
    every = listed()  # why it cannot be read is why nothing is archived
    if failed := _failing(archiver):
        why = repository.refusal() or f"Next: docker logs {repository.server.name} says why"
        raise Failure(
            f"{failed} could not be archived at {archiver[3]:%Y-%m-%d %H:%M:%S} UTC. {why}"
        )
    last, when = _segment(archiver), archiver[1]
    if missing := missing_log(repository, every[-1:], last):
        raise Failure(
            f"log is missing in the store since the newest backup: {missing[0]}. "
            f"Next: `pandom backup --stack {repository.stack}`"
        )
    return f"last {last or archiver[0]}, {_age(when)} ago" if when else "nothing to archive yet"


def _newest(
    repository: Repository, listed: Callable[[], list[Backup]], outputs: Mapping[str, Any]
) -> str:
    every = listed()
    again = f"Next: `pandom backup --stack {repository.stack}`"
    if not every:
        raise Failure(f"there is none yet. {again}")
    if every[-1].repository > 1:
        raise Failure(f"there is none with the new key yet. {again}")
    if lacking := repository.unbacked(every, _timeline(outputs)):
        raise Failure(f"what is committed now cannot be restored: {lacking}. {again}")
    days = int(outputs["backup_max_age_days"])
    if datetime.now(UTC) - every[-1].stopped > timedelta(days=days):
        raise Failure(
            f"the newest, {every[-1].label}, is {_age(every[-1].stopped)} old, more than "
            f"{days} days. {again}"
        )
    return f"{len(every)}, the newest {every[-1].label}, {_age(every[-1].stopped)} old"


def _age(moment: datetime) -> str:
    return age((datetime.now(UTC) - moment).total_seconds())


def size(count: int) -> str:
    """Return a number of bytes for people."""
    size = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
