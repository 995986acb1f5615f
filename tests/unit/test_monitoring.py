"""Monitoring's files agree: queries, rules, dashboard and page name the same metrics."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import cast

import pytest
import yaml

from pandom.audit import scheduled
from pandom.config.container_specs import VERDICT, container_specs
from pandom.config.settings import load
from pandom.host import health
from pandom.host.engine import Engine
from pandom.runtime.errors import DRIFT
from pandom.runtime.paths import ROOT

PAGE = ROOT / "docs" / "monitoring.md"
RULES = ROOT / "docs" / "monitoring" / "alerts.yml"
DASHBOARD = ROOT / "docs" / "monitoring" / "dashboard.json"
QUERIES = ROOT / "app_image" / "metrics" / "queries.yaml"
AUDIT = {
    f"pandom_audit_{name}" for name in ("verdict", "findings", "time_seconds", "drill_time_seconds")
}


def queried() -> set[str]:
    """The metrics that the queries make."""
    return {
        f"{name}_{column}"
        for name, one in yaml.safe_load(QUERIES.read_text()).items()
        for metric in one["metrics"]
        for column, what in metric.items()
        if what["usage"] != "LABEL"
    }


def named(text: str) -> set[str]:
    return set(re.findall(r"\bpandom_(?!metrics\b|db\b|user\b)\w+\b", text))


def test_the_page_has_every_metric_and_no_other() -> None:
    table = PAGE.read_text().partition("## Metrics")[2].partition("## Alerts")[0]
    assert named(table) == queried() | AUDIT


@pytest.mark.parametrize("path", [RULES, DASHBOARD], ids=["rules", "dashboard"])
def test_rules_and_dashboard_name_metrics_that_there_are(path: Path) -> None:
    found = named(path.read_text())
    assert found
    assert found <= queried() | AUDIT


def test_the_page_says_what_to_do_for_each_alert() -> None:
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    rows = PAGE.read_text().partition("## Alerts")[2]
    listed = re.findall(r"`(Pandom\w+)`", rows)
    assert sorted(listed) == sorted(rule["alert"] for rule in rules)
    assert all(len(row.split("|")) == 5 for row in rows.splitlines() if row.startswith("| `"))


def test_a_backup_is_overdue_when_health_says_so() -> None:
    rules = {one["alert"]: one for one in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]}
    days = load("dev", {}).backup.max_age_days
    assert rules["PandomBackupOverdue"]["expr"].endswith(f"> {days} * 86400")
    assert f"older than {days} days" in PAGE.read_text()
    days = load("dev", {}).backup.drill_max_age_days
    assert rules["PandomDrillOverdue"]["expr"].endswith(f"> {days} * 86400")
    assert f"for {days} days" in PAGE.read_text()


def test_a_metric_that_nobody_makes_would_be_seen() -> None:
    assert not named(DASHBOARD.read_text().replace("pandom_trail_", "pandom_trial_")) <= queried()


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_the_verdict_has_a_volume_where_there_is_an_auditor_and_monitoring() -> None:
    def mounts(**raw: object) -> dict[str, bool]:
        return {
            spec.part: mount.writable
            for spec in container_specs(load("dev", raw)).values()
            for mount in spec.mounts
            if mount.volume == VERDICT
        }

    assert mounts(monitoring=True) == {"operations": True, "metrics": False}
    assert mounts(monitoring=True, profile="ephemeral") == {}
    assert mounts() == {}


def test_the_auditor_publishes_its_verdict(tmp_path: Path) -> None:
    path = tmp_path / "audit.prom"
    scheduled._publish(path, scheduled.Round(DRIFT, ("role-extra:evil", "another")), 1234.5)
    values = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert values == [
        "pandom_audit_verdict 2",
        "pandom_audit_findings 2",
        "pandom_audit_time_seconds 1234",
    ]
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    scheduled._publish(path, scheduled.Round(DRIFT, drilled=1200.4), 1234.5)
    assert "pandom_audit_drill_time_seconds 1200\n" in path.read_text()
    # Where it cannot be written the auditor goes on; the age of the last one tells.
    scheduled._publish(tmp_path / "gone" / "audit.prom", scheduled.Round(0), 1.0)


def test_health_looks_at_the_exporter_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "_server", lambda _engine, part: part)
    monkeypatch.setattr(health, "_watcher", lambda _engine, part: part)

    def looked(**outputs: object) -> set[str]:
        engine = cast("Engine", None)  # the looks are replaced
        found = health.containers(engine, {"profile": "ephemeral", **outputs})
        return {one.detail for one in found}

    assert looked() == {"postgres", "minio"}
    assert looked(metrics_port=9187) == {"postgres", "minio", "metrics"}
