"""What a stack hands to its clients: the names are a contract, which `pandom env` prints."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from schema.access import DATABASE

# The default login of `pandom env`.
APPLICATION: Final = "pandom_app"
# Logins whose secret is in no output: only the migration job has it.
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
# Printed, too, while hashes are encrypted; a secret.
HASH_KEY: Final = "PASSWORD_HASH_KEY"


def database_url(
    user: str,
    password: str,
    port: int,
    sslmode: str,
    sslrootcert: str,
    database: str = DATABASE,
) -> str:
    """Return a libpq URL; generated passwords need no escaping, given ones are escaped."""
    return (
        f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{port}/{database}"
        f"?sslmode={sslmode}&sslrootcert={quote(sslrootcert)}"
    )
