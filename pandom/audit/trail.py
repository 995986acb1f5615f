"""Verifies the hash chain of audit_logs and security_logs.

``seal_trail()`` chains blocks of rows in the database; this reads rows and blocks as pandom_auditor
in one snapshot and computes everything again. A chain alone does not show that somebody with all
rights rewrote all of it, or restored an old backup: so its heads are kept elsewhere (``anchors``)
and compared. After a restore of an older backup, the heads kept since are in no chain for good;
whoever answers for it accepts them (schema/accepted.toml). Rows of the last minutes are not sealed,
and so not proven, yet; the report counts them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, Final, LiteralString

import psycopg
from psycopg.rows import dict_row

from pandom.audit import accepted
from pandom.audit.accepted import Acceptance
from pandom.audit.anchors import Anchor, Head, Kept
from pandom.audit.archive import Archive, Key
from pandom.database.catalog_query import query
from pandom.database.drift.catalog import reading
from pandom.runtime.errors import DONE, DRIFT, FAILED

LOGS: Final[tuple[LiteralString, ...]] = ("audit_logs", "security_logs")

# At most so many rows are named in one problem.
_NAMED: Final = 10
_MARK: Final = 16
_ID: Final = 8
_OLDER: Final = "older than its anchor"
_REWRITTEN: Final = "chain rewritten"
# So many bytes of an archive go to the server at once.
_CHUNK_BYTES: Final = 4 * 1024 * 1024
# Sealing happens every few minutes; beyond this someone should look.
_WAITING_S: Final = 3600


@dataclass(frozen=True)
class Problem:
    """Evidence that the trail was tampered with. ``kind`` is a stable word.

    ``about`` is what stays the same while the chain grows, where the text does not.
    """

    kind: str
    log: str
    text: str
    about: str = ""

    @property
    def id(self) -> str:
        """What an acceptance names. Truncation and rewriting share one id: one becomes the
        other as the chain grows."""
        kind = "kept heads" if self.kind in (_OLDER, _REWRITTEN) else self.kind
        return f"{accepted.TRAIL}{kind}:{self.log}"

    @property
    def actual(self) -> str:
        """What exactly is accepted."""
        return self.about or self.text

    def as_json(self) -> dict[str, str]:
        """For machines."""
        return {key: getattr(self, key) for key in ("id", "kind", "log", "text", "actual")}


@dataclass(frozen=True)
class Verdict:
    """What was verified, and what was found."""

    heads: tuple[Head, ...]
    problems: tuple[Problem, ...]
    rows: int
    blocks: int
    waiting: Mapping[str, int] = field(default_factory=dict)
    archived: Mapping[str, int] = field(default_factory=dict)
    late: tuple[str, ...] = ()
    anchors: int = 0
    accepted: tuple[tuple[Problem, Acceptance], ...] = ()

    def accepting(self, given: Sequence[Acceptance], today: date | None = None) -> Verdict:
        """Return the verdict without what somebody answers for until a date."""
        kept, excused, _ = accepted.divide(self.problems, given, today or datetime.now(UTC).date())
        return replace(self, problems=tuple(kept), accepted=tuple(excused))

    def as_json(self) -> dict[str, Any]:
        """For machines; what the auditor's container keeps, too."""
        return {
            **asdict(self),
            "problems": [problem.as_json() for problem in self.problems],
            "accepted": [one.as_json() | given.terms() for one, given in self.accepted],
            "exit_code": self.exit_code,
        }

    @property
    def exit_code(self) -> int:
        """2 touched, 1 could not tell, 0 intact."""
        if self.problems:
            return DRIFT
        return FAILED if self.late else DONE


def heads(connection: psycopg.Connection, kept: Kept) -> Verdict:
    """Verify the chains and compare them with heads kept elsewhere; quick however long the trail.

    The scheduled audit verifies the rows.
    """
    with (
        reading(connection, "The heads of the trail"),
        connection.cursor(row_factory=dict_row) as cursor,
    ):
        cursor.execute("set local timezone = 'UTC'")
        cursor.execute("set local client_encoding = 'UTF8'")
        problems = [*_tampered(kept)]
        blocks = 0
        for log in LOGS:
            chain = _ask(cursor, "trail_blocks", log)
            blocks += len(chain)
            problems += _links(log, chain)
            problems += _against(
                log, chain, [anchor for anchor in kept.anchors if anchor.log == log]
            )
        return Verdict((), tuple(problems), 0, blocks, anchors=len(kept.anchors))


