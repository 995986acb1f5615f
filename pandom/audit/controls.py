"""The CIS PostgreSQL 17 recommendations that can be decided from a connection.

Numbers are the benchmark's, words are ours. What the container settles is "not applicable", with
the reason; what the login may not see is unknown. tests/infra checks files, users and packages of
the image.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from pandom.database.drift.catalog import Observed
from pandom.database.drift.facts import PUBLIC, Fact, words
from pandom.runtime.numbers import is_number
from schema import access

State = Literal["pass", "fail", "not applicable", "unknown"]

# Older servers have CVE-2026-16239, which bypasses what this file checks.
_FLOOR: Final = {17: 11, 18: 6}
_RULE: Final = "connection rule"
NOT_ARCHIVED: Final = "archive_mode = off"


@dataclass(frozen=True)
class Verdict:
    """What was decided, and what it was decided from."""

    state: State
    evidence: str


@dataclass(frozen=True)
class Control:
    """One recommendation. ``reason`` says what goes wrong without it."""

    number: str
    title: str
    reason: str
    check: Callable[[Observed], Verdict]


@dataclass(frozen=True)
class Result:
    """A control with its verdict."""

    control: Control
    verdict: Verdict


def evaluate(observed: Observed) -> tuple[Result, ...]:
    """Return every control, in the benchmark's order."""
    return tuple(Result(control, control.check(observed)) for control in CONTROLS)


# -- how a check is put together ------------------------------------------------------------


def _verdict(good: bool, evidence: str) -> Verdict:
    return Verdict("pass" if good else "fail", evidence)


def _setting(name: str, good: Callable[[str], bool]) -> Callable[[Observed], Verdict]:
    def check(observed: Observed) -> Verdict:
        found = observed.settings.get(name)
        if found is None:
            return Verdict("unknown", f"{name} is not visible to {observed.login}")
        return _verdict(good(found.value), f"{name} = {found.value or '(empty)'}")

    return check


def _one_of(*values: str) -> Callable[[str], bool]:
    return lambda value: value in values


def _on(name: str) -> Callable[[Observed], Verdict]:
    return _setting(name, _one_of("on"))


def _off(name: str) -> Callable[[Observed], Verdict]:
    return _setting(name, _one_of("off"))


def _not_applicable(reason: str) -> Callable[[Observed], Verdict]:
    return lambda _observed: Verdict("not applicable", reason)


def _none(found: Iterable[str], good: str) -> Verdict:
    """Pass if nothing was found; otherwise what was found is the evidence."""
    listed = sorted(found)
    return _verdict(not listed, ", ".join(listed) or good)


def _rules(bad: Callable[[list[str]], bool], good: str) -> Callable[[Observed], Verdict]:
    """Return a check of every line of pg_hba: type, databases, users, address, method, options."""

    def check(observed: Observed) -> Verdict:
        rules = {fact.object: value for fact, value in observed.facts.items() if fact.kind == _RULE}
        if not rules:
            return Verdict("unknown", f"pg_hba is not visible to {observed.login}")
        return _none((f"{name}: {rule}" for name, rule in rules.items() if bad(rule.split())), good)

    return check


def _roles(observed: Observed) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for fact, value in observed.facts.items():
        if fact.kind == "role":
            found.setdefault(fact.object, {})[fact.detail] = value
    return found


# -- checks that need more than a setting ----------------------------------------------------


def _version(observed: Observed) -> Verdict:
    numbers = observed.version.split()[0].split(".")
    major, minor = (int(number) if is_number(number) else 0 for number in (*numbers, "0")[:2])
    new = major in _FLOOR and minor >= _FLOOR[major]
    return _verdict(new, f"server {observed.version.split()[0]}")


def _extensions(observed: Observed) -> Verdict:
    found = {fact.object for fact in observed.facts if fact.kind == "extension"}
    return _none(found - set(access.EXTENSIONS), f"only {', '.join(sorted(access.EXTENSIONS))}")


def _tablespaces(observed: Observed) -> Verdict:
    found = [fact.object for fact in observed.facts if fact.object.startswith("tablespace ")]
    return _none(found, "no tablespace outside the data directory")


