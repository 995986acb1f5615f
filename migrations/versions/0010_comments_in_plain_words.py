"""Comments in the catalog without row numbers of the source document.

Locks: SHARE UPDATE EXCLUSIVE on each table for the moment of its comments.
Compatible: nothing that an application calls or reads changes.
Rollback: brings the former comments back.
"""

from pandom.database.frozen import run

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(revision, "up", "functions.protect_partition", "comments", "partitions")


def downgrade() -> None:
    run(
        revision,
        "down.functions.protect_partition",
        "down.comments",
        "down.partitions",
        "down",
    )
