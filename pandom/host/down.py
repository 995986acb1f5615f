"""`pandom down`: removes everything of a stack, and looks whether it did."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

import docker.errors

from pandom.host import explain, identity, lock, repair
from pandom.host import stack as files
from pandom.host.display import Display
from pandom.host.engine import Engine
from pandom.host.identity import Thing
from pandom.host.pulumi_cli import Pulumi, PulumiFailed
from pandom.host.stack import Stack
from pandom.host.state import VOLUME, State
from pandom.host.up import toolchain_variables
from pandom.runtime.errors import Failure, UsageError
from pandom.runtime.naming import LABEL_OWNER, PROJECT
from pandom.runtime.progress import say, step

AGAIN = ".venv/bin/pandom down"


def run(name: str, without_state: bool = False) -> None:
    """Destroy the stack and forget it; doing so twice is fine.

    ``without_state`` removes what the labels find, for a state that cannot be read.
    Raises UsageError when the stack is protected and CONFIRM does not name it.
    """
    started = time.monotonic()
    stack = Stack(name)
    variables = {} if without_state else toolchain_variables()
    with lock.of_stack(stack):
        engine = Engine(name)
        things, recorded = engine.things(), State() if without_state else stack.recorded()
        if without_state:
            _confirm(stack, _why_ask(stack, things), " --without-state")
        else:
            identity.refuse_renamed(name, recorded)
            identity.refuse(name, things, recorded)
            _confirm(stack, "is protected" if _protected(stack, things, recorded) else "")
        if stack.exists() and not without_state:
            # Containers of a killed run hold volumes, and no state knows them.
            repair.remove_unknown(engine, recorded)
            _destroy(stack, Pulumi(stack, variables), engine)
        _leftovers(engine, recorded)
        files.forget(stack)
        _verify(stack, engine)
    say(
        f"\nStack {name} is gone: no container, volume, network, state or file of it is left\n"
        f"({time.monotonic() - started:.1f} s)."
    )


def _protected(stack: Stack, things: list[Thing], recorded: State) -> bool:
    """Return whether the state, Docker or the stack's file says so; the file counts unapplied."""
    return (
        recorded.protected
        or identity.protected(things)
        or identity.file_protects((stack.file, stack.kept_file))
    )


def _why_ask(stack: Stack, things: list[Thing]) -> str:
    """Return why removing by labels alone must be confirmed; "" for what a test or CI made here."""
    if _protected(stack, things, State()):
        return "is protected"
    others = {thing.labels.get(LABEL_OWNER) for thing in things}
    here = others <= {None, PROJECT, identity.owner_here()}
    if not here:
        return "was made by somebody else"
    return "" if stack.short_lived else "has data of its own"


def _confirm(stack: Stack, why: str, option: str = "") -> None:
    """Raise UsageError, before anything is touched, unless the user means this stack."""
    if why and os.environ.get("CONFIRM") != stack.name:
        raise UsageError(
            f"Stack {stack.name} {why}, and its data would be gone. Nothing was touched.\n"
            f"Next, if you mean it: CONFIRM={stack.name} {AGAIN} --stack {stack.name}{option}"
        )


def _destroy(stack: Stack, pulumi: Pulumi, engine: Engine) -> None:
    since = datetime.now(UTC)
    state = State(pulumi.export())
    if said := files.prepare_file(stack):
        say(f"  {said}")
    display = Display()
    try:
        if state.protected:
            pulumi.unprotect()
        if state.resources:
            # An orderly end takes long (a server archives its log first), and is for data
            # that stays.
            for one in engine.containers():
                engine.kill(one)
            pulumi.operate("destroy", "--yes", "--skip-preview", show=display)
        with step("removing the state"):
            pulumi.remove()
    except PulumiFailed as error:
        raise explain.failure(stack, error, engine, since, AGAIN) from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Interrupted. `{AGAIN}` goes on from here.") from None
    finally:
        display.close()


def _leftovers(engine: Engine, recorded: State) -> None:
    """Remove what carries the stack's label, whoever made it, and its volumes without one,
    which were put back by hand."""
    for container in engine.containers():
        engine.remove_container(container.id)
    engine.remove_build_steps()
    for network in engine.networks():
        engine.remove_network(network)
    for volume in sorted({*engine.volumes(), *recorded.names(VOLUME)}):
        try:
            engine.remove_volume(volume)
        except docker.errors.APIError as error:
            raise Failure(
                f"Volume {volume} cannot be removed: {error.explanation}\n"
                f"Next: stop what uses it (docker ps -a --filter volume={volume}), then again."
            ) from error


def _verify(stack: Stack, engine: Engine) -> None:
    """Raise Failure naming whatever of the stack is still there."""
    left: list[str] = [f"container {container.name}" for container in engine.containers()]
    left += [f"network {network}" for network in engine.networks().values()]
    left += [f"volume {volume}" for volume in engine.volumes()]
    left += [str(path) for path in (stack.home, stack.file, stack.checkpoint) if path.exists()]
    if left:
        raise Failure(
            f"Stack {stack.name} is not gone; these are left:\n  "
            + "\n  ".join(left)
            + f"\nNext: see who uses them, then `{AGAIN}` again."
        )
