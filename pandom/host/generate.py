"""`pandom migrate generate`: the next revision, from what is declared and the database has not.

Tables and what is generated for them come from the models, the rest from schema/sql.
`pandom migrate freeze` updates a revision that was not released. A person reads the result,
because a comparison cannot tell a rename from a drop.
"""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from alembic import command

from pandom.database import declaration, migrate, revisions
from pandom.database.revisions import Revision
from pandom.host import difference, lock, objects, superuser
from pandom.host.access import outputs_of
from pandom.host.difference import NOT_COMPARED, Draft
from pandom.host.health import connection
from pandom.host.objects import Objects, refresh
from pandom.host.pulumi_cli import Pulumi
from pandom.host.revisions import of_outputs, refuse
from pandom.host.stack import Stack
from pandom.runtime import paths
from pandom.runtime.errors import Failure, UsageError
from pandom.runtime.progress import say
from schema.models import Base
from toolchain import environment

_OWNER: Final = "set local role pandom_owner;"


def generate(name: str, message: str, empty: bool) -> None:
    """Write the next revision; with ``empty`` without a comparison.

    Raises UsageError when there is nothing to write, for an unusable message, and when the database
    is not at the newest revision.
    """
    slug = re.sub(r"[^a-z0-9]+", "_", message.lower()).strip("_")
    # The message becomes a file name, a docstring and an SQL comment.
    if not slug or '"""' in message or "\\" in message or not message.isprintable():
        raise UsageError(f"{message!r}: expected a few words, such as 'add phone number'.")
    there = revisions.every()
    declaration.check()
    outputs = None if empty else _at_the_newest(Stack(name), there)
    draft, others = Draft("", "", ()), Objects()
    if outputs is not None:
        draft, others = _difference(Stack(name), outputs)
    notes = "".join(f"\n  {item}" for item in (*draft.notes, *others.notes))
    if not (draft.up or others.up or empty):
        raise UsageError(
            f"What is declared and the database agree; there is nothing to generate.{notes}\n"
            f"Not compared: {NOT_COMPARED}.\n"
            "Next: change schema/models.py or schema/sql first, or say --empty for a change of "
            "data or of what is not compared."
        )
    number = f"{int(there[-1].number) + 1:04}"
    folder = paths.ROOT / "migrations" / "sql" / number
    folder.mkdir(parents=True)
    up = dict(others.up)
    if draft.up or empty:
        up = {"up": f"-- {message}.\n{_OWNER}\n\n{draft.up}", **up}
    back = f"-- Takes back: {message}.\n{others.dropped}{_OWNER}\n\n{draft.down}"
    down = {**others.restored, "down": back, **others.with_tables}
    for part, text in (up | down).items():
        # The formatter breaks other long lines by itself.
        broken = re.sub(r"(?im)^(?=.{101})(comment on .+? is) (?=')", r"\1\n", text)
        (folder / f"{part}.sql").write_text(broken)
    complaints = _formatted(folder)
    with contextlib.redirect_stdout(io.StringIO()):  # Alembic reports there
        script = command.revision(migrate.configuration(), message, rev_id=number)
    # Alembic allows letters in the name that the folder's check refuses.
    written = Path(str(getattr(script, "path", "")))
    revision = written.rename(written.with_name(f"{number}_{slug[:40].strip('_')}.py"))
    text = revision.read_text()
    for direction, parts in (("up", up), ("down", down)):
        text = text.replace(f'run(revision, "{direction}")', _call(parts))
    revision.write_text(text)
    _tool("ruff", "format", "--quiet", str(revision))
    for path in [*sorted(folder.iterdir()), revision]:
        print(path.relative_to(paths.ROOT))
    if not empty:
        say(f"Not compared: {NOT_COMPARED}.{notes}")
    say("Left to do:\n" + "\n".join(f"  [ ] {item}" for item in _left(name, revision, complaints)))


