"""Which properties each copy of a resource changes, before and after.

A single preview then shows for every property whether its change is an update, a replacement
or nothing at all.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import pulumi_docker as docker


class Edit(NamedTuple):
    """Arguments of a resource before and after the change."""

    before: dict[str, Any]
    after: dict[str, Any]


def _upload(**changes: Any) -> dict[str, Any]:
    arguments = {"file": "/etc/conformance", "content": "one", "permissions": "0400"}
    return {"uploads": [docker.ContainerUploadArgs(**{**arguments, **changes})]}


def _port(**changes: Any) -> dict[str, Any]:
    arguments = {"internal": 80, "external": 18080, "ip": "127.0.0.1"}
    return {"ports": [docker.ContainerPortArgs(**{**arguments, **changes})]}


def _health(**changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "tests": ["CMD", "true"],
        "interval": "5s",
        "timeout": "3s",
        "retries": 2,
        "start_period": "1m0s",
    }
    return {"healthcheck": docker.ContainerHealthcheckArgs(**{**arguments, **changes})}


def _labels(**labels: str) -> dict[str, Any]:
    return {
        "labels": [
            docker.ContainerLabelArgs(label=f"pandom.{name}", value=value)
            for name, value in labels.items()
        ]
    }


_CONTAINER_EDITS: Final[dict[str, Edit]] = {
    "attach": Edit({}, {"attach": True}),
    "capabilities": Edit(
        {"capabilities": docker.ContainerCapabilitiesArgs(drops=["ALL"], adds=["CAP_CHOWN"])},
        {
            "capabilities": docker.ContainerCapabilitiesArgs(
                drops=["ALL"], adds=["CAP_CHOWN", "CAP_FOWNER"]
            )
        },
    ),
    "command": Edit({"command": ["sleep", "1"]}, {"command": ["sleep", "2"]}),
    "cpu-shares": Edit({"cpu_shares": 512}, {"cpu_shares": 256}),
    "destroy-grace": Edit({"destroy_grace_seconds": 5}, {"destroy_grace_seconds": 6}),
    "entrypoint": Edit({"entrypoints": ["sleep"]}, {"entrypoints": ["/bin/sleep"]}),
    "env": Edit({"envs": ["A=1", "B=2"]}, {"envs": ["A=1", "B=3"]}),
    "env-order": Edit({"envs": ["A=1", "B=2"]}, {"envs": ["B=2", "A=1"]}),
    "group": Edit({"group_adds": ["7000"]}, {"group_adds": ["7001"]}),
    "health-interval": Edit(_health(), _health(interval="6s")),
    "health-removed": Edit(_health(), {}),
    "health-test": Edit(_health(), _health(tests=["CMD", "false"])),
    "hostname": Edit({"hostname": "one"}, {"hostname": "two"}),
    "init": Edit({"init": False}, {"init": True}),
    "ipc": Edit({"ipc_mode": "private"}, {"ipc_mode": "none"}),
    "label-added": Edit(_labels(part="a"), _labels(part="a", owner="b")),
    "label-value": Edit(_labels(part="a"), _labels(part="b")),
    "log-driver": Edit({"log_driver": "json-file"}, {"log_driver": "none"}),
    "log-opts": Edit(
        {"log_driver": "json-file", "log_opts": {"max-size": "1m", "max-file": "2"}},
        {"log_driver": "json-file", "log_opts": {"max-size": "2m", "max-file": "2"}},
    ),
    "logs": Edit({}, {"logs": True}),
    "max-retry": Edit(
        {"restart": "on-failure", "max_retry_count": 2},
        {"restart": "on-failure", "max_retry_count": 3},
    ),
    "memory": Edit(
        {"memory": 64, "memory_swap": 64},
        {"memory": 96, "memory_swap": 96},
    ),
    "memory-removed": Edit({"memory": 64, "memory_swap": 64}, {}),
    "mount-tmpfs": Edit(
        {"mounts": [docker.ContainerMountArgs(type="tmpfs", target="/scratch")]},
        {"mounts": [docker.ContainerMountArgs(type="tmpfs", target="/scratch2")]},
    ),
    "name": Edit({"name": "before"}, {"name": "after"}),
    "network-mode": Edit({"network_mode": "none"}, {"network_mode": "bridge"}),
    "nothing": Edit({"hostname": "same", **_health()}, {"hostname": "same", **_health()}),
    "port-external": Edit(_port(), _port(external=18081)),
    "port-ip": Edit(_port(), _port(ip="0.0.0.0")),  # noqa: S104
    "read-only": Edit({"read_only": True}, {"read_only": False}),
    "remove-volumes": Edit({"remove_volumes": True}, {"remove_volumes": False}),
    "restart": Edit({"restart": "no"}, {"restart": "unless-stopped"}),
    "rm": Edit({}, {"rm": True}),
    "security": Edit(
        {"security_opts": ["no-new-privileges:true"]},
        {"security_opts": ["no-new-privileges:false"]},
    ),
    "shm-size": Edit({"shm_size": 32}, {"shm_size": 48}),
    "stdin": Edit({}, {"stdin_open": True}),
    "stop-signal": Edit({"stop_signal": "SIGINT"}, {"stop_signal": "SIGQUIT"}),
    "stop-timeout": Edit({"stop_timeout": 20}, {"stop_timeout": 30}),
    "sysctls": Edit(
        {"sysctls": {"net.ipv4.ip_unprivileged_port_start": "80"}},
        {"sysctls": {"net.ipv4.ip_unprivileged_port_start": "81"}},
    ),
    "tmpfs": Edit({"tmpfs": {"/run": "size=1m"}}, {"tmpfs": {"/run": "size=2m"}}),
    "tty": Edit({}, {"tty": True}),
    "ulimits": Edit(
        {"ulimits": [docker.ContainerUlimitArgs(name="nofile", soft=1024, hard=1024)]},
        {"ulimits": [docker.ContainerUlimitArgs(name="nofile", soft=2048, hard=2048)]},
    ),
    "upload-content": Edit(_upload(), _upload(content="two")),
    "upload-permissions": Edit(_upload(), _upload(permissions="0444")),
    "user": Edit({"user": "1000:1000"}, {"user": "2000"}),
    "wait": Edit({}, {"wait_timeout": 30}),
    "working-dir": Edit({"working_dir": "/tmp"}, {"working_dir": "/run"}),  # noqa: S108
}

# Edits that stand alone, because together with others they would mean something else. All
# others share one container: a preview names each property and says whether it replaces.
_ALONE: Final = (
    "env-order",
    "health-removed",
    "label-value",
    "memory-removed",
    "nothing",
    "port-ip",
    "restart",
    "upload-content",
    "upload-permissions",
)
_IN_PLACE: Final = (
    "attach",
    "cpu-shares",
    "destroy-grace",
    "health-interval",
    "init",
    "logs",
    "max-retry",
    "memory",
    "mount-tmpfs",
    "remove-volumes",
    "rm",
    "tmpfs",
    "wait",
)


def _together(edits: list[Edit]) -> Edit:
    """One resource with every edit's properties."""
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for edit in edits:
        before.update(edit.before)
        after.update(edit.after)
    return Edit(before, after)


