"""The stack's outputs. Their names are a contract: ``pandom env`` prints them in
upper case, and clients rely on them (D1)."""

from __future__ import annotations

from typing import Final

import pulumi

from pandom.objectstore import REGION
from schema.access import DATABASE, roles
from schema.storage import AUDITOR, EVIDENCE, MEDIA
from stacks.container import labels
from stacks.database import Database
from stacks.keys import Keys
from stacks.readers import store_secret
from stacks.settings import Settings
from stacks.storage import Storage

# Whose login `pandom env` gives by default.
APPLICATION: Final = "pandom_app"
# Logins whose secret is in no output: the migration job alone has it.
UNSHARED: Final = frozenset({"pandom_migrator"})

# What `pandom env` prints, in this order, and whether it is a secret.
ENV: Final[dict[str, bool]] = {
    "DB_HOST": False,
    "DB_PORT": False,
    "DB_USERNAME": False,
    "DB_PASSWORD": True,
    "DB_DATABASE": False,
    "DB_SSLMODE": False,
    "DB_SSLROOTCERT": False,
    "DB_POOL_MAX": False,
    "DB_CONNECT_TIMEOUT_MS": False,
    "DB_IDLE_TIMEOUT_MS": False,
    "DATABASE_URL": True,
    "MINIO_ENDPOINT": False,
    "MINIO_PORT": False,
    "MINIO_USE_SSL": False,
    "MINIO_CA": False,
    "MINIO_REGION": False,
    "MINIO_ACCESS_KEY": False,
    "MINIO_SECRET_KEY": True,
    "MINIO_BUCKET_NAME": False,
    "ADMIN_EMAIL": False,
    "ADMIN_PASSWORD": True,
}
ENV_NAMES: Final = tuple(ENV)
# Printed besides, and a secret, while hashes are encrypted.
HASH_KEY: Final = "PASSWORD_HASH_KEY"


def database_url(user: str, password: str, port: int, sslmode: str, sslrootcert: str) -> str:
    """A libpq URL; generated passwords need no escaping, given ones are escaped."""
    from urllib.parse import quote

    return (
        f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{port}/{DATABASE}"
        f"?sslmode={sslmode}&sslrootcert={quote(sslrootcert)}"
    )


def export(
    settings: Settings, keys: Keys, database: Database, storage: Storage, sslrootcert: str
) -> None:
    """Every output of the stack; secret ones stay encrypted in the state."""
    password = keys.secrets[APPLICATION]
    values: dict[str, pulumi.Input[object]] = {
        "db_host": "127.0.0.1",
        "db_port": database.port,
        "db_username": APPLICATION,
        "db_password": password,
        "db_database": DATABASE,
        "db_sslmode": settings.sslmode,
        "db_sslrootcert": sslrootcert,
        # The source document's pool (D1): 20 connections, 5 s, 30 s.
        "db_pool_max": 20,
        "db_connect_timeout_ms": 5000,
        "db_idle_timeout_ms": 30000,
        "database_url": pulumi.Output.all(password, database.port).apply(
            lambda known: database_url(
                APPLICATION, known[0], known[1], settings.sslmode, sslrootcert
            )
        ),
        "minio_endpoint": "127.0.0.1",
        "minio_port": storage.port,
        "minio_use_ssl": True,
        "minio_ca": sslrootcert,
        "minio_region": REGION,
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
        # What lives in rows of the database: health and the audit compare it.
        "signed_context": settings.signed_context,
        "encrypt_password_hash": settings.encrypt_password_hash,
        "audit_retention_months": settings.audit_retention_months,
        "bcrypt_cost": settings.bcrypt_cost,
        # The account functions take it from their caller: the database never has it.
        "password_hash_key": keys.secrets["password-hash-key"],
        # Whose stack it is, for a state that has nothing else left.
        **{label.rpartition(".")[2]: value for label, value in labels(settings.stack, "").items()},
    }
    for name, value in values.items():
        pulumi.export(name, value)
