"""The one place where configuration is read and checked.

``load`` is pure, but for the file that backupCa may name: the program gives it
Pulumi's configuration, ``pandom up`` the stack's file, and both get the same
answer, before anything is touched. All errors are reported at once.
"""

from __future__ import annotations

import difflib
import json
import re
import ssl
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal, cast

from pandom.objectstore import MIN_SECRET_LENGTH, bucket_name_problem
from pandom.operations import schedule, tasks
from pandom.runtime.errors import UsageError
from pandom.runtime.naming import OLDEST, POSTGRES_VERSIONS, PROJECT
from pandom.runtime.paths import ROOT
from schema.rules import MIN_PASSWORD_LENGTH, email_problem, password_problem
from schema.storage import EVIDENCE_SUFFIX, LONGEST_NAME, OWN_STORE, S3, archives

ProfileName = Literal["development", "ephemeral", "production"]


@dataclass(frozen=True)
class Profile:
    """What differs between the three kinds of stack. Nothing else does."""

    summary: str
    durable: bool  # fsync and full_page_writes; off is faster and loses data in a crash
    restart: str  # Docker's restart policy of the servers
    signed_context: bool  # only contexts signed by begin_context are accepted
    must_protect: bool  # refuses to be destroyed without CONFIRM=<stack>
    must_verify_tls: bool  # clients are told sslmode=verify-full
    must_back_up: bool  # a backup setting that outlives the machine
    weak_passwords: bool  # takes a weak administrator password, such as admin123
    sample_data: bool  # sample users may be seeded
    scheduled_audit: bool  # audited every hour, and the evidence kept, unless `schedules` differs
    must_audit: bool  # `schedules` may not switch the audit off


PROFILES: Final[dict[ProfileName, Profile]] = {
    "development": Profile(
        summary="a developer's own stack",
        durable=True,
        restart="unless-stopped",
        signed_context=False,
        must_protect=False,
        must_verify_tls=False,
        must_back_up=False,
        weak_passwords=False,
        sample_data=True,
        scheduled_audit=True,
        must_audit=False,
    ),
    "ephemeral": Profile(
        summary="lives for one run of CI",
        durable=False,
        restart="no",
        signed_context=False,
        must_protect=False,
        must_verify_tls=False,
        must_back_up=False,
        weak_passwords=True,
        sample_data=True,
        scheduled_audit=False,
        must_audit=False,
    ),
    "production": Profile(
        summary="must not be lost",
        durable=True,
        restart="unless-stopped",
        signed_context=True,
        must_protect=True,
        must_verify_tls=True,
        must_back_up=True,
        weak_passwords=False,
        sample_data=False,
        scheduled_audit=True,
        must_audit=True,
    ),
}

# Secrets: made where they are not given, and those of somebody else's store.
GENERATED: Final = ("adminPassword", "appPassword", "userPassword", "minioSecretKey")
SECRET_KEYS: Final = (*GENERATED, "backupAccessKey", "backupSecretKey")
# Who backs the database up; `pandom backup` works with the last two.
BACKUPS: Final = ("none", "external", OWN_STORE, S3)
# The parts with a port on 127.0.0.1, and the keys that say which.
PORT_KEYS: Final = {"postgres": "postgresPort", "minio": "minioPort", "metrics": "metricsPort"}
# Settings that bring a login of their own (schema/access.py).
# In the environment of the program: the data are of the version that the settings say.
UPGRADING: Final = "PANDOM_UPGRADING"
OPT_IN_KEYS: Final = ("serviceLogin", "monitoring")
STACK_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,29}")
MAX_SECRET_LENGTH: Final = 256
# Control characters, line and paragraph separators, and halves of characters: no
# client's format carries them, and some would end the line of a secret.
_UNWRITABLE: Final = frozenset({"Cc", "Zl", "Zp", "Cs"})
LOWEST_COST: Final = 10  # of bcrypt, where hashes protect somebody

# Passwords that everybody tries first; the source document's own is among them.


