"""Generates SQL from the models' declarations (``schema/declare.py``).

Row security, policies, the ``updated_at`` trigger, and for each recorded table its audit
function and triggers. `pandom migrate generate` freezes what changed into a revision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Final

import sqlalchemy
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.orm import Mapper

from pandom.runtime.paths import ROOT
from schema import access
from schema.declare import OnTrail, Table
from schema.models import Base, mappers

FOLDER: Final = ROOT / "schema" / "sql"
# In the order in which objects are created.
KINDS: Final = ("functions", "row_security", "triggers", "policies", "views")
MARK: Final = "-- Generated from schema/models.py."
# The condition of a role's policy, where it is not `true`.
_CHECKED: Final = {"pandom_admin": "(select public.current_user_is_admin())"}
_POLICIES: Final = {
    "pandom_admin": ("administrator", "An active administrator sees every row."),
    "pandom_auditor": ("evidence", "The auditor reads every row."),
    "pandom_definer": (
        "account_functions",
        "The account functions reach every row and check for themselves.",
    ),
    "pandom_service": (
        "service",
        "The opt-in login for clients without a context reaches every row.",
    ),
    "pandom_trail": ("trail_maintenance", "The trail's own functions write and retire rows."),
}
_OWN: Final = ("user_isolation", "A user reaches its own rows only.")
# A function takes a hundred arguments, so one call has at most this many pairs.
_AT_ONCE: Final = 40
# A value stored in this many bytes is within the limits, however well it compressed.
_SMALL: Final = 500
_NARROW: Final = (
    sqlalchemy.Boolean,
    sqlalchemy.Date,
    sqlalchemy.DateTime,
    sqlalchemy.Enum,
    sqlalchemy.Integer,
    sqlalchemy.Interval,
    sqlalchemy.UUID,
    INET,
)


@cache
def texts() -> dict[str, str]:
    """Return the generated SQL by ``kind/name``, where ``kind`` is a folder of schema/sql."""
    generated: dict[str, str] = {}
    for mapper in mappers():
        generated |= of_table(mapper)
    return dict(sorted(generated.items()))


def declared() -> dict[str, str]:
    """Return the SQL of every declared object by ``kind/name``."""
    every = texts() | {
        f"{kind}/{path.stem}": path.read_text()
        for kind in KINDS
        for path in (FOLDER / kind).glob("*.sql")
    }
    return {name: every[name] for kind in KINDS for name in sorted(every) if name.startswith(kind)}


def of_table(mapper: Mapper[Base]) -> dict[str, str]:
    """Return the SQL generated from one model."""
    table, declared = mapper.local_table, mapper.class_.__declared__
    assert isinstance(table, sqlalchemy.Table)  # noqa: S101 - every model has a table of its own
    found = {}
    policies = dict(_policies(table.name, declared))
    if policies:
        found[f"row_security/{table.name}"] = _file(
            "Forced, too: whoever becomes the owner is under it.",
            declared.owner,
            f"alter table public.{table.name} enable row level security;\n"
            f"alter table public.{table.name} force row level security;",
        )
    found |= policies
    if "updated_at" in table.columns:
        found[f"triggers/set_{table.name}_updated_at"] = _trigger(
            f"set_{table.name}_updated_at",
            declared.owner,
            f"before update on public.{table.name}\nfor each row",
            "set_updated_at",
            f"updated_at of {table.name} is true whoever writes.",
        )
    if declared.trail:
        found[f"functions/audit_{table.name}"] = _audit_function(table, declared)
        found |= dict(_audit_triggers(table.name, declared, declared.trail))
    return found


def _file(what: str, owner: str, body: str) -> str:
    return f"{MARK}\n-- {what}\nset local role {owner};\n\n{body}\n"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


# -- row security -----------------------------------------------------------------------


def limited_roles(declared: Table) -> dict[str, set[str]]:
    """Return who reaches rows of the table under row security, with all privileges of each.

    The owner is among them where FORCE puts it under row security.
    """
    passing = {role.name for role in access.ROLES if role.bypass_rls}
    found: dict[str, set[str]] = {}
    for allow in () if declared.open_rows else declared.allow:
        if allow.role not in passing:
            found.setdefault(allow.role, set()).update(allow.privileges.split())
    if found and declared.owner not in passing:
        found[declared.owner] = {"ALL"}
    return found


def _policies(table: str, declared: Table) -> Iterator[tuple[str, str]]:
    own = {allow.role for allow in declared.allow if allow.rows == "own"}
    opt_in = {role.name: role.opt_in for role in access.ROLES if role.opt_in}
    for role, privileges in limited_roles(declared).items():
        condition = _CHECKED.get(role, "true")
        name, comment = _POLICIES.get(
            role, (role.removeprefix("pandom_"), f"{role} reaches every row.")
        )
        if role in own:
            # The sub-select makes it one call per query.
            condition, (name, comment) = f"{declared.owned_by} = (select {declared.current})", _OWN
        reads = privileges <= {"SELECT"}
        check = "" if reads else f"\nwith check ({condition})"
        folder = f"opt_in/{opt_in[role]}" if role in opt_in else "policies"
        yield (
            f"{folder}/{table}.{name}",
            _file(
                f"What {role} reaches.",
                declared.owner,
                f"drop policy if exists {name} on public.{table};\n"
                f"create policy {name} on public.{table}\n"
                f"for {'select' if reads else 'all'} to {role}\n"
                f"using ({condition}){check};\n\n"
                f"comment on policy {name} on public.{table} is\n{_text(comment)};",
            ),
        )


# -- triggers ---------------------------------------------------------------------------


def _trigger(name: str, owner: str, when: str, function: str, comment: str) -> str:
    table = when.partition("public.")[2].partition("\n")[0]
    return _file(
        comment,
        owner,
        f"create or replace trigger {name}\n{when} execute function public.{function}();\n\n"
        f"comment on trigger {name} on public.{table} is\n{_text(comment)};",
    )


def _audit_triggers(table: str, declared: Table, prefix: str) -> Iterator[tuple[str, str]]:
    for event, rows in (
        ("insert", "\nreferencing new table as new_rows"),
        ("update", "\nreferencing old table as old_rows new table as new_rows"),
        ("delete", "\nreferencing old table as old_rows"),
        ("truncate", ""),
    ):
        name = f"{prefix}_{event}"
        comment = f"Every {event} on {table} enters the trail."
        if event == "truncate":
            comment = f"A truncate of {table} enters the trail as critical."
        yield (
            f"triggers/{name}",
            _trigger(
                name,
                declared.owner,
                f"after {event} on public.{table}{rows}\nfor each statement",
                f"audit_{table}",
                comment,
            ),
        )


# -- the audit function -----------------------------------------------------------------

_FUNCTION: Final = """\
-- Runs once per statement on its transition tables: for a thousand rows that costs about
-- half of a trigger per row. The difference is spelt out column by column and put together
-- as text, parsed once: a third of building and stripping an object, and a tenth of walking
-- over jsonb_each. What is redacted never stands there as a value. What takes {small} bytes as
-- it is stored is within the limits however well it was compressed, and costs no call; of
-- larger ones of an older revision size and digest stand there, so that no change is lost
-- because its event would be too large.
--
-- Old and new rows meet in a full join. A row whose key was changed stands on one side
-- only and must not be missed; and a full join cannot become a nested loop: the plan that
-- a session made for one row would take the square of the rows of its next big UPDATE.
set local role pandom_trail;

