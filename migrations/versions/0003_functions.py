"""The functions, and the tables that only they use.

Locks: none that anybody waits for; the objects are new.
Rollback: drops them; outgoing messages, pending e-mails and attempts are lost.
"""

from pandom.database.frozen import run

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(revision, "account_state", "functions", "comments")


def downgrade() -> None:
    run(revision, "down")
