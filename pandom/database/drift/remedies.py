"""The SQL that corrects a difference, for a superuser, in the order of ``rank``.

What no statement can correct has none, and the finding says what to do instead. `up` runs what is
``safe``; the rest is for a person and `pandom audit heal`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import psycopg

from pandom.database.drift.differences import Difference, differences
from pandom.database.drift.facts import PUBLIC, Fact, Facts, ident, words
from pandom.database.drift.kinds import MADE, ORDER
from pandom.runtime.paths import ROOT
from schema import access

_SQL: Final = ROOT / "schema" / "sql"
# A view before the table it reads, a mapping before its server.
_DROPPED: Final = (
    "event trigger",
    "publication",
    "subscription",
    "view",
    "materialized view",
    "user mapping",
    "foreign table",
    "foreign server",
    "foreign data wrapper",
    "table",
)


def rank(difference: Difference) -> tuple[int, int, int, str]:
    """Sort differences into the order in which their SQL must run."""
    kind = ORDER.get(difference.kind, len(ORDER))
    if difference.kind == "role" and difference.status == "extra":
        # Last, because `drop owned` also drops policies and grants that other statements name.
        kind = len(ORDER) + 1
    drop = next(
        (
            place
            for place, word in enumerate(_DROPPED, 1)
            if difference.object.startswith(word + " ")
        ),
        50,
    )
    column = difference.object.startswith("column ")
    return kind, drop if difference.status == "extra" else 0, int(column), difference.id


def declared_in(difference: Difference) -> str | None:
    """Return where an extra object is declared, if only its recording is missing."""
    if difference.status != "extra":
        return None
    kind, _, name = (
        difference.object.partition(" ")
        if difference.kind == "owner"
        else (difference.kind, "", difference.object)
    )
    name = name.partition("(")[0]
    if kind in ("policy", "trigger"):
        name, _, table = difference.object.partition(" on ")
        if kind == "policy":
            name = f"{table.removeprefix(f'{access.SCHEMA}.')}.{name}"
    elif not name.startswith(f"{access.SCHEMA}."):
        return None
    name = name.removeprefix(f"{access.SCHEMA}.").replace('"', "")
    if kind in ("table", "type", "sequence"):
        return "schema/models.py" if _in_models(kind, name) else None
    if kind not in _FOLDERS or _declared_text(_FOLDERS[kind], name) is None:
        return None
    path = _SQL / _FOLDERS[kind] / f"{name}.sql"
    return str(path.relative_to(ROOT)) if path.is_file() else "schema/models.py"


_FOLDERS: Final = {
    "function": "functions",
    "policy": "policies",
    "procedure": "functions",
    "trigger": "triggers",
    "view": "views",
}


def _declared_text(kind: str, name: str) -> str | None:
    from pandom.database import made  # imports SQLAlchemy, and is rarely needed

    return made.declared().get(f"{kind}/{name}")


def made_by_a_revision(difference: Difference) -> bool:
    """Return whether the frozen text of any revision names the object."""
    name = difference.object.partition(" on ")[0].partition("(")[0].split(" ")[-1]
    plain = re.escape(name.rpartition(".")[2].strip('"'))
    pattern = re.compile(rf"\bcreate\b[^;]*?\b{plain}\b", re.IGNORECASE)
    return any(
        pattern.search(path.read_text())
        for path in (ROOT / "migrations" / "sql").glob("*/*.sql")
        if path.stem != "down"
    )


def _in_models(kind: str, name: str) -> bool:
    from schema.models import Base  # of SQLAlchemy's size, and hardly ever wanted

    tables = Base.metadata.tables
    if kind == "table":
        return name in tables
    columns = [column for table in tables.values() for column in table.columns]
    if kind == "type":
        return name in {getattr(column.type, "name", None) for column in columns}
    return name in {f"{column.table.name}_{column.name}_seq" for column in columns}


def sql(difference: Difference, expected: Facts) -> str | None:
    """Return the statements for one difference and its consequences; None if there are none."""
    maker = _MAKERS.get(difference.kind)
    own = list(maker(difference, expected)) if maker else []
    if not own:
        return None
    if difference.status != "extra":
        # Consequences of an extra object are dropped with it.
        for child in sorted(difference.consequences, key=rank):
            if text := sql(child, expected):
                own.append(text)
    return "\n".join(dict.fromkeys(own))


def safe(difference: Difference) -> bool:
    """Return whether `up` may correct it without asking: that drops nothing somebody made, deletes
    no row, and creates no role without its password."""
    if difference.status == "extra":
        return difference.kind not in MADE
    return (difference.kind, difference.status) != ("role", "missing")


def plan(expected: Facts, seen: Facts) -> Iterator[tuple[Difference, str]]:
    """Yield each safe difference with its SQL, in the order in which it must run."""
    for finding in sorted(filter(safe, differences(expected, seen)), key=rank):
        if text := sql(finding, expected):
            yield finding, text


def apply(connection: psycopg.Connection, scripts: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Run scripts (name and SQL, in order) as the superuser, each whole or not at all.

    In autocommit mode. Failed ones are tried again after the others. Returns what failed in the
    end: name → reason.
    """
    failed: dict[str, str] = {}
    waiting = list(scripts)
    while waiting:
        failed.clear()
        left = []
        for name, text in waiting:
            try:
                connection.execute(text.encode())
            except psycopg.Error as error:
                failed[name] = error.diag.message_primary or str(error).strip()
                left.append((name, text))
                if connection.closed:
                    return failed | {other: failed[name] for other, _ in waiting}
                # A script may have begun a transaction, or become another role.
                connection.execute("rollback")
                connection.execute("reset role")
        if len(left) == len(waiting):
            break
        waiting = left
    return failed


