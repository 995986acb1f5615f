"""Attacks on the trail, as each login: refused. What is left stands in a list of its own."""

from __future__ import annotations

import psycopg
import psycopg.errors
import pytest

from schema import access
from tests.fixtures.databases import ALICE, Database, Factory, set_user

DENIED = psycopg.errors.InsufficientPrivilege
# Refused for another reason that comes first: the object cannot be what is claimed.
REFUSED = (
    DENIED,
    psycopg.errors.InvalidParameterValue,
    psycopg.errors.RaiseException,
    psycopg.errors.ObjectNotInPrerequisiteState,
    psycopg.errors.UndefinedTable,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.GeneratedAlways,
    psycopg.errors.UndefinedFunction,
)
ATTACKS = {
    "update": "update public.audit_logs set details = '{}'",
    "update a partition": "update public.audit_logs_default set details = '{}'",
    "delete": "delete from public.audit_logs where id = 1",
    "delete only": "delete from only public.security_logs",
    "truncate": "truncate public.audit_logs",
    "truncate a partition": "truncate public.audit_logs_default",
    "insert": "insert into public.audit_logs (event_type) values ('login_succeeded')",
    "insert with a number": "insert into public.audit_logs (id, event_type) "
    "overriding system value values (1, 'x')",
    "merge": "merge into public.audit_logs as t using (select 1 as a) as s on t.id = s.a "
    "when matched then delete",
    "copy in": "copy public.audit_logs (event_type) from stdin",
    "copy from a program": "copy public.audit_logs from program 'true'",
    "lock": "lock table public.audit_logs in access exclusive mode",
    "disable the trigger": "alter table public.audit_logs disable trigger all",
    "drop": "drop table public.audit_logs",
    "drop a partition": "drop table public.audit_logs_default",
    "detach": "alter table public.audit_logs detach partition public.audit_logs_default",
    "detach concurrently": "alter table public.audit_logs "
    "detach partition public.security_logs_default",
    "attach": "alter table public.audit_logs attach partition public.sessions default",
    "rename": "alter table public.audit_logs rename to audit_logs_old",
    "rename a column": "alter table public.audit_logs rename details to d",
    "move": "alter table public.audit_logs set schema pg_temp",
    "owner": "alter table public.audit_logs owner to current_user",
    "drop a check": "alter table public.audit_logs drop constraint ck_audit_logs_severity",
    "change a default": "alter table public.audit_logs alter column tx set default '1'",
    "no row security": "alter table public.audit_logs disable row level security",
    "no force": "alter table public.audit_logs no force row level security",
    "policy": "create policy p on public.audit_logs for delete using (true)",
    "drop policy": "drop policy trail_maintenance on public.audit_logs",
    "rule": "create rule r as on insert to public.audit_logs do instead nothing",
    "trigger": "create trigger t before insert on public.audit_logs for each row "
    "execute function public.set_updated_at()",
    "replace the function": "create or replace function public.audit_auth_users() "
    "returns trigger language plpgsql as 'begin return null; end'",
    "replace the writer": "create or replace function "
    "public.write_event(log text, actor uuid, event_type text, severity text, details jsonb) "
    "returns void language sql as ''",
    "drop the function": "drop function public.audit_auth_users() cascade",
    "own the function": "alter function public.audit_auth_users() owner to current_user",
    "self-grant": "grant delete on public.audit_logs to current_user",
    "set role": "set role pandom_trail",
    "session authorization": "set session authorization pandom_trail",
    "become a member": "grant pandom_trail to current_user",
    "replica": "set session_replication_role = replica",
    "row_security off": "set local row_security = off; delete from public.audit_logs",
    "a view to write through": "create view public.v as select * from public.audit_logs; "
    "delete from public.v",
    "event with a reserved type": "select public.record_event('login_succeeded')",
    "event as somebody else": "select public.write_event('audit_logs', gen_random_uuid(), "
    "'login_succeeded', 'info', '{}')",
    "sequence": "select setval('public.audit_logs_id_seq', 1)",
    "sequence restart": "alter sequence public.audit_logs_id_seq restart",
    "retention": "update public.trail_retention set months = 1",
    "protect": "select public.protect_partition('audit_logs', 'sessions')",
    "make a partition": "select public.create_partition('audit_logs', now())",
    "archive": "select * from trail_archive.audit_logs",
    "large object": "select lo_export(1, '/tmp/x')",
    "catalog": "delete from pg_catalog.pg_trigger",
}
LOGINS = tuple(role.name for role in access.ROLES if role.login and not role.opt_in)
# Becoming the owner is what the migrator is for; its secret is in no other place.
DECLARED = {("set role", "pandom_migrator")}


