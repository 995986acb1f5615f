"""`pandom preview` and `pandom refresh`: what differs, without `up`'s repairs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from pandom.config.settings import refuse_change
from pandom.database import revisions
from pandom.database.revisions import Applied, Revision
from pandom.host import explain, identity, keys, lock, repair
from pandom.host import stack as files
from pandom.host.access import require
from pandom.host.display import Display
from pandom.host.engine import Container, Engine
from pandom.host.events import QUIET_OPERATIONS
from pandom.host.pulumi_cli import Pulumi, PulumiFailed
from pandom.host.revisions import of_running, refuse
from pandom.host.stack import Stack
from pandom.host.state import ROLE, State
from pandom.host.up import toolchain_variables
from pandom.runtime import passphrase
from pandom.runtime.errors import DONE, DRIFT, Failure
from pandom.runtime.progress import say

# `preview --json` prints one document at the end, unless it is told to stream.
_STREAM = {"PULUMI_ENABLE_STREAMING_JSON_PREVIEW": "true"}


def preview(name: str, expect_no_changes: bool) -> int:
    """Show what `up` would do, drift included; exit code 2 for changes if none are expected."""
    return _operate(name, "preview", ["--refresh"], expect_no_changes)


def refresh(name: str, expect_no_changes: bool) -> int:
    """Bring the state in line with what is there; changes nothing outside the state."""
    return _operate(name, "refresh", ["--yes", "--skip-preview"], expect_no_changes)


def _operate(name: str, operation: str, options: list[str], expect_no_changes: bool) -> int:
    stack = Stack(name)
    require(stack)
    passphrase.require()
    planned = operation == "preview"
    revised = revisions.every() if planned else ()
    if planned:
        from pandom.database import declaration  # with the models, which take long

        declaration.check()
    variables = toolchain_variables()
    with lock.of_stack(stack):
        recorded, engine = stack.recorded(), Engine(name)
        identity.refuse_renamed(name, recorded)
        identity.refuse(name, engine.things(), recorded)
        if said := files.prepare_file(stack):
            say(f"  {said}")
        server = engine.container("postgres")
        if server is None and any(recorded.names(ROLE)):
            # A refresh would fail halfway.
            raise _unseen(stack, engine, recorded, server, operation)
        for line in files.edited(stack) if planned else ():
            say(f"  {line}")
        since, display = datetime.now(UTC), Display(planned=planned)
        pulumi, applied = Pulumi(stack, variables), None
        try:
            settings = files.settings(stack, pulumi.secrets)
            exported = pulumi.export(secrets=True)
            if planned:
                refuse_change(settings, State(exported).environment, upgrading=False)
                applied = of_running(exported)
                refuse(revised, applied)
            keys.restore(stack, exported)
            counts = pulumi.operate(operation, *options, show=display, variables=_STREAM)
        except PulumiFailed as error:
            server = engine.container("postgres")
            if server is None or not server.is_healthy:
                raise _unseen(stack, engine, recorded, server, operation) from error
            raise explain.failure(stack, error, engine, since, f"pandom {operation}") from error
        finally:
            display.close()
    waiting = _pending(revised, applied, engine) if planned else 0
    changes = {word: count for word, count in counts.items() if word not in QUIET_OPERATIONS}
    if waiting:
        changes["migrate"] = waiting
    if not changes:
        say(f"\nStack {name}: no changes.")
        return DONE
    text = ", ".join(f"{word} {count}" for word, count in sorted(changes.items()))
    say(f"\nStack {name}: {text}.")
    return DRIFT if expect_no_changes else DONE


def _pending(there: Sequence[Revision], applied: Applied | None, engine: Engine) -> int:
    """Return name the revisions that `up` would apply; return how many there are."""
    if applied is None and engine.container("postgres") is not None:
        say("  the database does not answer: whether revisions are pending is not known")
        return 0
    waiting = revisions.pending(there, applied or Applied())
    for revision in waiting:
        say(f"  {revision.named}: will be applied")
    return len(waiting)


def _unseen(
    stack: Stack, engine: Engine, recorded: State, server: Container | None, operation: str
) -> Failure:
    """Return the failure when the server cannot be asked: what is gone, and what to type."""
    lost = repair.lost_for_good(engine, recorded)
    return Failure(
        f"`pandom {operation}` cannot look into the database: its container is "
        f"{'gone' if server is None else server.state}.\n"
        + (f"Gone with everything in it: {', '.join(lost)}.\n" if lost else "")
        + f"Next: `.venv/bin/pandom up --stack {stack.name}` makes what can be made again."
    )
