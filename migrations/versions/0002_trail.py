"""The audit trail.

Locks: none that anybody waits for; the tables are new.
Rollback: refused in production; elsewhere the rows wait in schema trail_archive,
from where the upgrade takes them back (M3).
"""

from alembic import context

from pandom.database.frozen import run
from pandom.runtime.errors import UsageError

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(revision, "trail", "take_back", "comments")


def downgrade() -> None:
    if context.config.attributes["production"]:
        raise UsageError(
            "a production database does not go below revision 0002: the audit trail would be "
            "taken away. Next: revert to 0002, or restore a backup."
        )
    run(revision, "down")
