"""Monitoring: what /metrics serves, what its login may do, the rules and the dashboard."""

from __future__ import annotations

import io
import json
import math
import re
import secrets
import tarfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import docker
import psycopg
import pytest
import yaml
from docker.models.containers import Container

from pandom.database import cluster
from pandom.database.converge import converge
from pandom.host.stack import Stack, set_values
from pandom.runtime.naming import KEYS_MOUNT, PROJECT, UID_METRICS, resource_name
from pandom.runtime.paths import ROOT
from schema import access
from tests.fixtures import leaks
from tests.fixtures.prometheus import promtool, scraping
from tests.fixtures.server import Server, server_of
from tests.fixtures.stack import RunningStack, left_in_docker, running
from tests.infra.conftest import Spare, new_keys
from tests.infra.hardening import findings
from tests.unit.test_monitoring import AUDIT, DASHBOARD, QUERIES, RULES, queried

LIMIT_S = 60
FOLDER = "app_image/metrics"
ROLE = "pandom_metrics"
MEASURED = ("activity", "backup", "trail")
# Served where the server archives.
ARCHIVER = {name for name in queried() if name.startswith(("pandom_archiver_", "pandom_backup_"))}


def switch(stack: RunningStack, on: bool) -> str:
    """Switch monitoring of a stack; return what `up` says."""
    set_values(Stack(stack.name), {"monitoring": on})
    said = stack.pandom("up", "--stack", stack.name).stderr
    stack.look_again()
    leaks.watch(stack.secrets.values())
    return said


@pytest.fixture(scope="module")
def complete() -> Iterator[RunningStack]:
    """A stack with everything that has metrics: a scheduled audit, archiving and a backup."""
    wanted: dict[str, bool | int | str] = {"monitoring": True, "profile": "development"}
    with running(settings={**wanted, "backup": "own-store"}) as made:
        leaks.watch(made.secrets.values())
        yield made


@pytest.fixture(scope="module")
def image(engine: docker.DockerClient) -> Any:
    """The exporter's image: the shared stack has none."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for path in sorted((ROOT / FOLDER).iterdir()):
            tar.add(path, f"{FOLDER}/{path.name}")
    context.seek(0)
    made, _ = engine.images.build(
        fileobj=context,
        custom_context=True,
        dockerfile=f"{FOLDER}/Dockerfile",
        tag=f"{PROJECT}/test-metrics:local",  # `make clean` removes it
        rm=True,
    )
    return made


@pytest.fixture(scope="module")
def login(stack: RunningStack) -> Iterator[Server]:
    """The shared stack's server with the exporter's login, which is made here if it has none."""
    server = server_of(stack)
    if ROLE in server.passwords:
        yield server
        return
    opt_in = frozenset({"monitoring"})
    server.passwords[ROLE] = secrets.token_hex(16)
    leaks.watch([server.passwords[ROLE]])
    with server.connect("postgres") as superuser:
        superuser.execute(f"create role {ROLE} login password '{server.passwords[ROLE]}'")
        try:
            cluster.apply_roles(superuser, opt_in)
            cluster.apply_grants(superuser, opt_in)
            with server.connect("pandom_migrator") as migrator, migrator.transaction():
                converge(migrator, opt_in)
            yield server
        finally:
            superuser.execute(f"drop owned by {ROLE}")
            superuser.execute(f"drop role {ROLE}")


@pytest.fixture(scope="module")
def exporter(
    engine: docker.DockerClient, stack: RunningStack, login: Server, image: Any
) -> Iterator[Container]:
    """An exporter beside the shared stack, with the mounts that the program gives to its own."""
    spare = Spare(engine, stack)
    try:
        keys = spare.volume()
        write_keys_of_exporter(
            spare, keys, resource_name(stack.name, "keys-janitor"), login.passwords[ROLE]
        )
        made = spare.create(
            "metrics",
            image=image,
            user=f"{UID_METRICS}:{UID_METRICS}",
            network=resource_name(stack.name, "network"),
            volumes={
                keys: {"bind": str(KEYS_MOUNT), "mode": "ro"},
                **{
                    resource_name(stack.name, name): {"bind": f"/volumes/{name}", "mode": "ro"}
                    for name in ("data", "objects")
                },
            },
        )
        made.start()
        yield made
    finally:
        spare.close()


def write_keys_of_exporter(spare: Spare, volume: str, source: str, password: str) -> None:
    """Write the CA of another volume, and a password, in one step, as the keys job does."""
    code, output = spare.run(
        "keys",
        [
            "-c",
            'cp /other/ca.crt /to/ca.crt && printf %s "$1" > /to/new'
            f" && chown -R {UID_METRICS} /to && mv /to/new /to/pandom_metrics_password",
            *("-", password),
        ],
        entrypoint="bash",
        user="0:0",
        cap_add=["CHOWN", "DAC_OVERRIDE"],
        volumes={volume: {"bind": "/to"}, source: {"bind": "/other", "mode": "ro"}},
    )
    assert code == 0, output


def page(stack: RunningStack) -> str:
    url = f"http://127.0.0.1:{stack.outputs['metrics_port']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def page_of(exporter: Container) -> str:
    """The same from inside: a spare one has no port on the host."""
    done = exporter.exec_run(["curl", "-s", "http://127.0.0.1:9187/metrics"])
    return str(done.output.decode())


def values(text: str) -> dict[str, list[float]]:
    """Each metric's values, without their labels."""
    found: dict[str, list[float]] = {}
    for name, value in re.findall(r"^(\w+)(?:\{.*\})? (\S+)$", text, re.M):
        found.setdefault(name, []).append(float(value))
    return found