create or replace function public.audit_{table}()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    actor constant uuid := public.current_user_id();
    address constant inet := case
        when pg_input_is_valid(current_setting('app.client_ip', true), 'inet')
            then current_setting('app.client_ip', true)::inet
    end;
    agent constant text := nullif(left(current_setting('app.user_agent', true), 512), '');
    -- The beginning of the details as text.
    origin constant text := '{{"table": "{table}", "session_user": '
        || to_json(session_user)::text;
begin
    if tg_table_name <> '{table}' or tg_table_schema <> 'public' then
        raise exception 'this trigger function serves public.{table} only';
    end if;

    if tg_op = 'UPDATE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, (
            origin || ', "subject": ' || {subject}
            {beside}|| ', "changed": {{' || {changed} || '}}}}'
        )::jsonb, address, agent
        from new_rows as n
        full outer join old_rows as o on {join};

    elsif tg_op = 'INSERT' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, (origin || '}}')::jsonb || jsonb_build_object(
            'subject', n.{owned_by},
            'new', {new}
        ), address, agent
        from new_rows as n;

    elsif tg_op = 'DELETE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, (origin || '}}')::jsonb || jsonb_build_object(
            'subject', o.{owned_by},
            'old', {old}
        ), address, agent
        from old_rows as o;

    else
        insert into public.audit_logs
        (user_uuid, event_type, details, ip_address, user_agent, severity)
        values (actor, tg_op, (origin || '}}')::jsonb, address, agent, 'critical');
    end if;
    return null;
end
$$;

comment on function public.audit_{table}() is
'Trigger: one event for each changed row, changed columns only, redacted as declared.';

