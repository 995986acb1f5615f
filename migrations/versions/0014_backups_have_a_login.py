"""Backups are noted, and drills compared, by a login of their own.

Locks: none on tables; one function is replaced, three are new.
Compatible: no application writes events of these types.
Rollback: takes the functions away; events that are there stay.
"""

from pandom.database.frozen import run

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        revision,
        "functions.is_reserved_event_type",
        "functions.note_recovery",
        "functions.row_counts",
        "functions.trail_heads",
    )


def downgrade() -> None:
    run(revision, "down.functions.is_reserved_event_type", "down")