def await_metrics(
    read: Callable[[], str], wanted: Callable[[Mapping[str, list[float]]], bool]
) -> Mapping[str, list[float]]:
    end = time.monotonic() + LIMIT_S
    while not wanted(found := values(read())):
        assert time.monotonic() < end, found
        time.sleep(0.5)
    return found


def end_sessions(stack: RunningStack) -> None:
    """End the exporter's sessions, so that it must sign in again."""
    with server_of(stack).connect("postgres") as superuser:
        superuser.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = %s", [ROLE]
        )


# -- what is served ---------------------------------------------------------------------------


def assert_good(found: Mapping[str, list[float]]) -> None:
    """What every stack serves that is well."""
    assert found["pg_up"] == [1]
    assert found["pg_exporter_last_scrape_error"] == [0]
    assert found["node_textfile_scrape_error"] == [0]
    assert min(found["pandom_partitions_horizon_seconds"]) > 28 * 86400
    assert len(found["node_filesystem_avail_bytes"]) == 2
    assert min(found["node_filesystem_avail_bytes"]) > 0


@pytest.mark.requirement("O1", "O2", "O3")
def test_every_metric_is_served(exporter: Container) -> None:
    found = await_metrics(partial(page_of, exporter), lambda found: "pg_up" in found)
    assert_good(found)
    assert queried() - set(found) == ARCHIVER


@pytest.mark.soak
def test_every_metric_of_a_complete_stack_is_served(complete: RunningStack) -> None:
    # The first backup is made when everything runs; until then its age is infinite.
    found = await_metrics(
        partial(page, complete),
        lambda found: (
            "pandom_audit_verdict" in found
            and found.get("pandom_backup_newest_seconds", [math.inf]) != [math.inf]
        ),
    )
    assert_good(found)
    assert queried() | AUDIT <= set(found)
    assert found["pandom_audit_verdict"] == [0]
    assert time.time() - found["pandom_audit_time_seconds"][0] < 7200
    assert 0 < found["pandom_backup_newest_seconds"][0] < 3600
    assert found["pandom_archiver_failing"] == [0]


