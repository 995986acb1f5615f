"""What makes a verdict, and what people read of it. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pandom.audit.findings import Finding, findings, for_stack
from pandom.audit.report_terminal import finding as lines_of
from pandom.audit.run import Report as Audit
from pandom.audit.trail import Problem
from pandom.audit.trail import Verdict as Trail
from pandom.database.drift import remedies
from pandom.database.drift.catalog import Observed
from pandom.database.drift.differences import Difference, Status
from pandom.database.pinned import refusal
from pandom.host import explain, health
from pandom.host.engine import Container, Engine
from pandom.host.pulumi_cli import PulumiFailed
from pandom.host.stack import Stack
from pandom.host.verdict import Verdict
from pandom.runtime.errors import DONE, FAILED, USAGE_ERROR
from pandom.runtime.progress import WIDTH

pytestmark = pytest.mark.requirement("D2")

OBSERVED = Observed("pandom_auditor", "pandom_db", "17.12", "now", {})
DRIFT = "drift: role-extra:evil"


def difference(kind: str, status: Status, name: str = "x", detail: str = "") -> Difference:
    values = {detail or "value": "a"}
    return Difference(
        kind,
        name,
        detail,
        status,
        {} if status == "extra" else values,
        {} if status == "missing" else {detail or "value": "b"},
    )


def finding(kind: str, status: Status, name: str = "x", detail: str = "") -> Finding:
    return findings([difference(kind, status, name, detail)], {})[0]


def verdict(
    *failed: tuple[str, str],
    found: Iterable[Finding] = (),
    unknown: tuple[str, ...] = (),
    problems: tuple[Problem, ...] = (),
) -> Verdict:
    checks = [health.Check("query", True, "select 1", 0.0)]
    checks += [health.Check(name, False, detail, 0.0) for name, detail in failed]
    observed = Observed("pandom_auditor", "pandom_db", "17", "now", {}, unknown=unknown)
    audit = Audit(observed, {}, tuple(found), (), ())
    return Verdict(health.Report("dev", checks), audit, Trail((), problems, 0, 0), 0.0)


EXTRA = finding("owner", "extra", "table public.copy")
CUT = Problem("older than its anchor", "audit_logs", "its tail was cut")


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (verdict(), DONE),
        (verdict(found=[EXTRA]), USAGE_ERROR),
        (verdict(problems=(CUT,)), USAGE_ERROR),
        (verdict(unknown=("settings",)), FAILED),
        (verdict(found=[EXTRA], unknown=("settings",)), USAGE_ERROR),
        (verdict(("login pandom_app", "refused"), found=[EXTRA]), FAILED),
        # The auditor verifies more than `up` does: its word counts, as drift.
        (verdict(("task audit", DRIFT)), USAGE_ERROR),
        (verdict(("task audit", "could not tell: refused")), FAILED),
        (verdict(("task seal", "has not run yet")), FAILED),
        (verdict(("audit", "The audit could not connect")), FAILED),
    ],
)
def test_one_exit_code_of_everything(made: Verdict, code: int) -> None:
    assert made.exit_code == code
    assert bool(made.explanation("up")) == (code != DONE)
    assert "Next: " in (made.explanation("up") or "Next: ")


def test_what_is_left_is_readable_and_says_what_to_type(
    capsys: pytest.CaptureFixture[str],
) -> None:
    many = [finding("owner", "extra", f"table public.copy{number:02}") for number in range(14)]
    made = verdict(found=many)
    made.show()
    shown = capsys.readouterr().err.splitlines()
    assert all(len(line) <= WIDTH or line.count("`") == 2 for line in shown)
    assert any("… and 4 more" in line for line in shown)
    command = "`.venv/bin/pandom audit --stack dev heal 'owner-extra:table public.copy00'`"
    assert any(command in line for line in shown)


KINDS: dict[str, Status] = {
    "owner": "extra",
    "role": "extra",
    "policy": "extra",
    "trigger": "extra",
    "rule": "extra",
    "extension": "extra",
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_somebody_made_waits_for_a_person(kind: str) -> None:
    one = finding(kind, "extra", "e on t")
    assert not one.safe
    assert "make up" not in one.advice
    assert remedies.safe(difference(kind, "different"))


@pytest.mark.parametrize("kind", ["bucket", "container", "store user", "store policy"])
def test_what_no_sql_heals_is_either_for_up_or_for_a_person(kind: str) -> None:
    assert finding(kind, "different").safe
    assert "make up" in finding(kind, "different").advice
    extra = finding(kind, "extra")
    assert not extra.safe
    assert "make up" not in extra.advice


def test_a_table_that_is_gone_is_not_promised() -> None:
    gone = finding("owner", "missing", "table public.sessions")
    assert not gone.safe
    assert "make up" not in gone.advice
    assert "docs/runbook.md" in gone.advice


def test_a_command_stays_on_its_line() -> None:
    (one,) = for_stack([finding("owner", "extra", "table public." + "n" * 60)], "dev")
    assert any(line.count("`") == 2 and "n" * 60 in line for line in lines_of(one))


def container(part: str, state: str | None, **changed: Any) -> Container:
    values: dict[str, Any] = {
        "id": part,
        "name": part,
        "part": part,
        "image": "i",
        "status": "running",
        "health": state,
        "exit_code": 0,
        "restarts": 0,
        "started": None,
        "finished": None,
        "ports": (),
        "networks": (),
    }
    return Container(**{**values, **changed})


class Seen:
    """An engine with these containers, each of which said one line."""

    def __init__(self, *there: Container) -> None:
        self._there = list(there)

    def containers(self) -> list[Container]:
        return self._there

    def last_words(self, one: Container, _count: int) -> list[str]:
        return [f"{one.part} said this"]


def test_a_watcher_never_hides_what_stopped_the_run() -> None:
    engine = cast(
        "Engine", Seen(container("operations", "unhealthy"), container("minio", "healthy"))
    )
    assert explain._servers(engine) == []
    assert explain._servers(engine, explain._WATCHERS) != []
    sick = cast(
        "Engine", Seen(container("operations", "unhealthy"), container("minio", "unhealthy"))
    )
    assert [line for line in explain._servers(sick) if "operations" in line] == []


@pytest.mark.parametrize(("ended", "code"), [((2,), USAGE_ERROR), ((1,), FAILED), ((1, 2), FAILED)])
def test_a_mistake_that_a_job_found_is_the_users(ended: tuple[int, ...], code: int) -> None:
    now = datetime.now(UTC)
    jobs = [
        container(part, None, status="exited", exit_code=one, finished=now)
        for part, one in zip(("migration", "storage"), ended, strict=False)
    ]
    stack = cast("Stack", SimpleNamespace(name="dev"))
    made = explain.failure(
        stack, PulumiFailed("up", ()), cast("Engine", Seen(*jobs)), now, "pandom up"
    )
    assert made.exit_code == code
    assert "migration said this" in str(made)


def test_a_container_that_restarts_is_looping_until_it_has_run_for_a_while() -> None:
    assert container("operations", "starting", status="restarting", restarts=1).is_crash_looping
    assert not container("operations", "healthy", restarts=7).is_crash_looping


def test_what_was_healed_and_is_there_again_is_not_promised_once_more() -> None:
    other = finding("owner", "extra", "table public.other")
    made = verdict(found=[EXTRA, other])
    assert made.again(()) is made
    first, second = made.again({other.id}).findings
    assert first == EXTRA
    assert "there again" in second.advice


def test_the_reason_of_a_refused_login_is_the_servers_words() -> None:
    """A login trigger's error has a line below it that says where, not why."""
    why = "connection failed: FATAL:  nobody gets in"
    assert refusal(Exception(f"{why}\nCONTEXT:  PL/pgSQL function deny() line 1 at RAISE\n")) == why
    assert refusal(Exception(f"- host: a\n- {why}\nHINT: x\nDETAIL: y")) == f"- {why}"
    assert refusal(Exception("")) == "Exception"
