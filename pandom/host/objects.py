"""Differences between declared SQL and a database, as the SQL of a revision and its way back.

The declared text is run in a transaction that is rolled back, and the catalogs are read before and
after, so what is written is known to run. The way back has the text that an older revision froze,
or the server's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import psycopg

from pandom.database import made, revisions
from pandom.runtime.errors import UsageError

KINDS: Final = ("functions", "row_security", "triggers", "policies", "views")
# By folder and file of schema/sql what the catalogs say of each object, its owner, how it
# is made again, how it is dropped, and who may execute it. Partitions follow their parents.
_STATE: Final = r"""
with ours as (
    select c.*, pg_get_userbyid(c.relowner) as owner from pg_class as c
    where c.relnamespace = 'public'::regnamespace and not c.relispartition
)
select 'functions/' || p.proname, pg_get_userbyid(p.proowner),
    pg_get_functiondef(p.oid) || ';', format('drop function %s;', p.oid::regprocedure),
    format('comment on function %s is%s%L;', p.oid::regprocedure, e'\n', obj_description(p.oid)),
    (
        select string_agg(
            format('grant execute on function %s to %I;', p.oid::regprocedure, r.rolname), e'\n'
            order by r.rolname
        )
        from aclexplode(p.proacl) as a inner join pg_roles as r on a.grantee = r.oid
        where a.grantee <> p.proowner
    )
from pg_proc as p
where p.pronamespace = 'public'::regnamespace and p.prokind <> 'a'
    and not exists (select from pg_depend as d where d.objid = p.oid and d.deptype = 'e')
union all
select 'row_security/' || relname, owner,
    format('alter table %1$s enable row level security;%2$salter table %1$s force row '
        'level security;', oid::regclass, e'\n'),
    format('alter table %1$s no force row level security;%2$salter table %1$s disable row '
        'level security;', oid::regclass, e'\n'),
    null, null
from ours
where relrowsecurity and relforcerowsecurity
union all
select 'triggers/' || t.tgname, c.owner, pg_get_triggerdef(t.oid) || ';',
    format('drop trigger %I on %s;', t.tgname, c.oid::regclass),
    format('comment on trigger %I on %s is%s%L;', t.tgname, c.oid::regclass, e'\n',
        obj_description(t.oid, 'pg_trigger')), null
from pg_trigger as t inner join ours as c on t.tgrelid = c.oid
where not t.tgisinternal
union all
select format('policies/%s.%s', c.relname, p.polname), c.owner,
    format('create policy %I on %s as %s for %s to %s', p.polname, c.oid::regclass,
        case when p.polpermissive then 'permissive' else 'restrictive' end,
        case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update'
            when 'd' then 'delete' else 'all' end,
        (select string_agg(r::regrole::text, ', ') from unnest(p.polroles) as r))
    || coalesce(format(' using (%s)', pg_get_expr(p.polqual, p.polrelid)), '')
    || coalesce(format(' with check (%s)', pg_get_expr(p.polwithcheck, p.polrelid)), '') || ';',
    format('drop policy %I on %s;', p.polname, c.oid::regclass),
    format('comment on policy %I on %s is%s%L;', p.polname, c.oid::regclass, e'\n',
        obj_description(p.oid, 'pg_policy')), null
from pg_policy as p inner join ours as c on p.polrelid = c.oid
union all
select 'views/' || relname, owner,
    format('create or replace view %s with (%s) as %s', oid::regclass,
        coalesce(array_to_string(reloptions, ', '), 'security_invoker = false'),
        pg_get_viewdef(oid)),
    format('drop view %s;', oid::regclass),
    format('comment on view %s is%s%L;', oid::regclass, e'\n', obj_description(oid, 'pg_class')),
    null