@pytest.mark.requirement("O1", "O2", "O3")
def test_numbers_follow_what_happens(login: Server) -> None:
    """What the exporter is told, by the functions that it calls."""
    with (
        login.connect("pandom_app") as client,
        login.connect("pandom_user") as holder,
        login.connect("postgres") as superuser,
    ):

        def numbers() -> dict[str, float]:
            superuser.execute("set local role pandom_metrics")
            cursor = superuser.execute(
                "select * from public.measure_trail(), public.measure_activity(),"
                " public.measure_backup() as newest_backup"
            )
            found = cursor.fetchone()
            superuser.execute("reset role")
            assert cursor.description is not None
            assert found is not None
            names = (column.name for column in cursor.description)
            return dict(zip(names, map(float, found), strict=True))

        with superuser.transaction(force_rollback=True):
            before = numbers()
            # The next transaction begins later, and so finds these to be past.
            client.execute("select * from public.sign_in('nobody@example.com', 'wrong', null)")
        with holder.transaction(), superuser.transaction(force_rollback=True):
            holder.execute("select pg_current_xact_id()")
            superuser.execute("update public.account_settings set suspicious_events_per_hour = 1")
            fewer = numbers()
            (user,) = superuser.execute(
                "insert into public.auth_users (email, password_hash)"
                " select 'measured@example.com', password_hash from public.auth_users limit 1"
                " returning uuid"
            ).fetchone() or (None,)
            for _ in range(2):
                superuser.execute(
                    "select public.write_event('audit_logs', %s, 'seen', 'info', '{}')", [user]
                )
            superuser.execute(
                "insert into public.sessions (user_uuid, token, created_at, expires_at) values"
                " (%s, repeat('0', 64), now() - interval '9 days', now() - interval '8 days')",
                [user],
            )
            found = numbers()
            assert found["failed_sign_ins"] == before["failed_sign_ins"] + 1
            assert found["unsealed_seconds"] > 0
            assert found["longest_transaction_seconds"] > 0
            assert found["suspicious_users"] == fewer["suspicious_users"] + 1
            assert found["expired_sessions"] == fewer["expired_sessions"] + 1
            assert found["oldest_expired_seconds"] >= 8 * 86400
            superuser.execute(
                "insert into public.security_logs (timestamp, event_type, severity, details)"
                " values (now() - interval '90 seconds', 'backup_made', 'info', '{}')"
            )
            assert numbers()["newest_backup"] <= 90
        if before["newest_backup"] == math.inf:
            assert found["newest_backup"] == math.inf


@pytest.mark.soak
def test_the_archiver_s_numbers(complete: RunningStack) -> None:
    """A server that archives to nowhere, and then somewhere."""
    engine = docker.from_env()
    spare = Spare(engine, complete)
    query = yaml.safe_load(QUERIES.read_text())["pandom_archiver"]["query"]
    try:
        keys = new_keys(spare)
        server = spare.start(
            "postgres",
            ["-c", "archive_mode=on", "-c", "archive_command=test -e /tmp/there"],
            volumes={spare.volume(): {"bind": "/var/lib/postgresql"}, **keys.mount("postgres")},
            shm_size="64m",
        )

        def asked(statement: str) -> dict[str, float]:
            text = (
                f"PGPASSWORD=$(cat {KEYS_MOUNT}/superuser_password) psql -h 127.0.0.1 -U postgres"
            )
            done = server.exec_run(
                ["sh", "-c", f'{text} -qAF "=" -x -c "$1"', "-", statement],
                environment={"PGSSLMODE": "require"},
                demux=True,
            )
            assert done.exit_code == 0, done.output
            rows = [line.split("=") for line in (done.output[0] or b"").decode().split()]
            return {name: float(value or "nan") for name, value in rows if name != "pg_switch_wal"}

        def until(wanted: Callable[[dict[str, float]], bool]) -> dict[str, float]:
            end = time.monotonic() + LIMIT_S
            while not wanted(found := asked(query)):
                assert time.monotonic() < end, found
                time.sleep(0.5)
            return found

        assert (found := asked(query))["failing"] == 0, found
        for _ in range(3):
            asked("create table if not exists t (i int); insert into t values (1)")
            asked("select pg_switch_wal() is null as pg_switch_wal")
        failing = until(lambda now: now["failing"] == 1)
        assert failing["failed_total"] >= 1
        server.exec_run(["touch", "/tmp/there"])  # noqa: S108 - of the container
        good = until(lambda now: now["archived_total"] >= 3)
        assert (good["failing"], good["waiting_segments"]) == (0, 0)
        assert good["last_seconds"] < LIMIT_S
        server.exec_run(["rm", "/tmp/there"])  # noqa: S108 - of the container
        for _ in range(2):
            asked("insert into t values (1)")
            asked("select pg_switch_wal() is null as pg_switch_wal")
        assert until(lambda now: now["failing"] == 1)["waiting_segments"] == 2
    finally:
        spare.close()
        engine.close()


