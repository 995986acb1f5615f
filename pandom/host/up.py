"""`pandom up`: from whatever is there to a verified stack.

Before Pulumi runs, Docker and the state are made to agree; while it runs, its
events are shown; after it, the health checks decide whether the run was good.
"""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pandom.database import restoring
from pandom.errors import Failure
from pandom.host import explain, health, identity, lock, passphrase, ports, repair, superuser
from pandom.host import stack as files
from pandom.host.display import Display
from pandom.host.engine import Engine
from pandom.host.pulumi_cli import Pulumi, PulumiFailed
from pandom.host.stack import Stack
from pandom.host.state import CONTAINER, ROLE, State
from pandom.progress import say, step
from stacks.settings import Settings
from toolchain import environment

READY_S: Final = 90.0  # crash recovery of a small database included
AGAIN: Final = ".venv/bin/pandom up"


def toolchain_variables() -> dict[str, str]:
    """The environment for Pulumi; prints where each tool comes from."""
    found = environment.find()
    origins = ", ".join(f"{one.name} {one.version} ({one.origin})" for one in found.origins)
    for line in _wrapped("tools: ", origins):
        say(line)
    if found.standins:
        say("  Stand-ins for the official plugins are in use (docs/adr, Stand-ins).")
    return found.variables


def _wrapped(first: str, text: str) -> list[str]:
    return textwrap.wrap(text, 78, initial_indent=f"  {first}", subsequent_indent="    ")


def run(name: str, profile: str | None = None) -> None:
    """Bring the stack up and verify it.

    Raises UserMistake before anything is touched, Failure with cause and next step.
    """
    started = time.monotonic()
    stack = Stack(name)
    variables = toolchain_variables()
    with lock.of_stack(stack):
        bring_up(stack, variables, profile, started)


def bring_up(
    stack: Stack,
    variables: Mapping[str, str],
    profile: str | None,
    started: float,
    adopting: bool = False,
) -> None:
    """The run itself, for who holds the stack's lock; ``adopting`` takes volumes of others."""
    _Up(stack, variables, profile, adopting).run(started)