CONTAINERS: Final[dict[str, Edit]] = {
    **{name: _CONTAINER_EDITS[name] for name in (*_ALONE, "health-test")},
    "in-place": _together([_CONTAINER_EDITS[name] for name in _IN_PLACE]),
    "replaced": _together(
        [
            edit
            for name, edit in _CONTAINER_EDITS.items()
            if name not in (*_ALONE, *_IN_PLACE, "health-test")
        ]
    ),
}

_ROLE_EDITS: Final[dict[str, Edit]] = {
    "assume": Edit({}, {"assume_role": "pg_monitor"}),
    "bypass": Edit({}, {"bypass_row_level_security": True}),
    "connections": Edit({"connection_limit": 5}, {"connection_limit": 6}),
    "create-db": Edit({}, {"create_database": True}),
    "create-role": Edit({}, {"create_role": True}),
    "idle-timeout": Edit(
        {"idle_in_transaction_session_timeout": 1000},
        {"idle_in_transaction_session_timeout": 2000},
    ),
    "inherit": Edit({"inherit": False}, {"inherit": True}),
    "login": Edit({}, {"login": True}),
    "name": Edit({"name": "c_before"}, {"name": "c_after"}),
    "nothing": Edit({"login": True}, {"login": True}),
    "password": Edit({"login": True, "password": "one"}, {"login": True, "password": "two"}),
    "replication": Edit({}, {"replication": True}),
    "search-path": Edit(
        {"search_paths": ["public", "pg_catalog"]}, {"search_paths": ["pg_catalog"]}
    ),
    "skip-reassign": Edit({}, {"skip_reassign_owned": True}),
    "statement-timeout": Edit({"statement_timeout": 1000}, {"statement_timeout": 0}),
    "superuser": Edit({"superuser": True}, {"superuser": False}),
    "valid-until": Edit({}, {"valid_until": "2050-01-01 00:00:00+00"}),
}

