"""Up, no change, broken by hand, detected, healed, gone. One stack, in this order."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import psycopg
import pytest

from pandom.database import migrate
from pandom.host.pulumi_cli import Pulumi
from pandom.host.stack import Stack, set_values, settings
from pandom.host.state import State
from pandom.runtime import paths
from pandom.runtime.naming import LABEL_STACK
from tests.fixtures import leaks
from tests.fixtures.keys import in_volumes, shown
from tests.fixtures.server import server_of
from tests.fixtures.stack import Pandom, RunningStack, left_in_docker, running
from toolchain import environment

pytestmark = pytest.mark.requirement("B1")


@pytest.fixture(scope="module")
def own() -> Iterator[RunningStack]:
    """A stack that is up, with the login that can be switched off."""
    with running(settings={"serviceLogin": True}) as made:
        leaks.watch(made.secrets.values())
        yield made


def pulumi(stack: RunningStack) -> Pulumi:
    return Pulumi(Stack(stack.name), environment.find().variables)


def urn(stack: RunningStack, ending: str) -> str:
    state = State(pulumi(stack).export())
    return next(one.urn for one in state.resources if one.urn.endswith(f"::{ending}"))


def as_role(stack: RunningStack, role: str, *statements: str) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    with server_of(stack).connect(role) as client:
        for statement in statements:
            cursor = client.execute(statement)
            rows = cursor.fetchall() if cursor.description else []
    return rows


def as_superuser(stack: RunningStack, *statements: str) -> list[tuple[object, ...]]:
    return as_role(stack, "postgres", *statements)


def preview(stack: RunningStack, code: int) -> None:
    stack.pandom("preview", "--stack", stack.name, "--expect-no-changes", code=code)


def audit(stack: RunningStack) -> None:
    stack.pandom("audit", "--stack", stack.name, "--store", "--host")


def test_up_again_changes_nothing_and_says_so(own: RunningStack) -> None:
    started = time.monotonic()
    done = own.pandom("up", "--stack", own.name)
    assert "nothing changed" in done.stderr
    assert "Pulumi: nothing to do" in done.stderr
    assert done.stdout == ""
    print(f"no-change up: {time.monotonic() - started:.1f} s")
    preview(own, 0)


@pytest.mark.requirement("B2")
def test_what_is_changed_in_the_server_is_seen_and_healed(own: RunningStack) -> None:
    as_superuser(
        own,
        "alter role pandom_app bypassrls connection limit 7",
        "revoke usage on schema public from pandom_auditor",
        "grant create on schema public to pandom_app",
        "revoke pandom_owner from pandom_user",
        "alter role pandom_migrator password 'changed by hand'",
        "update public.account_settings set lock_limit = '9 h'",
        "update public.context_key set enforced = not enforced",
        "update public.trail_retention set months = 1",
    )
    preview(own, 2)
    # What PostgreSQL lets any role do to itself; the provider sees the one never and
    # fails on the other.
    as_role(own, "pandom_mailer", "alter role pandom_mailer password 'chosen by itself'")
    as_role(own, "pandom_app", "alter role pandom_app set statement_timeout = '5min'")
    as_role(own, "pandom_app", "alter role pandom_app set search_path = pg_catalog")
    # What Pulumi does not look at, or would stop at; and what only a person may decide.
    as_superuser(
        own,
        "alter schema public owner to pandom_owner",
        "grant pandom_admin to pandom_app with admin true",
        "grant pandom_trail to pandom_user with admin true",
        "grant pandom_trail to pandom_app granted by pandom_user",
        "grant connect on database template1 to public",
        "grant execute on function pg_catalog.lo_creat(integer) to public",
        "alter table public.sessions disable row level security",
        "create table public.copy (secret text)",
        "alter role all set datestyle = 'German'",
        "alter role postgres set role = pandom_app",
        "alter database pandom_db set default_transaction_read_only = on",
        "alter database pandom_db connection limit 0",
    )
    client = docker.from_env()
    settings = "/var/lib/postgresql/17/data/postgresql.auto.conf"
    server = client.containers.get(own.container("postgres"))
    server.exec_run(["sh", "-c", f"echo \"log_statement = 'all'\" >> {settings}; kill -HUP 1"])
    tasks = client.containers.get(own.container("operations"))
    memory = tasks.attrs["HostConfig"]["Memory"]
    tasks.update(mem_limit=2 * memory, memswap_limit=2 * memory)
    said = own.pandom("up", "--stack", own.name, code=2).stderr
    assert "nothing changed" not in said
    assert as_superuser(
        own,
        "select s.lock_limit::text, k.enforced, (select min(r.months) from public.trail_retention"
        " as r) from public.account_settings as s, public.context_key as k",
    ) == [("00:15:00", False, 24)]
    assert "set passwords that were changed by hand: pandom_mailer, pandom_migrator" in said
    assert "healed: database pandom_db: connections were refused or limited" in said
    assert "healed: schema public: an object has another owner" in said
    # One finding is left, with what to type; nothing of what was healed is among them.
    assert re.findall(r"^    (\S+:.*)$", said, re.MULTILINE) == ["owner-extra:table public.copy"]
    assert max(map(len, said.splitlines())) <= 100
    typed = re.search(r"`\.venv/bin/pandom (audit --stack .* heal '.*')`", said)
    assert typed is not None
    own.pandom(*shlex.split(typed[1]))
    audit(own)
    assert as_role(own, "pandom_migrator", "select current_user") == [("pandom_migrator",)]
    assert as_superuser(
        own,
        "select rolbypassrls, rolconnlimit, array_to_string(rolconfig, ' ') ~ '5min|search_path'"
        " from pg_catalog.pg_roles where rolname = 'pandom_app'",
    ) == [(False, 100, False)]
    assert as_superuser(
        own,
        "select has_schema_privilege('pandom_auditor', 'public', 'usage'),"
        " has_schema_privilege('pandom_app', 'public', 'create'),"
        " pg_has_role('pandom_user', 'pandom_owner', 'usage')",
    ) == [(True, False, True)]


@pytest.mark.requirement("A3")
def test_a_login_that_is_switched_off_goes_with_its_rights(own: RunningStack) -> None:
    """What it may do in a database that was kept aside must not stop PostgreSQL, either."""
    as_role(own, "pandom_service", "select count(*) from public.auth_users")
    as_superuser(
        own,
        "create database kept_aside",
        "grant connect on database kept_aside to pandom_service",
    )
    with server_of(own).connect("postgres", "kept_aside") as aside:
        aside.execute("create table t (i int)")
        aside.execute("grant select on t to pandom_service")
        aside.execute("create policy service on t to pandom_service using (true)")
    changed: dict[str, bool | int | str] = {
        "serviceLogin": False,
        "encryptPasswordHash": True,
        "adminEmail": "chief@example.com",
        "bcryptCost": 5,
    }
    set_values(Stack(own.name), changed)
    own.pandom("up", "--stack", own.name)
    assert as_superuser(
        own,
        "select (select count(*) from pg_roles where rolname = 'pandom_service'),"
        " (select count(*) from pg_policies where policyname = 'service'),"
        " (select count(*) from pg_class where relacl::text ~ 'service')",
    ) == [(0, 0, 0)]
    as_superuser(own, "drop database kept_aside")
    # The other settings came with it: one administrator, renamed, whom clients can sign in.
    env = own.pandom("env", "--stack", own.name)
    assert "ADMIN_PASSWORD" not in env.stderr
    values = dict(line.split("=", 1) for line in env.stdout.splitlines())
    assert as_superuser(own, "select email from public.auth_users where role = 'admin'") == [
        ("chief@example.com",)
    ]
    names = ("ADMIN_EMAIL", "ADMIN_PASSWORD", "PASSWORD_HASH_KEY")
    with server_of(own).connect("pandom_app") as client:
        row = client.execute(
            "select count(*) from public.sign_in(%s, %s, %s)", [values[name] for name in names]
        ).fetchone()
    assert row == (1,)
    as_superuser(own, "update public.auth_users set is_active = false where role = 'admin'")
    env = own.pandom("env", "--stack", own.name)
    assert "ADMIN_PASSWORD=" not in env.stdout
    assert "chief@example.com is deactivated" in env.stderr


def test_all_that_is_broken_at_once_comes_back(own: RunningStack) -> None:
    """A stopped and a removed server, no CA, a folder in a file's place, a damaged secret, no
    ca.crt, and ports that are swapped: one `up`."""
    before, authority = shown(own), paths.ca_certificate(own.name)
    old = authority.read_text()
    # With the service login that the last test took away, to save an `up`.
    set_values(Stack(own.name), {"serviceLogin": True})
    client = docker.from_env()
    client.containers.get(own.container("postgres")).stop(timeout=20)
    client.containers.get(own.container("minio")).remove(force=True)
    in_volumes(
        own,
        "rm /keys/ca/ca.pem; rm /keys/janitor/*; mkdir /keys/janitor/ca.crt;"
        " echo wrong > /keys/superuser/postgres_password; chmod 644 /keys/minio/root_password",
    )
    authority.unlink()
    own.pandom("health", "--stack", own.name, code=1)
    ports = settings(Stack(own.name)).ports
    set_values(Stack(own.name), {"postgresPort": ports["minio"], "minioPort": ports["postgres"]})
    said = own.pandom("up", "--stack", own.name).stderr
    own.look_again()
    assert said.count("the CA changed: clients need the new certificate") == 1
    assert authority.read_text() != old
    assert not set(shown(own).values()) & set(before.values())
    # Its password is a new one: what the fixture read is the old one's.
    as_role(RunningStack(own.name), "pandom_service", "select count(*) from public.auth_users")


def test_a_bucket_that_is_renamed_is_refused_by_up_and_preview(own: RunningStack) -> None:
    file = Stack(own.name).file
    text, there = file.read_text(), left_in_docker(own.name)
    try:
        file.write_text(text.replace("config:", "config:\n  pandom-stack:bucket: other", 1))
        for command in ("up", "preview"):
            said = own.pandom(command, "--stack", own.name, code=2).stderr
            assert "nothing was touched" in said
            assert "pandom-stack:bucket: expected pandom-media" in said
    finally:
        file.write_text(text)
    assert left_in_docker(own.name) == there


def test_what_a_killed_run_leaves_behind_is_cleared_away(own: RunningStack) -> None:
    """A name conflict, "role already exists" and a lock, put there as a kill leaves them."""
    cli = pulumi(own)
    for ending in ("operations-container", "pandom-mailer"):
        cli._output("state", "delete", urn(own, ending), "--force", "--yes", "--target-dependents")
    folder = paths.backend() / ".pulumi/locks/organization/pandom-stack" / own.name
    folder.mkdir(parents=True, exist_ok=True)
    lock = {"pid": 4194304, "username": "x", "hostname": socket.gethostname()}
    (folder / "dead.json").write_text(json.dumps(lock))
    said = own.pandom("up", "--stack", own.name).stderr
    assert "removed container" in said
    assert "adopting what an interrupted run left: pandom_mailer" in said
    assert "removed the Pulumi lock of process 4194304" in said
    with psycopg.connect(server_of(own).dsn("pandom_mailer")):
        pass


def test_a_lock_of_another_host_is_respected(own: RunningStack) -> None:
    folder = paths.backend() / ".pulumi/locks/organization/pandom-stack" / own.name
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "far.json"
    place.write_text(json.dumps({"pid": 1, "username": "x", "hostname": "elsewhere"}))
    said = own.pandom("up", "--stack", own.name, code=1).stderr
    assert "process 1 on elsewhere" in said
    assert "Next:" in said
    place.unlink()


@pytest.fixture(scope="module")
def second_clone(tmp_path_factory: pytest.TempPathFactory) -> Pandom:
    """What another clone of the same commit would be, with the same tools."""
    place = tmp_path_factory.mktemp("clone") / "pandom-stack"
    ignore = shutil.ignore_patterns(
        ".git", ".venv", "Pulumi.*.yaml", "__pycache__", ".*_cache", "artifacts"
    )
    shutil.copytree(paths.ROOT, place, ignore=ignore)
    (place / ".venv").symlink_to((paths.ROOT / ".venv").resolve())
    (place / "stacks" / "Pulumi.yaml").unlink(missing_ok=True)
    shutil.copy(paths.ROOT / "Pulumi.yaml", place)
    shutil.copytree(paths.ROOT / "app_image/artifacts", place / "app_image/artifacts")
    return Pandom(root=place)


def test_a_second_clone_sees_the_same_stack(own: RunningStack, second_clone: Pandom) -> None:
    said = second_clone("up", "--stack", own.name).stderr
    assert "restored from the last run" in said
    assert "nothing changed" in said


@pytest.mark.requirement("M1")
def test_the_four_migration_commands(own: RunningStack, second_clone: Pandom) -> None:
    stack = ["--stack", own.name]
    before = own.pandom("migrate", "show", *stack).stdout
    assert "[ ]" not in before
    # The way back beyond 0008 drops a value: that is counted, and wants the stack's name.
    said = own.pandom("migrate", "revert", "0007", *stack, code=2).stderr
    assert f"CONFIRM={own.name}" in said
    assert own.pandom("migrate", "show", *stack).stdout == before
    own.pandom("migrate", "revert", *stack)
    assert own.pandom("migrate", "show", *stack).stdout.splitlines()[0].startswith("[ ]")
    assert "head" in own.pandom("health", *stack, code=1).stderr
    # Nothing else is pending, and still this is a change.
    newest = f"{migrate.head()} "
    said = own.pandom("preview", "--expect-no-changes", *stack, code=2).stderr
    assert f"\n  {newest}" in said
    assert "will be applied" in said
    assert "no changes" not in said
    folder = second_clone.root / "migrations"
    there = {path for path in folder.rglob("*") if "__pycache__" not in path.parts}
    said = second_clone("migrate", "generate", "early", *stack, code=2).stderr
    assert f"a draft would repeat {newest}" in said
    left = {path for path in folder.rglob("*") if "__pycache__" not in path.parts}
    assert left == there, "a refused command wrote something"
    own.pandom("migrate", "run", *stack)
    assert own.pandom("migrate", "show", *stack).stdout == before

    said = second_clone("migrate", "generate", "nothing", *stack, code=2).stderr
    assert "nothing to generate" in said
    as_superuser(own, "alter table public.user_profiles add column extra text")
    made = second_clone("migrate", "generate", "drop extra", *stack).stdout.split()
    as_superuser(own, "alter table public.user_profiles drop column extra")
    texts = {Path(path).name: (second_clone.root / path).read_text() for path in made}
    assert "drop column extra" in texts["up.sql"].lower()
    assert "add column extra text" in texts["down.sql"].lower()
    assert len(texts) == 3
    for path in made:
        (second_clone.root / path).unlink()
    (second_clone.root / made[0]).parent.rmdir()


@pytest.mark.requirement("M1", "M2")
def test_a_folder_that_does_not_fit_is_refused_before_anything_is_touched(
    own: RunningStack, second_clone: Pandom
) -> None:
    stack = ["--stack", own.name]
    before = left_in_docker(own.name)
    folder, head = second_clone.root / "migrations", migrate.head()
    (revision,) = (folder / "versions").glob(f"{head}_*.py")
    text = next(iter(sorted((folder / "sql" / head).glob("*.sql"))))

    stray = revision.with_name("stray.py")
    stray.write_text("x = (")
    for command in (["up"], ["preview"], ["migrate", "show"], ["migrate", "generate", "x"]):
        assert "versions/stray.py: expected" in second_clone(*command, *stack, code=2).stderr
    stray.unlink()

    good = text.read_text()
    text.write_text(f"{good}-- completed\n")
    for command in (["up"], ["migrate", "run"]):
        said = second_clone(*command, *stack, code=2).stderr
        assert f"{head} was applied with other text" in said
    assert f"[!] {head}" in second_clone("migrate", "show", *stack, code=2).stdout
    text.write_text(good)

    code = revision.read_text()
    revision.unlink()
    (folder / "sql" / head).rename(second_clone.root / "away")
    said = second_clone("up", *stack, code=2).stderr
    assert f"The database is at revision {head}, which this checkout does not have" in said
    (second_clone.root / "away").rename(folder / "sql" / head)
    revision.write_text(code)
    assert left_in_docker(own.name) == before


def test_an_image_that_cannot_be_built(own: RunningStack, second_clone: Pandom) -> None:
    dockerfile = second_clone.root / "app_image" / "minio" / "Dockerfile"
    good = dockerfile.read_text()
    dockerfile.write_text(good.replace("from pandom-base:trixie", "from pandom-base:no-such"))
    said = second_clone("up", "--stack", own.name, code=1).stderr
    dockerfile.write_text(good)
    assert "minio-image: " in said
    assert "Cause: An image is missing or cannot be built." in said
    assert "Traceback" not in said


def prune(stack: RunningStack, part: str) -> None:
    """Remove the image of a part by hand, with all containers that hold it."""
    client = docker.from_env()
    image = client.containers.get(stack.container(part)).image.id
    ours = {"ancestor": image, "label": f"{LABEL_STACK}={stack.name}"}
    for one in client.containers.list(all=True, filters=ours):
        one.remove(force=True)
    client.images.remove(image, force=True)
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get(image)


@pytest.mark.requirement("B2", "M4")
@pytest.mark.parametrize("rounds", [2, pytest.param(3, marks=pytest.mark.soak)])
def test_red_stays_red_until_the_revision_is_mended(
    own: RunningStack, second_clone: Pandom, rounds: int
) -> None:
    versions = second_clone.root / "migrations" / "versions"
    last = max(path.name.split("_")[0] for path in versions.glob("[0-9]*.py"))
    broken = versions / f"{int(last) + 1:04}_broken.py"
    # The stack's name makes the image its own: another run on this machine has none of it.
    broken.write_text(
        f'"""Broken on purpose for {own.name}.\n\nLocks: none.\nRollback: none.\n"""\n\n'
        "from pandom.database.frozen import run\n\n"
        f'revision = "{int(last) + 1:04}"\ndown_revision = "{last}"\n'
        "branch_labels = None\ndepends_on = None\n\n\n"
        'def upgrade() -> None:\n    run(revision, "broken")\n\n\n'
        'def downgrade() -> None:\n    run(revision, "down")\n'
    )
    texts = second_clone.root / "migrations" / "sql" / f"{int(last) + 1:04}"
    texts.mkdir()
    (texts / "broken.sql").write_text("select public.no_such_function();\n")
    (texts / "down.sql").write_text("select 1;\n")
    for number in range(rounds):
        if number == 2:
            prune(own, "migration")
        said = second_clone("up", "--stack", own.name, code=1).stderr
        assert "migration job failed" in said
        assert "no_such_function" in said
        assert "Next:" in said
        assert "Traceback" not in said
        assert len(said.splitlines()) < 60
    broken.unlink()
    shutil.rmtree(texts)
    second_clone("up", "--stack", own.name)


def test_a_protected_stack_is_not_touched_without_confirmation(own: RunningStack) -> None:
    pulumi(own)._output("state", "protect", urn(own, "data-volume"), "--yes")
    before = left_in_docker(own.name)
    said = own.pandom("down", "--stack", own.name, code=2).stderr
    assert f"CONFIRM={own.name}" in said
    Pandom(variables={"CONFIRM": "another"})("down", "--stack", own.name, code=2)
    assert left_in_docker(own.name) == before


def test_down_leaves_nothing_although_the_server_is_gone(own: RunningStack) -> None:
    client = docker.from_env()
    client.containers.get(own.container("postgres")).remove(force=True)
    client.containers.get(own.container("minio")).stop(timeout=20)
    Pandom(variables={"CONFIRM": own.name})("down", "--stack", own.name)
    assert left_in_docker(own.name) == []
    assert list(paths.state_home().rglob(f"*{own.name}*")) == []
    assert not Stack(own.name).file.exists()
    own.pandom("down", "--stack", own.name)
