"""Numbers for monitoring.

Locks: none; the functions are new.
Compatible: nothing that exists changes; only pandom_metrics may call them, where it exists.
Rollback: drops the functions.
"""

from pandom.database.frozen import run

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        revision,
        "functions.measure_activity",
        "functions.measure_backup",
        "functions.measure_trail",
    )


def downgrade() -> None:
    run(revision, "down")
