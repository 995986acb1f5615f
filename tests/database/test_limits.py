"""Nobody exhausts the server or the trail: sizes, rates, memory, and equal work."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from statistics import quantiles
from typing import LiteralString

import psycopg
import psycopg.errors
import pytest

from pandom.audit import trail
from pandom.database import holders, janitor, migrate, seed
from pandom.database.drift import catalog
from pandom.runtime.errors import Failure
from pandom.runtime.paths import ROOT
from schema import limits
from tests.fixtures.databases import ALICE, BOB, PASSWORD, Database, set_user

REFUSED = psycopg.errors.ConfigurationLimitExceeded
NEW = "another good password"


# -- sizes ---------------------------------------------------------------------------
@pytest.mark.requirement("P5", "T2", "T4")
@pytest.mark.parametrize(
    ("statement", "largest", "constraint"),
    [
        (
            "update public.user_profiles set metadata = jsonb_build_object('a', repeat('x', %s))",
            limits.METADATA_BYTES - len('{"a": ""}'),
            "ck_user_profiles_metadata_size",
        ),
        (
            "update public.user_profiles set tags = array_fill('x'::text, array[%s])",
            limits.TAGS,
            "ck_user_profiles_tags",
        ),
        (
            "update public.user_profiles set tags = array[repeat('x', %s)]",
            limits.TAGS_BYTES,
            "ck_user_profiles_tags",
        ),
        (
            "update public.sessions set user_agent = repeat('x', %s)",
            limits.USER_AGENT_CHARACTERS,
            "ck_sessions_user_agent",
        ),
        (
            "update public.auth_users set password_hash = '*', "
            "password_hash_encrypted = convert_to(repeat('x', %s), 'UTF8')",
            limits.ENCRYPTED_HASH_BYTES,
            "ck_auth_users_password_hash_encrypted",
        ),
    ],
)
def test_a_value_has_a_limit(
    shared: Database, statement: LiteralString, largest: int, constraint: str
) -> None:
    with shared.connect("pandom_user") as connection:
        connection.execute(statement, (largest,))
        connection.rollback()
        with pytest.raises(psycopg.errors.CheckViolation) as raised:
            connection.execute(statement, (largest + 1,))
        assert raised.value.diag.constraint_name == constraint
        connection.rollback()


@pytest.mark.requirement("P5")
@pytest.mark.parametrize("log", ["audit_logs", "security_logs"])
def test_an_event_has_a_limit(shared: Database, log: str) -> None:
    for values in (
        f"jsonb_build_object('a', repeat('x', {limits.EVENT_BYTES})), null",
        f"'{{}}', repeat('x', {limits.USER_AGENT_BYTES + 1})",
    ):
        with shared.owner("pandom_trail") as connection:
            with pytest.raises(psycopg.errors.CheckViolation) as raised:
                connection.execute(
                    f"insert into public.{log} (event_type, details, user_agent) "
                    f"values ('x', {values})".encode()
                )
            assert raised.value.diag.constraint_name == f"ck_{log}_details"
            connection.rollback()


@pytest.mark.requirement("P3", "T2")
@pytest.mark.parametrize(
    ("tags", "metadata", "said"),
    [
        ("{}", '{"a": "' + "x" * limits.METADATA_BYTES + '"}', "at most 65536 bytes"),
        ("{" + "x," * limits.TAGS + "x}", "{}", "At most 100 tags"),
    ],
)
def test_a_registration_that_is_too_large_says_what_the_limit_is(
    shared: Database, tags: str, metadata: str, said: str
) -> None:
    with shared.user() as connection:
        with pytest.raises(psycopg.errors.ProgramLimitExceeded) as raised:
            connection.execute(
                "select public.register('large@example.com', %s, %s::text[], %s::jsonb)",
                (NEW, tags, metadata),
            )
        assert said in (raised.value.diag.message_primary or "")
        assert raised.value.diag.message_detail is None
        connection.rollback()


@pytest.mark.requirement("P5")
def test_functions_shorten_at_the_declared_sizes() -> None:
    folder = ROOT / "schema" / "sql" / "functions"
    for name, numbers in {
        "event_value": (limits.METADATA_BYTES,),
        "record_event": (limits.RECORDED_BYTES,),
        "client_agent": (limits.USER_AGENT_CHARACTERS,),
        "limit_details": (limits.EVENT_BYTES, limits.USER_AGENT_BYTES),
        "seal_trail": (limits.BLOCK_ROW_BYTES, limits.BLOCK_ROWS, limits.BATCH_BYTES),
    }.items():
        text = (folder / f"{name}.sql").read_text()
        assert [number for number in numbers if str(number) not in text] == [], name
    for name in ("trail_rows", "trail_archive"):
        text = (ROOT / "pandom" / "database" / "catalog" / f"{name}.sql").read_text()
        assert f"octet_length({'s' if name == 'trail_rows' else 'f'}.form)" in text
        assert str(limits.BLOCK_ROW_BYTES) in text


def _as_before(database: Database, characters: int) -> str:
    """Alice's metadata as an older revision took them; returns their JSON text's digest."""
    with database.owner() as connection:
        connection.execute(
            "alter table public.user_profiles drop constraint ck_user_profiles_metadata_size"
        )
        # Repeated text would be small where it is stored.
        row = connection.execute(
            "update public.user_profiles set metadata = jsonb_build_object('a', left(("
            "select string_agg(md5(n::text), '') from generate_series(1, %(n)s / 32 + 1) as n), "
            "%(n)s)) where uuid = %(who)s returning metadata::text",
            {"n": characters, "who": ALICE.profile},
        ).fetchone()
        connection.execute(
            "alter table public.user_profiles add constraint ck_user_profiles_metadata_size "
            f"check (octet_length(metadata::text) <= {limits.METADATA_BYTES}) not valid"
        )
    assert row is not None
    return hashlib.sha256(row[0].encode()).hexdigest()


@pytest.mark.requirement("P4", "P5")
@pytest.mark.parametrize(
    "deed",
    [
        "update public.user_profiles set metadata = '{}'",
        "delete from public.auth_users where email = 'alice@example.com'",
    ],
)
def test_a_change_of_a_large_row_of_before_is_recorded_by_its_digest(
    database: Database, deed: LiteralString
) -> None:
    digest = _as_before(database, 1_000_000)
    with database.connect("pandom_user") as connection:
        connection.execute(deed)
    ((size, details),) = database.rows(
        "select octet_length(details::text), details from public.audit_logs "
        "where details->>'table' = 'user_profiles' and details->>'subject' = %s "
        "order by id desc limit 1",
        str(ALICE.profile),
    )
    found = details["changed"] if "changed" in details else details["old"]
    value = found["metadata"][0] if "changed" in details else found["metadata"]
    assert value == {"omitted_bytes": 1_000_009, "sha256": digest}
    assert size < 1000


@pytest.mark.requirement("P4")
def test_what_the_limits_allow_is_recorded_whole(database: Database) -> None:
    text = "x" * (limits.METADATA_BYTES - len('{"a": ""}'))
    for letter in "ab":
        with database.connect("pandom_user") as connection:
            connection.execute(
                "update public.user_profiles set metadata = jsonb_build_object('a', %s::text)",
                (text.replace("x", letter),),
            )
    changed = database.one(
        "select details->'changed'->'metadata' from public.audit_logs "
        "where details->>'subject' = %s order by id desc limit 1",
        str(ALICE.profile),
    )
    assert changed == [{"a": text.replace("x", "a")}, {"a": text.replace("x", "b")}]


@pytest.mark.requirement("M3", "P5")
def test_larger_rows_of_before_stay_until_they_keep_the_limit(database: Database) -> None:
    _as_before(database, 100_000)
    runner = database.runner()
    (line,) = migrate.validate(runner)
    assert "ck_user_profiles_metadata_size not valid yet" in line
    with database.connect("pandom_user") as connection:
        connection.execute("update public.user_profiles set metadata = '{}'")
    assert migrate.validate(runner) == []
    assert database.one(
        "select convalidated from pg_constraint where conname = 'ck_user_profiles_metadata_size'"
    )


@pytest.mark.requirement("M3", "P5")
def test_an_upgrade_keeps_large_events_and_limits_new_ones(empty: Database) -> None:
    runner = empty.runner()
    migrate.upgrade(runner, "0006")
    insert = (
        "insert into public.audit_logs (event_type, timestamp, details) "
        "select 'x', %s, jsonb_build_object('a', (select string_agg(md5(n::text), '') "
        f"from generate_series(1, {limits.EVENT_BYTES // 16}) as n))"
    )
    with empty.owner("pandom_trail") as connection:
        # One falls into the default partition, from where it has to find its month.
        for moment in ("now", "2019-02-03"):
            connection.execute(insert.encode(), (moment,))
    migrate.upgrade(runner)
    migrate.finish(runner)
    assert ["they leave with their month" in line for line in migrate.validate(runner)] == [True]
    with (
        empty.owner("pandom_trail") as connection,
        pytest.raises(psycopg.errors.CheckViolation),
    ):
        connection.execute(insert.encode(), ("now",))
    assert "1 rows moved out of audit_logs_default" in janitor.work(
        empty.target, empty.server.passwords[janitor.ROLE], janitor.partitions
    )
    assert empty.one("select count(*) from public.audit_logs_y2019m02") == 1


# -- memory --------------------------------------------------------------------------
_REPEATED = "jsonb_build_object('a', repeat('x', %s))"
# 5 MB that no compression makes smaller, and 2 MB of which it leaves half.
_RANDOM = (
    "jsonb_build_object('a', (select string_agg(md5((%s + n)::text), '') "
    "from generate_series(1, 156250) as n))"
)
_HALF = (
    "jsonb_build_object('a', (select string_agg(repeat(md5((%s + n)::text), 2), '') "
    "from generate_series(1, 31250) as n))"
)


def _write(database: Database, *details: tuple[str, int]) -> None:
    """Events with details as an older revision took them; each a value and its parameter."""
    with database.owner("pandom_trail") as connection:
        connection.execute(
            "alter table public.audit_logs drop constraint if exists ck_audit_logs_details"
        )
        for value, number in details:
            insert = f"insert into public.audit_logs (event_type, details) values ('x', {value})"
            connection.execute(insert.encode(), (number,))


def _seal(database: Database) -> int:
    """Until nothing is left: transactions elsewhere delay it. Returns the last block's number."""
    left = (
        "select (select count(*) from public.audit_logs) + "
        "(select count(*) from public.security_logs) - "
        "(select coalesce(sum(row_count), 0) from public.trail_blocks)"
    )
    deadline = time.monotonic() + 120
    with database.connect("pandom_janitor", autocommit=True) as connection:
        while database.one(left):
            assert time.monotonic() < deadline, "transactions elsewhere delay the seal"
            connection.execute("select public.seal_trail()")
    return int(database.one("select count(*) from public.trail_blocks where log = 'audit_logs'"))


