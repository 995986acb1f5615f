"""Settings that every session of ours pins.

Start-up options override the settings of server, database and role, so nobody can change what we
read by setting one. Pulumi's plugins get them through PGOPTIONS.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from schema.access import ROLES

# Only settings that any login may set; others would refuse the connection.
SETTINGS: Final[Mapping[str, str]] = {
    # How values are written.
    "datestyle": "ISO,MDY",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    # How SQL is read, and definitions are written back.
    "standard_conforming_strings": "on",
    "backslash_quote": "safe_encoding",
    "transform_null_equals": "off",
    "array_nulls": "on",
    "quote_all_identifiers": "off",
    "search_path": "public",
    # Role, visible rows, and what may be changed.
    "role": "none",
    "row_security": "on",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "default_transaction_isolation": "read committed",
    "check_function_bodies": "on",
    "default_tablespace": "",
    "default_table_access_method": "heap",
    # How long anything may take.
    "statement_timeout": "0",
    "transaction_timeout": "0",
    "lock_timeout": "60s",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    # Messages.
    "client_min_messages": "warning",
}

# Names no file, because libpq's default would be one in ~/.postgresql; nobody can make one there.
_NO_FILE: Final = "/proc/none"
# What libpq would otherwise take from the home of whoever runs us.
ISOLATED: Final[Mapping[str, str]] = {
    "passfile": _NO_FILE,
    "sslcert": _NO_FILE,
    "sslkey": _NO_FILE,
    "sslcrl": _NO_FILE,
    "gssencmode": "disable",
}
# Only a superuser may set these in a session; the role's own value holds.
_OF_SUPERUSER: Final = frozenset({"temp_file_limit"})
_DECLARED: Final = {
    role.name: {key: text for key, text in role.settings.items() if key not in _OF_SUPERUSER}
    for role in ROLES
}


def options(role: str | None = None, more: str = "") -> str:
    """Return a session's start-up options: ours, those declared for its role, then ``more``."""
    settings = {**SETTINGS, **_DECLARED.get(role or "", {})}
    words = [f"-c {name}={_escaped(value)}" for name, value in settings.items()]
    return " ".join([*words, more]).strip()


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def session(role: str | None, more: str = "") -> dict[str, Any]:
    """Return the keywords for libpq that pin a session of ``role``."""
    return {"options": options(role, more), "client_encoding": "UTF8"}


def variables() -> dict[str, str]:
    """Return the same for Pulumi's plugins: only what the official plugin's library accepts."""
    return {"PGOPTIONS": options(), "PGSSLCERT": _NO_FILE}


def login(
    role: str,
    password: str,
    *,
    host: str,
    port: int,
    database: str,
    ca: str,
    application_name: str,
    timeout_s: int,
    more: str = "",
) -> dict[str, Any]:
    """Return libpq's keywords for a connection of ours, with verified TLS.

    ``more`` are further start-up options, such as another ``-c lock_timeout=…``.
    """
    return {
        **ISOLATED,
        **session(role, more),
        "host": host,
        "port": port,
        "user": role,
        "password": password,
        "dbname": database,
        "sslmode": "verify-full",
        "sslrootcert": ca,
        "connect_timeout": timeout_s,
        "application_name": application_name,
    }


def refusal(error: Exception) -> str:
    """Return in one line why a connection failed, without DETAIL, HINT and CONTEXT."""
    reasons: list[str] = []
    for line in str(error).strip().splitlines():
        if reasons and line.startswith(("DETAIL:", "HINT:", "CONTEXT:", "QUERY:", "LOCATION:")):
            break
        # libpq indents its own hints.
        if not line.startswith("\t"):
            reasons.append(line.strip())
    return reasons[-1] if reasons else type(error).__name__
