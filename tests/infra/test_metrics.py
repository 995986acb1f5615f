"""Monitoring: what /metrics serves, what its login may do, the rules and the dashboard."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import docker
import psycopg
import pytest
import yaml
from docker.models.containers import Container

from pandom.host.stack import Stack, set_values
from pandom.runtime.naming import KEYS_MOUNT, UID_METRICS, resource_name
from schema import access
from tests.fixtures import leaks
from tests.fixtures.prometheus import promtool, scraping
from tests.fixtures.server import Server, server_of
from tests.fixtures.stack import RunningStack, left_in_docker, running
from tests.infra.conftest import Spare, new_keys
from tests.infra.hardening import findings
from tests.unit.test_monitoring import AUDIT, DASHBOARD, QUERIES, RULES, queried

LIMIT_S = 60
ROLE = "pandom_metrics"
ARCHIVER = {name for name in queried() if name.startswith("pandom_archiver_")}


@pytest.fixture(scope="module")
def watched() -> Iterator[RunningStack]:
    """A stack with monitoring and an auditor; the one that is reused, if it has them."""
    name = os.environ.get("PANDOM_TEST_STACK")
    found = RunningStack(name) if name else None
    if found and "metrics_port" in found.outputs and found.outputs["profile"] != "ephemeral":
        leaks.watch(found.secrets.values())
        yield found
        return
    with running(settings={"monitoring": True, "profile": "development"}) as made:
        leaks.watch(made.secrets.values())
        yield made


@pytest.fixture(scope="module")
def database(watched: RunningStack) -> Server:
    return server_of(watched)


@pytest.fixture
def exporter(watched: RunningStack) -> Container:
    return docker.from_env().containers.get(watched.container("metrics"))


def page(stack: RunningStack) -> str:
    url = f"http://127.0.0.1:{stack.outputs['metrics_port']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def values(text: str) -> dict[str, list[float]]:
    """Each metric's values, without their labels."""
    found: dict[str, list[float]] = {}
    for name, value in re.findall(r"^(\w+)(?:\{.*\})? (\S+)$", text, re.M):
        found.setdefault(name, []).append(float(value))
    return found


def await_metrics(
    stack: RunningStack, wanted: Callable[[Mapping[str, list[float]]], bool]
) -> Mapping[str, list[float]]:
    end = time.monotonic() + LIMIT_S
    while not wanted(found := values(page(stack))):
        assert time.monotonic() < end, found
        time.sleep(0.5)
    return found


# -- what is served ---------------------------------------------------------------------------


@pytest.mark.requirement("O1", "O2", "O3")
def test_every_metric_is_served(watched: RunningStack, database: Server) -> None:
    found = await_metrics(watched, lambda found: "pandom_audit_verdict" in found)
    with database.connect("pandom_auditor") as connection:
        row = connection.execute("show archive_mode").fetchone()
    archived = row != ("off",)
    assert (queried() | AUDIT) - set(found) == (set() if archived else ARCHIVER)
    assert found["pg_up"] == [1]
    assert found["pg_exporter_last_scrape_error"] == [0]
    assert found["pandom_audit_verdict"] == [0]
    assert time.time() - found["pandom_audit_time_seconds"][0] < 7200
    assert min(found["pandom_partitions_horizon_seconds"]) > 28 * 86400
    assert len(found["node_filesystem_avail_bytes"]) == 2
    assert min(found["node_filesystem_avail_bytes"]) > 0


@pytest.mark.requirement("O1", "O2", "O3")
def test_numbers_follow_what_happens(watched: RunningStack, database: Server) -> None:
    before = values(page(watched))
    with (
        database.connect("pandom_app") as client,
        database.connect("pandom_user") as operator,
        database.connect("pandom_user") as holder,
    ):
        operator.execute("update public.account_settings set suspicious_events_per_hour = 1")
        client.execute("select * from public.sign_in('nobody@example.com', 'wrong', null)")
        row = operator.execute("select uuid from public.auth_users where role = 'admin'").fetchone()
        with client.transaction():
            client.execute("select set_config('app.current_user_id', %s::text, true)", row)
            client.execute("select public.record_event('seen', '{}') from generate_series(1, 2)")
        operator.execute(
            "insert into public.sessions (user_uuid, token, created_at, expires_at)"
            " select uuid, repeat('0', 64), now() - interval '3 hours', now() - interval '2 hours'"
            " from public.auth_users where role = 'admin' limit 1"
        )
        holder.execute("begin")
        holder.execute("select pg_current_xact_id()")
        try:
            found = await_metrics(
                watched,
                lambda now: (
                    now["pandom_activity_expired_sessions"] == [1]
                    and now["pandom_trail_unsealed_seconds"][0] > 0
                    and now["pandom_activity_longest_transaction_seconds"][0] > 5
                ),
            )
        finally:
            holder.execute("rollback")
            operator.execute("delete from public.sessions where token = repeat('0', 64)")
            operator.execute(
                "update public.account_settings set suspicious_events_per_hour = default"
            )
    assert found["pandom_trail_failed_sign_ins"][0] == before["pandom_trail_failed_sign_ins"][0] + 1
    assert found["pandom_trail_suspicious_users"] == [1]
    assert found["pandom_activity_oldest_expired_seconds"][0] > 7000
    assert sum(found["pandom_connections_open"]) > sum(before["pandom_connections_open"])


