"""The storage job: makes the bucket and its limited user as declared, and reads both back (B3)."""

from __future__ import annotations

import time
from typing import Final

from minio.error import MinioAdminException, MinioException
from urllib3.exceptions import HTTPError

from pandom.errors import Failure
from pandom.jobs.inputs import secret, secret_file, setting
from pandom.objectstore import (
    Account,
    Endpoint,
    administrator,
    client,
    differences,
    make_bucket,
    make_user,
    reachable,
    signs_in,
)
from pandom.progress import say, step

# MinIO starts in about a second; a slow disk or a first start may take longer.
WAIT_S: Final = 60

ROUNDS: Final = 3


def run() -> None:
    """Converge the object store; raises Failure if it cannot, or is not as declared after."""
    endpoint = Endpoint(
        setting("PANDOM_MINIO_HOST"), int(setting("PANDOM_MINIO_PORT")), secret_file("ca.crt")
    )
    bucket = setting("PANDOM_BUCKET")
    root = Account(secret("minio_root_user"), secret("minio_root_password"))
    user = Account(setting("PANDOM_MINIO_ACCESS_KEY"), secret("minio_secret_key"))

    with step(f"object store {endpoint.address}"):
        _wait(endpoint)
    try:
        _converge(endpoint, bucket, root, user)
    except (MinioException, MinioAdminException, HTTPError) as error:
        raise Failure(
            f"The object store at {endpoint.address} refused: {_reason(error)}\n"
            "Next: look at its log (docker logs pandom-<stack>-minio), then run `make up` again; "
            "what was done already is kept."
        ) from error


def _wait(endpoint: Endpoint) -> None:
    """Return when the store can be written to; raises Failure after WAIT_S seconds."""
    end = time.monotonic() + WAIT_S
    while not reachable(endpoint):
        if time.monotonic() > end:
            raise Failure(
                f"The object store at {endpoint.address} was not ready within {WAIT_S} s.\n"
                "Next: look at its log: docker logs pandom-<stack>-minio"
            )
        time.sleep(0.2)


def _converge(endpoint: Endpoint, bucket: str, root: Account, user: Account) -> None:
    """Make, read back, and make again if a server that was still loading its users and
    policies when it was asked has lost a change."""
    s3, admin = client(endpoint, root), administrator(endpoint, root)
    found: list[str] = []
    for _ in range(ROUNDS):
        with step(f"bucket {bucket}: private, versioned"):
            make_bucket(s3, bucket)
        with step(f"user {user.access_key}: limited to {bucket}"):
            others = make_user(endpoint, admin, bucket, user)
        with step("read back"):
            found = differences(s3, admin, bucket, user.access_key)
            # Only signing in proves the secret, which cannot be read back.
            if not found and not signs_in(endpoint, bucket, user):
                found = [f"user {user.access_key}: cannot sign in or does not see {bucket}"]
        if not found:
            break
        time.sleep(1)
    if found:
        raise Failure("The object store is not as declared:\n  " + "\n  ".join(found))
    if others:
        say(f"  not declared, left alone: {', '.join(others)}")


def _reason(error: Exception) -> str:
    """The error's own words; they hold codes and paths, no secrets."""
    code, message = getattr(error, "code", ""), getattr(error, "message", "")
    return f"{code}: {message}" if message else str(error) or type(error).__name__
