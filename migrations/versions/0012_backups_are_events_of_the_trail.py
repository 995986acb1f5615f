"""Backups are events of the trail.

Locks: none on tables; one function is replaced.
Compatible: no application writes events of this type.
Rollback: the former function; events that are there stay.
"""

from pandom.database.frozen import run

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(revision, "functions.is_reserved_event_type")


def downgrade() -> None:
    run(revision, "down.functions.is_reserved_event_type", "down")