# -- what it may do ---------------------------------------------------------------------------


@pytest.mark.soak
def test_the_container_breaks_no_rule(engine: docker.DockerClient, complete: RunningStack) -> None:
    exporter = engine.containers.get(complete.container("metrics"))
    assert findings(exporter.attrs) == []
    # It sees how full the volumes are, and nothing of what is in them.
    for place in ("/volumes/data", "/volumes/objects"):
        done = exporter.exec_run(["ls", place])
        assert b"Permission denied" in done.output, done.output
    status = exporter.exec_run(["cat", "/proc/1/status"]).output.decode()
    assert re.search(rf"^Uid:\t{UID_METRICS}\t", status, re.M)
    assert re.search(r"^CapEff:\t0+$", status, re.M)
    password = complete.passwords[ROLE]
    shown = exporter.exec_run(["sh", "-c", "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline"])
    assert b"verify-full" in shown.output
    assert password not in shown.output.decode(errors="replace")
    assert password not in json.dumps(exporter.attrs) + exporter.logs().decode()


@pytest.mark.requirement("A7")
def test_the_login_reads_numbers_and_no_row(login: Server) -> None:
    with login.connect(ROLE) as connection:
        reachable = connection.execute(
            "select c.oid::regclass::text from pg_class as c"
            " where c.relnamespace = 'public'::regnamespace and ("
            "  (c.relkind in ('r', 'p', 'v', 'm', 'f') and (has_table_privilege(c.oid, 'select,"
            " insert, update, delete, truncate, references, trigger')"
            "  or has_any_column_privilege(c.oid, 'select, insert, update, references')))"
            "  or (c.relkind = 'S' and has_sequence_privilege(c.oid, 'usage, select, update')))"
        ).fetchall()
        callable_ = connection.execute(
            "select p.oid::regprocedure::text from pg_proc as p"
            " where p.pronamespace = 'public'::regnamespace"
            " and has_function_privilege(p.oid, 'execute') order by 1"
        ).fetchall()
        assert reachable == []
        assert callable_ == [(f"measure_{name}()",) for name in MEASURED]
        for table in ("auth_users", "audit_logs", "sessions", "account_settings"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"select * from public.{table}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select public.sign_out('x')")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("create temporary table t (i int)")
        seen = connection.execute(
            "select count(*) from pg_stat_activity"
            " where query not like '<insufficient%' and usename <> current_user"
        ).fetchone()
        assert seen == (0,)
    with login.connect("pandom_app") as other:
        for name in MEASURED:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                other.execute(f"select public.measure_{name}()")