def verify(
    connection: psycopg.Connection, kept: Kept | None = None, archive: Archive | None = None
) -> Verdict:
    """Verify both chains against their rows, and against heads kept elsewhere.

    Months that retention dropped are verified from ``archive``, if it has them.
    Raises Failure when the login may not read the trail or there is no chain.
    """
    with (
        reading(connection, "The trail"),
        connection.cursor(row_factory=dict_row) as cursor,
    ):
        # The same settings as the sealer's: months are in UTC, and the binary form of a row
        # depends on the encoding. Blocks are read through the index, as they were made.
        for setting in (
            "timezone = 'UTC'",
            "client_encoding = 'UTF8'",
            "statement_timeout = 0",
            "enable_seqscan = off",
            "enable_sort = off",
            "jit = off",
        ):
            cursor.execute(f"set local {setting}")
        return _verify(cursor, kept or Kept(), archive)


def _verify(cursor: psycopg.Cursor[dict[str, Any]], kept: Kept, archive: Archive | None) -> Verdict:
    problems: list[Problem] = list(_tampered(kept))
    heads: list[Head] = []
    waiting, archived = {}, {}
    late: list[str] = []
    rows = blocks = 0
    database = cursor.execute("select current_database()::text as name").fetchall()[0]["name"]
    for log in LOGS:
        chain = _ask(cursor, "trail_blocks", log)
        problems += _links(log, chain)
        gone = _gone(cursor, log, chain)
        for month in gone:
            blocks_of_month = [block for block in chain if block["month"] == month]
            exports = archive.versions(log, month) if archive else ()
            # One correct export is proof, even if later versions differ.
            tried: list[list[Problem]] = [
                list(_archived(cursor, log, blocks_of_month, lines)) for lines in exports
            ]
            if tried:
                gone[month] = True
                best = min(tried, key=len)
                problems += best
        problems += _months(log, gone)
        dropped = {month for month, known in gone.items() if known}
        standing = [block for block in chain if block["month"] not in gone]
        problems += _rows(cursor, log, gone)
        counts = _ask(cursor, "trail_counts", log)[0]
        sealed = sum(block["row_count"] for block in standing)
        problems += _strays(log, counts["within"], sealed, problems)
        waiting[log] = counts["waiting"]
        if counts["waiting"] and counts["waiting_s"] > _WAITING_S:
            late.append(
                f"{log}: {counts['waiting']} rows wait to be sealed, the oldest for "
                f"{counts['waiting_s'] / 3600:.0f} h; look for a long transaction or a stopped "
                "task `seal`"
            )
        archived[log] = sum(block["row_count"] for block in chain if block["month"] in dropped)
        rows, blocks = rows + sealed, blocks + len(chain)
        if chain:
            heads.append(
                Head(
                    database=database,
                    log=log,
                    number=chain[-1]["number"],
                    hash=chain[-1]["hash"],
                    rows=sum(block["row_count"] for block in chain),
                    sealed_at=chain[-1]["sealed_at"].isoformat(),
                )
            )
        problems += _against(log, chain, [anchor for anchor in kept.anchors if anchor.log == log])
    return Verdict(
        tuple(heads),
        tuple(problems),
        rows,
        blocks,
        waiting,
        archived,
        tuple(late),
        len(kept.anchors),
    )


def _ask(
    cursor: psycopg.Cursor[dict[str, Any]], name: str, log: LiteralString, **more: object
) -> list[dict[str, Any]]:
    return cursor.execute(_text(name, log), {"log": log, **more}).fetchall()


def _text(name: str, log: LiteralString) -> LiteralString:
    return query(name).replace("{log}", log).replace("{{", "{").replace("}}", "}")


