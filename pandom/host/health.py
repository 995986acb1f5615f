"""`pandom health` (D2): what must be true of a running stack, checked from outside.

The same logins, the same TLS and the same ports that clients use; a check that
the containers make of themselves would not see a wrong password or certificate.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pandom.errors import DONE, FAILED, Failure
from pandom.host.engine import Engine
from pandom.host.stack import Stack
from pandom.progress import say, shorten
from schema.storage import AUDITOR
from stacks.settings import PROFILES

if TYPE_CHECKING:
    from pandom.audit.store import Store

CONNECT_S: Final = 5
# Their first verdict comes after a while; until then they are running.
SLOW: Final = ("janitor", "auditor")
SERVERS: Final = ("postgres", "minio", "janitor")
WAIT_S: Final = 30.0  # for a server that is starting
# What a job made or states, so that running the jobs again can mend it.
_OF_JOBS: Final = frozenset(
    {"roles", "tables", "head", "partitions", "settings", "privileges", "bucket"}
)


@dataclass(frozen=True)
class Check:
    """One statement about the stack; ``detail`` says what was found.

    A ``warning`` is for people: the stack is as it should be, what users made of it may not.
    """

    name: str
    ok: bool
    detail: str
    seconds: float
    warning: bool = False


def _made(name: str, look: Callable[[], str]) -> Check:
    """Make one check; it fails by raising, whatever the library raises."""
    started = time.monotonic()
    try:
        ok, detail = True, look()
    except Exception as error:  # noqa: BLE001 - any failure of a check is its result
        ok, detail = False, shorten(str(error) or type(error).__name__, 300)
    return Check(name, ok, detail, round(time.monotonic() - started, 3))


@dataclass
class Report:
    """All checks of one stack."""

    stack: str
    checks: list[Check] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether every check passed; none at all is not healthy."""
        return bool(self.checks) and all(check.ok for check in self.checks)

    @property
    def wants_jobs(self) -> bool:
        """Whether running the jobs again could help: the servers are fine, the content is not."""
        failed = {check.name for check in self.checks if not check.ok}
        return bool(failed) and failed <= _OF_JOBS

    def add(self, name: str, look: Callable[[], str]) -> bool:
        """Make one check; returns whether it passed."""
        self.checks.append(_made(name, look))
        return self.checks[-1].ok

    def as_json(self) -> str:
        """For machines; secrets are in no detail."""
        content = {
            "stack": self.stack,
            "healthy": self.healthy,
            "checks": [asdict(check) for check in self.checks],
        }
        return json.dumps(content, indent=2)

    def show(self) -> None:
        """For people, on stderr."""
        seconds = sum(check.seconds for check in self.checks)
        if self.healthy:
            say(f"  health: {len(self.checks)} checks passed, {seconds:.1f} s")
            for check in self.checks:
                if check.warning:
                    say(f"  health: {check.name}: warning, {check.detail}")
            return
        for check in self.checks:
            verdict = "FAILED" if not check.ok else "warning" if check.warning else "ok"
            say(f"  health: {check.name}: {verdict}, {check.detail}")

    def explanation(self, again: str) -> str:
        """The message for a stack that is not healthy."""
        failed = "\n".join(f"  {one.name}: {one.detail}" for one in self.checks if not one.ok)
        return (
            f"Stack {self.stack} is not healthy:\n{failed}\n"
            f"Next: `{again} --stack {self.stack}` repairs what was changed by hand; docker logs\n"
            f"pandom-{self.stack}-postgres (or -minio, -migration) shows what a server says."
        )


def check(stack: Stack, engine: Engine, outputs: Mapping[str, Any]) -> Report:
    """Check everything, also after a failure: one run shows all that is wrong."""
    # Imported before there are two threads: each would import the other's half.
    from pandom.audit.place import store_of

    report = Report(stack.name)
    audited = PROFILES[outputs["profile"]].scheduled_audit
    for part in (*SERVERS, *(("auditor",) if audited else ())):
        report.add(f"container {part}", partial(_container, engine, part))
    # The other server's checks run meanwhile: listing its users is slow on purpose.
    with ThreadPoolExecutor() as beside:
        bucket = beside.submit(
            _made, "bucket", lambda: _bucket(outputs, store_of(outputs, AUDITOR))
        )
        for role in sorted(outputs["passwords"]):
            report.add(f"login {role}", partial(_login, outputs, role))
        report.add("roles", lambda: _roles(outputs))
        _database(report, outputs)
        report.checks.append(bucket.result())
    return report


def _container(engine: Engine, part: str) -> str:
    found = engine.wait_good(part, 0 if part in SLOW else WAIT_S)
    if found is None:
        raise Failure("there is no such container")
    if not found.good and not (part in SLOW and found.health == "starting"):
        # The auditor's check says what it found.
        raise Failure(f"{found.state}: {found.said}" if found.said else found.state)
    return found.state


def ask_auditor_again(engine: Engine) -> None:
    """After a run that may have healed what the auditor found, its verdict is an old one."""
    found = engine.container("auditor")
    if found is not None and found.health == "unhealthy":
        engine.restart(found)