class _Up:
    """One run, with the lock held."""

    def __init__(
        self, stack: Stack, variables: Mapping[str, str], profile: str | None, adopting: bool
    ) -> None:
        self._adopting = adopting
        self._stack = stack
        self._profile = profile
        self._pulumi = Pulumi(stack, variables)
        self._since = datetime.now(UTC)
        self._changed = 0
        self._before: set[str] = set()

    def run(self, started: float) -> None:
        recorded = self._stack.recorded()
        identity.refuse_renamed(self._stack.name, recorded)
        engine = self._engine = Engine(self._stack.name)
        if not self._adopting:
            identity.refuse(self._stack.name, engine.things(), recorded)
        settings = self._prepare()
        lost = repair.lost_for_good(engine, recorded)
        repair.refuse_lost(self._stack, lost, settings)
        ports.refuse_taken(self._stack, settings, engine)
        if passphrase.ensure():
            say("  made a passphrase for the states; keep a copy of it (docs/runbook.md)")
        if not self._stack.exists():
            with step("making the state"):
                self._pulumi.init()
        exported = self._pulumi.export(secrets=True)
        try:
            self._reconcile(engine, exported, settings)
            outputs = self._pulumi.outputs(secrets=True)
            health.ask_auditor_again(engine)
            report = health.check(self._stack, engine, outputs)
            if not report.healthy and report.wants_jobs:
                self._rerun_jobs(engine)
                report = health.check(self._stack, engine, outputs)
        except PulumiFailed as error:
            raise explain.failure(self._stack, error, engine, self._since, AGAIN) from error
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"Interrupted. `{AGAIN}` goes on from here; `down` instead of `up` removes all."
            ) from None
        finally:
            files.keep_copy(self._stack)
        report.show()
        if not report.healthy:
            raise Failure(report.explanation(AGAIN))
        self._farewell(outputs, started)

    def _prepare(self) -> Settings:
        """The validated settings; writes this clone's file if it has none."""
        passphrase.there()
        if said := files.prepare_file(self._stack, self._profile):
            say(f"  {said}")
        settings = files.settings(self._stack)
        if self._stack.short_lived and not self._stack.exists():
            ports.reserve(self._stack)
            settings = files.settings(self._stack)
        return settings

    def _reconcile(self, engine: Engine, exported: Mapping[str, Any], settings: Settings) -> None:
        state = State(exported)
        if repair.remove_unknown(engine, state):
            self._changed += 1
        started = repair.start_stopped(engine, state)
        self._changed += len(started)
        for part in set(started) & set(repair.SERVERS):
            engine.wait_good(part, READY_S)
        findings = repair.examine(engine, state)
        replace = findings.replace
        if findings.targets:
            self._foundation(engine, findings)
            state = State(self._pulumi.export())
            known = {one.urn for one in state.resources}
            replace = [urn for urn in state.jobs if urn in findings.replace and urn in known]
            replace = [urn for urn in replace if urn not in findings.targets]
        if any(state.names(ROLE)):
            found = engine.wait_good("postgres", READY_S)
            if found is None or not found.good:
                raise explain.not_ready(engine, found, "postgres")
            restoring.refuse(superuser.restores(exported), "`up`")
            self._set_passwords(exported)
            self._adopt(settings, state)
        try:
            self._operate("", *repair.options((), replace))
        except PulumiFailed as error:
            if not self._mend(error, settings, state):
                raise
            self._operate("", *repair.options((), replace))

    def _foundation(self, engine: Engine, findings: repair.Findings) -> None:
        """Bring up what is off in Docker, before the server's content is looked at.

        Jobs are not among it, but one that failed in an earlier run makes the program
        fail; what counts here is whether the server is there afterwards.
        """
        # What is gone from Docker leaves the state by the refresh, and Pulumi refuses to
        # replace what it does not know; it is made anew anyway.
        there = {one.id for one in engine.containers()}
        known = State(self._pulumi.export())
        gone = {one.urn for one in known.of_type(CONTAINER) if one.id not in there}
        replace = [urn for urn in findings.replace if urn not in gone]
        try:
            self._operate("foundation: ", *repair.options(findings.targets, replace))
        except PulumiFailed:
            found = engine.wait_good("postgres", READY_S)
            if found is None or not found.good:
                raise

    def _mend(self, error: PulumiFailed, settings: Settings, state: State) -> bool:
        """Remove what stopped Pulumi, if it is something that we know to remove."""
        if explain.unreadable_setting(error):
            found = superuser.reset_unreadable(self._pulumi.export(True), settings.opt_in)
            if found:
                say(f"  took back settings that roles gave themselves: {', '.join(found)}")
            return bool(found)
        return explain.already_there(error) and self._adopt(settings, state)

    def _operate(
        self, prefix: str, *options: str, variables: Mapping[str, str] | None = None
    ) -> None:
        display = Display(prefix)
        self._before = {one.id for one in self._engine.containers()}
        try:
            self._pulumi.operate(
                "up",
                "--yes",
                "--skip-preview",
                "--refresh",
                *options,
                show=display,
                variables=variables,
                watch=self._watch,
            )
        finally:
            display.close()
            self._changed += sum(display.changed.values())

    def _watch(self) -> None:
        """Raise Failure when a server that this operation made has ended with an error.

        One that was there before may be about to be replaced.
        """
        for one in self._engine.containers():
            if one.part in repair.SERVERS and one.hopeless and one.id not in self._before:
                raise explain.not_ready(self._engine, one, one.part)

    def _adopt(self, settings: Settings, state: State) -> bool:
        """Take roles and databases into the state that an interrupted run left out of it."""
        if not superuser.missing(state, settings.opt_in):
            return False
        exported = self._pulumi.export(secrets=True)
        names = superuser.candidates(exported, settings.opt_in)
        if not names:
            return False
        say(f"  adopting what an interrupted run left: {', '.join(names)}")
        superuser.give_adopted(exported, names)
        self._operate("adopt: ", variables=superuser.variables(names))
        return True

    def _set_passwords(self, exported: Mapping[str, Any]) -> None:
        """Roles may change their own password; the state's is the one that counts."""
        changed = superuser.set_passwords(exported)
        self._changed += len(changed)
        if changed:
            say(f"  set passwords that were changed by hand: {', '.join(changed)}")

    def _rerun_jobs(self, engine: Engine) -> None:
        """The state says that the jobs ran, the server says that their work is gone."""
        say("  the schema or the bucket is not as declared; running the jobs again")
        jobs = State(self._pulumi.export()).jobs
        self._operate("jobs: ", *repair.options((), jobs))

    def _farewell(self, outputs: Mapping[str, Any], started: float) -> None:
        name, seconds = self._stack.name, time.monotonic() - started
        # In the words with which this run was started.
        by_make = "MAKELEVEL" in os.environ
        command = "make" if by_make else ".venv/bin/pandom"
        option = "" if name == "dev" else f" STACK={name}" if by_make else f" --stack {name}"
        what = "up and healthy" if self._changed else "healthy; nothing changed"
        say(f"\nStack {name} is {what} ({seconds:.1f} s).")
        say(f"  PostgreSQL    127.0.0.1:{outputs['db_port']}, database {outputs['db_database']}")
        say(
            f"  object store  https://127.0.0.1:{outputs['minio_port']}, "
            f"bucket {outputs['minio_bucket_name']}"
        )
        say(f"  CA            {outputs['db_sslrootcert']}")
        say(f"  settings      stacks/{self._stack.file.name}")
        say(f"  secrets       {command} env{option}    (a dotenv block on stdout)")
        say(f"Next: {command} shell{option}   (psql and pg_dump, signed in)")
        say(f"      {command} down{option}    (remove it, and leave nothing)")
