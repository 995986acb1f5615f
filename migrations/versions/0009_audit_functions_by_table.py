"""An audit function for each recorded table, made from the models.

Events are as before. The application's policy on auth_users says what is granted: reading.
Locks: ACCESS EXCLUSIVE on the account tables for the moment of the DDL: a trigger is
replaced, one policy made anew.
Compatible: nothing that an application calls or reads changes.
Rollback: brings back the one function for all tables, and the triggers that call it.
"""

from pandom.database.frozen import run

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(
        revision,
        "functions.audit_auth_users",
        "functions.audit_sessions",
        "functions.audit_user_profiles",
        "triggers.audit_profiles_trigger_delete",
        "triggers.audit_profiles_trigger_insert",
        "triggers.audit_profiles_trigger_truncate",
        "triggers.audit_profiles_trigger_update",
        "triggers.audit_sessions_trigger_delete",
        "triggers.audit_sessions_trigger_insert",
        "triggers.audit_sessions_trigger_truncate",
        "triggers.audit_sessions_trigger_update",
        "triggers.audit_users_trigger_delete",
        "triggers.audit_users_trigger_insert",
        "triggers.audit_users_trigger_truncate",
        "triggers.audit_users_trigger_update",
        "policies.auth_users.user_isolation",
        "comments",
        "drops",
    )


def downgrade() -> None:
    run(
        revision,
        "down.functions.audit_trigger_function",
        "down.triggers.audit_profiles_trigger_delete",
        "down.triggers.audit_profiles_trigger_insert",
        "down.triggers.audit_profiles_trigger_truncate",
        "down.triggers.audit_profiles_trigger_update",
        "down.triggers.audit_sessions_trigger_delete",
        "down.triggers.audit_sessions_trigger_insert",
        "down.triggers.audit_sessions_trigger_truncate",
        "down.triggers.audit_sessions_trigger_update",
        "down.triggers.audit_users_trigger_delete",
        "down.triggers.audit_users_trigger_insert",
        "down.triggers.audit_users_trigger_truncate",
        "down.triggers.audit_users_trigger_update",
        "down.policies.auth_users.user_isolation",
        "down.comments",
        "down",
    )