-- Who makes the triggers needs it, in the revision that makes the function, too.
grant execute on function public.audit_{table}() to {owner};
"""


def subject(table: sqlalchemy.Table, declared: Table) -> str | None:
    """Return the column that an event names: whose row it is, or else the key."""
    keys = list(table.primary_key.columns.keys())
    return declared.owned_by or (keys[0] if len(keys) == 1 else None)


def _audit_function(table: sqlalchemy.Table, declared: Table) -> str:
    whose = str(subject(table, declared))
    keys = [column for column in table.primary_key.columns if column.name != whose]
    text = _FUNCTION.format(
        small=_SMALL,
        table=table.name,
        owner=declared.owner,
        owned_by=whose,
        subject=_json_of_either(table.columns[whose]),
        beside="".join(
            f"|| ', \"{column.name}\": ' || {_json_of_either(column)}\n            "
            for column in keys
        ),
        join=" and ".join(
            f"n.{column.name} = o.{column.name}" for column in table.primary_key.columns
        ),
        changed=_joined(_changes(table)),
        new=_object("n", table, whose, "INSERT"),
        old=_object("o", table, whose, "DELETE"),
    )
    return f"{MARK}\n-- What the trail keeps of {table.name}.\n--\n{text}"


def _words(table: sqlalchemy.Table) -> list[tuple[sqlalchemy.Column[object], OnTrail]]:
    return [(column, column.info["trail"]) for column in table.columns]


def _json_of_either(column: sqlalchemy.Column[object]) -> str:
    value = f"coalesce(n.{column.name}, o.{column.name})"
    if isinstance(column.type, sqlalchemy.Integer):
        return value
    if isinstance(column.type, sqlalchemy.UUID):
        return f"'\"' || {value} || '\"'"
    return f"coalesce(to_json({value})::text, 'null')"


def _is_wide(kind: sqlalchemy.types.TypeEngine[object]) -> bool:
    """Return whether a value may be too large for an event; one of an unknown type may."""
    if isinstance(kind, sqlalchemy.String) and not isinstance(kind, sqlalchemy.Enum):
        return not kind.length or kind.length > 255
    return not isinstance(kind, _NARROW)


def _as_json(column: sqlalchemy.Column[object], value: str) -> str:
    if isinstance(column.type, sqlalchemy.JSON):
        return f"{value}::text"
    function = "array_to_json" if isinstance(column.type, sqlalchemy.ARRAY) else "to_json"
    return f"{function}({value})::text"


def _changes(table: sqlalchemy.Table) -> list[str]:
    """For each column of an UPDATE the text of its change; columns of one name together."""
    differs: dict[str, list[str]] = {}
    shown: dict[str, str] = {}
    for column, on_trail in _words(table):
        if on_trail.word == "ignored" or "UPDATE" not in on_trail.events:
            continue
        name = on_trail.name or column.name
        old, new = f"o.{column.name}", f"n.{column.name}"
        differs.setdefault(name, []).append(f"{old} is distinct from {new}")
        pair = f"json_build_array({old}, {new})::text"
        if on_trail.word == "redacted":
            shown[name] = f'\'"{name}":"redacted"\''
        elif _is_wide(column.type):
            shown[name] = (
                f"'\"{name}\":' || case\n"
                f"    when greatest(pg_column_size({old}), pg_column_size({new})) <= {_SMALL}\n"
                f"        then {pair}\n"
                f"    else '[' || public.event_value({_as_json(column, old)}) || ', '\n"
                f"        || public.event_value({_as_json(column, new)}) || ']'\n"
                "end"
            )
        else:
            shown[name] = f"'\"{name}\":'\n    || {pair}"
    return [
        f"case when {_lines(clauses, '    or ')}\n    then {_indent(shown[name], 4)} end"
        for name, clauses in differs.items()
    ]


def _lines(clauses: Sequence[str], word: str) -> str:
    return ("\n" + word).join(clauses)


def _indent(text: str, by: int) -> str:
    return text.replace("\n", "\n" + " " * by)


def _joined(changes: list[str]) -> str:
    calls = [
        "concat_ws(',',\n    " + _indent(",\n".join(part), 4) + "\n)" for part in _parts(changes)
    ]
    if len(calls) > 1:
        # Without nullif an empty part would leave a comma.
        calls = ["concat_ws(',', " + ", ".join(f"nullif({call}, '')" for call in calls) + ")"]
    return _indent(calls[0], 12)


def _object(row: str, table: sqlalchemy.Table, whose: str, event: str) -> str:
    pairs = []
    for column, on_trail in _words(table):
        if on_trail.word != "recorded" or event not in on_trail.events or column.name == whose:
            continue
        value = f"{row}.{column.name}"
        if _is_wide(column.type):
            value = (
                f"case when pg_column_size({value}) <= {_SMALL} then to_jsonb({value})\n"
                f"    else public.event_value({_as_json(column, value)})::jsonb end"
            )
        pairs.append(f"'{column.name}', {value}")
    calls = [
        "jsonb_build_object(\n    " + _indent(",\n".join(part), 4) + "\n)" for part in _parts(pairs)
    ]
    return _indent(" || ".join(calls) or "jsonb_build_object()", 12)


def _parts(pieces: Sequence[str]) -> Iterable[Sequence[str]]:
    return (pieces[start : start + _AT_ONCE] for start in range(0, len(pieces), _AT_ONCE))
