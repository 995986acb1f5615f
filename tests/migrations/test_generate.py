"""What `migrate generate` sees: everything that models declare, and it writes what heals it."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.dialects.postgresql import ENUM

from pandom.host import difference
from pandom.host.difference import Draft
from pandom.runtime.errors import UsageError
from schema.models import Base
from tests.fixtures.catalog import differences, facts
from tests.fixtures.databases import Database


def _draft(database: Database, models: sa.MetaData = Base.metadata) -> Draft:
    given: dict[str, Any] = dict(
        conninfo_to_dict(database.server.dsn("pandom_user", database.name))
    )
    with psycopg.connect(database.server.dsn("postgres", database.name)) as server:
        return difference.of(server, given, models)


def _run(database: Database, text: str) -> None:
    """As a revision runs its text."""
    with database.connect("pandom_migrator") as connection:
        connection.execute(b"set role pandom_owner")
        connection.execute(text.encode())


def _facts(database: Database) -> dict[str, str]:
    with database.connect("pandom_user") as connection:
        return facts(connection)


@pytest.mark.requirement("M1", "M2")
def test_models_and_a_migrated_database_agree(shared: Database) -> None:
    assert _draft(shared) == Draft("", "", ())


def test_the_epoch_of_a_restored_database_is_no_difference(database: Database) -> None:
    with database.owner("pandom_trail") as connection:
        connection.execute("alter table public.audit_logs alter column epoch set default 2")
    assert _draft(database) == Draft("", "", ())


# What is wrong in the database, and what heals it.
FAULTS = {
    "a CHECK's text": (
        "alter table public.sessions drop constraint ck_sessions_expires_at, "
        "add constraint ck_sessions_expires_at check (expires_at >= created_at)",
        "add constraint ck_sessions_expires_at CHECK ((expires_at > created_at))",
    ),
    "a CHECK that models lack": (
        "alter table public.sessions add constraint ck_sessions_more check (id > 0)",
        "drop constraint ck_sessions_more",
    ),
    "a CHECK that the database lacks": (
        "alter table public.sessions drop constraint ck_sessions_token",
        "add constraint ck_sessions_token CHECK",
    ),
    "a CHECK of the trail": (
        "set role pandom_trail; "
        "alter table public.audit_logs drop constraint ck_audit_logs_severity",
        "set local role pandom_trail;\n\nalter table public.audit_logs add constraint",
    ),
    "an index's WHERE": (
        "drop index public.idx_auth_users_role; "
        "create index idx_auth_users_role on public.auth_users (role)",
        "WHERE (role = 'admin'::public.userrole)",
    ),
    "an index's method": (
        "drop index public.idx_user_profiles_tags; "
        "create index idx_user_profiles_tags on public.user_profiles (tags)",
        "USING gin (tags)",
    ),
    "an index's operator class": (
        "drop index public.idx_user_profiles_metadata; "
        "create index idx_user_profiles_metadata on public.user_profiles using gin (metadata)",
        "jsonb_path_ops",
    ),
    "an index's order": (
        "drop index public.idx_auth_users_active; "
        "create index idx_auth_users_active on public.auth_users (created_at) where is_active",
        "created_at DESC",
    ),
    "an index's columns beside the key": (
        "drop index public.idx_sessions_expires; "
        "create index idx_sessions_expires on public.sessions (expires_at) include (id)",
        "create index idx_sessions_expires ON public.sessions USING btree (expires_at);",
    ),
    "an index that is unique": (
        "drop index public.idx_sessions_expires; "
        "create unique index idx_sessions_expires on public.sessions (expires_at, id)",
        "create index idx_sessions_expires ON",
    ),
    "an index that models lack": (
        "create index idx_more on public.sessions (created_at)",
        "drop index public.idx_more",
    ),
    "a foreign key's action": (
        "alter table public.sessions drop constraint fk_sessions_user_uuid_auth_users, "
        "add constraint fk_sessions_user_uuid_auth_users foreign key (user_uuid) "
        "references public.auth_users (uuid)",
        "REFERENCES public.auth_users(uuid) ON DELETE CASCADE",
    ),
    "a unique constraint": (
        "alter table public.sessions drop constraint uq_sessions_token",
        "add constraint uq_sessions_token UNIQUE (token)",
    ),
    "a comment on a table": ("comment on table public.sessions is 'else'", "comment on table"),
    "a comment on a column": (
        "comment on column public.sessions.token is 'else'",
        "comment on column",
    ),
    "a comment on a CHECK": (
        "comment on constraint ck_sessions_token on public.sessions is 'else'",
        "comment on constraint ck_sessions_token on public.sessions is 'Only a",
    ),
    "a comment on a key": (
        "comment on constraint pk_sessions on public.sessions is null",
        "comment on constraint pk_sessions",
    ),
    "a comment on an index": (
        "comment on index public.idx_sessions_expires is 'it''s'",
        "comment on index public.idx_sessions_expires is 'Finds",
    ),
    "an index of a column that models lack": (
        "alter table public.sessions add column more int; "
        "create index idx_most on public.sessions (more)",
        "drop index public.idx_most",
    ),
}


def _rounds() -> list[list[str]]:
    """The faults in as few rounds as let no two change the same object."""
    rounds: list[tuple[set[str], list[str]]] = []
    for name, (fault, _) in FAULTS.items():
        objects = set(re.findall(r"\b(?:ck|idx|fk|uq|pk)_\w+|column \S+", fault))
        for taken, names in rounds:
            if not taken & objects:
                taken |= objects
                names.append(name)
                break
        else:
            rounds.append((objects, [name]))
    return [names for _, names in rounds]


@pytest.mark.requirement("M1", "M2")
def test_each_difference_is_seen_and_healed_and_goes_back(database: Database) -> None:
    for names in _rounds():
        right = _facts(database)
        for name in names:
            _run(database, FAULTS[name][0])
        wrong = _facts(database)
        draft = _draft(database)
        for name in names:
            assert FAULTS[name][1].lower() in draft.up.lower(), (name, draft.up)
        _run(database, draft.up)
        assert _draft(database) == Draft("", "", ())
        assert differences(right, _facts(database)) == []
        _run(database, draft.down)
        # A column that comes back has another number.
        left = [one for one in differences(wrong, _facts(database)) if "sessions.more:" not in one]
        assert left == []
        _run(database, draft.up)


def _small(members: tuple[str, ...], *columns: sa.Column[Any], **more: Any) -> sa.MetaData:
    """Models of one table with names that are words of SQL."""
    models = sa.MetaData()
    sa.Table(
        "order",
        models,
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False, comment="When."),
        sa.Column("user", sa.Text),
        sa.Column("kind", ENUM(*members, name="kind", create_type=False)),
        *columns,
        sa.PrimaryKeyConstraint("timestamp", name="pk_order", comment="A key."),
        sa.CheckConstraint(more.get("check", "\"user\" like 'a%'"), name="ck_order_user"),
        sa.Index(
            "idx_order_time",
            sa.text("timestamp DESC"),
            postgresql_where=sa.text('"user" is not null'),
            info={"comment": "By time."},
        ),
    )
    return models


@pytest.mark.requirement("M1", "M2")
def test_tables_enumerations_and_names_that_are_words_of_sql(database: Database) -> None:
    before = _facts(database)
    models = _small(("one", "two"))
    draft = _draft(database, models)
    assert "create type public.kind as enum ('one', 'two');" in draft.up
    assert "not compared: tables that models.py does not declare" in draft.notes[0]
    _run(database, draft.up)
    made = _draft(database, models)
    assert (made.up, made.down) == ("", "")
    _run(database, draft.down)
    assert differences(before, _facts(database)) == []
    _run(database, draft.up)

    # New members at their places, and a column beside them.
    more = _small(("zero", "one", "and", "two", "three"), sa.Column("limit", sa.Integer))
    draft = _draft(database, more)
    for line in (
        "add value if not exists 'zero' before 'one';",
        "add value if not exists 'and' after 'one';",
        "add value if not exists 'three' after 'two';",
    ):
        assert line in draft.up
    assert "no member can be dropped" in draft.down
    _run(database, draft.up)
    again = _draft(database, more)
    assert (again.up, again.down) == ("", "")
    assert database.one("select enum_range(null::public.kind)::text") == "{zero,one,and,two,three}"

    # What PostgreSQL cannot do is said.
    assert "'zero'" in _draft(database, _small(("one", "and", "two", "three"))).notes[0]
    turned = _small(("one", "zero", "and", "two", "three"), sa.Column("limit", sa.Integer))
    assert "in another order" in _draft(database, turned).notes[0]


@pytest.mark.requirement("M1")
def test_models_that_the_server_cannot_build_are_a_mistake(shared: Database) -> None:
    with pytest.raises(UsageError, match=r"cannot build table order: column .nothing. does"):
        _draft(shared, _small(("one",), check="nothing > 0"))