@pytest.mark.soak
def test_another_server_is_not_asked_and_a_new_secret_is_taken(
    engine: docker.DockerClient, complete: RunningStack
) -> None:
    """With the CA of another stack the password is not even sent; with this one's it serves."""
    spare = Spare(engine, complete)
    try:
        volume = spare.volume()
        write_keys_of_exporter(spare, volume, new_keys(spare).postgres, "wrong")
        strange = spare.create(
            "metrics",
            user=f"{UID_METRICS}:{UID_METRICS}",
            network=resource_name(complete.name, "network"),
            volumes={volume: {"bind": str(KEYS_MOUNT), "mode": "ro"}},
        )
        strange.start()
        read = partial(page_of, strange)
        found = await_metrics(read, lambda found: found.get("pg_up") == [0])
        assert b"certificate signed by unknown authority" in strange.logs()
        # Without a volume for the verdict, as without an auditor, that is no error.
        assert found["node_textfile_scrape_error"] == [0]
        own = resource_name(complete.name, "keys-metrics")
        write_keys_of_exporter(spare, volume, own, complete.passwords[ROLE])
        await_metrics(read, lambda found: found.get("pg_up") == [1])
    finally:
        spare.close()


def test_without_its_secret_it_says_so(spare: Spare, image: Any) -> None:
    code, output = spare.run("metrics", image=image, user=f"{UID_METRICS}:{UID_METRICS}")
    assert code == 1
    assert output.startswith(f"pandom-metrics: {KEYS_MOUNT}/pandom_metrics_password is missing")


# -- rules and dashboard ----------------------------------------------------------------------

UP: dict[str, float] = {'up{job="pandom", instance="a"}': 1, 'pg_up{job="pandom", instance="a"}': 1}
# Of each rule the series with which it fires, and with which it does not.
CASES: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "PandomMetricsMissing": ({'up{job="pandom", instance="a"}': 0}, UP),
    "PandomDatabaseSilent": ({**UP, 'pg_up{job="pandom", instance="a"}': 0}, UP),
    "PandomMetricsIncomplete": (
        {**UP, 'pg_exporter_last_scrape_error{job="pandom", instance="a"}': 1},
        {**UP, 'pg_exporter_last_scrape_error{job="pandom", instance="a"}': 0},
    ),
    "PandomFailedSignIns": (
        {"pandom_trail_failed_sign_ins": 101},
        {"pandom_trail_failed_sign_ins": 100},
    ),
    "PandomSuspiciousUsers": (
        {"pandom_trail_suspicious_users": 1},
        {"pandom_trail_suspicious_users": 0},
    ),
    "PandomExpiredSessionsStay": (
        {"pandom_activity_oldest_expired_seconds": 1801},
        {"pandom_activity_oldest_expired_seconds": 600},
    ),
    "PandomTrailNotSealed": (
        {"pandom_trail_unsealed_seconds": 1801},
        {"pandom_trail_unsealed_seconds": 600},
    ),
    "PandomPartitionsRunOut": (
        {'pandom_partitions_horizon_seconds{log="audit_logs"}': 13 * 86400},
        {'pandom_partitions_horizon_seconds{log="audit_logs"}': 28 * 86400},
    ),
    "PandomConnectionsNearLimit": (
        {
            'pandom_connections_open{login="pandom_app"}': 81,
            'pandom_connections_allowed{login="pandom_app"}': 100,
        },
        {
            'pandom_connections_open{login="pandom_app"}': 80,
            'pandom_connections_allowed{login="pandom_app"}': 100,
        },
    ),
    "PandomLongTransaction": (
        {"pandom_activity_longest_transaction_seconds": 901},
        {"pandom_activity_longest_transaction_seconds": 600},
    ),
    "PandomVolumeFilling": (
        {
            'node_filesystem_avail_bytes{mountpoint="/volumes/data"}': 9,
            'node_filesystem_size_bytes{mountpoint="/volumes/data"}': 100,
        },
        {
            'node_filesystem_avail_bytes{mountpoint="/volumes/data"}': 11,
            'node_filesystem_size_bytes{mountpoint="/volumes/data"}': 100,
        },
    ),
    "PandomVolumeFull": (
        {
            'node_filesystem_avail_bytes{mountpoint="/volumes/data"}': 2,
            'node_filesystem_size_bytes{mountpoint="/volumes/data"}': 100,
        },
        {
            'node_filesystem_avail_bytes{mountpoint="/volumes/data"}': 4,
            'node_filesystem_size_bytes{mountpoint="/volumes/data"}': 100,
        },
    ),
    "PandomAuditDrift": ({"pandom_audit_verdict": 2}, {"pandom_audit_verdict": 1}),
    "PandomAuditUncertain": ({"pandom_audit_verdict": 1}, {"pandom_audit_verdict": 0}),
    "PandomAuditOverdue": (
        {"pandom_audit_time_seconds": -9000},
        {"pandom_audit_time_seconds": 0},
    ),
    "PandomArchiverFailing": ({"pandom_archiver_failing": 1}, {"pandom_archiver_failing": 0}),
    "PandomArchiveBehind": (
        {"pandom_archiver_waiting_segments": 17},
        {"pandom_archiver_waiting_segments": 16},
    ),
    "PandomBackupOverdue": (
        {"pandom_backup_newest_seconds": 8 * 86400 + 1},
        {"pandom_backup_newest_seconds": 8 * 86400},
    ),
    "PandomDrillOverdue": (
        {"pandom_audit_drill_time_seconds": -8 * 86400},
        {"pandom_audit_drill_time_seconds": -7 * 86400},
    ),
}


