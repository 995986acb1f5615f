"""Behind PgBouncer in transaction mode everybody gets their own answers."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from clients.python.session import Database as Client
from clients.python.session import Whose
from schema.models import User, UserProfile
from tests.clients.pooler import pooled
from tests.fixtures.databases import ALICE, BOB, ROOT, Database, Person

PEOPLE = (ALICE, BOB, ROOT)
# Fewer connections to the server than threads, so that each is handed from one to another,
# and no help of the pooler with prepared statements or with what a session holds.
POOL = {"default_pool_size": 3, "max_prepared_statements": 0, "server_reset_query_always": 0}
THREADS = 8


def answers(client: Client, number: int, **whose: Any) -> list[str]:
    """One transaction of some kind; what was wrong in it."""
    person: Person = PEOPLE[number % len(PEOPLE)]
    mine: Whose = {"token": person.token} if whose["signed"] else {"user": person.uuid}
    kind = number % 7
    with client.transaction(**mine) as session:
        emails = session.scalars(select(User.email)).all()
        wrong = [f"{person.email} saw {emails}"] if emails != [person.email] else []
        if kind == 0:
            found: Any = session.scalar(text(f"select {number} + :n"), {"n": 1})
            expected: Any = number + 1
        elif kind == 1:
            found, expected = session.scalar(text("select cast(:n as text)"), {"n": "é"}), "é"
        elif kind == 2:
            tags = session.scalars(select(UserProfile.tags)).one()
            found, expected = tags[:2], ["developer", person.name]
        elif kind == 3:
            profile = session.scalars(select(UserProfile)).one()
            profile.details = {"number": number}
            session.flush()
            found = session.scalar(text("select metadata ->> 'number' from user_profiles"))
            expected = str(number)
        elif kind == 4:
            with pytest.raises(DBAPIError), session.begin_nested():
                session.execute(text("select 1 / :n"), {"n": 0})
            found, expected = session.scalar(select(User.uuid)), person.uuid
        elif kind == 5:
            session.commit()
            found, expected = session.scalar(select(User.uuid)), person.uuid
        else:
            rows = session.execute(text("select n, n * 2 from generate_series(1, 40) n")).all()
            found, expected = [tuple(row) for row in rows], [(n, n * 2) for n in range(1, 41)]
    return wrong if found == expected else [*wrong, f"{kind}: {found!r} for {expected!r}"]


def interleaved(client: Client, count: int, signed: bool) -> list[str]:
    """Wrong answers and errors of so many transactions in threads."""

    def one(number: int) -> list[str]:
        try:
            return answers(client, number, signed=signed)
        except Exception as error:  # noqa: BLE001 - counted, whatever it is
            return [f"{type(error).__name__}: {error}"]

    with ThreadPoolExecutor(THREADS) as threads:
        return [said for each in threads.map(one, range(count)) for said in each]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pooler")


@pytest.fixture(params=[False, True], ids=["plain", "signed"])
def signed(request: pytest.FixtureRequest, client: Database) -> bool:
    with client.owner("pandom_definer") as connection:
        connection.execute("update public.context_key set enforced = %s", (request.param,))
    return bool(request.param)


@pytest.mark.parametrize(
    "count", [200, pytest.param(10_000, marks=pytest.mark.soak)], ids=["200", "10000"]
)
@pytest.mark.requirement("D1", "P2")
def test_interleaved_transactions_get_their_own_answers(
    client: Database, folder: Path, signed: bool, count: int
) -> None:
    with (
        pooled(client, folder, changes=POOL) as place,
        Client({**os.environ, **place}) as application,
    ):
        assert interleaved(application, count, signed) == []


def prepared(place: Mapping[str, str]) -> None:
    """End with 1 if any answer is wrong."""
    with Client({**os.environ, **place}, prepare_threshold=0) as application:
        os._exit(1 if interleaved(application, 60, signed=False) else 0)


def test_control_prepared_statements_get_the_answers_of_others(
    client: Database, folder: Path
) -> None:
    """In a process of its own: an answer of another shape than was asked for may end it."""
    with pooled(client, folder, changes=POOL) as place:
        child = multiprocessing.get_context("fork").Process(target=prepared, args=(place,))
        child.start()
        child.join(60)
        assert child.exitcode in (1, -signal.SIGSEGV)
