"""The account tables.

Locks: none that anybody waits for; the tables are new.
Rollback: drops the tables with their rows, and the enumeration.
"""

from pandom.database.frozen import run

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(revision, "accounts", "comments")


def downgrade() -> None:
    run(revision, "down")