class SettingsError(UsageError):
    """Every configuration error of a stack, one line each."""

    def __init__(self, stack: str, problems: list[str]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(
            f"stacks/Pulumi.{stack}.yaml cannot be used; nothing was touched:\n{lines}\n"
            "Every key is described in Pulumi.yaml."
        )


@dataclass(frozen=True)
class Backup:
    """Who backs the database up, and where to. ``endpoint`` to ``ca`` are of ``s3``:
    host:port, and the certificates that vouch for it as PEM, "" for the system's."""

    kind: str
    endpoint: str
    bucket: str
    region: str
    ca: str
    keep_fulls: int
    keep_dumps: int
    max_age_days: int
    drill_max_age_days: int

    @property
    def archives(self) -> bool:
        """Return whether this program makes the backups, and the server archives its log."""
        return archives(self.kind)


@dataclass(frozen=True)
class Settings:
    """A stack's validated settings. Secrets given in the configuration are in
    ``overrides``; they are None where the stack's file holds them encrypted."""

    stack: str
    profile_name: ProfileName
    postgres_version: int
    postgres_port: int
    minio_port: int
    metrics_port: int | None  # None without monitoring
    postgres_memory_mb: int
    minio_memory_mb: int
    bucket: str
    sslmode: str
    admin_email: str
    sample_data: bool
    signed_context: bool
    encrypt_password_hash: bool
    audit_retention_months: int
    bcrypt_cost: int
    backup: Backup
    protect: bool
    opt_in: frozenset[str]
    postgres_settings: Mapping[str, str]
    schedules: Mapping[str, str]
    overrides: Mapping[str, str | None] = field(repr=False)

    @property
    def profile(self) -> Profile:
        """What the stack's profile decides."""
        return PROFILES[self.profile_name]

    @property
    def drill_max_age_days(self) -> int:
        """Return how old the last drill that passed may be; 0 where there are none."""
        return 0 if tasks.DRILL in self.off else self.backup.drill_max_age_days

    @property
    def off(self) -> frozenset[str]:
        """The tasks that do not run."""
        return frozenset(name for name, text in self.schedules.items() if schedule.is_off(text))

    @property
    def ports(self) -> dict[str, int]:
        """The ports on 127.0.0.1, by part."""
        ports = (self.postgres_port, self.minio_port, self.metrics_port)
        return {part: port for part, port in zip(PORT_KEYS, ports, strict=True) if port}


@dataclass(frozen=True)
class _Key:
    """How one key is read, and what a later change of it does.

    Also declared in Pulumi.yaml; a test keeps them equal.
    """

    kind: type
    default: Any
    change: str
    problem: Callable[[Any], str | None] = lambda value: None


def _between(low: int, high: int, unit: str = "") -> Callable[[Any], str | None]:
    def problem(value: int) -> str | None:
        allowed = f"a whole number from {low} to {high}{unit}"
        return None if low <= value <= high else allowed

    return problem


def _one_of(*allowed: str) -> Callable[[Any], str | None]:
    return lambda value: None if value in allowed else "one of " + ", ".join(allowed)


def _bucket(value: str) -> str | None:
    if len(value) > LONGEST_NAME:
        longest = f"a bucket name of 3 to {LONGEST_NAME} characters"
        return f"{longest}, because …{EVIDENCE_SUFFIX} is made beside it"
    return bucket_name_problem(value)


def _plain_bucket(value: str) -> str | None:
    return bucket_name_problem(value) if value else None


# What a container calls these is itself.
_LOOPBACK: Final = re.compile(r"localhost|127\..*|0\.0\.0\.0")


def _endpoint(value: str) -> str | None:
    if not value:
        return None
    matched = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9.-]{0,252}):([0-9]{1,5})", value)
    if matched is None or not 1 <= int(matched[2]) <= 65535:
        return "host:port such as s3.example.com:443, without https://"
    if _LOOPBACK.fullmatch(matched[1]):
        return "an address that the database's container reaches; this one is the container itself"
    return None


def _region(value: str) -> str | None:
    return None if re.fullmatch(r"[a-z0-9-]{1,40}", value) else "a region such as eu-central-1"


