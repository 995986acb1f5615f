"""The monitoring views.

Locks: none that anybody waits for; the views are new.
Rollback: drops the views.
"""

from pandom.database.frozen import run

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(revision, "views")


def downgrade() -> None:
    run(revision, "down")
