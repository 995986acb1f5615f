"""`pandom status`: what of a stack is there, without asking Pulumi for it."""

from __future__ import annotations

from pandom.host import identity, operations
from pandom.host.engine import Engine
from pandom.host.lock import marked
from pandom.host.stack import Stack
from pandom.runtime.naming import LABEL_OWNER
from pandom.runtime.paths import list_stacks


def run(name: str, every: bool = False) -> None:
    """Print a stack's containers, their state and ports; with ``every``, of all stacks."""
    for stack in [Stack(one) for one in list_stacks()] if every else [Stack(name)]:
        _show(stack)


def _show(stack: Stack) -> None:
    engine = Engine(stack.name)
    containers = engine.containers()
    things = engine.things()
    print(f"Stack {stack.name}: {'has a state' if stack.exists() else 'no state'}")
    for owner in identity.owners(thing for thing in things if LABEL_OWNER in thing.labels):
        print(f"  owner {owner}{', protected' if identity.protected(things) else ''}")
    for container in containers:
        ports = "  ".join(f"127.0.0.1:{port}" for port in container.ports)
        print(f"  {container.part or container.name:<10} {container.state:<18} {ports}".rstrip())
    for line in operations.lines(engine):
        print(f"  task {line}")
    volumes = engine.volumes()
    if volumes:
        print(f"  {len(volumes)} volumes, {len(engine.networks())} network")
    if working := marked(stack):
        print(f"  being worked on by processes {' '.join(str(process.pid) for process in working)}")
    if not containers and not volumes:
        print("  nothing in Docker")
