"""Who can do what, by any path: inherited, by SET ROLE, by granting itself, as owner.

PostgreSQL's rules since 16: INHERIT uses a group's privileges at once, SET lets the session become
it (along SET edges only), ADMIN lets it grant the group to itself, and an owner may grant itself
the rest.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from pandom.database.drift.catalog import Observed
from pandom.database.drift.facts import PUBLIC, words
from pandom.runtime.errors import UsageError
from schema import access

# What predefined roles give without a grant on any object.
_PREDEFINED: Final[Mapping[str, frozenset[str]]] = {
    "pg_read_all_data": frozenset({"SELECT"}),
    "pg_write_all_data": frozenset({"INSERT", "UPDATE", "DELETE"}),
    "pg_maintain": frozenset({"MAINTAIN"}),
}
# Whoever has one of these reaches everything: they read, write or run as the server itself.
_AS_SERVER: Final = frozenset(
    {"pg_execute_server_program", "pg_write_server_files", "pg_read_server_files"}
)
_VERBS: Final = frozenset(
    {
        "select",
        "insert",
        "update",
        "delete",
        "truncate",
        "references",
        "trigger",
        "maintain",
        "execute",
        "usage",
        "create",
        "connect",
        "temporary",
        "alter",
        "drop",
        "become",
    }
)
_TRAIL: Final = f"table {access.TRAIL_TABLES[0]}"
_PAST: Final = "past row security"
_ALL_ROWS: Final = "all rows"
_POLICY_OF: Final = {"SELECT", "INSERT", "UPDATE", "DELETE"}


@dataclass(frozen=True)
class AccessPath:
    """One way in which a login can do something. ``note`` limits or explains it."""

    login: str
    role: str
    path: str
    reason: str
    note: str = ""

    @property
    def function(self) -> str:
        """The function that is called, if that is the way."""
        return self.reason.removeprefix("calls ")


@dataclass(frozen=True)
class Answer:
    """Who can: directly, and by functions whose body decides.

    ``functions`` name the table in their body; ``other_functions`` could reach it with their
    owner's rights. ``elsewhere`` names other places with the values.
    """

    privilege: str
    object: str
    ways: tuple[AccessPath, ...]
    functions: tuple[AccessPath, ...] = ()
    other_functions: tuple[AccessPath, ...] = ()
    elsewhere: tuple[str, ...] = ()


@dataclass(frozen=True)
class Login:
    """What one login can become, and the three questions that matter most."""

    name: str
    becomes: Mapping[str, str]
    bypasses_row_security: tuple[str, ...]
    reads_passwords: tuple[str, ...]
    changes_trail: tuple[str, ...]


@dataclass(frozen=True)
class Edge:
    """``member`` belongs to ``group``."""

    group: str
    member: str
    inherit: bool
    set_role: bool
    admin: bool


@dataclass
class AccessGraph:
    """Roles, memberships and privileges as they were observed, indexed for questions."""

    observed: Observed
    edges: list[Edge] = field(default_factory=list)
    roles: dict[str, dict[str, str]] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    privileges: dict[str, dict[str, frozenset[str]]] = field(default_factory=dict)
    policies: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    secured: dict[str, dict[str, str]] = field(default_factory=dict)
    definers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        policies: dict[str, dict[str, str]] = {}
        for (kind, name, detail), value in self.observed.facts.items():
            if kind == "role":
                self.roles.setdefault(name, {})[detail] = value
            elif kind == "membership":
                options = words(value)
                member = detail.partition(" by ")[0]
                self.edges.append(
                    Edge(name, member, "inherit" in options, "set" in options, "admin" in options)
                )
            elif kind == "owner":
                self.owners[name] = value.partition(" by extension ")[0]
            elif kind == "privilege":
                plain = {word.partition("/")[0].removesuffix("*") for word in words(value)}
                self.privileges.setdefault(name, {})[detail] = frozenset(plain)
            elif kind == "policy":
                policies.setdefault(name, {"name": name})[detail] = value
            elif kind == "row security":
                self.secured.setdefault(name, {})[detail] = value
            elif kind == "function" and detail == "security" and value == "definer":
                self.definers.append(name)
        for name, policy in policies.items():
            self.policies.setdefault("table " + name.rpartition(" on ")[2], []).append(policy)
        owner = self.owners.get(f"database {self.observed.database}")
        if owner:
            # An implicit membership, which no catalog lists.
            self.edges.append(Edge("pg_database_owner", owner, True, True, False))

    @cached_property
    def logins(self) -> tuple[str, ...]:
        """Roles that may sign in, the superuser's first."""
        found = [name for name, role in self.roles.items() if role["login"] == "true"]
        return tuple(sorted(found, key=lambda name: (not self.superuser(name), name)))

    def superuser(self, role: str) -> bool:
        """Return whether nothing is checked for the role."""
        return self.roles.get(role, {}).get("superuser") == "true"

    def bypasses(self, role: str) -> bool:
        """Return whether row security does not apply to the role; this is never inherited."""
        return self.superuser(role) or self.roles.get(role, {}).get("bypass row security") == "true"

    def inherited(self, role: str) -> dict[str, str]:
        """Return roles whose privileges ``role`` has at once, with the path."""
        found = {role: ""}
        queue = [role]
        while queue:
            member = queue.pop(0)
            for edge in self.edges:
                if edge.member == member and edge.inherit and edge.group not in found:
                    found[edge.group] = f"{found[member]} → inherits {edge.group}".removeprefix(
                        " → "
                    )
                    queue.append(edge.group)
        return found

    def becomes(self, login: str) -> dict[str, str]:
        """Return every role that a session of ``login`` can be, with the path; itself with none.

        Granting itself a group by ADMIN counts: it takes one statement.
        """
        found = {login: ""}
        if self.superuser(login):
            found |= {role: f"SET ROLE {role} (superuser)" for role in self.roles if role != login}
            return found
        # Follow SET edges from the login.
        chain = [login]
        while chain:
            member = chain.pop(0)
            for edge in self.edges:
                if edge.group in found:
                    continue
                if edge.member == member and edge.set_role:
                    found[edge.group] = _joined(found[member], f"SET ROLE {edge.group}")
                    chain.append(edge.group)
                elif edge.admin and (
                    edge.member == member or edge.member in self.inherited(member)
                ):
                    found[edge.group] = _joined(
                        found[member], f"grants itself {edge.group} (ADMIN)"
                    )
                    chain.append(edge.group)
        return found


