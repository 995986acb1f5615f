"""docs/extending.md, done word for word on a copy of the checkout.

The commands of the page are the copy's own. In place of `make up`, which would build
images, the copy's revision is applied to a clone of the template, where the copy then audits.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest

from pandom.runtime.paths import ROOT
from tests.fixtures.databases import ALICE, BOB, Database
from tests.fixtures.server import server_of
from tests.fixtures.stack import Pandom, RunningStack, left_in_docker, new_name, remove

PAGE = ROOT / "docs" / "extending.md"
_PLACE = re.compile(r"(?:#|--) (\S+), (?:new|at its end|under config|at the end of (\w+))\n")
# In the copy: applies what is pending, or takes the newest back.
_MIGRATE = """
import json, sys
from pathlib import Path
from pandom.database import migrate
from pandom.database.connect import Target
given = json.load(sys.stdin)
target = Target(given["host"], given["port"], given["name"], Path(given["ca"]))
runner = migrate.Runner(target, given["password"], frozenset(given["opt_in"]))
if sys.argv[1] == "back":
    migrate.revert(runner, "-1")
else:
    migrate.upgrade(runner)
    migrate.finish(runner)
"""


def blocks(section: str) -> list[tuple[str, str]]:
    """The code blocks of a section of the page: language and text."""
    text = PAGE.read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S)
    assert found, section
    return found


@dataclass
class Copy:
    """A copy of the checkout, and a database at the revision that the checkout has."""

    root: Path
    stack: RunningStack
    database: Database
    said: str = ""

    def edit(self, block: str) -> str:
        """Put a block where its first line says; returns the file."""
        place = _PLACE.match(block)
        assert place, block
        name = place[1].replace("Pulumi.dev.", f"Pulumi.{self.stack.name}.")
        path, text = self.root / name, block[place.end() :]
        if not path.exists():
            path.write_text(text)
            return name
        lines = path.read_text().splitlines(keepends=True)
        end = len(lines)
        if place[2]:
            end = _end_of("".join(lines), place[2])
        elif path.suffix == ".yaml":
            end = lines.index("config:\n") + 1
        elif path.suffix == ".py":
            text = f"\n\n{text}"
        path.write_text("".join([*lines[:end], text, *lines[end:]]))
        return name

    def do(self, line: str) -> None:
        """A command of the page."""
        stack = ("--stack", self.stack.name)
        commands: dict[str, Callable[[], object]] = {
            "make record": lambda: self.run(".venv/bin/pandom", "audit", "record", *stack),
            "make docs": lambda: self.run(".venv/bin/pandom", "docs"),
            "make lint": self.lint,
            "make up": lambda: self.migrate("up"),
            "make audit": self.audit,
        }
        if line in commands:
            commands[line]()
        else:
            matched = re.fullmatch(r'(\.venv/bin/pandom) (migrate generate) "([^"]+)"', line)
            assert matched, line
            self.run(matched[1], *matched[2].split(), matched[3], *stack)

    def run(self, *command: str, said: str | None = None, **more: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(self.root), **more},
            input=said,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{command[:4]}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def lint(self) -> None:
        """What the lint step runs, on what the recipe touched."""
        changed = self.changed()
        python = [one for one in changed if one.endswith(".py")]
        text = [one for one in changed if one.endswith(".sql")]
        for command in (
            ["ruff", "check", *python],
            ["ruff", "format", "--check", *python],
            ["squawk", "--reporter", "gcc", *(one for one in text if "migrations" in one)],
            ["sqruff", "lint", *text],
        ):
            self.run(f".venv/bin/{command[0]}", *command[1:])

    def migrate(self, way: str) -> None:
        given = {
            "host": self.database.server.host,
            "port": self.database.server.port,
            "name": self.database.name,
            "ca": str(self.database.server.ca),
            "password": self.database.server.passwords["pandom_migrator"],
            "opt_in": sorted(self.database.opt_in),
        }
        self.run(".venv/bin/python", "-c", _MIGRATE, way, said=json.dumps(given))

    def audit(self) -> None:
        server = self.database.server
        dsn = re.sub(r"password=\S+ ?", "", server.dsn("pandom_auditor", self.database.name))
        said = self.run(
            *(".venv/bin/pandom", "audit", "--dsn", dsn),
            *("--opt-in", ",".join(self.database.opt_in)),
            PGPASSWORD=server.passwords["pandom_auditor"],
        )
        print(said)

    def changed(self) -> list[str]:
        """The files that differ from the checkout's, or are new."""
        mine = {str(one.relative_to(self.root)) for one in self.root.rglob("*") if one.is_file()}
        return sorted(
            name
            for name in mine
            if not name.startswith(".") and "__pycache__" not in name
            if not (ROOT / name).exists()
            or (ROOT / name).read_bytes() != (self.root / name).read_bytes()
        )

    def follow(self, section: str) -> set[str]:
        """Do what a section says; returns the files that a person edited."""
        edited = set()
        for language, text in blocks(section):
            if language != "sh":
                edited.add(self.edit(text))
                continue
            for line in text.splitlines():
                self.do(line)
        return edited