def _ca(value: str) -> str | None:
    try:
        ca_text(value)
    except OSError as error:
        return f"certificates as PEM, or the path of a file with them ({error.strerror})"
    except ValueError:
        return "certificates as PEM, or the path of a file with them (no certificate in it)"
    return None


def ca_text(value: str) -> str:
    """Return the PEM text that backupCa is or names, from the clone's root; "" for the system's.

    Raises OSError for a file that cannot be read, ValueError for what is no certificate.
    """
    if not value:
        return ""
    text = value if "-----BEGIN" in value else (ROOT / Path(value).expanduser()).read_text()
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, TypeError) as error:  # the latter for what is no ASCII
        raise ValueError(str(error)) from error
    return text.strip() + "\n"


@dataclass(frozen=True)
class ServerSetting:
    """A setting of PostgreSQL that a stack may decide; bounds in its smallest unit."""

    kind: Literal["memory", "time", "number"]
    low: float
    high: float
    what: str


# What makes the server faster or slower for a stack's load, and opens, hides or risks nothing.
SERVER_SETTINGS: Final[dict[str, ServerSetting]] = {
    "autovacuum_analyze_scale_factor": ServerSetting("number", 0, 1, "changed part of a table"),
    "autovacuum_naptime": ServerSetting("time", 1000, 3_600_000, "pause between rounds"),
    "autovacuum_vacuum_scale_factor": ServerSetting("number", 0, 1, "dead part of a table"),
    "checkpoint_timeout": ServerSetting("time", 30_000, 3_600_000, "time between checkpoints"),
    "deadlock_timeout": ServerSetting("time", 100, 60_000, "wait before a search for deadlocks"),
    "default_statistics_target": ServerSetting("number", 10, 10_000, "detail of statistics"),
    "effective_io_concurrency": ServerSetting("number", 0, 1000, "reads at a time"),
    "max_parallel_workers_per_gather": ServerSetting("number", 0, 16, "workers of a query"),
    "max_wal_size": ServerSetting("memory", 65_536, 67_108_864, "log between checkpoints"),
    "random_page_cost": ServerSetting("number", 1, 10, "cost of a page by index"),
    "work_mem": ServerSetting("memory", 64, 262_144, "memory of one sort or hash"),
}
# Why others are refused, by the beginning of their names.
_REFUSED: Final = {
    ("shared_buffers", "effective_cache_size", "maintenance_work_mem"): (
        "postgresMemoryMb decides it"
    ),
    ("fsync", "full_page_writes", "synchronous_commit"): "the profile decides it",
    ("max_connections", "superuser_reserved"): "it is the sum of the roles' limits",
    ("log_", "debug_", "pgaudit"): (
        "it decides what stands in the server's log, which never holds a secret"
    ),
    ("ssl", "password_", "hba_", "listen_", "authentication_", "unix_", "scram_", "krb_"): (
        "it decides who comes in, and how"
    ),
    ("row_security", "session_", "default_transaction", "search_path", "allow_"): (
        "row security and the jobs rely on it"
    ),
    ("shared_preload", "session_preload", "local_preload", "dynamic_library", "archive_"): (
        "it runs other code in the server"
    ),
}
_UNITS: Final = {
    "memory": {"kB": 1, "MB": 1024, "GB": 1024**2},
    "time": {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000},
    "number": {"": 1},
}


def _server_setting(name: str, value: str) -> str | None:
    """Return what is wrong with one setting of the server, or None."""
    known = SERVER_SETTINGS.get(name)
    if known is None:
        why = next((why for begins, why in _REFUSED.items() if name.startswith(begins)), None)
        near = difflib.get_close_matches(name, SERVER_SETTINGS, n=1)
        hint = f"; did you mean {near[0]}?" if near else f": {', '.join(SERVER_SETTINGS)}"
        return f"{name} is not allowed: {why or f'only these are known to be harmless{hint}'}"
    units = _UNITS[known.kind]
    matched = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([A-Za-z]*)", value)
    factor = units.get(matched[2]) if matched else None
    if matched and factor and known.low <= float(matched[1]) * factor <= known.high:
        return None
    smallest = next(iter(units))
    allowed = f"{known.low:g}{smallest} to {known.high:g}{smallest}"
    return f"{name}: expected {allowed}, found {_found(value)}"


