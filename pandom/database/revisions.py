"""The folder of revisions, checked before anything runs, and what a database has of it.

Alembic imports every ``.py`` and notices a missing file or duplicate number in the middle of a run;
here every mistake is named first. A column beside Alembic's own keeps the digest of each applied
text: a draft that was applied and then edited is another text under the same number.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import re
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from pandom.database import frozen
from pandom.runtime.errors import UsageError
from pandom.runtime.paths import ROOT

FOLDER: Final = ROOT / "migrations"
_NAME: Final = re.compile(r"([0-9]{4})_([a-z0-9]+(?:_[a-z0-9]+)*)\.py")
_NUMBER: Final = re.compile(r"[0-9]{4}")
# Names of a revision's header; anything else at its top level is part of its text.
_HEADER: Final = frozenset({"revision", "down_revision", "branch_labels", "depends_on"})
_SHOWN: Final = 12  # characters of a digest, as people compare them
_COMMENT: Final = (
    "The digest of each applied revision's text, by its number: whether a database was given "
    "another text than the checkout has."
)


@dataclass(frozen=True)
class Revision:
    """One revision: its number, what it is for, and the digest of all that it runs."""

    number: str
    purpose: str
    digest: str

    @property
    def named(self) -> str:
        """Number and purpose, for a sentence that goes on."""
        return f"{self.number} {self.purpose.rstrip('.')}"


@dataclass(frozen=True)
class Applied:
    """What a database says of itself; no revision at all is an empty one."""

    reached: str | None = None
    texts: Mapping[str, str] = field(default_factory=dict)


# -- the folder -------------------------------------------------------------------------


def every(folder: Path | None = None, *, run: bool = True) -> tuple[Revision, ...]:
    """Return the revisions in order, after checking the whole folder.

    Without ``run`` they are not imported, which would import all of Alembic. Raises UsageError that
    names each file with a mistake.
    """
    folder = folder or FOLDER
    mistakes: list[str] = []
    files = _files(folder, mistakes)
    trees = {number: tree for number, path in files if (tree := _parsed(path, mistakes))}
    for number, path in files:
        if number in trees:
            _header(path, number, trees[number], mistakes)
            _sql(folder, path, number, trees[number], mistakes)
    _folders(folder, {number for number, _ in files}, mistakes)
    _released(folder, {number for number, _ in files}, mistakes)
    if run and not mistakes:
        for number, path in files:
            _loaded(number, path, mistakes)
    if mistakes:
        raise UsageError(
            "The folder migrations cannot be used; nothing was touched:\n  "
            + "\n  ".join(mistakes)
            + "\nNext: mend these files, then run this again."
        )
    return tuple(
        Revision(number, _purpose(trees[number]), _digest(folder, path, number, trees[number]))
        for number, path in files
    )


def _files(folder: Path, mistakes: list[str]) -> list[tuple[str, Path]]:
    """Return the revision files by number; report stray, duplicate and missing ones."""
    found: list[tuple[str, Path]] = []
    versions = folder / "versions"
    for path in sorted(versions.iterdir()) if versions.is_dir() else ():
        matched = _NAME.fullmatch(path.name)
        if matched and path.is_file():
            found.append((matched[1], path))
        elif path.name != "__pycache__" and not (
            path.name.startswith(".") and path.suffix != ".py"
        ):
            # Alembic would import any .py; an editor's hidden files do no harm.
            mistakes.append(
                f"versions/{path.name}: expected NNNN_slug.py (0007_add_phone.py); "
                "rename it, or move it away"
            )
    if not found and not mistakes:
        mistakes.append("versions: holds no revision; is the checkout complete?")
    numbers = [number for number, _ in found]
    for number in sorted({number for number in numbers if numbers.count(number) > 1}):
        names = ", ".join(path.name for one, path in found if one == number)
        mistakes.append(f"versions: number {number} is there twice ({names}); renumber one")
    for place, number in enumerate(sorted(set(numbers)), 1):
        if number != f"{place:04}":
            mistakes.append(
                f"versions: {place:04} is missing, {number} comes next; "
                "numbers begin with 0001 and leave none out"
            )
            break
    return found


def _parsed(path: Path, mistakes: list[str]) -> ast.Module | None:
    try:
        text = path.read_bytes()
        compile(text, path.name, "exec")
        return ast.parse(text)
    except OSError as error:
        mistakes.append(f"versions/{path.name}: cannot be read: {error.strerror}")
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        what = getattr(error, "msg", None) or str(error)
        mistakes.append(f"versions/{path.name}{f', line {line}' if line else ''}: {what}")
    return None


def _header(path: Path, number: str, tree: ast.Module, mistakes: list[str]) -> None:
    """Check that the revision's header agrees with the file's name and its predecessor."""
    said: dict[str, Any] = {}
    for node in tree.body:
        for name in _assigned(node):
            value = getattr(node, "value", None)
            said[name] = value.value if isinstance(value, ast.Constant) else _Unclear
    wanted = {"revision": number, "down_revision": f"{int(number) - 1:04}"}
    if number == "0001":
        wanted["down_revision"] = None  # type: ignore[assignment]
    for name, value in wanted.items():
        if name not in said or said[name] != value:
            found = "nothing" if name not in said else _shown(said[name])
            mistakes.append(
                f"versions/{path.name}: {name} must be {value!r} by the file's name, found {found}"
            )
    for name in ("branch_labels", "depends_on"):
        if said.get(name) is not None:
            mistakes.append(f"versions/{path.name}: {name} must be None: there is one line only")
    functions = {node.name: node.args for node in tree.body if isinstance(node, ast.FunctionDef)}
    for name in ("upgrade", "downgrade"):
        if name not in functions:
            mistakes.append(f"versions/{path.name}: has no function {name}()")
        elif ast.unparse(functions[name]):
            mistakes.append(f"versions/{path.name}: {name}() takes no arguments")


class _Unclear:
    """Stands for a value that is no plain text."""


def _shown(value: object) -> str:
    return "what is no plain text" if value is _Unclear else repr(value)


def _assigned(node: ast.stmt) -> list[str]:
    targets: Sequence[ast.expr] = ()
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return [
        target.id for target in targets if isinstance(target, ast.Name) and target.id in _HEADER
    ]


def _sql(folder: Path, path: Path, number: str, tree: ast.Module, mistakes: list[str]) -> None:
    """Check that the frozen text is complete, and that no file beside it is unused."""
    place = folder / "sql" / number
    if not place.is_dir():
        mistakes.append(f"sql/{number}: is missing, the text that versions/{path.name} runs")
        return
    wanted, complete = _run(tree)
    there = {path.name for path in place.iterdir() if not path.name.startswith(".")}
    for name in sorted({f"{name}.sql" for name in wanted} - there):
        mistakes.append(f"sql/{number}/{name}: is missing; versions/{path.name} runs it")
    for name in sorted(there):
        if not name.endswith(".sql"):
            mistakes.append(f"sql/{number}/{name}: expected NAME.sql; move it away")
        elif complete and name.removesuffix(".sql") not in wanted:
            mistakes.append(
                f"sql/{number}/{name}: versions/{path.name} does not run it; "
                "name it there, or move it away"
            )
        else:
            mistakes += [
                f"sql/{number}/{name}: {said} ends the revision's transaction; leave it out"
                for said in _ends_transaction((place / name).read_bytes().decode(errors="replace"))
            ]


# Not statements: comments, strings, quoted names, dollar-quoted bodies.
_NO_STATEMENT: Final = re.compile(
    r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"[^\"]*\"|(\$\w*\$).*?\1"
    r"|\bbegin\s+atomic\b.*?\bend\b\s*;",
    re.DOTALL | re.IGNORECASE,
)
_ENDS: Final = re.compile(
    r"(?:commit|abort|end|rollback(?!\s+(?:work\s+|transaction\s+)?to\b)|prepare\s+transaction)\b",
    re.IGNORECASE,
)


def _ends_transaction(text: str) -> list[str]:
    """Return statements that would end the revision's transaction halfway."""
    statements = (one.strip() for one in _NO_STATEMENT.sub(" ", text).split(";"))
    return [
        " ".join(found[0].upper().split())
        for statement in statements
        if (found := _ENDS.match(statement))
    ]