def _collector(observed: Observed) -> Verdict:
    found = observed.settings.get("logging_collector")
    destination = observed.settings.get("log_destination")
    if found is None or destination is None:
        return Verdict("unknown", "logging_collector or log_destination is not visible")
    if found.value == "on":
        return Verdict("pass", "logging_collector = on")
    # Without a collector csvlog and jsonlog fall back to stderr; syslog does not, and nothing
    # in a container listens to it.
    if set(destination.value.split(",")) & {"stderr", "csvlog", "jsonlog"}:
        return Verdict("not applicable", "stderr goes to the container engine, which rotates it")
    return Verdict(
        "fail", f"logging_collector = off, and log_destination = {destination.value or '(empty)'}"
    )


def _log_files(name: str, good: Callable[[str], bool]) -> Callable[[Observed], Verdict]:
    """Check a setting of log files, unless the server writes none itself."""

    def check(observed: Observed) -> Verdict:
        collector = observed.settings.get("logging_collector")
        if collector is not None and collector.value == "off":
            return Verdict("not applicable", "the server writes no log files of its own")
        return _setting(name, good)(observed)

    return check


def _syslog(name: str) -> Callable[[Observed], Verdict]:
    def check(observed: Observed) -> Verdict:
        found = observed.settings.get("log_destination")
        if found is not None and "syslog" not in found.value:
            return Verdict("not applicable", "nothing is sent to syslog")
        return _setting(name, lambda value: bool(value) and value != "off")(observed)

    return check


def _ddl_is_logged(observed: Observed) -> Verdict:
    statement = observed.settings.get("log_statement")
    pgaudit = observed.settings.get("pgaudit.log")
    if statement is None:
        return Verdict("unknown", "log_statement is not visible")
    if statement.value in ("ddl", "mod", "all"):
        return Verdict("pass", f"log_statement = {statement.value}")
    classes = {one.strip() for one in pgaudit.value.split(",")} if pgaudit else set()
    evidence = f"log_statement = {statement.value}, pgaudit.log = {', '.join(sorted(classes))}"
    return _verdict(bool(classes & {"ddl", "all"}), evidence)


def _pgaudit(observed: Observed) -> Verdict:
    loaded = observed.settings.get("shared_preload_libraries")
    classes = observed.settings.get("pgaudit.log")
    if loaded is None or classes is None:
        return Verdict("unknown" if loaded is None else "fail", "pgaudit is not loaded or visible")
    good = "pgaudit" in loaded.value and classes.value not in ("", "none")
    return _verdict(good, f"loaded: {loaded.value}; pgaudit.log = {classes.value}")


def _superusers(observed: Observed) -> Verdict:
    found = {name for name, role in _roles(observed).items() if role.get("superuser") == "true"}
    into = {
        fact.detail
        for fact in observed.facts
        if fact.kind == "membership" and fact.object == access.SUPERUSER
    }
    return _none((found | into) - {access.SUPERUSER}, f"only {access.SUPERUSER}")


def _unused_accounts(observed: Observed) -> Verdict:
    declared = {role.name for role in access.ROLES} | {access.SUPERUSER}
    found = {name for name, role in _roles(observed).items() if role.get("login") == "true"}
    return _none(found - declared, f"{len(found)} logins, each declared with its purpose")


def _definers(observed: Observed) -> Verdict:
    names = {
        fact.object
        for fact, value in observed.facts.items()
        if fact.kind == "function" and fact.detail == "security" and value == "definer"
    }
    open_to_all = {
        fact.object for fact in observed.facts if fact.kind == "privilege" and fact.detail == PUBLIC
    }
    loose = {
        name
        for name in names
        if "search_path=" not in observed.facts[Fact("function", name, "settings")]
        or f"function {name}" in open_to_all
    }
    return _none(loose, f"{len(names)} functions, search_path pinned, none for PUBLIC")


def _writers(observed: Observed) -> Verdict:
    declared = {grant.role for grant in access.table_grants() if grant.kind == "table"}
    writing = {"INSERT", "UPDATE", "DELETE", "TRUNCATE"}
    found = {
        f"{fact.detail} on {fact.object}"
        for fact, value in observed.facts.items()
        if fact.kind == "privilege"
        and fact.object.startswith(("table ", "view ", "column "))
        and words(value.replace("*", "")) & writing
        and (
            fact.detail not in declared
            or any(f"table {table}" == fact.object for table in access.TRAIL_TABLES)
        )
    }
    return _none(found, "no login writes but where it is declared; none writes to the trail")


