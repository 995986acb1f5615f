"""The administrator that the stack made is remembered.

Locks: ACCESS EXCLUSIVE on account_settings, one row, for a moment.
Rollback: drops the column; the next migration job remembers again whom adminEmail names.
"""

from pandom.database.frozen import run

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(revision, "administrator")


def downgrade() -> None:
    run(revision, "down")