def _links(log: str, chain: Iterable[Mapping[str, Any]]) -> Iterable[Problem]:
    """Yield problems of the chain itself: missing, edited and unlinked blocks."""
    for block in chain:
        place = f"{log}, block {block['number']}"
        if not block["consecutive"]:
            yield Problem("block missing", log, f"{place}: the block before it is missing")
        elif not block["linked"]:
            yield Problem(
                "chain broken", log, f"{place}: it does not follow from the block before it"
            )
        if not block["genuine"]:
            yield Problem("block edited", log, f"{place}: its hash is not that of its columns")
        if not block["ascending"]:
            yield Problem("block order", log, f"{place}: it is not later than the block before it")


def _gone(
    cursor: psycopg.Cursor[dict[str, Any]], log: LiteralString, chain: Iterable[Mapping[str, Any]]
) -> dict[date, bool]:
    """Return sealed months without a partition; True if the trail says that one was dropped.

    Rows of a month without a partition are in the default one, so a month is gone only if it has no
    row there.
    """
    months = _ask(cursor, "trail_months", log)
    present = {date(m["year"], m["month"], 1) for m in months if m["state"] == "present"}
    dropped = {date(m["year"], m["month"], 1) for m in months if m["state"] == "dropped"}
    gone = {}
    for month in sorted({block["month"] for block in chain} - present):
        left = cursor.execute(
            f"select exists (select from public.{log} where timestamp >= %(month)s "  # noqa: S608
            "and timestamp < %(month)s + interval '1 month') as some",
            {"month": month},
        ).fetchall()[0]["some"]
        if not left:
            gone[month] = month in dropped
    return gone


def _months(log: str, gone: Mapping[date, bool]) -> Iterable[Problem]:
    for month, known in gone.items():
        if not known:
            yield Problem(
                "month missing",
                log,
                f"{log}: all rows of {month:%Y-%m} are gone, and no partition_dropped event "
                "says that retention took them",
            )


def _archived(
    cursor: psycopg.Cursor[dict[str, Any]],
    log: LiteralString,
    chain: Sequence[Mapping[str, Any]],
    lines: Mapping[Key, str],
) -> Iterable[Problem]:
    """Compare the blocks of a dropped month with its export; the server converts the lines."""
    taken = 0
    for block in chain:
        first, last = (
            (block[f"{end}_epoch"], int(block[f"{end}_tx"]), block[f"{end}_id"])
            for end in ("first", "last")
        )
        own = [lines[key] for key in sorted(lines) if first <= key <= last]
        taken += len(own)
        if len(own) != block["row_count"] or not any(
            _digest_of(cursor, log, own, whole) == block["rows_digest"] for whole in (False, True)
        ):
            place = f"{log}, block {block['number']} ({block['month']:%Y-%m})"
            yield Problem(
                "archive differs",
                log,
                f"{place}: the archive has {len(own)} rows of the {block['row_count']} "
                "that were sealed, or other ones",
            )
    if taken < len(lines):
        yield Problem(
            "archive differs",
            log,
            f"{log}: {len(lines) - taken} rows of the archive are in no block",
        )


def _digest_of(
    cursor: psycopg.Cursor[dict[str, Any]], log: LiteralString, lines: Sequence[str], whole: bool
) -> bytes:
    """Return the SHA-256 over exported lines, which the server converts in chunks."""
    digest, start = hashlib.sha256(), 0
    while start < len(lines):
        end, size = start, 0
        while end < len(lines) and (end == start or size + len(lines[end]) <= _CHUNK_BYTES):
            size += len(lines[end])
            end += 1
        for row in _ask(cursor, "trail_archive", log, lines=list(lines[start:end]), whole=whole):
            digest.update(row["form"])
        start = end
    return digest.digest()


def _sealed_whole(
    cursor: psycopg.Cursor[dict[str, Any]], log: LiteralString, block: Mapping[str, Any]
) -> bool:
    """Return whether a block from before revision 0007, with large rows whole, matches."""
    digest = hashlib.sha256()
    with cursor.connection.cursor(row_factory=dict_row) as rows:
        for row in rows.stream(_text("trail_forms", log), {"log": log, "number": block["number"]}):
            digest.update(row["form"])
    return bool(digest.digest() == block["rows_digest"])