def _end_of(text: str, name: str) -> int:
    """The line after the last column of a model, or before the end of a tuple's entries."""
    (node,) = [
        one
        for one in ast.parse(text).body
        if name in (getattr(one, "name", None), getattr(getattr(one, "target", None), "id", None))
    ]
    if isinstance(node, ast.ClassDef):
        columns = [one for one in node.body if "mapped_column" in ast.dump(one)]
        return int(columns[-1].end_lineno or 0)
    tuples = [one for one in ast.walk(node) if isinstance(one, ast.Tuple)]
    last = max(tuples, key=lambda one: (one.end_lineno or 0, -one.lineno))
    return int(last.end_lineno or 0) - 1


@contextmanager
def _copy(root: Path, stack: RunningStack, database: Database) -> Iterator[Copy]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in {*filter(None, listed.split("\0")), f"stacks/Pulumi.{stack.name}.yaml"}:
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    (root / ".venv").symlink_to(ROOT / ".venv")
    yield Copy(root, stack, database)


_GENERATED = re.compile(
    r"schema/sql/.*|schema/catalog\.json|docs/reference/.*|migrations/(sql/\d{4}|versions)/.*"
)


@pytest.mark.requirement("M1", "M2", "P2", "P4", "T7", "C6")
def test_a_table_as_the_page_says(tmp_path: Path, stack: RunningStack, database: Database) -> None:
    with _copy(tmp_path, stack, database) as copy:
        edited = copy.follow("A table")
        changed = copy.changed()
        print(f"{len(edited)} edited, {len(changed)} changed")
        assert len(edited) <= 5
        assert {one for one in changed if not _GENERATED.fullmatch(one)} == edited
        # One list of the columns: each stands in what was edited once.
        (block,) = [text for language, text in blocks("A table") if language == "python"]
        assert [block.count(f" {one}: Mapped") for one in ("title", "pages")] == [1, 1]
        assert block.count("title") == 1
        _documents(database)
        # The copy's own tests, none of which was edited, take the table as it comes.
        copy.run(
            *(".venv/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            "tests/unit/test_declaration.py",
            "tests/unit/test_docs.py::test_the_generated_reference_is_fresh",
            "tests/migrations/test_schema.py",
            "tests/database/test_row_security.py",
            *("-k", "documents or test_declaration or test_docs or test_schema"),
            PANDOM_TEST_STACK=stack.name,
        )
        copy.migrate("back")
        assert database.one("select to_regclass('public.documents') is null")


def _documents(database: Database) -> None:
    """What the table is to be, asked of the database."""
    with database.user(ALICE) as connection:
        connection.execute(
            "insert into public.documents (user_uuid, title) values (%s, 'My secret plan')",
            (ALICE.uuid,),
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute(
                "insert into public.documents (user_uuid, title) values (%s, 'x')", (BOB.uuid,)
            )
        connection.commit()
    mine = "select title from public.documents"
    for person, role, rows in ((ALICE, "app", 1), (BOB, "app", 0), (None, "app", 0)):
        with database.user(person, f"pandom_{role}") as connection:
            assert len(connection.execute(mine.encode()).fetchall()) == rows
    with database.admin() as connection:
        assert connection.execute(mine.encode()).fetchall() == [("My secret plan",)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("delete from public.documents")
    with database.user(BOB) as connection:
        assert connection.execute("delete from public.documents").rowcount == 0
    with database.connect() as connection:
        connection.execute("select set_config('app.current_user_id', %s, true)", (str(ALICE.uuid),))
        connection.execute("update public.documents set title = 'My other plan', pages = 7")
    events = dict(
        database.rows(
            "select event_type, details from public.audit_logs "
            "where details->>'table' = 'documents' order by id"
        )
    )
    number = database.one("select id from public.documents")
    assert events["INSERT"]["new"] == {"id": number, "pages": None}
    assert events["UPDATE"]["subject"] == str(ALICE.uuid)
    assert events["UPDATE"]["id"] == number
    assert events["UPDATE"]["changed"] == {"title": "redacted", "pages": [None, 7]}
    assert "plan" not in json.dumps(events)
    assert database.one("select updated_at > created_at from public.documents")
    # A dump reads every row, and the numbers.
    with database.connect("pandom_user") as connection:
        connection.execute("set row_security = off")
        assert connection.execute(mine.encode()).fetchall() == [("My other plan",)]
        connection.execute("select last_value from public.documents_id_seq")
    assert database.one(
        "select indexdef from pg_indexes where indexname = 'idx_documents_user'"
    ).endswith("(user_uuid)")


@pytest.mark.requirement("M1", "P4")
def test_a_column_as_the_page_says(tmp_path: Path, stack: RunningStack, database: Database) -> None:
    with _copy(tmp_path, stack, database) as copy:
        before = _definition(database)
        edited = copy.follow("A column")
        assert len(edited) <= 3
        assert {one for one in copy.changed() if not _GENERATED.fullmatch(one)} == edited
        with database.connect("pandom_user") as connection:
            connection.execute("update public.sessions set device = 'phone'")
        changed = database.one(
            "select details->'changed' from public.audit_logs order by id desc limit 1"
        )
        assert changed == {"device": [None, "phone"]}
        # Whoever may read the session reads it.
        with database.user(ALICE) as connection:
            rows: list[Any] = connection.execute("select device from public.sessions").fetchall()
            assert rows == [("phone",)]
        copy.migrate("back")
        assert _definition(database) == before


@pytest.mark.requirement("M1", "A3")
def test_a_function_and_a_view_as_the_page_says(
    tmp_path: Path, stack: RunningStack, database: Database
) -> None:
    with _copy(tmp_path, stack, database) as copy:
        edited = copy.follow("A function") | copy.follow("A view")
        assert edited == {
            "schema/access.py",
            "schema/sql/functions/own_session_count.sql",
            "schema/sql/views/own_sessions.sql",
        }
        assert {one for one in copy.changed() if not _GENERATED.fullmatch(one)} == {
            "schema/access.py"
        }
        with database.user(ALICE) as connection:
            (mine,) = connection.execute("select public.own_session_count()").fetchone() or (0,)
            seen = connection.execute("select user_uuid from public.own_sessions").fetchall()
        assert mine == len(seen) > 0
        assert set(seen) == {(ALICE.uuid,)}
        with database.connect("pandom_mailer") as connection:
            for refused in ("select public.own_session_count()", "table public.own_sessions"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                    connection.execute(refused.encode())
        copy.migrate("back")
        assert database.one("select to_regprocedure('public.own_session_count()') is null")
        assert database.one("select to_regclass('public.own_sessions') is null")


class Running(Copy):
    """A copy with a stack of its own: its commands are the real ones."""

    def do(self, line: str) -> None:
        """A command of the page."""
        matched = re.fullmatch(r"make (\w+)(?: ROLE=(\w+))?", line)
        assert matched, line
        stack = () if matched[1] == "docs" else ("--stack", self.stack.name)
        role = ("--role", matched[2]) if matched[2] else ()
        self.said = self.stack.pandom(matched[1], *stack, *role).stdout


@pytest.mark.soak  # builds images and brings a stack up several times
@pytest.mark.requirement("A1", "A3", "B1")
def test_a_role_a_setting_and_a_bucket_rule_as_the_page_says(tmp_path: Path) -> None:
    stack = RunningStack(new_name(), Pandom(root=tmp_path, forks=False))
    with _copy(tmp_path, stack, cast(Database, None)) as made:
        copy = Running(made.root, stack, made.database)
        shutil.copytree(ROOT / "app_image/artifacts", tmp_path / "app_image/artifacts")
        try:
            stack.pandom("up", "--stack", stack.name)
            assert copy.follow("A role") == {"schema/access.py"}
            given = dict(line.split("=", 1) for line in copy.said.splitlines() if "=" in line)
            with psycopg.connect(
                host=given["DB_HOST"],
                port=int(given["DB_PORT"]),
                user="pandom_reporter",
                password=given["DB_PASSWORD"].strip("'"),
                dbname=given["DB_DATABASE"],
                sslmode="verify-full",
                sslrootcert=given["DB_SSLROOTCERT"].strip("'"),
            ) as connection:
                connection.execute("select public.current_user_id()")
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute("select uuid from public.auth_users")
            copy.follow("A setting of the server")
            assert server_of(stack).connect("postgres").execute("show work_mem").fetchall() == [
                ("16MB",)
            ]
            assert copy.follow("A rule of a bucket") == {"schema/storage.py"}
        finally:
            remove(stack.name, stack.pandom)
            assert left_in_docker(stack.name) == []


def _definition(database: Database) -> str:
    return str(database.one("select pg_get_functiondef('public.audit_sessions()'::regprocedure)"))