def _joined(path: str, step: str) -> str:
    return f"{path} → {step}" if path else step


def who_can(
    observed: Observed,
    privilege: str,
    target: str,
    naming: Callable[[Sequence[str]], frozenset[str]] | None = None,
) -> Answer:
    """Return every login that has ``privilege`` on ``target``, by every role that it can be.

    ``naming`` returns the functions whose body has all of some words; without it all count. Raises
    UsageError for an unknown privilege or object, with the nearest names.
    """
    verb = privilege.lower()
    if verb not in _VERBS:
        raise UsageError(
            f"who-can: {privilege!r} is no privilege.\nThere are: {', '.join(sorted(_VERBS))}."
        )
    found = AccessGraph(observed)
    if verb == "become":
        if target not in found.roles:
            raise UsageError(f"who-can become: there is no role {target!r}.")
        ways = [
            AccessPath(login, target, path, "")
            for login in found.logins
            if login != target and (path := found.becomes(login).get(target))
        ]
        return Answer("BECOME", f"role {target}", tuple(ways))
    name = _resolve(found, target)
    ways = [way for login in found.logins for way in _ways(found, login, verb.upper(), name)]
    functions = _functions(found, verb.upper(), name) if not name.startswith("function ") else []
    sought = [_table(name).partition(" ")[2]]
    if name.startswith("column "):
        sought.append(name.split()[1])
    named = naming(sought) if naming and functions else None
    reading = [way for way in functions if named is None or way.function in named]
    return Answer(
        verb.upper(),
        name,
        tuple(ways),
        tuple(reading),
        tuple(way for way in functions if way not in reading),
        tuple(_elsewhere(found, name)) if verb == "select" else (),
    )


