"""Findings: a difference with its weight, the reason why it matters, and what heals it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from pandom.database.drift import remedies
from pandom.database.drift.differences import Difference
from pandom.database.drift.facts import PUBLIC, Facts, words
from pandom.database.drift.kinds import WHOLE, WITHOUT_SQL
from schema import access

Severity = Literal["critical", "high", "medium", "low"]
SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "high", "medium", "low")

_READING: Final = frozenset({"SELECT", "USAGE", "CONNECT", "EXECUTE", "REFERENCES"})
_POWERS: Final = ("superuser", "bypass row security", "create role", "replication")

_BY_UP: Final = "`make up` brings it back."
_ACCEPT: Final = "or record in schema/accepted.toml who answers for it, and until when"
_RESTORE: Final = f"Restore the database (docs/runbook.md, Restore), {_ACCEPT}."
# What to do where there is no SQL: (kind, status), then the kind alone.
_BY_HAND: Final[Mapping[tuple[str, str], str]] = {
    ("connection rule", ""): "`make up` starts the server again with its image's rules.",
    ("setting", ""): "`make up` starts the server again with its image's settings.",
    ("setting row", ""): "`make up` applies the stack's settings, and encrypts or decrypts hashes.",
    ("bucket", ""): "`make up` runs the storage job, which makes it as declared.",
    ("bucket", "extra"): f"`up` removes no bucket: move what is in it and remove it, {_ACCEPT}.",
    ("container", ""): "`make up` makes it again as declared.",
    ("container", "extra"): "If nobody needs it: `docker rm -f` and its name.",
    ("store user", ""): "`make up` runs the storage job, which makes it as declared.",
    ("store policy", ""): "`make up` runs the storage job, which makes it as declared.",
    ("role", "missing"): _BY_UP,
}
# The command for what a person must decide.
HEAL: Final = "pandom audit heal"
_REMOVED: Final = frozenset({("store user", "extra"), ("store policy", "extra")})


@dataclass(frozen=True)
class Finding:
    """Something an auditor should look at.

    ``detail`` is the grantee, member or setting of the object. ``expected`` and ``actual`` are
    texts; "" means nothing. ``sql`` corrects it when a superuser runs it; ``advice`` says who does:
    `up` for what is ``safe``, else a person.
    """

    id: str
    kind: str
    severity: Severity
    object: str
    title: str
    expected: str
    actual: str
    why: str
    sql: str | None = None
    advice: str = ""
    detail: str = ""
    safe: bool = False
    order: tuple[Any, ...] = field(default=(), repr=False, compare=False)

    @property
    def status(self) -> str:
        """Extra, missing or different, as its name says; "control" for a control."""
        return self.id.partition(":")[0].rpartition("-")[2]

    @property
    def place(self) -> str:
        """The object, and whose part of it."""
        return f"{self.object}, {self.detail}" if self.detail else self.object


def findings(found: Iterable[Difference], expected: Facts) -> list[Finding]:
    """Return the differences as findings, the gravest first."""
    made = [_finding(one, expected) for one in found]
    return sorted(made, key=lambda one: (SEVERITIES.index(one.severity), one.id))


def for_stack(found: Iterable[Finding], stack: str) -> tuple[Finding, ...]:
    """Return the findings with the stack's name in the commands of their advice."""
    command = f".venv/bin/{HEAL.replace('audit', f'audit --stack {stack}')}"
    return tuple(replace(one, advice=one.advice.replace(HEAL, command)) for one in found)


def scripts(found: Iterable[Finding]) -> list[tuple[str, str]]:
    """Return name and SQL of all findings that have some, in the order in which it must run."""
    healed = sorted((one for one in found if one.sql), key=lambda one: one.order)
    return [(finding.id, finding.sql) for finding in healed if finding.sql]


def script(found: Iterable[Finding]) -> str:
    """Return the SQL of all findings as one script."""
    return "".join(f"-- {name}\n{sql}\n" for name, sql in scripts(found))