def _server_settings(values: Mapping[str, str]) -> str | None:
    wrong = [said for name, value in values.items() if (said := _server_setting(name, value))]
    return "; ".join(wrong) or None


def _schedules(values: Mapping[str, str]) -> str | None:
    """Return what is wrong with schedules, or None; the default ones need no look."""
    wrong = []
    for name, text in values.items():
        if name not in tasks.SCHEDULED:
            wrong.append(tasks.unknown(name))
        elif expected := _schedule(tasks.SCHEDULED[name], text):
            found = schedule.OFF if schedule.is_off(text) else text
            wrong.append(f"{name}: expected {expected}, found {_found(found)}")
    return "; ".join(wrong) or None


def _schedule(task: tasks.Task, text: str) -> str | None:
    if schedule.is_off(text):
        return f"a schedule ({schedule.ALLOWED})" if task.off == "never" else None
    if expected := schedule.problem(text):
        return expected
    if task.every_s and schedule.longest_gap_s(text) > task.every_s:
        return f"at least every {task.every_s // 60} minutes, as health asks for"
    return None


def planned(given: Mapping[str, str], profile: Profile, archives: bool) -> dict[str, str]:
    """Return the schedule of every task: the given one, or the profile's. Those of backups are
    off where this program makes none."""
    found = {
        name: schedule.OFF if task.of_backups and not archives else task.schedule or schedule.OFF
        for name, task in tasks.SCHEDULED.items()
    }
    if not profile.scheduled_audit:
        found[tasks.AUDIT] = schedule.OFF
    return found | {
        name: schedule.OFF if schedule.is_off(text) else " ".join(text.lower().split())
        for name, text in given.items()
    }


_NEW_LOGIN: Final = "replaced at once; clients need the new one (`pandom env`)"
_OTHER_STORE: Final = "backups begin anew there; those in the former store stay"

