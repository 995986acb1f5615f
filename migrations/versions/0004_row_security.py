"""Row security, policies, partitions and triggers.

Locks: ACCESS EXCLUSIVE on the account tables and the trail, for the moment of the DDL.
Rollback: takes triggers, policies and row security away; partitions and rows stay.
"""

from pandom.database.frozen import run

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(revision, "row_security", "policies", "partitions", "triggers")


def downgrade() -> None:
    run(revision, "down")
