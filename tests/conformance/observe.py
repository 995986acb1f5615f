"""Runs the conformance program with the plugins on PATH and writes down what they did.

What differs between two runs of the same plugins (ids, addresses, times, generated
passwords) is replaced by placeholders, so that two sets of plugins can be compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import docker

from tests.conformance.life import Run

# Outputs that no two runs share.
_VOLATILE: Final = frozenset(
    {
        "id",
        "bcryptHash",
        "containerLogs",
        "hostname",
        "ipamConfigs",
        "mountpoint",
        "networkDatas",
        "options",  # of a network; newer engines fill it in
        "platform",
        "runtime",
        "port",
        "repoDigest",
        "result",
        # How the official plugins rebuild their own state, which they do without it, too.
        "__pulumi_raw_state_delta",
    }
)
# What the engine decides by itself, and another version of it decides otherwise.
_ENGINES_OWN: Final = frozenset(
    {"CgroupnsMode", "ConsoleSize", "MaskedPaths", "ReadonlyPaths", "Runtime"}
)
# Properties whose order means something; all other lists are sets.
_LISTS: Final = frozenset({"command", "entrypoints", "ports", "searchPaths", "tests"})
_SIGNATURE: Final = "4dabf18193072939515e22adb298388d"

_CATALOG: Final = {
    "roles": """
        select r.rolname, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb,
            r.rolcanlogin, r.rolreplication, r.rolbypassrls, r.rolconnlimit,
            r.rolvaliduntil::text, r.rolconfig, left(a.rolpassword, 13)
        from pg_catalog.pg_roles r
        join pg_catalog.pg_authid a on a.oid = r.oid
        where r.rolname like 'c\\_%' order by 1""",
    "memberships": """
        select m.roleid::regrole::text, m.member::regrole::text, m.admin_option,
            m.inherit_option, m.set_option
        from pg_catalog.pg_auth_members m
        where m.member::regrole::text like 'c\\_%' order by 1, 2""",
    "databases": """
        select d.datname, d.datdba::regrole::text, pg_encoding_to_char(d.encoding),
            d.datlocprovider, d.datcollate, d.datctype, d.datlocale, d.datconnlimit,
            d.datallowconn, d.datistemplate, d.datacl::text[]
        from pg_catalog.pg_database d where d.datname like 'c\\_%' order by 1""",
    "schema": """
        select n.nspname, n.nspowner::regrole::text, n.nspacl::text[]
        from pg_catalog.pg_namespace n where n.nspname = 'public'""",
    "default privileges": """
        select d.defaclrole::regrole::text, coalesce(d.defaclnamespace::regnamespace::text, ''),
            d.defaclobjtype, d.defaclacl::text[]
        from pg_catalog.pg_default_acl d order by 1, 2, 3""",
}


def observe(run: Run) -> dict[str, Any]:
    """Make, edit, break and mend everything, and write down what happened each time."""
    observed: dict[str, Any] = {}
    run.up()
    observed["made"] = {
        "state": state(run),
        "containers": containers(run),
        "catalog": catalog(run),
    }
    run.pulumi("config", "set", "edited", "true")
    observed["edit steps"] = steps(run)
    before = run.identities()
    run.up()
    after = run.identities()
    observed["edited"] = {
        "state": state(run),
        "containers": containers(run),
        "catalog": catalog(run),
        "kept": sorted(name for name, number in after.items() if before.get(name) == number),
    }
    break_by_hand(run)
    observed["steps after damage"] = steps(run, "--refresh")
    run.up("--refresh")
    observed["mended"] = {
        "service runs": containers(run)["service"]["state"]["running"],
        "catalog": catalog(run),
    }
    run.pulumi("destroy", "--yes", "--skip-preview")
    observed["left behind"] = sorted(set(run.identities()) - {"server"})
    return observed


def break_by_hand(run: Run) -> None:
    """One piece of damage per kind of resource, each on a resource of its own."""
    client = docker.from_env()
    client.containers.get(f"{run.prefix}-service").stop(timeout=1)
    client.containers.get(f"{run.prefix}-job").remove(force=True)
    client.containers.get(f"{run.prefix}-nothing").remove(force=True)
    with run.sql("c_database") as connection:
        for statement in (
            "alter role c_nothing connection limit 3",
            "drop role c_login",
            "revoke connect on database c_database from c_third",
            "grant create on schema public to c_reader",
            "alter default privileges for role c_owner revoke select on tables from c_reader",
            "revoke c_second from c_owner",
            "alter database c_database_connections connection limit 1",
        ):
            connection.execute(statement)


def differences(expected: Any, found: Any, path: str = "") -> list[str]:
    """Where two observations part, one line each."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return [
            line
            for key in sorted({*expected, *found})
            for line in differences(expected.get(key), found.get(key), f"{path}/{key}")
        ]
    return [] if expected == found else [f"{path}: official {expected!r}, here {found!r}"]


