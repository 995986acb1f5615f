"""Hand-made drift: one entry a class, with the findings that it must give and no others.

``{db}`` is the database's name, ``{every login}`` stands for one finding a login. All of it
is healed by the SQL that is printed; ``up`` says why `pandom up` does not heal it, if it does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from schema import access


@dataclass(frozen=True)
class Drift:
    name: str
    sql: str
    findings: tuple[str, ...]
    severity: str = "high"
    up: str = ""
    # Whether the other tools were shown it (docs/audit.md, What other tools find).
    compared: bool = True

    @property
    def touched(self) -> set[str]:
        """The objects, and members, that it is about: what shares none can be mixed."""
        parts = [finding.split(":") for finding in self.findings]
        members = {part[2].partition(" by ")[0] for part in parts if "membership" in part[0]}
        return members | {
            re.sub(r"^.* (of|on) |^(table|view|type|function) ", "", part[1]) for part in parts
        }

    def named(self, database: str, opt_in: frozenset[str]) -> set[str]:
        """The findings' names in a database whose roles come from these settings."""
        logins = [role.name for role in access.roles(opt_in) if role.login]
        return {
            finding.replace("{db}", database).replace("{every login}", login)
            for finding in self.findings
            for login in logins
        }


def _d(
    name: str,
    sql: str,
    *findings: str,
    severity: str = "high",
    up: str = "",
    compared: bool = True,
) -> Drift:
    return Drift(name, sql, findings, severity, up, compared)


def independent(chosen: Iterable[Drift]) -> list[Drift]:
    """Those that touch nothing which an earlier one touches: each is found as if it were alone."""
    kept: list[Drift] = []
    touched: set[str] = set()
    for drift in chosen:
        if not touched & drift.touched:
            kept.append(drift)
            touched |= drift.touched
    return kept


# Why `pandom up` leaves it to a person.
_UNDECLARED: Final = "somebody made it, and `up` drops nothing that it does not know"


_EVIL_FUNCTION = """
create function public.helpful() returns void language sql security definer
as 'delete from public.audit_logs';
"""

