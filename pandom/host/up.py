"""`pandom up`: from whatever is there to a verified stack.

Before Pulumi runs, Docker and the state are made to agree; while it runs, its
events are shown; after it, checks from outside and the audit decide whether the run
was good. What they find is healed if that drops nothing that somebody made, and looked
at again; the rest ends the run with exit code 2 and the findings.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final

from pandom.audit import accepted
from pandom.audit.findings import Finding
from pandom.config.settings import UPGRADING, Settings, applied_version, refuse_change
from pandom.database import revisions
from pandom.database.restore import restoring
from pandom.database.revisions import Revision
from pandom.host import (
    backup,
    exchange,
    explain,
    health,
    identity,
    keys,
    last_run,
    lock,
    operations,
    ports,
    repair,
    superuser,
    verdict,
)
from pandom.host import stack as files
from pandom.host.display import Display
from pandom.host.engine import Container, Engine
from pandom.host.language_host import LanguageHost
from pandom.host.pulumi_cli import Pulumi, PulumiFailed
from pandom.host.revisions import of_running, refuse
from pandom.host.stack import Stack
from pandom.host.state import CONTAINER, IMAGE, ROLE, State, clear_outputs
from pandom.host.verdict import STORE, Verdict
from pandom.runtime import passphrase
from pandom.runtime.errors import DONE, DRIFT, Drift, Failure, PandomError, UsageError
from pandom.runtime.naming import LABEL_PART
from pandom.runtime.progress import WIDTH, say, shorten, step
from schema.access import DATABASE
from toolchain import environment

READY_S: Final = 90.0  # crash recovery of a small database included
AGAIN: Final = ".venv/bin/pandom up"
# What one finding hides (an owner that is wrong) shows when that is healed.
ROUNDS: Final = 4
# A verdict, and the stack's outputs in clear.
_Looked = tuple[Verdict, Mapping[str, Any]]
# The settings of the image, which a server that is started again reads anew.
_OF_SERVER: Final = ("setting", "connection rule")


def toolchain_variables() -> dict[str, str]:
    """Return the environment for Pulumi; say in one line which tools are used."""
    found = environment.find()
    say(f"  tools: {found.summary()}")
    return found.variables


def run(name: str, profile: str | None = None) -> None:
    """Bring the stack up and verify it.

    Raises UsageError before anything is touched, Failure with cause and next step.
    """
    started = time.monotonic()
    stack = Stack(name)
    variables = toolchain_variables()
    there = stack.exists()
    with lock.of_stack(stack):
        if there and not stack.exists():
            raise UsageError(
                f"Stack {name} was taken down while this waited, and its settings with it.\n"
                "Next: run this again for a new one, with the template's settings."
            )
        bring_up(stack, variables, profile, started)


def bring_up(
    stack: Stack,
    variables: Mapping[str, str],
    profile: str | None,
    started: float,
    adopting: bool = False,
    upgrading: bool = False,
) -> None:
    """Run it, for whoever holds the stack's lock; ``adopting`` takes volumes of others,
    ``upgrading``: the data are of the version that the settings say, not that of the last run."""
    up = _Up(stack, variables, profile, adopting, upgrading=upgrading)
    up.print_summary(up.run(), started)


def verify(stack: Stack, variables: Mapping[str, str]) -> None:
    """Run it for whoever holds the stack's lock and goes on from a stack that is as declared."""
    _Up(stack, variables, None, adopting=False).run()


def for_environment(
    stack: Stack,
    variables: Mapping[str, str],
    host: LanguageHost | None,
    laid: Callable[[], None] | None = None,
) -> Mapping[str, Any]:
    """Run it for an environment for CI, whose lock the caller has; its outputs in clear.

    ``laid``: the state says what lies in the data volume once this returns, and nothing else is
    there yet. ``host`` was started by the caller, who ends it.
    """
    return _Up(stack, variables, "ephemeral", adopting=False, laid=laid, host=host).run()


