"""TypeORM with node-postgres as pandom_service: the source's client, which sets no context."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from pandom.database import cluster, migrate
from tests.clients.conftest import environment
from tests.clients.node import EXAMPLE, HERE, needs_node, run
from tests.clients.page import code
from tests.clients.pooler import pooled
from tests.fixtures.databases import ALICE, Database, Factory

SERVICE = "pandom_service"
# The form that most libraries write; the database stores it as $2a$.
HASH = "$2b$12$abcdefghijklmnopqrstuuWq2Cbt2yTfJkk8dWFYQ1n0sVxY8vO6a"


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
@pytest.mark.parametrize("through", ["direct", "pooler"])
def test_typeorm_makes_finds_changes_lists_and_deletes(
    served: Database, packages: Path, tmp_path: Path, through: str
) -> None:
    with ExitStack() as stack:
        variables = environment(served, SERVICE)
        if through == "pooler":
            variables |= stack.enter_context(pooled(served, tmp_path, SERVICE))
        output = run(["node", "client.js", "new@example.com", HASH], packages, variables)
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
def test_the_client_shows_what_went_wrong(database: Database, packages: Path) -> None:
    wrong = environment(database, "pandom_app")  # no DML, and no context
    said = run(["node", "client.js", ALICE.email, HASH], packages, wrong, code=1)
    assert "permission denied" in said


def test_the_page_shows_the_client() -> None:
    assert code("TypeORM", "typescript") in (HERE / "client.ts").read_text()


@pytest.mark.parametrize("folder", [HERE, EXAMPLE], ids=["clients", "example"])
def test_the_lock_names_no_registry(folder: Path) -> None:
    lock = json.loads((folder / "package-lock.json").read_text())
    packages = [one for name, one in lock["packages"].items() if name]
    assert packages
    assert all("integrity" in one and "resolved" not in one for one in packages)
