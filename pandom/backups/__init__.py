"""Backups inside the container `operations`, and what host and container know of a repository.

The host asks the same pgBackRest in the same containers; only who starts it differs.
"""
