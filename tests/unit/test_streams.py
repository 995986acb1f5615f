"""Output that nobody takes: a full disk, a pipe that is closed, a number that was never open."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pandom.runtime.paths import ROOT

# What it did is seen in a file, whatever its streams say.
PROGRAM = """
import sys
from pathlib import Path
from pandom.commands import cli
from pandom.runtime.progress import say, step
import argparse

def handler(_):
    with step("working"):
        pass
    print("result" * RESULTS)
    say("done")
    Path("done").touch()

fake = argparse.ArgumentParser()
fake.set_defaults(handler=handler)
cli.parser = lambda: fake
sys.exit(cli.main(sys.argv[1:]))
"""


def run(tmp_path: Path, streams: str, results: int = 1, option: str = "") -> tuple[int, str, str]:
    """Its exit code, what it said on stderr, and what of stdout could be read."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.replace("RESULTS", str(results)))
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" "{script}" {option} {streams}'],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr, done.stdout


@pytest.mark.parametrize(
    ("stdout", "option", "reason"),
    [
        (">/dev/full", "", "No space left on device"),
        (">/dev/full", "--help", "No space left on device"),
        (">&-", "", "Bad file descriptor"),
    ],
)
def test_a_result_that_cannot_be_written_is_a_failure_with_a_sentence(
    tmp_path: Path, stdout: str, reason: str, option: str
) -> None:
    code, said, _ = run(tmp_path, stdout, option=option)
    assert code == 1
    assert f"could not be written to stdout: {reason}" in said
    assert "Exception ignored" not in said
    assert "Traceback" not in said


@pytest.mark.parametrize("results", [1, 100_000])  # it fails at the end, or while it is printed
def test_a_reader_that_has_enough_ends_it_without_a_word(tmp_path: Path, results: int) -> None:
    code, said, _ = run(tmp_path, "> >(exec >&- <&-; sleep 1)", results)
    assert code == 1
    assert said.splitlines()[0].startswith("  working … 0.")
    assert "Exception" not in said
    assert "Traceback" not in said


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", "2> >(exec <&-)"])
def test_progress_that_nobody_reads_fails_nothing(tmp_path: Path, stderr: str) -> None:
    code, said, printed = run(tmp_path, stderr)
    assert (code, said, printed) == (0, "", "result\n")
    assert (tmp_path / "done").exists()
