"""`pandom migrate generate`: a draft of a revision from what models and database differ in (M1).

The source's tool writes the migration; ours writes the SQL text that a revision
freezes, to be read and completed by a person: a comparison sees neither functions
nor policies, and takes a rename for a drop.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import sqlalchemy
from alembic import command
from alembic.autogenerate import produce_migrations
from alembic.operations import Operations
from alembic.operations.ops import DowngradeOps, ModifyTableOps, UpgradeOps
from alembic.runtime.migration import MigrationContext

from pandom import paths
from pandom.database import migrate
from pandom.errors import UserMistake
from pandom.host.access import outputs_of
from pandom.host.health import connection
from pandom.host.stack import Stack
from pandom.progress import say
from schema.models import Base

_OWNER: Final = "set local role pandom_owner;"


def generate(name: str, message: str, empty: bool) -> None:
    """Write the next revision; with ``empty`` without looking at a database.

    Raises UserMistake when there is nothing to write or the message names no file.
    """
    slug = re.sub(r"[^a-z0-9]+", "_", message.lower()).strip("_")
    if not slug:
        raise UserMistake(f"{message!r}: expected a few words, such as 'add phone number'.")
    up, down = ("", "") if empty else _difference(outputs_of(Stack(name)))
    if not (up or empty):
        raise UserMistake(
            "Models and database agree; there is nothing to generate.\n"
            "Next: change schema/models.py first, or say --empty for a change of data."
        )
    number = f"{int(migrate.head()) + 1:04}"
    folder = paths.ROOT / "migrations" / "sql" / number
    folder.mkdir(parents=True)
    for part, text in (("up", up), ("down", down)):
        (folder / f"{part}.sql").write_text(f"-- {message}.\n{_OWNER}\n\n{text}")
    with contextlib.redirect_stdout(io.StringIO()):  # Alembic reports there
        script = command.revision(migrate.configuration(), message, rev_id=number)
    made = [*sorted(folder.iterdir()), Path(str(getattr(script, "path", "")))]
    for path in made:
        print(path.relative_to(paths.ROOT))
    say(
        "Next: read and complete them: comments, locks, privileges (schema/access.py). What\n"
        "functions, triggers, policies and views shall be in the end goes into schema/sql, one\n"
        "object a file; a test compares it with what the revisions make. Then\n"
        f"`.venv/bin/pandom up --stack {name}`."
    )


def _difference(outputs: Mapping[str, Any]) -> tuple[str, str]:
    """The SQL that leads from the database to the models, and back."""
    given = connection(outputs, "pandom_user")
    engine = sqlalchemy.create_engine("postgresql+psycopg://", connect_args=given)
    try:
        with engine.connect() as client:
            context = MigrationContext.configure(
                client,
                opts={
                    "compare_type": True,
                    "compare_server_default": True,
                    "include_name": _ours,
                    "target_metadata": Base.metadata,
                },
            )
            script = produce_migrations(context, Base.metadata)
    finally:
        engine.dispose()
    return _sql(script.upgrade_ops), _sql(script.downgrade_ops)


def _ours(name: str | None, kind: str, _: object) -> bool:
    """Tables that the models describe; partitions and Alembic's own are made elsewhere."""
    return kind != "table" or name in Base.metadata.tables


def _sql(operations: UpgradeOps | DowngradeOps | None) -> str:
    """The operations as SQL text."""
    if operations is None:
        return ""
    text = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": text}
    )
    target = Operations(context)
    for one in operations.ops:
        for step in one.ops if isinstance(one, ModifyTableOps) else [one]:
            target.invoke(step)
    return re.sub(r"\n{2,}", "\n\n", text.getvalue()).lstrip()
