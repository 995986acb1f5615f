"""Sealing asks how much there is before it takes a running sum.

Locks: none on a table; a seal that runs meanwhile ends with the former function.
Compatible: blocks, their hashes and the function's call are the same.
Rollback: brings the former function back; blocks stay, and verify.
"""

from pandom.database.frozen import run

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(revision, "functions.seal_trail")


def downgrade() -> None:
    run(revision, "down.functions.seal_trail", "down")