def _run(tree: ast.AST) -> tuple[dict[str, None], bool]:
    """Return the SQL files that a revision runs, and whether all are named literally."""
    names: dict[str, None] = {}  # in their order
    complete = True
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)):
            continue
        function = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        if function not in ("run", "build_index"):
            continue
        arguments = node.args[1:2] if function == "build_index" else node.args[1:]
        for one in arguments:
            if isinstance(one, ast.Constant) and isinstance(one.value, str):
                names[one.value] = None
            else:
                complete = False
        complete = complete and not node.keywords
    return names, complete


def frozen_files(folder: Path | None = None) -> list[Path]:
    """Return the files that the revisions run on their way up, in their order."""
    folder = folder or FOLDER
    found = []
    for number, path in _files(folder, []):
        tree = ast.parse(path.read_bytes())
        upgrade = next(one for one in tree.body if getattr(one, "name", "") == "upgrade")
        found += [folder / "sql" / number / f"{name}.sql" for name in _run(upgrade)[0]]
    return found


def _folders(folder: Path, numbers: set[str], mistakes: list[str]) -> None:
    place = folder / "sql"
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        if path.name not in numbers and not path.name.startswith("."):
            what = (
                "no revision has this number" if _NUMBER.fullmatch(path.name) else "expected NNNN"
            )
            mistakes.append(f"sql/{path.name}: {what}; move it away")


