"""TypeORM with node-postgres as pandom_service: the source's client, which sets no context."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pandom import paths
from pandom.database import cluster, migrate
from tests.clients.conftest import environment
from tests.clients.test_session import PAGE, code
from tests.fixtures.databases import ALICE, Database, Factory

SERVICE = "pandom_service"
HERE = Path(__file__).parent / "typeorm"
# The form that most libraries write; the database stores it as $2a$.
HASH = "$2b$12$abcdefghijklmnopqrstuuWq2Cbt2yTfJkk8dWFYQ1n0sVxY8vO6a"

needs_node = pytest.mark.skipif(
    shutil.which("npm") is None,
    reason="Node.js is not here; the product does without it, this client does not",
)


def run(command: list[str], place: Path, variables: dict[str, str]) -> str:
    done = subprocess.run(
        command,
        cwd=place,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def program() -> Path:
    """The compiled client with its packages, kept in the user's cache by its content."""
    files = sorted(path for path in HERE.iterdir() if path.is_file())
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    place = paths.cache_home() / "clients" / f"typeorm-{digest}"
    if not (place / "client.js").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for path in files:
            shutil.copy(path, place)
        install = ("--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--silent")
        run(["npm", "ci", *install], place, {})
        run([str(place / "node_modules" / ".bin" / "tsc")], place, {})
    return place / "client.js"


@pytest.fixture
def served(factory: Factory) -> Iterator[Database]:
    """A migrated database of a server with pandom_service, which most stacks do without."""
    server, opt_in = factory.server, factory.opt_in | {"serviceLogin"}
    with server.connect("postgres", "postgres") as superuser:
        lacking = "serviceLogin" not in factory.opt_in
        if lacking:
            password = secrets.token_hex(16)
            superuser.execute(f"create role {SERVICE} login password '{password}'".encode())
            server = replace(server, passwords={**server.passwords, SERVICE: password})
        try:
            cluster.apply_roles(superuser, opt_in)
            with Factory(server, opt_in).made() as database:
                migrate.upgrade(database.runner())
                migrate.finish(database.runner())
                yield database
        finally:
            if lacking:
                superuser.execute(f"drop role {SERVICE}".encode())


@needs_node
@pytest.mark.requirement("A3", "D1")
def test_typeorm_makes_finds_changes_lists_and_deletes(served: Database, program: Path) -> None:
    output = run(
        ["node", str(program), "new@example.com", HASH],
        program.parent,
        environment(served, SERVICE),
    )
    found = json.loads(output)
    made = found.pop("uuid")
    assert found == {
        "role": "user",
        "verified": True,
        "tags": ["developer", "reader"],
        "metadata": {"theme": "dark"},
        "listed": ["new@example.com"],
        "sessions": 0,
        "left": 0,
        "profiles": 0,
    }
    events = served.rows(
        "select details ->> 'table', event_type, details ->> 'session_user' "
        "from public.audit_logs where details ->> 'subject' = %s order by id",
        made,
    )
    assert events == [("auth_users", event, SERVICE) for event in ("INSERT", "UPDATE", "DELETE")]
    assert HASH[7:] not in str(served.rows("select details from public.audit_logs"))


@needs_node
def test_the_client_shows_what_went_wrong(database: Database, program: Path) -> None:
    wrong = environment(database, "pandom_app")  # no DML, and no context
    done = subprocess.run(
        ["node", str(program), ALICE.email, HASH],
        env={**os.environ, **wrong},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "permission denied" in done.stderr


def test_the_page_shows_the_client() -> None:
    shown = code(PAGE, "TypeORM", "typescript")
    assert shown in (HERE / "client.ts").read_text()


def test_the_lock_names_no_registry() -> None:
    lock = json.loads((HERE / "package-lock.json").read_text())
    packages = [one for name, one in lock["packages"].items() if name]
    assert packages
    assert all("integrity" in one and "resolved" not in one for one in packages)
