"""Limits of sizes and rates, and a seal that needs no more memory than a row.

Locks: ACCESS EXCLUSIVE on the account tables and the trail, for as long as their rows are
checked against the new limits. Larger rows of before stay; their constraint then stays
NOT VALID, and the migration job tries again each time.
Rollback: takes limits and counters away; blocks that hold rows of 1 KiB and more were
sealed by their digest, which `pandom audit trail` of this revision does not know.
"""

from pandom.database.frozen import run

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(revision, "limits", "functions", "sizes")


def downgrade() -> None:
    run(revision, "down_functions", "down")