def literal(text: str) -> str:
    """Return a string as SQL wants it (standard_conforming_strings)."""
    return "'" + text.replace("'", "''") + "'"


def _grantee(name: str) -> str:
    return "public" if name == PUBLIC else ident(name)


# -- roles ------------------------------------------------------------------------------

_ATTRIBUTES: Final = {
    "superuser": "superuser",
    "login": "login",
    "inherit": "inherit",
    "create role": "createrole",
    "create database": "createdb",
    "replication": "replication",
    "bypass row security": "bypassrls",
}


def _attribute(detail: str, value: str) -> str:
    if detail == "connection limit":
        return f"connection limit {value}"
    if detail == "valid until":
        return f"valid until {literal('infinity' if value == 'always' else value)}"
    return ("" if value == "true" else "no") + _ATTRIBUTES[detail]


def _role(difference: Difference, _expected: Facts) -> Iterable[str]:
    name = ident(difference.object)
    if difference.status == "extra":
        yield f"reassign owned by {name} to {access.SUPERUSER};"
        yield f"drop owned by {name};"
        yield f"drop role {name};"
        return
    wanted = dict(difference.expected)
    comment = wanted.pop("comment", None)
    attributes = " ".join(_attribute(detail, value) for detail, value in wanted.items())
    if difference.status == "missing":
        yield f"create role {name} {attributes.replace(' valid until ' + literal('infinity'), '')};"
    elif attributes:
        yield f"alter role {name} {attributes};"
    if comment is not None:
        yield f"comment on role {name} is {literal(comment)};"


def _role_setting(difference: Difference, _expected: Facts) -> Iterable[str]:
    if difference.object == "every role":
        target = "role all"
    elif difference.object.startswith("database "):
        target = difference.object
    else:
        target = f"role {difference.object}"
    for detail in difference.expected.keys() | difference.actual.keys():
        if detail in difference.expected:
            yield f"alter {target} set {ident(detail)} = {literal(difference.expected[detail])};"
        else:
            parameter = ".".join(ident(part) for part in detail.split("."))
            yield f"alter {target} reset {parameter};"


def _setting_row(difference: Difference, _expected: Facts) -> Iterable[str]:
    """Yield the update; there is none for a missing row, or for encryption, which needs the key."""
    table, _, log = difference.object.partition(" ")
    if difference.status == "different" and difference.detail != "encrypt_password_hash":
        where = f" where log = {literal(log)}" if log else ""
        value = literal(difference.expected[difference.detail])
        yield " ".join(("update", table, "set", f"{ident(difference.detail)} = {value}{where};"))


def _database(difference: Difference, _expected: Facts) -> Iterable[str]:
    word = {"template": "is_template"}.get(difference.detail, difference.detail)
    value = difference.expected[difference.detail]
    yield f"alter database {ident(difference.object)} {word} {value};"


def _membership(difference: Difference, _expected: Facts) -> Iterable[str]:
    group = ident(difference.object)
    member, _, grantor = difference.detail.partition(" by ")
    if difference.status == "extra":
        by = f" granted by {ident(grantor)}" if grantor else ""
        yield f"revoke {group} from {ident(member)}{by} cascade;"
        return
    wanted = words(difference.expected[difference.detail])
    if "admin" in words(difference.actual.get(difference.detail, "")) - wanted:
        yield f"revoke admin option for {group} from {ident(member)} cascade;"
    options = ", ".join(
        f"{key} {str(key in wanted).lower()}" for key in ("inherit", "set", "admin")
    )
    yield f"grant {group} to {ident(member)} with {options};"


# -- objects ----------------------------------------------------------------------------


