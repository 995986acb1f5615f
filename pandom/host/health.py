"""What must be true of a running stack, checked from outside.

The same logins, the same TLS and the same ports that clients use; a check that
the containers make of themselves would not see a wrong password or certificate.
Whether all is as it was declared is the audit's to say (``verdict``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from pandom.database import pinned
from pandom.host import operations
from pandom.host.engine import Container, Engine
from pandom.operations.tasks import TASKS
from pandom.runtime import certificates
from pandom.runtime.errors import Failure
from pandom.runtime.naming import HOST_BACKUP
from pandom.runtime.progress import say, shorten
from schema.storage import archives

CONNECT_S: Final = 5
# Its health check looks seldom.
WATCHERS: Final = ("metrics",)
SERVERS: Final = ("postgres", "minio")
WAIT_S: Final = 30.0  # for a server that is starting, or a first verdict
_STEP_S: Final = 0.3
# What a job made or states, so that running the jobs again can mend it.
_OF_JOBS: Final = frozenset({"tables", "head", "partitions", "settings", "bucket", "archiving"})
# What fails because of that.
_WATCHING: Final = frozenset({"backup", *(f"task {name}" for name in TASKS)})


@dataclass(frozen=True)
class Check:
    """One statement about the stack; ``detail`` says what was found.

    A ``warning`` is for people: the stack is as it should be, what users made of it may not.
    """

    name: str
    ok: bool
    detail: str
    seconds: float
    warning: str | None = None  # what is right, but not for long


def made(name: str, look: Callable[[], str]) -> Check:
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
        return bool(failed & _OF_JOBS) and failed <= _OF_JOBS | _WATCHING

    @property
    def behind(self) -> bool:
        """Whether tables are missing, or the schema is at another revision."""
        return any(one.name in ("tables", "head") for one in self.checks if not one.ok)

    @property
    def warnings(self) -> list[str]:
        """What passed, but will not for long."""
        return [f"{check.name}: {check.warning}" for check in self.checks if check.warning]

    def add(self, name: str, look: Callable[[], str]) -> bool:
        """Make one check; returns whether it passed."""
        self.checks.append(made(name, look))
        return self.checks[-1].ok

    def document(self) -> dict[str, Any]:
        """For machines; secrets are in no detail."""
        return {
            "stack": self.stack,
            "healthy": self.healthy,
            "warnings": self.warnings,
            "checks": [asdict(check) for check in self.checks],
        }

    def show(self) -> None:
        """For people, on stderr."""
        for check in self.checks:
            verdict = "FAILED" if not check.ok else "warning" if check.warning else "ok"
            say(f"  health: {check.name}: {verdict}, {check.detail}")

    def explanation(self, again: str) -> str:
        """Return the message for a stack that is not healthy."""
        failed = "\n".join(f"  {one.name}: {one.detail}" for one in self.checks if not one.ok)
        return (
            f"Stack {self.stack} is not healthy:\n{failed}\n"
            f"Next: `{again} --stack {self.stack}` repairs what was changed by hand; docker logs\n"
            f"pandom-{self.stack}-postgres (or -minio, -operations …) shows what a server says."
        )


def clients(report: Report, outputs: Mapping[str, Any]) -> None:
    """Check what clients of the database reach: every login, and what a login may look at."""
    for role in sorted(outputs["passwords"]):
        report.add(f"login {role}", partial(_login, outputs, role))
    _certificates(report, outputs)
    _database(report, outputs)


def containers(engine: Engine, outputs: Mapping[str, Any]) -> list[Check]:
    """Check the servers, and what is there with a setting only: the exporter, and the one that
    gives backups the database's files."""
    looks = dict.fromkeys(SERVERS, _server)
    looks |= dict.fromkeys((HOST_BACKUP,) if archives(str(outputs.get("backup"))) else (), _server)
    looks |= dict.fromkeys(WATCHERS if "metrics_port" in outputs else (), _watcher)
    return [made(f"container {part}", partial(look, engine, part)) for part, look in looks.items()]


def _server(engine: Engine, part: str) -> str:
    return _judged(engine, engine.wait_until_healthy(part, WAIT_S))


def _watcher(engine: Engine, part: str) -> str:
    """Its last verdict, or its first one: starting for ever is no success."""
    deadline = time.monotonic() + WAIT_S
    while True:
        found = engine.container(part)
        if found is None or found.status in ("exited", "dead"):
            return _judged(engine, found)
        if (
            found.is_healthy
            or found.health == "unhealthy"
            or (found.is_crash_looping and found.restarts >= 3)
        ):
            return _judged(engine, found)
        if found.status == "running":
            code, said = engine.ask(found)
            if code == 0:
                return "running, its first round was good"
            if said:
                raise Failure(said)
        if time.monotonic() > deadline:
            raise Failure(
                f"{found.state}, without a verdict for {WAIT_S:.0f} s{_last(engine, found)}"
            )
        time.sleep(_STEP_S)