def _row_security(observed: Observed) -> Verdict:
    tables = {fact.object.rpartition(" on ")[2] for fact in observed.facts if fact.kind == "policy"}
    found = {
        f"{table}: not {detail}"
        for table in tables
        for detail in ("enabled", "forced")
        if observed.facts.get(Fact("row security", f"table {table}", detail)) != "true"
    }
    open_rows = {(exempt.name, exempt.role) for exempt in access.row_security_exceptions()}
    found |= {
        f"{fact.object} for {fact.detail}: {missing}"
        for fact, missing in observed.facts.items()
        if fact.kind == "row reach"
        and (fact.object.rpartition(" ")[2], fact.detail) not in open_rows
    }
    if not tables:
        return Verdict("fail", "no table has a policy")
    return _none(
        found,
        f"enabled and forced on all {len(tables)} tables that have policies; "
        f"{len(open_rows)} exceptions are declared with their reasons",
    )


def _predefined(observed: Observed) -> Verdict:
    declared = {(entry.group, entry.member) for entry in access.MEMBERSHIPS}
    found = {
        f"{fact.detail} in {fact.object}"
        for fact in observed.facts
        if fact.kind == "membership"
        and fact.object.startswith("pg_")
        and (fact.object, fact.detail) not in declared
    }
    return _none(found, "only declared memberships in predefined roles")


def _public_schema(observed: Observed) -> Verdict:
    held = observed.facts.get(Fact("privilege", f"schema {access.SCHEMA}", PUBLIC), "")
    return _verdict(not held, f"PUBLIC on schema {access.SCHEMA}: {held or 'nothing'}")


def _connection_limits(observed: Observed) -> Verdict:
    found = {
        name
        for name, role in _roles(observed).items()
        if role.get("login") == "true"
        and role.get("superuser") != "true"
        and role.get("connection limit") == "-1"
    }
    return _none(found, "every login has a limit")


def _password_rules(observed: Observed) -> Verdict:
    loaded = observed.settings.get("shared_preload_libraries")
    if loaded is None:
        return Verdict("unknown", "shared_preload_libraries is not visible")
    good = any(name in loaded.value for name in ("passwordcheck", "credcheck"))
    return _verdict(good, f"loaded: {loaded.value or 'nothing'}")


def _archiving(observed: Observed) -> Verdict:
    mode, found, within = (
        observed.settings.get("archive_mode"),
        observed.archiving,
        observed.backup_within,
    )
    if mode is None:
        return Verdict("unknown", f"archive_mode is not visible to {observed.login}")
    evidence = f"archive_mode = {mode.value}"
    if within is None:
        return _verdict(mode.value in ("on", "always"), evidence)
    if mode.value not in ("on", "always"):
        return Verdict("fail", f"{evidence}, although this program makes the backups")
    if found is None:
        return Verdict("unknown", f"the trail is not visible to {observed.login}")
    if found.failing:
        return Verdict("fail", f"{evidence}, but {found.failing} could not be archived")
    if found.backup_age is None:
        return Verdict("fail", f"{evidence}, but the trail knows of no backup: `pandom backup`")
    if found.backup_age > within:
        return Verdict(
            "fail", f"{evidence}, but the newest backup is older than {within.days} days"
        )
    evidence += f", the newest backup is not older than {within.days} days"
    if observed.drill_within is None:
        return Verdict("pass", evidence)
    if found.drill_failed:
        return Verdict(
            "fail", f"{evidence}, but the last drill could not restore one: `pandom schedule`"
        )
    if found.drill_age is None or found.drill_age > observed.drill_within:
        days = observed.drill_within.days
        return Verdict(
            "fail", f"{evidence}, but none was restored within {days} days: `pandom drill`"
        )
    return Verdict("pass", f"{evidence}, and one was restored within {observed.drill_within.days}")


def _wide(rule: list[str]) -> bool:
    """Return whether a rule admits unencrypted connections."""
    return rule[0] in ("host", "hostnossl")


