"""Documents and media beside the backups: copied, verified, damaged in every way, and noticed."""

from __future__ import annotations

import json
import secrets

import pytest

from pandom.objectstore import administrator
from schema.storage import COPIER, policy
from tests.fixtures.backups import Bucket, copy_objects, flipped, named_by_a_row, root
from tests.fixtures.stack import RunningStack

pytestmark = pytest.mark.requirement("D5")


def test_each_damage_of_a_copy_is_noticed_with_its_name(
    backed: RunningStack, bucket: Bucket, media: Bucket
) -> None:
    copy_objects(backed)
    known = set(bucket.names("/objects/data/"))
    for name in ("one", "two"):
        media.put(f"copied/{name}", b"open secret " * 1000 + secrets.token_bytes(8))
    copy_objects(backed)
    listed = backed.pandom("backups", "--stack", backed.name, "--format", "json").stdout
    assert json.loads(listed)["objects"]["versions"] == len(known) + 2
    copies = sorted(set(bucket.names("/objects/data/")) - known)
    stored = {copy: bucket.get(copy) for copy in copies}
    assert b"open secret" not in b"".join(stored.values())
    bucket.put(copies[0], flipped(stored[copies[0]]))
    bucket.remove(copies[1])
    found = backed.pandom("backup", "--verify", "--stack", backed.name, code=2).stderr
    for name in ("one", "two"):
        assert f"object: copied/{name}, of 20" in found
    assert "its copy is damaged or cut off; copied anew" in found
    assert "its copy is missing in the store; copied anew" in found
    assert "copies of documents and media are whole" in (
        backed.pandom("backup", "--verify", "--stack", backed.name).stderr
    )


def test_a_denied_right_is_told(backed: RunningStack, media: Bucket) -> None:
    admin, allowed = administrator(*root(backed)), policy(COPIER, media.name)
    first, _ = allowed["Statement"]
    admin.policy_add(policy_name=COPIER.name, policy={**allowed, "Statement": [first]})
    try:
        media.put("copied/two", b"x")
        assert "asked as pandom-copier: Access Denied" in copy_objects(backed, code=1)
    finally:
        admin.policy_add(policy_name=COPIER.name, policy=allowed)
    copy_objects(backed)


@pytest.mark.soak  # drills
def test_a_drill_fails_by_a_copy_that_is_damaged(
    backed: RunningStack, bucket: Bucket, media: Bucket
) -> None:
    known = set(bucket.names("/objects/data/"))
    media.put("copied/three", secrets.token_bytes(1000))
    copy_objects(backed)
    (copy,) = set(bucket.names("/objects/data/")) - known
    stored = bucket.get(copy)
    with named_by_a_row(backed, "copied/three", "copied/never"):
        bucket.put(copy, flipped(stored))
        try:
            said = backed.pandom("drill", "--stack", backed.name, code=1).stderr
            assert "1 objects that rows name cannot come back: its copy is damaged" in said
            assert "never in the bucket: copied/never" in said
        finally:
            bucket.put(copy, stored)
        backed.pandom("drill", "--stack", backed.name)
