"""Plain `pulumi` with nothing but the lines that `make tools` prints, on a clean state home."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from pandom.host import ports
from pandom.host.stack import Stack, forget, prepare_file
from pandom.runtime import paths
from tests.fixtures.stack import LIMIT_S, left_in_docker, new_name


def shell(script: str, state: Path, code: int = 0) -> str:
    """What a script says on stdout, run in the clone with a state home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PULUMI_")}
    done = subprocess.run(
        ["sh", "-ec", script],
        cwd=paths.ROOT,
        env={**kept, "XDG_STATE_HOME": str(state), "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    print(f"{script}\n{done.stdout}{done.stderr}")
    assert done.returncode == code
    return done.stdout if code == 0 else done.stderr


@pytest.mark.requirement("B1", "B2")
def test_pulumi_by_hand_with_the_lines_that_make_tools_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports = [line for line in shell("make tools", tmp_path).splitlines() if "export " in line]
    name = new_name()
    by_hand = f"--stack {Stack(name).qualified} --non-interactive"
    steps = [
        f"pulumi stack init --no-select {by_hand}",
        f"pulumi up --yes --skip-preview {by_hand}",
        f"pulumi preview --refresh --expect-no-changes {by_hand}",
        f"pulumi refresh --yes --skip-preview --expect-no-changes {by_hand}",
        f"pulumi destroy --yes --skip-preview {by_hand}",
        f"pulumi stack rm --yes --remove-backups {by_hand}",
    ]
    # As a user does it, but for the ports, which must be free beside other stacks.
    prepare_file(Stack(name))
    ports.reserve(Stack(name))
    try:
        shell("\n".join([*exports, *steps]), tmp_path)
        assert left_in_docker(name) == []
    finally:
        if left_in_docker(name):
            shell(
                f"{shlex.quote(str(paths.ROOT / '.venv/bin/pandom'))} down --stack {name} "
                "--without-state",
                tmp_path,
            )
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        forget(Stack(name))


def test_make_tools_makes_no_second_passphrase(tmp_path: Path) -> None:
    states = tmp_path / "pandom-stack" / "backend" / ".pulumi" / "stacks" / "pandom-stack"
    states.mkdir(parents=True)
    (states / "test-lost.json").write_text("{}")
    said = shell("python3 -m toolchain", tmp_path, code=2)
    assert "passphrase" in said
    assert "test-lost" in said
    assert "Traceback" not in said
    assert not (tmp_path / "pandom-stack" / "passphrase").exists()
