"""The task `drill`: restores the newest backup beside everything else, and looks at the copy.

The served database says first where its log is, and what it holds there; the copy is replayed up to
that very place, so the two can be compared number by number. What came of it is kept where nobody
deletes it (the bucket for evidence), and noted in the trail, from which the audit knows it.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import psycopg

from pandom.audit import accepted, evidence, trail
from pandom.audit.anchors import Kept
from pandom.audit.run import run as audit
from pandom.audit.target import LOGIN, store_of_container
from pandom.backups import inside, objects, scratch
from pandom.backups.inside import say
from pandom.backups.place import place
from pandom.backups.repository import Backup, Repository
from pandom.backups.scheduled import in_steps
from pandom.backups.versions import Versions, living
from pandom.database import named, revisions
from pandom.database import settings as row_settings
from pandom.database.connect import opt_in
from pandom.database.drift import catalog
from pandom.runtime.errors import Failure, PandomError
from pandom.runtime.progress import shorten
from schema.storage import EVIDENCE

PREFIX: Final = "drill/"
_QUIET_TRIES: Final = 20  # to find a moment in which nobody writes
_QUIET_S: Final = 0.05
_NAMED: Final = 5
# What the copy's server decides, and not the backup: how one gets in, and its settings.
_OF_SERVER: Final = frozenset({"setting", "connection rule", "control"})
_DAMAGE: Final = re.compile(
    r"checksum|CryptoError|FormatError|unable to decrypt|decompress|zst|invalid page|\[(029|095)\]",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Moment:
    """A place in the served database's log, and what it holds there."""

    lsn: str
    segment: str
    snapshot: str
    system: int
    rows: Mapping[str, int]
    heads: Mapping[str, tuple[int | None, str | None]]

    @property
    def is_quiet(self) -> bool:
        """Whether nobody was writing."""
        low, high, running = self.snapshot.split(":")
        return low == high and not running


@dataclass
class Result:
    """What a drill found; ``differences`` are why it failed."""

    backup: str = ""
    lsn: str = ""
    revision: str = ""
    blocks: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    exact: bool = True
    objects: dict[str, Any] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def timed(self, what: str, since: float) -> float:
        """Note how long something took; return the time."""
        now = time.monotonic()
        self.seconds[what] = round(now - since, 1)
        return now


_HERE: Final = """
select
    pg_catalog.pg_current_wal_insert_lsn()::text,
    pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()),
    pg_catalog.pg_current_snapshot()::text,
    (select system_identifier from pg_catalog.pg_control_system())
"""


def moment(client: psycopg.Connection) -> Moment:
    """Return where the served database is, and what it holds there: of a moment in which nobody
    writes, if there is one soon."""
    tries = _QUIET_TRIES
    while True:
        tries -= 1
        with client.transaction():
            client.execute("set transaction isolation level repeatable read, read only")
            lsn, segment, snapshot, system = client.execute(_HERE).fetchall()[0]
            found = Moment(lsn, segment, snapshot, int(system), {}, {})
            if found.is_quiet or not tries:
                rows, heads = holds(client)
                return replace(found, rows=rows, heads=heads)
        time.sleep(_QUIET_S)


def holds(
    client: psycopg.Connection,
) -> tuple[dict[str, int], dict[str, tuple[int | None, str | None]]]:
    """Return how many rows each table has, and the newest block of each log."""
    rows = dict(client.execute("select table_name, row_count from public.row_counts()").fetchall())
    heads = client.execute("select log, number, hash, row_count from public.trail_heads()")
    blocks = {}
    for log, number, digest, count in heads.fetchall():
        rows[log], blocks[log] = count, (number, digest)
    return rows, blocks


def committed_between(copy: psycopg.Connection, at: str) -> list[int]:
    """Return the transactions that the copy has, and that were not over when the served database
    was counted: these few are in the one and not in the other."""
    asked = """
    select x::text::bigint
    from (
        select pg_catalog.pg_snapshot_xip(%(at)s::pg_snapshot) as x
        union all
        select g::text::xid8 from generate_series(
            pg_catalog.pg_snapshot_xmax(%(at)s::pg_snapshot)::text::bigint,
            pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint - 1
        ) as g
    ) as every
    where pg_catalog.pg_xact_status(x) = 'committed'
    """
    return [one for (one,) in copy.execute(asked, {"at": at}).fetchall()]