def test_the_archiver_s_numbers(watched: RunningStack) -> None:
    """A server that archives to nowhere, and then somewhere."""
    engine = docker.from_env()
    spare = Spare(engine, watched)
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


@pytest.mark.requirement("A7", "B4")
def test_the_container_breaks_no_rule(watched: RunningStack, exporter: Container) -> None:
    assert findings(exporter.attrs) == []
    # It sees how full the volumes are, and nothing of what is in them.
    for place in ("/volumes/data", "/volumes/objects"):
        done = exporter.exec_run(["ls", place])
        assert b"Permission denied" in done.output, done.output
    status = exporter.exec_run(["cat", "/proc/1/status"]).output.decode()
    assert re.search(rf"^Uid:\t{UID_METRICS}\t", status, re.M)
    assert re.search(r"^CapEff:\t0+$", status, re.M)
    password = watched.passwords[ROLE]
    shown = exporter.exec_run(["sh", "-c", "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline"])
    assert b"verify-full" in shown.output
    assert password not in shown.output.decode(errors="replace")
    assert password not in json.dumps(exporter.attrs) + exporter.logs().decode()


@pytest.mark.requirement("A7")
def test_the_login_reads_numbers_and_no_row(database: Server) -> None:
    with database.connect(ROLE) as connection:
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
        assert callable_ == [("measure_activity()",), ("measure_trail()",)]
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
    with database.connect("pandom_app") as other:
        for name in ("measure_trail", "measure_activity"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                other.execute(f"select public.{name}()")


def test_another_server_is_not_asked_and_a_new_secret_is_taken(
    watched: RunningStack, exporter: Container
) -> None:
    """With the CA of another stack the password is not even sent; with this one's it serves."""
    engine = docker.from_env()
    spare = Spare(engine, watched)
    try:
        keys = new_keys(spare)
        (network,) = exporter.attrs["NetworkSettings"]["Networks"]
        volume = spare.volume()

        def give(source: str, password: str) -> None:
            """The CA of a volume, and a password, in one step, as the keys job writes."""
            code, output = spare.run(
                "keys",
                [
                    "-c",
                    f"cp /other/ca.crt /to/ca.crt && {password} > /to/new"
                    f" && chown -R {UID_METRICS} /to && mv /to/new /to/pandom_metrics_password",
                ],
                entrypoint="bash",
                user="0:0",
                cap_add=["CHOWN", "DAC_OVERRIDE"],
                volumes={volume: {"bind": "/to"}, source: {"bind": "/other", "mode": "ro"}},
            )
            assert code == 0, output

        give(keys.postgres, "echo wrong")
        strange = spare.create(
            "metrics",
            user=f"{UID_METRICS}:{UID_METRICS}",
            network=network,
            volumes={volume: {"bind": str(KEYS_MOUNT), "mode": "ro"}},
        )
        strange.start()

        def until(wanted: bytes) -> bytes:
            end, shown = time.monotonic() + LIMIT_S, b""
            while wanted not in shown:
                assert time.monotonic() < end, strange.logs().decode()
                time.sleep(0.5)
                shown = strange.exec_run(["curl", "-s", "http://127.0.0.1:9187/metrics"]).output
            return bytes(shown)

        shown = until(b"\npg_up 0\n")
        assert b"certificate signed by unknown authority" in strange.logs()
        # Without a volume for the verdict, as without an auditor, that is no error.
        assert b"\nnode_textfile_scrape_error 0\n" in shown
        give(resource_name(watched.name, "keys-metrics"), "cat /other/pandom_metrics_password")
        until(b"\npg_up 1\n")
    finally:
        spare.close()
        engine.close()


def test_without_its_secret_it_says_so(watched: RunningStack) -> None:
    engine = docker.from_env()
    spare = Spare(engine, watched)
    try:
        code, output = spare.run("metrics", user=f"{UID_METRICS}:{UID_METRICS}")
        assert code == 1
        assert output.startswith(f"pandom-metrics: {KEYS_MOUNT}/pandom_metrics_password is missing")
    finally:
        spare.close()
        engine.close()


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
    for alert, (firing, quiet) in list(CASES.items())[3:5]:
        assert run_rule_tests([rule_test(alert, quiet, True)])[0] == 1
        assert run_rule_tests([rule_test(alert, firing, False)])[0] == 1


def test_the_dashboard_s_queries_give_something(watched: RunningStack, database: Server) -> None:
    """On a real Prometheus that scrapes the real stack; none of the rules fires on it."""
    target = f"127.0.0.1:{watched.outputs['metrics_port']}"
    await_metrics(watched, lambda found: found.get("pandom_audit_verdict") == [0])
    dashboard = json.loads(DASHBOARD.read_text())
    (variable,) = [one for one in dashboard["templating"]["list"] if one["type"] == "query"]
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
    with database.connect("pandom_auditor") as connection:
        archived = connection.execute("show archive_mode").fetchone() != ("off",)
    with scraping(target, RULES.read_text()) as prometheus:
        assert [one["metric"][label] for one in prometheus.series(metric)] == [target]
        asked = 0
        for panel in dashboard["panels"]:
            for one in panel["targets"]:
                found = prometheus.series(one["expr"].replace("$instance", target))
                if "pandom_archiver_" in one["expr"] and not archived:
                    assert found == [], panel["title"]
                    continue
                assert found, f"{panel['title']}: {one['expr']}"
                legend = re.findall(r"\{\{(\w+)\}\}", one["legendFormat"])
                assert all(set(legend) <= set(series["metric"]) for series in found)
                asked += 1
        assert asked >= 15
        assert prometheus.series("pandom_trial_failed_sign_ins") == []
        with pytest.raises(AssertionError, match="parse error"):
            prometheus.series("rate(pandom_trail_failed_sign_ins)[")
        firing = prometheus.ask("alerts")["alerts"]
        assert [one["labels"]["alertname"] for one in firing if one["state"] == "firing"] == []


# -- it is watched itself, and goes as it came --------------------------------------------------


@pytest.mark.requirement("D2")
def test_a_password_that_was_changed_is_seen_and_set_back(
    watched: RunningStack, database: Server
) -> None:
    with database.connect("postgres") as superuser:
        superuser.execute("alter role pandom_metrics password 'another-password-of-somebody'")
        superuser.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = %s", [ROLE]
        )
    await_metrics(watched, lambda found: found["pg_up"] == [0])
    seen = watched.pandom("health", "--stack", watched.name, code=1)
    assert "health: login pandom_metrics: FAILED" in seen.stderr
    done = watched.pandom("up", "--stack", watched.name)
    assert (
        f"metrics       http://127.0.0.1:{watched.outputs['metrics_port']}/metrics" in done.stderr
    )
    await_metrics(watched, lambda found: found["pg_up"] == [1])
    assert "metrics " in watched.pandom("status", "--stack", watched.name).stdout


def test_switched_off_nothing_of_it_is_left_and_on_again_it_serves(watched: RunningStack) -> None:
    """`up` ends with the audit, of the containers too, so that 0 says that all is as declared."""
    own = [resource_name(watched.name, part) for part in ("keys-metrics", "metrics", "verdict")]
    names = {name.lstrip("/") for name in left_in_docker(watched.name)}
    assert set(own) <= names
    set_values(Stack(watched.name), {"monitoring": False})
    done = watched.pandom("up", "--stack", watched.name)
    assert "/metrics" not in done.stderr
    watched.look_again()
    assert "metrics_port" not in watched.outputs
    assert not any("metrics" in name for name in watched.secrets)
    assert {name.lstrip("/") for name in left_in_docker(watched.name)} == names - set(own)
    with server_of(watched).connect("postgres") as superuser:
        roles = {name for (name,) in superuser.execute("select rolname from pg_roles")}
    assert ROLE not in roles
    assert {role.name for role in access.roles()} <= roles
    set_values(Stack(watched.name), {"monitoring": True})
    watched.pandom("up", "--stack", watched.name)
    watched.look_again()
    await_metrics(watched, lambda found: found.get("pg_up") == [1])
    watched.pandom("health", "--stack", watched.name)