def _rows(
    cursor: psycopg.Cursor[dict[str, Any]], log: LiteralString, gone: Mapping[date, bool]
) -> Iterable[Problem]:
    """Yield the blocks whose rows are not those that were sealed."""
    for block in _ask(cursor, "trail_rows", log):
        if block["month"] in gone:
            continue
        if block["found"] == block["row_count"] and _sealed_whole(cursor, log, block):
            continue
        marks = _ask(cursor, "trail_marks", log, number=block["number"])[0]
        yield _named(log, block, _marks(marks["sealed"]), _marks(marks["found"]))


def _marks(text: bytes) -> dict[int, bytes]:
    pieces = (text[start : start + _MARK] for start in range(0, len(text), _MARK))
    return {int.from_bytes(mark[:_ID], "big", signed=True): mark[_ID:] for mark in pieces}


def _named(
    log: str, block: Mapping[str, Any], sealed: Mapping[int, bytes], found: Mapping[int, bytes]
) -> Problem:
    """Return what happened to the rows of a block, as far as their marks tell."""
    place = f"{log}, block {block['number']} ({block['month']:%Y-%m})"
    deleted = sorted(sealed.keys() - found.keys())
    added = sorted(found.keys() - sealed.keys())
    edited = sorted(key for key in sealed.keys() & found.keys() if sealed[key] != found[key])
    kind = "row edited"
    if deleted and not added:
        kind = "row deleted"
    elif added and not deleted:
        kind = "row inserted"
    elif deleted and added:
        kind = "row replaced"
    parts = [
        f"{len(ids)} {word} (id {_ids(ids)})"
        for word, ids in (("deleted", deleted), ("inserted", added), ("edited", edited))
        if ids
    ]
    return Problem(kind, log, f"{place}: {', '.join(parts) or 'its rows are not those sealed'}")


def _ids(ids: Sequence[int]) -> str:
    text = ", ".join(map(str, ids[:_NAMED]))
    return text + (", …" if len(ids) > _NAMED else "")


def _strays(log: str, within: int, sealed: int, known: Iterable[Problem]) -> Iterable[Problem]:
    """Yield a problem for rows older than the head of the chain that are in no block."""
    excess = within - sealed
    if excess > 0 and not any(one.log == log and one.kind.startswith("row") for one in known):
        yield Problem(
            "row inserted",
            log,
            f"{log}: {excess} rows are older than the head of the chain, and no block has them",
        )


def _tampered(kept: Kept) -> Iterable[Problem]:
    """Yield anchors that were deleted or overwritten; older versions are still compared."""
    for kind, names in (
        ("anchor deleted", kept.deleted),
        ("anchor written over", kept.written_over),
    ):
        for name in names:
            yield Problem(kind, name.split("/")[-2], f"{name}: {kind}; its versions are kept")


def _against(
    log: str, chain: Sequence[Mapping[str, Any]], anchors: Iterable[Anchor]
) -> Iterable[Problem]:
    """Compare the chain with heads kept elsewhere; report lost ones as one problem."""
    hashes = {block["number"]: block["hash"] for block in chain}
    lost = sorted(
        {
            anchor.place: anchor for anchor in anchors if hashes.get(anchor.number) != anchor.hash
        }.values(),
        key=lambda one: (one.number, one.hash),
    )
    if not lost:
        return
    first, last = lost[0], lost[-1]
    end = max(hashes, default=0)
    marks = "".join(f"{anchor.number} {anchor.hash}\n" for anchor in lost)
    heads = "1 kept head" if len(lost) == 1 else f"{len(lost)} kept heads"
    about = (
        f"{heads}, blocks {first.number} to {last.number}, "
        f"{hashlib.sha256(marks.encode()).hexdigest()[:_MARK]}"
    )
    what = f"{log}: {about}: not in the chain; the last is of {last.sealed_at}"
    if last.number > end:
        yield Problem(
            _OLDER,
            log,
            f"{what}. The chain ends at {end}: its tail was cut, or an old backup put back",
            about,
        )
    else:
        yield Problem(
            _REWRITTEN,
            log,
            f"{what}. The chain ends at {end}: the history from block {first.number} or before "
            "was written anew, or an old backup put back",
            about,
        )