def _elsewhere(found: AccessGraph, name: str) -> Iterable[str]:
    """Yield where a trigger of the trail writes what a table or column holds."""
    writers = {
        function
        for function in found.definers
        if found.owners.get(f"function {function}") == found.owners.get(_TRAIL)
    }
    table = _table(name).partition(" ")[2]
    for (kind, trigger, detail), value in sorted(found.observed.facts.items()):
        if kind == "trigger" and detail == "definition" and trigger.endswith(f" on {table}"):
            called = value.rpartition("EXECUTE FUNCTION ")[2]
            if called in writers and " UPDATE " in value:
                yield (
                    f"changes stand in {_TRAIL.partition(' ')[2]}, written by {called}; "
                    "redacted columns without their values"
                )


def _resolve(found: AccessGraph, target: str) -> str:
    """Return the observed object that a name means: with or without kind, schema and arguments."""
    if target in found.owners or target.startswith("column "):
        return target
    columns = [name for name in found.privileges if name.startswith("column ")]
    table, dot, column = target.rpartition(".")
    short: dict[str, str] = {}
    for name in sorted(found.owners):
        kind, _, rest = name.partition(" ")
        plain = rest.removeprefix(f"{access.SCHEMA}.")
        for alias in {rest, plain, plain.partition("(")[0], f"{kind} {plain}"}:
            short.setdefault(alias, name)
    if target in short:
        return short[target]
    if dot and table in short:
        return f"column {column} of {short[table].partition(' ')[2]}"
    near = difflib.get_close_matches(target, [*short, *columns], n=3)
    hint = f" The nearest: {', '.join(near)}." if near else ""
    raise UsageError(f"who-can: there is no object {target!r}.{hint}")


def _ways(found: AccessGraph, login: str, privilege: str, name: str) -> Iterable[AccessPath]:
    """Yield one path for each role that ``login`` can be and that holds the privilege."""
    if found.superuser(login):
        yield AccessPath(login, login, "", "superuser")
        return
    for role, path in found.becomes(login).items():
        if found.superuser(role):
            yield AccessPath(login, role, path, "superuser")
            return
        reached = found.inherited(role)
        if server := _AS_SERVER & reached.keys():
            yield AccessPath(
                login, role, path, f"{min(server)}: runs or writes as the server itself"
            )
            return
        for holder, inherited in reached.items():
            reason = _holds(found, holder, privilege, name)
            if reason and _enters(found, reached, name):
                yield AccessPath(
                    login,
                    role,
                    _joined(path, inherited) if inherited else path,
                    reason,
                    rows_left(found, role, reached, privilege, name),
                )
                break


def _table(name: str) -> str:
    """Return the table of a column; anything else as it is."""
    return f"table {name.rpartition(' of ')[2]}" if name.startswith("column ") else name


def _holds(found: AccessGraph, role: str, privilege: str, name: str) -> str:
    """Return why ``role`` itself holds the privilege; "" if it does not."""
    table = _table(name)
    if found.owners.get(table) == role:
        return "owns it" if privilege in ("ALTER", "DROP") else "owns it, so it can"
    if privilege == "DROP":
        schema = table.partition(" ")[2].partition(".")[0]
        return "owns its schema" if found.owners.get(f"schema {schema}") == role else ""
    if privilege == "ALTER":
        return ""
    for one in dict.fromkeys((name, table)):
        for grantee in (role, PUBLIC):
            if privilege in found.privileges.get(one, {}).get(grantee, ()):
                return "granted to PUBLIC" if grantee == PUBLIC else "granted"
    if table.startswith(("table ", "view ", "sequence ")):
        if privilege in _PREDEFINED.get(role, ()):
            return f"{role} has it on everything"
        columns = [
            one.removeprefix("column ").rpartition(" of ")[0]
            for one, grantees in found.privileges.items()
            if name == table
            and one.startswith("column ")
            and _table(one) == table
            and privilege in grantees.get(role, ())
        ]
        if columns:
            return f"granted on columns {', '.join(sorted(columns))}"
    return ""