def _finding(difference: Difference, expected: Facts) -> Finding:
    safe = remedies.safe(difference)
    place = remedies.declared_in(difference)
    sql = None if place else remedies.sql(difference, expected)
    severity, why = _weight(difference)
    also = [f"{child.kind} {child.object}".strip() for child in difference.consequences]
    actual = _text(difference, difference.actual)
    if difference.status == "extra" and also:
        actual += f" (with {len(also)} more that follow from it)"
    return Finding(
        id=difference.id,
        kind=difference.kind,
        severity=severity,
        object=difference.object,
        title=f"declared in {place}, but not recorded" if place else _title(difference),
        expected=_text(difference, difference.expected),
        actual=actual,
        why=why,
        sql=sql,
        advice=_not_recorded(difference) if place else _advice(difference, sql, safe),
        detail=difference.detail,
        safe=safe and (sql is not None or difference.kind in WITHOUT_SQL),
        order=remedies.rank(difference),
    )


def _advice(difference: Difference, sql: str | None, safe: bool) -> str:
    if (difference.kind, difference.status) in _BY_HAND:
        return _BY_HAND[difference.kind, difference.status]
    if (sql and not safe) or (difference.kind, difference.status) in _REMOVED:
        return f"If nobody needs it: `{HEAL} '{difference.id}'`, {_ACCEPT}."
    return _BY_UP if sql else _BY_HAND.get((difference.kind, ""), _RESTORE)


def _not_recorded(difference: Difference) -> str:
    """Return what to do with an object that is declared and not in schema/catalog.json."""
    if remedies.made_by_a_revision(difference):
        return (
            "A revision makes it, and schema/catalog.json lacks it: `pandom audit record`, "
            "then read what changes there."
        )
    return (
        "No revision makes it, so another database would not have it: take it back, "
        "`pandom migrate generate`, then `pandom audit record`."
    )


def _text(difference: Difference, values: Mapping[str, str]) -> str:
    """Return the values as text; a single detail needs no name."""
    if len(values) == 1 and difference.kind not in WHOLE:
        return next(iter(values.values()))
    return "; ".join(f"{detail}: {value or 'none'}" for detail, value in values.items())


# What a kind is called in a title; others are called by their name.
_NOUNS: Final[Mapping[str, str]] = {
    "owner": "object",
    "role setting": "setting of a role",
    "setting row": "setting in a row",
    "store policy": "policy of the object store",
    "store user": "user of the object store",
}
_TITLES: Final[Mapping[tuple[str, str], str]] = {
    ("database", "different"): "who may connect to the database, or copy it",
    ("owner", "different"): "an object has another owner",
    ("row security", "different"): "row security is not as declared",
    ("extension", "different"): "an extension is in another schema",
    ("privilege", "extra"): "privileges that are not declared",
    ("privilege", "missing"): "declared privileges are gone",
    ("privilege", "different"): "other privileges than declared",
    ("default privilege", "extra"): "objects made later will grant more than declared",
    ("default privilege", "missing"): "objects made later will grant less than declared",
    ("default privilege", "different"): "objects made later will grant something else",
    ("system privilege", "extra"): "privileges on a part of PostgreSQL were changed",
    ("system privilege", "missing"): "declared privileges on a part of PostgreSQL are gone",
    ("system privilege", "different"): "privileges on a part of PostgreSQL were changed",
    ("setting", "extra"): "the server's file fixes a setting that is not declared",
    ("container", "extra"): "a container that is not declared reaches into the stack",
}


def _title(difference: Difference) -> str:
    if (difference.kind, difference.status) in _TITLES:
        return _TITLES[difference.kind, difference.status]
    noun = _NOUNS.get(difference.kind, difference.kind)
    if difference.status == "missing":
        return f"a declared {noun} is gone"
    article = "an" if noun[0] in "aeiou" else "a"
    what = "that is not declared" if difference.status == "extra" else "is not as declared"
    return f"{article} {noun} {what}"