def rule_test(alert: str, series: Mapping[str, float], fires: bool) -> dict[str, Any]:
    """Two hours of these values; whether the alert is firing at their end."""
    return {
        "name": f"{alert} {'fires' if fires else 'is quiet'}",
        "interval": "4m",
        "input_series": [
            {"series": name, "values": f"{value}x30"} for name, value in series.items()
        ],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) or vector(0)',
                "eval_time": "2h",
                "exp_samples": [{"labels": "{}", "value": int(fires)}],
            }
        ],
    }


def run_rule_tests(tests: list[dict[str, Any]]) -> tuple[int, str]:
    document = {"rule_files": ["alerts.yml"], "evaluation_interval": "4m", "tests": tests}
    return promtool(
        "test", "rules", "test.yml", test_yml=yaml.safe_dump(document), alerts_yml=RULES.read_text()
    )


def test_promtool_takes_the_rules() -> None:
    code, output = promtool("check", "rules", "alerts.yml", alerts_yml=RULES.read_text())
    assert code == 0, output
    assert f"{len(CASES)} rules found" in output
    broken = RULES.read_text().replace("pandom_audit_verdict == 2", "pandom_audit_verdict ==")
    assert promtool("check", "rules", "alerts.yml", alerts_yml=broken)[0] != 0


def test_each_rule_fires_when_it_shall_and_only_then() -> None:
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    assert [rule["alert"] for rule in rules] == list(CASES)
    tests = [
        rule_test(alert, series, fires)
        for alert, pair in CASES.items()
        for series, fires in zip(pair, (True, False), strict=True)
    ]
    code, output = run_rule_tests(tests)
    assert code == 0, output


def test_a_rule_that_does_not_fire_would_be_seen() -> None:
    (alert, (firing, quiet)), *_ = list(CASES.items())[3:]
    wrong = [rule_test(alert, quiet, True), rule_test(alert, firing, False)]
    code, output = run_rule_tests(wrong)
    assert code == 1
    assert output.count(alert) == len(wrong), output


