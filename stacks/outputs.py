"""The stack's outputs. Their names are a contract: ``pandom env`` prints them in
upper case, and clients rely on them (D1)."""

from __future__ import annotations

from typing import Final

import pulumi

from schema.access import DATABASE, roles
from schema.storage import AUDITOR, EVIDENCE, MEDIA
from stacks.container import labels
from stacks.keys import Keys, store_secret
from stacks.settings import Settings

# Whose login `pandom env` gives by default.
APPLICATION: Final = "pandom_app"
# Logins whose secret is in no output: the migration job alone has it.
UNSHARED: Final = frozenset({"pandom_migrator"})

# The dotenv block, in the order in which it is printed.
ENV_NAMES: Final = (
    "DB_HOST",
    "DB_PORT",
    "DB_USERNAME",
    "DB_PASSWORD",
    "DB_DATABASE",
    "DB_SSLMODE",
    "DB_SSLROOTCERT",
    "DB_POOL_MAX",
    "DB_CONNECT_TIMEOUT_MS",
    "DB_IDLE_TIMEOUT_MS",
    "DATABASE_URL",
    "MINIO_ENDPOINT",
    "MINIO_PORT",
    "MINIO_USE_SSL",
    "MINIO_ACCESS_KEY",
    "MINIO_SECRET_KEY",
    "MINIO_BUCKET_NAME",
    "ADMIN_EMAIL",
    "ADMIN_PASSWORD",
)


def database_url(user: str, password: str, port: int, sslmode: str, sslrootcert: str) -> str:
    """A libpq URL; generated passwords need no escaping, given ones are escaped."""
    from urllib.parse import quote

    return (
        f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{port}/{DATABASE}"
        f"?sslmode={sslmode}&sslrootcert={quote(sslrootcert)}"
    )


def export(settings: Settings, keys: Keys, sslrootcert: str) -> None:
    """Every output of the stack; secret ones stay encrypted in the state."""
    password = keys.secrets[APPLICATION]
    values: dict[str, pulumi.Input[object]] = {
        "db_host": "127.0.0.1",
        "db_port": settings.postgres_port,
        "db_username": APPLICATION,
        "db_password": password,
        "db_database": DATABASE,
        "db_sslmode": settings.sslmode,
        "db_sslrootcert": sslrootcert,
        # The source document's pool (D1): 20 connections, 5 s, 30 s.
        "db_pool_max": 20,
        "db_connect_timeout_ms": 5000,
        "db_idle_timeout_ms": 30000,
        "database_url": password.apply(
            lambda secret: database_url(
                APPLICATION, secret, settings.postgres_port, settings.sslmode, sslrootcert
            )
        ),
        "minio_endpoint": "127.0.0.1",
        "minio_port": settings.minio_port,
        "minio_use_ssl": True,
        "minio_access_key": MEDIA.name,
        "minio_secret_key": keys.secrets[store_secret(MEDIA)],
        "minio_bucket_name": settings.bucket,
        "admin_email": settings.admin_email,
        "admin_password": keys.secrets["admin"],
        "ca_certificate": keys.certificate,
        "passwords": pulumi.Output.secret(
            {
                role.name: keys.secrets[role.name]
                for role in roles(settings.opt_in)
                if role.login and role.name not in UNSHARED
            }
        ),
        # Who audits a stack from outside asks as one and keeps evidence as the other.
        "store_secrets": pulumi.Output.secret(
            {user.name: keys.secrets[store_secret(user)] for user in (AUDITOR, EVIDENCE)}
        ),
        "profile": settings.profile_name,
        # Whose stack it is, for a state that has nothing else left.
        **{label.rpartition(".")[2]: value for label, value in labels(settings.stack, "").items()},
    }
    for name, value in values.items():
        pulumi.export(name, value)
