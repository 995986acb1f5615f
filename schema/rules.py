"""Rules about values that the database and the configuration both enforce."""

from typing import Final

# The source document's check of auth_users.email (C5).
EMAIL_PATTERN: Final = r"^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$"
