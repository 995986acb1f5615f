"""Rules about values that the database and the configuration both enforce."""

import re
from typing import Final

# The source document's check of auth_users.email.
EMAIL_PATTERN: Final = r"^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$"

MIN_PASSWORD_LENGTH: Final = 12
BCRYPT_BYTES: Final = 72
_WEAK: Final = ("admin", "password", "pandom", "secret", "letmein", "qwerty", "changeme", "123456")


def email_problem(value: str) -> str | None:
    """Return what is expected instead of ``value``, or None."""
    ok = len(value) <= 255 and re.fullmatch(EMAIL_PATTERN, value)
    return None if ok else "an e-mail address such as admin@example.com"


def password_problem(value: str, email: str) -> str | None:
    """Return why ``value`` is too weak for an administrator, or None."""
    lowered = value.lower()
    if len(value) < MIN_PASSWORD_LENGTH:
        return f"at least {MIN_PASSWORD_LENGTH} characters"
    if len(value.encode()) > BCRYPT_BYTES:
        return f"at most {BCRYPT_BYTES} bytes, because bcrypt ignores the rest"
    if len(set(value)) < 6:
        return "at least 6 different characters"
    if any(word in lowered and len(value) < len(word) + 10 for word in _WEAK):
        return "not a well-known password with a few characters added"
    if email.split("@")[0].lower() in lowered:
        return "not containing the e-mail's name"
    return None