def _judged(engine: Engine, found: Container | None) -> str:
    if found is None:
        raise Failure("there is no such container")
    if not found.is_healthy or found.is_crash_looping:
        words = (
            f": {found.health_output}"
            if found.health_output and not found.is_crash_looping
            else _last(engine, found)
        )
        raise Failure(f"{found.state}{words}")
    return found.state


def tasks(engine: Engine, stack: str, outputs: Mapping[str, Any]) -> list[Check]:
    """Check the container of the scheduled tasks, and what became of each of them."""
    started = time.monotonic()
    try:
        found = [*operations.standings(engine, stack, outputs.get("schedules"))]
    except Exception as error:  # noqa: BLE001 - any failure of a check is its result
        found = [(f"container {operations.PART}", False, shorten(str(error), 300))]
    seconds = round(time.monotonic() - started, 3)
    return [Check(name, well, words, seconds) for name, well, words in found]


def _certificates(report: Report, outputs: Mapping[str, Any]) -> None:
    """Each server's certificate as it is shown on the port, and the CA's."""
    looks: dict[str, Callable[[], bytes]] = {
        "postgres": lambda: certificates.served(int(outputs["db_port"])),
        "minio": lambda: certificates.served(int(outputs["minio_port"])),
        "CA": lambda: certificates.der(outputs["ca_certificate"]),
    }
    for name, look in looks.items():
        warnings: list[str | None] = [None]

        def lasting(look: Callable[[], bytes] = look, into: list[str | None] = warnings) -> str:
            detail, into[0] = certificates.lasting(look())
            return detail

        report.add(f"certificate {name}", lasting)
        report.checks[-1] = replace(report.checks[-1], warning=warnings[0])


def _last(engine: Engine, found: Container) -> str:
    lines = engine.last_words(found, 1)
    return f"; last log line: {lines[0]}" if lines else ""


def restart_unhealthy_watchers(engine: Engine) -> None:
    """Have those that say that something is wrong look at once: it may have been healed, and a
    verdict is as old as its round."""
    for found in engine.containers():
        if found.part not in WATCHERS:
            continue
        bad = found.health == "unhealthy" or found.is_crash_looping
        if not bad and found.health == "starting" and found.status == "running":
            code, said = engine.ask(found)
            bad = code != 0 and bool(said)
        if bad:
            engine.restart(found)


def connection(outputs: Mapping[str, Any], role: str) -> dict[str, Any]:
    """Return a client's connection as libpq's keywords; the session is pinned."""
    return pinned.login(
        role,
        outputs["passwords"][role],
        host=outputs["db_host"],
        port=int(outputs["db_port"]),
        database=outputs["db_database"],
        ca=outputs["db_sslrootcert"],
        application_name="pandom health",
        timeout_s=CONNECT_S,
    )


def _login(outputs: Mapping[str, Any], role: str) -> str:
    """One login with its own password: Pulumi cannot see that a role changed its own."""
    import psycopg

    with psycopg.connect(**connection(outputs, role)) as client:
        client.execute("select 1")
        version = client.info.server_version
    return f"over TLS, PostgreSQL {version // 10000}.{version % 10000}"


def _database(report: Report, outputs: Mapping[str, Any]) -> None:
    """Add the database's own checks, each as one of ours."""
    import psycopg

    from pandom.database import health as database
    from pandom.database import settings as row_settings
    from pandom.database.restore import restoring

    def look() -> str:
        with psycopg.connect(**connection(outputs, "pandom_user")) as client:
            if unfinished := restoring.marked(client):
                raise Failure(
                    f"a restore is not finished: .venv/bin/pandom db finish {unfinished[0]}"
                )
            started = time.monotonic()
            findings = database.check(
                client,
                settings=row_settings.of_outputs(outputs),
                administrator=outputs["admin_email"],
            ).findings
        seconds = round((time.monotonic() - started) / len(findings), 3)
        report.checks += [
            Check(one.name, one.ok, one.found, seconds, one.found if one.warning else None)
            for one in findings
        ]
        return f"{len(findings)} checks as pandom_user"

    report.add("database", look)


def bucket(outputs: Mapping[str, Any]) -> str:
    """Check that the application's user reaches its bucket, whose rules the audit compares."""
    from pandom.objectstore import Account, Endpoint, client

    user = Account(outputs["minio_access_key"], outputs["minio_secret_key"])
    endpoint = Endpoint(
        outputs["minio_endpoint"], int(outputs["minio_port"]), Path(outputs["db_sslrootcert"])
    )
    name = outputs["minio_bucket_name"]
    # Listing is what the limited user may do; whether a bucket exists it may not ask everywhere.
    found = client(endpoint, user).list_objects(bucket_name=name, prefix=".pandom-health")
    next(iter(found), None)
    return f"{name} as {user.access_key} over TLS"