_KEYS: Final[dict[str, _Key]] = {
    "profile": _Key(
        str,
        "development",
        "containers are replaced; data stays. The other profile's rules are checked first",
        _one_of(*PROFILES),
    ),
    "postgresVersion": _Key(
        int,
        OLDEST,
        "refused: `pandom upgrade` brings the data along (docs/upgrades.md)",
        lambda value: _one_of(*map(str, POSTGRES_VERSIONS))(str(value)),
    ),
    "postgresPort": _Key(
        int, 5432, "the server moves, also to the object store's port", _between(1024, 65535)
    ),
    "minioPort": _Key(
        int, 9000, "the server moves, also to PostgreSQL's port", _between(1024, 65535)
    ),
    "metricsPort": _Key(int, 9187, "the exporter moves", _between(1024, 65535)),
    "postgresMemoryMb": _Key(
        int, 512, "the server is replaced; data stays", _between(256, 1 << 20, " (MiB)")
    ),
    "minioMemoryMb": _Key(
        int, 768, "the server is replaced; data stays", _between(512, 1 << 20, " (MiB)")
    ),
    "postgresSettings": _Key(dict, {}, "the server is replaced; data stays", _server_settings),
    "bucket": _Key(
        str,
        "pandom-media",
        "refused: documents and evidence stay where they are (docs/runbook.md, Another bucket)",
        _bucket,
    ),
    "sslmode": _Key(
        str, "verify-full", "clients are told (`pandom env`)", _one_of("verify-full", "require")
    ),
    "adminEmail": _Key(
        str, "admin@pandom.com", "see docs/runbook.md, The administrator", email_problem
    ),
    "sampleData": _Key(bool, False, "on adds the samples, off leaves what is there"),
    "serviceLogin": _Key(bool, False, "the login is made, or taken away with its rights"),
    "monitoring": _Key(bool, False, "the exporter and its login are made, or taken away"),
    "signedContext": _Key(
        str, "profile", "the migration job applies it", _one_of("on", "off", "profile")
    ),
    "encryptPasswordHash": _Key(bool, False, "the migration job applies it"),
    "bcryptCost": _Key(
        int, 12, "the migration job applies it; a hash changes at the next sign-in", _between(4, 16)
    ),
    "auditRetentionMonths": _Key(
        int, 24, "the migration job applies it", _between(1, 240, " (months)")
    ),
    "backup": _Key(
        str,
        "none",
        "the server is replaced; data stays, and so does what is in the former store",
        _one_of(*BACKUPS),
    ),
    "backupEndpoint": _Key(str, "", _OTHER_STORE, _endpoint),
    "backupBucket": _Key(str, "", _OTHER_STORE, _plain_bucket),
    "backupRegion": _Key(str, "us-east-1", _OTHER_STORE, _region),
    "backupCa": _Key(str, "", "the server reads it at its next command", _ca),
    "backupKeepFulls": _Key(
        int, 4, "older ones leave after the next backup", _between(1, 1000, " (full backups)")
    ),
    "dumpKeep": _Key(
        int, 14, "older ones leave after the next dump", _between(1, 1000, " (dumps)")
    ),
    "backupMaxAgeDays": _Key(int, 8, "health and audit apply it", _between(1, 366, " (days)")),
    "drillMaxAgeDays": _Key(int, 8, "the audit applies it", _between(1, 366, " (days)")),
    "schedules": _Key(
        dict, {}, "the container `operations` is replaced; what ran last is kept", _schedules
    ),
    "protect": _Key(bool, False, "`up` protects the stack, or lets it be removed"),
    "adminPassword": _Key(str, "", "see docs/runbook.md, The administrator"),
    "appPassword": _Key(str, "", _NEW_LOGIN),
    "userPassword": _Key(str, "", _NEW_LOGIN),
    "minioSecretKey": _Key(str, "", _NEW_LOGIN),
    "backupAccessKey": _Key(str, "", "used from the next command on"),
    "backupSecretKey": _Key(str, "", "used from the next command on"),
}

# The shortest value of each secret; adminPassword has rules of its own.
_SHORTEST: Final = {
    "adminPassword": 0,
    "appPassword": MIN_PASSWORD_LENGTH,
    "userPassword": MIN_PASSWORD_LENGTH,
    "minioSecretKey": MIN_SECRET_LENGTH,
    "backupAccessKey": 3,
    "backupSecretKey": 8,
}

_WORDS: Final = {
    str: "a string",
    int: "a whole number",
    bool: "true or false",
    dict: "names with their values",
}


def changes() -> dict[str, str]:
    """Return what a later change of each key does, for the docs."""
    return {name: key.change for name, key in _KEYS.items()}


def defaults() -> dict[str, Any]:
    """Every key with its default, for the test that compares Pulumi.yaml."""
    return {name: key.default for name, key in _KEYS.items()}


def _found(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value).lower()
    return text if len(text) <= 60 else text[:57] + "…"


def _convert(kind: type, value: Any) -> Any:
    """Return the value as ``kind``, or None. Pulumi hands the program strings, a stack
    file hands ``pandom up`` YAML's types; both must read the same."""
    if kind is str:
        return value if isinstance(value, str) else None
    if kind is bool:
        return {"true": True, "false": False}.get(str(value).lower())
    if kind is dict:
        return _mapping(value)
    text = str(value)
    return (
        int(text) if not isinstance(value, bool) and re.fullmatch(r"-?[0-9]{1,9}", text) else None
    )