def compare(result: Result, source: Moment, copy: psycopg.Connection) -> None:
    """Note where the copy differs from the served database at the same place of its log."""
    between = committed_between(copy, source.snapshot)
    rows, heads = holds(copy)
    result.rows, result.exact = rows, not between
    if between:
        return  # rows may differ by theirs; the trail, which is verified, says what they did
    for name, count in source.rows.items():
        if rows.get(name) != count:
            result.differences.append(
                f"{name} has {rows.get(name, 'no')} rows, {count} in the served database"
            )
    for log, head in source.heads.items():
        if heads.get(log) != head:
            result.differences.append(
                f"the newest block of {log} is {heads.get(log)}, {head} in the served database"
            )


def look(result: Result, source: Moment, place: Any) -> None:
    """Look at the copy: revision, access, trail, counts."""
    with psycopg.connect(scratch.dsn(place)) as copy:
        compare(result, source, copy)
        copy.rollback()
        look_at_objects(result, named.objects(copy))
        there, applied = revisions.every(), revisions.read(copy)
        revisions.refuse_unknown(there, applied)
        result.revision = str(applied.reached)
        if waiting := revisions.pending(there, applied):
            result.differences.append(f"it lacks revision {waiting[0].number}")
    with catalog.connect(scratch.dsn(place, LOGIN)) as auditor:
        report = audit(auditor, opt_in(), accepted.load(), settings=row_settings.from_environment())
        wrong = [one for one in report.findings if one.kind not in _OF_SERVER]
        result.differences += [f"{one.id}: {one.title}" for one in wrong[:_NAMED]]
        chain = trail.verify(auditor, Kept())
        result.blocks = chain.blocks
        result.differences += [f"{one.kind}: {one.text}" for one in chain.problems[:_NAMED]]


def look_at_objects(result: Result, wanted: Mapping[str, str]) -> None:
    """Read back the objects that rows of the copy name, from what was copied beside the backups.

    What the bucket does not have, no backup can give: that is said, and makes no drill fail. No
    name goes into the result, whose readers may know none.
    """
    where = place(objects.KIND)
    copied = objects.read(where).versions
    there = living(copied)
    chosen = objects.sample({name: there[name] for name in wanted if name in there})
    wrong = objects.look(where, chosen)
    absent = _absent(sorted(wanted.keys() - there.keys()), copied)
    result.objects = {
        "named": len(wanted),
        "read": len(chosen),
        "chosen": "all" if len(chosen) == len(wanted.keys() & there.keys()) else "at random",
        "size": sum(one.size for one in chosen.values()),
        "missing": {cause: len(names) for cause, names in absent.items()},
        "damaged": dict(Counter(wrong.values())),
    }
    for cause, names in absent.items():
        say(f"{len(names):,} objects that rows name are not there, {cause}: {named.first(names)}")
    for cause, count in Counter(wrong.values()).items():
        say(f"{cause}: {named.first(name for name, one in wrong.items() if one == cause)}")
        result.differences.append(f"{count:,} objects that rows name cannot come back: {cause}")


def _absent(names: Sequence[str], copied: Versions) -> dict[str, list[str]]:
    """Return objects that were not copied, by why they are not there; not what came since."""
    here = objects.bucket().every() if names else {}
    found: dict[str, list[str]] = {}
    for name in names:
        if name in here and not here[name][-1].deleted:
            continue
        why = (
            "deleted"
            if name in here
            else "removed with every version"
            if name in copied
            else "never in the bucket"
        )
        found.setdefault(why, []).append(name)
    return found


def _newest(repository: Repository, system: int) -> Backup:
    every = repository.backups(system)
    if not every:
        raise Failure(
            f"There is no backup to restore.\nNext: `pandom backup --stack {repository.stack}`"
        )
    return every[-1]


def _refuse_gap(repository: Repository, newest: Backup, source: Moment) -> None:
    """Raise Failure for a hole in the log, at which a replay ends without naming it."""
    if missing := repository.holes(newest, source.segment):
        raise Failure(
            f"Log is missing in the store: {missing[0]}. What came after it cannot be restored "
            f"from {newest.label}.\nNext: find out what happened in the store; "
            f"`pandom backup --type full --stack {repository.stack}` begins anew"
        )


def _damaged(repository: Repository, newest: Backup, said: str) -> Failure:
    lines = [line for line in said.splitlines() if _DAMAGE.search(line)]
    return Failure(
        f"Backup {newest.label}, or its log, is damaged in the store: "
        f"{shorten(lines[0].strip(), 250)}\n"
        f"Next: `pandom backup --verify --stack {repository.stack}` names everything; "
        "`--type full` begins anew"
    )


