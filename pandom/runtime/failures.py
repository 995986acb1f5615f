"""Messages and exit codes for errors of libraries and the system.

Libraries are recognised by module name, because no command imports all of them.
"""

from __future__ import annotations

import errno
import subprocess
import traceback
from typing import Final

from pandom.runtime import paths
from pandom.runtime.errors import FAILED, USAGE_ERROR, PandomError

_AGAIN: Final = "this command, run again, goes on from here."
# Errors of places that the user can change.
_PLACES: Final = {
    errno.EACCES: "may not be used by this user",
    errno.EPERM: "may not be changed by this user",
    errno.EROFS: "is on a file system that is mounted read-only",
    errno.ENOTDIR: "has a file where a folder is expected",
    errno.EISDIR: "is a folder where a file is expected",
    errno.ENAMETOOLONG: "is longer than the file system allows",
    errno.ELOOP: "is a link that leads back to itself",
}
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
# Classes of SQLSTATE about the server and not about our SQL: connection, resources, limits,
# operator intervention, system, changed privileges.
_SERVER: Final = ("08", "25006", "28", "42501", "53", "54", "55", "57", "58", "XX")


def explain(error: Exception) -> tuple[str, int]:
    """Return the message for people, ending with the next step, and the exit code."""
    if isinstance(error, PandomError):
        return str(error), error.exit_code
    return _outside(error) or _unexpected(error)


def _outside(error: Exception) -> tuple[str, int] | None:
    if isinstance(error, MemoryError):
        return "There is not enough memory.\nNext: end what needs it; " + _AGAIN, FAILED
    if isinstance(error, subprocess.TimeoutExpired):
        program = error.cmd if isinstance(error.cmd, str) else " ".join(map(str, error.cmd))
        return f"`{program}` did not end within {error.timeout:.0f} s.\nNext: {_AGAIN}", FAILED
    library = _library(error)
    if library == "docker":
        return _docker(error), FAILED
    if library == "minio":
        reason = getattr(error, "code", "") or _root(error)
        return (
            f"The object store stopped answering, or refused: {reason}\n"
            "Next: `.venv/bin/pandom status` shows whether it runs; " + _AGAIN
        ), FAILED
    if library in ("psycopg", "sqlalchemy"):
        return _database(error)
    if isinstance(error, OSError) and error.strerror:
        return _system(error)
    return None


def _library(error: BaseException) -> str:
    """Return the library that raised the error, or for which another one did."""
    known = ("docker", "minio", "psycopg", "sqlalchemy")
    name = type(error).__module__.partition(".")[0]
    if name in known:
        return name
    if name not in ("requests", "urllib3"):
        return ""
    # The libraries of Docker and MinIO use the same HTTP library.
    frames = traceback.walk_tb(error.__traceback__)
    through = {str(frame.f_globals.get("__name__", "")).partition(".")[0] for frame, _ in frames}
    return "minio" if "minio" in through else "docker"


def _root(error: BaseException) -> str:
    # requests wraps a socket's error in several exceptions.
    while error.__context__ is not None:
        error = error.__context__
    return str(error).strip("() ") or type(error).__name__


def _docker(error: Exception) -> str:
    from pandom.runtime import docker_endpoint

    own = type(error).__module__.partition(".")[0] == "docker"
    cause = str(error) if own else _root(error)
    return (
        f"Docker at {docker_endpoint.named()} stopped answering, or refused: {cause}\n"
        f"Next: `docker info` shows whether it runs; {_AGAIN}"
    )


def _database(error: Exception) -> tuple[str, int] | None:
    cause = getattr(error, "orig", None) or error
    state = getattr(cause, "sqlstate", None)
    if state is None and type(cause).__name__ not in ("OperationalError", "InterfaceError"):
        return None
    if state is not None and not state.startswith(_SERVER):
        return None
    diagnostics = getattr(cause, "diag", None)
    reason = getattr(diagnostics, "message_primary", None) or str(cause).strip()
    return (
        f"The database stopped answering, or refused: {reason}\n"
        "Next: `.venv/bin/pandom status` shows whether it runs, `docker logs` of its container\n"
        f"what it says; {_AGAIN}"
    ), FAILED


def _system(error: OSError) -> tuple[str, int]:
    name = error.filename if isinstance(error.filename, (str, bytes)) else ""
    place = name.decode(errors="replace") if isinstance(name, bytes) else name
    if error.errno in _FULL:
        where = f": {place}" if place else ""
        return (
            f"{error.strerror}{where}\nNext: make room (`df -h`, `docker system df`); {_AGAIN}",
            FAILED,
        )
    if place and error.errno in _PLACES:
        return (
            f"{place} {_PLACES[error.errno]} ({error.strerror}).\n"
            "Next: mend that, or choose other places with XDG_STATE_HOME and XDG_CACHE_HOME;\n"
            "then run this again.",
            USAGE_ERROR,
        )
    where = f": {place}" if place else ""
    return f"{error.strerror}{where}\nNext: mend that and run this again.", FAILED


def _unexpected(error: Exception) -> tuple[str, int]:
    """Write the traceback to a file and return the message for an unexpected error."""
    try:
        place = paths.state_home() / "last-error.log"
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        place.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        where = f"Where it happened is in {place}; please report it."
    except (OSError, PandomError):
        where = "".join(traceback.format_tb(error.__traceback__, -1)).strip()
    return f"A mistake in pandom itself: {type(error).__name__}: {error}\n{where}", FAILED