def _mapping(value: Any) -> dict[str, str] | None:
    """Names with plain values, in one order; Pulumi hands them over as JSON, sorted."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if not isinstance(value, Mapping):
        return None
    # What is no plain value is none that any of them may have, and is refused by its name.
    texts = {
        str(name): str(one) if isinstance(one, str | int | float) else json.dumps(one, default=str)
        for name, one in value.items()
    }
    return dict(sorted(texts.items()))


def _read(raw: Mapping[str, object], problems: list[str]) -> dict[str, Any]:
    """Every key's value; unknown keys and wrong types become problems."""
    prefix = f"{PROJECT}:"
    given = {name.removeprefix(prefix): value for name, value in raw.items()}
    for name in sorted(set(given) - set(_KEYS)):
        if ":" in name:
            problems.append(f"{name}: keys of other packages are not used by this program")
            continue
        near = difflib.get_close_matches(name, _KEYS, n=1)
        hint = f"; did you mean {prefix}{near[0]}?" if near else ""
        problems.append(f"{prefix}{name}: unknown key{hint}")
    values: dict[str, Any] = {}
    for name, key in _KEYS.items():
        value = given.get(name, key.default)
        values[name] = key.default
        if name in SECRET_KEYS:
            values[name] = _secret(name, value, problems)
            continue
        converted = _convert(key.kind, value)
        allowed = _WORDS[key.kind] if converted is None else key.problem(converted)
        if allowed and key.kind is dict and converted is not None:
            problems.append(f"{prefix}{name}: {allowed}")
        elif allowed:
            problems.append(f"{prefix}{name}: expected {allowed}, found {_found(value)}")
        else:
            values[name] = converted
    return values


def _secret(name: str, value: Any, problems: list[str]) -> str | None:
    """Return the secret, "" when it is to be generated, None when still encrypted."""
    if isinstance(value, Mapping) and set(value) == {"secure"}:
        return None
    if not isinstance(value, str):
        problems.append(f"{PROJECT}:{name}: expected a secret string, found another type")
        return ""
    if problem := secret_problem(name, value):
        problems.append(f"{PROJECT}:{name}: {problem}")
    return value


def secret_problem(name: str, value: str) -> str | None:
    """Return what is expected of a given secret, and found, in words that do not show it."""
    low = _SHORTEST[name]
    if value and not low <= len(value) <= MAX_SECRET_LENGTH:
        return f"expected {low} to {MAX_SECRET_LENGTH} characters, found {len(value)}"
    if bad := next((one for one in value if unicodedata.category(one) in _UNWRITABLE), None):
        found = unicodedata.name(bad, f"U+{ord(bad):04X}")
        return f"expected one line without control characters, found {found} in it"
    return None


def _too_rare(values: dict[str, Any], profile: Profile) -> Iterator[str]:
    """Tasks that come less often than what looks after them allows; defaults need no look."""
    plan = planned(values["schedules"], profile, archives(values["backup"]))
    # At the limit its last result is too old already: the next one takes a while.
    limits: list[tuple[tuple[str, ...], str, int]] = [
        ((tasks.BACKUP, tasks.BACKUP_FULL), "backupMaxAgeDays", values["backupMaxAgeDays"] - 1),
        ((tasks.DRILL,), "drillMaxAgeDays", values["drillMaxAgeDays"] - 1),
    ]
    if profile.must_audit:
        limits.append(((tasks.AUDIT,), f"profile {values['profile']}", 1))
    for names, says, days in limits:
        texts = [plan[name] for name in names if not schedule.is_off(plan[name])]
        if not texts or not (set(names) & set(values["schedules"]) or says in _changed(values)):
            continue
        gap = min(schedule.longest_gap_s(text) for text in texts)
        if gap > max(days, 1) * 86400:
            found = timedelta(seconds=gap).days
            yield (
                f"{PROJECT}:schedules: {' or '.join(names)}: expected at least every "
                f"{max(days, 1)} days with {says}, found {found} days without"
            )


def _changed(values: Mapping[str, Any]) -> set[str]:
    return {key for key, value in values.items() if key in _KEYS and value != _KEYS[key].default}