def _all_addresses(rule: list[str]) -> bool:
    if rule[0] == "local" or len(rule) < 5:
        return False
    if rule[3] == "all":
        return True
    try:
        network = ipaddress.ip_network(f"{rule[3]}/{rule[4]}", strict=False)
    except ValueError:
        return False
    return network.prefixlen == 0


def _ciphers(observed: Observed) -> Verdict:
    found = observed.settings.get("ssl_ciphers")
    if found is None:
        return Verdict("unknown", "ssl_ciphers is not visible")
    weak = [
        name
        for name in ("LOW", "EXP", "RC4", "DES", "MD5", "NULL")
        if any(part == name for part in found.value.replace("+", ":").split(":"))
    ]
    return _verdict(not weak, f"ssl_ciphers = {found.value}")


def _tls(observed: Observed) -> Verdict:
    ssl, lowest = (observed.settings.get(name) for name in ("ssl", "ssl_min_protocol_version"))
    if ssl is None or lowest is None:
        return Verdict("unknown", "ssl is not visible")
    good = ssl.value == "on" and lowest.value in ("TLSv1.2", "TLSv1.3")
    return _verdict(good, f"ssl = {ssl.value}, at least {lowest.value}")


def _parameters(contexts: frozenset[str]) -> Callable[[Observed], Verdict]:
    """Check that no undeclared role or database setting changes parameters of ``contexts``."""

    def check(observed: Observed) -> Verdict:
        declared = {(role.name, name) for role in access.ROLES for name in role.settings}
        found = set()
        for fact in observed.facts:
            if fact.kind == "role setting":
                known = observed.settings.get(fact.detail)
                if (fact.object, fact.detail) not in declared and (
                    known is not None and known.context in contexts
                ):
                    found.add(f"{fact.detail} of {fact.object}")
            elif fact.kind == "privilege" and fact.object.startswith("parameter "):
                found.add(f"{fact.object} for {fact.detail}")
        return _none(found, "no role or database changes one")

    return check


def _replication(observed: Observed) -> Verdict:
    found = {
        name
        for name, role in _roles(observed).items()
        if role.get("replication") == "true" and name != access.SUPERUSER
    }
    return _none(found, "no login may replicate but the superuser")


def _replication_log(observed: Observed) -> Verdict:
    rules = [value.split() for fact, value in observed.facts.items() if fact.kind == _RULE]
    if not rules:
        return Verdict("unknown", f"pg_hba is not visible to {observed.login}")
    if not any("replication" in rule[1].split(",") for rule in rules):
        return Verdict("not applicable", "no rule of pg_hba admits a replica")
    return _on("log_replication_commands")(observed)


_COLLECT: Final = "Without it an incident leaves no record of when it began."
_CONTAINER: Final = "The image holds it; tests/infra look at the running container."
_PARAMETER: Final = "A session could change what the server was configured to enforce."

