"""The health check that rests while all is well."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from pandom.config.container_specs import REST_S, resting


def test_who_is_well_is_looked_at_after_a_rest_and_who_is_not_at_once(tmp_path: Path) -> None:
    rested, answer = tmp_path / "rested", tmp_path / "answer"
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("sleep", f'echo "$1" >> {rested}'), ("look", f'exit "$(cat {answer})"')):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    command = resting("look", well=str(tmp_path / "well"))
    path = f"{programs}:{os.environ['PATH']}"
    seen = []
    for given in (1, 0, 0, 3, 3, 0, 0):
        rested.write_text("")
        answer.write_text(str(given))
        done = subprocess.run(command, env={"PATH": path}, capture_output=True, check=False)
        assert done.stderr == b""
        assert done.returncode == given
        seen.append(rested.read_text().split())
    rest = [str(REST_S)]
    # What was well rests before it is looked at, so that the answer is a fresh one.
    assert seen == [[], [], rest, rest, [], [], rest]