def _state(database: Database) -> list[tuple[object, ...]]:
    return database.rows(
        """
        select id, user_uuid, event_type, details::text from public.audit_logs
        union all select id, user_uuid, event_type, details::text from public.security_logs
        union all select oid::bigint, null, relname::text, relowner::text || relacl::text
            || relrowsecurity::text || relforcerowsecurity::text
        from pg_class where relname ~ '^(audit|security)_logs'
        order by 1, 3, 4
        """
    )


@pytest.mark.requirement("P5")
@pytest.mark.parametrize("login", LOGINS)
def test_attacks_on_the_trail_are_refused(shared: Database, login: str) -> None:
    before = _state(shared)
    succeeded = []
    warnings: list[str] = []
    with shared.connect(login) as connection:
        connection.add_notice_handler(lambda notice: warnings.append(notice.severity or ""))
        for attack, statement in ATTACKS.items():
            if (attack, login) in DECLARED:
                continue
            warnings.clear()
            set_user(connection, ALICE.uuid)
            try:
                connection.execute(statement.encode())
            except REFUSED:
                pass
            else:
                # GRANT only warns that it did nothing.
                if warnings != ["WARNING"]:
                    succeeded.append(attack)
            connection.rollback()
    assert succeeded == []
    assert _state(shared) == before


@pytest.mark.requirement("P5")
def test_there_are_attacks_enough() -> None:
    assert len(ATTACKS) >= 25


@pytest.mark.requirement("P5")
def test_no_login_writes_the_trail(shared: Database) -> None:
    rows = shared.rows(
        """
        select r.rolname, c.relname
        from pg_roles as r
        cross join pg_class as c
        where r.rolcanlogin and not r.rolsuper and r.rolname like 'pandom%%'
            and c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
            and c.relname ~ '^(audit|security)_logs|^trail_'
            and (has_table_privilege(r.oid, c.oid, 'insert, update, delete, truncate, trigger')
                or has_any_column_privilege(r.oid, c.oid, 'insert, update'))
        """
    )
    assert rows == []


@pytest.mark.requirement("P5")
@pytest.mark.parametrize(
    "attack",
    ["update", "delete", "truncate", "drop a partition", "insert", "no row security", "rename"],
)
def test_control_as_its_owner_the_attack_succeeds(database: Database, attack: str) -> None:
    # The same statements are valid: only privileges stand in their way above.
    before = _state(database)
    with database.owner("pandom_trail") as connection:
        connection.execute(ATTACKS[attack].encode())
    try:
        after = _state(database)
    except psycopg.errors.UndefinedTable:
        return
    assert after != before


# What PostgreSQL lets the owner of other tables do. Each is found by the audit
# (pandom audit); here it is only shown that the list is true.
DETECTED = {
    "disable its own table's trigger": "alter table public.auth_users disable trigger "
    "audit_users_trigger_update",
    "drop its own table's trigger": "drop trigger audit_users_trigger_update on public.auth_users",
    "disable row security of its own table": "alter table public.auth_users "
    "disable row level security",
    "grant its own table": "grant select on public.auth_users to pandom_mailer",
    "widen its own policy": "alter policy user_isolation on public.auth_users using (true)",
    "change the settings": "update public.account_settings set bcrypt_cost = 4",
}


@pytest.mark.requirement("P5")
@pytest.mark.parametrize("deed", DETECTED)
def test_what_an_owner_of_other_tables_can_do_is_known(shared: Database, deed: str) -> None:
    with shared.connect("pandom_user") as connection:
        connection.execute(DETECTED[deed].encode())
        connection.rollback()


@pytest.mark.requirement("P5")
def test_the_trail_has_owners_of_its_own(shared: Database, factory: Factory) -> None:
    rows = shared.rows(
        "select distinct pg_get_userbyid(relowner) from pg_class "
        "where relname ~ '^(audit|security)_logs'"
    )
    assert rows == [("pandom_trail",)]
    members = {m.member for m in access.MEMBERSHIPS if m.group == "pandom_trail"}
    assert members == {"pandom_migrator"}