# All of them are made in place; a rename and nothing stand alone.
ROLES: Final[dict[str, Edit]] = {
    "name": _ROLE_EDITS["name"],
    "nothing": _ROLE_EDITS["nothing"],
    "login": _ROLE_EDITS["login"],
    "other": _together(
        [edit for name, edit in _ROLE_EDITS.items() if name not in ("name", "nothing", "login")]
    ),
}

DATABASES: Final[dict[str, Edit]] = {
    "connections": Edit({"connection_limit": 5}, {"connection_limit": 6}),
    "name": Edit({"name": "c_before"}, {"name": "c_after"}),
    "owner": Edit({"owner": "c_first"}, {"owner": "c_second"}),
}

GRANTS: Final[dict[str, Edit]] = {
    "database": Edit(
        {"object_type": "database", "privileges": ["CONNECT", "TEMPORARY"]},
        {"object_type": "database", "privileges": ["CONNECT"]},
    ),
    "database-public": Edit(
        {"object_type": "database", "role": "public", "privileges": []},
        {"object_type": "database", "role": "public", "privileges": ["CONNECT"]},
    ),
    "schema": Edit(
        {"object_type": "schema", "schema": "public", "privileges": ["USAGE"]},
        {"object_type": "schema", "schema": "public", "privileges": ["USAGE", "CREATE"]},
    ),
    "schema-public": Edit(
        {"object_type": "schema", "schema": "public", "role": "public", "privileges": []},
        {"object_type": "schema", "schema": "public", "role": "public", "privileges": ["USAGE"]},
    ),
    "role": Edit(
        {"object_type": "database", "role": "c_first", "privileges": ["CONNECT"]},
        {"object_type": "database", "role": "c_second", "privileges": ["CONNECT"]},
    ),
    "option": Edit(
        {"object_type": "database", "role": "c_third", "privileges": ["CONNECT"]},
        {
            "object_type": "database",
            "role": "c_third",
            "privileges": ["CONNECT"],
            "with_grant_option": True,
        },
    ),
}

DEFAULT_PRIVILEGES: Final[dict[str, Edit]] = {
    "function": Edit(
        {"object_type": "function", "role": "public", "privileges": []},
        # Nothing but this can be edited: EXECUTE for PUBLIC is the built-in default, for
        # which the catalog holds no entry, and the official plugin takes that for "gone".
        {"object_type": "function", "role": "c_reader", "privileges": ["EXECUTE"]},
    ),
    "table": Edit(
        {"object_type": "table", "privileges": ["SELECT"]},
        {"object_type": "table", "privileges": ["SELECT", "INSERT"]},
    ),
    "sequence": Edit(
        {"object_type": "sequence", "schema": "public", "privileges": ["USAGE"]},
        {"object_type": "sequence", "schema": "public", "privileges": ["USAGE", "SELECT"]},
    ),
    "type": Edit(
        {"object_type": "type", "role": "public", "privileges": []},
        {"object_type": "type", "role": "c_reader", "privileges": ["USAGE"]},
    ),
}

GRANT_ROLES: Final[dict[str, Edit]] = {
    "group": Edit({"grant_role": "c_first"}, {"grant_role": "c_second"}),
    "admin": Edit({"grant_role": "c_third"}, {"grant_role": "c_third", "with_admin_option": True}),
}

PASSWORDS: Final[dict[str, Edit]] = {
    "length": Edit({"length": 24}, {"length": 30}),
    "keepers": Edit({"length": 20, "keepers": {"n": "1"}}, {"length": 20, "keepers": {"n": "2"}}),
    "special": Edit({"length": 20, "special": True}, {"length": 20, "special": False}),
    "classes": Edit(
        {"length": 24, "min_lower": 4, "min_upper": 4, "min_numeric": 4, "special": False},
        {"length": 24, "min_lower": 5, "min_upper": 4, "min_numeric": 4, "special": False},
    ),
    "override": Edit(
        {"length": 20, "override_special": "-_"}, {"length": 20, "override_special": "-_."}
    ),
    "nothing": Edit({"length": 20}, {"length": 20}),
}
