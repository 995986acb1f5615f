"""The host is lost: from a kit and a store elsewhere, on an engine that had nothing of it."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pandom.config.backup import ARCHIVE_TIMEOUT_S
from pandom.host.stack import Stack
from pandom.objectstore import client
from pandom.runtime import paths
from tests.fixtures.backups import Bucket, copy_objects, root, sql
from tests.fixtures.lost_host import Writer, lose, noted
from tests.fixtures.other_store import OtherStore
from tests.fixtures.server import server_of
from tests.fixtures.stack import RunningStack, remove


@pytest.fixture
def elsewhere(
    own: RunningStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunningStack]:
    """The same name on a host that knows nothing of it."""
    variables = {**own.pandom.variables, "XDG_STATE_HOME": str(tmp_path)}
    made = RunningStack(own.name, replace(own.pandom, variables=variables))
    with monkeypatch.context() as patched:
        patched.setenv("XDG_STATE_HOME", str(tmp_path))
        yield made
        remove(made.name, made.pandom)


@pytest.mark.soak  # four runs of `up`, and a minute of log
@pytest.mark.requirement("D5")
def test_the_host_is_lost(
    own: RunningStack, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    word, kit, home = tmp_path / "word", tmp_path / "kit.age", paths.state_home()
    word.write_text("the passphrase of a kit in a test\n")
    given = ("--passphrase-file", str(word))
    with OtherStore(tmp_path / "store") as store:
        store.take_backups_of(own.name)
        own.pandom("up", "--stack", own.name)
        own.look_again()
        own.pandom("recovery-kit", str(kit), "--stack", own.name, *given)
        before = own.secrets
        media = Bucket(client(*root(own)), own.outputs["minio_bucket_name"])
        contents = {f"kept/{number}": secrets.token_bytes(1000 * number) for number in range(4)}
        for name, content in contents.items():
            media.put(name, b"an earlier version")
            media.put(name, content)
        media.put("kept/deleted", b"x")
        media.s3.remove_object(bucket_name=media.name, object_name="kept/deleted")
        copy_objects(own)
        media.put("kept/late", b"after the last copy")
        names = [*contents, "kept/late"]
        sql(
            own,
            "insert into public.user_profiles (metadata) "
            f"values (jsonb_build_object('objects', array{names!r}))",
        )
        with Writer(server_of(own)).writing() as writer:
            time.sleep(ARCHIVE_TIMEOUT_S + 25)
            lost_at = datetime.now(UTC)
            lose(own.name)
        Stack(own.name).file.unlink()
        store.ca.rename(store.ca.with_name("gone"))  # a file of the lost host, like all others
        new: RunningStack = request.getfixturevalue("elsewhere")

        said = new.pandom("recover", str(kit), *given).stderr
        assert f"CONFIRM={own.name}" in said
        confirmed = replace(new.pandom, variables={**new.pandom.variables, "CONFIRM": own.name})
        empty = confirmed("up", "--stack", new.name, code=1).stderr
        assert "was made of another database cluster" in empty
        assert f"pandom restore --stack {own.name}" in empty
        assert new.secrets == before, "clients would need other secrets"
        assert (
            "another database cluster" in new.pandom("backup", "--stack", new.name, code=2).stderr
        )
        restored = new.pandom("restore", "--stack", new.name).stdout
        assert "lost: what was committed later" in restored
        assert "objects: 4 written back, 0 deleted, 4 of these from copies by --sw" in restored
        assert "objects: 1 that rows name are not there: kept/late (user_profiles" in restored
        new.pandom("restore", "--switch", "--stack", new.name)
        new.look_again()
        media = Bucket(client(*root(new)), new.outputs["minio_bucket_name"])
        assert {name: media.get(name) for name in media.names("")} == contents
        new.pandom("health", "--stack", new.name)
        new.pandom("audit", "--stack", new.name, "--store", "--host")
        rows, seconds = writer.lost(noted(new), lost_at)
        print(f"lost: {rows} of {len(writer.acknowledged)} rows, the last {seconds:.0f} s")
        assert seconds <= ARCHIVE_TIMEOUT_S + 10
        new.pandom("backup", "--verify", "--stack", new.name)
        new.pandom("drill", "--stack", new.name)
    # What the lost host has of it is gone with the host.
    (home / "backend/.pulumi/stacks/pandom-stack" / f"{own.name}.json").unlink()
    shutil.rmtree(home / own.name)