def connection(outputs: Mapping[str, Any], role: str) -> dict[str, Any]:
    """What a client of the stack connects with, as libpq's keywords."""
    return {
        "host": outputs["db_host"],
        "port": int(outputs["db_port"]),
        "user": role,
        "password": outputs["passwords"][role],
        "dbname": outputs["db_database"],
        "sslmode": "verify-full",
        "sslrootcert": outputs["db_sslrootcert"],
        "connect_timeout": CONNECT_S,
        "application_name": "pandom health",
    }


def _login(outputs: Mapping[str, Any], role: str) -> str:
    """One login with its own password: Pulumi cannot see that a role changed its own (A5)."""
    import psycopg

    with psycopg.connect(**connection(outputs, role)) as client:
        client.execute("select 1")
        version = client.info.server_version
    return f"over TLS, PostgreSQL {version // 10000}.{version % 10000}"


def _roles(outputs: Mapping[str, Any]) -> str:
    """Settings that a role may change itself (A5) are as declared.

    Pulumi sees the attributes but only some of the settings.
    """
    import psycopg

    from schema.access import ROLES

    with psycopg.connect(**connection(outputs, outputs["db_username"])) as client:
        found = dict(
            client.execute(
                "select rolname, coalesce(rolconfig, '{}') from pg_catalog.pg_roles"
            ).fetchall()
        )
    wrong = []
    for role in ROLES:
        if role.name in found:
            wanted = {key: _plain(key, value) for key, value in role.settings.items()}
            pairs = (line.split("=", 1) for line in found[role.name])
            if {key: _plain(key, value) for key, value in pairs} != wanted:
                wrong.append(role.name)
    if wrong:
        raise Failure(f"settings changed by hand: {', '.join(wrong)}")
    return f"settings of {len(found.keys() & {role.name for role in ROLES})} roles as declared"


def _plain(setting: str, value: str) -> str:
    """Whole seconds and milliseconds compared as one: both forms are in use."""
    if setting.endswith("_timeout") and value.endswith("s") and value[:-1].isdigit():
        return f"{value[:-1]}000"
    return value


def _database(report: Report, outputs: Mapping[str, Any]) -> None:
    """The database's own checks, each as one of ours."""
    import psycopg

    from pandom.database import health as database
    from pandom.database import settings as row_settings

    def look() -> str:
        with psycopg.connect(**connection(outputs, "pandom_user")) as client:
            started = time.monotonic()
            findings = database.check(
                client,
                settings=row_settings.of_outputs(outputs),
                administrator=outputs["admin_email"],
            ).findings
        seconds = round((time.monotonic() - started) / len(findings), 3)
        report.checks += [
            Check(one.name, one.ok, one.found, seconds, one.warning) for one in findings
        ]
        return f"{len(findings)} checks as pandom_user"

    report.add("database", look)
    report.add("privileges", lambda: _privileges(outputs))


def _privileges(outputs: Mapping[str, Any]) -> str:
    """Privileges on tables, functions and types: Pulumi sees none of them."""
    import psycopg

    from pandom.database import converge
    from schema.access import ROLES

    opt_in = {role.opt_in for role in ROLES if role.opt_in and role.name in outputs["passwords"]}
    with psycopg.connect(**connection(outputs, "pandom_user")) as client:
        found = converge.difference(client, frozenset(filter(None, opt_in)))
    # What does not exist is no privilege; the schema's own checks look at that.
    if wrong := list(converge.describe(replace(found, absent=()))):
        raise Failure(f"changed by hand: {'; '.join(wrong)}")
    return "on tables, functions and types as declared"


def _bucket(outputs: Mapping[str, Any], auditor: Store) -> str:
    """The application's user reaches its bucket, and the store's rules are as declared."""
    from pandom.audit import store
    from pandom.objectstore import Account, client

    user = Account(outputs["minio_access_key"], outputs["minio_secret_key"])
    limited = client(auditor.endpoint, user)
    # Listing is what the limited user may do; whether a bucket exists it may not ask everywhere.
    next(iter(limited.list_objects(bucket_name=auditor.bucket, prefix=".pandom-health")), None)
    seen, expected = store.read(auditor), store.expected(auditor.bucket)
    wrong = {
        f"{fact.kind} {fact.object}"
        for fact, value in expected.items()
        if seen.facts.get(fact) != value
    }
    if wrong:
        raise Failure(f"not as declared: {', '.join(sorted(wrong))}")
    return f"{auditor.bucket} as {user.access_key} over TLS, {len(expected)} rules as declared"


def run(name: str, as_json: bool = False) -> int:
    """Check a running stack; print JSON or lines, and return the exit code."""
    from pandom.host.access import outputs_of

    stack = Stack(name)
    outputs = outputs_of(stack)
    report = check(stack, Engine(name), outputs)
    if as_json:
        print(report.as_json())
    else:
        report.show()
        if report.healthy:
            say(f"Stack {name} is healthy.")
        else:
            say(f"\n{report.explanation('.venv/bin/pandom up')}")
    return DONE if report.healthy else FAILED
