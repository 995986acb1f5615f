"""`pandom migrate generate`: a draft of a revision from what models and database differ in.

The source's tool writes the migration; ours writes the SQL text that a revision
freezes, to be read and completed by a person: a comparison sees neither functions
nor policies, and takes a rename for a drop.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Final

from alembic import command

from pandom.database import migrate, revisions
from pandom.database.revisions import Revision
from pandom.host import difference, lock, superuser
from pandom.host.access import outputs_of
from pandom.host.difference import NOT_COMPARED, Draft
from pandom.host.health import connection
from pandom.host.pulumi_cli import Pulumi
from pandom.host.revisions import of_outputs, refuse
from pandom.host.stack import Stack
from pandom.runtime import paths
from pandom.runtime.errors import Failure, UserMistake
from pandom.runtime.progress import say
from schema.models import Base
from toolchain import environment

_OWNER: Final = "set local role pandom_owner;"


def generate(name: str, message: str, empty: bool) -> None:
    """Write the next revision; with ``empty`` without looking at a database.

    Raises UserMistake when there is nothing to write, when the message names no file
    and when the database is not at the newest revision.
    """
    slug = re.sub(r"[^a-z0-9]+", "_", message.lower()).strip("_")
    # It becomes a file's name, a docstring and an SQL comment.
    if not slug or '"""' in message or "\\" in message or not message.isprintable():
        raise UserMistake(f"{message!r}: expected a few words, such as 'add phone number'.")
    there = revisions.every()
    draft = Draft("", "", ()) if empty else _difference(Stack(name), there)
    notes = "".join(f"\n  {one}" for one in draft.notes)
    if not (draft.up or empty):
        raise UserMistake(
            f"Models and database agree; there is nothing to generate.{notes}\n"
            f"Not compared: {NOT_COMPARED}.\n"
            "Next: change schema/models.py first, or say --empty for a change of data or of what "
            "is not compared."
        )
    up, down = draft.up, draft.down
    number = f"{int(there[-1].number) + 1:04}"
    folder = paths.ROOT / "migrations" / "sql" / number
    folder.mkdir(parents=True)
    for part, text in (("up", up), ("down", down)):
        (folder / f"{part}.sql").write_text(f"-- {message}.\n{_OWNER}\n\n{text}")
    with contextlib.redirect_stdout(io.StringIO()):  # Alembic reports there
        script = command.revision(migrate.configuration(), message, rev_id=number)
    # Alembic keeps letters in the name that the folder's check does not take.
    written = Path(str(getattr(script, "path", "")))
    revision = written.rename(written.with_name(f"{number}_{slug[:40].strip('_')}.py"))
    made = [*sorted(folder.iterdir()), revision]
    for path in made:
        print(path.relative_to(paths.ROOT))
    if not empty:
        say(f"Not compared: {NOT_COMPARED}.{notes}")
    say(
        "Next: read and complete them: comments, locks, privileges (schema/access.py). What\n"
        "functions, triggers, policies and views shall be in the end goes into schema/sql, one\n"
        "object a file; a test compares it with what the revisions make. Then\n"
        f"`.venv/bin/pandom up --stack {name}`."
    )


def _difference(stack: Stack, there: tuple[Revision, ...]) -> Draft:
    """The SQL that leads from the stack's database to the models, and back."""
    outputs = outputs_of(stack)
    applied = of_outputs(outputs)
    refuse(there, applied)
    if waiting := revisions.pending(there, applied):
        raise UserMistake(
            f"The database is at {applied.reached or 'no revision'}, the newest revision is "
            f"{there[-1].number}: a draft would repeat {', '.join(one.named for one in waiting)}.\n"
            f"Next: `.venv/bin/pandom up --stack {stack.name}` applies them (or `migrate run`, "
            "after a `migrate revert`); then this again."
        )
    with lock.of_stack(stack):
        exported = Pulumi(stack, environment.find().variables).export(secrets=True)
        with superuser.database(exported) as server:
            if server is None:
                raise Failure("The database does not answer. Next: `.venv/bin/pandom up`")
            return difference.of(server, connection(outputs, "pandom_user"), Base.metadata)
