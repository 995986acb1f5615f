"""The storage job: makes buckets, users and policies as declared, and reads them back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from minio.error import MinioAdminException, MinioException
from urllib3.exceptions import HTTPError

from pandom.audit import store as facts
from pandom.audit.store import StoreClient
from pandom.objectstore import (
    Account,
    Endpoint,
    client,
    make_buckets,
    make_users,
    reachable,
    remove_user,
    signs_in,
)
from pandom.runtime.errors import Failure
from pandom.runtime.inputs import secret, secret_file, setting
from pandom.runtime.progress import say, step
from schema.storage import BACKUP, COPIER, OWN_STORE, users

# MinIO starts in about a second; a slow disk or a first start may take longer.
WAIT_S: Final = 60

ROUNDS: Final = 3


def run() -> None:
    """Converge the object store; raises Failure if it cannot, or is not as declared after."""
    endpoint = Endpoint(
        setting("PANDOM_MINIO_HOST"), int(setting("PANDOM_MINIO_PORT")), secret_file("ca.crt")
    )
    root = Account(secret("minio_root_user"), secret("minio_root_password"))
    backup = setting("PANDOM_BACKUP")
    secrets = {user.name: secret(user.secret_file) for user in users(backup)}
    store = StoreClient(endpoint, root, setting("PANDOM_BUCKET"), backup)

    with step(f"object store {endpoint.address}"):
        _wait(endpoint)
    try:
        converge(store, secrets)
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


def converge(store: StoreClient, secrets: Mapping[str, str]) -> None:
    """Make what is declared, read it back, and repeat if a loading server lost a change.

    ``store`` is asked as root; ``secrets`` are the users'. Undeclared users and buckets are named
    and left alone. Raises Failure for what stays different.
    """
    s3 = client(store.endpoint, store.account)
    wrong: list[str] = []
    others: list[str] = []
    for _ in range(ROUNDS):
        with step("buckets: private, versioned, evidence locked"):
            make_buckets(s3, store.bucket, store.backup == OWN_STORE)
        with step("users: limited to what is declared"):
            make_users(store.endpoint, store.account, store.bucket, secrets)
            for user in {COPIER, BACKUP} - {*users(store.backup)}:
                if remove_user(store.endpoint, store.account, user.name):
                    say(f"  {user.name} is gone, which this stack's backups do not need")
        with step("read back"):
            wrong, others = _read_back(store, secrets)
        if not wrong:
            break
        time.sleep(1)
    if wrong:
        raise Failure("The object store is not as declared:\n  " + "\n  ".join(wrong))
    if others:
        say(f"  not declared, left alone: {', '.join(others)}")


def _read_back(store: StoreClient, secrets: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return what is not as declared, one sentence each, and what nobody declared."""
    seen = facts.read(store)
    expected = facts.expected(store, seen.facts)
    wrong = [f"cannot be read: {what}" for what in seen.unknown]
    for fact, value in expected.items():
        found = seen.facts.get(fact, "missing")
        if found != value:
            wrong.append(
                f"{fact.kind} {fact.object}, {fact.detail}: {found or 'none'}, "
                f"expected {value or 'none'}"
            )
    # Only signing in proves a secret, which cannot be read back.
    wrong += [
        f"store user {name}: cannot sign in"
        for name, value in secrets.items()
        if not signs_in(store.endpoint, Account(name, value))
    ]
    known = {(fact.kind, fact.object) for fact in expected}
    others = {(fact.kind, fact.object) for fact in seen.facts} - known
    return wrong, sorted(f"{kind} {name}" for kind, name in others)


def _reason(error: Exception) -> str:
    """Return the error's own words; they hold codes and paths, no secrets."""
    code, message = getattr(error, "code", ""), getattr(error, "message", "")
    return f"{code}: {message}" if message else str(error) or type(error).__name__