def steps(run: Run, *arguments: str) -> dict[str, Any]:
    """What a preview would do: per resource the operation and the properties behind it."""
    preview = json.loads(run.pulumi("preview", "--json", *arguments))
    return dict(
        sorted(
            (step["urn"].rsplit("::", 1)[-1], _step(step))
            for step in preview["steps"]
            if step["op"] not in ("same", "refresh")
        )
    )


def state(run: Run) -> dict[str, Any]:
    """The state: inputs and outputs of every resource, without what is volatile."""
    exported = json.loads(run.pulumi("stack", "export", "--show-secrets"))
    resources: dict[str, Any] = {}
    for resource in exported["deployment"]["resources"]:
        name = resource["urn"].rsplit("::", 1)[-1]
        if resource["type"] == "pulumi:pulumi:Stack" or "providers" in resource["type"]:
            continue
        resources[name] = {
            side: _settled(run, resource.get(side) or {}) for side in ("inputs", "outputs")
        }
    return dict(sorted(resources.items()))


def _settled(run: Run, values: Mapping[str, Any]) -> dict[str, Any]:
    shown = {
        key: _in_order(key, placed(run, _revealed(value)))
        for key, value in sorted(values.items())
        if key not in _VOLATILE
    }
    # Both say that nothing is there, and some plugins leave such properties out.
    return {key: value for key, value in shown.items() if value not in (None, [], {"*": None})}


def _in_order(key: str, value: Any) -> Any:
    """Sets in one order: the official plugins order them by a hash, the stand-ins not at all."""
    if isinstance(value, dict):
        return {name: _in_order(name, item) for name, item in value.items()}
    if isinstance(value, list):
        items = [_in_order("", item) for item in value]
        return items if key in _LISTS else sorted(items, key=lambda item: json.dumps(item))
    return value


def placed(run: Run, value: Any) -> Any:
    """The value with everything that is this run's own replaced by a placeholder."""
    if isinstance(value, dict):
        return {placed(run, key): placed(run, item) for key, item in value.items()}
    if isinstance(value, list):
        return [placed(run, item) for item in value]
    if isinstance(value, str):
        value = value.replace(run.prefix, "<prefix>")
        return re.sub(r"\b[0-9a-f]{64}\b", "<digest>", value)
    return value


def containers(run: Run) -> dict[str, Any]:
    """``docker inspect`` of every container, without what is volatile."""
    client = docker.APIClient()
    found = {}
    for item in client.containers(all=True, filters={"name": f"^/{run.prefix}-"}):
        name = item["Names"][0].removeprefix(f"/{run.prefix}-")
        if name != "server":
            found[name] = placed(run, _inspected(client.inspect_container(item["Id"])))
    return dict(sorted(found.items()))


def catalog(run: Run) -> dict[str, Any]:
    """What the server's catalogs hold."""
    with run.sql("c_database") as connection:
        return {
            name: [_row(row) for row in connection.execute(query).fetchall()]
            for name, query in _CATALOG.items()
        }


def _row(row: Sequence[Any]) -> list[Any]:
    """Access lists in order: the server sorts some by the roles' numbers."""
    return [sorted(value) if isinstance(value, list) else value for value in row]


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    detailed = {re.split(r"[.\[]", path)[0] for path in step.get("detailedDiff") or {}}
    return {
        "operation": step["op"],
        "changes": sorted(detailed | set(step.get("diffReasons") or [])),
        "replaces": sorted(step.get("replaceReasons") or []),
    }


def _revealed(value: Any) -> Any:
    """Secrets as ``{"*": value}``: that it is one is part of what is compared."""
    if isinstance(value, dict):
        if _SIGNATURE in value:
            return {"*": json.loads(value["plaintext"])}
        return {key: _revealed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_revealed(item) for item in value]
    return value


def _inspected(found: Mapping[str, Any]) -> dict[str, Any]:
    config, host, state = found["Config"], found["HostConfig"], found["State"]
    if found["Id"].startswith(config["Hostname"]):
        config["Hostname"] = "<id>"
    networks = found["NetworkSettings"]["Networks"]
    return {
        "config": _present(config),
        "host": _present(host),
        "state": {
            "running": state["Running"],
            "exit code": state["ExitCode"],
            "health": (state.get("Health") or {}).get("Status"),
        },
        "networks": {
            name: sorted(
                alias for alias in item["Aliases"] or [] if not found["Id"].startswith(alias)
            )
            for name, item in networks.items()
        },
    }


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what says nothing, and with lists that are sets in order."""
    ordered = {"Env", "CapAdd", "CapDrop", "Binds", "GroupAdd", "SecurityOpt"}
    return {
        key: sorted(value) if key in ordered else value
        for key, value in sorted(values.items())
        if value not in (None, "", 0, False, [], {}) and key not in _ENGINES_OWN
    }
