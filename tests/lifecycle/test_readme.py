"""Every command of the README is run as it stands there; only the stack is another one."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from pandom.runtime.paths import ROOT
from tests.fixtures.stack import RunningStack, new_name

# The command that runs these tests; `.ci/run` is held against it below.
ITSELF = "make test"
# Whoever makes an environment removes it: test_ci does both.
ELSEWHERE = (ITSELF, ".venv/bin/pandom ci create --ttl 2h > .env")


def commands(text: str) -> list[str]:
    """The commands in the text's `sh` blocks, in order, each once."""
    found = []
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S):
        for line in block.splitlines():
            command = line.split("#")[0].strip()
            if command and command not in found:
                found.append(command)
    return found


README = commands((ROOT / "README.md").read_text())


def once(found: list[str]) -> list[str]:
    """Without what differs in the stack's name only, which is another one here anyway."""
    return list({re.sub(r" STACK=\w+", "", command): command for command in found}.values())


def run(command: str, stack: str) -> subprocess.CompletedProcess[str]:
    """The command in a shell, at the clone's root, on another stack than the user's."""
    named = re.sub(r" STACK=\w+", "", command)
    # A user types it; it is not called by the make that runs the tests.
    kept = {
        name: one for name, one in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    redirected = named.replace("> .env", f"> {os.devnull}")
    return subprocess.run(
        ["sh", "-c", redirected],
        cwd=ROOT,
        env={**kept, "STACK": stack, "CI": "true"},
        input="psql -Atc 'select 6 * 7'\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_readme_has_commands() -> None:
    assert README[:2] == ["make up", "make test"]
    assert set(ELSEWHERE) <= set(README)
    assert len(README) >= 10


def test_ci_runs_the_readmes_test_command() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert any(line.strip().removeprefix("exec ") == ITSELF for line in lines)


@pytest.mark.requirement("B5")
@pytest.mark.parametrize(
    "command", once([c for c in README if c not in ELSEWHERE and "make down" not in c])
)
def test_the_command_works(stack: RunningStack, command: str) -> None:
    done = run(command, stack.name)
    # What `env` prints are secrets; a failed test would show them.
    shown = "" if " env" in command else done.stdout
    assert done.returncode == 0, shown + done.stderr
    if command == "make shell":
        assert "42" in done.stdout


@pytest.mark.parametrize("command", [c for c in README if "make down" in c])
def test_down_works_where_there_is_nothing_to_remove(command: str) -> None:
    done = run(command, new_name())
    assert done.returncode == 0, done.stderr


def test_a_command_that_does_not_work_is_seen() -> None:
    assert commands("```sh\nmake no-such-target  # nothing\n```\n") == ["make no-such-target"]
    assert run("make no-such-target", new_name()).returncode != 0