def released(folder: Path) -> dict[str, str]:
    """Return the digests of the released revisions' frozen text, by number."""
    try:
        text = (folder / "released.txt").read_text()
    except FileNotFoundError:
        return {}
    lines = [line.split() for line in text.splitlines() if line.strip() and line[0] != "#"]
    return {line[0]: line[1] if len(line) == 2 else "" for line in lines}


def _released(folder: Path, numbers: set[str], mistakes: list[str]) -> None:
    for number, digest in released(folder).items():
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            mistakes.append(f"released.txt: {number}: expected a number and a SHA-256 digest")
        elif number not in numbers:
            mistakes.append(f"released.txt: {number} was released, and versions has no such file")
        elif frozen.digest(number, folder / "sql") != digest:
            mistakes.append(
                f"sql/{number}: is another text than was released; "
                f"`git checkout` it, and write another revision"
            )


def _loaded(number: str, path: Path, mistakes: list[str]) -> None:
    """Import the file, which shows wrong imports and names that do not exist."""
    spec = importlib.util.spec_from_file_location(f"pandom_revision_{number}", path)
    if spec is None or spec.loader is None:
        return
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the file may do anything
        mistakes.append(f"versions/{path.name}{line_in(error, path)}: {described(error)}")


def line_in(error: BaseException, path: Path) -> str:
    """``, line N`` for the last line of the file that an error came through."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename) == path
    ]
    return f", line {lines[-1]}" if lines else ""


def described(error: BaseException) -> str:
    """Return an error of a revision's own code in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _purpose(tree: ast.Module) -> str:
    """Return the docstring's first line."""
    return (ast.get_docstring(tree) or "").strip().partition("\n")[0]


def _digest(folder: Path, path: Path, number: str, tree: ast.Module) -> str:
    """Return the SHA-256 over a revision's frozen text and code, without docstring and imports."""
    text = path.read_text()
    kept = [
        ast.get_source_segment(text, node) or ""
        for node in tree.body
        if not isinstance(node, ast.Import | ast.ImportFrom)
        and not _assigned(node)
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]
    code = "".join("".join(kept).split())
    return hashlib.sha256(f"{frozen.digest(number, folder / 'sql')} {code}".encode()).hexdigest()


# -- the database -----------------------------------------------------------------------


def read(connection: psycopg.Connection) -> Applied:
    """Return what a database holds; the caller may read as pandom_owner.

    Raises: UsageError when it says that it is at two revisions at once.
    """
    row = connection.execute(
        "select to_regclass('public.alembic_version') is not null, exists ("
        "select from pg_catalog.pg_attribute where attname = 'texts' and not attisdropped "
        "and attrelid = to_regclass('public.alembic_version'))"
    ).fetchone()
    if row is None or not row[0]:
        return Applied()
    rows = (
        connection.execute("select version_num, texts from public.alembic_version")
        if row[1]
        else connection.execute("select version_num, '{}'::jsonb from public.alembic_version")
    ).fetchall()
    if len(rows) > 1:
        numbers = ", ".join(sorted(str(one[0]) for one in rows))
        raise UsageError(
            f"The database says that it is at several revisions at once: {numbers}.\n"
            "Next: delete the rows that are wrong from public.alembic_version (as pandom_owner)."
        )
    if not rows:
        return Applied()
    # The column may hold anything.
    texts = rows[0][1] if isinstance(rows[0][1], dict) else {}
    return Applied(str(rows[0][0]), {key: str(text) for key, text in texts.items()})


def keep(
    connection: psycopg.Connection, there: Iterable[Revision], last: str | None = None
) -> None:
    """Note the digests of applied revisions; ``last`` was applied just now.

    A revision without a note gets the checkout's digest. Runs as pandom_owner in the caller's
    transaction.
    """
    found = read(connection)
    if found.reached is None:
        return
    held = {
        revision.number: revision.digest for revision in there if revision.number <= found.reached
    }
    texts = {**held, **{key: text for key, text in found.texts.items() if key in held}}
    if last in held:
        texts[last] = held[last]
    if texts == found.texts:
        return
    add_column(connection)
    connection.execute(
        "update public.alembic_version set texts = %s::jsonb", (json.dumps(texts, sort_keys=True),)
    )