from ours
where relkind = 'v'
"""
_TOKENS: Final = re.compile(
    r"--[^\n]*|'(?:[^']|'')*'|\"[^\"]*\"|\$(\w*)\$.*?\$\1\$|\bbegin\s+atomic\b.*?\bend\s*;|;",
    re.S | re.I,
)
_ROLE: Final = re.compile(r"set local role (\w+)", re.I)
_NAME: Final = (
    r"(?:(function|view)\s+public\.(\w+)"
    r"|(trigger)\s+(\w+)|(policy)\s+(\w+)\s+on\s+public\.(\w+))"
)
_MADE: Final = re.compile(rf"create\s+(?:or\s+replace\s+)?{_NAME}", re.I)
_COMMENT: Final = re.compile(rf"comment\s+on\s+{_NAME}", re.I)
_FOLDER: Final = {
    "function": "functions",
    "view": "views",
    "trigger": "triggers",
    "policy": "policies",
}


@dataclass(frozen=True)
class Object:
    """What the catalogs say of one object; ``text`` makes it again, ``drop`` takes it away."""

    owner: str
    text: str
    comment: str
    drop: str
    grants: str


@dataclass(frozen=True)
class Objects:
    """Files of a revision by name, in their order: up, and back before what is dropped."""

    up: dict[str, str] = field(default_factory=dict)
    restored: dict[str, str] = field(default_factory=dict)
    dropped: str = ""
    with_tables: dict[str, str] = field(default_factory=dict)  # when these are back
    notes: tuple[str, ...] = ()


def of(server: psycopg.Connection, tables: str) -> Objects:
    """Compare; ``tables`` is the SQL that the revision runs before. Rolls back.

    Raises: UsageError for text that does not run.
    """
    declared, frozen = made.declared(), _frozen()
    opt_in = {
        f"policies/{name.rpartition('/')[2]}" for name in made.texts() if name.startswith("opt_in/")
    }
    try:
        server.execute("set local lock_timeout = '4s'")
        start = _state(server)
        _run(server, "the tables' part of the draft", tables)
        before = _state(server)
        order = _apply(server, declared)
        after = _state(server)
        # Functions last, because the others call them.
        gone = sorted(
            before.keys() - declared.keys() - opt_in, key=lambda one: (_is_code(one), one)
        )
        _run(server, "dropping what schema/sql has no more", _drops(before, gone))
    finally:
        server.rollback()
    changed = [name for name in order if after.get(name) != before.get(name)]
    said = [name for name in changed if name in start and _but_comment(start, after, name)]
    changed = [name for name in changed if name not in said]
    after = {name: one for name, one in after.items() if name not in gone}

    def previous(names: Iterable[str]) -> dict[str, str]:
        """Functions first: the others call them."""
        ranked = sorted(
            (name for name in names if name in start), key=lambda one: not _is_code(one)
        )
        return {
            _file(name, "down."): _previous(start[name], frozen.get(name), again=name not in after)
            for name in ranked
        }

    up = {_file(name): declared[name] for name in changed}
    restored = previous([*gone, *changed])
    if said:
        up["comments"] = _comments(after, said)
        restored["down.comments"] = _comments(start, said)
    if gone:
        up["drops"] = f"-- What schema/sql has no more.\n{_drops(before, gone)}"
    return Objects(
        up,
        restored,
        _drops(after, [name for name in reversed(changed) if name not in start]),
        previous(start.keys() - before.keys()),
        tuple(_by_hand(changed, start, declared, frozen)),
    )


def refresh(folder: Path) -> list[Path]:
    """Write the declared text into a revision's files that hold another; returns these."""
    changed = []
    for name, text in made.declared().items():
        path = folder / f"{_file(name)}.sql"
        if path.exists() and path.read_text() != text:
            path.write_text(text)
            changed.append(path)
    return changed


def _file(name: str, prefix: str = "") -> str:
    return prefix + name.replace("/", ".")


def _state(server: psycopg.Connection) -> dict[str, Object]:
    """With an empty path: the server writes every name qualified. Then with that of revisions."""
    server.execute("set local role none; set local search_path = ''")
    rows = server.execute(_STATE.encode()).fetchall()
    server.execute("set local search_path = public")
    return {
        name: Object(owner, text, comment or "", drop, grants or "")
        for name, owner, text, drop, comment, grants in rows
    }


def _run(server: psycopg.Connection, what: str, text: str) -> None:
    try:
        server.execute(text.encode())
    except psycopg.Error as error:
        raise UsageError(f"{what} does not run: {error.diag.message_primary or error}") from None


