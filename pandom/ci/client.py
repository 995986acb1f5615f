"""What Python's tests use of `pandom ci serve`: a database, a user, a place in the bucket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote, urlsplit

from pandom.runtime import paths
from pandom.runtime.errors import USAGE_ERROR, Failure, UsageError

if TYPE_CHECKING:
    import psycopg

URL, TOKEN = "PANDOM_CI_URL", "PANDOM_CI_TOKEN"
_TIMEOUT_S: Final = 60.0
_KEPT: Final = 20  # statements of a test
_CALLERS_MISTAKES: Final = range(400, 500)


def command_line(command: str, *arguments: str) -> list[str]:
    """Return how `pandom ci` is run from another process."""
    program = paths.ROOT / ".venv" / "bin" / "python"
    python = str(program) if program.exists() else sys.executable
    return [python, "-m", "pandom", "ci", command, *arguments]


@dataclass(frozen=True)
class SignedIn:
    """Somebody with a session; ``password`` is None of one who was there before."""

    uuid: str
    email: str
    password: str | None = field(repr=False)
    session_token: str = field(repr=False)
    _database: Database = field(repr=False)

    @contextmanager
    def transaction(self, role: str = "pandom_app") -> Iterator[psycopg.Connection]:
        """Begin a transaction in this user's context; it commits unless the block raises."""
        with self._database.connect(role) as connection:
            connection.execute("select public.begin_context(%s)", (self.session_token,))
            yield connection


@dataclass(frozen=True)
class Database:
    """A database of one test. ``settings`` are those of the environment, with its name in them."""

    name: str
    settings: Mapping[str, str] = field(repr=False)
    _urls: Mapping[str, str] = field(repr=False)
    _service: Service = field(repr=False)
    _sent: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT), repr=False)

    def dsn(self, role: str = "pandom_app") -> str:
        """Return a libpq URL for a login; raises UsageError for one whose secret is not shared."""
        if role not in self._urls:
            raise UsageError(f"{role} is no login of this environment: {', '.join(self._urls)}.")
        return self._urls[role]

    def connect(self, role: str = "pandom_app") -> psycopg.Connection:
        """Connect as a login, under row security as everybody."""
        import psycopg

        sent = self._sent

        class Cursor(psycopg.Cursor[Any]):
            def execute(self, query: Any, *arguments: Any, **options: Any) -> Self:
                sent.append(query if isinstance(query, str) else _text(query))
                return super().execute(query, *arguments, **options)

        return psycopg.connect(self.dsn(role), cursor_factory=Cursor)

    def failed(self, test: str) -> list[str]:
        """Return the last statements in it, without any value, and keep them for `ci logs`."""
        said = {"test": test, "statements": list(self._sent)}
        found = self._service.call("POST", "databases", self.name, "failed", content=said)
        return list(found["statements"])

    def user(self, email: str, role: str | None = None, password: str | None = None) -> SignedIn:
        """Return somebody with a session, added first, as a user, if nobody has the e-mail."""
        given = {"email": email, "role": role, "password": password}
        wish = {name: text for name, text in given.items() if text is not None}
        found = self._service.call("POST", "databases", self.name, "users", content=wish)
        return SignedIn(**found, _database=self)


def _text(query: Any) -> str:
    return query.decode(errors="replace") if isinstance(query, bytes) else query.as_string()


@dataclass(frozen=True)
class Place:
    """A prefix of the bucket, and the settings of a user that reaches only what is under it."""

    prefix: str
    settings: Mapping[str, str] = field(repr=False)


class Service:
    """A running `pandom ci serve`; safe for threads, each of which has a connection."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token
        self._address = urlsplit(url).netloc
        self._local = threading.local()

    @contextmanager
    def database(self) -> Iterator[Database]:
        """Take a database for the block."""
        found = self.call("POST", "databases")
        try:
            yield Database(found["name"], found["settings"], found["urls"], self)
        finally:
            self.call("DELETE", "databases", found["name"])

    @contextmanager
    def bucket(self) -> Iterator[Place]:
        """Take a place in the bucket for the block."""
        found = self.call("POST", "buckets")
        try:
            yield Place(found["prefix"], found["settings"])
        finally:
            self.call("DELETE", "buckets", found["prefix"])

    def call(self, method: str, *parts: str, content: Any = None) -> Any:
        """Return the answer to a request; raises UsageError or Failure with what it says."""
        from http.client import HTTPException  # which every command would pay for

        path = "/" + "/".join(quote(one, safe="") for one in parts)
        try:
            status, body = self._ask(method, path, json.dumps(content) if content else None)
        except (OSError, HTTPException) as error:
            raise Failure(f"`pandom ci serve` at {self.url} does not answer: {error!r}.") from None
        answer = json.loads(body) if body else None
        if status >= 400:
            kind = UsageError if status in _CALLERS_MISTAKES else Failure
            raise kind(str((answer or {}).get("error", status)))
        return answer

    def _ask(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        """Send a request; once more on a new connection when the former one was closed."""
        import http.client

        for again in (True, False):
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = http.client.HTTPConnection(self._address, timeout=_TIMEOUT_S)
                self._local.connection = connection
                again = False
            try:
                connection.request(
                    method, path, body, headers={"Authorization": f"Bearer {self.token}"}
                )
                answer = connection.getresponse()
                return answer.status, answer.read()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                connection.close()
                self._local.connection = None
                if not again:
                    raise
        raise AssertionError("unreachable")


class Serving(Service):
    """A `pandom ci serve` of this process's own, from the first request to the end of the block."""

    def __init__(self, name: str) -> None:
        super().__init__("http://127.0.0.1", "")
        self._name = name
        self._process: subprocess.Popen[str] | None = None
        self._starting = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_TIMEOUT_S)

    def _ask(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        with self._starting:
            if self._process is None:
                self.start(os.getpid())
        return super()._ask(method, path, body)

    def start(self, owner: int) -> None:
        """Start it, for as long as a process lives; raises UsageError or Failure."""
        process = subprocess.Popen(
            command_line("serve", self._name, f"--owner={owner}", "--format=json"),
            cwd=paths.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a terminal's Ctrl-C reaches it by us
        )
        said: list[str] = []
        reading = threading.Thread(target=_drain, args=(process.stderr, said), daemon=True)
        reading.start()
        text = _block(process)
        if text is None:
            process.wait(_TIMEOUT_S)
            reading.join(1)
            kind = UsageError if process.returncode == USAGE_ERROR else Failure
            raise kind("".join(said).strip() or "`pandom ci serve` ended at once.")
        found = json.loads(text)
        self.url, self.token = found[URL], found[TOKEN]
        self._address = urlsplit(self.url).netloc
        self._process = process

    @property
    def number(self) -> int:
        """The process that serves."""
        if self._process is None:
            raise UsageError("It was not started.")
        return self._process.pid


def _drain(stream: Any, said: list[str]) -> None:
    for line in stream:
        said[:] = [*said[-20:], line]


def _block(process: subprocess.Popen[str]) -> str | None:
    """Return the JSON object that a process prints first; None if it ends before."""
    text = ""
    for line in process.stdout or ():
        text += line
        if line.startswith("}") or text.rstrip().endswith("}"):
            return text
    return None