def _cross_checks(values: dict[str, Any], profile: Profile) -> Iterator[str]:
    """Rules that need more than one key."""
    name = values["profile"]
    taken: dict[int, str] = {}
    for part, key in PORT_KEYS.items():
        if part == "metrics" and not values["monitoring"]:
            continue
        if values[key] in taken:
            yield (
                f"{PROJECT}:{key}: expected another port than {taken[values[key]]}, "
                f"found {values[key]} for both"
            )
        taken.setdefault(values[key], key)
    if profile.must_protect and not values["protect"]:
        yield f"{PROJECT}:protect: expected true with profile {name}, found false"
    if profile.must_back_up and values["backup"] in ("none", OWN_STORE):
        why = ", which dies with the machine" if values["backup"] == OWN_STORE else ""
        yield (
            f"{PROJECT}:backup: expected s3 or external with profile {name}, "
            f"found {values['backup']!r}{why}"
        )
    if values["backup"] == S3:
        for key in ("backupEndpoint", "backupBucket", "backupAccessKey", "backupSecretKey"):
            if values[key] == "":
                how = f" (pulumi config set --secret {key})" if key in SECRET_KEYS else ""
                yield f"{PROJECT}:{key}: expected a value with backup: s3{how}, found none"
    if profile.must_verify_tls and values["sslmode"] != "verify-full":
        yield (
            f"{PROJECT}:sslmode: expected verify-full with profile {name}, "
            f"found {_found(values['sslmode'])}"
        )
    for task, text in values["schedules"].items():
        needed = tasks.SCHEDULED[task].off != "anywhere" and profile.must_audit
        backs_up = not tasks.SCHEDULED[task].of_backups or archives(values["backup"])
        if schedule.is_off(text) and needed and backs_up:
            yield (
                f"{PROJECT}:schedules: {task}: expected a schedule ({schedule.ALLOWED}) "
                f"with profile {name}, found {schedule.OFF}"
            )
        if not schedule.is_off(text) and not backs_up:
            yield (
                f"{PROJECT}:schedules: {task}: expected {OWN_STORE} or {S3} as backup, "
                f"found {values['backup']!r}: this program makes no backups then"
            )
    yield from _too_rare(values, profile)
    if profile.signed_context and values["signedContext"] == "off":
        yield f"{PROJECT}:signedContext: expected on or profile with profile {name}, found 'off'"
    if values["sampleData"] and not profile.sample_data:
        yield f"{PROJECT}:sampleData: expected false with profile {name}, found true"
    if values["bcryptCost"] < LOWEST_COST and not profile.weak_passwords:
        yield (
            f"{PROJECT}:bcryptCost: expected {LOWEST_COST} to 16 with profile {name}, "
            f"found {values['bcryptCost']}"
        )
    password = values["adminPassword"]
    usable = password and not secret_problem("adminPassword", password)
    if usable and not profile.weak_passwords:
        weak = password_problem(password, values["adminEmail"])
        if weak:
            # The value is a secret even when it is a bad one: it is not shown.
            yield f"{PROJECT}:adminPassword: expected {weak}; leave it out to have one generated"


def load(stack: str, raw: Mapping[str, object]) -> Settings:
    """Return the settings of ``stack`` from its configuration, keys with or without the
    project's name in front.

    Raises ``SettingsError`` with every problem found.
    """
    problems: list[str] = []
    if not STACK_NAME.fullmatch(stack):
        problems.append(
            f"stack name: expected up to 30 of a-z, 0-9 and -, a letter first, found {stack!r}"
        )
    values = _read(raw, problems)
    profile = PROFILES[cast(ProfileName, values["profile"])]
    problems += _cross_checks(values, profile)
    if problems:
        raise SettingsError(stack, problems)
    signed = values["signedContext"]
    return Settings(
        stack=stack,
        profile_name=values["profile"],
        postgres_version=values["postgresVersion"],
        postgres_port=values["postgresPort"],
        minio_port=values["minioPort"],
        metrics_port=values["metricsPort"] if values["monitoring"] else None,
        postgres_memory_mb=values["postgresMemoryMb"],
        minio_memory_mb=values["minioMemoryMb"],
        bucket=values["bucket"],
        sslmode=values["sslmode"],
        admin_email=values["adminEmail"],
        sample_data=values["sampleData"],
        signed_context=profile.signed_context if signed == "profile" else signed == "on",
        encrypt_password_hash=values["encryptPasswordHash"],
        audit_retention_months=values["auditRetentionMonths"],
        bcrypt_cost=values["bcryptCost"],
        backup=Backup(
            kind=values["backup"],
            endpoint=values["backupEndpoint"],
            bucket=values["backupBucket"],
            region=values["backupRegion"],
            ca=ca_text(values["backupCa"]),
            keep_fulls=values["backupKeepFulls"],
            keep_dumps=values["dumpKeep"],
            max_age_days=values["backupMaxAgeDays"],
            drill_max_age_days=values["drillMaxAgeDays"],
        ),
        protect=values["protect"],
        opt_in=frozenset(key for key in OPT_IN_KEYS if values[key]),
        postgres_settings=values["postgresSettings"],
        schedules=planned(values["schedules"], profile, archives(values["backup"])),
        overrides={key: values[key] for key in SECRET_KEYS},
    )


