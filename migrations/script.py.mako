"""${message}.

Locks: say which tables are locked, how strongly and for how long. Every statement
waits at most 4 s for a lock; what takes long goes into autocommit (CONCURRENTLY).
Compatible: say why the version of the application that runs now keeps working.
Rollback: say what down.sql does with the data.
"""

from pandom.database.frozen import run

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(revision, "up")


def downgrade() -> None:
    run(revision, "down")