def add_column(connection: psycopg.Connection) -> None:
    """Add the column of digests to Alembic's table, as pandom_owner, before a runner locks it."""
    if connection.execute(
        "select from pg_catalog.pg_attribute where attname = 'texts' and not attisdropped "
        "and attrelid = 'public.alembic_version'::regclass"
    ).fetchall():
        return
    connection.execute(
        "alter table public.alembic_version "
        "add column if not exists texts jsonb not null default '{}'"
    )
    connection.execute(
        sql.SQL("comment on column public.alembic_version.texts is {}").format(
            sql.Literal(_COMMENT)
        )
    )


def refuse_unknown(there: Sequence[Revision], applied: Applied) -> None:
    """Raise UsageError for a database that is ahead of this checkout."""
    if applied.reached is None or applied.reached in {revision.number for revision in there}:
        return
    raise UsageError(
        f"The database is at revision {applied.reached}, which this checkout does not have: its "
        f"newest is {there[-1].number}. Nothing was touched.\n"
        f"Next: check out the commit that has migrations/versions/{applied.reached}_*.py; or take "
        f"it back, with the text\nthat the running stack was brought up with: "
        f"`pandom migrate revert {there[-1].number}`."
    )


def changed(there: Sequence[Revision], applied: Applied) -> list[Revision]:
    """Return the applied revisions whose text is another one here."""
    return [
        revision
        for revision in there
        if applied.texts.get(revision.number, revision.digest) != revision.digest
    ]


def refuse_changed(there: Sequence[Revision], applied: Applied) -> None:
    """Raise UsageError for a database that was given another text under the same number."""
    found = changed(there, applied)
    if not found:
        return
    lines = [
        f"  {revision.number} was applied with other text (applied "
        f"{applied.texts[revision.number][:_SHOWN]}, now {revision.digest[:_SHOWN]})"
        for revision in found
    ]
    first = found[0].number
    before = f"{int(first) - 1:04}" if first > "0001" else "base"
    target = "" if first == applied.reached else f" {before}"
    raise UsageError(
        "Revisions were changed after this database was given them; nothing was touched:\n"
        + "\n".join(lines)
        + f"\nNext: `pandom migrate revert{target}`, then `pandom up`; or put their text back."
    )


def pending(there: Sequence[Revision], applied: Applied) -> list[Revision]:
    """Return what the database was not given yet; the caller has refused what is unknown."""
    return [
        revision
        for revision in there
        if applied.reached is None or revision.number > applied.reached
    ]


def history(there: Sequence[Revision], applied: Applied) -> list[str]:
    """Return a line for each revision, newest first: [x] applied, [ ] not, [!] with other text."""
    waiting = {revision.number for revision in pending(there, applied)}
    other = {revision.number for revision in changed(there, applied)}
    lines = []
    if applied.reached is not None and applied.reached not in {
        revision.number for revision in there
    }:
        lines.append(f"[?] {applied.reached} is applied, and not in this checkout")
        waiting = {revision.number for revision in there if revision.number > applied.reached}
    for revision in reversed(there):
        mark, said = "x", ""
        if revision.number in waiting:
            mark = " "
        elif revision.number in other:
            mark, said = "!", " (applied with other text)"
        lines.append(f"[{mark}] {revision.number} {revision.purpose}{said}")
    return lines


def same_checkout(there: Sequence[Revision], wanted: str) -> None:
    """Raise UsageError when another copy of the folder holds other revisions.

    ``wanted`` is ``fingerprint()`` of the checkout from which a job was started.
    """
    checkout = dict(entry.split(":") for entry in wanted.split(",") if entry)
    here = {revision.number: revision.digest[:_SHOWN] for revision in there}
    other = sorted(
        number
        for number in checkout.keys() | here.keys()
        if checkout.get(number) != here.get(number)
    )
    if other:
        raise UsageError(
            f"The running stack was brought up with other revisions than this checkout has: "
            f"{', '.join(other)}.\nNext: `pandom up`, which builds the "
            "job's image and applies them."
        )


def fingerprint(there: Sequence[Revision]) -> str:
    """Return number and digest of each revision, short enough for a command line."""
    return ",".join(f"{revision.number}:{revision.digest[:_SHOWN]}" for revision in there)