def _apply(server: psycopg.Connection, texts: Mapping[str, str]) -> list[str]:
    """Run every text, after what it needs; returns the order that went well."""
    done: list[str] = []
    waiting = dict(texts)
    while waiting:
        errors = {}
        for name, text in waiting.items():
            try:
                with server.transaction():
                    server.execute(text.encode())
            except psycopg.Error as error:
                errors[name] = error.diag.message_primary or str(error)
            else:
                done.append(name)
        if len(errors) == len(waiting):
            lines = "\n  ".join(f"schema/sql/{name}.sql: {what}" for name, what in errors.items())
            raise UsageError(f"The declared text does not run:\n  {lines}")
        waiting = {name: texts[name] for name in errors}
    return done


def _drops(state: Mapping[str, Object], names: Iterable[str]) -> str:
    return _as_owners((state[name].owner, state[name].drop) for name in names if name in state)


def _but_comment(start: Mapping[str, Object], after: Mapping[str, Object], name: str) -> bool:
    return replace(start[name], comment="") == replace(after[name], comment="")


def _comments(state: Mapping[str, Object], names: list[str]) -> str:
    return "-- Comments of what is otherwise as it was.\n" + _as_owners(
        (state[name].owner, f"{state[name].comment}\n") for name in names
    )


def _as_owners(statements: Iterable[tuple[str, str]]) -> str:
    """Return the statements, with a line where another role runs them."""
    lines, role = [], ""
    for owner, statement in statements:
        lines += [] if owner == role else [f"set local role {owner};"]
        lines.append(statement)
        role = owner
    return "".join(f"{line}\n" for line in lines)


def _is_code(name: str) -> bool:
    return name.startswith("functions/")


def _previous(found: Object, frozen: str | None, *, again: bool) -> str:
    """Return the previous text: as it was frozen, or as the server prints it."""
    text = frozen or f"set local role {found.owner};\n\n{found.text}\n{found.comment}\n"
    # A recreated function has no grants, and its triggers need them at once.
    return f"{text}\n{found.grants}\n" if again and found.grants else text


def _by_hand(
    changed: list[str],
    start: Mapping[str, Object],
    declared: Mapping[str, str],
    frozen: Mapping[str, str],
) -> Iterator[str]:
    for name in changed:
        if name in start and name in frozen and _body(frozen[name]) == _body(declared[name]):
            yield f"{name}: the database has another text than revisions gave it; see the audit"


def _body(text: str) -> str:
    return " ".join(statement for _, statement in _statements(text) if _MADE.match(statement))


def _frozen() -> dict[str, str]:
    """Return the last text of each object that the revisions made, in their order."""
    found: dict[str, str] = {}
    for path in revisions.frozen_files():
        for role, statement in _statements(path.read_text()):
            if matched := _MADE.match(statement):
                # A policy is dropped before it is made anew, as in schema/sql.
                name, drop = _named(matched), ""
                if name.startswith("policies/"):
                    table, policy = name.removeprefix("policies/").split(".")
                    drop = f"drop policy if exists {policy} on public.{table};\n"
                found[name] = f"set local role {role};\n\n{drop}{statement}\n"
            elif (matched := _COMMENT.match(statement)) and _named(matched) in found:
                name = _named(matched)
                found[name] = found[name].partition("\ncomment on ")[0] + f"\n{statement}\n"
    return found


def _named(matched: re.Match[str]) -> str:
    kind, *names = [part for part in matched.groups() if part]
    return f"{_FOLDER[kind.lower()]}/{'.'.join(reversed(names))}"


def _statements(text: str) -> Iterator[tuple[str, str]]:
    """Yield each statement, without comments before it, and the role that runs it."""
    role, start = "pandom_owner", 0
    for token in _TOKENS.finditer(text):
        if token[0].startswith("--") and not text[start : token.start()].strip():
            start = token.end()
        elif token[0].endswith(";"):
            statement = text[start : token.end()].strip()
            start = token.end()
            if matched := _ROLE.match(statement):
                role = matched[1]
            else:
                yield role, statement