def freeze(number: str | None) -> None:
    """Bring the newest revision's files in line with what is declared.

    Raises UsageError for a revision that is not the newest, or was released.
    """
    there = revisions.every()
    declaration.check()
    newest = there[-1].number
    if number not in (None, newest):
        raise UsageError(
            f"Only the newest revision can be frozen anew: {newest}. What older ones made was\n"
            "made on top of them. Next: `pandom migrate generate` writes another revision."
        )
    if newest in revisions.released(migrate.FOLDER):
        raise UsageError(
            f"Revision {newest} was released; its text never changes.\n"
            "Next: `pandom migrate generate` writes another revision."
        )
    changed = refresh(paths.ROOT / "migrations" / "sql" / newest)
    for path in changed:
        print(path.relative_to(paths.ROOT))
    if not changed:
        say(f"Revision {newest} has the declared text already.")
        return
    say(
        f"Revision {newest} is another text now. A database that was given it before:\n"
        "`pandom migrate revert`, then `pandom up`."
    )


def _call(parts: Mapping[str, str]) -> str:
    """Return the line of a revision that runs its files, as the formatter writes it."""
    names = [f'"{name}"' for name in parts]
    line = f"run(revision, {', '.join(names)})"
    if len(line) <= 96:
        return line
    return "run(\n        revision,\n" + "".join(f"        {name},\n" for name in names) + "    )"


def _formatted(folder: Path) -> str:
    """Format the files as the lint step wants them; returns what it still has to say."""
    files = [str(path.relative_to(paths.ROOT)) for path in sorted(folder.glob("*.sql"))]
    _tool("sqruff", "fix", "--quiet", *files)
    return _tool("sqruff", "lint", "--quiet", *files) + _tool("squawk", "--reporter=gcc", *files)


def _tool(*command: str) -> str:
    """Run one of the linters; return its output if it fails."""
    tool = Path(sys.executable).with_name(command[0])
    done = subprocess.run(
        [tool, *command[1:]], cwd=paths.ROOT, check=False, capture_output=True, text=True
    )
    return done.stdout + done.stderr if done.returncode else ""


def _left(stack: str, revision: Path, complaints: str) -> Iterator[str]:
    place = revision.relative_to(paths.ROOT)
    yield f"{place}: the docstring: which locks and for how long, why it is compatible, rollback"
    yield "read the SQL: a renamed column is a drop and an add; rows that exist need a value"
    if complaints:
        yield "what the lint step says:\n      " + "\n      ".join(complaints.splitlines())
    yield f"`.venv/bin/pandom audit record --stack {stack}`, `make docs`, `make lint`"
    yield f"`.venv/bin/pandom up --stack {stack}`, `.venv/bin/pandom audit --stack {stack}`"


def _at_the_newest(stack: Stack, there: tuple[Revision, ...]) -> Mapping[str, Any]:
    """Return the stack's outputs; raises UsageError when its database is at another revision."""
    outputs = outputs_of(stack)
    applied = of_outputs(outputs)
    refuse(there, applied)
    if waiting := revisions.pending(there, applied):
        raise UsageError(
            f"The database is at {applied.reached or 'no revision'}, the newest revision is "
            f"{there[-1].number}: a draft would repeat {', '.join(one.named for one in waiting)}.\n"
            f"Next: `.venv/bin/pandom up --stack {stack.name}` applies them (or `migrate run`, "
            "after a `migrate revert`); then this again."
        )
    return outputs


def _difference(stack: Stack, outputs: Mapping[str, Any]) -> tuple[Draft, Objects]:
    """Return the SQL that leads from the stack's database to what is declared, and back."""
    with lock.of_stack(stack):
        exported = Pulumi(stack, environment.find().variables).export(secrets=True)
        with superuser.database(exported) as server:
            if server is None:
                raise Failure("The database does not answer. Next: `.venv/bin/pandom up`")
            draft = difference.of(server, connection(outputs, "pandom_user"), Base.metadata)
            return draft, objects.of(server, f"{_OWNER}\n{draft.up}")