def plain_secret(stack: str, key: str) -> str:
    """Return the problem of a secret that stands in the stack's file as it is."""
    return (
        f"{PROJECT}:{key}: expected an encrypted value, found plain text; "
        f"pulumi config set --stack {stack} --secret {key}"
    )


def applied_version(applied: Mapping[str, str]) -> int | None:
    """Return the version of PostgreSQL that a stack's jobs were told last; None for a new stack."""
    # Before there was a choice nobody was told.
    return int(applied.get("PANDOM_DB_VERSION", OLDEST)) if applied else None


def refuse_change(settings: Settings, applied: Mapping[str, str], upgrading: bool) -> None:
    """Raise SettingsError for a change that would lose something.

    ``applied`` is what the jobs were told last (State.environment): the settings of the
    stack as it is, whatever became of the run that applied them. ``upgrading``: the data are of
    the version that the settings say.
    """
    version = applied_version(applied)
    if version not in (None, settings.postgres_version) and not upgrading:
        raise SettingsError(
            settings.stack,
            [
                f"{PROJECT}:postgresVersion: expected {version}, of which the data are, "
                f"found {settings.postgres_version}.",
                f"Next: `.venv/bin/pandom upgrade --stack {settings.stack}` brings them along "
                "(docs/upgrades.md); or set it back.",
            ],
        )
    bucket = applied.get("PANDOM_BUCKET", settings.bucket)
    if bucket != settings.bucket:
        raise SettingsError(
            settings.stack,
            [
                f"{PROJECT}:bucket: expected {bucket}, where the documents and the evidence are, "
                f"found {_found(settings.bucket)}.",
                "They cannot be renamed. Set it back, or see docs/runbook.md, Another bucket.",
            ],
        )


def server_settings_table() -> str:
    """Return what `postgresSettings` may hold, as Markdown, for the docs."""
    rows = ["| setting | what it is | from | to |", "|---|---|---|---|"]
    for name, one in SERVER_SETTINGS.items():
        unit = next(iter(_UNITS[one.kind]))
        rows.append(f"| `{name}` | {one.what} | {one.low:g}{unit} | {one.high:g}{unit} |")
    return "\n".join(rows)


def schedule_table() -> str:
    """Return the tasks that `schedules` may name, as Markdown, for the docs."""
    rows = ["| task | what it does | default, UTC | time limit | off |", "|---|---|---|---|---|"]
    for one in tasks.SCHEDULED.values():
        limit = f"{(one.limit_s or 0) // 60} min"
        off = {"anywhere": "yes"}.get(one.off, one.off)
        rows.append(f"| `{one.name}` | {one.what} | `{one.schedule}` | {limit} | {off} |")
    return "\n".join(rows)


def profile_table() -> str:
    """Return the three profiles side by side, as Markdown, for the docs."""
    rows = ["| | " + " | ".join(PROFILES) + " |", "|---" * (len(PROFILES) + 1) + "|"]
    for item in fields(Profile):
        cells = (_cell(getattr(profile, item.name)) for profile in PROFILES.values())
        rows.append(f"| {item.name.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _cell(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
