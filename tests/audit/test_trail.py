"""The trail proves itself: whatever a superuser does to sealed rows, the auditor sees it."""

from __future__ import annotations

import io
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import psycopg
import pytest

from pandom.audit import anchors
from pandom.audit.accepted import Acceptance
from pandom.audit.anchors import Anchor, Head, Kept
from pandom.audit.archive import Archive, Evidence, Folder
from pandom.audit.store import StoreClient
from pandom.audit.target import store_of
from pandom.audit.trail import Verdict, verify
from pandom.database import cluster
from pandom.database.drift import catalog
from pandom.objectstore import Account
from schema.storage import AUDITOR, EVIDENCE
from tests.audit.conftest import Shipped, drop_database, make_database

_NUMBERS = itertools.count(1)

# Half of the rows in the month before, so that blocks of two months exist.
_EVENTS = """
insert into public.audit_logs (user_uuid, event_type, details, timestamp)
select
    gen_random_uuid(), 'probe', jsonb_build_object('n', g, 'text', e'two\\nlines, (one)'),
    date_trunc('month', now()) + case when g %% 2 = 0 then interval '5 days' else '-5 days' end
from generate_series(1, %s) as g
"""


@dataclass(frozen=True)
class Trail:
    shipped: Shipped
    name: str

    def connect(self, role: str = "postgres") -> psycopg.Connection:
        return self.shipped.server.connect(role, self.name)

    def write(self, rows: int = 20) -> None:
        """Events of one transaction; the month before has a partition of its own."""
        with self.connect() as connection:
            connection.execute("set role pandom_trail")
            connection.execute(
                "select public.create_partition('audit_logs', "
                "(date_trunc('month', now(), 'UTC') - interval '1 month')::timestamptz)"
            )
            connection.execute("reset role")
            connection.execute(_EVENTS, (rows,))

    def seal_once(self, block_rows: int = 8) -> int:
        """As the janitor does, until there is nothing to take; returns the rows sealed."""
        total = 0
        with self.connect("pandom_janitor") as connection:
            while True:
                found = connection.execute("select public.seal_trail(%s)", (block_rows,)).fetchall()
                if not found[0][0]:
                    return total
                total += int(found[0][0])

    def seal(self, block_rows: int = 8) -> None:
        """Until every row is sealed: transactions of other databases delay it."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            self.seal_once(block_rows)
            with self.connect() as connection:
                left = connection.execute(
                    "select (select count(*) from public.audit_logs) "
                    "+ (select count(*) from public.security_logs) "
                    "- (select sum(row_count) from public.trail_blocks as b where exists "
                    "(select from public.audit_logs as a where b.log <> 'audit_logs' "
                    "or date_trunc('month', a.timestamp) = b.month))"
                ).fetchall()
            if left[0][0] == 0:
                return
            time.sleep(0.1)
        raise AssertionError("rows of the trail were not sealed within 20 s")

    def tamper(self, *statements: str) -> None:
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def verify(self, kept: Kept | None = None, archive: Archive | None = None) -> Verdict:
        with catalog.connect(self.shipped.server.dsn("pandom_auditor", self.name)) as connection:
            return verify(connection, kept, archive)

    def kinds(self, kept: Kept | None = None, archive: Archive | None = None) -> set[str]:
        return {problem.kind for problem in self.verify(kept, archive).problems}


def _copy(shipped: Shipped, template: str) -> str:
    name = f"trail_{os.getpid()}_{next(_NUMBERS)}"
    with shipped.server.connect("postgres", "postgres") as connection:
        connection.execute(f"create database {name} template {template}")
    with shipped.server.connect("postgres", name) as connection:
        cluster.apply_grants(connection, shipped.opt_in)
    return name


@pytest.fixture(scope="module")
def template(shipped: Shipped) -> Iterator[str]:
    """A database with two transactions of events, sealed; nobody stays connected to it."""
    name = f"trail_{os.getpid()}"
    make_database(shipped.server, name, shipped.opt_in)
    made = Trail(shipped, name)
    made.write()
    made.write()
    made.seal()
    yield name
    drop_database(shipped.server, name)


@pytest.fixture
def trail(shipped: Shipped, template: str) -> Iterator[Trail]:
    """A copy of it for one test."""
    name = _copy(shipped, template)
    yield Trail(shipped, name)
    drop_database(shipped.server, name)


@pytest.mark.requirement("P5")
def test_an_untouched_trail_is_intact(trail: Trail) -> None:
    verdict = trail.verify()
    assert verdict.problems == ()
    assert verdict.exit_code == 0
    assert verdict.rows >= 40
    assert verdict.blocks >= 6


# As a superuser: row security, triggers and privileges do not stand in the way.
_FIFTH = "(select id from public.audit_logs order by id offset 4 limit 1)"


@pytest.mark.requirement("P5")
@pytest.mark.parametrize(
    ("statements", "kinds"),
    [
        pytest.param(
            [f"update public.audit_logs set details = '{{}}' where id = {_FIFTH}"],
            {"row edited"},
            id="edit",
        ),
        pytest.param(
            [f"delete from public.audit_logs where id = {_FIFTH}"], {"row deleted"}, id="deletion"
        ),
        pytest.param(
            [
                "update public.audit_logs set details = jsonb_build_object('n', 21 - "
                "(details ->> 'n')::int) where details ->> 'n' in ('10', '11') "
                "and tx = (select min(tx) from public.audit_logs where event_type = 'probe')"
            ],
            {"row edited"},
            id="two events change places",
        ),
        pytest.param(
            [
                "update public.audit_logs set tx = (select max(tx) from public.audit_logs) "
                f"where id = {_FIFTH}"
            ],
            {"row deleted", "row inserted"},
            id="reordering",
        ),
        pytest.param(
            [
                "insert into public.audit_logs (id, event_type, timestamp, tx) "
                "overriding system value select 1000000, 'forged', timestamp, tx "
                f"from public.audit_logs where id = {_FIFTH}"
            ],
            {"row inserted"},
            id="insertion in the past",
        ),
        pytest.param(
            [
                "insert into public.audit_logs (event_type, tx, timestamp) "
                "values ('forged', '3', now() - interval '2 years')"
            ],
            {"row inserted"},
            id="insertion before everything",
        ),
        pytest.param(
            [
                "delete from public.audit_logs where tx = (select max(tx) from public.audit_logs "
                "where event_type = 'probe')"
            ],
            {"row deleted"},
            id="the tail's rows",
        ),
        pytest.param(
            [
                "delete from public.trail_blocks where log = 'audit_logs' and number = 2",
            ],
            {"block missing"},
            id="a block",
        ),
        pytest.param(
            [
                "update public.trail_blocks set row_count = row_count, sealed_at = now() "
                "where log = 'audit_logs' and number = 2"
            ],
            {"block edited"},
            id="an edited block",
        ),
        pytest.param(
            [
                f"update public.audit_logs set details = '{{}}' where id = {_FIFTH}",
                "update public.trail_blocks as b set rows_digest = sha256('x') where number = 2",
                "update public.trail_blocks as b set hash = public.trail_block_hash(b) "
                "where number = 2",
            ],
            {"chain broken", "row edited"},
            id="a block made anew",
        ),
        pytest.param(["truncate public.audit_logs"], {"row deleted"}, id="truncate"),
    ],
)
def test_tampering_is_detected(trail: Trail, statements: list[str], kinds: set[str]) -> None:
    trail.tamper(*statements)
    found = trail.verify()
    assert kinds <= {problem.kind for problem in found.problems}
    assert found.exit_code == 2


@pytest.mark.requirement("P5")
def test_an_edited_row_is_named(trail: Trail) -> None:
    trail.tamper(f"update public.audit_logs set severity = 'error' where id = {_FIFTH}")
    (problem,) = trail.verify().problems
    assert "1 edited (id 5)" in problem.text


def _months(trail: Trail) -> list[str]:
    with trail.connect() as connection:
        rows = connection.execute(
            "select c.relname from pg_inherits as i join pg_class as c on i.inhrelid = c.oid "
            "where i.inhparent = 'public.audit_logs'::regclass and c.relname ~ '_y' order by 1"
        ).fetchall()
    return [name for (name,) in rows]


@pytest.mark.requirement("P5")
def test_a_dropped_partition_is_detected(trail: Trail) -> None:
    trail.tamper(f"drop table public.{_months(trail)[0]}")
    assert trail.kinds() == {"month missing"}


@pytest.mark.requirement("P5")
def test_a_month_that_retention_took_is_no_problem(trail: Trail) -> None:
    name = _months(trail)[0]
    trail.tamper(
        "select public.write_event('security_logs', null, 'partition_dropped', 'warning', "
        f"jsonb_build_object('partition', '{name}'))",
        f"drop table public.{name}",
    )
    trail.seal()
    verdict = trail.verify()
    assert verdict.problems == ()
    assert verdict.archived["audit_logs"] == 20


def _export(trail: Trail, folder: Path) -> Path:
    """The month before, as retention does it: exported, noted, dropped."""
    name = _months(trail)[0]
    with trail.connect("pandom_janitor") as connection:
        rows = connection.execute("select public.read_partition(%s)", (name,)).fetchall()
    file = folder / f"{name}.jsonl"
    file.write_text("".join(f"{line}\n" for (line,) in rows))
    trail.tamper(f"drop table public.{name}")
    return file


@pytest.mark.requirement("P5")
def test_an_archived_month_verifies_from_the_archive(trail: Trail, tmp_path: Path) -> None:
    _export(trail, tmp_path)
    assert trail.kinds() == {"month missing"}
    verdict = trail.verify(archive=Folder(tmp_path))
    assert verdict.problems == ()
    assert verdict.archived["audit_logs"] == 20


@pytest.mark.requirement("P5")
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda lines: lines[1:], id="a row less"),
        pytest.param(lambda lines: [lines[0].replace("probe", "prove"), *lines[1:]], id="edited"),
        pytest.param(
            lambda lines: [*lines, lines[0].replace('"epoch": 1', '"epoch": 0')], id="a row more"
        ),
    ],
)
def test_a_changed_archive_is_detected(
    trail: Trail, tmp_path: Path, fault: Callable[[list[str]], list[str]]
) -> None:
    file = _export(trail, tmp_path)
    file.write_text("\n".join(fault(file.read_text().splitlines())))
    assert trail.kinds(archive=Folder(tmp_path)) == {"archive differs"}


def _chained_anew(trail: Trail) -> None:
    trail.tamper(
        f"update public.audit_logs set details = '{{}}' where id = {_FIFTH}",
        "delete from public.trail_blocks",
    )
    trail.seal()


def _cut(trail: Trail) -> None:
    trail.tamper(
        "delete from public.audit_logs where (epoch, tx, id) > (select last_epoch, last_tx, "
        "last_id from public.trail_blocks where log = 'audit_logs' and number = 2)",
        "delete from public.trail_blocks where log = 'audit_logs' and number > 2",
    )


@pytest.mark.requirement("P5")
@pytest.mark.parametrize(
    ("attack", "kind"),
    [
        pytest.param(_chained_anew, "chain rewritten", id="a history chained anew"),
        pytest.param(_cut, "older than its anchor", id="a cut tail"),
    ],
)
def test_what_a_whole_chain_hides_its_anchor_shows(
    trail: Trail, attack: Callable[[Trail], None], kind: str, tmp_path: Path
) -> None:
    file = tmp_path / "anchors.jsonl"
    anchors.to_file(file, trail.verify().heads)
    attack(trail)
    assert trail.verify().problems == ()
    assert trail.kinds(anchors.from_file(file)) == {kind}


@pytest.mark.requirement("P5")
def test_a_restored_old_backup_is_detected(trail: Trail) -> None:
    backup = _copy(trail.shipped, trail.name)
    try:
        trail.write()
        trail.seal()
        heads = trail.verify().heads
        restored = Trail(trail.shipped, backup)
        assert restored.verify().problems == ()
        assert restored.kinds(Kept(heads)) == {"older than its anchor"}
    finally:
        drop_database(trail.shipped.server, backup)


@pytest.mark.requirement("P5", "D4")
def test_the_heads_of_an_abandoned_history_are_accepted_and_no_others(trail: Trail) -> None:
    backup = _copy(trail.shipped, trail.name)
    try:
        heads = list(trail.verify().heads)
        for _ in range(3):
            trail.write()
            trail.seal()
            heads += trail.verify().heads
        restored = Trail(trail.shipped, backup)
        # One problem, however many heads were kept.
        (found,) = restored.verify(Kept(tuple(heads))).problems
        today = date(2026, 11, 24)
        given = [Acceptance(found.id, found.actual, "a restore", "platform", today)]

        def judged(day: date = today) -> Verdict:
            return restored.verify(Kept(tuple(heads))).accepting(given, day)

        assert (judged().exit_code, len(judged().accepted)) == (0, 1)
        assert judged(date(2026, 11, 25)).exit_code == 2
        # The new history grows past the heads of the old one, and has heads of its own.
        for _ in range(5):
            restored.write()
            restored.seal()
            heads += restored.verify().heads
        assert (judged().exit_code, len(judged().accepted)) == (0, 1)
        _chained_anew(restored)
        assert "audit_logs" in {one.log for one in judged().problems}
    finally:
        drop_database(trail.shipped.server, backup)


# -- by what the bucket for evidence keeps, and nothing else ---------------------------------

_NO_STORE = pytest.mark.skipif(
    "PANDOM_TEST_SERVER" in os.environ, reason="a server alone has no object store"
)


@dataclass(frozen=True)
class Bucket:
    """The evidence of one trail. What is written stays as long as the stack: it is locked."""

    reader: StoreClient
    writer: StoreClient
    root: StoreClient
    trail: Trail

    def anchor(self, heads: Iterable[Head]) -> None:
        anchors.to_bucket(self.writer.s3, self.writer.evidence, heads)

    def kept(self) -> Kept:
        return anchors.from_bucket(self.reader.s3, self.reader.evidence, self.trail.name)

    @property
    def names(self) -> set[str]:
        found = self.reader.s3.list_objects(
            bucket_name=self.reader.evidence,
            prefix=f"{anchors.PREFIX}{self.trail.name}/",
            recursive=True,
        )
        return {str(one.object_name) for one in found}


@pytest.fixture
def bucket(trail: Trail, request: pytest.FixtureRequest) -> Bucket:
    stack = request.getfixturevalue("stack")
    reader = store_of(stack.outputs, AUDITOR)
    root = replace(reader, account=Account("pandom-root", stack.secrets["minio-root"]))
    return Bucket(reader, store_of(stack.outputs, EVIDENCE), root, trail)


@_NO_STORE
@pytest.mark.requirement("P5", "B3")
def test_heads_are_kept_once_and_found_again(bucket: Bucket) -> None:
    heads = bucket.trail.verify().heads
    assert bucket.kept() == Kept()
    bucket.anchor(bucket.kept().fresh(heads))
    kept = bucket.kept()
    assert {one.place for one in kept.anchors} == {one.place for one in heads}
    assert kept.fresh(heads) == []
    # Two who keep the same head at the same moment are no tampering.
    bucket.anchor(heads)
    assert bucket.trail.verify(bucket.kept()).problems == ()


@_NO_STORE
@pytest.mark.requirement("P5")
@pytest.mark.parametrize(
    ("attack", "kind"),
    [
        pytest.param(_chained_anew, "chain rewritten", id="a history chained anew"),
        pytest.param(_cut, "older than its anchor", id="a cut tail"),
    ],
)
def test_what_a_whole_chain_hides_the_bucket_shows(
    bucket: Bucket, attack: Callable[[Trail], None], kind: str
) -> None:
    bucket.anchor(bucket.trail.verify().heads)
    attack(bucket.trail)
    assert bucket.trail.kinds() == set()
    assert bucket.trail.kinds(bucket.kept()) == {kind}
    # Whoever rewrites the trail and is the store's root as well can hide the anchors, no more.
    for name in bucket.names:
        bucket.root.s3.remove_object(bucket_name=bucket.root.evidence, object_name=name)
    assert bucket.names == set()
    assert bucket.trail.kinds(bucket.kept()) == {kind, "anchor deleted"}


@_NO_STORE
@pytest.mark.requirement("P5")
def test_an_old_backup_put_back_is_shown_by_the_bucket(bucket: Bucket) -> None:
    trail, backup = bucket.trail, _copy(bucket.trail.shipped, bucket.trail.name)
    trail.write()
    trail.seal()
    bucket.anchor(trail.verify().heads)
    drop_database(trail.shipped.server, trail.name)
    with trail.shipped.server.connect("postgres", "postgres") as connection:
        connection.execute(f"alter database {backup} rename to {trail.name}")
    assert trail.kinds() == set()
    assert trail.kinds(bucket.kept()) == {"older than its anchor"}


@_NO_STORE
@pytest.mark.requirement("P5")
def test_an_anchor_that_was_written_over_is_seen(bucket: Bucket) -> None:
    (head, *_) = heads = bucket.trail.verify().heads
    bucket.anchor(heads)
    bucket.anchor([replace(head, rows=head.rows + 1)])
    assert bucket.trail.kinds(bucket.kept()) == {"anchor written over"}
    (problem,) = bucket.trail.verify(bucket.kept()).problems
    assert problem.log == head.log
    assert len(bucket.kept().anchors) == len(heads)
    assert all(isinstance(one, Anchor) for one in bucket.kept().anchors)


@_NO_STORE
@pytest.mark.requirement("P5")
def test_an_archived_month_verifies_from_the_bucket(bucket: Bucket, tmp_path: Path) -> None:
    file = _export(bucket.trail, tmp_path)
    # A name of its own: exports of the stack's own trail are called by their month only.
    prefix = f"{bucket.trail.name}/"
    archive = Evidence(bucket.reader.s3, bucket.reader.evidence, prefix)
    assert bucket.trail.kinds(archive=archive) == {"month missing"}

    def put(text: str) -> None:
        data = text.encode()
        bucket.writer.s3.put_object(
            bucket_name=bucket.writer.evidence,
            object_name=prefix + file.name,
            data=io.BytesIO(data),
            length=len(data),
        )

    good = file.read_text()
    put(good.replace("probe", "prove", 1))
    assert bucket.trail.kinds(archive=archive) == {"archive differs"}
    put(good)
    assert bucket.trail.kinds(archive=archive) == set()
    # Written over and hidden by the store's root: the good version is there still.
    put(good.replace("probe", "prove", 1))
    bucket.root.s3.remove_object(bucket_name=bucket.root.evidence, object_name=prefix + file.name)
    assert bucket.trail.kinds(archive=archive) == set()


@pytest.mark.requirement("P5")
def test_rows_that_commit_out_of_order_are_all_sealed(trail: Trail) -> None:
    insert = "insert into public.audit_logs (event_type) values ('probe')"
    with trail.connect() as early, trail.connect() as late:
        early.execute("begin")
        early.execute(insert)
        late.execute(insert)
        # The later row is committed, the earlier one is not: neither may be sealed.
        assert trail.seal_once() == 0
        assert trail.verify().waiting["audit_logs"] == 1
        early.execute("commit")
    trail.seal()
    assert trail.verify().waiting["audit_logs"] == 0
    assert trail.verify().problems == ()


@pytest.mark.requirement("P5")
def test_two_sealers_make_one_chain(trail: Trail) -> None:
    trail.write(200)
    with trail.connect("pandom_janitor") as one, trail.connect("pandom_janitor") as two:
        one.execute("begin")
        one.execute("select public.seal_trail(8)")
        with pytest.raises(
            psycopg.errors.LockNotAvailable, match=r"server process \d+ \(pandom_janitor\)"
        ):
            two.execute("select public.seal_trail(8)")
        one.execute("commit")
    trail.seal(50)
    assert trail.verify().problems == ()


@pytest.mark.requirement("P5")
@pytest.mark.parametrize("role", ["pandom_app", "pandom_auditor", "pandom_janitor", "pandom_user"])
@pytest.mark.parametrize(
    "statement",
    [
        "insert into public.trail_blocks select * from public.trail_blocks",
        "update public.trail_blocks set number = number + 1",
        "delete from public.trail_blocks",
        "truncate public.trail_blocks",
    ],
)
def test_no_login_writes_blocks(shipped: Shipped, role: str, statement: str) -> None:
    with shipped.server.connect(role, shipped.name) as connection:
        connection.execute("set default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())
