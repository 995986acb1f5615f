"""Pulumi's events, and what is shown and explained of them. No I/O."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pandom.host import events, explain, pulumi_cli
from pandom.host.display import Display, component
from pandom.host.pulumi_cli import Pulumi, PulumiFailed
from pandom.host.stack import Stack
from pandom.runtime.errors import Failure
from pandom.runtime.progress import WIDTH

BASE = "urn:pulumi:dev::pandom-stack::"
ROLE = f"{BASE}pandom-stack:index:Access$postgresql:index/role:Role::pandom-app"
JOB = (
    f"{BASE}pandom-stack:index:Migration$pandom-stack:index:Job$"
    "docker:index/container:Container::migration-container"
)


def line(kind: str, **content: Any) -> str:
    return json.dumps({"sequence": 1, "timestamp": 1, kind: content})


def step_line(kind: str, operation: str, urn: str, **outputs: Any) -> str:
    state = {"parent": "p", "outputs": outputs}
    data = {"op": operation, "urn": urn, "type": urn.split("::")[2].split("$")[-1], "new": state}
    return line(kind, metadata=data)


def show(*lines: str) -> Display:
    display = Display()
    for one in lines:
        event = events.parse(one)
        if event:
            display(event)
    display.close()
    return display


@pytest.mark.parametrize(
    ("urn", "name"), [(ROLE, "access"), (JOB, "migration"), (f"{BASE}a:b:C::x", "c"), ("", "stack")]
)
def test_a_resource_belongs_to_its_component(urn: str, name: str) -> None:
    assert component(urn) == name


def test_each_component_is_one_line_with_counts_and_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    display = show(
        step_line("resourcePreEvent", "create", ROLE),
        step_line("resOutputsEvent", "create", ROLE),
        step_line("resourcePreEvent", "create", ROLE + "2"),
        step_line("resOutputsEvent", "create", ROLE + "2"),
        step_line("resourcePreEvent", "same", JOB),
        step_line("resOutputsEvent", "same", JOB),
    )
    assert display.changed == {"created": 2}
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 1
    assert shown[0].startswith("  access … 2 created, ")
    assert shown[0].endswith(" s")


def test_nothing_is_shown_when_nothing_changes(capsys: pytest.CaptureFixture[str]) -> None:
    same = {"op": "refresh", "urn": ROLE, "type": "x", "old": {"outputs": {"a": 1}}}
    display = show(
        step_line("resourcePreEvent", "same", ROLE),
        line("resOutputsEvent", metadata={**same, "new": {"outputs": {"a": 1, "b": []}}}),
        line("summaryEvent", resourceChanges={"same": 9}, result="succeeded"),
    )
    assert not display.changed
    assert capsys.readouterr().err == ""


def test_drift_found_by_a_refresh_is_a_change() -> None:
    drift = {"op": "refresh", "urn": ROLE, "new": {"outputs": {}}, "diffs": ["login"]}
    assert show(line("resOutputsEvent", metadata=drift)).changed == {"found changed": 1}
    gone = {"op": "refresh", "urn": ROLE, "new": None}
    assert show(line("resOutputsEvent", metadata=gone)).changed == {"found changed": 1}


def test_a_job_that_ended_badly_is_shown_as_failed(capsys: pytest.CaptureFixture[str]) -> None:
    show(
        step_line("resourcePreEvent", "create", JOB),
        step_line("resOutputsEvent", "create", JOB, exitCode=3),
    )
    assert "FAILED" in capsys.readouterr().err
    show(
        step_line("resourcePreEvent", "create", JOB),
        step_line("resOutputsEvent", "create", JOB, exitCode="04da6b54-80e4-46f7-96ec-unknown"),
    )
    assert "FAILED" not in capsys.readouterr().err


def test_what_is_no_event_is_kept_as_words() -> None:
    assert events.parse("error: no stack named 'x'\n") == events.Diagnostic(
        "error", "", "error: no stack named 'x'"
    )
    assert events.parse("\n") is None
    assert events.parse(line("diagnosticEvent", severity="debug", message="x")) is None


def errors(*messages: str) -> list[str]:
    said = [events.Diagnostic("error", ROLE, message) for message in messages]
    return str(explain.short(PulumiFailed("up", said))).splitlines()


def test_the_provider_says_it_twice_and_we_once() -> None:
    shown = errors(
        '  sdk-v2/provider2.go:572: sdk.helper_schema: role "x" is bad: provider=postgresql@3.18.0',
        '1 error occurred:\n\t* role "x" is bad\n\n',
    )
    assert [one for one in shown if "is bad" in one] == ['pandom-app: role "x" is bad']


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("write /x: no space left on device", "The disk is full"),
        ("dial tcp 127.0.0.1:5432: connect: connection refused", "PostgreSQL does not answer"),
        ("Cannot connect to the Docker daemon at unix:///x", "stopped answering"),
        ("Bind for 127.0.0.1:9000 failed: port is already allocated", "A port of the stack is"),
        ("Detected that /x/pulumi-resource-random exited prematurely.", "A plugin of Pulumi was"),
        ("error: no resource plugin 'pulumi-resource-docker' found", "A plugin of Pulumi is"),
        ("error: incorrect passphrase", "passphrase file is not the one"),
        ("password authentication failed for user", "does not take the password"),
    ],
)
def test_a_known_cause_gets_its_next_step(said: str, cause: str) -> None:
    shown = errors(said)
    assert any(one.startswith(f"Cause: {cause}") or cause in one for one in shown)
    assert shown[-1].startswith("Next: ")


def test_an_unknown_cause_gets_a_next_step_too() -> None:
    assert errors("the moon is full")[-1].startswith("Next: ")


def test_an_explanation_fits_on_one_screen() -> None:
    shown = errors(*(f"message {number} " + "x" * 1000 for number in range(50)))
    assert len(shown) < 24
    assert all(len(one) <= 4 * WIDTH for one in shown)
    assert not any("Traceback" in one for one in errors("Traceback (most recent call last):\nboom"))


def test_the_end_of_a_long_error_is_kept_and_the_same_error_is_shown_once() -> None:
    shown = errors("failed to load plugin " + "x" * 1000 + " because of the moon")
    assert any(one.endswith("because of the moon") for one in shown)
    said = [events.Diagnostic("error", f"{ROLE}-{number}", "it is full") for number in range(40)]
    shown = str(explain.short(PulumiFailed("up", said))).splitlines()
    assert len([one for one in shown if "it is full" in one]) == 1


@pytest.mark.parametrize("number", [9, 15])
def test_a_pulumi_that_was_ended_is_no_fault_of_the_servers(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    program = tmp_path / "pulumi"
    program.write_text(f"#!/bin/sh\nkill -{number} $$\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    pulumi = Pulumi(Stack("test-ended"), {})
    calls: tuple[Callable[[], object], ...] = (
        lambda: pulumi.operate("up", show=lambda _: None),
        pulumi.export,
    )
    for call in calls:
        with pytest.raises(Failure, match=r"was ended from outside by SIG(KILL|TERM)"):
            call()


def test_a_full_disk_is_no_place_for_a_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "pandom-stack" / "backend").mkdir(parents=True)
    monkeypatch.setattr(pulumi_cli, "BEGIN_MB", 2**40)
    with pytest.raises(Failure, match="no room for the state"):
        Pulumi(Stack("test-full"), {}).operate("up", show=lambda _: None)


def test_only_already_exists_means_adoption() -> None:
    def failed(text: str) -> PulumiFailed:
        return PulumiFailed("up", [events.Diagnostic("error", ROLE, text)])

    assert explain.already_there(failed('role "pandom_app" already exists'))
    assert explain.already_there(failed('pq: database "pandom_db" already exists'))
    assert not explain.already_there(failed("network already exists"))
