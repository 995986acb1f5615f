"""The hash chain of the trail.

Locks: SHARE on the trail while its two indexes are built; writers of events wait.
Rollback: refused in production; elsewhere the blocks wait in schema trail_archive,
from where the upgrade takes them back (M3).
"""

from alembic import context

from pandom.database.frozen import run
from pandom.runtime.errors import UsageError

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(revision, "trail_blocks", "functions", "policies", "take_back")


def downgrade() -> None:
    if context.config.attributes["production"]:
        raise UsageError(
            "a production database does not go below revision 0006: the proof of the audit trail "
            "would be taken away. Next: revert to 0006, or restore a backup."
        )
    run(revision, "down")
