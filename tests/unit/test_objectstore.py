"""Bucket names as S3 and MinIO rule them, and the policy of the limited user."""

from __future__ import annotations

import pytest

from pandom.errors import Failure
from pandom.objectstore import Account, Endpoint, bucket_name_problem, make_user, same_policy
from pandom.paths import ROOT
from schema.storage import PERMISSIONS, policy


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


@pytest.mark.requirement("B3")
def test_the_limited_user_may_delete_nothing_and_change_no_rules() -> None:
    actions = {action for permission in PERMISSIONS for action in permission.actions}
    assert not {action for action in actions if "Delete" in action or "*" in action}
    assert actions == {
        "s3:GetBucketLocation",
        "s3:ListBucket",
        "s3:ListBucketMultipartUploads",
        "s3:GetObject",
        "s3:PutObject",
        "s3:ListMultipartUploadParts",
        "s3:AbortMultipartUpload",
    }


def test_policies_are_compared_by_what_they_allow() -> None:
    declared = policy("media")
    reordered = {
        "Statement": [
            {
                **statement,
                "Action": list(reversed(statement["Action"])),
                "Resource": statement["Resource"][0],
            }
            for statement in reversed(declared["Statement"])
        ]
    }
    assert same_policy(declared, reordered)
    assert not same_policy(declared, policy("another"))
    wider = {"Statement": [*declared["Statement"], {**declared["Statement"][0], "Action": "s3:*"}]}
    assert not same_policy(declared, wider)
    conditional = {"Statement": [{**one, "Condition": {}} for one in declared["Statement"]]}
    assert not same_policy(declared, conditional)


def test_a_short_secret_is_refused_before_the_server_is_asked() -> None:
    # MinIO itself would take a single character.
    nowhere = Endpoint("127.0.0.1", 1, ROOT / "missing.crt")
    with pytest.raises(Failure, match="has 15 characters") as refused:
        make_user(nowhere, None, "media", Account("user", "s" * 15))  # type: ignore[arg-type]
    assert "s" * 15 not in str(refused.value)


def test_an_account_does_not_show_its_secret() -> None:
    assert "hidden" not in repr(Account("user", "hidden"))