_Weight = tuple[Severity, str]


def _weight(difference: Difference) -> _Weight:
    """Severity and rationale: of this status, of this kind, or judged by what it holds."""
    fixed = _FIXED.get((difference.kind, difference.status)) or _FIXED.get((difference.kind, ""))
    return fixed or _JUDGED[difference.kind](difference)


_FIXED: Final[Mapping[tuple[str, str], _Weight]] = {
    ("role", "missing"): (
        "medium",
        "What should run as this role cannot; it is often a half-finished restore.",
    ),
    ("database", ""): (
        "high",
        "With a limit clients are turned away; anybody may copy a template, rows and all.",
    ),
    ("membership", "missing"): ("medium", "What should run as the group's role cannot."),
    ("owner", "extra"): (
        "high",
        "Nobody declared it, so nobody reviewed it: it may hold a copy of protected rows, or run "
        "with its owner's rights.",
    ),
    ("owner", "missing"): ("high", "What uses it fails; if it held rows, they may be lost."),
    ("owner", "different"): (
        "critical",
        "An owner may do anything with its object: drop it, switch off its triggers and row "
        "security, and grant itself the rest.",
    ),
    ("row security", ""): (
        "critical",
        "Without row security every row is visible to whoever may select; without FORCE, to the "
        "owner; a partition inherits neither from its parent.",
    ),
    ("policy", "missing"): (
        "high",
        "Rows that it admitted are invisible now; nothing is open.",
    ),
    ("policy", ""): (
        "critical",
        "Permissive policies are ORed: one that admits every row makes the others worthless.",
    ),
    ("trigger", "extra"): ("high", "It runs code in other people's statements."),
    ("rule", ""): (
        "critical",
        "It replaces what a statement does, without a trace in the statement itself.",
    ),
    ("function", ""): (
        "critical",
        "A SECURITY DEFINER function acts with its owner's rights: without a pinned search_path, "
        "or with another body, its caller may choose what it does.",
    ),
    ("view", ""): (
        "high",
        "A view without security_invoker reads with its owner's rights, past the reader's row "
        "security.",
    ),
    ("extension", "extra"): ("high", "It brings functions, often with rights of a superuser."),
    ("extension", "missing"): ("high", "What uses its functions fails: sign-in, among others."),
    ("extension", "different"): ("medium", "Functions that name its schema do not find it."),
    ("privilege", "missing"): ("medium", "What needs the privilege fails; nothing is open."),
    ("default privilege", "missing"): ("low", "What is made later grants less; nothing is open."),
    ("event trigger", ""): ("high", "Event triggers record or guard everybody's DDL."),
    ("publication", ""): ("high", "What is published leaves the database, row security or not."),
    ("system privilege", ""): (
        "high",
        "Parts of PostgreSQL read files, end sessions or show other people's statements; whoever "
        "may use them needs nothing else.",
    ),
    ("connection rule", ""): (
        "critical",
        "The first rule that matches decides who may connect, from where, and how they prove it.",
    ),
    ("setting", "extra"): ("medium", "It may change what is logged or how clients are let in."),
    ("setting", ""): ("high", "It decides what is encrypted, logged or checked for everybody."),
    ("store user", ""): (
        "high",
        "Its key opens whatever its policy allows, from wherever the store can be reached.",
    ),
    ("store policy", ""): (
        "high",
        "Whoever has it may do more with documents and anchors than was decided.",
    ),
}


def _role(difference: Difference) -> _Weight:
    powers = [key for key in _POWERS if difference.actual.get(key) == "true"]
    if powers:
        return "critical", f"It has a power that bypasses everything else: {', '.join(powers)}."
    if difference.status == "extra":
        return (
            "critical" if difference.actual.get("login") == "true" else "high",
            "Nobody declared it, so nobody watches its password or takes it away again.",
        )
    return "medium", "Attributes limit what a stolen password is worth."