@pytest.mark.soak
def test_the_dashboard_s_queries_give_something(complete: RunningStack) -> None:
    """On a real Prometheus that scrapes the real stack; none of the rules fires on it."""
    target = f"127.0.0.1:{complete.outputs['metrics_port']}"
    await_metrics(partial(page, complete), lambda found: found.get("pandom_audit_verdict") == [0])
    dashboard = json.loads(DASHBOARD.read_text())
    (variable,) = [one for one in dashboard["templating"]["list"] if one["type"] == "query"]
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
    with scraping(target, RULES.read_text()) as prometheus:
        assert [one["metric"][label] for one in prometheus.series(metric)] == [target]
        for panel in dashboard["panels"]:
            for one in panel["targets"]:
                found = prometheus.series(one["expr"].replace("$instance", target))
                assert found, f"{panel['title']}: {one['expr']}"
                legend = re.findall(r"\{\{(\w+)\}\}", one["legendFormat"])
                assert all(set(legend) <= set(series["metric"]) for series in found)
        assert prometheus.series("pandom_trial_failed_sign_ins") == []
        with pytest.raises(AssertionError, match="parse error"):
            prometheus.series("rate(pandom_trail_failed_sign_ins)[")
        firing = prometheus.ask("alerts")["alerts"]
        assert [one["labels"]["alertname"] for one in firing if one["state"] == "firing"] == []


# -- it is watched itself, and goes as it came --------------------------------------------------


@pytest.mark.soak
def test_a_password_that_was_changed_is_seen_and_set_back(complete: RunningStack) -> None:
    with server_of(complete).connect("postgres") as superuser:
        superuser.execute("alter role pandom_metrics password 'another-password-of-somebody'")
    end_sessions(complete)
    await_metrics(partial(page, complete), lambda found: found["pg_up"] == [0])
    seen = complete.pandom("health", "--stack", complete.name, code=1)
    assert "health: login pandom_metrics: FAILED" in seen.stderr
    complete.pandom("up", "--stack", complete.name)
    await_metrics(partial(page, complete), lambda found: found["pg_up"] == [1])
    assert "metrics " in complete.pandom("status", "--stack", complete.name).stdout


@pytest.mark.soak
def test_its_secret_and_the_authority_are_rotated(complete: RunningStack) -> None:
    """The exporter takes both by itself: a rotation ends with health."""
    before = complete.passwords[ROLE]
    done = complete.pandom("rotate", ROLE, "--stack", complete.name)
    assert "Next: give clients" not in done.stderr
    complete.look_again()
    leaks.watch(complete.secrets.values())
    assert complete.passwords[ROLE] != before
    for _ in range(2):
        complete.pandom("rotate", "ca", "--stack", complete.name)
    end_sessions(complete)
    ended = time.time()
    # An answer that was asked for after that: it is kept at once, and asked for every 15 s.
    mtime = re.compile(r'^node_textfile_mtime_seconds\{file=".*/database\.prom"\} (\S+)$', re.M)
    deadline = time.monotonic() + LIMIT_S
    while not (kept := mtime.search(page(complete))) or float(kept[1]) < ended + 12:
        assert time.monotonic() < deadline, kept
        time.sleep(0.5)
    assert values(page(complete))["pg_up"] == [1]
    complete.pandom("health", "--stack", complete.name)


@pytest.mark.soak
def test_switched_off_nothing_of_it_is_left_and_on_again_it_serves(complete: RunningStack) -> None:
    """`up` ends with the audit, of the containers too, so that 0 says that all is as declared."""
    own = {resource_name(complete.name, part) for part in ("keys-metrics", "metrics", "verdict")}
    names = {name.lstrip("/") for name in left_in_docker(complete.name)}
    assert own <= names
    assert "/metrics" not in switch(complete, False)
    assert "metrics_port" not in complete.outputs
    assert not any("metrics" in name for name in complete.secrets)
    assert {name.lstrip("/") for name in left_in_docker(complete.name)} == names - own
    with server_of(complete).connect("postgres") as superuser:
        roles = {name for (name,) in superuser.execute("select rolname from pg_roles")}
    assert ROLE not in roles
    assert {role.name for role in access.roles()} <= roles
    said = switch(complete, True)
    assert f"metrics       http://127.0.0.1:{complete.outputs['metrics_port']}/metrics" in said
    await_metrics(partial(page, complete), lambda found: found.get("pg_up") == [1])
    complete.pandom("health", "--stack", complete.name)
