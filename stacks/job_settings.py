"""The environment of the jobs: settings, never a secret."""

from __future__ import annotations

from pandom.naming import HOST_MINIO, HOST_POSTGRES
from schema.access import DATABASE
from stacks.settings import Settings


def job_settings(settings: Settings) -> dict[str, str]:
    """What ``pandom job …`` reads; the names are documented in pandom/jobs."""
    return {
        "PANDOM_STACK": settings.stack,
        "PANDOM_PROFILE": settings.profile_name,
        "PANDOM_DB_HOST": HOST_POSTGRES,
        "PANDOM_DB_PORT": "5432",
        "PANDOM_DB_NAME": DATABASE,
        "PANDOM_OPT_IN": ",".join(sorted(settings.opt_in)),
        "PANDOM_ADMIN_EMAIL": settings.admin_email,
        "PANDOM_SAMPLE_DATA": str(settings.sample_data).lower(),
        "PANDOM_ENCRYPT_PASSWORD_HASH": str(settings.encrypt_password_hash).lower(),
        "PANDOM_SIGNED_CONTEXT": str(settings.signed_context).lower(),
        "PANDOM_BCRYPT_COST": str(settings.bcrypt_cost),
        "PANDOM_RETENTION_MONTHS": str(settings.audit_retention_months),
        "PANDOM_MINIO_HOST": HOST_MINIO,
        "PANDOM_MINIO_PORT": "9000",
        "PANDOM_BUCKET": settings.bucket,
    }
