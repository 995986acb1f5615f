"""Secrets that change while clients work; killed in the middle, and completed."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import docker
import psycopg
import pytest
from minio.error import S3Error

from pandom.audit.target import store_of
from pandom.host import lock, superuser
from pandom.host.adopt import with_secrets
from pandom.host.health import connection
from pandom.host.pulumi_cli import Pulumi, PulumiFailed
from pandom.host.stack import Stack, forget, set_values
from pandom.host.state import STACK, State, clear
from pandom.objectstore import Account, client, signs_in
from pandom.runtime import passphrase, paths
from schema.storage import AUDITOR, MEDIA
from tests.fixtures import leaks
from tests.fixtures.keys import shown
from tests.fixtures.stack import Pandom, RunningStack, new_name
from toolchain import environment

Wait = Callable[[Callable[[], bool], str], None]
PAUSE_S = 0.1


@dataclass
class Steady:
    """Works without a pause: ``work`` returns when it was acknowledged, and raises when refused."""

    work: Callable[[], None]
    done: int = 0
    refused: list[float] = field(default_factory=list)
    others: list[BaseException] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)

    def _run(self) -> None:
        while not self._end.wait(PAUSE_S):
            try:
                self.work()
                self.done += 1
            except Refused:
                self.refused.append(time.monotonic())
            except Exception as error:  # noqa: BLE001 - the test shows it
                self.others.append(error)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join(30)

    def window(self, end: float) -> float:
        """For how long it was refused before ``end``, in seconds."""
        return end - self.refused[0] if self.refused else 0.0


class Refused(Exception):
    """The secret is not taken."""


def sign_in(given: dict[str, Any]) -> None:
    try:
        psycopg.connect(**given).close()
    except psycopg.OperationalError as error:
        if "password authentication failed" in str(error):
            raise Refused from None
        raise


def look_again(stack: RunningStack) -> None:
    stack.look_again()
    leaks.watch(stack.secrets.values())


def as_login(stack: RunningStack, role: str) -> dict[str, Any]:
    return connection(stack.outputs, role)


def as_superuser(stack: RunningStack) -> dict[str, Any]:
    found = superuser.login(stack.exported)
    assert found is not None
    return found


def rotate(stack: RunningStack, what: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = stack.pandom("rotate", what, "--stack", stack.name, code=code)
    look_again(stack)
    return done


def lost(rows: list[uuid.UUID], given: dict[str, Any]) -> int:
    """How many acknowledged rows are not there."""
    with psycopg.connect(**given) as reader:
        found = reader.execute(
            "select count(*) from public.user_profiles where uuid = any(%s)", (rows,)
        ).fetchone()
    assert found is not None
    return len(rows) - int(found[0])


def test_every_login_while_clients_work(backed: RunningStack, wait_for: Wait) -> None:
    former = {role: as_login(backed, role) for role in backed.outputs["passwords"]}
    opened = psycopg.connect(**former["pandom_user"], autocommit=True)
    rows: list[uuid.UUID] = []

    def write() -> None:
        row = uuid.uuid4()
        opened.execute(
            "insert into public.user_profiles (uuid, tags, metadata) values (%s, '{}', '{}')",
            (row,),
        )
        rows.append(row)

    known = dict(former["pandom_app"])
    writer, signing = Steady(write), Steady(lambda: sign_in(known))
    with writer.working(), signing.working():
        rotate(backed, "all-logins")
        told = time.monotonic()
        known |= as_login(backed, "pandom_app")
        before = len(signing.refused)
        time.sleep(1)
    print(f"window of a login: {signing.window(told):.1f} s, {writer.done} transactions")
    assert (writer.others, writer.refused, signing.others) == ([], [], [])
    assert len(signing.refused) - before <= 1  # one that had begun
    now = as_login(backed, "pandom_user")
    assert lost(rows, now) == 0
    opened.execute("delete from public.user_profiles where uuid = %s", (rows[0],))
    assert lost(rows, now) == 1  # one that is gone would be seen
    opened.execute("delete from public.user_profiles where uuid = any(%s)", (rows,))
    opened.close()
    for role, given in former.items():
        with pytest.raises(Refused):
            sign_in(given)
        sign_in(as_login(backed, role))
    backed.pandom("health", "--stack", backed.name)
    # What runs all the time reads its secret when it connects, and not once.
    with psycopg.connect(**as_superuser(backed), autocommit=True) as server:
        watching = (
            "select pid from pg_catalog.pg_stat_activity where usename = 'pandom_janitor' "
            "and application_name like '%watching'"
        )
        ended = server.execute(watching).fetchall()
        server.execute(f"select pg_catalog.pg_terminate_backend(pid) from ({watching}) as w")
        assert ended
        wait_for(lambda: server.execute(watching).fetchall() not in ([], ended), "the watch again")


def kill(process: subprocess.Popen[str], stack: Stack) -> None:
    process.kill()
    for one in lock.marked(stack):
        one.signal(signal.SIGKILL)
    process.wait(30)


@pytest.mark.soak  # runs of `up`
@pytest.mark.parametrize("moment", ["before the server has it", "after the server has it"])
def test_the_superuser_killed_and_completed(
    backed: RunningStack, moment: str, wait_for: Wait
) -> None:
    """Whatever the state knows opens the server, also when that starts again in between."""
    look_again(backed)
    former = as_superuser(backed)
    early = moment.startswith("before")
    opened = psycopg.connect(**former, autocommit=True)
    process = backed.pandom.start("rotate", "postgres", "--stack", backed.name)
    assert process.stdout is not None

    def changed() -> bool:
        with contextlib.suppress(Refused):
            sign_in(former)
            return False
        return True

    for line in process.stdout:
        if "the state has a new secret" in line:
            break
    if not early:
        threading.Thread(target=process.stdout.read, daemon=True).start()
        wait_for(changed, "a new password in the server")
    kill(process, Stack(backed.name))
    assert changed() is not early
    look_again(backed)
    written = [path for path in paths.state_home().rglob(f"*{backed.name}*") if path.is_file()]
    assert written
    assert not any(one in path.read_text() for path in written for one in backed.secrets.values())
    assert opened.execute("select 1").fetchone() == (1,)
    opened.close()
    server = docker.from_env().containers.get(backed.container("postgres"))
    server.restart(timeout=20)
    if early:
        said = rotate(backed, "postgres").stderr
        assert "going on with an interrupted rotation" in said
    else:
        backed.pandom("up", "--stack", backed.name)
        look_again(backed)
    with pytest.raises(Refused):
        sign_in(former)
    sign_in(as_superuser(backed))
    # What the next start gives the superuser is what the state knows.
    server.restart(timeout=20)
    backed.pandom("up", "--stack", backed.name)
    sign_in(as_superuser(backed))


@pytest.mark.soak  # runs of `up`
def test_a_login_killed_and_completed(backed: RunningStack, wait_for: Wait) -> None:
    look_again(backed)
    former = as_login(backed, "pandom_app")
    process = backed.pandom.start("rotate", "pandom_app", "--stack", backed.name)
    assert process.stdout is not None
    threading.Thread(target=process.stdout.read, daemon=True).start()

    def changed() -> bool:
        with contextlib.suppress(Refused):
            sign_in(former)
            return False
        return True

    wait_for(changed, "a new password in the server")
    kill(process, Stack(backed.name))
    said = rotate(backed, "pandom_app").stderr
    assert "changed by hand" not in said
    assert changed()
    sign_in(as_login(backed, "pandom_app"))


@pytest.mark.soak  # runs of `up`
def test_a_superusers_password_that_was_changed_by_hand(backed: RunningStack) -> None:
    look_again(backed)
    with psycopg.connect(**as_superuser(backed), autocommit=True) as server:
        server.execute("alter role postgres password 'somebody else knows this one'")
    with pytest.raises(Refused):
        sign_in(as_superuser(backed))
    backed.pandom("up", "--stack", backed.name)
    sign_in(as_superuser(backed))


@pytest.mark.soak  # runs of `up`
@pytest.mark.parametrize("what", ["minio-media", "minio-root"])
def test_the_object_store_while_a_client_writes(backed: RunningStack, what: str) -> None:
    look_again(backed)
    endpoint = store_of(backed.outputs, AUDITOR).endpoint
    bucket, account = backed.outputs["minio_bucket_name"], superuser.ACCOUNTS[what]
    former = Account(account, backed.secrets[what])
    known = [Account(MEDIA.name, backed.outputs["minio_secret_key"])]
    names: list[str] = []

    def write() -> None:
        name = f"rotation/{what}/{len(names)}"
        try:
            client(endpoint, known[0]).put_object(
                bucket_name=bucket, object_name=name, data=io.BytesIO(b"x"), length=1
            )
        except S3Error as error:
            if error.code in ("SignatureDoesNotMatch", "InvalidAccessKeyId"):
                raise Refused from None
            raise
        names.append(name)

    writer = Steady(write)
    with writer.working():
        rotate(backed, what)
        told = time.monotonic()
        known[0] = Account(MEDIA.name, backed.outputs["minio_secret_key"])
        done = writer.done
        time.sleep(1)
    away = len(writer.others) + len(writer.refused)
    print(f"window of {what}: {writer.window(told):.1f} s to its end, {away} requests refused")
    assert writer.done > done
    if what == "minio-media":
        assert writer.others == []
    reader = client(endpoint, known[0])
    there = {one.object_name for one in reader.list_objects(bucket_name=bucket, recursive=True)}
    assert {*names} <= there
    assert not signs_in(endpoint, former)
    assert signs_in(endpoint, Account(account, backed.secrets[what]))
    backed.pandom("health", "--stack", backed.name)


def test_the_context_key(backed: RunningStack) -> None:
    look_again(backed)

    def made() -> object:
        with psycopg.connect(**as_login(backed, "pandom_user")) as operator:
            return operator.execute("select created_at from public.context_key").fetchone()

    before = made()
    rotate(backed, "context-key")
    assert made() != before


@pytest.mark.soak
def test_the_key_of_password_hashes(backed: RunningStack) -> None:
    stack = Stack(backed.name)
    set_values(stack, {"encryptPasswordHash": True})
    backed.pandom("up", "--stack", backed.name)
    look_again(backed)
    email, password = backed.outputs["admin_email"], backed.outputs["admin_password"]

    def sign_in_with(key: str) -> int:
        with psycopg.connect(**as_login(backed, "pandom_app"), autocommit=True) as application:
            try:
                done = application.execute(
                    "select * from public.sign_in(%s, %s, %s)", (email, password, key)
                )
            except psycopg.errors.InvalidParameterValue:
                raise Refused from None
            return done.rowcount

    former = backed.outputs["password_hash_key"]
    assert sign_in_with(former) == 1
    rotate(backed, "password-hash-key")
    now = backed.outputs["password_hash_key"]
    assert now in backed.pandom("env", "--stack", backed.name).stdout
    with pytest.raises(Refused):
        sign_in_with(former)
    assert sign_in_with(now) == 1
    # Killed after the hashes were encrypted and before anybody was told.
    third = "k" * 32
    Pulumi(stack, environment.find().variables).restore(
        with_secrets(backed.exported, {"password-hash-key": third})
    )
    superuser.encrypt_anew(backed.exported, now, third)
    backed.pandom("up", "--stack", backed.name)
    look_again(backed)
    assert sign_in_with(third) == 1
    set_values(stack, {"encryptPasswordHash": False})
    backed.pandom("up", "--stack", backed.name)
    look_again(backed)
    rotate(backed, "password-hash-key")
    assert backed.outputs["password_hash_key"] != third


@contextlib.contextmanager
def clients(stack: RunningStack, authority: Path) -> Iterator[list[Steady]]:
    """Of both servers: one that stays connected, and new ones that trust a file."""
    look_again(stack)
    given = {**as_login(stack, "pandom_user"), "sslrootcert": str(authority)}
    place = replace(store_of(stack.outputs, AUDITOR).endpoint, ca=authority)
    account = Account(MEDIA.name, stack.outputs["minio_secret_key"])
    opened = psycopg.connect(**given, autocommit=True)
    s3 = client(place, account)

    def connect() -> None:
        psycopg.connect(**given).close()

    def query() -> None:
        opened.execute("select 1")

    def read() -> None:
        next(iter(s3.list_objects(bucket_name=stack.outputs["minio_bucket_name"])), None)

    def request() -> None:
        assert signs_in(place, account)

    steady = [Steady(one) for one in (connect, query, read, request)]
    with contextlib.ExitStack() as together:
        for one in steady:
            together.enter_context(one.working())
        yield steady
    opened.close()


def undisturbed(steady: list[Steady]) -> None:
    assert [one.others for one in steady] == [[]] * len(steady)
    assert all(one.done for one in steady)


def test_certificates_while_clients_work(backed: RunningStack, tmp_path: Path) -> None:
    before, trusted = shown(backed), tmp_path / "ca.crt"
    shutil.copy(paths.ca_certificate(backed.name), trusted)
    minio = docker.from_env().containers.get(backed.container("minio"))
    started = minio.attrs["State"]["StartedAt"]
    with clients(backed, trusted) as steady:
        rotate(backed, "certificates")
    undisturbed(steady)
    after = shown(backed)
    assert all(after[part] != before[part] for part in before)
    assert trusted.read_bytes() == paths.ca_certificate(backed.name).read_bytes()
    minio.reload()
    assert minio.attrs["State"]["StartedAt"] == started
    backed.pandom("up", "--stack", backed.name)
    assert shown(backed) == after


@pytest.mark.soak  # runs of `up`
def test_a_new_authority_while_clients_work(backed: RunningStack, tmp_path: Path) -> None:
    place = paths.ca_certificate(backed.name)
    first, both = tmp_path / "first.crt", tmp_path / "both.crt"
    shutil.copy(place, first)
    with clients(backed, first) as steady:
        assert "again lets it sign" in rotate(backed, "ca").stderr
    undisturbed(steady)
    shutil.copy(place, both)
    assert first.read_text() in both.read_text()
    backed.pandom("up", "--stack", backed.name)
    with clients(backed, both) as steady:
        assert "not trusted any more" in rotate(backed, "ca").stderr
    undisturbed(steady)
    assert place.read_text() in both.read_text()
    assert first.read_text() not in place.read_text()
    for authority in (place, both):
        psycopg.connect(**as_login(backed, "pandom_user") | {"sslrootcert": str(authority)}).close()
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        psycopg.connect(**as_login(backed, "pandom_user") | {"sslrootcert": str(first)})
    backed.pandom("health", "--stack", backed.name)


@pytest.mark.soak  # runs of `up`
def test_the_passphrase_killed_and_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a state folder of its backed: it is of all stacks that are there."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    variables = environment.find().variables
    stacks = [Stack(f"{new_name()}-{letter}") for letter in "ab"]
    value = "a secret of the state"
    sealed = {
        "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270",
        "plaintext": json.dumps(value),
    }
    passphrase.ensure()
    former = tmp_path / "former"
    shutil.copy(paths.passphrase_file(), former)

    def opened(stack: Stack, place: Path | None = None) -> tuple[object, ...]:
        pulumi = Pulumi(stack, variables, place)
        state = State(pulumi.export(secrets=True))
        found = (clear(one.outputs.get("it")) for one in state.of_type(STACK))
        return (*found, *pulumi.secrets().values())

    try:
        for stack in stacks:
            stack.file.write_text("config:\n  pandom-stack:profile: ephemeral\n")
            pulumi = Pulumi(stack, variables)
            pulumi.init()
            pulumi._output("config", "set", "--secret", "appPassword", typed=value)
            document = json.loads(json.dumps(pulumi.export()))
            document["deployment"]["resources"] = [
                {
                    "urn": f"urn:pulumi:{stack.name}::pandom-stack::pulumi:pulumi:Stack::it",
                    "type": STACK,
                    "custom": False,
                    "outputs": {"it": sealed},
                }
            ]
            pulumi.restore(document)
            assert opened(stack) == (value, value)
        pandom = Pandom()
        process = pandom.start("rotate", "passphrase")
        assert process.stdout is not None
        for line in process.stdout:
            if "encrypted with the new passphrase" in line:
                break
        time.sleep(0.5)  # in the middle of the second
        kill(process, stacks[1])
        said = pandom("health", "--stack", stacks[0].name, code=2).stderr
        assert "pandom rotate passphrase" in said
        assert "going on" in pandom("rotate", "passphrase").stderr
        for stack in stacks:
            assert opened(stack) == (value, value)
            with pytest.raises(PulumiFailed):
                opened(stack, former)
        assert not passphrase.coming().exists()
        # One that opens nothing is said before anything is touched.
        paths.passphrase_file().write_bytes(former.read_bytes())
        before = stacks[0].checkpoint.read_bytes()
        assert "does not open" in pandom("rotate", "passphrase", code=2).stderr
        assert stacks[0].checkpoint.read_bytes() == before
    finally:
        for stack in stacks:
            forget(stack)


def test_what_is_refused_touches_nothing(backed: RunningStack) -> None:
    state = Stack(backed.name).checkpoint
    before = state.read_bytes()

    def refused(what: str, code: int, *words: str, name: str = backed.name) -> None:
        said = backed.pandom("rotate", what, "--stack", name, code=code).stderr
        assert all(word in said for word in (*words, "Next:")), said
        assert state.read_bytes() == before

    refused("pandom_nobody", 2, "nothing that can be rotated", "all-logins")
    refused("admin", 2, "ADMIN_PASSWORD is a user's")
    refused("pandom_app", 2, "There is no stack nowhere", name="nowhere")
    with lock.of_stack(Stack(backed.name)):
        refused("pandom_app", 1, "is in use by process", "nothing was touched")
    server = docker.from_env().containers.get(backed.container("postgres"))
    server.stop(timeout=20)
    try:
        refused("pandom_app", 1, "Nothing was touched")
    finally:
        server.start()
    backed.pandom("up", "--stack", backed.name)