@pytest.mark.requirement("P5")
@pytest.mark.parametrize("events", [8, pytest.param(60, marks=pytest.mark.soak)])
@pytest.mark.parametrize(
    "content",
    ["both", *(pytest.param(one, marks=pytest.mark.soak) for one in ("repeated", "random"))],
)
def test_large_events_of_before_are_sealed_and_verified(
    database: Database, events: int, content: str
) -> None:
    started = database.one("select pg_postmaster_start_time()")
    both = ((_REPEATED, 5_000_000), (_RANDOM, 1))
    kinds = {"repeated": both[:1], "random": both[1:], "both": both}[content]
    _write(database, *(kinds[number % len(kinds)] for number in range(events)))
    _seal(database)
    dsn = database.server.dsn("pandom_auditor", database.name)
    with catalog.connect(dsn) as connection:
        assert trail.verify(connection).problems == ()
    assert database.one("select pg_postmaster_start_time()") == started
    # A byte in the middle of one of them is seen.
    with database.server.connect("postgres", database.name) as superuser:
        superuser.execute(
            "update public.audit_logs set details = jsonb_build_object('a', "
            "overlay(details->>'a' placing 'y' from 2500000)) "
            "where id = (select max(id) from public.audit_logs where event_type = 'x')"
        )
    with catalog.connect(dsn) as connection:
        assert [one.kind for one in trail.verify(connection).problems] == ["row edited"]