CONTROLS: Final[tuple[Control, ...]] = (
    Control(
        "1.1",
        "Packages come from a known source",
        "A package from elsewhere is somebody else's code.",
        _not_applicable("Debian's packages, pinned in the image; its digest is the record"),
    ),
    Control(
        "1.2",
        "The service is enabled at boot",
        "A server that does not come back is an outage.",
        _not_applicable("the container engine restarts it; there is no systemd"),
    ),
    Control(
        "1.4.3",
        "Data checksums are on",
        "Without them a damaged page is read as if it were right.",
        _on("data_checksums"),
    ),
    Control(
        "1.5",
        "The server has the current security fixes",
        "Published holes are tried first.",
        _version,
    ),
    Control(
        "1.6",
        "No password stands in a shell profile",
        "Profiles are read by every process of the user.",
        _not_applicable("secrets are files that only their reader can open"),
    ),
    Control(
        "1.8",
        "Only needed extensions are installed",
        "An extension brings code that runs in the server.",
        _extensions,
    ),
    Control(
        "1.9",
        "Tablespaces lie where they belong",
        "One elsewhere escapes the data directory's protection and its backup.",
        _tablespaces,
    ),
    Control(
        "2.1",
        "The server's user has a strict umask",
        "Files it makes could be read by others.",
        _not_applicable(_CONTAINER),
    ),
    Control(
        "2.6",
        "The socket is closed to others",
        "Whoever reaches the socket skips the network's rules.",
        _setting("unix_socket_directories", lambda value: not value),
    ),
    Control("3.1.2", "Logs have a destination", _COLLECT, _setting("log_destination", bool)),
    Control("3.1.3", "Logs are collected", _COLLECT, _collector),
    Control("3.1.4", "Logs have a directory", _COLLECT, _log_files("log_directory", bool)),
    Control("3.1.5", "Log files have telling names", _COLLECT, _log_files("log_filename", bool)),
    Control(
        "3.1.6",
        "Log files are closed to others",
        "Logs tell an attacker what exists.",
        _setting("log_file_mode", _one_of("0600")),
    ),
    Control(
        "3.1.7",
        "Rotated files are written over",
        _COLLECT,
        _log_files("log_truncate_on_rotation", _one_of("on")),
    ),
    Control(
        "3.1.8",
        "Files rotate by age",
        _COLLECT,
        _log_files("log_rotation_age", lambda value: value != "0"),
    ),
    Control(
        "3.1.9",
        "Files rotate by size",
        _COLLECT,
        _log_files("log_rotation_size", lambda value: value != "0"),
    ),
    Control("3.1.10", "syslog has a facility", _COLLECT, _syslog("syslog_facility")),
    Control("3.1.11", "syslog numbers messages", _COLLECT, _syslog("syslog_sequence_numbers")),
    Control("3.1.12", "syslog splits messages", _COLLECT, _syslog("syslog_split_messages")),
    Control("3.1.13", "syslog names the program", _COLLECT, _syslog("syslog_ident")),
    Control(
        "3.1.14",
        "Warnings are logged",
        _COLLECT,
        _setting(
            "log_min_messages",
            _one_of("debug5", "debug4", "debug3", "debug2", "debug1", "info", "notice", "warning"),
        ),
    ),
    Control(
        "3.1.15",
        "Statements that fail are logged",
        "The statement tells what was tried.",
        _setting(
            "log_min_error_statement",
            _one_of("debug5", "debug1", "info", "notice", "warning", "error"),
        ),
    ),
    Control("3.1.16", "Parse trees are not logged", "They hold data.", _off("debug_print_parse")),
    Control(
        "3.1.17", "Rewritten trees are not logged", "They hold data.", _off("debug_print_rewritten")
    ),
    Control("3.1.18", "Plan trees are not logged", "They hold data.", _off("debug_print_plan")),
    Control(
        "3.1.19", "Debug output can be read", "Evidence must be legible.", _on("debug_pretty_print")
    ),
    Control("3.1.20", "Connections are logged", _COLLECT, _on("log_connections")),
    Control("3.1.21", "Disconnections are logged", _COLLECT, _on("log_disconnections")),
    Control(
        "3.1.22",
        "Errors are logged with the verbosity that was chosen",
        "Too little hides the cause; DETAIL shows rows.",
        _setting("log_error_verbosity", _one_of("terse", "default")),
    ),
    Control(
        "3.1.23",
        "Host names are not looked up",
        "A name server could stall every connection.",
        _off("log_hostname"),
    ),
    Control(
        "3.1.24",
        "Lines say when, who, where",
        "A line that names nobody proves nothing.",
        _setting(
            "log_line_prefix",
            lambda value: all(part in value for part in ("%m", "%p", "%u", "%d", "%h")),
        ),
    ),
    Control("3.1.25", "Changes of objects are logged", _COLLECT, _ddl_is_logged),
    Control(
        "3.1.26",
        "Logs have one time zone",
        "Two zones make the order of events a guess.",
        _setting("log_timezone", _one_of("UTC", "Etc/UTC", "GMT")),
    ),
    Control("3.2", "pgaudit is loaded and set", _COLLECT, _pgaudit),
    Control(
        "4.1",
        "The operating system's user cannot sign in",
        "Its shell would be a superuser's.",
        _not_applicable(_CONTAINER),
    ),
    Control(
        "4.3",
        "There is one superuser, and nobody becomes it",
        "Nothing is checked for a superuser.",
        _superusers,
    ),
    Control(
        "4.4",
        "Every account is in use",
        "A forgotten account has a forgotten password.",
        _unused_accounts,
    ),
    Control(
        "4.5",
        "Functions with their owner's rights are few and closed",
        "A caller could choose what runs with those rights.",
        _definers,
    ),
    Control(
        "4.6",
        "Only who must write can write",
        "A stolen password is worth what its login may do.",
        _writers,
    ),
    Control(
        "4.7",
        "Row security is on and forced",
        "Without it one user reads another's rows.",
        _row_security,
    ),
    Control(
        "4.8",
        "Work as superuser is traceable (set_user)",
        "A shared superuser hides who it was.",
        _not_applicable("the superuser is used by two programs only, never by a person"),
    ),
    Control(
        "4.9",
        "Predefined roles are given sparingly",
        "Some of them read and write files of the server.",
        _predefined,
    ),
    Control(
        "4.10",
        "PUBLIC has nothing in schema public",
        "Whoever may create there can shadow a function.",
        _public_schema,
    ),
    Control(
        "5.1",
        "No password stands in a command line",
        "Every process sees another's command line.",
        _not_applicable("secrets reach a container as files only; tests/infra look for them"),
    ),
    Control(
        "5.2",
        "The server listens where it should",
        "An address more is a door more.",
        _not_applicable("the container's own network; the published port is on 127.0.0.1"),
    ),
    Control(
        "5.3",
        "Local connections prove who they are",
        "`trust` and `peer` need no password.",
        _rules(
            lambda rule: rule[0] == "local" and rule[-1] not in ("scram-sha-256", "reject"),
            "no local rule without a password",
        ),
    ),
    Control(
        "5.4",
        "Network connections prove who they are",
        "`trust`, `password`, `ident` and `md5` are forged or read.",
        _rules(
            lambda rule: any(
                method in rule for method in ("trust", "password", "ident", "md5", "error")
            ),
            "scram-sha-256 only",
        ),
    ),
    Control(
        "5.5",
        "Logins have connection limits",
        "One login could take every connection.",
        _connection_limits,
    ),
    Control(
        "5.6", "Weak passwords are refused", "A short password is found by trying.", _password_rules
    ),
    Control(
        "5.7",
        "Authentication has a time limit",
        "Unfinished connections could take every slot.",
        _setting("authentication_timeout", lambda value: 0 < int(value) <= 60),
    ),
    Control(
        "5.8",
        "Only encrypted connections are let in",
        "What goes over the network can be read.",
        _rules(_wide, "hostssl only"),
    ),
    Control(
        "5.9",
        "No rule names every address",
        "A wide rule lets in what nobody thought of.",
        _rules(_all_addresses, "every rule names its network"),
    ),
    Control(
        "5.12",
        "Passwords are stored as SCRAM",
        "An MD5 hash is as good as the password.",
        _setting("password_encryption", _one_of("scram-sha-256")),
    ),
    Control(
        "6.2",
        "Backend parameters are left alone",
        _PARAMETER,
        _parameters(frozenset({"backend", "superuser-backend"})),
    ),
    Control(
        "6.5",
        "Superuser parameters are left alone",
        _PARAMETER,
        _parameters(frozenset({"superuser"})),
    ),
    Control("6.6", "User parameters are left alone", _PARAMETER, _parameters(frozenset({"user"}))),
    Control("6.8", "TLS is on, 1.2 or newer", "Older protocols are broken.", _tls),
    Control(
        "6.9",
        "pgcrypto is there for what must be encrypted",
        "Home-made encryption fails.",
        lambda observed: _verdict(
            Fact("extension", "pgcrypto", "schema") in observed.facts, "extension pgcrypto"
        ),
    ),
    Control("6.10", "No weak cipher is allowed", "Weak ciphers are read.", _ciphers),
    Control("7.1", "Only who replicates may replicate", "A replica has every row.", _replication),
    Control("7.2", "Replication commands are logged", _COLLECT, _replication_log),
    Control(
        "7.4",
        "WAL is archived, and backups are made",
        "Without it what came after the last backup is lost.",
        _archiving,
    ),
    Control(
        "7.5",
        "WAL is complete enough for a replica",
        "A base backup would not be usable.",
        _setting("wal_level", _one_of("replica", "logical")),
    ),
    Control(
        "8.1",
        "Files lie where they belong",
        "A file elsewhere is not protected.",
        _setting("external_pid_file", lambda value: not value),
    ),
)
