"""node-postgres as the page shows it: each transaction is somebody's and leaves nothing."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import environment
from tests.clients.node import module, needs_node
from tests.clients.page import code
from tests.clients.pooler import pooled
from tests.fixtures.databases import ALICE, BOB, Database

# Runs after the page's code; SAID is what it prints.
PROGRAM = """
const [alice, bob] = JSON.parse(process.env.TOKENS);
const email = async (client) =>
  (await client.query("select email from public.auth_users")).rows.map((row) => row.email);
const refused = (work) => work.then(() => "not refused", (error) => error.message);
const said = {};

const many = Array.from({ length: 200 }, (_, number) => [alice, bob][number % 2]);
said.many = await Promise.all(many.map((token, number) =>
  transaction(token, async (client) => {
    const { rows } = await client.query(`select ${number} + $1::int as sum`, [number % 3]);
    return [rows[0].sum, ...(await email(client))];
  })));
said.unknown = await refused(transaction("unknown", email));
said.caught = await refused(
  transaction(alice, (client) => client.query("select 1 / 0").catch(() => null)));
said.ended = await refused(transaction(alice, (client) => client.query("commit")));
await transaction(alice, async (client) => {
  await client.query("set search_path = pg_catalog; set statement_timeout = '1h'; listen news");
  await client.query("select pg_advisory_lock(7)");
});
said.left = [];
for (let number = 0; number < 20; number++)
  said.left.push(await transaction(bob, async (client) => (await client.query(`select
    (select count(*) from pg_settings where source = 'session'
      and name in ('search_path', 'statement_timeout'))
    + (select count(*) from pg_listening_channels())
    + (select count(*) from pg_locks where locktype = 'advisory') as count`)).rows[0].count));
console.log(JSON.stringify(said));
await pool.end();
"""


@needs_node
@pytest.mark.requirement("D1", "P2")
@pytest.mark.parametrize("through", ["direct", "pooler"])
def test_node_postgres_as_the_page_shows_it(
    database: Database, packages: Path, tmp_path: Path, through: str
) -> None:
    with database.owner("pandom_definer") as connection:
        connection.execute("update public.context_key set enforced = true")
    with ExitStack() as stack:
        variables = environment(database)
        if through == "pooler":
            changes = {"default_pool_size": 3, "server_reset_query_always": 0}
            variables |= stack.enter_context(pooled(database, tmp_path, changes=changes))
        variables["TOKENS"] = json.dumps([ALICE.token, BOB.token])
        text = code("node-postgres", "javascript") + PROGRAM
        said: dict[str, Any] = json.loads(module(text, packages, variables))
    people = (ALICE, BOB)
    assert said["many"] == [[n + n % 3, people[n % 2].email] for n in range(200)]
    assert "sign in again" in said["unknown"]
    assert "aborted" in said["caught"]
    assert "ended by its work" in said["ended"]
    assert said["left"] == ["0"] * 20
