"""What makes a new environment quick: a migrated cluster, and what Pulumi knows of it.

Taken from an environment that was made like every other and whose audit was clean. Nothing in it
is a secret of anything: every table but the list of revisions is emptied, no role has a password,
the log is begun anew, and the state has no secret. Accounts, settings, context key and passwords
are made in each environment by its own jobs, as in a stack without it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any, Final

import docker
import psycopg
from psycopg import sql

from pandom.ci.records import Record
from pandom.host import identity, superuser
from pandom.host.engine import Engine
from pandom.host.state import (
    DATABASE,
    IMAGE,
    POSTGRESQL_PROVIDER,
    ROLE,
    STACK,
    VOLUME,
    State,
    clear,
)
from pandom.runtime.errors import Failure
from pandom.runtime.naming import (
    LABEL_EXPIRES,
    LABEL_IDENTITY,
    LABEL_OWNER,
    LABEL_PART,
    LABEL_PROCESS,
    LABEL_PROTECTED,
    LABEL_STACK,
    resource_name,
)

# Where a container of the server's image has the data volume, and the cluster in it.
_VOLUME: Final = "/var/lib/postgresql"
_STOP_S: Final = 30.0
# Everything in the server, and the images: what an `up` would only make again.
_TYPES: Final = frozenset(
    {
        STACK,
        IMAGE,
        POSTGRESQL_PROVIDER,
        ROLE,
        DATABASE,
        "postgresql:index/grant:Grant",
        "postgresql:index/defaultPrivileges:DefaultPrivileges",
        "pulumi:providers:docker",
        *(f"pandom-stack:index:{name}" for name in ("Images", "Access", "Database")),
    }
)
_DATA: Final = "data-volume"
# Where a resource was registered: paths of the clone, for messages only.
_PLACES: Final = ("sourcePosition", "stackTrace", "created", "modified")


# -- taken from an environment --------------------------------------------------------------------


def empty(exported: Mapping[str, Any]) -> None:
    """Take everything out of an environment's server that belongs to it alone."""
    with superuser.database(exported) as server:
        if server is None:
            raise Failure("The server does not answer its superuser.")
        server.autocommit = True
        server.execute("set session_replication_role = replica")  # no trigger refuses or records
        tables = server.execute(
            "select c.relname from pg_catalog.pg_class as c "
            "where c.relkind = 'r' and c.relnamespace = 'public'::pg_catalog.regnamespace "
            "and c.relname <> 'alembic_version'"
        ).fetchall()
        names = sql.SQL(", ").join(sql.Identifier("public", name) for (name,) in tables)
        server.execute(sql.SQL("truncate {} restart identity").format(names))
        _forget_passwords(server)
        server.execute("checkpoint")


def _forget_passwords(server: psycopg.Connection) -> None:
    logins = server.execute(
        "select a.rolname from pg_catalog.pg_authid as a where a.rolpassword is not null"
    ).fetchall()
    for (name,) in logins:
        server.execute(sql.SQL("alter role {} password null").format(sql.Identifier(name)))
    server.execute("vacuum full pg_catalog.pg_authid")


def take(engine: Engine, sink: IO[bytes]) -> None:
    """Write the stopped server's cluster as a tar; the engine's containers go with the stack."""
    server = engine.container("postgres")
    if server is None:
        raise Failure("The server's container is gone.")
    engine.stop(server)
    folder = engine.folder(server)
    reset = ["-D", f"{folder}/data"]
    # What was in the rows and in pg_authid stands in the log, too.
    with engine.like(server.id, reset, "cache", entrypoint="pg_resetwal", network="none") as made:
        ended = engine.client.api.wait(made, timeout=_STOP_S)
        if ended["StatusCode"]:
            said = engine.client.api.logs(made).decode(errors="replace").strip()
            raise Failure(f"pg_resetwal ended with {ended['StatusCode']}: {said}")
        stream, _ = engine.client.api.get_archive(made, folder)
        for part in stream:
            sink.write(part)


def known(exported: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the resources of the state that the cluster and the images are, without secrets."""
    document: dict[str, Any] = json.loads(json.dumps(exported))
    found = [one for one in document["deployment"]["resources"] if _wanted(one)]
    urns = {one["urn"] for one in found}
    for one in found:
        for name in _PLACES:
            one.pop(name, None)
        one["dependencies"] = [urn for urn in one.get("dependencies") or () if urn in urns]
        one["propertyDependencies"] = {
            name: [urn for urn in some or () if urn in urns]
            for name, some in (one.get("propertyDependencies") or {}).items()
        }
        if not one["custom"]:
            one["outputs"] = {}
        for properties in (one.get("inputs") or {}, one.get("outputs") or {}):
            for name, value in properties.items():
                properties[name] = clear(value)
            if "password" in properties:
                properties["password"] = "" if one["type"] == POSTGRESQL_PROVIDER else None
        if one["type"] == ROLE:
            one["inputs"].pop("password", None)
    text = json.dumps(found)
    if any(secret in text for secret in superuser.generated(exported).values()):
        raise Failure("A secret is among what Pulumi knows of the server.")
    return found


def _wanted(one: Mapping[str, Any]) -> bool:
    return one["type"] in _TYPES or (one["type"] == VOLUME and one["urn"].endswith(f"::{_DATA}"))


# -- laid into a new one --------------------------------------------------------------------------


def labels(record: Record) -> dict[str, str]:
    """Return the labels of the volume, which the program then gives to everything else."""
    return {
        LABEL_STACK: record.id,
        LABEL_PART: "data",
        LABEL_IDENTITY: str(uuid.uuid4()),
        LABEL_OWNER: identity.owner_here(),
        LABEL_PROTECTED: "false",
        LABEL_EXPIRES: record.expires.isoformat(),
        LABEL_PROCESS: str(record.owner or ""),
    }


def fill(
    client: docker.DockerClient, record: Record, given: Mapping[str, str], image: str, source: Path
) -> None:
    """Make the data volume with the cluster in it, by a container that is never started.

    Of the server's image, whose folder gives the volume its owner.
    """
    api = client.api
    volume = resource_name(record.id, "data")
    api.create_volume(volume, labels=dict(given))
    made = api.create_container(
        image,
        ["true"],
        labels={**given, LABEL_PART: "cache"},
        host_config=api.create_host_config(binds=[f"{volume}:{_VOLUME}"]),
    )["Id"]
    try:
        with source.open("rb") as content:
            api.put_archive(made, _VOLUME, content)
    finally:
        api.remove_container(made, force=True)


def state(
    resources: Iterable[Mapping[str, Any]], former: str, record: Record, given: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return what the new stack's state begins with; ``former`` is the id it was taken from."""
    text = json.dumps(list(resources)).replace(former, record.id)
    found: list[dict[str, Any]] = json.loads(text)
    ca = str(record.state_home / record.id / "ca.crt")
    for one in found:
        for properties in (one.get("inputs") or {}, one.get("outputs") or {}):
            if one["type"] == POSTGRESQL_PROVIDER:
                properties |= {"port": str(record.ports["postgresPort"]), "sslrootcert": ca}
            elif one["type"] == VOLUME:
                properties["labels"] = [
                    {"label": name, "value": given[name]} for name in sorted(given)
                ]
    return found


def images(resources: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the digests of the images, by part."""
    found = State({"deployment": {"resources": list(resources)}}).of_type(IMAGE)
    return {
        one.urn.rpartition("::")[2].removesuffix("-image"): str(one.outputs["repoDigest"])
        for one in found
    }
