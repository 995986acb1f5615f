"""What can be rotated, what is refused, and what the state says of a rotation on its way."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from pandom.config.readers import GIVEN, READERS
from pandom.config.settings import load
from pandom.host import rotate, superuser
from pandom.host.stack import Stack
from pandom.host.state import CONTAINER, POSTGRESQL_PROVIDER, RANDOM, ROLE, SECRET_MARK, STACK
from pandom.runtime.errors import UsageError
from schema.access import OPT_IN


def secret(value: object) -> dict[str, str]:
    return {SECRET_MARK: "1", "plaintext": json.dumps(value)}


def exported(*, made: str, provider: str, role: str, written: str) -> dict[str, Any]:
    """A state with a value of each secret where it stands."""
    readers = {
        reader: {"files": dict.fromkeys(files, written)} for reader, (_, files) in READERS.items()
    }
    names = {name for _, files in READERS.values() for name in files.values()} | {"pandom_app"}
    resources: list[dict[str, Any]] = [
        {
            "urn": f"u::{name.replace('_', '-')}-password",
            "type": RANDOM,
            "outputs": {"result": secret(made)},
        }
        for name in sorted(names - {"minio-root-user"})
    ]
    login = {"username": "postgres", "host": "127.0.0.1", "port": "1", "sslrootcert": "/ca"}
    resources += [
        {
            "urn": "u::cluster",
            "type": POSTGRESQL_PROVIDER,
            "inputs": {**login, "password": secret(provider)},
            "outputs": {"password": secret(provider)},
        },
        {"urn": "r", "type": ROLE, "inputs": {"name": "pandom_app", "password": secret(role)}},
        {
            "urn": "k",
            "type": CONTAINER,
            "inputs": {
                "labels": [{"label": "pandom.part", "value": "keys"}],
                "uploads": secret([{"content": json.dumps({"readers": readers})}]),
            },
        },
    ]
    return {"deployment": {"resources": resources}}


def test_every_secret_can_be_rotated() -> None:
    known = {one for kind in rotate.kinds(OPT_IN).values() for one in kind.secrets}
    held = {name for _, files in READERS.values() for name in files.values()}
    # A user's, no secret, and what pgBackRest cannot change in a repository.
    assert held - known == {"admin", "minio-root-user", "repository-key"}


def test_a_login_of_containers_alone_is_told_to_nobody() -> None:
    stack, kinds = Stack("dev"), rotate.kinds(OPT_IN)
    for name in ("pandom_metrics", "pandom_janitor", "pandom_migrator"):
        assert rotate._told(stack, (name,)) == []
        assert kinds[name].effect == rotate._INSIDE
    (command,) = rotate._told(stack, ("pandom_metrics", "pandom_user"))
    assert command.endswith("env --stack dev --role pandom_user")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("pandom_nobody", "nothing that can be rotated"),
        ("admin", "ADMIN_PASSWORD is a user's"),
        ("repository-key", "open with no other key"),
        ("pandom_service", "There are: "),  # not switched on
    ],
)
def test_what_is_nothing_is_refused(what: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        rotate.chosen(what, Stack("dev"), load("dev", {}))


@pytest.mark.parametrize("what", sorted(GIVEN.keys() - {"admin"}))
def test_a_secret_that_is_given_is_refused(what: str) -> None:
    key = GIVEN[what]
    settings = load("dev", {f"pandom-stack:{key}": {"secure": "v1:x"}})
    with pytest.raises(UsageError, match=f"given by {key} in stacks/Pulumi.dev.yaml"):
        rotate.chosen(what, Stack("dev"), settings)
    if what.startswith("pandom_"):
        with pytest.raises(UsageError, match=key):
            rotate.chosen("all-logins", Stack("dev"), settings)
    assert rotate.chosen(what, Stack("dev"), load("dev", {})).secrets == (what,)


def test_an_interrupted_rotation_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(superuser, "refused_by_store", lambda _: [])
    rest = exported(made="a", provider="a", role="a", written="a")
    begun = exported(made="b", provider="a", role="a", written="a")
    for names in (("pandom_app",), ("postgres",), ("minio-root",), ("pandom_app", "minio-media")):
        assert rotate._unfinished(begun, names)
        assert not rotate._unfinished(rest, names)
    one_only = exported(made="b", provider="b", role="a", written="b")
    assert rotate._unfinished(one_only, ("pandom_app",))
    assert not rotate._unfinished(one_only, ("pandom_app", "postgres"))
    with pytest.raises(UsageError, match="pandom_service: declared and not there yet"):
        rotate._unfinished(rest, ("pandom_service",))
    # Pulumi has noted the login, and clients are not told yet.
    noted = exported(made="b", provider="b", role="b", written="b")
    outputs = {"passwords": secret({"pandom_app": "a"}), "minio_secret_key": secret("b")}
    outputs |= {"store_secrets": secret({"pandom-auditor": "b", "pandom-evidence": "b"})}
    outputs |= {"password_hash_key": secret("a")}
    noted["deployment"]["resources"].append({"urn": "s", "type": STACK, "outputs": outputs})
    assert rotate._unfinished(noted, ("pandom_app",))
    assert rotate._unfinished(noted, ("password-hash-key",))
    assert not rotate._unfinished(noted, ("minio-media",))
    # Written to the volume, and the server has not read it.
    written = exported(made="b", provider="b", role="b", written="b")
    monkeypatch.setattr(superuser, "refused_by_store", lambda _: ["minio-root"])
    assert rotate._unfinished(written, ("minio-root",))
    assert not rotate._unfinished(written, ("pandom_app",))


def test_the_superuser_gets_in_with_either_password(monkeypatch: pytest.MonkeyPatch) -> None:
    class Connection:
        def __enter__(self) -> Connection:
            return self

        def __exit__(self, *_: object) -> None: ...

    accepted = {"b"}

    def connect(**given: Any) -> Connection:
        if given["password"] not in accepted:
            raise psycopg.OperationalError("password authentication failed")
        return Connection()

    monkeypatch.setattr(psycopg, "connect", connect)
    state = exported(made="b", provider="a", role="a", written="a")
    assert superuser.new_password(state) == "b"
    for taken in "ab":
        accepted.clear()
        accepted.add(taken)
        with superuser.database(state) as server:
            assert server is not None
    accepted.clear()
    with superuser.database(state) as server:
        assert server is None
    assert superuser.is_refused(state)
    done = superuser.with_provider(state, "b")
    assert superuser.new_password(done) is None
    assert superuser.new_password(state) == "b"  # which is left as it was