def _enters(found: AccessGraph, reached: Iterable[str], name: str) -> bool:
    """Return whether the object's schema may be used; without it a grant is worth nothing."""
    rest = name.rpartition(" of ")[2] if name.startswith("column ") else name.partition(" ")[2]
    schema, dot, _ = rest.partition("(")[0].rpartition(".")
    if not dot or name.startswith(("schema ", "database ")):
        return True
    place = f"schema {schema}"
    grantees = found.privileges.get(place, {})
    return any(
        found.owners.get(place) == role
        or "USAGE" in grantees.get(role, ())
        or role in ("pg_read_all_data", "pg_write_all_data")
        for role in (*reached, PUBLIC)
    )


def rows_left(
    found: AccessGraph, role: str, reached: Iterable[str], privilege: str, name: str
) -> str:
    """Return what row security leaves of the table for ``role``; "" where there is none."""
    table = _table(name)
    flags = found.secured.get(table)
    if privilege not in _POLICY_OF or flags is None or flags["enabled"] != "true":
        return ""
    if found.bypasses(role):
        return f"{_PAST} (BYPASSRLS)"
    if found.owners.get(table) in set(reached) and flags["forced"] != "true":
        return f"{_PAST} (owner, not forced)"
    known = {*reached, PUBLIC}
    admitting = [
        policy
        for policy in found.policies.get(table, ())
        if policy["for"] in ("all", privilege.lower()) and words(policy["to"]) & known
    ]
    names = ", ".join(sorted(policy["name"].rpartition(" on ")[0] for policy in admitting))
    text = "with check" if privilege == "INSERT" else "using"
    if any(policy[text] == "true" for policy in admitting):
        return f"{_ALL_ROWS} by policy {names}"
    return f"rows of policy {names}" if admitting else "no row: no policy"


def only_some(left: str) -> bool:
    """Return whether what ``rows_left`` says of a table means some of its rows only."""
    return bool(left) and not left.startswith((_PAST, _ALL_ROWS))


def _functions(found: AccessGraph, privilege: str, name: str) -> list[AccessPath]:
    """SECURITY DEFINER functions whose owner holds the privilege, and who may call them."""
    ways = []
    for function in sorted(found.definers):
        owner = found.owners.get(f"function {function}", "")
        if not owner or not any(
            _holds(found, role, privilege, name) for role in found.inherited(owner)
        ):
            continue
        for login in found.logins:
            if found.superuser(login) or login == owner:
                continue
            callers = found.privileges.get(f"function {function}", {})
            for role, path in found.becomes(login).items():
                if role != owner and any(
                    "EXECUTE" in callers.get(one, ()) for one in (*found.inherited(role), PUBLIC)
                ):
                    ways.append(AccessPath(login, owner, path, f"calls {function}"))
                    break
    return ways


def every_login(observed: Observed) -> list[Login]:
    """Return what each login can become, and whether it reaches what matters most."""
    found = AccessGraph(observed)
    passwords = "column password_hash of public.auth_users"
    result = []
    for login in found.logins:
        becomes = found.becomes(login)
        if found.superuser(login):
            every = ("superuser",)
            result.append(Login(login, {}, every, every, every))
            continue
        trail = [
            way
            for table in access.TRAIL_TABLES
            for verb in ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "DROP")
            for way in _ways(found, login, verb, f"table {table}")
        ]
        result.append(
            Login(
                name=login,
                becomes={role: path for role, path in becomes.items() if role != login},
                bypasses_row_security=tuple(
                    sorted(
                        path or "itself" for role, path in becomes.items() if found.bypasses(role)
                    )
                ),
                reads_passwords=tuple(
                    sorted({_how(way) for way in _ways(found, login, "SELECT", passwords)})
                ),
                changes_trail=tuple(sorted({_how(way) for way in trail})),
            )
        )
    return result


def _how(way: AccessPath) -> str:
    note = f" ({way.note})" if way.note else ""
    return (f"{way.path}: {way.reason}" if way.path else way.reason) + note