def _owner(difference: Difference, expected: Facts) -> Iterable[str]:
    target = difference.object.replace("foreign server ", "server ", 1)
    if difference.status == "extra":
        if target.startswith("user mapping "):
            yield f"drop {target};"
        elif target.startswith("large object "):
            yield f"select pg_catalog.lo_unlink({target.removeprefix('large object ')});"
        else:
            cascade = " cascade" if target.startswith(("foreign data", "server ")) else ""
            yield f"drop {target}{cascade};"
    elif difference.status == "different":
        owner = next(iter(difference.expected.values()))
        if " by extension " not in owner:
            yield f"alter {target} owner to {ident(owner)};"
    else:
        word, _, name = difference.object.partition(" ")
        if word in ("function", "view"):
            yield from _file(word + "s", name)


def _file(folder: str, name: str) -> Iterable[str]:
    """Yield the declared text of a function or view, as the owner that its file names."""
    stem = name.partition("(")[0].removeprefix(f"{access.SCHEMA}.")
    if text := _declared_text(folder, stem):
        yield f"begin;\n{text.strip()}\ncommit;"


def _function(difference: Difference, _expected: Facts) -> Iterable[str]:
    return _file("functions", difference.object)


def _view(difference: Difference, _expected: Facts) -> Iterable[str]:
    return _file("views", difference.object)


def _extension(difference: Difference, _expected: Facts) -> Iterable[str]:
    if difference.status == "extra":
        yield f"drop extension {difference.object} cascade;"
    elif difference.status == "missing":
        yield (_SQL / "cluster" / "extensions.sql").read_text().strip()
    else:
        schema = difference.expected[difference.detail]
        yield f"alter extension {difference.object} set schema {schema};"


def _row_security(difference: Difference, _expected: Facts) -> Iterable[str]:
    verbs = {
        ("enabled", "true"): "enable",
        ("enabled", "false"): "disable",
        ("forced", "true"): "force",
        ("forced", "false"): "no force",
    }
    for detail, value in difference.expected.items():
        yield f"alter {difference.object} {verbs[detail, value]} row level security;"


def _policy(difference: Difference, expected: Facts) -> Iterable[str]:
    if difference.status == "extra":
        yield f"drop policy {difference.object};"
        return
    whole = {
        fact.detail: value
        for fact, value in expected.items()
        if fact.kind == "policy" and fact.object == difference.object
    }
    roles = ", ".join(_grantee(role) for role in sorted(words(whole["to"])))
    using = f" using ({whole['using']})" if whole["using"] else ""
    check = f" with check ({whole['with check']})" if whole["with check"] else ""
    # ALTER POLICY removes no expression and changes no command.
    lost = [key for key in ("using", "with check") if difference.actual.get(key) and not whole[key]]
    if difference.status == "different" and not (
        lost or difference.expected.keys() & {"as", "for"}
    ):
        yield f"alter policy {difference.object} to {roles}{using}{check};"
        return
    if difference.status == "different":
        yield f"drop policy {difference.object};"
    yield (
        f"create policy {difference.object} as {whole['as']} for {whole['for']} "
        f"to {roles}{using}{check};"
    )


_FIRES: Final = {
    "normally": "enable",
    "always": "enable always",
    "in replicas only": "enable replica",
    "never": "disable",
}


def _trigger(difference: Difference, expected: Facts) -> Iterable[str]:
    name, _, table = difference.object.removeprefix("foreign key ").rpartition(" on ")
    if difference.object.startswith("foreign key "):
        yield f"alter table {table} enable trigger {name};"
        return
    if difference.status == "extra":
        yield f"drop trigger {difference.object};"
        return
    fires = expected[Fact("trigger", difference.object, "fires")]
    if "definition" in difference.expected:
        if difference.status == "different":
            yield f"drop trigger {difference.object};"
        yield difference.expected["definition"] + ";"
        if fires == "normally":
            return
    yield f"alter table {table} {_FIRES[fires]} trigger {name};"


def _rule(difference: Difference, _expected: Facts) -> Iterable[str]:
    if difference.actual:
        yield f"drop rule {difference.object};"
    yield from difference.expected.values()


def _event_trigger(difference: Difference, _expected: Facts) -> Iterable[str]:
    wanted = difference.expected.get(difference.detail, "")
    if difference.status == "different":
        verb = {"disabled": "disable", "enabled": "enable"}.get(wanted.split()[-1], "enable always")
        yield f"alter event trigger {difference.object} {verb};"


# -- privileges -------------------------------------------------------------------------

_GRANT_WORDS: Final = {
    "view ": "table ",
    "materialized view ": "table ",
    "foreign table ": "table ",
    "aggregate ": "function ",
    "foreign server ": "foreign server ",
}


