"""`pandom down`: removes everything of a stack, and looks whether it did."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

import docker.errors

from pandom.errors import Failure
from pandom.host import explain, lock, ownership, repair
from pandom.host import stack as files
from pandom.host.display import Display
from pandom.host.engine import Engine, Marked
from pandom.host.pulumi_cli import Pulumi, PulumiFailed
from pandom.host.stack import Stack
from pandom.host.state import State
from pandom.host.up import toolchain_variables
from pandom.progress import say, step

AGAIN = ".venv/bin/pandom down"


def run(name: str, without_state: bool = False) -> None:
    """Destroy the stack and forget it; doing so twice is fine.

    ``without_state`` removes what the labels find, whoever made it, for a state that
    cannot be read. Raises UserMistake, before anything is touched, when the stack is
    another state's, or is protected and CONFIRM does not name it.
    """
    started = time.monotonic()
    stack = Stack(name)
    variables = {} if without_state else toolchain_variables()
    with lock.of_stack(stack):
        engine = Engine(name)
        found = engine.marked()
        if without_state:
            if ownership.protected(stack, found) or ownership.foreign(stack, found):
                _confirm(stack, found, " --without-state")
        else:
            ownership.refuse_foreign(stack, engine, removing=True)
            if stack.exists():
                _destroy(stack, Pulumi(stack, variables), engine, found)
            elif ownership.protected(stack, found):
                _confirm(stack, found)
        _leftovers(engine)
        files.forget(stack)
        _verify(stack, engine)
    say(
        f"\nStack {name} is gone: no container, volume, network, state or file of it is left\n"
        f"({time.monotonic() - started:.1f} s)."
    )


def _confirm(stack: Stack, found: Sequence[Marked], option: str = "") -> None:
    owners = sorted({one.owner for one in found if one.identity})
    whose = f" It belongs to {', '.join(owners)}." if owners else ""
    ownership.confirm(
        stack,
        f"Stack {stack.name} is protected, or nothing says that it is not, and its data would be\n"
        f"gone.{whose}",
        f"{AGAIN} --stack {stack.name}{option}",
    )


def _destroy(stack: Stack, pulumi: Pulumi, engine: Engine, found: Sequence[Marked]) -> None:
    since = datetime.now(UTC)
    state = State(pulumi.export())
    if state.protected or ownership.protected(stack, found):
        _confirm(stack, found)
    if said := files.prepare_file(stack):
        say(f"  {said}")
    # A job of a run that was killed is in no state, and holds what is to be removed.
    repair.remove_unknown(engine, state)
    display = Display()
    try:
        if state.protected:
            pulumi.unprotect()
        if state.resources:
            pulumi.operate("destroy", "--yes", "--skip-preview", show=display)
        # Volumes are kept by Pulumi, whoever calls it. The state goes last: with it gone,
        # nobody could tell whose the rest is.
        _leftovers(engine)
        with step("removing the state"):
            pulumi.remove()
    except PulumiFailed as error:
        raise explain.failure(stack, error, engine, since, AGAIN) from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Interrupted. `{AGAIN}` goes on from here.") from None
    finally:
        display.close()


def _leftovers(engine: Engine) -> None:
    """Remove what carries the stack's label, whoever made it."""
    for one in engine.containers():
        engine.remove_container(one.id)
    engine.remove_build_steps()
    for identity in engine.networks():
        engine.remove_network(identity)
    for volume in engine.volumes():
        try:
            engine.remove_volume(volume)
        except docker.errors.APIError as error:
            raise Failure(
                f"Volume {volume} cannot be removed: {error.explanation}\n"
                f"Next: stop what uses it (docker ps -a --filter volume={volume}), then again."
            ) from error


def _verify(stack: Stack, engine: Engine) -> None:
    """Raise Failure naming whatever of the stack is still there."""
    left: list[str] = [f"container {one.name}" for one in engine.containers()]
    left += [f"network {one}" for one in engine.networks().values()]
    left += [f"volume {one}" for one in engine.volumes()]
    left += [str(path) for path in (stack.home, stack.file, stack.checkpoint) if path.exists()]
    if left:
        raise Failure(
            f"Stack {stack.name} is not gone; these are left:\n  "
            + "\n  ".join(left)
            + f"\nNext: see who uses them, then `{AGAIN}` again."
        )
