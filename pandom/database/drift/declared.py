"""What the catalogs should say: schema/access.py and schema/catalog.json as facts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from pandom.database import settings as row_settings
from pandom.database.drift import recorded
from pandom.database.drift.catalog import Observed
from pandom.database.drift.facts import PUBLIC, Fact, Facts, ident, listed, qualified, words
from pandom.database.settings import DatabaseSettings
from schema import access

# The role that initdb makes.
_SUPERUSER: Final = {
    "superuser": "true",
    "login": "true",
    "inherit": "true",
    "create role": "true",
    "create database": "true",
    "replication": "true",
    "bypass row security": "true",
    "connection limit": "-1",
    "valid until": "always",
    "comment": "",
}

OWNERS: Final = tuple(sorted({entry.owner for entry in access.DEFAULT_PRIVILEGES}))

# What PostgreSQL gives PUBLIC on objects made later, unless an entry says otherwise.
_DEFAULTS: Final = {"function": "EXECUTE", "type": "USAGE"}


def facts(
    observed: Observed,
    opt_in: frozenset[str],
    known: Facts | None = None,
    settings: DatabaseSettings | None = None,
) -> Facts:
    """Return every declared fact of the observed database; ``known`` replaces the recording.

    The database's name and the months that have partitions are taken from what was observed, and so
    are the rows that a stack's ``settings`` decide, without them.
    """
    roles = frozenset(role.name for role in access.roles(opt_in))
    partitions = recorded.partitions(observed)
    found: Facts = cluster(opt_in)
    known = recorded.load() if known is None else known
    found.update(_recorded(known, partitions, roles | {access.SUPERUSER, PUBLIC}))
    found[Fact("owner", f"database {observed.database}", "owner")] = access.SUPERUSER
    relations = [fact.object for fact in found if fact.kind == "owner"]
    found.update(objects(partitions, opt_in, relations))
    found.update(database(observed.database, opt_in))
    found[Fact("database", observed.database, "connection limit")] = "-1"
    found[Fact("database", observed.database, "template")] = "false"
    found.update(_setting_rows(observed, settings))
    return comparable(found)


def cluster(opt_in: frozenset[str]) -> Facts:
    """Roles, their settings and memberships: what is the same whatever revision a database has."""
    roles = frozenset(role.name for role in access.roles(opt_in))
    return comparable(_roles(opt_in) | _memberships(roles))


def _roles(opt_in: frozenset[str]) -> Facts:
    found = {Fact("role", access.SUPERUSER, key): value for key, value in _SUPERUSER.items()}
    for role in access.roles(opt_in):
        attributes = {
            "superuser": "false",
            "login": _flag(role.login),
            "inherit": _flag(role.inherit),
            "create role": "false",
            "create database": "false",
            "replication": "false",
            "bypass row security": _flag(role.bypass_rls),
            "connection limit": str(role.connection_limit),
            "valid until": "always",
            "comment": role.comment,
        }
        found.update((Fact("role", role.name, key), value) for key, value in attributes.items())
        found.update(
            (Fact("role setting", role.name, key), value) for key, value in role.settings.items()
        )
    return found


def comparable(found: Facts) -> Facts:
    """Return the facts with times in one unit: 30s and 30000 of a role are the same."""
    units = {"role setting": _milliseconds, "setting row": row_settings.plain}
    return {
        fact: units[fact.kind](value) if fact.kind in units else value
        for fact, value in found.items()
    }


def _milliseconds(value: str) -> str:
    milliseconds = access.milliseconds(value)
    return value if milliseconds is None else str(milliseconds)


def _setting_rows(observed: Observed, settings: DatabaseSettings | None) -> Facts:
    found = {
        Fact("setting row", *row): value for row, value in row_settings.declared(settings).items()
    }
    if settings is None:
        decided = row_settings.of_stack(row_settings.DatabaseSettings(False, False, 1))
        for row in decided:
            fact = Fact("setting row", *row)
            if fact in observed.facts:
                found[fact] = observed.facts[fact]
    return found


def _flag(value: bool) -> str:
    return str(value).lower()


def _memberships(roles: frozenset[str]) -> Facts:
    return {
        Fact("membership", entry.group, entry.member): ", ".join(
            word
            for word, given in (
                ("inherit", entry.inherit),
                ("set", entry.set_role),
                ("admin", entry.admin),
            )
            if given
        )
        for entry in access.MEMBERSHIPS
        if entry.member in roles
    }


def _recorded(known: Facts, partitions: Mapping[str, str], roles: frozenset[str]) -> Facts:
    """Return the recorded facts, once for each partition that exists."""
    # Policies for roles of settings that are off.
    off = {
        fact.object
        for fact, value in known.items()
        if fact.kind == "policy" and fact.detail == "to" and not words(value) <= roles
    }
    names: dict[str, list[str]] = {}
    for name, parent in partitions.items():
        names.setdefault(recorded.placeholder(parent), []).append(name)
    found: Facts = {}
    for fact, value in known.items():
        if fact.kind == "policy" and fact.object in off:
            continue
        start, brace, end = fact.object.partition("{")
        if not brace:
            found[fact] = value
            continue
        for name in names.get(brace + end, ()):
            found[fact._replace(object=start + name)] = value
    return found


def objects(
    partitions: Mapping[str, str],
    opt_in: frozenset[str],
    relations: Iterable[str],
    former: Iterable[access.Grant] = (),
) -> Facts:
    """Return the privileges on tables, functions and types, and ``former`` ones.

    ``partitions`` have their parents; ``relations`` tell views from tables, as GRANT does not.
    """
    trail = tuple(name for name, parent in partitions.items() if parent in access.TRAIL_TABLES)
    return privileges((*access.object_grants(trail, opt_in), *former), relations)


def database(name: str, opt_in: frozenset[str], connecting: Collection[str] | None = None) -> Facts:
    """Return the privileges on a database and its schema, and those of objects made later.

    With ``connecting`` only these logins may connect.
    """
    known = {role.name for role in access.roles(opt_in)} | {access.PUBLIC}
    grants = [
        grant
        for grant in (*access.database_grants(name), *access.SCHEMA_GRANTS)
        if grant.role in known
        and (grant.kind != "database" or connecting is None or grant.role in connecting)
    ]
    return privileges(grants) | _default_privileges()


def privileges(grants: Iterable[access.Grant], relations: Iterable[str] = ()) -> Facts:
    """Grant as facts; ``relations`` as in ``objects``."""
    views = {name.removeprefix("view "): name for name in relations if name.startswith("view ")}
    found: Facts = {}
    for grant in grants:
        plain = grant.kind in ("database", "schema")
        written = ident(grant.name) if plain else qualified(grant.name)
        name = f"{grant.kind} {written}"
        if grant.kind == "table":
            name = views.get(written, name)
        role = PUBLIC if grant.role == access.PUBLIC else grant.role
        for one in [f"column {ident(column)} of {written}" for column in grant.columns] or [name]:
            fact = Fact("privilege", one, role)
            held = words(found.get(fact, "")) | grant.privileges
            if held:
                found[fact] = listed(held)
    return found


def _default_privileges() -> Facts:
    """PostgreSQL's defaults for each declared owner, with the declaration laid over them."""
    found = {
        Fact("default privilege", f"{kind}s of {owner}", PUBLIC): privilege
        for owner in OWNERS
        for kind, privilege in _DEFAULTS.items()
    }
    for entry in access.DEFAULT_PRIVILEGES:
        grantee = PUBLIC if entry.role == access.PUBLIC else entry.role
        fact = Fact("default privilege", f"{entry.kind}s of {entry.owner}", grantee)
        found[fact] = listed(entry.privileges)
    return {fact: value for fact, value in found.items() if value}
