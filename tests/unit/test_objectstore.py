"""Bucket names as S3 and MinIO rule them, and what the users' policies allow."""

from __future__ import annotations

import pytest

from pandom.objectstore import Account, Endpoint, bucket_name_problem, make_users
from pandom.runtime.errors import Failure
from pandom.runtime.paths import ROOT
from schema.storage import (
    AUDITOR,
    COPIER,
    EVIDENCE,
    LONGEST_NAME,
    MEDIA,
    USERS,
    User,
    evidence_bucket,
    policy,
)


@pytest.mark.parametrize("name", ["abc", "pandom-media", "a.b.c", "0-9", "x" * 63, "1.2.3", "a--b"])
def test_allowed_bucket_names(name: str) -> None:
    assert bucket_name_problem(name) is None


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "3 to 63"),
        ("ab", "3 to 63"),
        ("x" * 64, "3 to 63"),
        ("Media", "lower-case"),
        ("pandom_media", "lower-case"),
        ("médias", "lower-case"),
        ("media\n", "lower-case"),
        ("-media", "both ends"),
        ("media.", "both ends"),
        ("a..b", "without"),
        ("a.-b", "without"),
        ("a-.b", "without"),
        ("192.168.0.1", "IP address"),
        ("xn--media", "reserved"),
        ("media-s3alias", "reserved"),
        ("media--x-s3", "reserved"),
        ("minio", "reserved"),
    ],
)
def test_refused_bucket_names(name: str, problem: str) -> None:
    assert problem in str(bucket_name_problem(name))


def test_the_longest_name_leaves_room_for_the_evidence() -> None:
    assert bucket_name_problem(evidence_bucket("x" * LONGEST_NAME)) is None
    assert bucket_name_problem(evidence_bucket("x" * (LONGEST_NAME + 1))) is not None


def actions(user: User) -> set[str]:
    return {action for permission in user.permissions for action in permission.actions}


@pytest.mark.requirement("B3")
def test_no_user_may_delete_or_change_rules() -> None:
    for user in (*USERS, COPIER):
        verbs = {action.partition(":")[2] for action in actions(user)}
        assert not [verb for verb in verbs if "*" in verb or verb.startswith(("Delete", "Create"))]
        assert {verb for verb in verbs if verb.startswith("Put")} <= {"PutObject"}
    assert actions(MEDIA) == {
        "s3:GetBucketLocation",
        "s3:ListBucket",
        "s3:ListBucketMultipartUploads",
        "s3:GetObject",
        "s3:PutObject",
        "s3:ListMultipartUploadParts",
        "s3:AbortMultipartUpload",
    }
    assert actions(EVIDENCE) == {"s3:PutObject"}
    for reader in (AUDITOR, COPIER):
        assert not [action for action in actions(reader) if "Put" in action]


@pytest.mark.requirement("B3")
def test_only_the_application_and_the_copier_reach_documents() -> None:
    for user in (AUDITOR, EVIDENCE):
        for statement in policy(user, "media")["Statement"]:
            assert "arn:aws:s3:::media/*" not in statement["Resource"]
            if {"s3:GetObject", "s3:PutObject", "s3:ListBucket"} & {*statement["Action"]}:
                assert statement["Resource"][0].startswith("arn:aws:s3:::media-evidence")


def test_a_short_secret_is_refused_before_the_server_is_asked() -> None:
    # MinIO itself would take a single character.
    nowhere, root = Endpoint("127.0.0.1", 1, ROOT / "missing.crt"), Account("root", "r" * 20)
    secrets = {user.name: "s" * (15 if user is EVIDENCE else 16) for user in USERS}
    with pytest.raises(Failure, match="pandom-evidence has 15 characters") as refused:
        make_users(nowhere, root, "media", secrets)
    assert "s" * 15 not in str(refused.value)


def test_an_account_does_not_show_its_secret() -> None:
    assert "hidden" not in repr(Account("user", "hidden"))
