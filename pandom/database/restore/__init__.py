"""A restore: a database made ready for it, marked while it lasts, and closed after it."""
