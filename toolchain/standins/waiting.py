"""An interpreter that imports Pulumi's SDKs and then waits for the program that it is to run.

What it runs is Pulumi's own script with the command line and environment that it gets on standard
input, as if it were started only then.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
from pathlib import Path
from typing import Final

_SDKS: Final = ("pulumi", "pulumi_docker", "pulumi_postgresql", "pulumi_random")


def main(_: list[str]) -> None:
    """Wait for one line of JSON, and run what it names; an end of the input means nothing."""
    for name in _SDKS:
        importlib.import_module(name)
    line = sys.stdin.readline()
    if not line:
        return
    wanted = json.loads(line)
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    os.environ.clear()
    os.environ.update(wanted["environment"])
    script = wanted["command"][0]
    sys.argv = wanted["command"]
    sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")
