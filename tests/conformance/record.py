"""Records what the official plugins do: ``python -m tests.conformance.record FOLDER``.

The folder holds pulumi-resource-docker, -postgresql and -random, pulumi-language-python and
pulumi-language-python-exec. Asserts on the way that a state made with the stand-ins shows no
change when the official plugins take it over.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tests.conformance.life import plugins, running, standin_path
from tests.conformance.observe import observe, steps

RECORD: Final = Path(__file__).with_name("observed.json")
# moment / part / resource
_LINE_DEPTH: Final = 3
NEEDED: Final = (
    "pulumi-language-python",
    "pulumi-language-python-exec",
    "pulumi-resource-docker",
    "pulumi-resource-postgresql",
    "pulumi-resource-random",
)


def main(arguments: list[str]) -> int:
    """Record, and check the change of plugins. Returns the exit code."""
    if len(arguments) != 1:
        print("usage: OFFICIAL=<folder with the official plugins> make conformance")
        return 2
    folder = Path(arguments[0]).resolve()
    missing = [name for name in NEEDED if not os.access(folder / name, os.X_OK)]
    if missing:
        print(f"{folder} lacks: {', '.join(missing)}")
        return 2
    official = os.pathsep.join([str(folder), standin_path()])
    with tempfile.TemporaryDirectory() as place, running(official, Path(place)) as run:
        observed = {"plugins": plugins(official), **observe(run)}
    RECORD.write_text(written(observed) + "\n")
    print(f"recorded {RECORD.name} from {folder}")
    with tempfile.TemporaryDirectory() as place, running(standin_path(), Path(place)) as run:
        run.up()
        taken_over = replace(run, environment={**run.environment, "PATH": official})
        found = steps(taken_over)
        run.pulumi("destroy", "--yes", "--skip-preview")
    if found:
        print("a state of the stand-ins is not taken over unchanged by the official plugins:")
        print(json.dumps(found, indent=1))
        return 1
    print("a state of the stand-ins is taken over unchanged by the official plugins")
    return 0


def written(value: Any, depth: int = 0) -> str:
    """JSON with one line per resource, so that a change of one shows as one line."""
    if depth == _LINE_DEPTH or not isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    pad = " " * (depth + 1)
    lines = [
        f"{pad}{json.dumps(key)}: {written(item, depth + 1)}" for key, item in sorted(value.items())
    ]
    return "{\n" + ",\n".join(lines) + f"\n{' ' * depth}}}"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