DRIFT: Final[tuple[Drift, ...]] = (
    # -- roles ---------------------------------------------------------------------------
    _d(
        "new superuser",
        "create role evil_root superuser login;",
        "role-extra:evil_root",
        severity="critical",
        up=_UNDECLARED,
    ),
    _d(
        "new login",
        "create role evil login;",
        "role-extra:evil",
        severity="critical",
        up=_UNDECLARED,
    ),
    _d(
        "new login with everything",
        "create role evil login; grant pandom_owner to evil;"
        " grant select on public.sessions to evil;"
        " alter role evil set search_path = 'evil';",
        "role-extra:evil",
        severity="critical",
        up=_UNDECLARED,
    ),
    _d(
        "a declared login becomes superuser",
        "alter role pandom_app superuser;",
        "role-different:pandom_app",
        severity="critical",
    ),
    _d(
        "BYPASSRLS for the application",
        "alter role pandom_app bypassrls;",
        "role-different:pandom_app",
        severity="critical",
    ),
    _d(
        "BYPASSRLS taken from the owner",
        "alter role pandom_owner nobypassrls;",
        "role-different:pandom_owner",
        severity="medium",
    ),
    _d(
        "CREATEROLE",
        "alter role pandom_user createrole;",
        "role-different:pandom_user",
        severity="critical",
    ),
    _d(
        "REPLICATION",
        "alter role pandom_janitor replication;",
        "role-different:pandom_janitor",
        severity="critical",
    ),
    _d(
        "an owner may sign in",
        "alter role pandom_trail login;",
        "role-different:pandom_trail",
        severity="medium",
    ),
    _d(
        "the application inherits",
        "alter role pandom_app inherit;",
        "role-different:pandom_app",
        severity="medium",
    ),
    _d(
        "no connection limit",
        "alter role pandom_mailer connection limit -1;",
        "role-different:pandom_mailer",
        severity="medium",
    ),
    _d(
        "a password that expires",
        "alter role pandom_janitor valid until '2099-01-01 00:00:00+00';",
        "role-different:pandom_janitor",
        severity="medium",
    ),
    _d(
        "another comment on a role",
        "comment on role pandom_janitor is 'does whatever it likes';",
        "role-different:pandom_janitor",
        severity="medium",
        compared=False,
    ),
    # -- settings of roles -----------------------------------------------------------------
    _d(
        "a role's declared setting is gone",
        "alter role pandom_app reset statement_timeout;",
        "role-setting-missing:pandom_app:statement_timeout",
        severity="medium",
    ),
    _d(
        "a role's setting has another value",
        "alter role pandom_auditor set default_transaction_read_only = off;",
        "role-setting-different:pandom_auditor:default_transaction_read_only",
        severity="medium",
    ),
    _d(
        "a role's search_path",
        "alter role pandom_app set search_path = evil, public;",
        "role-setting-extra:pandom_app:search_path",
    ),
    _d(
        "a role's setting in another database",
        "alter role pandom_mailer in database template1 set search_path = evil;",
        "role-setting-extra:pandom_mailer in database template1:search_path",
        compared=False,
    ),
    _d(
        "a role's setting in this database",
        "alter role pandom_app in database {db} set row_security = off;",
        "role-setting-extra:pandom_app in database {db}:row_security",
    ),
    _d(
        "a setting of the database",
        "alter database {db} set session_replication_role = replica;",
        "role-setting-extra:database {db}:session_replication_role",
    ),
    _d(
        "a read-only database",
        "alter database {db} set default_transaction_read_only = on;",
        "role-setting-extra:database {db}:default_transaction_read_only",
        severity="medium",
        compared=False,
    ),
    _d(
        "another form of dates for everybody",
        "alter role all set datestyle = 'German';",
        "role-setting-extra:every role:DateStyle",
        severity="medium",
        compared=False,
    ),
    _d(
        "a limit of connections to the database",
        "alter database {db} connection limit 60;",
        "database-different:{db}:connection limit",
        compared=False,
    ),
    _d(
        "a database that anybody may copy",
        "alter database {db} is_template true;",
        "database-different:{db}:template",
        compared=False,
    ),
    # -- memberships ---------------------------------------------------------------------
    _d(
        "a new membership",
        "grant pandom_owner to pandom_app;",
        "membership-extra:pandom_owner:pandom_app",
        severity="critical",
    ),
    _d(
        "a predefined role",
        "grant pg_read_all_data to pandom_app;",
        "membership-extra:pg_read_all_data:pandom_app",
        severity="critical",
    ),
    _d(
        "membership with ADMIN",
        "grant pandom_admin to pandom_app with admin true;",
        "membership-different:pandom_admin:pandom_app",
        severity="critical",
    ),
    _d(
        "membership with INHERIT",
        "grant pandom_admin to pandom_app with inherit true;",
        "membership-different:pandom_admin:pandom_app",
        severity="critical",
    ),
    _d(
        "membership without SET",
        "grant pandom_owner to pandom_migrator with set false;",
        "membership-different:pandom_owner:pandom_migrator",
        severity="critical",
    ),
    _d(
        "a membership is gone",
        "revoke pandom_definer from pandom_migrator;",
        "membership-missing:pandom_definer:pandom_migrator",
        severity="medium",
    ),
    _d(
        "a membership by another grantor",
        "grant pandom_trail to pandom_user with admin true;"
        " grant pandom_trail to pandom_app granted by pandom_user;",
        "membership-extra:pandom_trail:pandom_user",
        "membership-extra:pandom_trail:pandom_app by pandom_user",
        severity="critical",
    ),
    # -- owners and objects ----------------------------------------------------------------
    _d(
        "another owner of a table",
        "alter table public.account_settings owner to pandom_user;",
        "owner-different:table public.account_settings",
        # The owner's own privileges swallow what it held as a reader.
        severity="critical",
    ),
    _d(
        "another owner of a partition",
        "alter table public.audit_logs_default owner to pandom_owner;",
        "owner-different:table public.audit_logs_default",
        severity="critical",
    ),
    _d(
        "another owner of a function",
        "alter function public.record_event(text, jsonb) owner to pandom_definer;",
        "owner-different:function public.record_event(text, jsonb)",
        severity="critical",
    ),
    _d(
        "another owner of the schema",
        "alter schema public owner to pandom_owner;",
        "owner-different:schema public",
        severity="critical",
    ),
    _d(
        "another owner of the database",
        "alter database {db} owner to pandom_user;",
        "owner-different:database {db}",
        severity="critical",
    ),
    _d(
        "another owner of a type",
        "alter type public.userrole owner to pandom_app;",
        "owner-different:type public.userrole",
        severity="critical",
    ),
    _d(
        "a new table",
        "create table public.copy as select uuid from public.auth_users;"
        " grant select on public.copy to public;",
        "owner-extra:table public.copy",
        up=_UNDECLARED,
    ),
    _d("a new schema", "create schema evil;", "owner-extra:schema evil", up=_UNDECLARED),
    _d(
        "a new foreign server",
        "create foreign data wrapper evil_wrapper;"
        " create server evil_server foreign data wrapper evil_wrapper;"
        " grant usage on foreign server evil_server to pandom_app;"
        " create user mapping for pandom_app server evil_server;",
        "owner-extra:foreign data wrapper evil_wrapper",
        "owner-extra:foreign server evil_server",
        "owner-extra:user mapping for pandom_app server evil_server",
        up=_UNDECLARED,
    ),
    _d(
        "a large object",
        "select lo_create(424242);",
        "owner-extra:large object 424242",
        up=_UNDECLARED,
    ),
    _d("a new function", _EVIL_FUNCTION, "owner-extra:function public.helpful()", up=_UNDECLARED),
    _d(
        "a new view",
        "create view public.everybody as select * from public.auth_users;"
        " grant select on public.everybody to pandom_app;",
        "owner-extra:view public.everybody",
        up=_UNDECLARED,
    ),
    # -- privileges ------------------------------------------------------------------------
    _d(
        "PUBLIC on a table",
        "grant select on public.auth_users to public;",
        "privilege-extra:table public.auth_users:PUBLIC",
        severity="critical",
    ),
    _d(
        "PUBLIC on the database",
        "grant connect, temporary on database {db} to public;",
        "privilege-extra:database {db}:PUBLIC",
        severity="critical",
    ),
    _d(
        "PUBLIC on another database",
        "grant connect on database template1 to public;",
        "privilege-extra:database template1:PUBLIC",
        severity="critical",
    ),
    _d(
        "PUBLIC on the schema",
        "grant create on schema public to public;",
        "privilege-extra:schema public:PUBLIC",
        severity="critical",
    ),
    _d(
        "PUBLIC on a function",
        "grant execute on function public.set_password(uuid, text, text) to public;",
        "privilege-extra:function public.set_password(uuid, text, text):PUBLIC",
        severity="critical",
    ),
    _d(
        "a function's privileges reset to NULL, which is PUBLIC's",
        "update pg_proc set proacl = null where oid = 'public.sign_out(text)'::regprocedure;",
        "privilege-extra:function public.sign_out(text):PUBLIC",
        "privilege-missing:function public.sign_out(text):pandom_app",
        severity="critical",
    ),
    _d(
        "the database's privileges reset to NULL",
        "update pg_database set datacl = null where datname = '{db}';",
        "privilege-extra:database {db}:PUBLIC",
        "privilege-missing:database {db}:{every login}",
        severity="critical",
    ),
    _d(
        "a write to the trail",
        "grant insert on public.audit_logs to pandom_app;",
        "privilege-different:table public.audit_logs:pandom_app",
        severity="critical",
    ),
    _d(
        "TRUNCATE of the trail",
        "grant truncate on public.security_logs to pandom_janitor;",
        "privilege-extra:table public.security_logs:pandom_janitor",
        severity="critical",
    ),
    _d(
        "a partition past its parent's policies",
        "grant select on public.audit_logs_default to pandom_app;",
        "privilege-extra:table public.audit_logs_default:pandom_app",
    ),
    _d(
        "MAINTAIN",
        "grant maintain on public.sessions to pandom_app;",
        "privilege-different:table public.sessions:pandom_app",
    ),
    _d(
        "the password's column",
        "grant select (password_hash) on public.auth_users to pandom_app;",
        "privilege-extra:column password_hash of public.auth_users:pandom_app",
    ),
    _d(
        "a whole table where columns are declared",
        "grant select on public.auth_users to pandom_app;",
        "privilege-extra:table public.auth_users:pandom_app",
    ),
    _d(
        "a column's privilege is gone",
        "revoke select (email) on public.auth_users from pandom_app;",
        "privilege-missing:column email of public.auth_users:pandom_app",
        severity="medium",
    ),
    _d(
        "a grant option",
        "grant select on public.user_profiles to pandom_app with grant option;",
        "privilege-different:table public.user_profiles:pandom_app",
        severity="medium",
    ),
    _d(
        "a grant by another than the owner",
        "grant select on public.user_profiles to pandom_app with grant option;"
        " set role pandom_app; grant select on public.user_profiles to pandom_mailer; reset role;",
        "privilege-different:table public.user_profiles:pandom_app",
        "privilege-extra:table public.user_profiles:pandom_mailer",
    ),
    _d(
        "a declared privilege is gone",
        "revoke delete on public.sessions from pandom_app;",
        "privilege-missing:table public.sessions:pandom_app",
        severity="medium",
    ),
    _d(
        "a sequence",
        "grant update on sequence public.outbox_id_seq to pandom_app;",
        "privilege-extra:sequence public.outbox_id_seq:pandom_app",
    ),
    _d(
        "a type",
        "grant usage on type public.userrole to public;",
        "privilege-extra:type public.userrole:PUBLIC",
        severity="critical",
    ),
    _d(
        "the owner without a privilege",
        "revoke delete on public.sessions from pandom_owner;",
        "privilege-extra:table public.sessions:the owner",
        severity="medium",
    ),
    _d(
        "a parameter",
        "grant set on parameter session_replication_role to pandom_app;",
        "privilege-extra:parameter session_replication_role:pandom_app",
    ),
    _d(
        "an extension's function",
        "grant execute on function public.pgp_sym_decrypt(bytea, text) to pandom_app;",
        "privilege-extra:function public.pgp_sym_decrypt(bytea, text):pandom_app",
    ),
    _d(
        "a language",
        "grant usage on language plpgsql to pandom_app with grant option;",
        "system-privilege-extra:language plpgsql:privileges",
    ),
    # -- PostgreSQL's own objects ----------------------------------------------------------
    _d(
        "a system function that reads files",
        "grant execute on function pg_catalog.pg_read_file(text) to pandom_app;",
        "system-privilege-extra:function pg_read_file(text):privileges",
    ),
    _d(
        "the password catalog",
        "grant select on pg_catalog.pg_authid to pandom_auditor;",
        "system-privilege-extra:table pg_authid:privileges",
    ),
    _d(
        "a column of the password catalog",
        "grant select (rolpassword) on pg_catalog.pg_authid to pandom_app;",
        "system-privilege-extra:column rolpassword of pg_authid:privileges",
    ),
    _d(
        "large objects opened again",
        "grant execute on function pg_catalog.lo_creat(integer) to public;",
        "system-privilege-missing:function lo_creat(integer):privileges",
    ),
    _d(
        "large objects opened to one login",
        "grant execute on function pg_catalog.lo_creat(integer) to pandom_app;",
        "system-privilege-different:function lo_creat(integer):privileges",
    ),
    _d(
        "a system function's privileges reset to NULL",
        "update pg_proc set proacl = null where oid = 'lo_create(oid)'::regprocedure;",
        "system-privilege-missing:function lo_create(oid):privileges",
    ),
    # -- default privileges ----------------------------------------------------------------
    _d(
        "a default privilege in the schema",
        "alter default privileges for role pandom_owner in schema public"
        " grant select on tables to pandom_app;",
        "default-privilege-extra:tables of pandom_owner in schema public:pandom_app",
    ),
    _d(
        "a global default privilege",
        "alter default privileges for role pandom_trail grant insert on tables to public;",
        "default-privilege-extra:tables of pandom_trail:PUBLIC",
        severity="critical",
    ),
    _d(
        "a declared default privilege is gone",
        "alter default privileges for role pandom_definer grant execute on functions to public;",
        "default-privilege-extra:functions of pandom_definer:PUBLIC",
        severity="critical",
    ),
    _d(
        "a login's own default privileges",
        "alter default privileges for role pandom_app grant select on tables to pandom_mailer;",
        "default-privilege-extra:tables of pandom_app:pandom_mailer",
    ),
    # -- row security ----------------------------------------------------------------------
    _d(
        "row security off",
        "alter table public.sessions disable row level security;",
        "row-security-different:table public.sessions",
        severity="critical",
    ),
    _d(
        "row security off on one partition",
        "alter table public.security_logs_default disable row level security;",
        "row-security-different:table public.security_logs_default",
        severity="critical",
    ),
    _d(
        "no FORCE",
        "alter table public.auth_users no force row level security;",
        "row-security-different:table public.auth_users",
        severity="critical",
    ),
    _d(
        "a policy with using (true)",
        "alter policy user_isolation on public.sessions using (true);",
        "policy-different:user_isolation on public.sessions",
        severity="critical",
    ),
    _d(
        "a policy for everybody",
        "alter policy administrator on public.auth_users to public;",
        "policy-different:administrator on public.auth_users",
        severity="critical",
    ),
    _d(
        "a policy without its check",
        "alter policy user_isolation on public.user_profiles with check (true);",
        "policy-different:user_isolation on public.user_profiles",
        severity="critical",
    ),
    _d(
        "a policy for other statements",
        "drop policy evidence on public.audit_logs; create policy evidence on public.audit_logs"
        " for all to pandom_auditor using (true);",
        "policy-different:evidence on public.audit_logs",
        severity="critical",
    ),
    _d(
        "one more policy",
        "create policy convenient on public.user_profiles for select to pandom_app using (true);",
        "policy-extra:convenient on public.user_profiles",
        severity="critical",
        up=_UNDECLARED,
    ),
    _d(
        "one more policy on a partition",
        "create policy convenient on public.audit_logs_default for select to public using (true);",
        "policy-extra:convenient on public.audit_logs_default",
        severity="critical",
        up=_UNDECLARED,
    ),
    _d(
        "a policy is gone",
        "drop policy user_isolation on public.user_profiles;",
        "policy-missing:user_isolation on public.user_profiles",
    ),
    # -- rows that are settings --------------------------------------------------------------
    _d(
        "guessing is not limited",
        "update public.account_settings set failures_before_lock = 50;",
        "setting-row-different:public.account_settings:failures_before_lock",
    ),
    _d(
        "sessions for a year",
        "update public.account_settings set session_lifetime = '365 days';",
        "setting-row-different:public.account_settings:session_lifetime",
    ),
    _d(
        "fewer months of the trail ahead",
        "update public.trail_retention set months_ahead = 1 where log = 'security_logs';",
        "setting-row-different:public.trail_retention security_logs:months_ahead",
    ),
    # -- code ------------------------------------------------------------------------------
    _d(
        "a disabled trigger",
        "alter table public.auth_users disable trigger audit_users_trigger_update;",
        "trigger-different:audit_users_trigger_update on public.auth_users",
        severity="critical",
    ),
    _d(
        "a trigger for replicas only",
        "alter table public.sessions enable replica trigger audit_sessions_trigger_delete;",
        "trigger-different:audit_sessions_trigger_delete on public.sessions",
        severity="critical",
    ),
    _d(
        "a trigger is gone",
        "drop trigger audit_profiles_trigger_delete on public.user_profiles;",
        "trigger-missing:audit_profiles_trigger_delete on public.user_profiles",
        severity="critical",
    ),
    _d(
        "a trigger that looks at less",
        "drop trigger normalise_auth_users_hash on public.auth_users;"
        " create trigger normalise_auth_users_hash before insert on public.auth_users"
        " for each row execute function public.normalise_password_hash();",
        "trigger-different:normalise_auth_users_hash on public.auth_users",
    ),
    _d(
        "one more trigger",
        "create trigger evil before insert on public.sessions for each row"
        " execute function public.set_updated_at();",
        "trigger-extra:evil on public.sessions",
        up=_UNDECLARED,
    ),
    _d(
        "a rule that swallows deletions",
        "create rule evil as on delete to public.user_profiles do instead nothing;",
        "rule-extra:evil on public.user_profiles:definition",
        severity="critical",
        up=_UNDECLARED,
    ),
    _d(
        "a definer without search_path",
        "alter function public.sign_in(text, text, text) reset search_path;",
        "function-different:public.sign_in(text, text, text)",
        severity="critical",
    ),
    _d(
        "an invoker becomes a definer",
        "alter function public.set_password(uuid, text, text) security definer;",
        "function-different:public.set_password(uuid, text, text)",
        severity="critical",
    ),
    _d(
        "a leakproof function",
        "alter function public.current_user_id() leakproof;",
        "function-different:public.current_user_id()",
        severity="critical",
    ),
    _d(
        "another body of a function",
        "create or replace function public.current_user_is_admin() returns boolean language sql"
        " stable parallel safe security definer set search_path = '' return true;",
        "function-different:public.current_user_is_admin()",
        severity="critical",
    ),
    _d(
        "a view with its owner's rights",
        "alter view public.failed_logins_last_hour set (security_invoker = false);",
        "view-different:public.failed_logins_last_hour",
    ),
    _d(
        "another text of a view",
        "create or replace view public.failed_logins_last_hour with (security_invoker = true)"
        " as select 0::bigint as failed_logins;",
        "view-different:public.failed_logins_last_hour",
    ),
    _d(
        "a new extension",
        "create extension pg_trgm;",
        "extension-extra:pg_trgm:schema",
        up=_UNDECLARED,
    ),
    _d(
        "a publication",
        "create publication leak for table public.auth_users;",
        "owner-extra:publication leak",
        up=_UNDECLARED,
    ),
    _d(
        "an event trigger",
        "create function public.on_ddl() returns event_trigger language plpgsql"
        " as 'begin null; end';"
        " create event trigger watch on ddl_command_end execute function public.on_ddl();",
        "owner-extra:event trigger watch",
        "owner-extra:function public.on_ddl()",
        up=_UNDECLARED,
    ),
    _d(
        "an event trigger is off",
        "alter event trigger pgaudit_sql_drop disable;",
        "event-trigger-different:pgaudit_sql_drop:definition",
    ),
)

BY_NAME: Final = {one.name: one for one in DRIFT}
