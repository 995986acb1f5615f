"""The stack's outputs. Their names are a contract: ``pandom env`` prints them in
upper case, and clients rely on them."""

from __future__ import annotations

import pulumi

from pandom.config.outputs import APPLICATION, UNSHARED, database_url
from pandom.config.readers import store_secret
from pandom.config.settings import Settings
from pandom.objectstore import REGION
from schema.access import DATABASE, roles
from schema.storage import AUDITOR, EVIDENCE, MEDIA
from stacks.container import labels
from stacks.database import Database
from stacks.keys import Keys
from stacks.storage import Storage


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
        # The source document's pool: 20 connections, 5 s, 30 s.
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
        # For audits from outside: one user asks, the other stores evidence.
        "store_secrets": pulumi.Output.secret(
            {user.name: keys.secrets[store_secret(user)] for user in (AUDITOR, EVIDENCE)}
        ),
        "profile": settings.profile_name,
        # What lives in rows of the database: health and the audit compare it.
        "signed_context": settings.signed_context,
        "encrypt_password_hash": settings.encrypt_password_hash,
        "audit_retention_months": settings.audit_retention_months,
        "bcrypt_cost": settings.bcrypt_cost,
        # What `pandom backup`, health and the audit go by.
        "backup": settings.backup.kind,
        "backup_max_age_days": settings.backup.max_age_days,
        "drill_max_age_days": settings.drill_max_age_days,
        # Which tasks health asks for.
        "schedules": dict(settings.schedules),
        # The account functions take it from their caller: the database never has it.
        "password_hash_key": keys.secrets["password-hash-key"],
        **({} if settings.metrics_port is None else {"metrics_port": settings.metrics_port}),
        # The stack's identity, for a state that lost everything else.
        **{label.rpartition(".")[2]: value for label, value in labels(settings.stack, "").items()},
    }
    for name, value in values.items():
        pulumi.export(name, value)