def _restore(repository: Repository, newest: Backup, source: Moment, data: Any) -> None:
    said: list[str] = []
    shown = in_steps(say)

    def show(line: str) -> None:
        said.append(line)
        shown(line)

    code, out, err = repository.ask(
        (
            f"--pg1-path={data}",
            f"--set={newest.label}",
            "--archive-mode=off",
            "--type=lsn",
            f"--target={source.lsn}",
            "--target-exclusive",
            "--target-timeline=current",
            "--target-action=promote",
            "--log-level-console=detail",
            "restore",
        ),
        show,
        makes=False,
    )
    if code:
        everything = f"{out}\n{err}"
        # That the repository opens with the key was seen before.
        errors = "\n".join(one for one in everything.splitlines() if "ERROR" in one)
        if _DAMAGE.search(errors):
            raise _damaged(repository, newest, errors)
        raise repository.explained(code, everything)


def _explained(repository: Repository, newest: Backup, error: scratch.Unreached) -> PandomError:
    """Return why the copy's server did not come as far as it should."""
    # pgBackRest explains an error on lines of their own; all else of the server is no reason.
    lines = [line for line in error.log.splitlines() if not re.search(r"\b(LOG|HINT):  ", line)]
    text = "\n".join(lines) or error.log
    if _DAMAGE.search(text):
        return _damaged(repository, newest, text)
    if scratch.SHORT in text and not re.search(r"ERROR: \[", text):
        return Failure(
            f"The log in the store ends before the place that was archived; backup "
            f"{newest.label} cannot be brought up to it.\n"
            f"Next: `pandom backup --verify --stack {repository.stack}`"
        )
    return repository.explained(1, text)


def carry_out(repository: Repository, result: Result) -> None:
    """Restore and look; raises PandomError for what made that impossible."""
    began = since = time.monotonic()
    with inside.connection("drill") as client:
        source = moment(client)
    result.lsn = source.lsn
    newest = _newest(repository, source.system)
    result.backup = newest.label
    scratch.refuse_full(newest.size)
    objects.bring_up_to_date(repository, whole=False, tell=say)
    # Ends the segment, and waits until the store has it.
    repository.make("check")
    _refuse_gap(repository, newest, source)
    since = result.timed("archiving", since)
    with scratch.folder() as data:
        say(f"restoring {newest.label} up to {source.lsn}, {newest.size >> 20} MB")
        _restore(repository, newest, source, data)
        since = result.timed("restoring", since)
        try:
            with scratch.serving(data, say) as sockets:
                since = result.timed("replaying", since)
                look(result, source, sockets)
        except scratch.Unreached as error:
            raise _explained(repository, newest, error) from None
        result.timed("looking", since)
    result.timed("all", began)
    if result.differences:
        listed = "\n".join(f"  {one}" for one in result.differences)
        following = (
            "`pandom backup --verify --stack {}` names these objects, and copies them anew"
            if result.objects["damaged"]
            else "`pandom audit --stack {}` says whether the served database is"
        )
        raise Failure(
            f"Backup {newest.label} was restored, and is not as it should be:\n{listed}\n"
            f"Next: {following.format(repository.stack)}"
        )


def _keep(event: str, result: Result, began: datetime, cause: str) -> None:
    """Keep the result as evidence."""
    document = {
        "drill": event.removeprefix("drill_"),
        "cause": cause,
        "began": began.isoformat(),
        "ended": datetime.now(UTC).isoformat(),
        **asdict(result),
    }
    evidence.keep(store_of_container(EVIDENCE), PREFIX, json.dumps(document, indent=2), began)


def _note(event: str, result: Result, cause: str = "") -> None:
    details = {"backup": result.backup, "lsn": result.lsn, "cause": shorten(cause, 300)}
    inside.note(event, {key: value for key, value in details.items() if value})


def run() -> None:
    """Run the task; raises PandomError with the cause, which is kept and noted, too."""
    began, result, repository = datetime.now(UTC), Result(), inside.repository()
    try:
        carry_out(repository, result)
    except Exception as error:
        cause = str(error) or type(error).__name__
        # What went wrong first is what counts.
        with suppress(Exception):
            _note("drill_failed", result, cause)
        with suppress(Exception):
            _keep("drill_failed", result, began, cause)
        raise
    _keep("drill_passed", result, began, "")
    _note("drill_passed", result)
    counted = sum(result.rows.values())
    exact = "as the served database" if result.exact else "while others were writing"
    say(
        f"{result.backup} restored up to {result.lsn}: revision {result.revision}, "
        f"{result.blocks} blocks of the trail in order, {counted:,} rows, {exact}, "
        f"{result.objects['read']:,} of {result.objects['named']:,} named objects read back "
        f"({result.seconds['all']} s)"
    )