class _Up:
    """One run, with the lock held."""

    def __init__(
        self,
        stack: Stack,
        variables: Mapping[str, str],
        profile: str | None,
        adopting: bool,
        laid: Callable[[], None] | None = None,
        host: LanguageHost | None = None,
        upgrading: bool = False,
    ) -> None:
        self._adopting, self._laid, self._host = adopting, laid, host
        self._upgrading = upgrading
        self._stack = stack
        self._revisions: Sequence[Revision] = ()
        self._profile = profile
        self._tools = variables
        self._pulumi = Pulumi(stack, variables)
        self._since = datetime.now(UTC)
        self._changed = 0
        self._given = ""  # of the run of Pulumi, see `last_run`
        self._before: set[str] = set()
        self._told: Mapping[str, Any] = {}  # the outputs before the run
        # Another cluster is served, which lacks what is done here.
        self._exchanged: exchange.Beside | None = None
        self._backed_up = False
        self._tried: set[str] = set()  # remedies that are of use once
        self._healed: set[str] = set()  # findings that were taken back by SQL

    def run(self) -> Mapping[str, Any]:
        """Bring it up; the outputs in clear."""
        with ThreadPoolExecutor() as beside:
            reading = None
            if self._stack.exists() and self._laid is None:
                # While Pulumi reads its state, the folder is checked, and what the verdict
                # needs is imported.
                reading = beside.submit(self._pulumi.export, secrets=True)
            # Of this folder a prepared cluster was made: it was checked then.
            self._revisions = revisions.every(run=self._laid is None)
            verdict.prepare()
            if self._laid is None:
                from pandom.database import declaration  # with the models, which take long

                declaration.check()
            recorded = self._stack.recorded()
            self._told = recorded.outputs
            identity.refuse_renamed(self._stack.name, recorded)
            engine = self._engine = Engine(self._stack.name)
            if not self._adopting:
                identity.refuse(self._stack.name, engine.things(), recorded)
                identity.refuse_namesakes(engine.namesakes(self._stack.name), recorded)
            settings = self._prepare()
            lost = repair.lost_for_good(engine, recorded)
            repair.refuse_lost(self._stack, lost, settings)
            ports.refuse_taken(self._stack, settings, engine)
            if passphrase.ensure():
                say("  made a passphrase for the states; keep a copy of it (docs/runbook.md)")
            if not self._stack.exists():
                with step("making the state"):
                    self._pulumi.init()
            try:
                settings = files.settings(self._stack, self._pulumi.secrets)
                exported = self._exported(reading) if reading else {}
            except PulumiFailed as error:
                raise explain.short(error) from error
        upgrading = self._goes_on(engine, settings, exported) or self._upgrading
        refuse_change(settings, State(exported).environment, upgrading)
        if upgrading:
            self._tools = {**self._tools, UPGRADING: "true"}
            self._pulumi = Pulumi(self._stack, self._tools)
        try:
            found, outputs = self._reconcile(engine, exported, settings) or self._verdict(exported)
        except PulumiFailed as error:
            raise explain.failure(self._stack, error, engine, self._since, AGAIN) from error
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"Interrupted. `{AGAIN} --stack {self._stack.name}` goes on from here; `down` "
                "instead of `up` removes all."
            ) from None
        finally:
            files.keep_copy(self._stack)
        found.show()
        if words := found.explanation(AGAIN):
            raise (Drift if found.exit_code == DRIFT else Failure)(words)
        last_run.remember(self._stack, self._given)
        return outputs

    def _exported(self, reading: Future[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return the state; asked for again where the stack's file was mended since."""
        try:
            return reading.result()
        except PulumiFailed:
            return self._pulumi.export(secrets=True)

    def _prepare(self) -> Settings:
        """Return the validated settings; write this clone's file if it has none."""
        passphrase.require()
        accepted.load()  # or a mistake in it would be told after everything else
        if said := files.prepare_file(self._stack, self._profile):
            say(f"  {said}")
        settings = files.settings(self._stack)
        if self._stack.short_lived and not self._stack.exists():
            ports.reserve(self._stack)
            settings = files.settings(self._stack)
        return settings

    def _goes_on(self, engine: Engine, settings: Settings, exported: Mapping[str, Any]) -> bool:
        """Return whether the data are of the settings' version and not of the last run's: of an
        upgrade, after its exchange. A container of the other version leaves, so the new one is
        made before anything waits for it."""
        found, version = engine.container("postgres"), settings.postgres_version
        if found is None:
            return False
        is_other = engine.version(found) != version
        if not is_other and applied_version(State(exported).environment) in (None, version):
            return False
        if exchange.of_volume(engine, found).version != version:
            return False
        if is_other:
            engine.remove_container(found.id)
        return True

    def _reconcile(
        self, engine: Engine, exported: Mapping[str, Any], settings: Settings
    ) -> _Looked | None:
        """Make everything as declared; the verdict, if there turned out to be nothing to do."""
        if self._laid is not None:
            self._note_inputs(settings)
            self._operate("", refresh=False)
            return None
        state = State(exported)
        # While it runs, before anything is touched; one that is started first is asked then.
        applied = of_running(exported)
        refuse(self._revisions, applied)
        if applied is not None:
            for one in revisions.pending(self._revisions, applied):
                say(f"  {one.named}: will be applied")
        if repair.remove_unknown(engine, state):
            self._changed += 1
        authority = keys.recorded(exported)
        with ThreadPoolExecutor() as beside:
            asked = beside.submit(self._look_before, exported)
            keys.run_again(engine, state)
        before = asked.result()
        self._make_way(engine, state, settings)
        started = repair.start_stopped(engine, state)
        self._changed += len(started)
        for part in set(started) & set(repair.SERVERS):
            engine.wait_until_healthy(part, READY_S)
        self._changed += keys.settle(self._stack, engine, authority)
        findings = repair.examine(engine, state, settings.ports)
        findings.replace += keys.outdated(engine, exported)
        replace = findings.replace
        if findings.targets:
            self._foundation(engine, findings)
            self._changed += keys.settle(self._stack, engine, authority)
            exported = self._pulumi.export(secrets=True)
            state = State(exported)
            replace = [urn for urn in state.jobs if urn in findings.replace]
            replace = [urn for urn in replace if urn not in findings.targets]
        if any(state.names(ROLE)):
            found = engine.wait_until_healthy("postgres", READY_S)
            if found is None or not found.is_healthy:
                raise explain.not_ready(engine, found, "postgres")
            self._exchanged = exchange.go_on(engine, found, self._stack.name, exported)
            if self._exchanged:
                self._changed += 1
                if not self._exchanged.of_upgrade:  # else by containers of its version, later
                    self._back_up(exported)
                self._backed_up = False  # Pulumi may start store and server again: look then, too
            restoring.refuse(superuser.restores(exported), "`up`")
            exported = self._open_server(found, exported)
            if superuser.open_database(exported):
                self._changed += 1
                say(f"  healed: database {DATABASE}: connections were refused or limited")
            if silenced := superuser.silence_logins(exported, settings.opt_in):
                self._changed += 1
                say(f"  switched off, as nobody declared it: login trigger {', '.join(silenced)}")
            if applied is None:
                refuse(self._revisions, of_running(exported))
            self._say_healed(superuser.heal_cluster(exported, settings.opt_in))
            self._set_passwords(exported)
            self._encrypt_anew(exported)
            self._adopt(settings, state)
        # Where the audit saw nothing, a refresh would only read it all a second time.
        trusted = before is not None and not self._changed and not replace
        self._note_inputs(settings)
        if trusted and last_run.is_current(self._stack, self._given):
            say("  Pulumi: nothing to do; program, settings and state are those of the last run")
            return before
        replace = [*replace, *self._of_store(exported)]
        try:
            known = repair.there(engine, state, dict.fromkeys(replace))
            self._operate("", *repair.options((), known), refresh=not trusted)
        except PulumiFailed as error:
            if not self._mend(error, settings, state):
                raise
            state = State(self._pulumi.export())
            failed = repair.failed_jobs(engine.containers(), state)
            replace = repair.there(engine, state, dict.fromkeys([*replace, *failed]))
            self._operate("", *repair.options((), replace))
        return None

    def _note_inputs(self, settings: Settings) -> None:
        self._given = last_run.inputs(
            # The file that backupCa names is not among the clone's.
            self._stack,
            {**self._pulumi.environment(), "PANDOM_BACKUP_CA": settings.backup.ca},
        )

    def _open_server(self, server: Container, exported: Mapping[str, Any]) -> Mapping[str, Any]:
        """See that the superuser gets in, and carry a new password of it through.

        The server's file comes first: at each moment, and after a restart at each moment, the
        server takes a password that the state knows. Returns the state.
        """
        password = superuser.new_password(exported)
        if password is not None:
            self._operate("keys: ", *repair.options(repair.KEYS, ()), refresh=False)
            shut = not superuser.renew(exported, password)
        else:
            shut = superuser.is_refused(exported)
        if shut:
            with step("starting the server again, which gives the superuser its password"):
                self._engine.restart(server)
                self._engine.wait_until_healthy("postgres", READY_S)
            self._changed += 1
        if password is None:
            return exported
        exported = superuser.with_provider(self._pulumi.export(secrets=True), password)
        self._pulumi.restore(exported)
        self._changed += 1
        say("  the superuser has its new password")
        return exported

    def _encrypt_anew(self, exported: Mapping[str, Any]) -> None:
        """Encrypt password hashes with a new key, before its readers get it."""
        new = superuser.generated(exported).get("password-hash-key")
        former = keys.written(exported).get("password-hash-key")
        if new and former and new != former:
            with step("password hashes: encrypted with the new key, where they are encrypted"):
                superuser.encrypt_anew(exported, former, new)

    def _of_store(self, exported: Mapping[str, Any]) -> list[str]:
        """Return what gives the object store's accounts the secrets that it refuses: the job, and
        for root's the server itself, which reads it as it starts."""
        made, written = superuser.generated(exported), keys.written(exported)
        new = [one for one in superuser.ACCOUNTS if one in made]
        new = [one for one in new if made[one] != written.get(one, made[one])]
        refused = new or superuser.refused_by_store(exported)
        parts = {"storage"} if refused else set()
        if "minio-root" in refused:
            parts.add("minio")
        found = State(exported).of_type(CONTAINER)
        return [one.urn for one in found if one.label.get(LABEL_PART) in parts]

    def _make_way(self, engine: Engine, state: State, settings: Settings) -> None:
        """Take away servers whose port another one is to get; their data is in volumes."""
        leaving = repair.make_way(engine, settings.ports)
        if not leaving:
            return
        # What cannot be built must not leave the stack without servers.
        self._operate("images: ", *repair.options([one.urn for one in state.of_type(IMAGE)], ()))
        for one in leaving:
            with step(f"{one.part} leaves port {', '.join(map(str, one.ports))}"):
                engine.stop(one)
                engine.remove_container(one.id)
            self._changed += 1

    def _foundation(self, engine: Engine, findings: repair.Findings) -> None:
        """Bring up what is off in Docker, before the server's content is looked at.

        Jobs are not among it, but one that failed in an earlier run makes the program
        fail; what counts here is whether the server is there afterwards.
        """
        replace = repair.there(engine, State(self._pulumi.export()), findings.replace)
        try:
            self._operate("foundation: ", *repair.options(findings.targets, replace))
        except PulumiFailed:
            found = engine.wait_until_healthy("postgres", READY_S)
            if found is None or not found.is_healthy:
                raise

    def _mend(self, error: PulumiFailed, settings: Settings, state: State) -> bool:
        """Remove what stopped Pulumi, if it is something that we know to remove."""
        if explain.unreadable_setting(error):
            found = superuser.reset_unreadable(self._pulumi.export(True), settings.opt_in)
            if found:
                say(f"  took back settings that roles gave themselves: {', '.join(found)}")
            return bool(found)
        if explain.open_rows(error):
            # The job refuses what somebody made of a table; the audit knows what it was.
            healed = superuser.heal_row_security(self._pulumi.export(True), settings.opt_in)
            self._say_healed(healed)
            return bool(healed)
        return explain.already_there(error) and self._adopt(settings, state)

    def _look_before(self, exported: Mapping[str, Any]) -> _Looked | None:
        """Return the verdict if health and audit find nothing; ask only if everything runs."""
        state = State(exported)
        running = {
            one.id
            for one in self._engine.containers()
            if (one.is_healthy if one.part in repair.SERVERS else one.status == "running")
        }
        wanted = {one.id for one in state.of_type(CONTAINER) if not one.one_shot}
        if not state.completed or not wanted or not wanted <= running:
            return None
        try:
            found = self._look(exported)
        except KeyError:  # the outputs of an earlier version
            return None
        return found if found[0].exit_code == DONE else None

    def _operate(
        self,
        prefix: str,
        *options: str,
        refresh: bool = True,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        # A server that is taken over has roles that the new state must adopt first.
        display = Display(prefix, failed="there already" if self._adopting else "FAILED")
        host, self._host = self._host or LanguageHost.start(self._tools), None
        self._before = {one.id for one in self._engine.containers()}
        try:
            with host or contextlib.nullcontext():
                self._pulumi.operate(
                    "up",
                    "--yes",
                    "--skip-preview",
                    *(["--refresh"] if refresh else []),
                    *options,
                    show=display,
                    variables=variables,
                    watch=self._watch,
                    host=host,
                    ready=self._laid,
                )
        finally:
            display.close()
            self._changed += sum(display.changed.values())

    def _watch(self) -> None:
        """Raise Failure when a server that this operation made has ended with an error.

        One that was there before may be about to be replaced.
        """
        for one in self._engine.containers():
            if one.part in repair.SERVERS and one.has_failed and one.id not in self._before:
                raise explain.not_ready(self._engine, one, one.part)

    def _adopt(self, settings: Settings, state: State) -> bool:
        """Take roles and databases into the state that an interrupted run left out of it."""
        if not superuser.missing(state, settings.opt_in):
            return False
        exported = self._pulumi.export(secrets=True)
        names = superuser.candidates(exported, settings.opt_in)
        if not names:
            return False
        what = "what is there" if self._adopting else "what an interrupted run left"
        say("  " + shorten(f"adopting {what}: {', '.join(names)}", WIDTH - 2))
        superuser.give_adopted(exported, names)
        self._operate("adopt: ", variables=superuser.variables(names))
        return True

    def _set_passwords(self, exported: Mapping[str, Any]) -> None:
        """Roles may change their own password; the state's is the one that counts."""
        changed = superuser.set_passwords(exported)
        self._changed += len(changed)
        if changed:
            say(f"  set passwords that were changed by hand: {', '.join(changed)}")

    def _verdict(self, exported: Mapping[str, Any]) -> _Looked:
        """Look, heal what may be healed, and look again; the last verdict, and the outputs.

        ``exported`` is the state before the run, which holds if nothing was changed.
        """
        for _ in range(ROUNDS):
            # Outputs may be new although no resource is.
            if self._changed or self._stack.recorded().outputs != self._told:
                exported = self._pulumi.export(secrets=True)
            if not self._backed_up:
                self._back_up(exported)
            # What they say may be of before this run, or of before the last round.
            with contextlib.suppress(PandomError):
                operations.look_again(self._engine)
            health.restart_unhealthy_watchers(self._engine)
            found, outputs = self._look(exported)
            if not found.exit_code or not self._heal(found, exported):
                break
        return found.again(self._healed), outputs

    def _back_up(self, exported: Mapping[str, Any]) -> None:
        """Mend what can be of backups; why one cannot is what health says a moment later."""
        with contextlib.suppress(PandomError):
            upgraded = self._exchanged is not None and self._exchanged.of_upgrade
            self._changed += backup.begin_if_ours(
                self._engine, self._stack.name, exported, upgraded
            )
            self._backed_up = True
            server = self._engine.container("postgres")
            if self._exchanged and server is not None:
                exchange.settle(self._engine, server)

    def _look(self, exported: Mapping[str, Any]) -> _Looked:
        outputs = clear_outputs(exported)
        return verdict.look(self._stack, self._engine, outputs, State(exported)), outputs

    def _heal(self, found: Verdict, exported: Mapping[str, Any]) -> bool:
        """Take back what is not as declared, by whatever made it; whether anything was done.

        Nothing that somebody made is dropped, no row is deleted: that is left to a person.
        """
        state = State(exported)
        safe = [one for one in found.findings if one.safe]
        # Until the schema is at its head, its objects cannot be compared. At its head they come
        # first: a table whose row security somebody took away would be refused by the job.
        done = not found.report.behind and self._heal_by_sql(
            [one for one in safe if one.sql], exported
        )
        if found.report.wants_jobs and not done and self._once("jobs"):
            self._rerun_jobs("the schema, its content or the bucket is not as declared", state)
            return True
        stored = [one for one in safe if one.kind in STORE]
        if stored and self._once("jobs"):
            self._rerun_jobs("the object store is not as declared", state)
            self._say_healed(stored)
            done = True
        hosted = {one.object for one in safe if one.kind == "container"}
        if hosted and self._once("containers"):
            say(f"  making again what was changed by hand: {', '.join(sorted(hosted))}")
            urns = [one.urn for one in state.of_type(CONTAINER) if one.name in hosted]
            self._operate("containers: ", *repair.options((), urns))
            done = True
        server = self._engine.container("postgres")
        if server and any(one.kind in _OF_SERVER for one in safe) and self._once("server"):
            with step("starting the server again, with its image's settings"):
                self._engine.restart(server)
                self._engine.wait_until_healthy("postgres", READY_S)
            self._changed += 1
            done = True
        return done

    def _once(self, remedy: str) -> bool:
        """Whether a remedy was not tried yet; a second time it would change nothing."""
        new = remedy not in self._tried
        self._tried.add(remedy)
        return new

    def _heal_by_sql(self, found: list[Finding], exported: Mapping[str, Any]) -> bool:
        found = [one for one in found if self._once(one.id)]
        failed = superuser.heal_by_sql(exported, found) if found else {}
        healed = [one for one in found if one.id not in failed]
        self._healed |= {one.id for one in healed}
        self._say_healed(healed)
        for name, reason in failed.items():
            say(f"  could not heal {name}:\n    {shorten(reason, 76)}")
        return bool(healed)

    def _say_healed(self, found: Iterable[Finding]) -> None:
        for one in found:
            self._changed += 1
            say("  " + shorten(f"healed: {one.place}: {one.title}", WIDTH - 2))

    def _rerun_jobs(self, why: str, state: State) -> None:
        """Run the jobs again, whose work is gone from the server."""
        say(f"  {why}; running the jobs again")
        self._operate("jobs: ", *repair.options((), state.jobs))

    def print_summary(self, outputs: Mapping[str, Any], started: float) -> None:
        """Say what there is now, and what comes next."""
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
        if "metrics_port" in outputs:
            say(f"  metrics       http://127.0.0.1:{outputs['metrics_port']}/metrics")
        say(f"  CA            {outputs['db_sslrootcert']}")
        say(f"  settings      stacks/{self._stack.file.name}")
        say(f"  secrets       {command} env{option}    (a dotenv block on stdout)")
        say(f"Next: {command} shell{option}   (psql and pg_dump, signed in)")
        say(f"      {command} down{option}    (remove it, and leave nothing)")