def _role_setting(difference: Difference) -> _Weight:
    grave = difference.detail in ("search_path", "row_security", "session_replication_role", "role")
    return (
        "high" if grave else "medium",
        "Settings of a role hold in all of its sessions, before it can say anything.",
    )


def _membership(difference: Difference) -> _Weight:
    declared_groups = {entry.group for entry in access.MEMBERSHIPS} | {access.SUPERUSER}
    grave = difference.object in declared_groups or difference.object.startswith("pg_")
    return (
        "critical" if grave else "high",
        "INHERIT uses the group's rights at once, SET becomes the group, ADMIN hands it on: each "
        "opens what the group can reach.",
    )


def _trigger(difference: Difference) -> _Weight:
    return (
        "critical" if difference.object.startswith(("audit_", "foreign key ")) else "high",
        "A trigger that does not fire leaves no trace: changes go unrecorded, or references "
        "unchecked.",
    )


def _privilege(difference: Difference) -> _Weight:
    held = {
        word.partition("/")[0].removesuffix("*")
        for word in words(difference.actual.get(difference.detail, ""))
    }
    extra = held - words(difference.expected.get(difference.detail, ""))
    if difference.detail == PUBLIC:
        return "critical", "PUBLIC is every login that exists now or later."
    if any(table in difference.object for table in access.TRAIL_TABLES) and extra - _READING:
        return "critical", "The trail is evidence only while no login can write to it."
    if difference.detail == "the owner":
        return "medium", "What the owner's functions and migrations do may fail."
    if extra - _READING:
        return "high", "It can change what it should at most read."
    if extra:
        return "high", "It can read or run what nobody decided it should."
    return "medium", "A grant option, or a grant by another than the owner, spreads by itself."


def _default_privilege(difference: Difference) -> _Weight:
    return (
        "critical" if difference.detail == PUBLIC else "high",
        "It opens every object made from now on, at the moment it is made.",
    )


def _container(difference: Difference) -> _Weight:
    actual = difference.actual
    if difference.status == "missing":
        return "medium", "What it does is not done: nothing is open."
    if "docker.sock" in actual.get("mounts", ""):
        return "critical", "Docker's socket is root on the host, and so on everything here."
    if (
        actual.get("privileged") == "true"
        or actual.get("shares with the host", "none") != "none"
        or actual.get("devices", "none") != "none"
        or actual.get("user", "").split(":")[0] in ("root", "0")
    ):
        return "critical", "It is not isolated: whoever breaks into it is on the host."
    if difference.status == "extra" or difference.expected.keys() & _REACH:
        return "high", "It reaches, or can become, more than was reviewed: secrets among it."
    return "medium", "Limits and checks decide what a fault of it costs the others."


_REACH: Final = frozenset(
    ("capabilities", "command", "image", "mounts", "networks", "ports", "root", "security options")
)


def _setting_row(difference: Difference) -> _Weight:
    if difference.detail == "enforced":
        return "critical", "Without a signature a session is whoever it says it is."
    if difference.detail == "encrypt_password_hash":
        return "high", "It decides whether a stolen dump holds password hashes in clear."
    return "high", "It limits guessing, or says how long evidence and sessions are kept."


def _bucket(difference: Difference) -> _Weight:
    return (
        "critical" if difference.actual.get("without signing in") else "high",
        "An open bucket is read by whoever finds it; without versions a deletion is final.",
    )


_JUDGED: Final[Mapping[str, Callable[[Difference], _Weight]]] = {
    "role": _role,
    "role setting": _role_setting,
    "membership": _membership,
    "trigger": _trigger,
    "privilege": _privilege,
    "default privilege": _default_privilege,
    "container": _container,
    "setting row": _setting_row,
    "bucket": _bucket,
}