def _statement(verb: str, privileges: Iterable[str], name: str, role: str) -> str:
    """GRANT or REVOKE with the object in the form that both want."""
    what = ", ".join(sorted(privilege.lower() for privilege in privileges))
    if name.startswith("column "):
        column, _, table = name.removeprefix("column ").rpartition(" of ")
        what, name = f"{what} ({column})", f"table {table}"
    for word, instead in _GRANT_WORDS.items():
        if name.startswith(word):
            name = instead + name.removeprefix(word)
    preposition = "to" if verb == "grant" else "from"
    end = "" if verb == "grant" else " cascade"
    return f"{verb} {what} on {name} {preposition} {_grantee(role)}{end};"


def _privilege(difference: Difference, expected: Facts) -> Iterable[str]:
    name, role = difference.object, difference.detail
    wanted = words(difference.expected.get(role, ""))
    if role == "the owner":
        owner = expected.get(Fact("owner", name, "owner"), access.SUPERUSER)
        lacking = words(difference.actual[role].removeprefix("without "))
        yield _statement("grant", lacking, name, owner)
        return
    held: set[str] = set()
    options: set[str] = set()
    foreign: dict[str, set[str]] = {}
    for word in words(difference.actual.get(role, "")):
        text, _, grantor = word.partition("/")
        privilege = text.removesuffix("*")
        if grantor:
            foreign.setdefault(grantor, set()).add(privilege)
            continue
        held.add(privilege)
        if text.endswith("*"):
            options.add(privilege)
    for grantor, privileges in sorted(foreign.items()):
        # Only the grantor can revoke its grant, superuser or not.
        yield f"set role {ident(grantor)};"
        yield _statement("revoke", privileges, name, role)
        yield "reset role;"
    if extra := held - wanted:
        yield _statement("revoke", extra, name, role)
        yield from _columns_again(name, role, extra, expected)
    if too_much := options & wanted:
        yield _statement("revoke grant option for", too_much, name, role)
    if missing := wanted - held:
        yield _statement("grant", missing, name, role)


def _columns_again(name: str, role: str, privileges: set[str], expected: Facts) -> Iterable[str]:
    """Revoking from a table takes the same privilege from its columns, declared or not."""
    table = name.partition(" ")[2]
    for fact, value in sorted(expected.items()):
        if (
            fact.kind == "privilege"
            and fact.detail == role
            and fact.object.startswith("column ")
            and fact.object.endswith(f" of {table}")
            and (again := words(value) & privileges)
        ):
            yield _statement("grant", again, fact.object, role)


def _system_privilege(difference: Difference, _expected: Facts) -> Iterable[str]:
    wanted = difference.expected.get(difference.detail, "")
    found = difference.actual.get(difference.detail, "")
    start = (wanted or found).partition(" -> ")[0]
    target = _entries(wanted.partition(" -> ")[2] if wanted else start)
    holds = _entries(found.partition(" -> ")[2] if found else start)
    for role, privilege in sorted(holds - target):
        yield _statement("revoke", [privilege.removesuffix("*")], difference.object, role)
    for role, privilege in sorted(target - holds):
        yield _statement("grant", [privilege], difference.object, role)


def _entries(text: str) -> set[tuple[str, str]]:
    """Return the pairs (role, privilege) of a list such as ``PUBLIC EXECUTE, app SELECT*``."""
    pairs = (entry.rpartition(" ") for entry in words(text) if entry != "nobody")
    return {(role, privilege) for role, _, privilege in pairs}


def _default_privilege(difference: Difference, _expected: Facts) -> Iterable[str]:
    kinds, _, owner = difference.object.partition(" of ")
    owner, _, schema = owner.partition(" in schema ")
    place = f"for role {ident(owner)}" + (f" in schema {schema}" if schema else "")
    wanted = words(difference.expected.get(difference.detail, ""))
    held = {word.removesuffix("*") for word in words(difference.actual.get(difference.detail, ""))}
    options = {
        word.removesuffix("*")
        for word in words(difference.actual.get(difference.detail, ""))
        if "*" in word
    }
    role = _grantee(difference.detail)
    for verb, privileges, preposition in (
        ("revoke", held - wanted, "from"),
        ("revoke grant option for", options & wanted, "from"),
        ("grant", wanted - held, "to"),
    ):
        if privileges:
            what = ", ".join(sorted(privilege.lower() for privilege in privileges))
            yield (
                f"alter default privileges {place} {verb} {what} on {kinds} {preposition} {role};"
            )


_MAKERS: Final[dict[str, Callable[[Difference, Facts], Iterable[str]]]] = {
    "role": _role,
    "role setting": _role_setting,
    "setting row": _setting_row,
    "database": _database,
    "membership": _membership,
    "owner": _owner,
    "function": _function,
    "view": _view,
    "extension": _extension,
    "row security": _row_security,
    "policy": _policy,
    "trigger": _trigger,
    "rule": _rule,
    "event trigger": _event_trigger,
    "privilege": _privilege,
    "system privilege": _system_privilege,
    "default privilege": _default_privilege,
}
