"""`pandom health`: Pulumi reads its state while the checks are imported, half a second each."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from pandom.host.access import outputs_of
from pandom.host.engine import Engine
from pandom.host.stack import Stack
from pandom.runtime.progress import say


def run(name: str, as_json: bool = False) -> int:
    """Look at a running stack; print JSON or lines, return the exit code."""
    stack = Stack(name)
    with ThreadPoolExecutor() as beside:
        reading = beside.submit(outputs_of, stack)
        from pandom.host import verdict

        verdict.prepare()
        found = verdict.look(stack, Engine(name), reading.result())
    if as_json:
        print(found.as_json())
    else:
        found.show()
        words = found.explanation(".venv/bin/pandom up")
        say(f"\n{words}" if words else f"Stack {name} is healthy.")
    return found.exit_code