def _expected(rows: list[tuple[int, bool]], times: int) -> list[int]:
    """Rows of each block: a batch ends with the row that takes it beyond the limit."""
    blocks, taken, size = [], 0, 0
    for stored, compressed in rows:
        if size > limits.BATCH_BYTES:
            blocks.append(taken)
            taken, size = 0, 0
        taken, size = taken + 1, size + stored * (times if compressed else 1)
    return [*blocks, taken]


def _blocks_after(database: Database, number: int) -> list[int]:
    return [
        count
        for (count,) in database.rows(
            "select row_count from public.trail_blocks where log = 'audit_logs' and number > %s "
            "order by number",
            number,
        )
    ]


@pytest.mark.requirement("P5")
@pytest.mark.parametrize(
    ("rows", "blocks"),
    [
        pytest.param(64, [64], marks=pytest.mark.soak, id="at"),
        pytest.param(65, [65], marks=pytest.mark.soak, id="beyond"),
        pytest.param(66, [65, 1], id="one more"),
    ],
)
def test_a_block_ends_at_64_mb(database: Database, rows: int, blocks: list[int]) -> None:
    number = _seal(database)
    with database.owner("pandom_trail") as connection:
        connection.execute(
            "do $$ declare part regclass; begin for part in select relid from "
            "pg_partition_tree('public.audit_logs') loop execute format('alter table %s "
            "alter column details set storage external', part); end loop; end $$"
        )
    # What jsonb adds to the text of one key and value.
    _write(database, *[(_REPEATED, limits.EVENT_BYTES - 13)] * rows)
    sizes = {
        size
        for (size,) in database.rows(
            "select pg_column_size(details) from public.audit_logs where event_type = 'x'"
        )
    }
    assert sizes == {limits.BATCH_BYTES // 64}
    _seal(database)
    assert _blocks_after(database, number) == blocks


@pytest.mark.soak
@pytest.mark.requirement("P5")
def test_compressed_bytes_count_eightfold(database: Database) -> None:
    number = _seal(database)
    _write(database, *[(_REPEATED, 10), (_HALF, 7), (_RANDOM, 3), (_REPEATED, 500_000)] * 8)
    rows = database.rows(
        "select pg_column_size(details), pg_column_compression(details) is not null "
        "from public.audit_logs where event_type = 'x' order by epoch, tx, id"
    )
    assert {compressed for _, compressed in rows} == {True, False}
    expected = _expected(rows, 8)
    # The limit is reached, and would be elsewhere if compressed bytes counted once.
    assert len(expected) > 1
    assert expected != _expected(rows, 1)
    _seal(database)
    assert _blocks_after(database, number) == expected
    with catalog.connect(database.server.dsn("pandom_auditor", database.name)) as connection:
        assert trail.verify(connection).problems == ()


@pytest.mark.requirement("P5")
def test_rows_that_change_while_they_are_counted_make_no_wrong_block(database: Database) -> None:
    number = _seal(database)
    with database.owner("pandom_trail") as connection:
        for day in ("2019-02-03", "2019-02-03", "now", "now", "now"):
            connection.execute(
                "insert into public.audit_logs (event_type, timestamp) values ('x', %s)", (day,)
            )
    with database.connect("postgres") as superuser:
        # The two of 2019 are not there when they are counted, and are when they are read.
        superuser.execute("create sequence public.asked")
        superuser.execute("grant usage on sequence public.asked to pandom_trail")
        superuser.execute(
            "alter policy trail_maintenance on public.audit_logs using "
            "(case when timestamp < '2020-01-01' then nextval('public.asked') > 2 else true end)"
        )
    with database.connect("pandom_janitor", autocommit=True) as connection:
        deadline = time.monotonic() + 60
        asked = "select last_value from public.asked"
        while database.one(asked, role="postgres") < 4:
            assert time.monotonic() < deadline, "transactions elsewhere delay the seal"
            connection.execute("select public.seal_trail()")
        assert _blocks_after(database, number) == []
    _seal(database)
    assert _blocks_after(database, number) == [2, 3]
    with catalog.connect(database.server.dsn("pandom_auditor", database.name)) as connection:
        assert trail.verify(connection).problems == ()


@pytest.mark.requirement("P5")
def test_a_block_of_before_with_large_rows_is_still_proven(empty: Database) -> None:
    runner = empty.runner()
    migrate.upgrade(runner, "0006")
    with empty.owner("pandom_trail") as connection:
        connection.execute(
            "insert into public.audit_logs (event_type, details) select 'x', "
            "jsonb_build_object('a', repeat('x', 3000 * n)) from generate_series(0, 3) as n"
        )
    with empty.connect("pandom_janitor", autocommit=True) as connection:
        deadline = time.monotonic() + 60
        while not empty.one("select count(*) from public.trail_blocks where log = 'audit_logs'"):
            assert time.monotonic() < deadline, "transactions elsewhere delay the seal"
            connection.execute("select public.seal_trail()")
    migrate.upgrade(runner)
    migrate.finish(runner)
    dsn = empty.server.dsn("pandom_auditor", empty.name)
    with catalog.connect(dsn) as connection:
        assert trail.verify(connection).problems == ()
    with empty.server.connect("postgres", empty.name) as superuser:
        superuser.execute("update public.audit_logs set details = '{}' where id = 3")
    with catalog.connect(dsn) as connection:
        (problem,) = trail.verify(connection).problems
    assert "1 edited (id 3)" in problem.text


# -- rates ---------------------------------------------------------------------------
@pytest.mark.requirement("P5")
def test_nobody_floods_the_trail(database: Database) -> None:
    before = database.one("select count(*) from public.audit_logs")
    with database.connect() as connection, pytest.raises(REFUSED, match="at most 120 in 00:01:00"):
        connection.execute(
            "select public.record_event('probe', '{}') from generate_series(1, 20000)"
        )
    assert database.one("select count(*) from public.audit_logs") == before
    with database.connect() as connection:
        connection.execute("select public.record_event('probe', '{}') from generate_series(1, 120)")
    with database.connect() as connection:
        with pytest.raises(REFUSED):
            connection.execute("select public.record_event('probe', '{}')")
        connection.rollback()
        # Neither another address nor a user is held responsible for it.
        connection.execute("select set_config('app.client_ip', '192.0.2.7', true)")
        connection.execute("select public.record_event('probe', '{}')")
    with database.connect() as connection:
        set_user(connection, ALICE.uuid)
        connection.execute("select public.record_event('probe', '{}')")
        with pytest.raises(REFUSED, match=str(ALICE.uuid)):
            connection.execute(
                "select public.record_event('probe', '{}') from generate_series(1, 120)"
            )


@pytest.mark.requirement("P5")
def test_the_server_has_a_limit_too_and_a_network_is_one_caller(database: Database) -> None:
    with database.owner() as connection:
        connection.execute("update public.account_settings set events_per_address = 2")
    call = "select public.record_event('probe', '{}') from set_config('app.client_ip', %s, true)"
    with database.connect() as connection:
        connection.execute(call, ("2001:db8::1",))
        connection.execute(call, ("2001:db8::2",))
        with pytest.raises(REFUSED, match="2001:db8::/64"):
            connection.execute(call, ("2001:db8::3",))
        connection.rollback()
    with database.owner() as connection:
        connection.execute(
            "update public.account_settings set events_per_address = 0, events_per_second = 3"
        )
    with database.connect() as connection, pytest.raises(REFUSED, match="on the whole server"):
        connection.execute("select public.record_event('probe', '{}') from generate_series(1, 4)")


@pytest.mark.requirement("P3")
def test_registrations_are_limited_and_nobody_is_locked_out(database: Database) -> None:
    register = "select public.register('r' || n || '@example.com', %s)"
    many = register + " from generate_series(1, %s) as n"
    with database.connect() as connection, pytest.raises(REFUSED, match="too many registrations"):
        connection.execute(many, (NEW, 30))
    with database.connect() as connection:
        connection.execute(many, (NEW, 20))
    with database.connect() as connection:
        with pytest.raises(REFUSED):
            connection.execute(register.replace("n", "99", 1).replace("|| n", "") + "", (NEW,))
        connection.rollback()
        signed_in = connection.execute(
            "select count(*) from public.sign_in(%s, %s)", (ALICE.email, PASSWORD)
        ).fetchone()
        assert signed_in == (1,)
        connection.execute("select set_config('app.client_ip', '192.0.2.7', true)")
        connection.execute("select public.register('else@example.com', %s)", (NEW,))


@pytest.mark.requirement("P3")
def test_a_stranger_stops_nobody_from_resetting(database: Database) -> None:
    ask = "select public.request_password_reset(%s) from set_config('app.client_ip', %s, true)"

    def mail() -> list[str]:
        with database.connect("pandom_mailer") as connection:
            return [
                token
                for (token,) in connection.execute(
                    "select token from public.claim_messages()"
                ).fetchall()
            ]

    with database.connect() as connection:
        # The stranger's calls are refused in the end; the victim's are its own.
        for _ in range(20):
            connection.execute(ask, (BOB.email, "198.51.100.1"))
        connection.commit()
        with pytest.raises(REFUSED, match="too many resets"):
            connection.execute(ask, (ALICE.email, "198.51.100.1"))
        connection.rollback()
        connection.execute(ask, (ALICE.email, "192.0.2.7"))
    assert len(mail()) == 2
    # From many addresses: the mailbox gets some, and the last of them stays good.
    last = ""
    for number in range(10):
        with database.owner() as connection:
            connection.execute(
                "update public.auth_users set "
                "reset_token_expiry = now() + interval '10 minutes' "
                "where reset_token is not null"
            )
        with database.connect() as connection:
            connection.execute(ask, (ALICE.email, f"198.51.100.{number + 9}"))
        last = next(iter(mail()), last)
    assert (
        database.one(
            "select count(*) from public.recent_calls where kind = 'message reset_password' "
            "and caller = %s",
            ALICE.email,
        )
        == 5
    )
    with database.connect() as connection:
        row = connection.execute(
            "select public.complete_password_reset(%s, %s)", (last, NEW)
        ).fetchone()
    assert row == (True,)


@pytest.mark.requirement("P5")
def test_refusals_do_not_fill_the_trail_and_say_so(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("select public.begin_context('x') from generate_series(1, 500)")
    events = database.rows(
        "select details->>'unrecorded' from public.security_logs "
        "where event_type = 'context_rejected' order by id"
    )
    assert events == [(None,)] * 120 + [("more within 00:01:00",)]


@pytest.mark.requirement("P3", "O3")
def test_what_was_counted_is_forgotten(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("select public.record_event('probe', '{}') from generate_series(1, 9)")
    with database.owner("pandom_definer") as connection:
        connection.execute("update public.recent_calls set called_at = now() - interval '1 day'")
    janitor.work(database.target, database.server.passwords[janitor.ROLE], janitor.expired)
    assert database.one("select count(*) from public.recent_calls") == 0


# -- equal work ----------------------------------------------------------------------
def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _alike(known: Callable[[], object], unknown: Callable[[], object], tries: int) -> bool:
    """Whether both take the same time. What really differs does so each time it is measured;
    what a busy machine did to one of them does not."""
    return any(_ratio(known, unknown, tries) < ALIKE for _ in range(4))


def _ratio(known: Callable[[], object], unknown: Callable[[], object], tries: int) -> float:
    """Of the medians, and with many tries the largest of their quartiles' ratios; taken in
    turns, so that both see the same machine."""
    pairs = [(_seconds(known), _seconds(unknown)) for _ in range(tries)]
    parts = 4 if tries >= MANY_TRIES else 2
    ours, theirs = (quantiles(times, n=parts) for times in zip(*pairs, strict=True))
    return float(max(max(a, b) / min(a, b) for a, b in zip(ours, theirs, strict=True)))


# A difference that a client could use is many times this; noise of a busy machine is not.
ALIKE = 1.5
MANY_TRIES = 200
TRIES = pytest.mark.parametrize("tries", [15, pytest.param(MANY_TRIES, marks=pytest.mark.soak)])


def _sign_in(connection: psycopg.Connection, email: str) -> None:
    connection.execute("select * from public.sign_in(%s, 'a wrong password')", (email,))
    connection.rollback()


@TRIES
@pytest.mark.requirement("P3")
@pytest.mark.parametrize(
    ("stored", "setting"), [(4, 8), (8, 4), pytest.param(8, 8, marks=pytest.mark.soak)]
)
def test_a_sign_in_costs_the_same_whoever_exists(
    database: Database, tries: int, stored: int, setting: int
) -> None:
    with database.owner() as connection:
        connection.execute("update public.account_settings set bcrypt_cost = %s", (setting,))
        connection.execute(
            "update public.auth_users set password_hash = %s where uuid = %s",
            (seed.hash_password(PASSWORD, stored), ALICE.uuid),
        )
    with database.connect() as connection:
        for other in ("nobody@example.com", BOB.email):
            assert _alike(
                lambda: _sign_in(connection, ALICE.email),
                lambda other=other: _sign_in(connection, other),  # type: ignore[misc]
                tries,
            )


@TRIES
@pytest.mark.requirement("P3")
def test_a_reset_costs_the_same_whoever_exists(database: Database, tries: int) -> None:
    with database.owner() as connection:
        connection.execute(
            "update public.account_settings set resets_per_address = 0, messages_per_mailbox = 0"
        )
    with database.connect(autocommit=True) as connection:

        def ask(email: str) -> None:
            connection.execute("select public.request_password_reset(%s)", (email,))

        assert _alike(lambda: ask(ALICE.email), lambda: ask("nobody@example.com"), tries)


@pytest.mark.requirement("P3")
def test_control_other_work_is_seen(shared: Database) -> None:
    # What sign_in() did once: the hash's own cost for one, the setting's for the other.
    with shared.owner("pandom_definer") as connection:

        def work(cost: int) -> None:
            connection.execute("select public.crypt('x', public.gen_salt('bf', %s))", (cost,))

        assert not _alike(lambda: work(4), lambda: work(8), 15)
        connection.rollback()


@pytest.mark.requirement("P3")
def test_a_sign_in_renews_the_hash_and_keeps_sessions(database: Database) -> None:
    with database.owner() as connection:
        connection.execute("update public.account_settings set bcrypt_cost = 5")
    sessions = "select count(*) from public.sessions where user_uuid = %s"
    before = database.one(sessions, ALICE.uuid)
    for expected in ("$2a$05$", "$2a$05$"):
        with database.connect() as connection:
            row = connection.execute(
                "select user_uuid from public.sign_in(%s, %s)", (ALICE.email, PASSWORD)
            ).fetchone()
        assert row == (ALICE.uuid,)
        found = database.one(
            "select left(password_hash, 7) from public.auth_users where uuid = %s", ALICE.uuid
        )
        assert found == expected
    assert database.one(sessions, ALICE.uuid) == before + 2
    # A password that today's rules refuse signs in all the same.
    with database.owner() as connection:
        connection.execute(
            "update public.auth_users set password_hash = %s where uuid = %s",
            (seed.hash_password("short", 4), ALICE.uuid),
        )
    with database.connect() as connection:
        assert connection.execute(
            "select user_uuid from public.sign_in(%s, 'short')", (ALICE.email,)
        ).fetchone() == (ALICE.uuid,)


# -- locks ---------------------------------------------------------------------------
@pytest.mark.requirement("P5", "M4")
def test_no_lock_of_the_application_stops_the_seal_or_a_migration(database: Database) -> None:
    with database.connect() as app:
        for key in (0x70616E646F6D, "hashtextextended('public.seal_trail', 0)"):
            app.execute(f"select pg_advisory_lock({key})".encode())
        app.commit()
        with database.connect("pandom_janitor", autocommit=True) as connection:
            connection.execute("select public.seal_trail()")
        with migrate.session_lock(database.runner(lock_wait_s=5.0)):
            pass
        for table in ("alembic_version", "trail_retention", "trail_blocks"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.execute(f"lock table public.{table} in access share mode".encode())
            app.rollback()


@pytest.mark.requirement("M4")
def test_whoever_holds_a_migration_up_is_named(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT_MS", 300)
    monkeypatch.setattr(migrate, "PAUSE_S", 0.1)
    migrate.revert(database.runner(), "0006")
    with database.connect() as app:
        app.execute("set idle_in_transaction_session_timeout = 0")
        app.execute("select count(*) from public.user_profiles")
        with pytest.raises(Failure) as raised:
            migrate.upgrade(database.runner())
        for word in (f"server process {app.info.backend_pid} of pandom_app", "since", "Next:"):
            assert word in str(raised.value)
        app.rollback()
    migrate.upgrade(database.runner())


@pytest.mark.requirement("A1", "P5")
@pytest.mark.parametrize(
    ("hold", "why"),
    [
        ("select count(pg_advisory_lock(n)) from generate_series(1, 2500) as n", "2[0-9]{3} locks"),
        ("select pg_current_xact_id()", "its transaction was open since"),
    ],
)
def test_the_janitor_ends_what_holds_up_everybody(
    database: Database, hold: LiteralString, why: str
) -> None:
    watch = janitor.Watch(database.target, lambda: database.server.passwords[janitor.ROLE])
    try:
        with database.connect() as app, database.connect() as other:
            other.execute("select 1")
            assert watch.look() == []
            app.execute(hold)
            if "xact" in hold:
                with database.owner() as connection:
                    connection.execute(
                        "alter table public.account_settings "
                        "drop constraint ck_account_settings_rates"
                    )
                    connection.execute("update public.account_settings set transaction_limit = '0'")
                other.rollback()
            lines = [line for line in watch.look() if str(app.info.backend_pid) in line]
            assert len(lines) == 1
            assert re.search(why, lines[0])
            with pytest.raises(psycopg.OperationalError):
                app.execute("select 1")
            other.execute("select 1")
    finally:
        watch.close()


@pytest.mark.soak
@pytest.mark.requirement("A1")
def test_the_janitor_gets_through_when_all_locks_are_taken(database: Database) -> None:
    watch = janitor.Watch(database.target, lambda: database.server.passwords[janitor.ROLE])
    app = database.connect(autocommit=True)
    try:
        watch.look()
        with pytest.raises(psycopg.errors.OutOfMemory):
            app.execute("select count(pg_advisory_lock(n)) from generate_series(1, 1000000) as n")
        with pytest.raises(psycopg.OperationalError, match="out of shared memory"):
            database.server.connect("postgres", "postgres")
        (line,) = watch.look()
        assert "locks" in line
        database.server.connect("postgres", "postgres").close()
    finally:
        watch.close()
        app.close()


@pytest.mark.requirement("D2", "P5")
def test_health_sees_a_seal_that_is_behind_and_who_holds_it_up(database: Database) -> None:
    from pandom.database import health

    def sealing() -> health.Finding:
        with database.connect("pandom_user") as connection:
            return next(f for f in health.check(connection).findings if f.name == "sealing")

    assert sealing().ok
    with database.connect() as app:
        app.execute("select pg_current_xact_id()")
        with database.owner("pandom_trail") as connection:
            connection.execute(
                "insert into public.audit_logs (event_type, timestamp, tx) "
                "values ('x', now() - interval '2 hours', '1')"
            )
        found = sealing()
        assert not found.ok
        for word in ("120 min", f"server process {app.info.backend_pid} of pandom_app"):
            assert word in found.found
        app.rollback()


def test_a_holder_is_named_also_where_little_is_seen(shared: Database) -> None:
    with shared.connect("pandom_user") as app, shared.connect("pandom_user") as asking:
        app.execute("select pg_advisory_lock(77)")
        assert f"server process {app.info.backend_pid} of pandom_user" in holders.of_key(asking, 77)
        assert holders.of_key(asking, 78) == "a session that has just ended"
